#include <algorithm>
#include <cstddef>

#include <xent/core/require.h>
#include <xent/core/tape.h>

namespace xent {

namespace {

auto position(auto& entries, uint64_t id) {
  return std::lower_bound(entries.begin(), entries.end(), id,
                          [](const auto& entry, uint64_t key) { return entry.first < key; });
}

// Says whether two tensors share bytes.
bool overlap(const Tensor& a, const Tensor& b) {
  if (a.storage() != b.storage()) return false;
  const auto* first = static_cast<const std::byte*>(a.raw());
  const auto* second = static_cast<const std::byte*>(b.raw());
  return first < second + b.bytes() && second < first + a.bytes();
}

}  // namespace

Gradients Gradients::zeros(std::span<const Tensor> tensors) {
  Gradients gradients;
  for (const Tensor& x : tensors) {
    Tensor gradient = Tensor::persistent("Gradients::zeros", x.shape(), x.dtype(), x.device());
    gradient.fill(0);
    gradients.set(x, std::move(gradient));
  }
  return gradients;
}

const Tensor* Gradients::find(uint64_t id) const {
  const auto found = position(entries_, id);
  return found != entries_.end() && found->first == id ? &found->second : nullptr;
}

const Tensor* Gradients::find(const Tensor& x) const { return find(x.id()); }

const Tensor& Gradients::operator[](const Tensor& x) const {
  const Tensor* gradient = find(x);
  require<TapeError>(
      gradient != nullptr,
      "no gradient for a tensor of shape {}: watch it before it is used, and make sure the loss depends on it",
      x.shape());
  return *gradient;
}

void Gradients::set(const Tensor& x, Tensor gradient) {
  require<ArgumentError>(x && gradient, "Gradients::set: an empty tensor handle");
  require<ShapeError>(gradient.shape() == x.shape(), "Gradients::set: gradient {} for a tensor {}", gradient.shape(),
                      x.shape());
  require<DTypeError>(gradient.dtype() == x.dtype(), "Gradients::set: gradient of {} for a tensor of {}",
                      gradient.dtype(), x.dtype());
  bool shared = overlap(gradient, x);
  for (const auto& [id, other] : entries_) shared |= id != x.id() && overlap(gradient, other);
  require<ArgumentError>(!shared, "Gradients::set: the bytes are in use for another tensor; clone() them");
  set(x.id(), std::move(gradient));
}

void Gradients::set(uint64_t id, Tensor gradient) {
  const auto found = position(entries_, id);
  if (found != entries_.end() && found->first == id) found->second = std::move(gradient);
  else entries_.insert(found, {id, std::move(gradient)});
}

void Gradients::fill(double value) {
  for (auto& [id, gradient] : entries_) gradient.fill(value);
}

}  // namespace xent
