// Metrics on CUDA: exact counts for all sizes and label types, the CPU's errors for bad labels, and states that stay as
// they are after one.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "cuda_trial.h"
#include "error_of.h"

using namespace xent;
using namespace cuda_trial;

namespace {

// Logits with ties, NaNs and infinities.
Tensor logits(int64_t rows, int64_t classes, DType dtype) {
  std::vector<float> values = integers({rows, classes}, DType::f32, 7).to_vector<float>();
  for (size_t i = 5; i < values.size(); i += 61)
    values[i] = i % 2 ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  return cast(Tensor::from(values, {rows, classes}), dtype);
}

// Calls update(state) on a copy of a state there, and gives it back.
template <class F>
Tensor updated(const Tensor& state, const F& update) {
  const Tensor copy = there(state.clone());
  update(copy);
  return copy;
}

const std::vector<std::pair<int64_t, int64_t>> sizes = {{0, 3}, {1, 1},   {1, 10},   {3, 4},    {7, 5},    {33, 10},
                                                        {8, 8}, {64, 33}, {65, 100}, {300, 17}, {5, 1025}, {2, 3000}};

}  // namespace

TEST_CASE("rows whose label is among the largest are counted as on the CPU") {
  for (const auto& [rows, classes] : sizes)
    for (const DType dtype : {DType::f32, DType::f64})
      for (const DType label_type : {DType::u8, DType::i32, DType::i64})
        for (const int64_t top : {int64_t{1}, int64_t{2}, classes, classes + 5}) {
          if (looks_for_races && rows * classes > 350) continue;
          CAPTURE(rows);
          CAPTURE(classes);
          CAPTURE(top);
          const Tensor x = logits(rows, classes, dtype);
          const Tensor y = label_sample({rows}, std::min<int64_t>(classes, 256), label_type, 3);
          const Tensor state = Tensor::from<double>({2, 9}, {2});
          Tensor expected = state.clone();
          accumulate_correct(expected, x, y, top);
          const Tensor there_x = there(x, rows % 2 == 0), there_y = there(y, rows % 2 == 0);
          const auto got = in_every_order(
              [&] { return updated(state, [&](const Tensor& to) { accumulate_correct(to, there_x, there_y, top); }); });
          CHECK(same_bits(got[0], expected));
        }
}

TEST_CASE("more rows than one block after the other takes are all counted" * doctest::skip(looks_for_races)) {
  const int64_t rows = 512 * 256 + 77;  // one lane each
  const Tensor x = there(Tensor::from({1, 0}, {1, 2})), y = there(Tensor::zeros({rows}, DType::u8));
  const Tensor all = add(x, Tensor::zeros({rows, 1}, DType::f32, Device::cuda()));
  const Tensor state =
      updated(Tensor::zeros({2}, DType::f64), [&](const Tensor& to) { accumulate_correct(to, all, y); });
  CHECK(doubles(state) == std::vector<double>{static_cast<double>(rows), static_cast<double>(rows)});
  const Tensor counts =
      updated(Tensor::zeros({2, 2}, DType::i64), [&](const Tensor& to) { accumulate_confusion(to, all, y); });
  CHECK(doubles(counts) == std::vector<double>{static_cast<double>(rows), 0, 0, 0});
}

TEST_CASE("a confusion matrix is the CPU's") {
  for (const auto& [rows, classes] : sizes)
    for (const DType dtype : {DType::f32, DType::f64})
      for (const DType label_type : {DType::u8, DType::i32, DType::i64}) {
        if (classes > 1025 || (looks_for_races && rows * classes > 350)) continue;
        CAPTURE(rows);
        CAPTURE(classes);
        const Tensor x = logits(rows, classes, dtype);
        const Tensor y = label_sample({rows}, std::min<int64_t>(classes, 256), label_type, 3);
        Tensor expected = Tensor::full({classes, classes}, 4, DType::i64);
        const Tensor state = expected.clone(), there_x = there(x, rows % 2 == 0), there_y = there(y);
        accumulate_confusion(expected, x, y);
        const auto got = in_every_order(
            [&] { return updated(state, [&](const Tensor& to) { accumulate_confusion(to, there_x, there_y); }); });
        CHECK(same_bits(got[0], expected));
      }
}

TEST_CASE("counts wrap around, and labels that are the counts are refused") {
  const Tensor most = Tensor::full({1, 1}, 0, DType::i64);
  Tensor full = Tensor::from<int64_t>({std::numeric_limits<int64_t>::max()}, {1, 1});
  const Tensor got = updated(full, [&](const Tensor& to) {
    accumulate_confusion(to, there(Tensor::ones({1, 1})), there(Tensor::zeros({1}, DType::i64)));
  });
  CHECK(got.to_vector<int64_t>()[0] == std::numeric_limits<int64_t>::min());
  const Tensor counts = there(most);
  CHECK_THROWS_AS(accumulate_confusion(counts, there(Tensor::ones({1, 1})), counts.reshape({1})), ArgumentError);
}

TEST_CASE("means are added up") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor value = there(Tensor::full({1}, 0.5, dtype));
    const auto got = in_every_order([&] {
      return updated(Tensor::from<double>({3, 8}, {2}), [&](const Tensor& to) { accumulate_mean(to, value, 64); });
    });
    CHECK(doubles(got[0]) == std::vector<double>{35, 72});
  }
}

TEST_CASE("a bad label is told as on the CPU, and no state changes until that is known") {
  const Tensor x = Tensor::ones({3, 4}), good = Tensor::from<int64_t>({0, 1, 2}, {3});
  for (const int64_t bad : {int64_t{-1}, int64_t{4}, int64_t{1} << 40}) {
    const Tensor y = Tensor::from<int64_t>({0, bad, 2}, {3});
    Tensor correct = Tensor::from<double>({1, 2}, {2}), counts = Tensor::ones({4, 4}, DType::i64);
    const Tensor correct_there = there(correct), counts_there = there(counts), mean_there = there(correct);
    CHECK(error_of<Error>([&] {
            accumulate_correct(correct_there, there(x), there(y));
            accumulate_mean(mean_there, there(Tensor::ones({1})), 5);
            accumulate_confusion(counts_there, there(x), there(good));
            accumulate_correct(correct_there, there(x), there(good));
            doubles(correct_there);
          }) == error_of<Error>([&] { accumulate_correct(correct, x, y); }));
    CHECK(doubles(correct_there) == std::vector<double>{1, 2});
    CHECK(doubles(mean_there) == std::vector<double>{1, 2});
    CHECK(error_of<Error>([&] {
            accumulate_confusion(counts_there, there(x), there(y));
            doubles(counts_there);
          }) == error_of<Error>([&] { accumulate_confusion(counts, x, y); }));
    CHECK(doubles(counts_there) == std::vector<double>(16, 1));
    accumulate_correct(correct_there, there(x), there(good));  // the next launch works
    CHECK(doubles(correct_there) == std::vector<double>{2, 5});
  }
}
