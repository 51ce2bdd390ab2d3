// CUDA's barriers, fences, shuffles, votes and warp reductions, by their own names. They take the types that CUDA
// takes: what compiles here compiles there.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "barrier.h"
#include "fence.h"
#include "warp.h"

namespace xent::emulator {

template <class T>
concept Shuffled = (std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8)) || std::is_same_v<T, __half> ||
                   std::is_same_v<T, __nv_bfloat16>;

template <class T>
concept Reduced = std::is_same_v<T, int> || std::is_same_v<T, unsigned>;

template <class T>
uint64_t to_bits(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(static_cast<void*>(&value), &bits, sizeof(T));
  return value;
}

// Folds the lanes' values in the order of the lanes.
template <class T, class F>
T reduce(unsigned mask, T value, F&& f, Site site) {
  const Exchange exchange = meet(mask, Collective::reduce, to_bits(value), site);
  T result{};
  bool first = true;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(exchange.lanes >> lane & 1)) continue;
    const T other = from_bits<T>(exchange.values[lane]);
    result = first ? other : f(result, other);
    first = false;
  }
  return result;
}

}  // namespace xent::emulator

using XentSite = ::xent::emulator::Site;

inline void __syncthreads(XentSite site = XentSite::here()) { ::xent::emulator::block_barrier(false, site); }
inline int __syncthreads_count(int predicate, XentSite site = XentSite::here()) {
  return ::xent::emulator::block_barrier(predicate != 0, site).in_favour;
}
inline int __syncthreads_or(int predicate, XentSite site = XentSite::here()) {
  return ::xent::emulator::block_barrier(predicate != 0, site).in_favour > 0;
}
inline int __syncthreads_and(int predicate, XentSite site = XentSite::here()) {
  const auto votes = ::xent::emulator::block_barrier(predicate != 0, site);
  return votes.in_favour == votes.threads;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, XentSite site = XentSite::here()) {
  ::xent::emulator::meet(mask, ::xent::emulator::Collective::syncwarp, 0, site);
}
inline void __threadfence() { ::xent::emulator::fence(); }
inline void __threadfence_block() { ::xent::emulator::fence(); }

template <::xent::emulator::Shuffled T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, XentSite site = XentSite::here()) {
  using namespace ::xent::emulator;
  return from_bits<T>(shuffle(mask, Collective::shuffle, to_bits(value), lane, width, site));
}
template <::xent::emulator::Shuffled T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, XentSite site = XentSite::here()) {
  using namespace ::xent::emulator;
  return from_bits<T>(
      shuffle(mask, Collective::shuffle_up, to_bits(value), static_cast<int>(distance & 31), width, site));
}
template <::xent::emulator::Shuffled T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, XentSite site = XentSite::here()) {
  using namespace ::xent::emulator;
  return from_bits<T>(
      shuffle(mask, Collective::shuffle_down, to_bits(value), static_cast<int>(distance & 31), width, site));
}
template <::xent::emulator::Shuffled T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, XentSite site = XentSite::here()) {
  using namespace ::xent::emulator;
  return from_bits<T>(shuffle(mask, Collective::shuffle_xor, to_bits(value), bits, width, site));
}

inline unsigned __ballot_sync(unsigned mask, int predicate, XentSite site = XentSite::here()) {
  return ::xent::emulator::ballot(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, XentSite site = XentSite::here()) {
  return ::xent::emulator::ballot(mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, XentSite site = XentSite::here()) {
  return ::xent::emulator::ballot(mask, predicate == 0, site) == 0;
}
template <::xent::emulator::Shuffled T>
unsigned __match_any_sync(unsigned mask, T value, XentSite site = XentSite::here()) {
  using namespace ::xent::emulator;
  const Exchange exchange = meet(mask, Collective::match, to_bits(value), site);
  unsigned same = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (exchange.lanes >> lane & 1 && exchange.values[lane] == to_bits(value)) same |= 1u << lane;
  return same;
}

template <::xent::emulator::Reduced T>
T __reduce_add_sync(unsigned mask, T value, XentSite site = XentSite::here()) {
  const auto add = [](T a, T b) { return static_cast<T>(static_cast<unsigned>(a) + static_cast<unsigned>(b)); };
  return ::xent::emulator::reduce(mask, value, add, site);
}
template <::xent::emulator::Reduced T>
T __reduce_min_sync(unsigned mask, T value, XentSite site = XentSite::here()) {
  return ::xent::emulator::reduce(
      mask, value, [](T a, T b) { return b < a ? b : a; }, site);
}
template <::xent::emulator::Reduced T>
T __reduce_max_sync(unsigned mask, T value, XentSite site = XentSite::here()) {
  return ::xent::emulator::reduce(
      mask, value, [](T a, T b) { return a < b ? b : a; }, site);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value, XentSite site = XentSite::here()) {
  return ::xent::emulator::reduce(
      mask, value, [](unsigned a, unsigned b) { return a & b; }, site);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, XentSite site = XentSite::here()) {
  return ::xent::emulator::reduce(
      mask, value, [](unsigned a, unsigned b) { return a | b; }, site);
}
