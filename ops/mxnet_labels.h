// mxnet_labels: class indices from labels of any dtype, as SoftmaxCrossEntropyLoss of mxnet.gluon takes them. Private.
#pragma once

#include <xent/core/convert.h>
#include <xent/core/op.h>

namespace xent {

extern constinit const Op mxnet_labels_op;

// Says whether a label, cut off at the point, fits an int.
template <class T>
constexpr bool fits_int(T value) {
  if constexpr (is_integer<T>) return value >= INT32_MIN && value <= INT32_MAX;
  else {
    const auto number = convert<double>(value);
    return number > -2147483649.0 && number < 2147483648.0;
  }
}

}  // namespace xent
