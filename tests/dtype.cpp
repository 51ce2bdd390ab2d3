// The 16-bit floating types, checked against formulas on their fields for every bit pattern, and the conversions.
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/convert.h>
#include <xent/core/dtype.h>
#include <xent/core/error.h>

using namespace xent;

namespace {

// A binary format as its two field widths; the value of a pattern straight from the definition of IEEE 754.
struct Format {
  int exponent_bits, mantissa_bits;

  double value(int bits) const {
    const int mantissa = bits & ((1 << mantissa_bits) - 1);
    const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const double sign = bits >> 15 ? -1.0 : 1.0;
    if (exponent == (1 << exponent_bits) - 1) {
      return mantissa ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
    }
    if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
  }
  int infinity() const { return ((1 << exponent_bits) - 1) << mantissa_bits; }
  bool is_nan(int bits) const { return (bits & 0x7fff) > infinity(); }
};

template <class T>
constexpr Format format_of = {};
template <>
constexpr Format format_of<Float16> = {5, 10};
template <>
constexpr Format format_of<BFloat16> = {8, 7};

template <class T>
T from_bits(int bits) {
  return T::from_bits(static_cast<uint16_t>(bits));
}

template <class T>
int encode(double value) {
  return T(static_cast<float>(value)).bits;
}

// The number of patterns for which a property does not hold: one assertion for 65,536 cases.
template <class Property>
int violations(const Property& holds) {
  int count = 0;
  for (int bits = 0; bits < 0x10000; ++bits) count += holds(bits) ? 0 : 1;
  return count;
}

// What no cast of the language defines: a double of any size to an integer, done by comparing first.
template <class To>
To saturated(double value) {
  if (std::isnan(value)) return 0;
  if (value <= static_cast<double>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
  if (value >= static_cast<double>(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
  return static_cast<To>(std::trunc(value));
}

}  // namespace

TEST_CASE_TEMPLATE("a 16-bit float decodes exactly", T, Float16, BFloat16) {
  constexpr Format format = format_of<T>;
  CHECK(violations([&](int bits) {
          if (format.is_nan(bits)) return std::isnan(static_cast<float>(from_bits<T>(bits)));
          const double decoded = static_cast<float>(from_bits<T>(bits));
          return decoded == format.value(bits) && std::signbit(decoded) == (bits >= 0x8000);
        }) == 0);
}

TEST_CASE_TEMPLATE("encoding what was decoded gives the same bits", T, Float16, BFloat16) {
  CHECK(violations([&](int bits) {
          return format_of<T>.is_nan(bits) || encode<T>(static_cast<float>(from_bits<T>(bits))) == bits;
        }) == 0);
}

TEST_CASE_TEMPLATE("NaN stays NaN, becomes quiet and keeps its sign", T, Float16, BFloat16) {
  constexpr Format format = format_of<T>;
  const int quiet = 1 << (format.mantissa_bits - 1);
  CHECK(violations([&](int bits) {
          if (!format.is_nan(bits)) return true;
          const int encoded = encode<T>(static_cast<float>(from_bits<T>(bits)));
          return format.is_nan(encoded) && (encoded & quiet) && (encoded >= 0x8000) == (bits >= 0x8000);
        }) == 0);
  CHECK(format.is_nan(T(std::bit_cast<float>(0x7f800001u)).bits));  // its payload lies below the 16-bit type's
  CHECK(format.is_nan(T(std::bit_cast<float>(0xffffffffu)).bits));
}

TEST_CASE_TEMPLATE("encoding rounds to the nearer neighbour and a tie to the even one", T, Float16, BFloat16) {
  constexpr Format format = format_of<T>;
  CHECK(violations([&](int bits) {
          const int next = bits + 1;  // the neighbour of larger magnitude
          if ((bits & 0x7fff) + 1 >= format.infinity()) return true;
          const auto middle = static_cast<float>((format.value(bits) + format.value(next)) / 2);  // exact: one bit more
          const float outwards = bits >= 0x8000 ? -INFINITY : INFINITY;
          return encode<T>(middle) == (bits % 2 == 0 ? bits : next) &&
                 encode<T>(std::nextafter(middle, 0.0f)) == bits && encode<T>(std::nextafter(middle, outwards)) == next;
        }) == 0);
}

TEST_CASE("Float16 overflows at 65520, the middle between its largest number and the next one") {
  const Float16 largest(std::nextafter(65520.0f, 0.0f));
  CHECK(static_cast<float>(largest) == 65504);
  CHECK(static_cast<float>(Float16(65520)) == INFINITY);
  CHECK(static_cast<float>(Float16(-65520)) == -INFINITY);
  CHECK(static_cast<float>(Float16(3e38f)) == INFINITY);
  CHECK(static_cast<float>(Float16(INFINITY)) == INFINITY);
}

TEST_CASE("BFloat16 overflows half a step above its largest number") {
  const float threshold = std::bit_cast<float>(0x7f7f8000u);
  CHECK(BFloat16(std::nextafter(threshold, 0.0f)).bits == 0x7f7f);
  CHECK(BFloat16(threshold).bits == 0x7f80);
  CHECK(BFloat16(-threshold).bits == 0xff80);
  CHECK(BFloat16(std::numeric_limits<float>::max()).bits == 0x7f80);
}

TEST_CASE("half of the smallest subnormal Float16 is a tie that goes to zero") {
  CHECK(Float16(0x1p-25f).bits == 0);
  CHECK(Float16(-0x1p-25f).bits == 0x8000);
  CHECK(Float16(std::nextafter(0x1p-25f, 1.0f)).bits == 1);
  CHECK(Float16(0x1p-24f).bits == 1);
  CHECK(Float16(0x1.8p-24f).bits == 2);  // between 1 and 2 units: to even
  CHECK(Float16(std::numeric_limits<float>::denorm_min()).bits == 0);
  CHECK(Float16(std::nextafter(0x1p-14f, 0.0f)).bits == 0x400);  // carries into the normal numbers
}

TEST_CASE("conversions work at compile time") {
  static_assert(Float16(0.1f).bits == 0x2e66);
  static_assert(static_cast<float>(Float16::from_bits(0x3c00)) == 1);
  static_assert(BFloat16(1).bits == 0x3f80);
  static_assert(static_cast<float>(BFloat16::from_bits(0xc000)) == -2);
  CHECK(static_cast<float>(Float16(0.1f)) == 0.0999755859375f);  // what dtype.h promises
}

#if defined(__FLT16_MANT_DIG__)
TEST_CASE("Float16 agrees with the compiler's own type on random floats") {
  std::mt19937 random(1);
  int differences = 0;
  for (int i = 0; i < 3'000'000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    const auto compilers = std::bit_cast<uint16_t>(static_cast<_Float16>(value));
    const bool same = std::isnan(value)
                          ? format_of<Float16>.is_nan(compilers) && format_of<Float16>.is_nan(Float16(value).bits)
                          : Float16(value).bits == compilers;
    differences += same ? 0 : 1;
  }
  for (int i = 0; i < 1'000'000; ++i) {  // most of the floats above are out of range: these are not
    const float value =
        std::ldexp(1 + static_cast<float>(random() >> 9) * 0x1p-23f, static_cast<int>(random() % 44) - 27);
    differences += Float16(value).bits == std::bit_cast<uint16_t>(static_cast<_Float16>(value)) ? 0 : 1;
  }
  CHECK(differences == 0);
}
#endif

TEST_CASE("a dtype's name can be parsed back") {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::u8, DType::i32, DType::i64}) {
    CHECK(parse_dtype(name(dtype)) == dtype);
  }
  CHECK(name(DType::bf16) == "bf16");
}

TEST_CASE("parse_dtype refuses other names and lists those there are") {
  for (const char* text : {"", "F32", "float", "f32 ", "i8"}) CHECK_THROWS_AS(parse_dtype(text), DTypeError);
  CHECK_THROWS_WITH_AS(parse_dtype("half"), "unknown dtype 'half': use one of f32, f64, f16, bf16, u8, i32, i64",
                       DTypeError);
}

TEST_CASE_TEMPLATE("size_of is the size of the C++ type", T, float, double, Float16, BFloat16, uint8_t, int32_t,
                   int64_t) {
  CHECK(size_of(dtype_of<T>) == sizeof(T));
}

TEST_CASE("four dtypes are floating") {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) CHECK(is_floating(dtype));
  for (const DType dtype : {DType::u8, DType::i32, DType::i64}) CHECK_FALSE(is_floating(dtype));
}

TEST_CASE_TEMPLATE("convert from f32 and f64 to an integer cuts off, saturates, and makes NaN 0", To, uint8_t, int32_t,
                   int64_t) {
  const std::vector<double> values = {
      0,           -0.0,          0.99,       -0.99,  1.5,           -1.5,       127.99,  254.999,        255,
      255.5,       256,           257,        -1,     -256,          0x1p31 - 1, 0x1p31,  0x1p31 + 1,     -0x1p31,
      -0x1p31 - 1, -0x1p31 - 0.5, 0x1p32 + 3, 0x1p53, 0x1p63 - 1024, 0x1p63,     -0x1p63, -0x1p63 - 2048, 0x1p64,
      1e30,        -1e30,         1e308,      -1e308, INFINITY,      -INFINITY,  NAN,     4e-324};
  for (const double value : values) {
    CAPTURE(value);
    CHECK(convert<To>(value) == saturated<To>(value));
    const auto single = static_cast<float>(value);
    CHECK(convert<To>(single) == saturated<To>(single));
  }
}

TEST_CASE_TEMPLATE("convert from a 16-bit float to an integer saturates as well", To, uint8_t, int32_t, int64_t) {
  CHECK(violations([](int bits) {
          return convert<To>(from_bits<Float16>(bits)) == saturated<To>(format_of<Float16>.value(bits)) &&
                 convert<To>(from_bits<BFloat16>(bits)) == saturated<To>(format_of<BFloat16>.value(bits));
        }) == 0);
}

TEST_CASE("convert between integers gives the nearest one there is") {
  CHECK(convert<uint8_t>(int64_t{300}) == 255);
  CHECK(convert<uint8_t>(int32_t{-1}) == 0);
  CHECK(convert<int32_t>(int64_t{1} << 40) == std::numeric_limits<int32_t>::max());
  CHECK(convert<int32_t>(std::numeric_limits<int64_t>::min()) == std::numeric_limits<int32_t>::min());
  CHECK(convert<int64_t>(uint8_t{200}) == 200);
  CHECK(convert<int64_t>(int32_t{-5}) == -5);
}

TEST_CASE("convert to a float rounds to nearest, ties to even") {
  CHECK(convert<float>(0.1) == 0.1f);
  CHECK(convert<float>(int64_t{(1 << 24) + 1}) == 0x1p24f);
  CHECK(convert<float>(int64_t{(1 << 24) + 3}) == 0x1p24f + 4);
  CHECK(convert<float>(1e300) == INFINITY);
  CHECK(convert<double>(std::numeric_limits<int64_t>::max()) == 0x1p63);
  CHECK(convert<Float16>(0.1).bits == 0x2e66);
  CHECK(convert<BFloat16>(uint8_t{255}).bits == 0x437f);
  CHECK(convert<Float16>(int64_t{1} << 40).bits == 0x7c00);
  CHECK(std::isnan(convert<double>(BFloat16::from_bits(0x7fc0))));
}

TEST_CASE("convert from f64 and i32 to a 16-bit float rounds once") {
  // Rounded to f32 first, these would land on a tie and then go to the wrong side of it.
  CHECK(convert<Float16>(1 + 0x1p-11 + 0x1p-40).bits == 0x3c01);
  CHECK(convert<Float16>(-1 - 0x1p-11 - 0x1p-40).bits == 0xbc01);
  CHECK(convert<Float16>(1 + 0x1p-11 - 0x1p-40).bits == 0x3c00);
  CHECK(convert<BFloat16>(1 + 0x1p-8 + 0x1p-40).bits == 0x3f81);
  CHECK(convert<BFloat16>(0x1.01p62 + 0x1p20).bits == BFloat16(0x1.02p62f).bits);
  CHECK(convert<BFloat16>(int32_t{0x40400001}).bits == BFloat16(0x1.02p30f).bits);
  CHECK(convert<Float16>(65520 - 0x1p-30).bits == 0x7bff);
  CHECK(convert<Float16>(1e300).bits == 0x7c00);
  CHECK(convert<Float16>(0x1p-25 + 0x1p-70).bits == 1);
}
