// The preparation of a loss: how many blocks it takes. Its kernels: loss_prepare.cuh.
#include <algorithm>

#include <xent/cuda/loss_prepare.cuh>

namespace xent::cuda {

void prepare_loss(const Call& call, const LossPreparation& p) {
  const LossTarget& target = p.target;
  const bool looks = p.sums_shares || p.checks_labels, by_warps = target.dense && target.inner.by == 1;
  constexpr int64_t per_block = 1 << 13, most_blocks = kernels::preparing_threads;
  const int64_t numbers = target.rows() * (target.dense ? target.classes() : 1);
  const int64_t blocks = looks ? std::clamp<int64_t>((numbers + per_block - 1) / per_block, 1, most_blocks) : 1;
  const Grid grid = {.blocks = static_cast<unsigned>(blocks),
                     .threads = kernels::preparing_threads,
                     .max_threads = kernels::preparing_threads};
  start(call, "prepare_loss", grid, by_warps ? kernels::prepare_rows<32> : kernels::prepare_rows<1>, p);
  if (blocks == 1) return;
  Grid one = grid;
  one.blocks = 1;
  start(call, "add_shares", one, kernels::add_shares, p, static_cast<int>(blocks));
}

}  // namespace xent::cuda
