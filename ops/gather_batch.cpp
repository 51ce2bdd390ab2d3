// gather_batch:  y[r, k] = scale pixels[index_r, k] + offset,  label_r = labels[index_r]
//
// The samples of a batch out of a data set that lies on the device as bytes, a quarter of the memory of floats: all a
// Loader hands over for a batch is where it begins in the order of the epoch.
#include <algorithm>
#include <array>

#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/cpu/labels.h>
#include <xent/ops/gather_batch.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr int64_t elements_per_chunk = 1 << 15;

Specs infer_gather_batch(std::span<const Spec> in, const Attrs&) {
  const Spec &pixels = in[0], &labels = in[1], &indices = in[2];
  require<DTypeError>(pixels.dtype == DType::u8 && labels.dtype == DType::u8 && indices.dtype == DType::i64,
                      "gather_batch: pixels of {}, labels of {}, indices of {}; they must be u8, u8 and i64",
                      pixels.dtype, labels.dtype, indices.dtype);
  require<ShapeError>(pixels.shape.rank() >= 1 && labels.shape == Shape{pixels.shape[0]} && indices.shape.rank() == 1,
                      "gather_batch: pixels {}, labels {}, indices {}; they must be [n, ...], [n] and [batch]",
                      pixels.shape, labels.shape, indices.shape);
  std::array<int64_t, Shape::max_rank> extents{};
  std::ranges::copy(pixels.shape, extents.begin());
  extents[0] = indices.shape[0];
  return {{Shape(std::span<const int64_t>(extents.data(), static_cast<size_t>(pixels.shape.rank())))},
          {indices.shape, DType::i64}};
}

}  // namespace

namespace cpu {

void gather_batch(const Call& call) {
  const Slice &pixels = call.in[0], &labels = call.in[1], &indices = call.in[2];
  const int64_t rows = indices.shape.elements(), size = call.out[0].shape.elements() / std::max<int64_t>(rows, 1);
  check_labels("gather_batch", indices, pixels.shape[0]);
  const auto& attrs = call.attrs.as<GatherBatchAttrs>();
  const auto scale = static_cast<float>(attrs.scale), offset = static_cast<float>(attrs.offset);
  parallel_for(rows, elements_per_chunk / std::max<int64_t>(size, 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t index = indices.as<int64_t>()[r];
      const uint8_t* const x = pixels.as<uint8_t>() + index * size;
      float* const y = call.out[0].as<float>() + r * size;
      for (int64_t k = 0; k < size; ++k) y[k] = static_cast<float>(x[k]) * scale + offset;
      call.out[1].as<int64_t>()[r] = labels.as<uint8_t>()[index];
    }
  });
}

}  // namespace cpu

namespace {

Samples gather_batch_samples(DType) {
  const auto sample = [](const Shape& pixels, int64_t batch, double scale, double offset) {
    return Sample{{label_sample(pixels, 256, DType::u8, 1), label_sample({pixels[0]}, 10, DType::u8, 2),
                   label_sample({batch}, pixels[0], DType::i64, 3)},
                  GatherBatchAttrs{scale, offset}};
  };
  return {sample({7, 3, 5, 2}, 4, 1.0 / 255, 0), sample({3}, 5, 1.0 / 128, -1), sample({20, 28, 28}, 64, 0.013, -0.8)};
}

}  // namespace

constinit const Op gather_batch_op = {
    .name = "gather_batch",
    .formula = "y_r = scale pixels[index_r] + offset, label_r = labels[index_r]",
    .inputs = 3,
    .infer = infer_gather_batch,
    .forward = {cpu::gather_batch, ON_CUDA(gather_batch)},
    .differentiable = nothing,
    .differentiable_out = nothing,
    .checks_labels = true,
    .samples = gather_batch_samples,
};

std::array<Tensor, 2> gather_batch(const Tensor& pixels, const Tensor& labels, const Tensor& indices, double scale,
                                   double offset) {
  const Tensors out = apply(gather_batch_op, {pixels, labels, indices}, GatherBatchAttrs{scale, offset});
  return {out[0], out[1]};
}

}  // namespace xent
