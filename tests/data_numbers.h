// A data set for the tests of Loader whose samples tell their index.
#pragma once

#include <atomic>
#include <cstdint>
#include <numeric>
#include <span>
#include <stdexcept>
#include <vector>

#include <xent/core/parallel.h>
#include <xent/nn/dataset.h>
#include <xent/nn/loader.h>

namespace data_numbers {

using namespace xent;

// Sample i is {i, i + 1/2, i, i + 1/2, ...}, its label 100 + i. The sample `broken` throws.
struct Numbers : Dataset {
  int64_t count, width;
  std::atomic<int64_t> broken = -1;

  explicit Numbers(int64_t samples, int64_t elements = 2) : count(samples), width(elements) {}
  int64_t size() const override { return count; }
  Shape sample_shape() const override { return {width}; }
  int64_t get(int64_t index, std::span<float> sample) const override {
    if (index == broken) throw std::domain_error("sample is broken");
    for (size_t i = 0; i < sample.size(); ++i) sample[i] = static_cast<float>(index) + (i % 2 ? 0.5f : 0.0f);
    return 100 + index;
  }
};

// The labels of one epoch, in order.
inline std::vector<int64_t> walk(Loader& loader) {
  std::vector<int64_t> labels;
  for (const Batch& batch : loader)
    for (const int64_t label : batch.labels.to_vector<int64_t>()) labels.push_back(label);
  return labels;
}

inline std::vector<int64_t> labels_in_order(int64_t count) {
  std::vector<int64_t> labels(static_cast<size_t>(count));
  std::iota(labels.begin(), labels.end(), 100);
  return labels;
}

struct Threads {  // for the rest of a scope
  int before = threads();
  explicit Threads(int count) { set_threads(count); }
  ~Threads() { set_threads(before); }
};

}  // namespace data_numbers
