// tf.losses of TensorFlow r1.4: softmax cross-entropy with weights, and the collections that losses go to.
//
//   namespace losses = compat::tensorflow::losses;
//   losses::Graph graph;                                       // in place of a tf.Graph
//   losses::softmax_cross_entropy(onehot_labels, logits);      // [64, 10], [64, 10] -> []
//   losses::sparse_softmax_cross_entropy(labels, other, 0.5);  // [64], [64, 10] -> []
//   Tensor loss = losses::get_total_loss();
//
// Logits are f16, f32 or f64, the classes lie on the last axis, and labels come first. What the original refuses is a
// Refused in its words, a label out of range a LabelError. docs/compat/tensorflow.md shows both sides.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <xent/core/tensor.h>
#include <xent/nn/compat/refused.h>

namespace xent::compat::tensorflow::losses {

// What the weighted losses of the rows are reduced to. A mean is 0 if it would divide by 0 or less.
struct Reduction {
  static constexpr std::string_view NONE = "none";           // one loss per row
  static constexpr std::string_view SUM = "weighted_sum";    // their sum
  static constexpr std::string_view MEAN = "weighted_mean";  // the sum by that of the weights, one weight per row
  static constexpr std::string_view SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights";  // by their number
};

// A number, or a tensor of any dtype: a scalar, or of the losses' rank with extents that are theirs or 1. A tensor is
// differentiable; in a mean the denominator is too. std::nullopt and an empty handle are None, which is refused.
class Weights {
 public:
  Weights(double number) : value_(number) {}
  Weights(Tensor tensor) {
    if (tensor) value_ = std::move(tensor);
  }
  Weights(std::nullopt_t) {}

  bool none() const { return std::holds_alternative<std::monostate>(value_); }
  const double* number() const { return std::get_if<double>(&value_); }
  const Tensor* tensor() const { return std::get_if<Tensor>(&value_); }

 private:
  std::variant<std::monostate, double, Tensor> value_;
};

// Collects the losses computed on this thread while it lives, under names of their own; it ends on this thread too.
// Graphs nest: the innermost collects. Without one, losses are computed all the same, and collected nowhere.
class Graph {
 public:
  Graph();
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  static Graph* current();  // null if there is none

  // Makes a name unique: "head", then "head_1".
  std::string unique_name(const std::string& name);

  void add(const std::string& collection, std::string name, Tensor loss);

  // Returns a collection's losses, in the order they came, whose name begins with a match of the regular expression.
  std::vector<Tensor> get(const std::string& collection, const std::optional<std::string>& scope) const;

 private:
  struct Entry {
    std::string name;  // "head/value:0"
    Tensor loss;
  };

  std::map<std::string, std::vector<Entry>> collections_;
  std::map<std::string, int> names_;  // in use, and how often each was asked for
  Graph* outer_;
};

// Computes the loss of logits [..., classes] for distributions of the same shape and any dtype, constants here.
// Smoothing above 0 makes a label q (1 - label_smoothing) + label_smoothing / n, where n is the extent of axis 1, even
// if the classes lie on another one. The gradient of a row is softmax - label, whatever the label sums to.
//
//   softmax_cross_entropy(onehot_labels, logits, mask, 0.1, "head");  // [64, 10], [64, 10], [64] -> []
//
// scope names the loss, loss_collection says where it goes (std::nullopt or "": nowhere).
Tensor softmax_cross_entropy(const Tensor& onehot_labels, const Tensor& logits, const Weights& weights = 1.0,
                             double label_smoothing = 0, const std::optional<std::string>& scope = {},
                             const std::optional<std::string>& loss_collection = "losses",
                             std::string_view reduction = Reduction::SUM_BY_NONZERO_WEIGHTS);

// Computes the loss of logits [..., classes] for class indices [...] of i32 or i64. A last axis of extent 1 too many,
// of labels or logits, and then of weights, is taken away.
//
//   sparse_softmax_cross_entropy(labels, logits, weights);  // [64, 1], [64, 10], [64, 1] -> []
Tensor sparse_softmax_cross_entropy(const Tensor& labels, const Tensor& logits, const Weights& weights = 1.0,
                                    const std::optional<std::string>& scope = {},
                                    const std::optional<std::string>& loss_collection = "losses",
                                    std::string_view reduction = Reduction::SUM_BY_NONZERO_WEIGHTS);

// Adds a loss made elsewhere. This and the following throw ArgumentError without a Graph.
void add_loss(const Tensor& loss, const std::optional<std::string>& loss_collection = "losses");
void add_regularization_loss(const Tensor& loss);

// Returns the losses of a collection; scope keeps those whose name begins with a match of it, as a regular expression:
// "head" finds head_2 as well, "head/" does not. As in Python, some expressions take exponential time: do not take them
// from strangers.
std::vector<Tensor> get_losses(const std::optional<std::string>& scope = {},
                               const std::string& loss_collection = "losses");
std::vector<Tensor> get_regularization_losses(const std::optional<std::string>& scope = {});

// Adds up the collection "losses", and the regularization losses. They have one shape and dtype, or it is refused.
Tensor get_total_loss(bool add_regularization_losses = true);

}  // namespace xent::compat::tensorflow::losses
