// as_dtype: a cast that leaves alone what needs none. For the sources of this folder only.
#pragma once

#include <xent/ops/ops.h>

namespace xent::compat {

inline Tensor as_dtype(const Tensor& x, DType dtype) { return x.dtype() == dtype ? x : cast(x, dtype); }

}  // namespace xent::compat
