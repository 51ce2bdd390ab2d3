// shuffle: puts a range into random order, every order equally likely (Fisher and Yates).
//
//   HostRandom random(seed, epoch);
//   shuffle(std::span(order), random);
#pragma once

#include <span>
#include <utility>

#include <xent/core/random.h>

namespace xent {

template <class T>
void shuffle(std::span<T> values, HostRandom& random) {
  for (size_t left = values.size(); left > 1; --left) std::swap(values[left - 1], values[random.below(left)]);
}

}  // namespace xent
