// Tensor: a cheap handle to contiguous, row-major elements on one device.
//
//   Tensor x = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3});  // f32, [2, 3]
//   Tensor y = x * x + 1.0;                               // ops are in ops/ops.h
//   y.to_vector<float>();                                 // {2, 5, 10, 17, 26, 37}
//   sum(y).item();                                        // 97
//
// Copies of a handle share bytes and id. Memory from elsewhere is copied in; there are no strides: a transpose is a
// flag of matmul, while reshape and slice share the bytes of their input.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <xent/core/convert.h>
#include <xent/core/device.h>
#include <xent/core/dtype.h>
#include <xent/core/error.h>
#include <xent/core/inline_vector.h>
#include <xent/core/shape.h>
#include <xent/core/storage.h>

namespace xent {

class Tensor {
 public:
  Tensor() = default;  // an empty handle: no bytes, false in a condition

  // ---- make ----

  // Takes memory without writing it.
  static Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu());

  // Makes a tensor of one value:  Tensor::full({2, 3}, 0.5)
  static Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = Device::cpu());
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu());
  static Tensor ones(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu());

  // Makes a scalar, shape [].
  static Tensor scalar(double value, DType dtype = DType::f32, Device device = Device::cpu());

  // Copies values from host memory:  Tensor::from({1, 2, 3}, {3});  Tensor::from<int64_t>({7, 2}, {2})
  // Throws ShapeError if there are not as many values as the shape says; ReplayError inside a Step.
  template <Element T = float>
  static Tensor from(std::initializer_list<std::type_identity_t<T>> values, const Shape& shape,
                     Device device = Device::cpu()) {
    return from_host(values.begin(), values.size(), shape, dtype_of<T>, device);
  }
  template <Element T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, Device device = Device::cpu()) {
    return from_host(values.data(), values.size(), shape, dtype_of<T>, device);
  }
  template <Element T>
  static Tensor from(std::span<const T> values, const Shape& shape, Device device = Device::cpu()) {
    return from_host(values.data(), values.size(), shape, dtype_of<T>, device);
  }

  // ---- ask ----

  explicit operator bool() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ ? storage_->device() : Device::cpu(); }
  int rank() const { return shape_.rank(); }
  int64_t elements() const { return shape_.elements(); }
  size_t bytes() const { return static_cast<size_t>(elements()) * size_of(dtype_); }
  uint64_t id() const { return id_; }  // the same for all copies of a handle

  // Copies the elements to the host. Waits for the device. Throws DTypeError unless T is the tensor's type, and
  // ReplayError inside a Step.
  template <Element T>
  std::vector<T> to_vector() const {
    std::vector<T> values(static_cast<size_t>(elements()));
    copy_to_host(values.data(), dtype_of<T>, "to_vector");
    return values;
  }

  // Returns the value of a tensor of one element, converted to T. Waits for the device. Throws ShapeError for another
  // number of elements, and ReplayError inside a Step.
  template <class T = double>
  T item() const {
    return dtype_ == DType::i64 ? convert<T>(item_i64()) : convert<T>(item_f64());
  }

  // Shows shape, dtype, device and values, at most eight per axis.
  std::string str() const;

  // ---- view and copy; the first three are differentiable ----

  Tensor reshape(const Shape& shape) const;        // same bytes, same number of elements
  Tensor slice(int64_t begin, int64_t end) const;  // rows [begin, end) of the first axis, same bytes
  Tensor clone() const;                            // own bytes
  Tensor detach() const;                           // same bytes, a new id: the tape does not know it
  Tensor to(Device device) const;                  // itself if it is there already

  // ---- write in place; bumps the version that the tape checks ----

  void copy_from(const Tensor& source);  // same shape and dtype, any device; not differentiable: see clone()
  void fill(double value);

  // Points at the first element on the host. Throws DTypeError, DeviceError off the CPU, ReplayError inside a Step.
  template <Element T>
  const T* data() const {
    return static_cast<const T*>(host_data(dtype_of<T>, false));
  }
  template <Element T>
  T* mutable_data() {
    return static_cast<T*>(host_data(dtype_of<T>, true));
  }

  // ---- gradients ----

  // Marks a tensor as one whose gradient every tape computes. Layers mark their parameters so.
  Tensor& set_requires_grad(bool on = true);
  bool requires_grad() const { return requires_grad_; }

  // ---- for the engine ----

  // Makes a handle to bytes that outlive the running Step: parameters, moments. Throws ReplayError inside a Step,
  // naming who asked.
  static Tensor persistent(const char* who, const Shape& shape, DType dtype = DType::f32,
                           Device device = Device::cpu());

  // Makes a handle with an id of its own to a part of another tensor's bytes.
  Tensor view(const Shape& shape, int64_t offset_elements) const;

  // Points at the bytes on their device. Throws ReplayError for a stale handle, Error for an empty one.
  void* raw() const;
  const StorageRef& storage() const { return storage_; }

  Tensor without_bytes() const;  // shape, dtype and id only
  Tensor renewed() const;        // the same bytes as a tensor of the Step's running call
  // Tapes with a serial up to this one did not see how the tensor was computed, and refuse to record its use.
  Tensor& mark_opaque(uint64_t tape);
  uint64_t opaque_to() const;

 private:
  static Tensor from_host(const void* values, size_t count, const Shape& shape, DType dtype, Device device);
  static Tensor wrap(StorageRef storage, const Shape& shape, DType dtype);
  void copy_to_host(void* values, DType dtype, const char* who) const;
  void* host_data(DType dtype, bool for_writing) const;
  double item_f64() const;
  int64_t item_i64() const;

  StorageRef storage_;
  int64_t offset_ = 0;  // bytes
  Shape shape_;
  uint64_t id_ = 0;
  uint64_t generation_ = 0;  // of the storage when the handle was made
  uint64_t opaque_to_ = 0;   // serial of a tape, 0: none
  DType dtype_ = DType::f32;
  bool requires_grad_ = false;
  bool detached_ = false;  // said to be a constant: marks of the bytes do not count
};

// The most inputs, and the most outputs, that an op has.
inline constexpr size_t most_operands = 10;

// What an op or a Step returns: a few tensors, without an allocation.
using Tensors = InlineVector<Tensor, most_operands>;

std::ostream& operator<<(std::ostream& out, const Tensor& tensor);

}  // namespace xent
