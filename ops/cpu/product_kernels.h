// Picks the kernels of products and convolutions for the machine that the program runs on.
#pragma once

#include <algorithm>
#include <cstdint>

#include <xent/ops/cpu/direct_kernel.h>
#include <xent/ops/cpu/gemm_kernel.h>
#include <xent/ops/cpu/winograd_kernel.h>

namespace xent::cpu {

// Null without a wide instruction set; Winograd's are for f32 alone.
template <class T>
struct ProductKernels {
  const GemmKernel<T>* gemm = nullptr;
  const DirectKernel<T>* direct = nullptr;
  const WinogradKernel* winograd = nullptr;
};

template <class T>
ProductKernels<T> product_kernels();
template <>
ProductKernels<float> product_kernels();
template <>
ProductKernels<double> product_kernels();

// Calls body(first column, columns) for the panels of a product's right side, each as wide as gemm's kernel takes it.
template <class T, class Body>
void each_panel(int64_t columns, const Body& body) {
  const int64_t width = product_kernels<T>().gemm->width;
  for (int64_t column = 0; column < columns; column += width) body(column, std::min(width, columns - column));
}

}  // namespace xent::cpu
