// The device as tensors see it: bytes go there and back, what is launched comes in order, and errors are told.
#include <cuda_runtime.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/fill.h>
#include <xent/core/graph.h>
#include <xent/core/memory.h>
#include <xent/cuda/context.h>
#include <xent/xent.h>

#include "cuda_orders.h"

using namespace xent;

namespace {

constexpr DType all_dtypes[] = {DType::f32, DType::f64, DType::f16, DType::bf16, DType::u8, DType::i32, DType::i64};
constexpr DType floating_dtypes[] = {DType::f32, DType::f64, DType::f16, DType::bf16};
const int64_t more_than_a_grid = looks_for_races ? 1025 : 4096 * 256 + 3;  // so that its threads go round twice
const std::vector<int64_t> sizes = {0, 1, 2, 3, 31, 33, 255, 256, 257, 1025, more_than_a_grid};

Tensor there(const Tensor& x) { return x.to(Device::cuda()); }
Tensor back(const Tensor& x) { return x.to(Device::cpu()); }

// Numbers that are hard to convert, repeated, in a dtype that has them all.
Tensor hard_numbers(int64_t count) {
  const double infinity = std::numeric_limits<double>::infinity();
  const double numbers[] = {
      0,         -0.0,         1,    -1,         0.5,          255.5,  256,     -129,
      65504,     65520,        1e-8, -1e-8,      1e30,         -1e30,  1e300,   infinity,
      -infinity, std::nan(""), 2049, 1.00390625, 2147483648.0, 9.3e18, -9.3e18, 1 + 0x1p-11 + 0x1p-40};
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(numbers[static_cast<size_t>(i) % std::size(numbers)]);
  return Tensor::from(values, {count});
}

// Of the program, as what main leaves behind: CUDA ends before they do.
Tensor kept_tensor;
std::optional<Graph> kept_graph;

// Writes the record as a kernel would.
void set_record(const cuda::ErrorRecord& record) {
  cuda::Context& context = cuda::context(0);
  REQUIRE(cudaMemcpyAsync(context.errors, &record, sizeof(record), cudaMemcpyHostToDevice, context.stream) ==
          cudaSuccess);
}

}  // namespace

TEST_CASE("bytes of every dtype go to the device and come back") {
  for (const DType dtype : all_dtypes)
    for (const int64_t count : sizes) {
      const Tensor x = cast(hard_numbers(count), dtype);
      const Tensor y = there(x);
      CHECK(y.device() == Device::cuda());
      CHECK(y.shape() == x.shape());
      CHECK(same_bits(back(y), x));
      CHECK(same_bits(back(y.clone()), x));
    }
}

TEST_CASE("a view on the device begins where it begins, and copies stay within it") {
  for (const DType dtype : all_dtypes) {
    const Tensor x = cast(hard_numbers(40), dtype);
    const Tensor y = there(x);
    CHECK(same_bits(back(y.slice(3, 20)), x.slice(3, 20).clone()));
    CHECK(same_bits(back(y.slice(3, 11).reshape({2, 4})), x.slice(3, 11).reshape({2, 4}).clone()));
    CHECK(same_bits(back(y.slice(5, 5)), x.slice(5, 5).clone()));

    y.slice(1, 6).copy_from(y.slice(20, 25));
    x.slice(1, 6).copy_from(x.slice(20, 25));
    y.slice(10, 20).copy_from(y.slice(11, 21));  // overlapping
    x.slice(10, 20).copy_from(x.slice(11, 21));
    y.slice(30, 33).fill(7);
    x.slice(30, 33).fill(7);
    y.slice(35, 37).copy_from(x.slice(0, 2));  // from the CPU
    x.slice(35, 37).copy_from(x.slice(0, 2));
    CHECK(same_bits(back(y), x));
  }
}

TEST_CASE("a fill converts its value as on the CPU, in every order") {
  for (const DType dtype : all_dtypes)
    for (const double value : {0.0, 1.0, -1.5, 300.0, 1e300, -1e300, std::nan(""), 65519.9})
      for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{33}, int64_t{257}, more_than_a_grid}) {
        if (count > 257 && value != 300.0) continue;
        const Tensor expected = Tensor::full({count}, value, dtype);
        CHECK(same_bits(in_every_order([&] { return Tensor::full({count}, value, dtype, Device::cuda()); })[0],
                        expected));
      }
}

TEST_CASE("a cast has the bits of the CPU's between any two dtypes, in every order, but for those of a NaN") {
  for (const DType from : all_dtypes)
    for (const DType to : all_dtypes)
      for (const int64_t count : {0, 1, 48, 1025}) {
        CAPTURE(name(from));
        CAPTURE(name(to));
        const Tensor x = cast(hard_numbers(count), from);
        const Tensor y = there(x);
        CHECK(same_numbers(in_every_order([&] { return cast(y, to); })[0], cast(x, to)));
      }
  const Tensor x = cast(hard_numbers(more_than_a_grid), DType::f32);
  CHECK(same_bits(back(cast(there(x), DType::u8)), cast(x, DType::u8)));
}

TEST_CASE("sums of two gradients have the bits of the CPU's, in every order") {
  for (const DType dtype : floating_dtypes)
    for (const int64_t count : sizes) {
      const Tensor a = cast(hard_numbers(count), dtype), b = cast(hard_numbers(count + 5).slice(5, count + 5), dtype);
      const Tensor expected = a.clone();
      launch_accumulate(expected, b);
      const auto run = [&] {
        const Tensor total = there(a);
        launch_accumulate(total, there(b));
        return total;
      };
      // Twice a NaN keeps one of the two payloads, and x86 and CUDA promise no more: they are compared as numbers.
      const Tensor got = count > 2000 ? back(run()) : in_every_order(run)[0];
      const auto wide = [](const Tensor& x) { return cast(x, DType::f64).to_vector<double>(); };
      const std::vector<double> x = wide(got), y = wide(expected);
      bool equal = true;
      for (size_t i = 0; i < x.size(); ++i) equal = equal && (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i])));
      CHECK(equal);
    }
}

TEST_CASE("a clone hands its gradient on, and adds to one that is there") {
  const Tensor x = there(Tensor::from({1, 2, 3}, {3})), upstream = there(Tensor::from({5, 7, 9}, {3}));
  Gradients gradients;
  for (int repeat = 0; repeat < 2; ++repeat) {
    Tape tape;
    tape.watch(x);
    tape.backward(x.clone(), gradients, {.upstream = upstream});
  }
  CHECK(gradients[x].device() == Device::cuda());
  CHECK(gradients[x].to_vector<float>() == std::vector<float>{10, 14, 18});
}

TEST_CASE("a value is read from the device, and written to it") {
  Tensor x = Tensor::scalar(2.5, DType::f64, Device::cuda());
  CHECK(x.item() == 2.5);
  x.fill(3);
  CHECK(x.item() == 3);
  CHECK(Tensor::from<int64_t>({int64_t{1} << 60}, {1}, Device::cuda()).item<int64_t>() == int64_t{1} << 60);
  CHECK(x.str() == "f64 [] cuda:0\n3");
}

TEST_CASE("what cannot be done with the device is a DeviceError with the way out") {
  const Tensor here = Tensor::zeros({2}), x = there(here);
  CHECK(is_available(Device::cuda()));
  CHECK_FALSE(is_available(Device::cuda(1000)));
  CHECK_FALSE(is_available(Device::cuda(-1)));
  CHECK_THROWS_WITH_AS(here.to(Device::cuda(1000)), doctest::Contains("cuda:1000: this machine has "), DeviceError);
  CHECK_THROWS_AS(Tensor::zeros({2}, DType::f32, Device::cuda(-1)), DeviceError);
  CHECK_THROWS_WITH_AS(x.data<float>(), "data: the tensor is on cuda:0; use to_vector() or to(Device::cpu())",
                       DeviceError);
  CHECK_THROWS_WITH_AS(add(here, x),
                       "add: input 0 f32 [2] is on cpu, input 1 f32 [2] on cuda:0; move one with .to(device)",
                       DeviceError);
  const Op no_kernel = {.name = "no_kernel", .formula = "", .infer = same_as_input, .forward = {[](const Call&) {}}};
  CHECK_THROWS_WITH_AS(apply(no_kernel, {x}),
                       "no_kernel: the op's .forward has no CUDA kernel; give it one: docs/adding_an_op.md",
                       DeviceError);
}

TEST_CASE("more memory than there is is a DeviceError, and the device works on") {
  CHECK_THROWS_AS(Tensor::empty({int64_t{1} << 41}, DType::u8, Device::cuda()), DeviceError);
  CHECK(Tensor::ones({3}, DType::f32, Device::cuda()).to_vector<float>() == std::vector<float>{1, 1, 1});
}

TEST_CASE("memory on the device is counted apart from the CPU's") {
  const MemoryStats before = memory_stats(Device::cuda()), on_cpu = memory_stats();
  {
    const Tensor x = Tensor::empty({1024}, DType::f32, Device::cuda());  // on a GPU a block of just that size
    CHECK(memory_stats(Device::cuda()).live_bytes == before.live_bytes + 4096);
    CHECK(memory_stats(Device::cuda()).requests == before.requests + 1);
  }
  CHECK(memory_stats(Device::cuda()).live_bytes == before.live_bytes);
  CHECK(memory_stats(Device::cuda()).peak_live_bytes >= before.live_bytes + 4096);
  CHECK(memory_stats().requests == on_cpu.requests);
}

TEST_CASE("fresh memory on the device is poisoned on request") {
  const bool before = poison_fresh_memory(true);
  const std::vector<float> values = Tensor::empty({3}, DType::f32, Device::cuda()).to_vector<float>();
  poison_fresh_memory(before);
  for (const float value : values) CHECK(std::isnan(value));
}

TEST_CASE("a bad label is told by the next wait, in the CPU's words, and once") {
  const Tensor x = Tensor::ones({2}, DType::f32, Device::cuda());
  using Kind = cuda::ErrorRecord::Kind;
  set_record({.kind = Kind::label,
              .op = "pick",
              .row = 3,
              .label = 4,
              .classes = 4,
              .least = 1,
              .most = 4,
              .one_bad_value = true});
  const Tensor y = Tensor::full({2}, 5, DType::f32, Device::cuda());  // launched after it
  CHECK_THROWS_WITH_AS(x.to_vector<float>(),
                       "pick: row 3: label 4 is not in [0, 4) (labels look 1-based: min 1, max 4)", LabelError);
  CHECK(x.to_vector<float>() == std::vector<float>{1, 1});
  CHECK(y.to_vector<float>() == std::vector<float>{5, 5});

  set_record({.kind = Kind::label,
              .op = "pick",
              .row = 0,
              .label = -1,
              .classes = 4,
              .least = -1,
              .most = 3,
              .one_bad_value = true});
  CHECK_THROWS_WITH_AS(x.clone().to(Device::cpu()),
                       "pick: row 0: label -1 is not in [0, 4) (-1 looks like a label to ignore, see target.ignore: "
                       "min -1, max 3)",
                       LabelError);
  set_record({.kind = Kind::denominator, .op = "softmax_cross_entropy", .denominator = -2});
  CHECK_THROWS_WITH_AS(x.slice(0, 1).item(),
                       "softmax_cross_entropy: the mean is over a total of -2, which must be positive", ArgumentError);
  CHECK(x.slice(0, 1).item() == 1);
}

TEST_CASE("a copy to the CPU that tells of a bad label has written, and the version says so") {
  const Tensor x = Tensor::ones({2}, DType::f32, Device::cuda()), here = Tensor::zeros({2});
  const uint64_t before = here.storage()->version();
  set_record({.kind = cuda::ErrorRecord::Kind::label, .op = "pick", .row = 0, .label = 9, .classes = 4});
  CHECK_THROWS_AS(Tensor(here).copy_from(x), LabelError);
  CHECK(here.to_vector<float>() == std::vector<float>{1, 1});
  CHECK(here.storage()->version() == before + 1);
}

TEST_CASE("globals on the device may end with the program, also while work is queued") {
  kept_tensor = Tensor::ones({3}, DType::f32, Device::cuda());
  kept_graph.emplace(Device::cuda(), [] { launch_accumulate(kept_tensor, kept_tensor); });
  kept_graph->launch();
  CHECK(kept_tensor.to_vector<float>() == std::vector<float>{2, 2, 2});
  kept_graph->launch();  // nobody waits for it; a destructor that throws, or runs it, is the end of this program
}

TEST_CASE("threads share the device") {
  std::vector<std::thread> threads;
  std::vector<float> sums(4);
  for (size_t t = 0; t < sums.size(); ++t)
    threads.emplace_back([&, t] {
      Tensor x = Tensor::zeros({17}, DType::f32, Device::cuda());
      const Tensor one = Tensor::full({17}, static_cast<double>(t + 1), DType::f32, Device::cuda());
      for (int i = 0; i < 20; ++i) launch_accumulate(x, one);
      sums[t] = x.to_vector<float>()[16];
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(sums == std::vector<float>{20, 40, 60, 80});
}
