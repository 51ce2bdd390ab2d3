// dispatch: from a DType to a template argument.
//
//   dispatch(x.dtype, [&]<class T>() { std::fill_n(x.as<T>(), n, T(0)); });
#pragma once

#include <xent/core/dtype.h>
#include <xent/core/error.h>

namespace xent {

// Calls f with the C++ type of any dtype.
template <class F>
decltype(auto) dispatch(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f.template operator()<float>();
    case DType::f64: return f.template operator()<double>();
    case DType::f16: return f.template operator()<Float16>();
    case DType::bf16: return f.template operator()<BFloat16>();
    case DType::u8: return f.template operator()<uint8_t>();
    case DType::i32: return f.template operator()<int32_t>();
    case DType::i64: return f.template operator()<int64_t>();
  }
  throw DTypeError("unknown dtype");
}

// Calls f with float or double: the types that ops compute in.
template <class F>
decltype(auto) dispatch_compute(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f.template operator()<float>();
    case DType::f64: return f.template operator()<double>();
    default: throw DTypeError("ops compute in f32 and f64; cast first");
  }
}

// Calls f with the C++ type of a floating dtype.
template <class F>
decltype(auto) dispatch_floating(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f.template operator()<float>();
    case DType::f64: return f.template operator()<double>();
    case DType::f16: return f.template operator()<Float16>();
    case DType::bf16: return f.template operator()<BFloat16>();
    default: throw DTypeError("a floating dtype is needed");
  }
}

// Calls f with the C++ type of a label dtype: u8, i32 or i64.
template <class F>
decltype(auto) dispatch_index(DType dtype, F&& f) {
  switch (dtype) {
    case DType::u8: return f.template operator()<uint8_t>();
    case DType::i32: return f.template operator()<int32_t>();
    case DType::i64: return f.template operator()<int64_t>();
    default: throw DTypeError("labels are u8, i32 or i64");
  }
}

}  // namespace xent
