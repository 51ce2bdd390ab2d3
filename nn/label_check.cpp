#include <xent/nn/label_check.h>

#include <algorithm>
#include <cmath>

#include <xent/core/require.h>
#include <xent/ops/label_guess.h>
#include <xent/ops/ops.h>

namespace xent {

LabelReport check_labels(const Tensor& labels, int64_t classes, const SoftmaxCrossEntropyOptions& options,
                         const LossInputs& inputs) {
  constexpr const char* who = "check_labels";
  constexpr int64_t most_classes = int64_t{1} << 24;  // a count is kept for each
  require<ArgumentError>(classes > 0 && classes <= most_classes, "{}: {} classes", who, classes);
  require<ArgumentError>(static_cast<bool>(labels), "{}: labels are an empty tensor handle", who);
  require<DTypeError>(is_index(labels.dtype()), "{}: labels are {}; use u8, i32 or i64", who, labels.dtype());
  const Tensor& ignored = inputs.ignore;
  require<DTypeError>(!ignored || ignored.dtype() == DType::i64, "{}: the label to ignore is {}, not i64", who,
                      ignored.dtype());
  require<ShapeError>(!ignored || ignored.elements() == 1, "{}: the label to ignore has shape {}; it is one number",
                      who, ignored.shape());
  const Tensor& given = inputs.class_weights;
  require<DTypeError>(!given || is_floating(given.dtype()), "{}: class weights are {}; cast them", who, given.dtype());
  require<ShapeError>(!given || given.shape() == Shape{classes}, "{}: class weights {} must be [{}]", who,
                      given.shape(), classes);
  const Tensor weights = given ? cast(given, DType::f64).to(Device::cpu()) : Tensor();
  const Tensor all = cast(labels, DType::i64).to(Device::cpu());
  std::optional<int64_t> ignore = options.target.ignore;
  if (inputs.ignore) ignore = inputs.ignore.reshape({}).item<int64_t>();

  LabelReport report{.rows = all.elements()};
  report.counts.assign(static_cast<size_t>(classes), 0);
  LabelRange range{.classes = classes};
  const int64_t* label = all.data<int64_t>();
  for (int64_t row = 0; row < report.rows; ++row) {
    if (label[row] == ignore) {
      ++report.ignored;
      continue;
    }
    range.see(row, label[row]);
    if (label[row] < 0 || label[row] >= classes) ++report.out_of_range;
    else ++report.counts[static_cast<size_t>(label[row])];
  }

  const auto say = [&](const std::string& line) { report.message += (report.message.empty() ? "" : "\n") + line; };
  bool sound = true;
  for (int64_t c = 0; c < classes; ++c) {
    const int64_t count = report.counts[static_cast<size_t>(c)];
    const double weight = weights ? weights.data<double>()[c] : 1;
    if (count == 0) report.missing.push_back(c);
    else report.weight += weight * static_cast<double>(count);
    if (sound && !(weight >= 0 && std::isfinite(weight))) {
      say(fmt::format("the weight of class {} is {}", c, weight));
      sound = false;
    }
  }
  if (report.out_of_range > 0)
    say(fmt::format("{} ({} of {} rows)", range.message(), report.out_of_range, report.rows));
  if (report.rows == report.ignored)
    say(fmt::format("no row counts: {} rows, {} of them ignored", report.rows, report.ignored));
  else if (report.weight == 0 && report.out_of_range == 0)
    say("the class weights of all labels sum to 0, so the mean is over nothing");
  return report;
}

std::string LabelReport::str() const {
  std::string text = fmt::format("{} rows, {} ignored ({:.1f} %), {} classes, {} of them never occur", rows, ignored,
                                 100 * ignored_share(), counts.size(), missing.size());
  if (!counts.empty()) {
    const auto [rarest, commonest] = std::ranges::minmax_element(counts);
    text += fmt::format("\nrarest class {}: {} rows; commonest class {}: {} rows", rarest - counts.begin(), *rarest,
                        commonest - counts.begin(), *commonest);
  }
  return message.empty() ? text : text + "\n" + message;
}

}  // namespace xent
