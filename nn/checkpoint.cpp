#include <xent/nn/checkpoint.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
#include <set>
#include <sstream>

#include <xent/core/memory.h>
#include <xent/core/require.h>
#include <xent/core/step_state.h>
#include <xent/nn/atomic_file.h>
#include <xent/nn/safetensors.h>

namespace xent {

namespace {

constexpr const char* best_score_name = "best_score";
constexpr double no_score = -std::numeric_limits<double>::infinity();
constexpr const char* parts_key = "parts";  // in the metadata: the names given, a space between them

// What a value is in a file.
Tensor as_tensor(const Tensor& tensor) { return tensor; }
Tensor as_tensor(const int64_t* number) { return Tensor::from<int64_t>({*number}, {}); }
Tensor as_tensor(const double* number) { return Tensor::from<double>({*number}, {}); }
Tensor as_tensor(const Loader* loader) {
  const auto [seed, epoch, batch] = loader->position();
  return Tensor::from<int64_t>({std::bit_cast<int64_t>(seed), epoch, batch}, {3});
}

// An element in a file, which need not be aligned.
template <class T>
T element(const StoredTensor& stored, size_t index = 0) {
  T value;
  std::memcpy(&value, stored.bytes + index * sizeof(T), sizeof(T));
  return value;
}

Loader::Position position_in(const StoredTensor& stored) {
  return {element<uint64_t>(stored, 0), element<int64_t>(stored, 1), element<int64_t>(stored, 2)};
}

// Writes what was read over a value. Nothing here throws, unless a GPU breaks: no memory is taken, and everything was
// checked.
void assign(const Tensor& tensor, const StoredTensor& stored) {
  if (tensor.elements() == 0) return;
  memory(tensor.device()).copy_from_host(tensor.device().index, tensor.raw(), stored.bytes, tensor.bytes());
  note_update(tensor);
}
void assign(int64_t* number, const StoredTensor& stored) { *number = element<int64_t>(stored); }
void assign(double* number, const StoredTensor& stored) { *number = element<double>(stored); }
void assign(Loader* loader, const StoredTensor& stored) { loader->set_position(position_in(stored)); }

void check_fits(const std::string& path, const std::string& name, const Tensor& wanted, const StoredTensor& stored) {
  require<FormatError>(stored.dtype == wanted.dtype() && stored.shape == wanted.shape(),
                       "checkpoint: '{}': the checkpoint has {} {} {}, here it is {} {}: it was made by another model",
                       path, name, stored.dtype, stored.shape, wanted.dtype(), wanted.shape());
}

void check_position(const std::string& path, const std::string& name, const Loader& loader,
                    const StoredTensor& stored) {
  try {
    loader.check_position(position_in(stored));
  } catch (const ArgumentError& error) {
    fail<FormatError>("checkpoint: '{}': {}: {}", path, name, error.what());
  }
}

std::vector<std::string> parts_in(const TensorFile& file) {
  const auto found = file.metadata.find(parts_key);
  std::istringstream words(found == file.metadata.end() ? "" : found->second);
  return {std::istream_iterator<std::string>(words), {}};
}

// Says whether a tensor was added under one of these names, or as part of what was.
bool belongs(const std::string& tensor, const std::vector<std::string>& parts) {
  return std::ranges::any_of(parts,
                             [&](const std::string& part) { return tensor == part || tensor.starts_with(part + "."); });
}

}  // namespace

// ---- add ----

void Checkpoint::add(Module& model) {
  std::vector<Entry> entries;
  for (const NamedTensor& tensor : model.state()) entries.push_back({tensor.name, tensor.value});
  require<ArgumentError>(!entries.empty(), "checkpoint: the model has no tensors; does it name its parts in visit()?");
  append(std::move(entries));
}

void Checkpoint::add(const std::string& name, const Tensor& tensor) { append_part(name, {{name, tensor}}); }
void Checkpoint::add(const std::string& name, Loader& loader) { append_part(name, {{name, &loader}}); }
void Checkpoint::add(const std::string& name, int64_t& number) { append_part(name, {{name, &number}}); }
void Checkpoint::add(const std::string& name, double& number) { append_part(name, {{name, &number}}); }

void Checkpoint::add_part(const std::string& name, const std::vector<NamedTensor>& tensors) {
  std::vector<Entry> entries;
  for (const NamedTensor& tensor : tensors) entries.push_back({name + "." + tensor.name, tensor.value});
  append_part(name, std::move(entries));
}

void Checkpoint::append_part(const std::string& name, std::vector<Entry> entries) {
  const bool has_space = std::ranges::any_of(name, [](unsigned char c) { return c <= ' '; });
  require<ArgumentError>(!name.empty() && !has_space, "checkpoint: '{}' is no name: it is empty or has a space", name);
  require<ArgumentError>(std::ranges::find(parts_, name) == parts_.end(), "checkpoint: '{}' is added twice", name);
  std::vector<std::string> parts = parts_;
  parts.push_back(name);
  append(std::move(entries));
  parts_ = std::move(parts);
}

void Checkpoint::append(std::vector<Entry> entries) {
  std::vector<Entry> all = entries_;
  for (Entry& entry : entries) {
    require<ArgumentError>(safetensors::is_name(entry.name) && entry.name != best_score_name,
                           "checkpoint: a tensor cannot be named '{}'", entry.name);
    require<ArgumentError>(std::ranges::find(all, entry.name, &Entry::name) == all.end(),
                           "checkpoint: '{}' is added twice", entry.name);
    const Tensor* tensor = std::get_if<Tensor>(&entry.value);
    require<ArgumentError>(!tensor || *tensor, "checkpoint: '{}' is an empty tensor handle", entry.name);
    require<ReplayError>(!tensor || !tensor->storage()->in_arena(),
                         "checkpoint: '{}' was made in a Step, which reuses its memory; add a clone() of it",
                         entry.name);
    const auto is_same = [&](const Entry& other) {
      const Tensor* there = std::get_if<Tensor>(&other.value);
      return tensor && there && there->id() == tensor->id();
    };
    if (std::ranges::none_of(all, is_same)) all.push_back(std::move(entry));
  }
  entries_ = std::move(all);
}

// ---- save ----

void Checkpoint::save(const std::string& path) const { write(path, best_score_); }

bool Checkpoint::save_best(const std::string& path, double score) {
  if (!(score > best_score_)) return false;
  write(path, score);
  best_score_ = score;  // not if it could not be saved
  return true;
}

void Checkpoint::write(const std::string& path, double best_score) const {
  require_outside_step("Checkpoint::save", "save between the calls");
  std::vector<NamedTensor> tensors;
  for (const Entry& entry : entries_)
    tensors.push_back({entry.name, std::visit([](const auto& value) { return as_tensor(value); }, entry.value)});
  Metadata metadata;
  if (!parts_.empty()) metadata[parts_key] = fmt::format("{}", fmt::join(parts_, " "));
  if (best_score > no_score) tensors.push_back({best_score_name, as_tensor(&best_score)});
  write_safetensors(path, tensors, metadata);
}

// ---- load ----

void Checkpoint::read(const std::string& path, const LoadOptions& options, bool model_only) {
  require_outside_step("Checkpoint::load", "load between the calls");
  const TensorFile file = read_safetensors(path, options.require_checksum);

  // First everything is checked, then everything is written.
  std::set<std::string_view> known = {best_score_name};
  std::vector<const StoredTensor*> found;
  for (const Entry& entry : entries_) {
    const auto at = file.tensors.find(entry.name);
    require<FormatError>(at != file.tensors.end(),
                         "checkpoint: '{}' has no {}: it was made by another model, or without adding that", path,
                         entry.name);
    check_fits(path, entry.name, std::visit([](const auto& value) { return as_tensor(value); }, entry.value),
               at->second);
    if (Loader* const* loader = std::get_if<Loader*>(&entry.value))
      check_position(path, entry.name, **loader, at->second);
    found.push_back(&at->second);
    known.insert(entry.name);
  }
  const std::vector<std::string> parts = model_only ? parts_in(file) : std::vector<std::string>();
  for (const auto& [name, stored] : file.tensors)
    require<FormatError>(options.ignore_extra || known.contains(name) || belongs(name, parts),
                         "checkpoint: '{}' has {:.100} {} {}, for which there is nothing here: it was made by another "
                         "model; .ignore_extra = true leaves it out",
                         path, name, stored.dtype, stored.shape);
  double best_score = no_score;
  if (const auto at = file.tensors.find(best_score_name); at != file.tensors.end()) {
    check_fits(path, best_score_name, as_tensor(&best_score), at->second);
    assign(&best_score, at->second);
  }

  for (size_t i = 0; i < entries_.size(); ++i)
    std::visit([&](const auto& value) { assign(value, *found[i]); }, entries_[i].value);
  best_score_ = std::isnan(best_score) ? no_score : best_score;
}

// ---- functions ----

void save_parameters(Module& model, const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.add(model);
  checkpoint.save(path);
}

void load_parameters(Module& model, const std::string& path, const LoadOptions& options) {
  Checkpoint checkpoint;
  checkpoint.add(model);
  checkpoint.read(path, options, true);
}

void require_writable(const std::string& path) { AtomicFile file(path); }

}  // namespace xent
