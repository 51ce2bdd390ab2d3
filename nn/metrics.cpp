#include <xent/nn/metrics.h>

#include <algorithm>
#include <limits>

#include <xent/core/require.h>
#include <xent/core/step_state.h>
#include <xent/ops/ops.h>

namespace xent {

namespace {

double share(double part, double whole) { return whole > 0 ? part / whole : std::numeric_limits<double>::quiet_NaN(); }

std::string percent(double value) { return value == value ? fmt::format("{:.1f}%", 100 * value) : "-"; }

// The number of characters of UTF-8 text: the bytes that do not continue one.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(std::ranges::count_if(text, [](char byte) { return (byte & 0xC0) != 0x80; }));
}

// What is read of a confusion matrix, from one copy of its counts. Sums are in f64: counts may come from a file.
struct Shares {
  std::vector<int64_t> counts;
  int64_t classes;

  double at(int64_t label, int64_t prediction) const {
    return static_cast<double>(counts[static_cast<size_t>(label * classes + prediction)]);
  }
  double recall(int64_t label) const {
    double rows = 0;
    for (int64_t c = 0; c < classes; ++c) rows += at(label, c);
    return share(at(label, label), rows);
  }
  double precision(int64_t prediction) const {
    double rows = 0;
    for (int64_t c = 0; c < classes; ++c) rows += at(c, prediction);
    return share(at(prediction, prediction), rows);
  }
  double accuracy() const {
    double right = 0, rows = 0;
    for (const int64_t count : counts) rows += static_cast<double>(count);
    for (int64_t c = 0; c < classes; ++c) right += at(c, c);
    return share(right, rows);
  }
};

void require_class(const char* who, int64_t index, int64_t classes) {
  require<ArgumentError>(index >= 0 && index < classes, "ConfusionMatrix::{}({}): the class must be in [0, {})", who,
                         index, classes);
}

using Row = std::vector<std::string>;

// Joins cells to lines: the first column on the left of its width, the others on the right.
std::string table(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows[0].size());
  for (const Row& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  std::string text;
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - width_of(row[i]), ' ');
      text += i == 0 ? row[i] + padding : "  " + padding + row[i];
    }
    text += '\n';
  }
  return text;
}

}  // namespace

// ---- Metric, Mean, Accuracy ----

Metric::Metric(Device device) : state_(Tensor::persistent("a metric", {2}, DType::f64, device)) { state_.fill(0); }

double Metric::value() const {
  const std::vector<double> state = state_.to_vector<double>();
  return share(state[0], state[1]);
}

int64_t Metric::count() const { return convert<int64_t>(state_.to_vector<double>()[1]); }

void Metric::reset() {
  require_outside_step("reset()", "reset the metric between the calls");
  state_.fill(0);
}

void Mean::add(const Tensor& value, int64_t count) { accumulate_mean(state_, value, count); }

Accuracy::Accuracy(int64_t top, Device device) : Metric(device), top_(top) {
  require<ArgumentError>(top >= 1, "Accuracy({}): the label must be among at least 1 of the logits", top);
}

void Accuracy::add(const Tensor& logits, const Tensor& labels) { accumulate_correct(state_, logits, labels, top_); }

// ---- ConfusionMatrix ----

ConfusionMatrix::ConfusionMatrix(int64_t classes, Device device) {
  constexpr int64_t most = 1 << 20;
  require<ArgumentError>(classes >= 1 && classes <= most, "ConfusionMatrix({}): there must be 1 to {} classes", classes,
                         most);
  state_ = Tensor::persistent("a ConfusionMatrix", {classes, classes}, DType::i64, device);
  state_.fill(0);
}

void ConfusionMatrix::add(const Tensor& logits, const Tensor& labels) { accumulate_confusion(state_, logits, labels); }

std::vector<int64_t> ConfusionMatrix::counts() const { return state_.to_vector<int64_t>(); }

double ConfusionMatrix::recall(int64_t label) const {
  require_class("recall", label, classes());
  return Shares{counts(), classes()}.recall(label);
}

double ConfusionMatrix::precision(int64_t prediction) const {
  require_class("precision", prediction, classes());
  return Shares{counts(), classes()}.precision(prediction);
}

double ConfusionMatrix::accuracy() const { return Shares{counts(), classes()}.accuracy(); }

std::string ConfusionMatrix::str(const std::vector<std::string>& names) const {
  require<ArgumentError>(names.empty() || names.size() == static_cast<size_t>(classes()),
                         "ConfusionMatrix::str: {} names for {} classes", names.size(), classes());
  const Shares shares{counts(), classes()};
  const auto name = [&](int64_t c) { return names.empty() ? std::to_string(c) : names[static_cast<size_t>(c)]; };
  std::vector<Row> rows{{"label \\ predicted"}};
  Row last{"precision"};
  for (int64_t label = 0; label < classes(); ++label) {
    rows[0].push_back(name(label));
    last.push_back(percent(shares.precision(label)));
    Row row{name(label)};
    for (int64_t c = 0; c < classes(); ++c)
      row.push_back(std::to_string(shares.counts[static_cast<size_t>(label * classes() + c)]));
    row.push_back(percent(shares.recall(label)));
    rows.push_back(std::move(row));
  }
  rows[0].push_back("recall");
  last.push_back(percent(shares.accuracy()));
  rows.push_back(std::move(last));
  return table(rows);
}

void ConfusionMatrix::reset() {
  require_outside_step("reset()", "reset the matrix between the calls");
  state_.fill(0);
}

}  // namespace xent
