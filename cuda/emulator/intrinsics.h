// The small functions that CUDA has in device code and C++ has not. Those of the mathematical library that both have
// (expf, fmaxf, ...) are the host's; approximations such as __expf are not offered, since glibc uses the names.
#pragma once

#include <cmath>
#include <cstdint>

#include "collectives.h"

// How a load or store goes through the caches. Here it goes nowhere but to memory.
template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
T __ldcg(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}
template <class T>
void __stcg(T* address, T value) {
  *address = value;
}

inline unsigned __float_as_uint(float value) {
  return ::xent::emulator::from_bits<unsigned>(::xent::emulator::to_bits(value));
}
inline int __float_as_int(float value) { return ::xent::emulator::from_bits<int>(::xent::emulator::to_bits(value)); }
inline float __uint_as_float(unsigned bits) { return ::xent::emulator::from_bits<float>(bits); }
inline float __int_as_float(int bits) { return ::xent::emulator::from_bits<float>(static_cast<unsigned>(bits)); }
inline long long __double_as_longlong(double value) {
  return ::xent::emulator::from_bits<long long>(::xent::emulator::to_bits(value));
}
inline double __longlong_as_double(long long bits) {
  return ::xent::emulator::from_bits<double>(static_cast<uint64_t>(bits));
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline unsigned __brev(unsigned bits) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (bits >> bit & 1u) << (31 - bit);
  return reversed;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(static_cast<Wide>(a) * b >> 64);
}

// Each rounds once, whatever the compiler is allowed to fuse.
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float rsqrtf(float a) { return 1.0f / std::sqrt(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __saturatef(float a) { return a > 0 ? (a < 1 ? a : 1.0f) : 0.0f; }

using std::max;
using std::min;
