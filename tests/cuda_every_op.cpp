// What every op of the table owes on CUDA: what it gives on the CPU, the same bits in every order of threads and
// blocks, and the same bits when it is replayed as a graph.
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "cuda_orders.h"

using namespace xent;

namespace {

std::vector<Tensor> run(const Op& op, const Sample& sample) {
  std::vector<Tensor> values;
  for (const OpResult& result : run_op(op, sample, Device::cuda())) values.push_back(result.value);
  return values;
}

bool on_cuda(const Op& op) { return (op.view || op.forward.cuda) && (!op.backward.cpu || op.backward.cuda); }

}  // namespace

TEST_CASE("every op of the table has its kernels for CUDA") {
  for (const Op* op : all_ops()) {
    CAPTURE(op->name);
    CHECK(on_cuda(*op));
  }
}

// Samples have numbers of size 1 and sums of a few thousand of them. The two devices add in different orders and
// their elementary functions differ by an ulp or two: some 1e-6 in f32, 1e-15 in f64, with room for cancellation.
TEST_CASE("every op gives on CUDA what it gives on the CPU, forward and backward") {
  for (const Op* op : all_ops()) {
    if (!op->samples) continue;
    for (const DType dtype : {DType::f32, DType::f64}) {
      if (looks_for_races && dtype == DType::f64) continue;
      const GradientReport report = check_device(*op, dtype);
      CHECK_MESSAGE(report.passed, report.message);
    }
  }
}

TEST_CASE("every op gives the same bits on CUDA in every order of threads and blocks") {
  if (looks_for_races) return;  // these are the kernels of the test before
  for (const Op* op : all_ops()) {
    if (!op->samples) continue;
    for (const DType dtype : {DType::f32, DType::f64})
      for (const Sample& sample : op->samples(dtype)) {
        CAPTURE(op->name);
        CAPTURE(name(dtype));
        in_every_order([&] { return run(*op, sample); });
      }
  }
}

TEST_CASE("every op gives the same bits on CUDA eager, recorded, and replayed as a graph") {
  if (looks_for_races) return;  // these are the kernels of the test before
  for (const Op* op : all_ops()) {
    if (!op->samples) continue;
    for (const DType dtype : {DType::f32, DType::f64}) {
      const GradientReport report = check_replay(*op, dtype, Device::cuda());
      CHECK_MESSAGE(report.passed, report.message);
    }
  }
}
