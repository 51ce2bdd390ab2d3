// InlineVector: a vector of at most N elements that never allocates.
#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>
#include <utility>

#include <xent/core/error.h>

namespace xent {

template <class T, size_t N>
class InlineVector {
 public:
  InlineVector() = default;
  InlineVector(std::initializer_list<T> values) {
    for (const T& value : values) push_back(value);
  }

  void push_back(T value) {
    if (size_ == N) throw ArgumentError("more elements than an InlineVector holds");
    elements_[size_++] = std::move(value);
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) { return elements_[i]; }
  const T& operator[](size_t i) const { return elements_[i]; }
  T* begin() { return elements_.data(); }
  T* end() { return elements_.data() + size_; }
  const T* begin() const { return elements_.data(); }
  const T* end() const { return elements_.data() + size_; }
  T* data() { return elements_.data(); }
  const T* data() const { return elements_.data(); }

 private:
  std::array<T, N> elements_{};
  size_t size_ = 0;
};

}  // namespace xent
