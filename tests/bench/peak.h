// What the processor can do at most: fused multiply-adds in registers, and a copy that bypasses the caches.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <xent/core/parallel.h>
#include <xent/ops/cpu/instruction_set.h>

namespace bench {

// Twelve chains of dependent instructions hide a latency of four cycles at two or even three instructions a cycle.
constexpr int fma_chains = 12;

#if defined(__x86_64__)
// In assembly, so that this file needs no flags for what its caller asks for only where it is there.
// clang-format off
inline void fma_512(int64_t rounds) {
  asm volatile(
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13\n vpxor %%xmm\\r, %%xmm\\r, %%xmm\\r\n .endr\n"
      "1: .irp r, 0,1,2,3,4,5,6,7,8,9,10,11\n vfmadd231ps %%zmm12, %%zmm13, %%zmm\\r\n .endr\n"
      "dec %0\n jnz 1b\n vzeroupper\n"
      : "+r"(rounds)::"cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}
inline void fma_256(int64_t rounds) {
  asm volatile(
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13\n vpxor %%xmm\\r, %%xmm\\r, %%xmm\\r\n .endr\n"
      "1: .irp r, 0,1,2,3,4,5,6,7,8,9,10,11\n vfmadd231ps %%ymm12, %%ymm13, %%ymm\\r\n .endr\n"
      "dec %0\n jnz 1b\n vzeroupper\n"
      : "+r"(rounds)::"cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}
// clang-format on
#endif

// The baseline has no fused multiply-add: products and sums of four.
inline void multiply_add_128(int64_t rounds) {
  using Floats = float __attribute__((vector_size(16)));
  Floats sum[fma_chains] = {}, factor = {};
  asm volatile("" : "+m"(factor));  // so that nothing is known about it
  for (; rounds > 0; --rounds)
#pragma GCC unroll 12
    for (Floats& s : sum) s = s * factor + factor;
  asm volatile("" : : "m"(sum));
}

// Does about `flops` floating-point operations on all threads, with the instructions that the kernels use.
inline void multiply_add(double flops) {
  constexpr int chunks = 16;
  xent::parallel_chunks(chunks, [&](int64_t) {
    const auto rounds = [&](int lanes) { return static_cast<int64_t>(flops / chunks / fma_chains / 2 / lanes) + 1; };
    switch (xent::cpu::instruction_set()) {
#if defined(__x86_64__)
      case xent::cpu::InstructionSet::avx512: return fma_512(rounds(16));
      case xent::cpu::InstructionSet::avx2: return fma_256(rounds(8));
#endif
      default: return multiply_add_128(rounds(4));
    }
  });
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) inline void stream_512(char* to, const char* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64)
    _mm512_stream_ps(reinterpret_cast<float*>(to + i), _mm512_load_ps(reinterpret_cast<const float*>(from + i)));
}
__attribute__((target("avx"))) inline void stream_256(char* to, const char* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 32)
    _mm256_stream_ps(reinterpret_cast<float*>(to + i), _mm256_load_ps(reinterpret_cast<const float*>(from + i)));
}
inline void stream_128(char* to, const char* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 16)
    _mm_stream_ps(reinterpret_cast<float*>(to + i), _mm_load_ps(reinterpret_cast<const float*>(from + i)));
}
#endif

// Copies without reading what it overwrites. Addresses and bytes are multiples of 64.
inline void copy_past_caches(char* to, const char* from, int64_t bytes) {
  xent::parallel_for(bytes, int64_t{1} << 20, [&](int64_t begin, int64_t end) {
#if defined(__x86_64__)
    switch (xent::cpu::instruction_set()) {  // half a line at a time costs up to half of the bandwidth
      case xent::cpu::InstructionSet::avx512: stream_512(to + begin, from + begin, end - begin); break;
      case xent::cpu::InstructionSet::avx2: stream_256(to + begin, from + begin, end - begin); break;
      default: stream_128(to + begin, from + begin, end - begin);
    }
    _mm_sfence();
#else
    std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin));
#endif
  });
}

}  // namespace bench
