// Metrics and the ops below them: what is counted, at replay too, how it is read, and what is refused.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "replay_mode.h"

using namespace xent;

namespace {

using Longs = std::vector<int64_t>;

// Whether the label's logit is among the `top` first, sorted from the largest, equal ones by index; not if one is NaN.
bool among(const std::vector<double>& row, size_t label, int64_t top) {
  std::vector<size_t> order;
  for (size_t c = 0; c < row.size(); ++c) order.push_back(c);
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return row[a] > row[b]; });
  for (const double value : row)
    if (std::isnan(value)) return false;
  const auto place = std::ranges::find(order, label) - order.begin();
  return place < top;
}

// Logits with many equal ones, as whole numbers have.
Tensor coarse_logits(int64_t rows, int64_t classes, uint64_t seed, DType dtype = DType::f32) {
  HostRandom random(seed);
  std::vector<double> values(static_cast<size_t>(rows * classes));
  for (double& value : values) value = static_cast<double>(random.below(5)) - 2;
  return cast(Tensor::from(values, {rows, classes}), dtype);
}

std::vector<std::vector<double>> rows_of(const Tensor& logits) {
  const std::vector<double> values = cast(logits, DType::f64).to_vector<double>();
  const auto classes = logits.shape()[1];
  std::vector<std::vector<double>> rows;
  for (auto at = values.begin(); at != values.end(); at += classes) rows.emplace_back(at, at + classes);
  return rows;
}

}  // namespace

TEST_CASE("Accuracy counts the labels among the largest logits, for every top and type of labels") {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const DType label_type : {DType::u8, DType::i32, DType::i64})
      for (const int64_t top : {int64_t{1}, int64_t{2}, int64_t{5}, int64_t{7}, INT64_MAX}) {
        const Tensor logits = coarse_logits(200, 7, 1, dtype), labels = label_sample({200}, 7, label_type, 2);
        const Longs label = cast(labels, DType::i64).to_vector<int64_t>();
        const auto rows = rows_of(logits);
        int64_t right = 0;
        for (size_t r = 0; r < rows.size(); ++r) right += among(rows[r], static_cast<size_t>(label[r]), top);
        Accuracy accuracy(top);
        accuracy.add(logits, labels);
        CHECK(accuracy.count() == 200);
        CHECK(accuracy.value() == static_cast<double>(right) / 200);
      }
}

TEST_CASE("a row with a NaN is wrong for Accuracy, and left out by the confusion matrix") {
  const Tensor logits = Tensor::from({NAN, 1, 2, 3, NAN, 0, 5, 4, 3}, {3, 3}),
               labels = Tensor::from<int64_t>({2, 0, 0}, {3});
  Accuracy all(3);
  ConfusionMatrix confusion(3);
  all.add(logits, labels);
  confusion.add(logits, labels);
  CHECK(all.value() == 1 / 3.0);
  CHECK(confusion.counts() == Longs{1, 0, 0, 0, 0, 0, 0, 0, 0});
}

TEST_CASE("a confusion matrix counts what plain loops count, and adds up") {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const DType label_type : {DType::u8, DType::i32, DType::i64}) {
      ConfusionMatrix confusion(4);
      Longs expected(16, 0);
      for (uint64_t seed = 1; seed <= 3; ++seed) {
        const Tensor logits = coarse_logits(100, 4, seed, dtype), labels = label_sample({100}, 4, label_type, seed);
        confusion.add(logits, labels);
        const Longs label = cast(labels, DType::i64).to_vector<int64_t>(),
                    prediction = argmax(logits).to_vector<int64_t>();
        for (size_t r = 0; r < label.size(); ++r) ++expected[static_cast<size_t>(label[r] * 4 + prediction[r])];
      }
      CHECK(confusion.counts() == expected);
      CHECK(confusion.state().to_vector<int64_t>() == expected);
    }
}

TEST_CASE("recall is of a label's rows, precision of a prediction's, accuracy of all") {
  ConfusionMatrix confusion(3);
  Tensor counts = confusion.state();
  counts.copy_from(Tensor::from<int64_t>({7, 1, 0, 0, 8, 0, 0, 0, 0}, {3, 3}));
  CHECK(confusion.classes() == 3);
  CHECK(confusion.recall(0) == 7 / 8.0);
  CHECK(confusion.recall(1) == 1);
  CHECK(confusion.precision(0) == 1);
  CHECK(confusion.precision(1) == 8 / 9.0);
  CHECK(confusion.accuracy() == 15 / 16.0);
  CHECK(std::isnan(confusion.recall(2)));
  CHECK(std::isnan(confusion.precision(2)));
  confusion.reset();
  CHECK(confusion.counts() == Longs(9, 0));
  CHECK(std::isnan(confusion.accuracy()));
  for (const int64_t c : {int64_t{-1}, int64_t{3}, INT64_MIN, INT64_MAX}) {
    CHECK_THROWS_AS(confusion.recall(c), ArgumentError);
    CHECK_THROWS_AS(confusion.precision(c), ArgumentError);
  }
}

TEST_CASE("a confusion matrix is shown as a table whose columns are aligned, also for names beyond ASCII") {
  ConfusionMatrix confusion(2);
  CHECK(confusion.str() ==
        "label \\ predicted  0  1  recall\n"
        "0                  0  0       -\n"
        "1                  0  0       -\n"
        "precision          -  -       -\n");
  Tensor counts = confusion.state();
  counts.copy_from(Tensor::from<int64_t>({7, 1, 0, 8}, {2, 2}));
  CHECK(confusion.str({"cat", "dog"}) ==
        "label \\ predicted     cat    dog  recall\n"
        "cat                     7      1   87.5%\n"
        "dog                     0      8  100.0%\n"
        "precision          100.0%  88.9%   93.8%\n");
  CHECK(confusion.str({"Käfer", "Löwenzähnchenblätter"}) ==
        "label \\ predicted      Käfer  Löwenzähnchenblätter  recall\n"
        "Käfer                      7                     1   87.5%\n"
        "Löwenzähnchenblätter       0                     8  100.0%\n"
        "precision             100.0%                 88.9%   93.8%\n");
  CHECK_THROWS_WITH_AS(confusion.str({"cat"}), "ConfusionMatrix::str: 1 names for 2 classes", ArgumentError);
}

TEST_CASE("a replayed Step adds to metrics at every call as one without replay does") {
  const auto train = [](Replay replay) {
    const Mode mode(replay);
    Mean loss;
    Accuracy top2(2);
    ConfusionMatrix confusion(5);
    Step step([&](const Tensor& logits, const Tensor& labels) {
      loss.add(mean(logits), logits.shape()[0]);
      top2.add(logits, labels);
      confusion.add(logits, labels);
    });
    for (uint64_t seed = 1; seed <= 6; ++seed) {
      step(normal_sample({16, 5}, DType::f32, seed), label_sample({16}, 5, DType::i32, seed));
      if (seed == 2) confusion.reset();
    }
    CHECK(top2.count() == 96);
    return std::pair(std::array{loss.value(), top2.value()}, confusion.counts());
  };
  const auto replayed = train(Replay::on);
  CHECK(replayed == train(Replay::off));
  int64_t rows = 0;
  for (const int64_t count : replayed.second) rows += count;
  CHECK(rows == 4 * 16);
}

TEST_CASE("metrics read and reset between the calls of a Step, not inside") {
  const Mode mode(Replay::on);
  ConfusionMatrix confusion(2);
  Accuracy accuracy;
  const auto refused = [](auto f) {
    Step step([&](const Tensor&) { f(); });
    CHECK_THROWS_AS(step(Tensor::ones({1})), ReplayError);
  };
  refused([&] { confusion.reset(); });
  refused([&] { confusion.counts(); });
  refused([&] { confusion.str(); });
  refused([&] { accuracy.reset(); });
  refused([&] { accuracy.value(); });
  refused([] { ConfusionMatrix inside(3); });
  refused([] { Accuracy inside(2); });
}

TEST_CASE("a metric's state is written and read back through a checkpoint's door: a handle to its own bytes") {
  Mean mean, other;
  mean.add(Tensor::scalar(2.5), 4);
  Tensor(other.state()).copy_from(mean.state());
  CHECK(other.value() == 2.5);
  CHECK(other.count() == 4);
  ConfusionMatrix confusion(2), again(2);
  confusion.add(Tensor::from({1, 2, 2, 1}, {2, 2}), Tensor::from<int64_t>({0, 0}, {2}));
  Tensor(again.state()).copy_from(confusion.state());
  CHECK(again.counts() == Longs{1, 1, 0, 0});
}

TEST_CASE("a label out of range is refused before anything is counted") {
  ConfusionMatrix confusion(3);
  Accuracy accuracy(2);
  const Tensor logits = Tensor::ones({2, 3});
  for (const int64_t label : {int64_t{3}, int64_t{-1}, INT64_MAX, INT64_MIN}) {
    const Tensor labels = Tensor::from<int64_t>({0, label}, {2});
    CHECK_THROWS_AS(confusion.add(logits, labels), LabelError);
    CHECK_THROWS_AS(accuracy.add(logits, labels), LabelError);
  }
  CHECK_THROWS_WITH_AS(confusion.add(logits, Tensor::from<int64_t>({1, 3}, {2})),
                       "accumulate_confusion: row 1: label 3 is not in [0, 3) (labels look 1-based: min 1, max 3)",
                       LabelError);
  CHECK(confusion.counts() == Longs(9, 0));
  CHECK(accuracy.count() == 0);
}

TEST_CASE("labels that are the counts themselves are refused: counting would change them") {
  const Tensor counts = Tensor::full({3, 3}, 2, DType::i64);
  const Tensor logits = Tensor::from({9, 0, 0, 9, 0, 0, 9, 0, 0}, {3, 3});
  CHECK_THROWS_WITH_AS(accumulate_confusion(counts, logits, counts.view({3}, 0)),
                       "accumulate_confusion: inputs 0 and 2 overlap in memory, and 0 is updated", ArgumentError);
  CHECK(counts.to_vector<int64_t>() == Longs(9, 2));
  const Tensor single = Tensor::full({1, 1}, 0, DType::i64);
  CHECK_THROWS_WITH_AS(accumulate_confusion(single, Tensor::zeros({1, 1}), single.view({1}, 0)),
                       "accumulate_confusion: the labels are the counts, which are updated; clone() them",
                       ArgumentError);
  accumulate_confusion(counts, logits, counts.view({3}, 0).clone());
  CHECK(counts.to_vector<int64_t>() == Longs{2, 2, 2, 2, 2, 2, 5, 2, 2});
}

TEST_CASE("other shapes, dtypes and numbers of classes are refused") {
  const Tensor labels = Tensor::from<int64_t>({0, 1}, {2});
  ConfusionMatrix confusion(3);
  CHECK_THROWS_WITH_AS(confusion.add(Tensor::ones({2, 4}), labels),
                       "accumulate_confusion: the counts are i64 [3, 3]; for logits [2, 4] they must be i64 [classes, "
                       "classes]",
                       ShapeError);
  CHECK_THROWS_AS(confusion.add(Tensor::ones({3, 3}), labels), ShapeError);
  CHECK_THROWS_AS(confusion.add(Tensor::ones({3}), labels), ShapeError);
  CHECK_THROWS_AS(confusion.add(Tensor::ones({2, 3}, DType::i32), labels), DTypeError);
  CHECK_THROWS_AS(confusion.add(Tensor::ones({2, 3}), Tensor::ones({2})), DTypeError);
  confusion.add(Tensor::ones({0, 3}), Tensor::from<int64_t>({}, {0}));
  CHECK(confusion.counts() == Longs(9, 0));
  for (const int64_t bad : {int64_t{0}, int64_t{-1}, INT64_MIN}) {
    CHECK_THROWS_AS(Accuracy{bad}, ArgumentError);
    CHECK_THROWS_AS(ConfusionMatrix{bad}, ArgumentError);
  }
  CHECK_THROWS_AS(ConfusionMatrix{INT64_MAX}, ArgumentError);
}
