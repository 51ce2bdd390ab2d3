// Random numbers: Philox4x32-10, a counter-based generator. The i-th number depends on (seed, i) only, so the same
// numbers come out for any number of threads and on every device.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
//
//   Generator generator(42);
//   Tensor x = uniform({3, 5}, -1, 1, generator);  // ops/ops.h; advances the generator
#pragma once

#include <array>
#include <cstdint>

#include <xent/core/tensor.h>

namespace xent {

// Maps a counter under a key to four words of 32 random bits.
constexpr std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

// The words of one seed as sequences, one per stream: word i is word i % 4 of block i / 4.
constexpr std::array<uint32_t, 4> philox_block(uint64_t seed, uint64_t block, uint64_t stream = 0) {
  return philox({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), static_cast<uint32_t>(stream),
                 static_cast<uint32_t>(stream >> 32)},
                {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

// 32 random bits as a number in [0, 1): the upper 24 bits, exact in float.
constexpr float to_unit(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

// A source of random numbers whose state {seed, next block} is a tensor, so that ops inside a Step draw new numbers at
// every replay. Copies share the state.
class Generator {
 public:
  explicit Generator(uint64_t seed, Device device = Device::cpu());  // throws ReplayError inside a Step

  const Tensor& state() const { return state_; }  // i64 [2]
  void set_seed(uint64_t seed);                   // starts anew

 private:
  Tensor state_;
};

// Numbers on the host, for shuffling and test data.
class HostRandom {
 public:
  explicit HostRandom(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  uint32_t word() {
    if (next_ == 4) {
      words_ = philox_block(seed_, block_++, stream_);
      next_ = 0;
    }
    return words_[next_++];
  }
  float uniform() { return to_unit(word()); }  // [0, 1)
  double normal();                             // mean 0, deviation 1
  uint64_t below(uint64_t bound);              // [0, bound), every number equally likely; bound at least 1

 private:
  uint64_t seed_, stream_;
  uint64_t block_ = 0;
  std::array<uint32_t, 4> words_{};
  size_t next_ = 4;
};

}  // namespace xent
