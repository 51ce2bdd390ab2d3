// How a tensor is shown: one line of shape, dtype and device, then the values, the middle of a long axis left out.
#include <ostream>

#include <xent/core/dispatch.h>
#include <xent/core/require.h>
#include <xent/core/tensor.h>

namespace xent {

namespace {

constexpr int64_t shown_per_axis = 8;  // more than that: the first and the last four

template <class T>
std::string show(T value) {
  if constexpr (std::is_class_v<T>) return fmt::format("{:g}", static_cast<float>(value));
  else if constexpr (std::is_floating_point_v<T>) return fmt::format("{:g}", value);
  else return fmt::format("{}", static_cast<int64_t>(value));
}

template <class T>
void append(std::string& text, const T* values, const Shape& shape, int axis) {
  if (axis == shape.rank()) {
    text += show(*values);
    return;
  }
  const int64_t extent = shape[axis];
  const int64_t stride = shape.product(axis + 1, shape.rank());
  const bool innermost = axis == shape.rank() - 1;
  const std::string separator = innermost ? ", " : ",\n" + std::string(static_cast<size_t>(axis) + 1, ' ');
  text += '[';
  for (int64_t i = 0; i < extent; ++i) {
    if (i > 0) text += separator;
    if (extent > shown_per_axis && i == shown_per_axis / 2) {
      text += "...";
      i = extent - shown_per_axis / 2 - 1;
      continue;
    }
    append(text, values + i * stride, shape, axis + 1);
  }
  text += ']';
}

}  // namespace

std::string Tensor::str() const {
  if (!storage_) return "empty tensor";
  std::string text = fmt::format("{} {} {}\n", dtype_, shape_, device());
  dispatch(dtype_, [&]<class T>() { append(text, to_vector<T>().data(), shape_, 0); });
  return text;
}

std::ostream& operator<<(std::ostream& out, const Tensor& tensor) { return out << tensor.str(); }
std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.str(); }
std::ostream& operator<<(std::ostream& out, DType dtype) { return out << name(dtype); }

}  // namespace xent
