// check_labels: what a training run would trip over, found before it starts.
//
//   LabelReport report = check_labels(labels, 10, options);  // the options of the loss
//   if (!report) std::cerr << report.message << '\n';        // "row 3: label 10 is not in [0, 10) (labels look ...)"
//   report.counts;                                           // how often each class occurs: [6000, 6000, ...]
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <xent/ops/softmax_cross_entropy.h>

namespace xent {

struct LabelReport {
  int64_t rows = 0;
  int64_t ignored = 0;                // rows whose label the loss ignores
  int64_t out_of_range = 0;           // rows whose label is no class, whatever options.parity says
  std::vector<int64_t> counts = {};   // per class
  std::vector<int64_t> missing = {};  // classes that never occur
  double weight = 0;                  // sum of the labels' class weights: what a mean over all rows divides by
  std::string message = {};           // what is wrong, a line each; empty if training can start

  double ignored_share() const { return rows ? static_cast<double>(ignored) / static_cast<double>(rows) : 0; }
  explicit operator bool() const { return message.empty(); }
  std::string str() const;  // a few lines for a person: rows, ignored share, rarest and commonest class, message
};

// Counts labels of any shape, u8, i32 or i64, as softmax_cross_entropy with these options and inputs would take them.
// The message names labels out of range with a guess at the reason, a set without any label that counts, and weights
// that sum to zero or are negative or not finite. Classes that never occur are reported but are no fault. Throws
// DTypeError for other dtypes, ShapeError for weights that are not [classes], ArgumentError unless there are 1 to 2^24
// classes.
LabelReport check_labels(const Tensor& labels, int64_t classes, const SoftmaxCrossEntropyOptions& options = {},
                         const LossInputs& inputs = {});

}  // namespace xent
