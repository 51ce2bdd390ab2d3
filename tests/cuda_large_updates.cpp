// More than 2^31 elements, rows and labels in what CUDA does to tensors in place, draws, looks up, counts and casts:
// the last block of each grid is run alone, and what it writes at the far end is looked at.
#include <cmath>
#include <cstdint>

#include <doctest/doctest.h>

#include <xent/cuda/error_record.h>
#include <xent/cuda/kernels.h>
#include <xent/ops/clip_attrs.h>
#include <xent/ops/metrics_call.h>
#include <xent/ops/reshape.h>

#include "cuda_large.h"
#include "emulator_array.h"

namespace {

constexpr int64_t vast = 4 * large;  // as many blocks of four random numbers

Call on_device() { return {.stream = memory(Device::cuda()).stream(0)}; }

// What an op does to the last element, where its elements are aligned and where they are not.
void check_last(double x, double y, const std::function<void(const Tensor&)>& update) {
  for (const int64_t offset : {0, 1}) {
    const Tensor part = with_last({vast + offset}, x).slice(offset, vast + offset);
    update(part);
    CHECK(last(part) == doctest::Approx(y));
  }
}

}  // namespace

TEST_SUITE_BEGIN("large" * doctest::skip(looks_for_races));

TEST_CASE("more than 2^31 elements are filled, cast and added to") {
  const AtTheEnd scope;
  CHECK(last(Tensor::full({large}, 3, DType::u8, Device::cuda())) == 3);
  const Result result = run(with_last({large}, 3, DType::bf16), [](const Tensor& x) { return cast(x, DType::f16); });
  CHECK(last(result.y) == 3);
  CHECK(last(result.dx) == 5);
  const Tensor x = with_last({large}, 3), y = with_last({large}, 4);
  Call call = on_device();
  const Slice both[] = {slice_of(x), slice_of(y)};
  call.in = both;
  cuda::accumulate(call);
  CHECK(last(x) == 7);
  Slice dx = slice_of(x);
  dx.beta = 1;
  call.grad_in = {&dx, 1};
  call.grad_out = {both + 1, 1};
  call.attrs = RowsAttrs{0, large};
  cuda::slice_rows_grad(call);
  CHECK(last(x) == 11);
}

TEST_CASE("more than 2^31 bytes are put back") {
  const AtTheEnd scope;
  const Tensor x = zeros({large}, DType::u8), y = with_last({large}, 7, DType::u8);
  const DeviceArray<cuda::ErrorRecord> errors({cuda::ErrorRecord{.kind = cuda::ErrorRecord::Kind::label}});
  Call call = on_device();
  const Slice both[] = {slice_of(x), slice_of(y)};
  call.in = both;
  call.stream.errors = errors.data();
  cuda::put_back(call);
  CHECK(last(x) == 7);
}

TEST_CASE("the norm of more than 2^31 elements, and clipping by it") {
  const AtTheEnd scope;
  const Tensor x = with_last({large}, 3), squares = Tensor::full({}, 36, DType::f64, Device::cuda());
  const DeviceArray<double> partials(1024);
  Call call = on_device();
  const Tensor total = squares.clone();
  const Slice in[] = {slice_of(total), slice_of(x)};
  call.in = in;
  call.workspace = partials.data();
  cuda::accumulate_squares(call);
  CHECK(partials.value(1023) == 9);
  clip_to_norm(x, squares, 3);
  CHECK(last(x) == doctest::Approx(1.5));
}

TEST_CASE("steps of optimizers on more than 2^31 packs of elements") {
  const AtTheEnd scope;
  const Tensor rate = Tensor::full({}, 0.1, DType::f32, Device::cuda());
  const Tensor steps = Tensor::full({}, 1, DType::i64, Device::cuda());
  check_last(3, 2.5, [&](const Tensor& x) { sgd_step(x, with_last({vast}, 5), {}, rate); });
  check_last(3, 2.5,
             [&](const Tensor& x) { sgd_step(x, with_last({vast}, 5), zeros({vast}), rate, {.momentum = 0.9}); });
  check_last(3, 2.9,
             [&](const Tensor& x) { adam_step(x, with_last({vast}, 5), zeros({vast}), zeros({vast}), rate, steps); });
}

TEST_CASE("more than 2^31 blocks of random numbers, and states beyond 2^32") {
  const AtTheEnd scope;
  Generator generator(1, Device::cuda());
  const auto next = [&] { return generator.state().to_vector<int64_t>()[1]; };
  CHECK(last(uniform({vast}, 2, 3, generator)) >= 2);
  CHECK(next() == large);
  CHECK(last(normal({vast}, 100, 1, generator)) == doctest::Approx(100).epsilon(0.1));
  CHECK(next() == 2 * large);
  const auto drop = [&](const Tensor& all) { return dropout(all, 1e-6, generator); };  // which drops none of these
  for (const int64_t offset : {0, 1}) {
    const Result result = run(with_last({vast + offset}, 3).slice(offset, vast + offset), drop);
    CHECK(last(result.y) == doctest::Approx(3));
    CHECK(last(result.dx) == doctest::Approx(5));
    CHECK(next() == (3 + offset) * large);
  }
  const Tensor counter = generator.state().slice(1, 2).reshape({});
  advance(counter);
  CHECK(next() == 4 * large + 1);
  random_shift_flip(zeros({2, 1, 1, 1}), {}, generator);
  CHECK(next() == 4 * large + 3);
  advance(counter, vast);
  CHECK(next() == 4 * large + 3 + vast);
}

TEST_CASE("images of more than 2^31 rows, or elements, are shifted") {
  const AtTheEnd scope;
  Generator generator(1, Device::cuda());
  const auto same = [&](const Tensor& images) { return random_shift_flip(images, {}, generator); };
  for (const Shape& shape : {Shape{4, large / 4, 1, 1}, Shape{1, 3 * 4096 * 8, 1, 1 << 15}}) {
    const Result result = run(with_last(shape, 3), same);
    CHECK(last(result.y) == 3);
    CHECK(last(result.dx) == 5);
  }
}

TEST_CASE("elements of more than 2^31 rows are picked, and of as many classes") {
  const AtTheEnd scope;
  const auto index = [](const Shape& shape, double class_of_last) {
    return with_last(shape, class_of_last, DType::i64);
  };
  {
    const Result result = run(with_last({large, 2}, 3), [&](const Tensor& x) { return pick(x, index({large}, 1)); });
    CHECK(last(result.y) == 3);
    CHECK(last(result.dx) == 5);
  }
  const Result result =
      run(with_last({1, large}, 3), [&](const Tensor& x) { return pick(x, index({1}, double{large - 1})); });
  CHECK(last(result.y) == 3);
  CHECK(last(result.dx) == 5);
}

TEST_CASE("softmax and log_softmax of more than 2^31 rows, half as far apart") {
  const AtTheEnd scope;
  const double p = std::exp(3) / (std::exp(3) + 1);
  const Result soft = run(with_last({2, 2, large / 2}, 3), [](const Tensor& x) { return softmax(x, 1); });
  CHECK(last(soft.y) == doctest::Approx(p));
  CHECK(last(soft.dx) == doctest::Approx(5 * p * (1 - p)));
  const Result log = run(with_last({2, 2, large / 2}, 3), [](const Tensor& x) { return log_softmax(x, 1); });
  CHECK(last(log.y) == doctest::Approx(std::log(p)));
  CHECK(last(log.dx) == doctest::Approx(5 * (1 - p)));
}

TEST_CASE("of more than 2^31 rows the right ones are counted") {
  const AtTheEnd scope;
  const Tensor x = with_last({large, 2}, 3), labels = zeros({large}, DType::u8);
  const Tensor state = Tensor::zeros({2}, DType::f64, Device::cuda());
  const DeviceArray<double> of_block(std::vector<double>(512, 0));
  Call call = on_device();
  const Slice in[] = {slice_of(state), slice_of(x), slice_of(labels)};
  call.in = in;
  call.workspace = of_block.data();
  call.attrs = CorrectAttrs{1};
  cuda::accumulate_correct(call);
  CHECK(of_block.value(511) == large / 512 - 1);  // all but the last
  CHECK(state.to_vector<double>() == std::vector<double>{large / 512 - 1, double{large}});
  accumulate_correct(state, with_last({1, 2}, 3), zeros({1}, DType::u8), int64_t{1} << 32);
  CHECK(state.to_vector<double>()[0] == large / 512);
}

TEST_CASE("batches of one of more than 2^31 samples, of so many, and of samples as large") {
  const AtTheEnd scope;
  const auto labels = [](int64_t samples) { return with_last({samples}, 9, DType::u8); };
  const auto pixels = [](const Shape& shape) { return with_last(shape, 200, DType::u8); };
  const Tensor far = with_last({1}, double{large - 1}, DType::i64);
  const auto one = gather_batch(pixels({large, 1}), labels(large), far, 1, 0);
  CHECK(last(one[0]) == 200);
  CHECK(last(one[1]) == 9);
  const Tensor second = with_last({2}, 1, DType::i64);
  CHECK(last(gather_batch(pixels({2, large}), labels(2), second, 1, 0)[0]) == 200);
  const int64_t rows = int64_t{65535} * 32770;  // the last is the last block's
  const auto many = gather_batch(pixels({2, 1}), labels(2), with_last({rows}, 1, DType::i64), 1, 0);
  CHECK(last(many[0]) == 200);
  CHECK(last(many[1]) == 9);
}

TEST_SUITE_END();
