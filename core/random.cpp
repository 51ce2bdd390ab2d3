#include <xent/core/random.h>

#include <cmath>
#include <numbers>

#include <xent/core/require.h>
#include <xent/core/step_state.h>

namespace xent {

Generator::Generator(uint64_t seed, Device device)
    : state_(Tensor::persistent("a Generator", {2}, DType::i64, device)) {
  set_seed(seed);
}

void Generator::set_seed(uint64_t seed) {
  require_outside_step("set_seed", "seed the generator before the Step");
  const Tensor state = Tensor::from<int64_t>({static_cast<int64_t>(seed), 0}, {2}, Device::cpu());
  state_.copy_from(state);
}

double HostRandom::normal() {
  // Box-Muller; 1 - u is in (0, 1], so the logarithm is finite.
  const double radius = std::sqrt(-2 * std::log(1 - (word() + 0.5) * 0x1p-32));
  return radius * std::cos(2 * std::numbers::pi * (word() * 0x1p-32));
}

uint64_t HostRandom::below(uint64_t bound) {
  require<ArgumentError>(bound > 0, "below: there is no number in [0, 0)");
  const uint64_t rest = (0 - bound) % bound;  // 2^64 mod bound: words below it would make small numbers likelier
  uint64_t value = 0;
  do {
    const uint64_t high = word();
    value = high << 32 | word();
  } while (value < rest);
  return value % bound;
}

}  // namespace xent
