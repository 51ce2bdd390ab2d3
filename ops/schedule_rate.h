// What schedule_rate computes, once for all devices. Private.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <xent/ops/ops.h>

namespace xent {

struct ScheduleAttrs {
  ScheduleOptions options;
  bool operator==(const ScheduleAttrs& other) const {
    const ScheduleOptions &a = options, &b = other.options;
    return a.decay == b.decay && a.warmup == b.warmup && a.steps == b.steps && a.factor == b.factor && a.last == b.last;
  }
};

// What the rate is multiplied by at a count. The functions are constexpr so that device code may call them.
constexpr double from_1_to(double last, double share) { return (1 - share) + last * share; }

constexpr double factor_of(const ScheduleOptions& o, int64_t count) {
  const int64_t n = std::max<int64_t>(count, 0);
  if (n < o.warmup) return (static_cast<double>(n) + 1) / static_cast<double>(o.warmup);
  const int64_t k = n - o.warmup;
  const double t = std::min(static_cast<double>(k) / static_cast<double>(o.steps), 1.0);
  switch (o.decay) {
    case Decay::constant: return 1;
    case Decay::step: return std::pow(o.factor, static_cast<double>(k / o.steps));
    case Decay::linear: return from_1_to(o.last, t);
    case Decay::cosine: return from_1_to(o.last, (1 - std::cos(std::numbers::pi * t)) / 2);
  }
  return 1;
}

}  // namespace xent
