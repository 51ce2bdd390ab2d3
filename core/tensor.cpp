#include <xent/core/tensor.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <ostream>

#include <xent/core/dispatch.h>
#include <xent/core/fill.h>
#include <xent/core/memory.h>
#include <xent/core/require.h>
#include <xent/core/step_state.h>
#include <xent/core/tape.h>

namespace xent {

namespace {

uint64_t next_id() {
  static std::atomic<uint64_t> last = 0;
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

// ---- make ----

Tensor Tensor::wrap(StorageRef storage, const Shape& shape, DType dtype) {
  Tensor tensor;
  tensor.generation_ = storage->generation();
  tensor.storage_ = std::move(storage);
  tensor.shape_ = shape;
  tensor.dtype_ = dtype;
  tensor.id_ = next_id();
  return tensor;
}

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  require<DTypeError>(size_of(dtype) > 0, "Tensor: unknown dtype {}", static_cast<int>(dtype));
  return wrap(Storage::allocate(static_cast<size_t>(shape.elements()) * size_of(dtype), device), shape, dtype);
}

Tensor Tensor::persistent(const char* who, const Shape& shape, DType dtype, Device device) {
  require<ReplayError>(!running_step(), "{} outlives a call of a Step; make it before the Step, not inside", who);
  return wrap(Storage::allocate_persistent(static_cast<size_t>(shape.elements()) * size_of(dtype), device), shape,
              dtype);
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor tensor = empty(shape, dtype, device);
  launch_fill(tensor, value);
  return tensor;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) { return full(shape, 0, dtype, device); }
Tensor Tensor::ones(const Shape& shape, DType dtype, Device device) { return full(shape, 1, dtype, device); }
Tensor Tensor::scalar(double value, DType dtype, Device device) { return full({}, value, dtype, device); }

Tensor Tensor::from_host(const void* values, size_t count, const Shape& shape, DType dtype, Device device) {
  require_outside_step("Tensor::from", "pass the values as an input of the Step, or make the tensor before it");
  require<ShapeError>(static_cast<int64_t>(count) == shape.elements(),
                      "Tensor::from: {} values for shape {}, which has {} elements", count, shape, shape.elements());
  Tensor tensor = empty(shape, dtype, device);
  if (count > 0) memory(device).copy_from_host(device.index, tensor.raw(), values, tensor.bytes());
  return tensor;
}

// ---- ask ----

void* Tensor::raw() const {
  require<ArgumentError>(storage_ != nullptr, "an empty tensor handle was used");
  require<ReplayError>(
      generation_ == storage_->generation(),
      "tensor {} was made in an earlier call of a Step, which has reused its memory; .clone() a result to keep it",
      shape_);
  return storage_->data() + offset_;
}

void Tensor::copy_to_host(void* values, DType dtype, const char* who) const {
  require<DTypeError>(dtype == dtype_, "{}: the tensor is {}, not {}; cast it first", who, dtype_, dtype);
  require_outside_step(who, "return the tensor and read or print it after the call");
  const void* from = raw();
  if (elements() > 0) memory(device()).copy_to_host(device().index, values, from, bytes());
}

void* Tensor::host_data(DType dtype, bool for_writing) const {
  require<DTypeError>(dtype == dtype_, "data: the tensor is {}, not {}", dtype_, dtype);
  require_outside_step("data()", "read or write the tensor outside");
  void* data = raw();
  require<DeviceError>(device() == Device::cpu(), "data: the tensor is on {}; use to_vector() or to(Device::cpu())",
                       device());
  if (for_writing) storage_->bump_version();
  return data;
}

double Tensor::item_f64() const {
  require<ShapeError>(elements() == 1, "item: the tensor has shape {}, not one element", shape_);
  return dispatch(dtype_, [&]<class T>() {
    T value;
    copy_to_host(&value, dtype_, "item()");
    if constexpr (std::is_class_v<T>) return static_cast<double>(static_cast<float>(value));
    else return static_cast<double>(value);
  });
}

int64_t Tensor::item_i64() const {
  require<ShapeError>(elements() == 1, "item: the tensor has shape {}, not one element", shape_);
  int64_t value = 0;
  copy_to_host(&value, dtype_, "item()");
  return value;
}

// ---- view and copy ----

Tensor Tensor::view(const Shape& shape, int64_t offset_elements) const {
  require<ShapeError>(offset_elements >= 0 && offset_elements <= elements() - shape.elements(),
                      "view: shape {} from element {} on is not within shape {}", shape, offset_elements, shape_);
  Tensor tensor = *this;
  tensor.shape_ = shape;
  tensor.offset_ += offset_elements * static_cast<int64_t>(size_of(dtype_));
  tensor.id_ = next_id();
  tensor.requires_grad_ = false;
  return tensor;
}

Tensor Tensor::detach() const {
  Tensor tensor = view(shape_, 0);
  tensor.opaque_to_ = 0;
  tensor.detached_ = true;
  return tensor;
}

Tensor Tensor::clone() const { return apply(copy_op, {*this})[0]; }

Tensor Tensor::to(Device device) const {
  if (device == this->device()) return *this;
  require_outside_step("to(device)", "move tensors before the Step");
  Tensor tensor = empty(shape_, dtype_, device);
  tensor.copy_from(*this);
  tensor.requires_grad_ = requires_grad_;
  return tensor;
}

// ---- write in place ----

void Tensor::copy_from(const Tensor& source) {
  require<ShapeError>(source.shape_ == shape_, "copy_from: shape {} into {}", source.shape_, shape_);
  require<DTypeError>(source.dtype_ == dtype_, "copy_from: {} into {}; cast first", source.dtype_, dtype_);
  void* to = raw();
  const void* from = source.raw();
  const Device here = device(), there = source.device();
  if (here != there) require_outside_step("copy_from another device", "copy before the Step");
  note_update(*this, {&source, 1});   // first: a device may tell of an error when all is written
  if (source.storage_ == storage_) {  // views that may overlap: by way of other bytes
    const Tensor between = empty(shape_, dtype_, here);
    launch_copy(between, source);
    launch_copy(*this, between);
  } else if (there == here) {
    launch_copy(*this, source);
  } else if (there == Device::cpu()) {
    memory(here).copy_from_host(here.index, to, from, bytes());
  } else if (here == Device::cpu()) {
    memory(there).copy_to_host(there.index, to, from, bytes());
  } else {
    std::vector<std::byte> host(bytes());
    memory(there).copy_to_host(there.index, host.data(), from, bytes());
    memory(here).copy_from_host(here.index, to, host.data(), bytes());
  }
}

void Tensor::fill(double value) {
  raw();  // throws for an empty or stale handle
  launch_fill(*this, value);
  note_update(*this);
}

// ---- gradients and the engine ----

Tensor& Tensor::set_requires_grad(bool on) {
  require<DTypeError>(!on || is_floating(dtype_), "set_requires_grad: a tensor of {} has no gradient", dtype_);
  requires_grad_ = on;
  return *this;
}

Tensor Tensor::without_bytes() const {
  Tensor tensor = *this;
  tensor.storage_ = nullptr;
  return tensor;
}

Tensor Tensor::renewed() const {
  Tensor tensor = *this;
  if (storage_ && storage_->in_arena()) {
    tensor.generation_ = storage_->generation();
    tensor.id_ = next_id();
  }
  return tensor;
}

uint64_t Tensor::opaque_to() const {
  return detached_ || !storage_ ? opaque_to_ : std::max(opaque_to_, storage_->opaque_to());
}

Tensor& Tensor::mark_opaque(uint64_t tape) {
  opaque_to_ = std::max(opaque_to_, tape);
  return *this;
}

}  // namespace xent
