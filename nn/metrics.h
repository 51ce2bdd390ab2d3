// Metrics: accumulated on the device in every step, read once per epoch.
//
//   Mean train_loss;
//   Step train_step([&](const Tensor& images, const Tensor& labels) {
//     ...
//     train_loss.add(loss, images.shape()[0]);
//   });
//   train_loss.value();  // waits for the device
//   train_loss.reset();
//
// A checkpoint in the middle of an epoch saves them too: checkpoint.add("train_loss", train_loss.state()).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <xent/core/tensor.h>

namespace xent {

// What Mean and Accuracy are: a total and a count.
class Metric {
 public:
  double value() const;  // total / count; NaN before anything was added
  int64_t count() const;
  void reset();  // throws ReplayError inside a Step

  const Tensor& state() const { return state_; }  // f64 [2], {total, count}

  Metric(const Metric&) = delete;  // a copy would add to the same total
  Metric& operator=(const Metric&) = delete;

 protected:
  explicit Metric(Device device);  // throws ReplayError inside a Step
  Tensor state_;
};

// The mean of values, each standing for `count` rows.
class Mean : public Metric {
 public:
  explicit Mean(Device device = Device::cpu()) : Metric(device) {}
  void add(const Tensor& value, int64_t count);  // value: one element
};

// The share of rows whose label is the largest logit, or among the `top` largest ones; the first among equals ranks
// higher, and a row with a NaN is wrong. Throws ArgumentError for a top below 1.
//
//   Accuracy accuracy, top5(5);
class Accuracy : public Metric {
 public:
  explicit Accuracy(Device device = Device::cpu()) : Metric(device) {}
  explicit Accuracy(int64_t top, Device device = Device::cpu());
  void add(const Tensor& logits, const Tensor& labels);  // [rows, classes], [rows]; throws LabelError as the loss does

 private:
  int64_t top_ = 1;
};

// Counts which class was taken for which. A row with a NaN predicts nothing and is left out.
//
//   ConfusionMatrix confusion(10);
//   confusion.add(logits, labels);  // per step
//   confusion.recall(3);            // how many of the threes were found; reading waits for the device
//   confusion.str();                // with two classes, named {"cat", "dog"}:
//
//   label \ predicted     cat    dog  recall
//   cat                     7      1   87.5%
//   dog                     0      8  100.0%
//   precision          100.0%  88.9%   93.8%
class ConfusionMatrix {
 public:
  // Throws ArgumentError if there is no class, DeviceError if there is no memory, ReplayError inside a Step.
  explicit ConfusionMatrix(int64_t classes, Device device = Device::cpu());
  ConfusionMatrix(const ConfusionMatrix&) = delete;  // a copy would add to the same counts
  ConfusionMatrix& operator=(const ConfusionMatrix&) = delete;

  void add(const Tensor& logits, const Tensor& labels);  // [rows, classes], [rows]; throws LabelError as the loss does

  int64_t classes() const { return state_.shape()[0]; }

  // Returns how many rows of each label got each prediction: [classes, classes], row by row, a row per label.
  std::vector<int64_t> counts() const;

  // Shares; NaN where there is nothing to share. They throw ArgumentError for a class that is not in [0, classes).
  double recall(int64_t label) const;          // of the label's rows, those predicted as such
  double precision(int64_t prediction) const;  // of the rows predicted as such, those that are
  double accuracy() const;                     // of all rows, those predicted as what they are

  void reset();  // throws ReplayError inside a Step

  // Shows counts as a table, recall on the right, precision below, accuracy in the corner; a dash where there is none.
  // The classes' names are their numbers if none are given. Throws ArgumentError unless there are as many as classes.
  std::string str(const std::vector<std::string>& names = {}) const;

  const Tensor& state() const { return state_; }  // i64 [classes, classes]

 private:
  Tensor state_;
};

}  // namespace xent
