// Checkpoint: keeps in a file what a run needs to go on as if it had never stopped.
//
//   Checkpoint checkpoint;
//   checkpoint.add(model);
//   checkpoint.add("optimizer", optimizer);
//   checkpoint.add("random", generator.state());
//   checkpoint.add("train", loader);
//   if (resume) checkpoint.load("run.safetensors");
//   while (loader.position().epoch < 5) {
//     for (const Batch& batch : loader) train_step(batch.images, batch.labels);
//     checkpoint.save("run.safetensors");
//     checkpoint.save_best("best.safetensors", accuracy(test));
//   }
//
// The file is in the safetensors format, with a checksum: docs/checkpoints.md. Whatever happens while one is saved,
// a whole one is there: the one before or the new one. Loading is all or nothing too, and no parameter's bytes move:
// they are written over, so Steps and optimizers go on with them.
//
// Whatever cannot be read or written is an Error with the system's text; a file that is damaged, or that something else
// was saved in, is a FormatError; saving and loading inside a Step are ReplayErrors.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include <xent/nn/loader.h>
#include <xent/nn/module.h>

namespace xent {

struct LoadOptions {
  bool ignore_extra = false;     // tensors in the file that nothing was added for
  bool require_checksum = true;  // false: also files that others wrote; a checksum that is there still has to hold
};

// A part of a run that lists its tensors: an optimizer, a schedule, a second model.
template <class Part>
concept HasState = requires(Part& part) {
  { part.state() } -> std::same_as<std::vector<NamedTensor>>;
};

class Checkpoint {
 public:
  // Says what is kept, in the order of the file. Handles to the tensors are kept, as an optimizer does: move a model,
  // and add its layers and groups, before; what comes later is not saved. Loaders and numbers are kept by reference,
  // and have to outlive the Checkpoint.
  //
  // Throws ArgumentError, and adds nothing, for a name that is there already, is empty, is not UTF-8 or has a space in
  // it. A tensor that is added under a second name is kept once, under its first.
  void add(Module& model);  // "fc1.weight", "fc1.bias", ...: named as in PyTorch
  template <HasState Part>
  void add(const std::string& name, Part& part) {  // "optimizer.step", "optimizer.0.m.fc1.weight", ...
    add_part(name, part.state());
  }
  void add(const std::string& name, const Tensor& tensor);  // Generator::state(), for one
  void add(const std::string& name, Loader& loader);        // its position: i64 [3], seed, epoch and next batch
  void add(const std::string& name, int64_t& number);       // i64 []
  void add(const std::string& name, double& number);        // f64 []

  // Writes a file, in place of one that is there. The same state gives the same bytes.
  void save(const std::string& path) const;

  // Saves if the score is higher than at every call before, and says whether it did. NaN is never higher. The best
  // score is part of every checkpoint from then on ("best_score", f64 []), so that a run that goes on knows it.
  bool save_best(const std::string& path, double score);
  double best_score() const { return best_score_; }  // -infinity before there is one

  // Reads a file into all that was added. Throws, and changes nothing, unless the file is whole and has a tensor of the
  // same name, dtype and shape for each of them, and no others.
  void load(const std::string& path, const LoadOptions& options = {}) { read(path, options, false); }

 private:
  struct Entry {
    std::string name;
    std::variant<Tensor, Loader*, int64_t*, double*> value;
  };
  friend void load_parameters(Module& model, const std::string& path, const LoadOptions& options);

  void add_part(const std::string& name, const std::vector<NamedTensor>& tensors);
  void append_part(const std::string& name, std::vector<Entry> entries);
  void append(std::vector<Entry> entries);
  void write(const std::string& path, double best_score) const;
  void read(const std::string& path, const LoadOptions& options, bool model_only);

  std::vector<Entry> entries_;
  std::vector<std::string> parts_;  // the names given; what is not of these is the model's
  double best_score_ = -std::numeric_limits<double>::infinity();
};

// Writes a model's parameters and buffers, and nothing else: what it takes to use it.
void save_parameters(Module& model, const std::string& path);

// Reads them, from such a file or from a whole checkpoint. What was added to that with a name ("optimizer") is left
// out, and what is left has to be this model: a tensor too many or too few, or of another shape, is a FormatError.
//
//   load_parameters(model, "best.safetensors");
void load_parameters(Module& model, const std::string& path, const LoadOptions& options = {});

// Throws Error if a checkpoint could not be saved there, by making the temporary file and removing it: so that a run
// fails before it trains, and not after.
void require_writable(const std::string& path);

}  // namespace xent
