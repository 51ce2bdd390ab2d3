#include <set>

#include <xent/nn/compat/tensorflow.h>

#include "golden_calls.h"

namespace golden {

namespace {

namespace losses = xent::compat::tensorflow::losses;

// The files name a reduction; what is no name goes to the function as it is.
std::string reduction(const Arguments& args) {
  static const std::map<std::string, std::string_view> reductions = {
      {"NONE", losses::Reduction::NONE},
      {"SUM", losses::Reduction::SUM},
      {"MEAN", losses::Reduction::MEAN},
      {"SUM_BY_NONZERO_WEIGHTS", losses::Reduction::SUM_BY_NONZERO_WEIGHTS}};
  const std::string name = args.text("reduction", "SUM_BY_NONZERO_WEIGHTS");
  const auto found = reductions.find(name);
  return found == reductions.end() ? name : std::string(found->second);
}

losses::Weights weights(const Arguments& args, const Tensor& input) {
  if (input && args.has("weights")) throw Malformed("weights are an input or an argument, not both");
  if (input) return input;
  if (args.none("weights")) return std::nullopt;
  return args.number("weights", 1);
}

Tensor dense(const Arguments& args, const Tensor& labels, const Tensor& logits, const Tensor& weight) {
  return losses::softmax_cross_entropy(labels, logits, weights(args, weight), args.number("label_smoothing", 0),
                                       args.optional_text("scope"), args.optional_text("loss_collection", "losses"),
                                       reduction(args));
}

Tensor sparse(const Arguments& args, const Tensor& labels, const Tensor& logits, const Tensor& weight) {
  return losses::sparse_softmax_cross_entropy(labels, logits, weights(args, weight), args.optional_text("scope"),
                                              args.optional_text("loss_collection", "losses"), reduction(args));
}

template <class Loss>
Results one_loss(const Case& wanted, const char* labels, Loss loss) {
  wanted.only_inputs({labels, "logits", "weights"});
  return differentiate(wanted, [&]() -> Tensors {
    const losses::Graph graph;
    Tensors outputs = {
        {"output", loss(wanted.args, wanted.input(labels), wanted.input("logits"), wanted.optional_input("weights"))}};
    if (wanted.outputs.contains("total_loss")) outputs["total_loss"] = losses::get_total_loss();
    return outputs;
  });
}

Results softmax_cross_entropy(const Case& wanted) {
  wanted.args.only({"weights", "label_smoothing", "scope", "loss_collection", "reduction"});
  return one_loss(wanted, "onehot_labels", dense);
}

Results sparse_softmax_cross_entropy(const Case& wanted) {
  wanted.args.only({"weights", "scope", "loss_collection", "reduction"});
  return one_loss(wanted, "labels", sparse);
}

// ---- several losses in one graph ----

Tensor build(const Case& wanted, const json& entry, const std::string& k) {
  const Arguments args(entry, "losses[" + k + "]");
  args.only({"op", "weights", "label_smoothing", "scope", "loss_collection", "reduction"});
  const std::string op = args.text("op", "");
  const Tensor &labels = wanted.input("labels_" + k), &logits = wanted.input("logits_" + k);
  const Tensor weight = wanted.optional_input("weights_" + k);
  if (op == "softmax_cross_entropy") return dense(args, labels, logits, weight);
  if (op != "sparse_softmax_cross_entropy") throw Malformed("unknown op '" + op + "'");
  if (args.number("label_smoothing", 0) != 0) throw Malformed("the sparse loss has no label_smoothing");
  return sparse(args, labels, logits, weight);
}

void check_inputs(const Case& wanted, size_t count) {
  std::set<std::string> names;
  for (size_t k = 0; k < count; ++k)
    for (const char* name : {"labels_", "logits_", "weights_"}) names.insert(name + std::to_string(k));
  for (const auto& [name, tensor] : wanted.inputs)
    if (!names.contains(name)) throw Malformed("unknown input '" + name + "'");
}

Results total_loss(const Case& wanted) {
  const Arguments& args = wanted.args;
  args.only({"losses", "get_losses", "regularization_losses", "add_regularization_losses"});
  const json &entries = args.at("losses"), none = json::array();
  const json& regularization = args.has("regularization_losses") ? args.at("regularization_losses") : none;
  if (!entries.is_array() || !regularization.is_array()) throw Malformed("losses and regularization_losses are lists");
  check_inputs(wanted, entries.size());
  const xent::Device device = wanted.inputs.empty() ? xent::Device::cpu() : wanted.inputs.begin()->second.device();
  return differentiate(wanted, [&] {
    const losses::Graph graph;
    Tensors outputs;
    for (size_t k = 0; k < entries.size(); ++k) {
      const std::string number = std::to_string(k);
      outputs["loss_" + number] = build(wanted, entries[k], number);
    }
    for (const json& value : regularization) {
      if (!value.is_number()) throw Malformed("regularization_losses: " + value.dump() + " is no number");
      losses::add_regularization_loss(Tensor::scalar(value, DType::f32, device));
    }
    if (args.has("get_losses")) {
      const Arguments get(args.at("get_losses"), "get_losses");
      get.only({"scope", "loss_collection"});
      const auto found = losses::get_losses(get.optional_text("scope"), get.text("loss_collection", "losses"));
      for (size_t k = 0; k < found.size(); ++k) outputs["get_losses_" + std::to_string(k)] = found[k];
      outputs["count"] = Tensor::scalar(static_cast<double>(found.size()), DType::i64);
    }
    outputs["total_loss"] = losses::get_total_loss(args.flag("add_regularization_losses", true));
    return outputs;
  });
}

constexpr Api apis[] = {{"tf_softmax_cross_entropy", softmax_cross_entropy},
                        {"tf_sparse_softmax_cross_entropy", sparse_softmax_cross_entropy},
                        {"tf_total_loss", total_loss}};

}  // namespace

std::span<const Api> tensorflow_apis() { return apis; }

}  // namespace golden
