// check_labels: what it counts, and what it finds wrong.
#include <cmath>

#include <doctest/doctest.h>

#include <xent/xent.h>

using namespace xent;

namespace {

Tensor labels_of(const std::vector<int64_t>& values) {
  return Tensor::from<int64_t>(values, {static_cast<int64_t>(values.size())});
}
bool says(const LabelReport& report, const std::string& text) { return report.message.find(text) != std::string::npos; }

}  // namespace

TEST_CASE("sound labels are counted per class, and classes that never occur are named") {
  const LabelReport report = check_labels(labels_of({0, 2, 2, -100, 2}), 4, {.target = {.ignore = -100}});
  CHECK(report);
  CHECK(report.rows == 5);
  CHECK(report.ignored == 1);
  CHECK(report.ignored_share() == 0.2);
  CHECK(report.counts == std::vector<int64_t>{1, 0, 3, 0});
  CHECK(report.missing == std::vector<int64_t>{1, 3});
  CHECK(report.weight == 4);
  CHECK(report.str().find("5 rows, 1 ignored (20.0 %), 4 classes, 2 of them never occur") == 0);
}

TEST_CASE("labels from 1 to the number of classes are recognised, by the report and by the loss") {
  const Tensor labels = labels_of({1, 4, 2, 3});
  const LabelReport report = check_labels(labels, 4);
  CHECK(!report);
  CHECK(report.out_of_range == 1);
  CHECK(says(report, "row 1: label 4 is not in [0, 4) (labels look 1-based: min 1, max 4) (1 of 4 rows)"));
  CHECK_THROWS_WITH_AS(softmax_cross_entropy(Tensor::zeros({4, 4}), labels),
                       "softmax_cross_entropy: row 1: label 4 is not in [0, 4) (labels look 1-based: min 1, max 4)",
                       LabelError);
}

TEST_CASE("a label that others ignore by is recognised") {
  CHECK(says(check_labels(labels_of({1, -100, 2, -100}), 4), "-100 looks like a label to ignore, see target.ignore"));
  CHECK(says(check_labels(labels_of({0, -1}), 4), "-1 looks like a label to ignore"));
  CHECK(says(check_labels(Tensor::from<uint8_t>({3, 255}, {2}), 4), "255 looks like a label to ignore"));
  CHECK(!says(check_labels(labels_of({0, -1, -2}), 4), "looks like"));
  CHECK_THROWS_WITH_AS(softmax_cross_entropy(Tensor::zeros({2, 4}), labels_of({0, -1})),
                       "softmax_cross_entropy: row 1: label -1 is not in [0, 4) (-1 looks like a label to ignore, see "
                       "target.ignore: min -1, max 0)",
                       LabelError);
}

TEST_CASE("a set in which nothing counts is a fault") {
  CHECK(
      says(check_labels(labels_of({7, 7}), 4, {.target = {.ignore = 7}}), "no row counts: 2 rows, 2 of them ignored"));
  CHECK(says(check_labels(labels_of({}), 4), "no row counts: 0 rows"));
}

TEST_CASE("weights that sum to zero over the labels are a fault, as are negative and infinite ones") {
  const auto check = [](const std::vector<float>& weights) {
    return check_labels(labels_of({3, 3}), 4, {}, {.class_weights = Tensor::from(weights, {4})});
  };
  CHECK(says(check({0, 2, 0, 0}), "the class weights of all labels sum to 0"));
  CHECK(says(check({0, -2, 0, 1}), "the weight of class 1 is -2"));
  CHECK(says(check({0, 2, INFINITY, 1}), "the weight of class 2 is inf"));
  CHECK(check({1, 1, 1, 0.5f}).weight == 1);
  CHECK(check({1, 1, 1, 0.5f}));
}

TEST_CASE("the label to ignore may be a tensor, and labels may have any shape and integer dtype") {
  const LabelReport report = check_labels(Tensor::from<uint8_t>({0, 1, 9, 1}, {2, 2}), 2, {.target = {.ignore = -1}},
                                          {.ignore = Tensor::full({1}, 9, DType::i64)});
  CHECK(report);
  CHECK(report.ignored == 1);
}

TEST_CASE("what cannot be checked is an error") {
  CHECK_THROWS_AS(check_labels(Tensor::zeros({4}), 4), DTypeError);
  CHECK_THROWS_AS(check_labels(Tensor(), 4), ArgumentError);
  CHECK_THROWS_AS(check_labels(labels_of({0}), 4, {}, {.class_weights = Tensor::full({4}, 1, DType::i64)}), DTypeError);
  CHECK_THROWS_AS(check_labels(labels_of({0}), 4, {}, {.ignore = Tensor::full({}, 1)}), DTypeError);
  CHECK_THROWS_AS(check_labels(labels_of({0}), 4, {}, {.ignore = Tensor::full({2}, 1, DType::i64)}), ShapeError);
  CHECK_THROWS_AS(check_labels(labels_of({0}), 0), ArgumentError);
  CHECK_THROWS_AS(check_labels(labels_of({0}), INT64_MAX), ArgumentError);
  CHECK_THROWS_AS(check_labels(labels_of({0}), 4, {}, {.class_weights = Tensor::ones({3})}), ShapeError);
}
