#include <xent/nn/dataset.h>

#include <algorithm>

#include <xent/core/parallel.h>
#include <xent/core/require.h>

namespace xent {

void Dataset::gather(std::span<const int64_t> indices, std::span<float> samples, std::span<int64_t> labels) const {
  constexpr int64_t grain = 1 << 15;  // elements per chunk, so that a small batch stays on one thread
  const auto count = static_cast<int64_t>(indices.size());
  const int64_t elements = sample_shape().elements();
  require<ShapeError>(labels.size() == indices.size(), "gather: {} indices, but room for {} labels", count,
                      labels.size());
  require<ShapeError>(static_cast<int64_t>(samples.size()) == count * elements,
                      "gather: {} samples of {} do not fit {} floats", count, sample_shape(), samples.size());

  const auto width = static_cast<size_t>(elements);
  const int64_t samples_per_chunk = std::max<int64_t>(1, grain / std::max<int64_t>(1, elements));
  parallel_for(count, samples_per_chunk, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      if (i + 1 < static_cast<size_t>(end)) prefetch(indices[i + 1]);
      labels[i] = get(indices[i], samples.subspan(i * width, width));
    }
  });
}

}  // namespace xent
