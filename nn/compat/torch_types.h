// PyTorch's dtypes: their names in its messages, and which of two a result has. Private.
#pragma once

#include <string_view>

#include <xent/core/dtype.h>
#include <xent/core/tensor.h>
#include <xent/nn/compat/as_dtype.h>
#include <xent/ops/ops.h>

namespace xent::compat::torch {

inline std::string_view scalar_type(DType dtype) {
  switch (dtype) {
    case DType::f32: return "Float";
    case DType::f64: return "Double";
    case DType::f16: return "Half";
    case DType::bf16: return "BFloat16";
    case DType::u8: return "Byte";
    case DType::i32: return "Int";
    case DType::i64: return "Long";
  }
  return "?";
}

// Returns the dtype of a product of two tensors: floats before integers, the larger one of two, f32 for f16 and bf16.
constexpr DType promote(DType a, DType b) {
  if (a == b) return a;
  if (is_floating(a) != is_floating(b)) return is_floating(a) ? a : b;
  if (size_of(a) == size_of(b)) return DType::f32;
  return size_of(a) > size_of(b) ? a : b;
}

// The type that softmax_cross_entropy computes in.
constexpr DType arithmetic(DType logits) { return logits == DType::f64 ? DType::f64 : DType::f32; }

// Converts weights or a distribution to what may come with these logits: their dtype, or the one computed in.
inline Tensor beside(const Tensor& logits, const Tensor& x) {
  return x && x.dtype() != logits.dtype() ? as_dtype(x, arithmetic(logits.dtype())) : x;
}

}  // namespace xent::compat::torch
