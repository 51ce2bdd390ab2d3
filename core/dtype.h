// DType: what one element of a tensor is. Data, not a template parameter: one binary holds all types.
//
//   name(DType::bf16);              // "bf16"
//   size_of(DType::f64);            // 8 bytes
//   parse_dtype("f32");             // DType::f32; DTypeError for a name that is none
//   static_cast<float>(Float16(0.1f));  // 0.0999755859375: rounded to nearest, ties to even
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string_view>
#include <type_traits>

namespace xent {

enum class DType : uint8_t { f32, f64, f16, bf16, u8, i32, i64 };

std::string_view name(DType dtype);
DType parse_dtype(std::string_view name);  // throws DTypeError listing the names there are

std::ostream& operator<<(std::ostream& out, DType dtype);

constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::u8: return 1;
    case DType::f16:
    case DType::bf16: return 2;
    case DType::f32:
    case DType::i32: return 4;
    case DType::f64:
    case DType::i64: return 8;
  }
  return 0;
}

constexpr bool is_floating(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::f16 || dtype == DType::bf16;
}

// The types that ops compute in.
constexpr bool is_computable(DType dtype) { return dtype == DType::f32 || dtype == DType::f64; }

// The types of labels and indices.
constexpr bool is_index(DType dtype) { return dtype == DType::u8 || dtype == DType::i32 || dtype == DType::i64; }

// IEEE 754 binary16: 1 sign, 5 exponent, 10 mantissa bits. Conversions are exact or rounded to nearest, ties to even.
struct Float16 {
  uint16_t bits = 0;

  Float16() = default;
  constexpr explicit Float16(float value) : bits(from(value)) {}
  constexpr explicit operator float() const;
  static constexpr Float16 from_bits(uint16_t bits);

 private:
  static constexpr uint16_t from(float value);
};

// bfloat16: the upper half of a float. 1 sign, 8 exponent, 7 mantissa bits.
struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  constexpr explicit BFloat16(float value) : bits(from(value)) {}
  constexpr explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
  static constexpr BFloat16 from_bits(uint16_t bits);

 private:
  static constexpr uint16_t from(float value);
};

// The DType of a C++ type: dtype_of<float> is DType::f32.
// clang-format off
template <class T> inline constexpr DType dtype_of = DType{};
template <> inline constexpr DType dtype_of<float>    = DType::f32;
template <> inline constexpr DType dtype_of<double>   = DType::f64;
template <> inline constexpr DType dtype_of<Float16>  = DType::f16;
template <> inline constexpr DType dtype_of<BFloat16> = DType::bf16;
template <> inline constexpr DType dtype_of<uint8_t>  = DType::u8;
template <> inline constexpr DType dtype_of<int32_t>  = DType::i32;
template <> inline constexpr DType dtype_of<int64_t>  = DType::i64;
// clang-format on

template <class T>
concept Element = std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, Float16> ||
    std::is_same_v<T, BFloat16> || std::is_same_v<T, uint8_t> || std::is_same_v<T, int32_t> ||
    std::is_same_v<T, int64_t>;

// ---- conversions ----------------------------------------------------------------------------------------------

constexpr uint16_t Float16::from(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value);
  const uint32_t sign = word >> 16 & 0x8000u;
  const uint32_t magnitude = word & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));  // NaN, quiet
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and above round to infinity

  // A float's mantissa has 13 bits more; below 2^-14 a binary16 is subnormal and loses one more bit per halving.
  const uint32_t exponent = magnitude >> 23;
  if (exponent < 102) return static_cast<uint16_t>(sign);  // below 2^-25: zero (2^-25 itself is a tie, to even)
  const bool subnormal = exponent < 113;
  const uint32_t mantissa = subnormal ? ((magnitude & 0x7fffffu) | 0x800000u) : magnitude - (112u << 23);
  const uint32_t shift = subnormal ? 126 - exponent : 13;
  const uint32_t kept = mantissa >> shift;
  const uint32_t rest = mantissa & ((1u << shift) - 1);
  const uint32_t half = 1u << (shift - 1);
  const uint32_t up = rest > half || (rest == half && (kept & 1u)) ? 1u : 0u;
  return static_cast<uint16_t>(sign | (kept + up));  // a carry out of the mantissa is the next exponent: still right
}

constexpr Float16 Float16::from_bits(uint16_t bits) {
  Float16 value;
  value.bits = bits;
  return value;
}

constexpr Float16::operator float() const {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = bits >> 10 & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal or zero: exact
  return sign ? -magnitude : magnitude;
}

constexpr uint16_t BFloat16::from(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value);
  if ((word & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(word >> 16 | 0x40u);  // NaN, quiet
  return static_cast<uint16_t>((word + 0x7fffu + (word >> 16 & 1u)) >> 16);
}

constexpr BFloat16 BFloat16::from_bits(uint16_t bits) {
  BFloat16 value;
  value.bits = bits;
  return value;
}

}  // namespace xent
