// Differentiates: a tape records what is computed while it lives, and walks it backwards.
//
// New here: watch, backward, what the tape keeps, and the check that a gradient is right.
#include <cstdio>
#include <iostream>

#include <xent/xent.h>

using namespace xent;

int main() {
  Tensor x = Tensor::from({0.5, -1, 2}, {1, 3});
  Tensor w = Tensor::from({0.1, -0.2, 0.3, 0.4, -0.5, 0.6}, {3, 2});

  Tape tape;
  tape.watch(w);                  // we want its gradient
  Tensor y = tanh(matmul(x, w));  // [1, 2]
  Tensor loss = sum(y * y);       // []
  std::cout << tape.print() << '\n';

  Gradients gradients = tape.backward(loss);
  std::cout << "d loss / d w:\n" << gradients[w] << "\n\n";

  // Is it right? Compare with differences along random directions, in f64.
  GradientReport report = check_gradients(
      [&](std::span<const Tensor> in) {
        Tensor z = tanh(matmul(cast(x, DType::f64), in[0]));
        return sum(z * z);
      },
      {cast(w, DType::f64)});
  std::printf("the gradient is right: %s\n", report.worst_error < 1e-9 ? "relative error below 1e-9" : "no");
}
