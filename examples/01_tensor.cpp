// Makes tensors, computes with them, and looks at them.
//
// New here: shape and dtype, operators with broadcasting, reductions, views that share bytes.
#include <cstdio>
#include <iostream>

#include <xent/xent.h>

using namespace xent;

int main() {
  Tensor x = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3});  // f32 unless you say otherwise
  std::cout << "x:\n" << x << "\n\n";

  Tensor column_means = mean(x, {0});                                       // [2, 3] -> [3]
  std::cout << "x - mean of its columns:\n" << x - column_means << "\n\n";  // [3] is stretched along the rows

  std::cout << "x times its transpose:\n" << matmul(x, x, {.transpose_b = true}) << "\n\n";  // [2, 3] [3, 2] -> [2, 2]

  Tensor second_row = x.slice(1, 2);  // shares the bytes of x
  second_row.fill(0);
  std::cout << "x after its second row was filled with 0:\n" << x << "\n\n";

  Tensor half = cast(Tensor::from({0.1, 65504, 65520}, {3}), DType::f16);
  std::cout << "rounded to f16:\n" << half << "\n\n";

  std::printf("the sum of x is %g\n", sum(x).item());
}
