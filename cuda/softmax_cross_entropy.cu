// softmax_cross_entropy on the GPU: which kernels a call takes.
//
//   prepare_loss         labels and weights: check, denominator, scale                  loss_scalars.cu
//   loss_of_tiles        up to 64 classes, next to each other                           loss_tile.cuh
//   loss_of_warps        up to 1024                                                     loss_warp.cuh
//   loss_in_registers    up to 32768 (16 bits: 65536), rows at multiples of 16 bytes    loss_registers.cuh
//   loss_of_blocks       up to 2^30, anywhere                                           loss_block.cuh
//   loss_general         distributions, options of other systems, classes on any axis   loss_general.cuh
//
// Two launches, preparation and rows. With the gradient, the logits are read once and the gradient is written once, in
// their place if they are given up; without, they are read once. loss_of_blocks and loss_general read a row again,
// which the caches mostly still have. docs/softmax_cross_entropy.md derives the formulas.
#include <algorithm>

#include <xent/cuda/loss_block.cuh>
#include <xent/cuda/loss_call.cuh>
#include <xent/cuda/loss_general.cuh>
#include <xent/cuda/loss_registers.cuh>
#include <xent/cuda/loss_samples.cuh>
#include <xent/cuda/loss_tile.cuh>
#include <xent/cuda/loss_warp.cuh>

namespace xent::cuda {

namespace {

using Kind = Reduction::Kind;

Grid grid_of(int64_t rows, int64_t rows_per_block, unsigned threads) {
  const int64_t blocks = (rows + rows_per_block - 1) / rows_per_block;
  return {.blocks = static_cast<unsigned>(std::clamp<int64_t>(blocks, 1, most_loss_threads / threads)),
          .threads = threads,
          .max_threads = threads};
}

// A block per row: as many as leave sums behind, several times what any GPU runs at once.
Grid grid_of_blocks(int64_t rows, unsigned threads, unsigned most_threads) {
  return {.blocks = static_cast<unsigned>(std::clamp<int64_t>(rows, 1, most_loss_blocks)),
          .threads = threads,
          .max_threads = most_threads};
}

template <class T, bool smoothed>
void start_tiles(const Call& call, const LossRows<T>& rows, size_t bytes) {
  Grid grid = grid_of(rows.target.rows(), tile_rows, tile_rows);
  grid.shared_bytes = bytes;
  start(call, "loss_of_tiles", grid, kernels::loss_of_tiles<T, smoothed>, rows);
}

// f64 has fewer: its exponential takes a page of instructions, and a lane would have one for each of its logits.
template <class T>
constexpr int most_of_warps = sizeof(T) == 8 ? 256 : 1024;

template <class T, bool smoothed>
void start_warps(const Call& call, const LossRows<T>& rows) {
  const int classes = rows.target.classes();
  auto kernel = classes <= 128 ? kernels::loss_of_warps<T, 4, smoothed> : kernels::loss_of_warps<T, 8, smoothed>;
  if constexpr (sizeof(T) < 8)
    if (classes > 256)
      kernel = classes <= 512 ? kernels::loss_of_warps<T, 16, smoothed> : kernels::loss_of_warps<T, 32, smoothed>;
  start(call, "loss_of_warps", grid_of(rows.target.rows(), warp_threads / 32, warp_threads), kernel, rows);
}

template <class T, bool smoothed>
void start_blocks(const Call& call, const LossRows<T>& rows) {
  const int classes = rows.target.classes(), packs = classes / LogitWords::count<T>;
  if constexpr (!std::is_same_v<T, double>) {
    const auto aligned = [](const T* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; };
    if (packs * LogitWords::count<T> == classes && packs <= 1024 * register_packs && aligned(rows.logits) &&
        aligned(rows.grad)) {
      const auto go = [&]<int threads>() {
        start(call, "loss_in_registers", grid_of_blocks(rows.target.rows(), threads, threads),
              kernels::loss_in_registers<T, threads, smoothed>, rows);
      };
      if (packs <= 256 * register_packs) return go.template operator()<256>();
      if (packs <= 512 * register_packs) return go.template operator()<512>();
      return go.template operator()<1024>();
    }
  }
  // 132 processors have 34 MB of rows at a time: three of 85 KB each, or one of 256 KB.
  constexpr int64_t long_row = 85 << 10;
  const unsigned threads = classes * static_cast<int64_t>(sizeof(T)) <= long_row ? 256 : most_block_threads<T>;
  start(call, "loss_of_blocks", grid_of_blocks(rows.target.rows(), threads, most_block_threads<T>),
        kernels::loss_of_blocks<T, smoothed>, rows);
}

template <class T, bool smoothed>
void start_plain(const Call& call, const LossRows<T>& rows) {
  const int classes = rows.target.classes();
  constexpr size_t most_shared = 48 << 10;
  if (classes <= 64)
    if (const size_t bytes = tile_rows * sizeof(T) * tile_stride<T>(classes); bytes <= most_shared)
      return start_tiles<T, smoothed>(call, rows, bytes);
  if (classes <= most_of_warps<T>) return start_warps<T, smoothed>(call, rows);
  start_blocks<T, smoothed>(call, rows);
}

template <class T>
void forward(const char* op, const Call& call, const Slice& grad, bool in_place) {
  const auto& attrs = call.attrs.as<LossAttrs>();
  const SoftmaxCrossEntropyOptions& options = attrs.options;
  const Shape& shape = call.in[loss_in::logits].shape;
  const Kind kind = options.reduction.kind;
  const LossScratch scratch(call);
  LossPreparation p = preparation_of_rows(op, call, attrs);
  p.denominator_out = call.out[loss_out::denominator].as<double>();
  prepare_loss(call, p);
  validate(call, p);

  const LossRows<T> rows = {.logits = call.in[loss_in::logits].as<T>(),
                            .target = p.target,
                            .scalars = scratch.scalars,
                            .scale = options.scale,
                            .divides_rows = kind == Kind::mean && options.parity.divide_rows,
                            .reduces = kind == Kind::sum || kind == Kind::mean,
                            .has_total = kind != Kind::sample_mean,
                            .grad = grad.as<T>(),
                            .errors = in_place ? errors_of(call) : nullptr,
                            .statistics = call.out[loss_out::statistics].as<Wide<T>>(),
                            .loss = numbers_of(call.out[loss_out::loss]),
                            .row_losses = kind == Kind::sample_mean ? scratch.row_losses : nullptr,
                            .total = call.out[loss_out::total].as<double>(),
                            .partial = scratch.sums};
  const bool plain = is_plain(call, p.target, options);
  if (plain && p.target.inner.by == 1 && !options.output.log_probs && !rows.divides_rows) {
    if (p.target.smoothed()) start_plain<T, true>(call, rows);
    else start_plain<T, false>(call, rows);
  } else {
    const LossExtras extras = {
        .softmax = options.input == SoftmaxCrossEntropyOptions::Input::logits,
        .plain = plain,
        .log_probs = options.output.log_probs ? numbers_of(call.out[loss_out::log_probs]) : FloatingNumbers(),
        .grad = numbers_of(grad),
        .addend = numbers_of(call.in[loss_in::grad_addend])};
    with_group(p.target.rows(), p.target.classes(), p.target.inner.by, most_loss_threads / group_threads,
               [&]<class Group>(Grid grid) {
                 grid.blocks.x = std::max(1u, grid.blocks.x);
                 start(call, "loss_general", grid, kernels::loss_general<T, Group>, rows, extras);
               });
  }
  if (kind != Kind::sample_mean) return;
  const SampleRows samples(shape, static_cast<int>(options.axis), options.reduction.batch_axis);
  start(call, "add_samples",
        {.blocks = blocks_for(samples.samples, 1), .threads = group_threads, .max_threads = group_threads},
        kernels::add_samples, rows.row_losses, samples.samples, static_cast<int>(samples.after),
        static_cast<int>(samples.per_sample), rows.scalars, rows.loss);
}

}  // namespace

void softmax_cross_entropy(const Call& call) {
  const Slice grad = call.attrs.as<LossAttrs>().with_grad ? call.out[loss_out::grad] : Slice{};
  dispatch_floating(call.in[loss_in::logits].dtype,
                    [&]<class T>() { forward<T>("softmax_cross_entropy", call, grad, false); });
}

void softmax_cross_entropy_in_place(const Call& call) {
  const Slice& logits = call.in[loss_in::logits];
  const Slice grad = call.attrs.as<LossAttrs>().with_grad ? logits : Slice{};
  dispatch_floating(logits.dtype, [&]<class T>() { forward<T>("softmax_cross_entropy_in_place", call, grad, true); });
}

size_t softmax_cross_entropy_workspace(const Call& call) { return loss_scratch_bytes(call); }
size_t softmax_cross_entropy_in_place_workspace(const Call& call) { return loss_scratch_bytes(call); }

}  // namespace xent::cuda
