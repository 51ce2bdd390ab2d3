#include <xent/core/dtype.h>

#include <array>

#include <xent/core/require.h>

namespace xent {

namespace {

constexpr std::array<std::string_view, 7> names = {"f32", "f64", "f16", "bf16", "u8", "i32", "i64"};

}  // namespace

std::string_view name(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  return index < names.size() ? names[index] : "unknown dtype";
}

DType parse_dtype(std::string_view text) {
  for (size_t index = 0; index < names.size(); ++index)
    if (names[index] == text) return static_cast<DType>(index);
  fail<DTypeError>("unknown dtype '{}': use one of {}", text, fmt::join(names, ", "));
}

}  // namespace xent
