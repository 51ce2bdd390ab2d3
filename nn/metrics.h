// Metrics: accumulated on the device in every step, read once per epoch.
//
//   Mean train_loss;
//   Step train_step([&](const Tensor& images, const Tensor& labels) {
//     ...
//     train_loss.add(loss, images.shape()[0]);
//   });
//   train_loss.value();  // waits for the device
//   train_loss.reset();
#pragma once

#include <xent/core/tensor.h>

namespace xent {

// What both metrics are: a total and a count.
class Metric {
 public:
  double value() const;  // total / count; NaN before anything was added
  int64_t count() const;
  void reset();

  Metric(const Metric&) = delete;  // a copy would add to the same total
  Metric& operator=(const Metric&) = delete;

 protected:
  explicit Metric(Device device);
  Tensor state_;  // f64 [2]
};

// The mean of values, each standing for `count` rows.
class Mean : public Metric {
 public:
  explicit Mean(Device device = Device::cpu()) : Metric(device) {}
  void add(const Tensor& value, int64_t count);  // value: one element
};

// The share of rows whose largest logit is the label's.
class Accuracy : public Metric {
 public:
  explicit Accuracy(Device device = Device::cpu()) : Metric(device) {}
  void add(const Tensor& logits, const Tensor& labels);  // [rows, classes], [rows]
};

}  // namespace xent
