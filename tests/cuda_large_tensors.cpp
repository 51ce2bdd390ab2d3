// More than 2^31 elements in elementwise ops, reductions, norms and moves on CUDA: the last block of each grid is run
// alone, and what it writes at the far end is looked at.
#include <cmath>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <xent/cuda/axis_sum.cuh>
#include <xent/cuda/context.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/batch_norm2d.h>
#include <xent/ops/layer_norm.h>
#include <xent/xent.h>

#include "cuda_large.h"
#include "emulator_array.h"

namespace {

constexpr int64_t many_packs = 4 * large;  // of f32, so many packs
constexpr int64_t first_of_last_block = 4095 * 256 * 4;
constexpr int64_t tall = 4100, wide = (1 << 19) + (1 << 10);  // rows that are long: the last block touches few pages

}  // namespace

TEST_SUITE_BEGIN("large" * doctest::skip(looks_for_races));

TEST_CASE("elementwise functions of more than 2^31 packs, and of so many elements that are not aligned") {
  const AtTheEnd scope;
  {
    const Tensor x = with_last({many_packs}, 3);
    set(x, first_of_last_block, 2);
    const Result result = run(
        x, [](const Tensor& all) { return scale(all, -2); }, first_of_last_block);
    CHECK(last(result.y) == -6);
    CHECK(last(result.dx) == -10);
    CHECK(value(result.y, first_of_last_block) == -4);
    CHECK(value(result.dx, first_of_last_block) == -10);
  }
  release_cached_memory(Device::cuda());
  const Tensor x = with_last({large + 1}, 3);
  const Result result = run(x.slice(1, large + 1), [](const Tensor& part) { return log(part); });
  CHECK(last(result.y) == doctest::Approx(std::log(3)));
  CHECK(last(result.dx) == doctest::Approx(5.0 / 3));
}

TEST_CASE("operands of more than 2^31 packs, and operands that are stretched to so many elements") {
  const AtTheEnd scope;
  {
    const Tensor x = with_last({many_packs}, 3);
    set(x, first_of_last_block, 2);
    const Tensor y = add(x, x);
    CHECK(last(y) == 6);
    CHECK(value(y, first_of_last_block) == 4);
  }
  release_cached_memory(Device::cuda());
  const Tensor three = there({3});
  const Result product = run(with_last({large}, 4), [&](const Tensor& x) { return mul(x, three); });
  CHECK(last(product.y) == 12);
  CHECK(last(product.dx) == 15);
  release_cached_memory(Device::cuda());
  const Tensor rows = there({1, 2}).reshape({2, 1}), columns = there({1, 2});
  CHECK(last(mul(with_last({2, large}, 4), rows)) == 8);
  CHECK(last(mul(rows, with_last({2, large}, 4))) == 8);
  release_cached_memory(Device::cuda());
  CHECK(last(mul(with_last({large, 2}, 4), columns)) == 8);
}

TEST_CASE("sums of more than 2^31 elements, of rows and of columns") {
  const AtTheEnd scope;
  const Tensor x = with_last({large}, 3);
  const Result stretched = run(x, [](const Tensor& all) { return sum(all); });
  CHECK(last(stretched.dx) == 5);
  release_cached_memory(Device::cuda());
  // What the last chunk leaves: the other blocks would have to run for the sum of all chunks.
  const Call call = {.stream = {cuda::context(0).stream, cuda::context(0).errors}};
  using cuda::AxisSum, cuda::ElementsOf;
  using Store = cuda::IntoPartials<double, cuda::RoundedTo<float>>;
  const auto last_partial = [&](const Tensor& of, Mask axes) {
    const AxisSum sums(of.shape(), axes);
    const auto count = static_cast<size_t>(sums.outputs() * sums.chunks());
    const DeviceArray<double> partials(count);
    cuda::start(call, "sum", {cuda::blocks_for(sums.items() * sums.lanes())}, cuda::axis_sum<ElementsOf<float>, Store>,
                sums, ElementsOf<float>{static_cast<const float*>(of.raw())}, Store{partials.data(), {nullptr, 1}});
    return partials.values()[count - 1];
  };
  CHECK(last_partial(x, 0b1) == 3);
  CHECK(last(sum(with_last({tall, wide}, 3), {0})) == 3);
  CHECK(last(sum(with_last({1 << 19, tall}, 3), {1})) == 3);
  CHECK(last(sum(with_last({large, 2}, 3), {1})) == 3);
}

TEST_CASE("argmax of more than 2^31 rows, and of rows so far apart") {
  const AtTheEnd scope;
  CHECK(last(argmax(with_last({large, 2}, 3), 1)) == 1);
  release_cached_memory(Device::cuda());
  CHECK(last(argmax(with_last({2, large}, 3), 0)) == 1);
}

TEST_CASE("more than 2^31 rows are counted") {
  const AtTheEnd scope;
  const Tensor counts = Tensor::zeros({1, 1}, DType::i64, Device::cuda());
  accumulate_confusion(counts, with_last({large, 1}, std::nan("")), zeros({large}, DType::u8));
  CHECK(counts.to_vector<int64_t>()[0] == large / 512 - 1);  // the last of 512 blocks; a NaN is no prediction
}

TEST_CASE("permutations of more than 2^31 elements: looked up, in rows, and in tiles") {
  const AtTheEnd scope;
  const auto permuted = [](std::vector<int64_t> axes) {
    return [axes = std::move(axes)](const Tensor& x) { return permute(x, axes); };
  };
  CHECK(last(permuted({1, 0})(with_last({2, large / 2 + (1 << 19)}, 3, DType::u8))) == 3);
  release_cached_memory(Device::cuda());
  CHECK(last(permuted({1, 0, 2})(with_last({2, large / 2, 17}, 3, DType::u8))) == 3);
  release_cached_memory(Device::cuda());
  const int64_t side = 32 * 9 * 2048;  // the number of tiles is a multiple of that of blocks
  CHECK(last(permuted({1, 0})(with_last({tall, side}, 3, DType::u8))) == 3);
}

TEST_CASE("tensors of more than 2^31 elements side by side, and the gradient of a slice of one") {
  const AtTheEnd scope;
  const Tensor x = with_last({large}, 3, DType::u8);
  CHECK(value(concat({x, zeros({1}, DType::u8)}, 0), large - 1) == 3);  // an odd size: byte by byte
  CHECK(last(concat({x.reshape({large, 1}), x.reshape({large, 1})}, 1)) == 3);
  release_cached_memory(Device::cuda());
  const Tensor two_rows = zeros({2, large + 1}, DType::u8);  // of odd lengths; element 2 large - 1 is the last block's
  set(two_rows, 2 * large - 1, 3);
  CHECK(value(concat({two_rows, zeros({2, 1}, DType::u8)}, 1), 2 * large) == 3);
  release_cached_memory(Device::cuda());
  const Result slice = run(with_last({large}, 3), [](const Tensor& all) { return slice_rows(all, large - 7, large); });
  CHECK(last(slice.y) == 3);
  CHECK(last(slice.dx) == 5);
  CHECK(last(run(with_last({large}, 3), [](const Tensor& all) { return slice_rows(all, 1, large); }).dx) == 5);
}

TEST_CASE("norms of more than 2^31 elements") {
  const AtTheEnd scope;
  const auto near = [](double number) { return doctest::Approx(number).epsilon(1e-4); };
  {
    const double count = wide, mean = 4 / count, inverse = 1 / std::sqrt(16 / count - mean * mean + 1e-5);
    const Tensor weight = there(std::vector<float>(wide, 1)).set_requires_grad();
    Tape tape;
    const Tensor x = with_last({4096, wide}, 4);
    tape.watch(x);
    const Tensor y = layer_norm(x, weight);
    CHECK(last(y) == near((4 - mean) * inverse));
    const Tensor upstream = with_last(y.shape(), 5);
    const Gradients gradients = tape.backward(y, {.upstream = upstream});
    const double h = (4 - mean) * inverse;
    CHECK(last(gradients[x]) == near(inverse * (5 - 5 / count - h * 5 * h / count)));
    CHECK(std::isfinite(last(gradients[weight])) == false);  // the other rows' statistics were not computed
  }
  release_cached_memory(Device::cuda());
  const double count = tall, mean = 4 / count, inverse = 1 / std::sqrt(16 / count - mean * mean + 1e-5);
  const Tensor statistics = zeros({wide}), none;
  const Result result = run(with_last({1, tall, 1, wide}, 4),
                            [&](const Tensor& x) { return batch_norm2d(x, none, none, statistics, zeros({wide})); });
  const double h = (4 - mean) * inverse;
  CHECK(last(result.y) == near(h));
  CHECK(last(result.dx) == near(inverse * (5 - 5 / count - h * 5 * h / count)));
}

TEST_CASE("batch norms of more than 2^31 channels") {
  const AtTheEnd scope;
  const auto near = [](double number) { return doctest::Approx(number).epsilon(1e-4); };
  {
    const double mean = 4.0 / 3, variance = 16.0 / 3 - mean * mean, inverse = 1 / std::sqrt(variance + 1e-5);
    const double h = (4 - mean) * inverse;
    const Tensor x = with_last({3, 1, 1, large}, 4), weight = with_last({large}, 3), bias = with_last({large}, 1);
    const Tensor running_mean = zeros({large}), running_var = zeros({large});
    const BatchNormAttrs attrs = {.momentum = 0.1, .epsilon = 1e-5};
    const Tensors out = apply(batch_norm2d_op, {x, weight, bias, running_mean, running_var}, attrs);
    CHECK(last(out[0]) == near(3 * h + 1));
    CHECK(last(running_mean) == near(0.1 * mean));
    CHECK(last(running_var) == near(0.1 * variance * 3 / 2));
    // Backward without a tape, which would copy the running statistics.
    const Tensor dy = with_last(x.shape(), 5), dx = zeros(x.shape()), dw = zeros({large}), db = zeros({large});
    const Slice in[] = {slice_of(x), slice_of(weight), slice_of(bias), {}, {}};
    const Slice kept[] = {{}, slice_of(out[1]), slice_of(out[2])};
    const Slice grad_in[] = {slice_of(dx), slice_of(dw), slice_of(db), {}, {}}, grad_out[] = {slice_of(dy), {}, {}};
    const Call call = {.in = in, .out = kept, .grad_in = grad_in, .grad_out = grad_out, .attrs = attrs};
    launch(batch_norm2d_op, batch_norm2d_op.backward, call, Device::cuda());
    CHECK(last(dx) == near(3 * inverse * (5 - 5.0 / 3 - h * 5 * h / 3)));
    CHECK(last(dw) == near(5 * h));
    CHECK(last(db) == 5);
  }
  release_cached_memory(Device::cuda());
  const Tensor weight = with_last({large}, 3), mean = with_last({large}, 1), variance = with_last({large}, 3), none;
  const Result result = run(with_last({1, 1, 1, large}, 4),
                            [&](const Tensor& x) { return batch_norm2d_frozen(x, weight, none, mean, variance); });
  CHECK(last(result.y) == near(3 * 3 / std::sqrt(3.0)));
  CHECK(last(result.dx) == near(3 * 5 / std::sqrt(3.0)));
}

TEST_CASE("the gradient of a weight of more than 2^31 columns, and of images of as many pixels") {
  const AtTheEnd scope;
  {
    const Tensor x = with_last({3, large}, 4), dy = with_last({3, large}, 5), dw = zeros({large}), db = zeros({large});
    const Tensor means = zeros({3}, DType::f64), inverses = Tensor::full({3}, 0.5, DType::f64, Device::cuda());
    const Slice in[] = {slice_of(x), slice_of(dw), slice_of(db)}, kept[] = {{}, slice_of(means), slice_of(inverses)};
    const Slice grad_in[] = {{}, slice_of(dw), slice_of(db)}, grad_out[] = {slice_of(dy), {}, {}};
    const Call call = {
        .in = in, .out = kept, .grad_in = grad_in, .grad_out = grad_out, .attrs = LayerNormAttrs{1, 1e-5}};
    launch(layer_norm_op, layer_norm_op.backward, call, Device::cuda());
    CHECK(last(dw) == 10);
    CHECK(last(db) == 5);
  }
  release_cached_memory(Device::cuda());
  const Tensor dx = zeros({2, 1 << 15, (1 << 16) + (1 << 10), 1}), dy = with_last({2, 1}, double(1 << 30));
  const Slice grad_in = slice_of(dx), grad_out = slice_of(dy);
  const Call call = {.grad_in = {&grad_in, 1}, .grad_out = {&grad_out, 1}};
  launch(global_avg_pool2d_op, global_avg_pool2d_op.backward, call, Device::cuda());
  CHECK(last(dx) == doctest::Approx(static_cast<double>(1 << 30) / (static_cast<double>(dx.elements()) / 2)));
}

TEST_SUITE_END();
