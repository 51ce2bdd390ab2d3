// concat:  y = the inputs side by side along an axis            dx_k = the part of dy where x_k went
//
// The op joins at most eight tensors; the function joins more in groups. Bytes are copied, whatever they mean.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/concat.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr int64_t grain = 1 << 16;  // bytes per chunk
constexpr int most_inputs = 8;

Specs infer_concat(std::span<const Spec> in, const Attrs& attrs) {
  const Shape& first = in[0].shape;
  const int64_t axis = attrs.as<ConcatAttrs>().axis;
  require<ShapeError>(axis >= -first.rank() && axis < first.rank(), "concat: axis {} is not in [{}, {}) of shape {}",
                      axis, -first.rank(), first.rank(), first);
  const auto joined = static_cast<size_t>(first.resolve(axis));
  std::array<int64_t, Shape::max_rank> extents{};
  std::ranges::copy(first, extents.begin());
  for (size_t i = 1; i < in.size(); ++i) {
    if (!in[i]) continue;
    require<DTypeError>(in[i].dtype == in[0].dtype, "concat: {} and {}; cast them to one dtype", in[0].dtype,
                        in[i].dtype);
    bool fits = in[i].shape.rank() == first.rank();
    for (int k = 0; fits && k < first.rank(); ++k) fits = k == static_cast<int>(joined) || in[i].shape[k] == first[k];
    require<ShapeError>(fits, "concat: shapes {} and {} differ in more than axis {}", first, in[i].shape, joined);
    const int64_t extent = in[i].shape[static_cast<int64_t>(joined)];
    require<ShapeError>(!__builtin_add_overflow(extents[joined], extent, &extents[joined]),
                        "concat: extents along axis {} add up to more than int64 holds", joined);
  }
  return {{Shape(std::span<const int64_t>(extents.data(), static_cast<size_t>(first.rank()))), in[0].dtype}};
}

}  // namespace

namespace cpu {

void copy_columns(const Columns& from, const Columns& to, int64_t rows, int64_t width) {
  parallel_for(rows * width, grain, [&](int64_t begin, int64_t end) {
    int64_t row = begin / width, column = begin % width;
    while (begin < end) {
      const int64_t count = std::min(width - column, end - begin);
      std::memcpy(to.data + row * to.stride + column, from.data + row * from.stride + column,
                  static_cast<size_t>(count));
      begin += count;
      column = 0;
      ++row;
    }
  });
}

void concat(const Call& call) {
  each_part(call.out[0], call.in, call.attrs.as<ConcatAttrs>().axis,
            [](const Columns& whole, const Columns& part, int64_t rows, int64_t width) {
              copy_columns(part, whole, rows, width);
            });
}

void concat_grad(const Call& call) {
  each_part(call.grad_out[0], call.grad_in, call.attrs.as<ConcatAttrs>().axis, copy_columns);
}

}  // namespace cpu

namespace {

// One, two and three inputs along each axis, an empty one, and some of several chunks.
Samples concat_samples(DType dtype) {
  const auto sample = [&](int64_t axis, std::initializer_list<Shape> shapes) {
    Sample made{{}, ConcatAttrs{axis}};
    for (const Shape& shape : shapes)
      made.inputs.push_back(normal_sample(shape, dtype, 1 + static_cast<uint64_t>(made.inputs.size())));
    made.inputs.resize(most_inputs);
    return made;
  };
  return {sample(1, {{3, 5}, {3, 2}}),         sample(0, {{7}}),
          sample(0, {{2, 3}, {0, 3}, {5, 3}}), sample(-2, {{3, 2, 5}, {3, 1, 5}, {3, 4, 5}}),
          sample(0, {{101, 130}, {71, 130}}),  sample(-1, {{130, 101}, {130, 71}, {130, 1}})};
}

}  // namespace

constinit const Op concat_op = {
    .name = "concat",
    .formula = "y = the inputs side by side along an axis",
    .inputs = most_inputs,
    .infer = infer_concat,
    .forward = {cpu::concat, ON_CUDA(concat)},
    .backward = {cpu::concat_grad, ON_CUDA(concat_grad)},
    .optional = 0b11111110,
    .needs_in = nothing,
    .needs_out = nothing,
    .samples = concat_samples,
};

Tensor concat(std::span<const Tensor> tensors, int64_t axis) {
  require<ArgumentError>(!tensors.empty(), "concat: no tensors; there must be at least one");
  for (size_t i = 0; i < tensors.size(); ++i)
    require<ArgumentError>(static_cast<bool>(tensors[i]), "concat: tensor {} is an empty handle", i);
  std::vector<Tensor> joined(tensors.begin(), tensors.end());
  do {
    std::vector<Tensor> groups;
    for (size_t i = 0; i < joined.size(); i += most_inputs) {
      std::array<Tensor, most_inputs> group;
      std::copy_n(joined.begin() + static_cast<std::ptrdiff_t>(i), std::min(joined.size() - i, group.size()),
                  group.begin());
      groups.push_back(apply(concat_op, group, ConcatAttrs{axis})[0]);
    }
    joined = std::move(groups);
  } while (joined.size() > 1);
  return joined[0];
}

}  // namespace xent
