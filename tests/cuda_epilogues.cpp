// linear where cuBLASLt has no epilogue: a cuBLASLt that has none is the emulator's alone, and so is this test.
#include <doctest/doctest.h>

#include <xent/cuda/emulator/blas/epilogues.h>
#include <xent/xent.h>

#include "cuda_trial.h"

using namespace xent;
using namespace cuda_trial;

// Its shapes are not another test's: a way that was found is kept.
TEST_CASE("without cuBLASLt's epilogues linear has the same bits") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const TensorList leaves = {normal_sample({11, 13}, dtype, 1), normal_sample({13, 17}, dtype, 2),
                               normal_sample({17}, dtype, 3)};
    const TensorList device = there(leaves);
    const auto forward = [&] { return linear(device[0], device[1], device[2]).to(Device::cpu()); };
    Tensor without;
    {
      const emulator::NoEpilogues none;
      without = forward();
    }
    const Tensor view = there(leaves[0], false);  // another alignment: asked for anew
    const Tensor with = linear(view, device[1], device[2]).to(Device::cpu());
    CHECK(same_bits(with, without));
    {
      const emulator::NoEpilogues none;  // found already, refused now
      CHECK(same_bits(linear(view, device[1], device[2]).to(Device::cpu()), without));
    }
  }
}
