#include <xent/nn/conv_layers.h>

#include <cmath>
#include <typeinfo>

#include <xent/core/require.h>
#include <xent/nn/describe.h>

namespace xent {

namespace {

std::string describe_pool(const char* name, const Pool2dOptions& options) {
  const std::string stride = options.stride == 0 ? "" : ", stride " + str(options.stride);
  const std::string padding = options.padding == 0 ? "" : ", padding " + str(options.padding);
  return fmt::format("{}({}{}{})", name, str(options.window), stride, padding);
}

}  // namespace

Conv2d::Conv2d(int64_t in, int64_t out, Extent2d kernel, Generator& random, const Options& o)
    : options{o.stride, o.padding, o.dilation, o.activation} {
  require<ArgumentError>(in >= 1 && out >= 1 && kernel.height >= 1 && kernel.width >= 1,
                         "Conv2d({}, {}, {}): all extents must be at least 1", in, out, str(kernel));
  const Shape shape{kernel.height, kernel.width, in, out};
  const double bound = 1 / std::sqrt(static_cast<double>(shape.product(0, 3)));
  weight = parameter(uniform(shape, -bound, bound, random, o.dtype));
  if (o.bias) bias = parameter(uniform({out}, -bound, bound, random, o.dtype));
}

Tensor Conv2d::forward_with(const Tensor& x, const Module& next) {
  if (typeid(*this) != typeid(Conv2d) || typeid(next) != typeid(MaxPool2d)) return {};  // derived ones do more
  const auto& [window, stride, padding] = static_cast<const MaxPool2d&>(next).options;
  return window == 2 && (stride == 0 || stride == 2) && padding == 0 ? max_pooled(x) : Tensor();
}

std::string Conv2d::describe() const {
  const Shape& shape = weight.shape();
  std::string text = fmt::format("Conv2d({}, {}, {}", shape[2], shape[3], str({shape[0], shape[1]}));
  if (!(options.stride == 1)) text += ", stride " + str(options.stride);
  if (!(options.padding == 0)) text += ", padding " + str(options.padding);
  if (!(options.dilation == 1)) text += ", dilation " + str(options.dilation);
  return text + suffix(options.activation) + (bias ? ")" : ", no bias)");
}

std::string MaxPool2d::describe() const { return describe_pool("MaxPool2d", options); }
std::string AvgPool2d::describe() const { return describe_pool("AvgPool2d", options); }

}  // namespace xent
