// The option `validate`: how many blocks it takes. Its kernels: loss_validation.cuh.
#include <algorithm>

#include <xent/cuda/loss_validate.cuh>
#include <xent/cuda/loss_validation.cuh>

namespace xent::cuda {

void validate_loss(const Call& call, const char* op, const LossTarget& target, const LossScalars* scalars,
                   void* scratch) {
  const LossValidation v = {target, op, errors_of(call), scalars, static_cast<int64_t*>(scratch)};
  constexpr unsigned threads = kernels::validating_threads;
  const unsigned blocks = target.dense ? std::min(threads, blocks_for(target.rows(), threads / 32)) : 0;
  start(call, "find_bad_distribution", {blocks, threads, 0, threads}, kernels::find_bad_distribution, v);
  start(call, "report_invalid", {1, threads, 0, threads}, kernels::report_invalid, v, static_cast<int>(blocks));
}

}  // namespace xent::cuda
