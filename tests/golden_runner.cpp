// golden_runner FILE...: runs the cases of golden files through nn/compat. A line for each case that fails
//
//   tf.json: tf_softmax_cross_entropy weights_rows_SUM: outputs.output[0] got 3.5, want 3.25, tolerance 1.2e-06
//
// and at last "N passed, N failed". The exit status is 1 if any failed or a file could not be read.
#include <iostream>

#include "golden_run.h"

// golden_runner_emulated is the same program on the emulated GPU.
#if defined(XENT_GOLDEN_CUDA)
constexpr xent::Device device = xent::Device::cuda();
#else
constexpr xent::Device device = {};
#endif

int main(int count, char** arguments) {
  if (count < 2) {
    std::cerr << "usage: golden_runner FILE...\n";
    return 2;
  }
  golden::Tally total;
  for (int i = 1; i < count; ++i) {
    const golden::Tally tally = golden::run_file(arguments[i], std::cout, device);
    total.passed += tally.passed;
    total.failed += tally.failed;
  }
  std::cout << total.passed << " passed, " << total.failed << " failed\n";
  return total.failed > 0;
}
