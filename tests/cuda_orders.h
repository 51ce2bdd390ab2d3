// in_every_order: runs kernels in three orders of threads and blocks, which must give the same bits.
//
//   const std::vector<Tensor> y = in_every_order([&] { return relu(x); });   // on the CPU, checked to be equal
#pragma once

#include <cmath>
#include <concepts>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/tensor.h>
#include <xent/cuda/emulator/schedule.h>
#include <xent/ops/ops.h>

// Under ThreadSanitizer every thread of a kernel costs a hundred times as much, and so it does under compute-sanitizer
// on a GPU, for which cuda/gpu_check sets XENT_FEW_SIZES. A race is found in any order of threads: one order is run,
// and tests leave out their largest sizes.
#if defined(__SANITIZE_THREAD__)
inline const bool looks_for_races = true;
#elif defined(__has_feature)
inline const bool looks_for_races = __has_feature(thread_sanitizer) || std::getenv("XENT_FEW_SIZES");
#else
inline const bool looks_for_races = std::getenv("XENT_FEW_SIZES") != nullptr;
#endif

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool under_asan = true;
#elif defined(__has_feature)
inline constexpr bool under_asan = __has_feature(address_sanitizer);
#else
inline constexpr bool under_asan = false;
#endif

// Of so many random trials a quarter, where AddressSanitizer makes each cost ten times as much.
inline constexpr int trials_shared_by = under_asan ? 4 : 1;

// There one order does as well: where a kernel reads and writes is the same in all of them, but for one with a race,
// whose bits change in the plain build.
inline const bool takes_one_order = looks_for_races || under_asan;

// Says whether two tensors on the CPU have the same shape, dtype and bits. Two empty handles do.
inline bool same_bits(const xent::Tensor& a, const xent::Tensor& b) {
  if (static_cast<bool>(a) != static_cast<bool>(b)) return false;
  if (!a) return true;
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}

// The same, but that one NaN is as good as another: x86 keeps what fits of its bits in a conversion, a GPU has only
// one.
inline bool same_numbers(const xent::Tensor& a, const xent::Tensor& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  const std::vector<double> x = xent::cast(a, xent::DType::f64).to_vector<double>();
  const std::vector<double> y = xent::cast(b, xent::DType::f64).to_vector<double>();
  const size_t size = xent::size_of(a.dtype());
  const auto *p = static_cast<const std::byte*>(a.raw()), *q = static_cast<const std::byte*>(b.raw());
  for (size_t i = 0; i < x.size(); ++i)
    if (std::memcmp(p + i * size, q + i * size, size) != 0 && !(std::isnan(x[i]) && std::isnan(y[i]))) return false;
  return true;
}

// Calls run() in each order. It returns a tensor, or a container of tensors; what it starts from must be the same each
// time. Returns the results of the first order, on the CPU.
template <class F>
std::vector<xent::Tensor> in_every_order(F&& run) {
  using xent::emulator::Order;
  const auto results = [&] {
    std::vector<xent::Tensor> host;  // brought over at once: kernels run when the host waits, and must in this order
    const auto keep = [&](const xent::Tensor& x) { host.push_back(x ? x.to(xent::Device::cpu()) : x); };
    if constexpr (std::convertible_to<decltype(run()), xent::Tensor>) {
      keep(run());
    } else {
      for (const xent::Tensor& x : run()) keep(x);
    }
    return host;
  };
  std::vector<xent::Tensor> first;
  for (const Order order : {Order::shuffled, Order::forward, Order::backward}) {
    if (takes_one_order && order != Order::shuffled) break;
    const xent::emulator::ScheduleScope scope({order, 1});
    const std::vector<xent::Tensor> now = results();
    if (order == Order::shuffled) first = now;
    REQUIRE(now.size() == first.size());
    for (size_t i = 0; i < now.size(); ++i) {
      CAPTURE(i);
      CAPTURE(static_cast<int>(order));
      CHECK(same_bits(now[i], first[i]));
    }
  }
  return first;
}
