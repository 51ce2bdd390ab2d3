// softmax_cross_entropy on CUDA with more than 2^31 rows, or rows of classes so far apart: a kernel is launched with so
// many blocks that each has a few rows, and the last one alone is run; what one block does for all rows is called as by
// a thread that looks at two of them.
#include <cmath>
#include <cstdint>

#include <doctest/doctest.h>

#include <xent/cuda/loss_backward.cuh>
#include <xent/cuda/loss_block.cuh>
#include <xent/cuda/loss_general.cuh>
#include <xent/cuda/loss_prepare.cuh>
#include <xent/cuda/loss_registers.cuh>
#include <xent/cuda/loss_samples.cuh>
#include <xent/cuda/loss_tile.cuh>
#include <xent/cuda/loss_validation.cuh>
#include <xent/cuda/loss_warp.cuh>

#include "cuda_large.h"
#include "emulator_array.h"

using cuda::Divisor, cuda::FloatingNumbers, cuda::LossExtras, cuda::LossRows, cuda::LossScalars, cuda::LossTarget;
namespace kernels = cuda::kernels;

namespace {

constexpr int64_t rows = int64_t{7} << 30, classes = 4, logits = rows * classes;
constexpr auto last_row = static_cast<size_t>(rows - 1);
constexpr unsigned seventh = 1 << 30;  // a grid whose blocks have seven rows each

constexpr LossScalars undivided = {
    .by = 1, .factor = 1, .all_weights = 0, .of_denominator = 0, .zero_loss = false, .zero_grad = false, .ticket = 0};

template <class T>
FloatingNumbers numbers(const DeviceArray<T>& array) {
  return {array.data(), dtype_of<T>};
}

void run_last_block(const char* name, unsigned blocks, unsigned threads, size_t shared, const auto& kernel,
                    const auto&... arguments) {
  const emulator::ScheduleScope scope({emulator::Order::last_block});
  check(cuda::launch({name, blocks, threads, shared}, kernel, arguments...));
  check(cudaDeviceSynchronize());
}

// The last row has a weight, label 1, and logits 0, 3, 0, 0. All others weigh nothing.
struct ManyRows {
  DeviceArray<float> x{logits}, dx{logits}, statistics{2 * rows}, losses{rows}, weights{rows};
  DeviceArray<uint8_t> labels{rows};
  DeviceArray<double> partial{rows}, total{1};
  DeviceArray<LossScalars> scalars{{undivided}};
  const double log_sum = std::log(std::exp(3) + 3);  // of the last row

  ManyRows() {
    x.set(logits - 3, 3);
    labels.set(last_row, 1);
    weights.set(last_row, 2);
  }
  LossTarget target() const {
    return {.labels = {.data = labels.data(), .dtype = DType::u8, .count = rows, .classes = classes},
            .distribution = {},
            .class_weights = {},
            .element_weights = numbers(weights),
            .inner = {}};
  }
  LossRows<float> of() const {
    LossRows<float> all;
    all.logits = x.data();
    all.target = target();
    all.scalars = scalars.data();
    all.reduces = false;
    all.grad = dx.data();
    all.statistics = statistics.data();
    all.loss = numbers(losses);
    all.total = total.data();
    all.partial = partial.data();
    return all;
  }
  void check_loss() const {
    CHECK(losses.value(last_row) == doctest::Approx(2 * (log_sum - 3)));
    CHECK(statistics.value(2 * rows - 2) == 3);
    CHECK(statistics.value(2 * rows - 1) == doctest::Approx(log_sum - 3));
  }
  void check_grad() const {
    CHECK(dx.value(logits - 3) == doctest::Approx(2 * (std::exp(3 - log_sum) - 1)));
    CHECK(dx.value(logits - 1) == doctest::Approx(2 * std::exp(-log_sum)));
  }
};

// The last of rows of two classes that are so far apart; its logits are 0 and 3.
constexpr int64_t apart = (int64_t{1} << 31) + 1, far_row = apart - 1;
constexpr auto far_class = static_cast<size_t>(2 * apart - 1);

}  // namespace

TEST_SUITE_BEGIN("large" * doctest::skip(looks_for_races));

TEST_CASE("more than 2^31 rows in tiles, by warps, in registers, by blocks, and of any kind") {
  const auto check_rows = [](const auto& launch) {
    const ManyRows many;
    launch(many);
    many.check_loss();
    many.check_grad();
  };
  check_rows([](const ManyRows& many) {
    const size_t shared = cuda::tile_rows * sizeof(float) * cuda::tile_stride<float>(classes);
    run_last_block("tiles", rows / cuda::tile_rows, cuda::tile_rows, shared, kernels::loss_of_tiles<float, false>,
                   many.of());
  });
  check_rows([](const ManyRows& many) {
    run_last_block("warps", rows / 4, cuda::warp_threads, 0, kernels::loss_of_warps<float, 4, false>, many.of());
  });
  check_rows([](const ManyRows& many) {
    run_last_block("registers", seventh, 256, 0, kernels::loss_in_registers<float, 256, false>, many.of());
  });
  check_rows([](const ManyRows& many) {
    run_last_block("blocks", seventh, 256, 0, kernels::loss_of_blocks<float, false>, many.of());
  });
  check_rows([](const ManyRows& many) {
    const LossExtras extras = {.plain = true, .grad = numbers(many.dx)};
    run_last_block("general", rows / 8, cuda::group_threads, 0, kernels::loss_general<float, cuda::WarpGroup>,
                   many.of(), extras);
  });
}

TEST_CASE("the gradient of more than 2^31 rows: in packs, one by one, and of rows of any kind") {
  const auto check_rows = [](const auto& launch) {
    const ManyRows many;
    many.statistics.set(2 * rows - 2, 3);
    many.statistics.set(2 * rows - 1, static_cast<float>(many.log_sum - 3));
    launch(many);
    many.check_grad();
  };
  for (const bool packs : {true, false})
    check_rows([&](const ManyRows& many) {
      const int64_t work = packs ? rows : logits;
      run_last_block("backward", static_cast<unsigned>(work / 256), 256, 0, kernels::loss_backward<float>, many.of(),
                     FloatingNumbers(), Divisor(classes), int64_t{0}, packs ? rows : 0);
    });
  check_rows([](const ManyRows& many) {
    const DeviceArray<float> of_weights(rows), of_target(logits), arriving(rows);
    arriving.set(last_row, 1);
    const LossExtras extras = {.plain = true,
                               .grad = numbers(many.dx),
                               .grad_losses = numbers(arriving),
                               .grad_target = numbers(of_target),
                               .grad_element_weights = numbers(of_weights)};
    run_last_block("general", rows / 8, cuda::group_threads, 0, kernels::loss_general_backward<float, cuda::WarpGroup>,
                   many.of(), extras);
    CHECK(of_target.value(logits - 1) == doctest::Approx(2 * many.log_sum));
    CHECK(of_weights.value(last_row) == doctest::Approx(many.log_sum - 3));
  });
}

TEST_CASE("denominators and distributions of more than 2^31 rows") {
  const ManyRows many;
  cuda::LossPreparation p = {.target = many.target(), .options = {}, .checks_labels = true, .sums_shares = true};
  p.options.reduction.denominator = Reduction::Denominator::element_weights;
  p.partial = many.partial.data();
  run_last_block("prepare", rows / 512, 512, 0, kernels::prepare_rows<1>, p);
  CHECK(many.partial.value(rows / 512 - 1) == 2);

  const DeviceArray<float> distribution(rows);
  const DeviceArray<int64_t> bad_rows(rows / 8);
  const DeviceArray<cuda::ErrorRecord> errors({cuda::ErrorRecord{}});
  for (size_t row = rows - 8; row < last_row; ++row) distribution.set(row, 1);
  p.target.dense = true;
  p.target.distribution = numbers(distribution);
  p.target.labels.classes = 1;
  p.target.element_weights = {};
  p.options.reduction.denominator = Reduction::Denominator::target_mass;
  distribution.set(last_row, 0.5);
  CHECK(kernels::share_of<1>(p, rows - 1, 0, 0) == 0.5);

  cuda::LossValidation v = {p.target, "loss", errors.data(), nullptr, bad_rows.data()};
  run_last_block("find", rows / 8, 256, 0, kernels::find_bad_distribution, v);
  CHECK(bad_rows.value(rows / 8 - 1) == rows - 1);
  bad_rows.set(0, rows - 1);
  run_last_block("report", 1, 256, 0, kernels::report_invalid, v, 1);
  CHECK(errors.value(0).row == rows - 1);

  const auto first_bad = [&](int64_t begin, int64_t step) {
    return kernels::first_bad(numbers(many.weights), rows, begin, step);
  };
  CHECK(first_bad(1, rows - 2) == INT64_MAX);
  many.weights.set(last_row, -1);
  CHECK(first_bad(1, rows - 2) == rows - 1);
  CHECK(first_bad(rows - 1, 1) == rows - 1);
}

TEST_CASE("losses of more than 2^31 samples, and of rows so far apart") {
  const DeviceArray<double> row_losses(2 * rows);
  const DeviceArray<float> losses(rows);
  const DeviceArray<LossScalars> scalars({undivided});
  row_losses.set(size_t{6} << 30, 5);
  row_losses.set(2 * rows - 1, 7);
  const auto add = [&](unsigned blocks, int64_t samples, int after, int per_sample) {
    run_last_block("samples", blocks, cuda::group_threads, 0, kernels::add_samples, row_losses.data(), samples, after,
                   per_sample, scalars.data(), numbers(losses));
  };
  add(seventh, rows, 1, 2);
  CHECK(losses.value(last_row) == 7);
  add(7, 7, 1 << 30, 1);
  CHECK(losses.value(6) == 5);
}

TEST_CASE("rows of classes that are more than 2^31 apart") {
  const DeviceArray<float> x(2 * apart), more(2 * apart), result(2 * apart), q(2 * apart);
  const DeviceArray<uint8_t> labels(apart);
  const cuda::ThreadGroup group(nullptr);
  LossScalars scalars = undivided;
  x.set(far_class, 3);
  labels.set(far_row, 1);
  LossRows<float> row;
  row.logits = x.data();
  row.scalars = &scalars;
  row.target.labels = {.data = labels.data(), .dtype = DType::u8, .count = apart, .classes = 2};
  row.target.inner = Divisor(apart);
  const double log_sum = std::log(1 + std::exp(-3));
  const auto work = [&](const LossExtras& extras, const auto& body) {
    cuda::LossRow<float, cuda::ThreadGroup> of(row, extras, group, far_row);
    of.read_pair();
    CHECK(of.pair.log_sum == doctest::Approx(log_sum));
    body(of);
    return result.value(far_class);
  };
  const auto near = [](double number) { return doctest::Approx(number).epsilon(1e-5); };
  const LossExtras plain = {.plain = true, .log_probs = numbers(result), .grad = numbers(result)};
  CHECK(work(plain, [&](const auto& of) {
          CHECK(of.raw() == near(log_sum));
          of.write_log_probs();
        }) == near(-log_sum));
  CHECK(work(plain, [](const auto& of) { of.write_grad(of.told, 1); }) == near(std::exp(-log_sum) - 1));

  row.target.spread = 0.5;
  work(plain, [&](const auto& of) { CHECK(of.raw() == near(1.5 * log_sum + 0.5 * (log_sum + 3))); });
  row.target.spread = 0;

  // k = 1 - 5, and t is as much: what arrives at the log-probabilities is 5, and the addend as well.
  row.target.dense = true;
  row.target.distribution = numbers(q);
  q.set(far_class, 1);
  more.set(far_class, 5);
  const LossExtras extras = {.grad = numbers(result), .addend = numbers(more), .grad_log_probs = numbers(more)};
  CHECK(work(extras, [&](const auto& of) {
          CHECK(of.raw() == near(log_sum));
          CHECK(of.mass() == 1);
          of.write_grad(of.told, 1);
        }) == near(-4 * std::exp(-log_sum) + 4 + 5));

  cuda::LossPreparation p = {.target = row.target, .options = {}};
  p.options.reduction.denominator = Reduction::Denominator::target_mass;
  CHECK(kernels::share_of<1>(p, far_row, 0, 0) == 1);
  CHECK(cuda::pair_of(x.data() + far_row, 2, apart, group).max == 3);
}

TEST_CASE("labels and rows of more than 32 bits, and division by such numbers") {
  constexpr int64_t huge = (int64_t{1} << 40) + 2;  // the lower half is a class
  const cuda::Labels labels = {.data = &huge, .count = 1, .classes = classes, .ignores = true, .ignore = huge + 1};
  CHECK(labels.is_bad(huge));
  CHECK_FALSE(labels.is_bad(huge + 1));
  CHECK_FALSE(labels.is_bad(2));
  CHECK_FALSE(labels.is_ignored(3));
  LossTarget target;
  target.labels = labels;
  CHECK(target.row(0).poisoned);
  target.out_of_range = LossTarget::Parity::OutOfRange::clip;
  CHECK(target.row(0).label == classes - 1);
  cuda::SeenLabels seen = cuda::SeenLabels::none();
  seen.see(labels, 0);
  CHECK(seen.bad == huge);
  CHECK(seen.least == huge);
  CHECK(seen.most == huge);
  const DeviceArray<uint8_t> many(rows);
  many.set(last_row, 200);
  seen = cuda::SeenLabels::none();
  const cuda::Labels far = {.data = many.data(), .dtype = DType::u8, .count = rows, .classes = classes};
  seen.see(far, rows - 1);
  CHECK(seen.bad_row == rows - 1);
  CHECK(cuda::seen_labels(far, 1, rows - 2).bad_row == rows - 1);
  CHECK(cuda::seen_labels(far, rows - 1, 1).bad_row == rows - 1);

  for (const int64_t by : {int64_t{1}, int64_t{3}, huge}) {
    const auto [quotient, remainder] = Divisor(by).of(5 * huge + 2);
    CHECK(quotient == (5 * huge + 2) / by);
    CHECK(remainder == (5 * huge + 2) % by);
  }
  for (int64_t by = 1; by < 100; ++by)  // of 49 the quotient by the reciprocal is 0
    for (int64_t n = 0; n < 3 * by; ++n) CHECK(Divisor(by).of(n).quotient == n / by);
  CHECK(Divisor(huge).of(2 * huge - 1).remainder == huge - 1);
}

TEST_SUITE_END();
