// softmax_cross_entropy, its gradient and its denominator on the GPU: which kernels a call takes.
//
//   prepare_loss         labels and weights: check, denominator, scale                  loss_scalars.cuh
//   loss_of_tiles        up to 64 classes, next to each other                           loss_tile.cuh
//   loss_of_warps        up to 1024                                                     loss_warp.cuh
//   loss_in_registers    up to 32768 (16 bits: 65536), rows at multiples of 16 bytes    loss_registers.cuh
//   loss_of_blocks       any number, anywhere                                           loss_block.cuh
//   loss_general         distributions, options of other systems, classes on any axis   loss_general.cuh
//   loss_backward        the gradient from the pairs                                    loss_backward.cuh
//
// Forward is two launches, preparation and rows, and so is backward. With the gradient, forward reads the logits once
// and writes the gradient once, in their place if they are given up; without, it reads them once. loss_of_blocks and
// loss_general read a row again, which the caches mostly still have. docs/softmax_cross_entropy.md derives the
// formulas.
#include <algorithm>

#include <xent/core/warning.h>
#include <xent/cuda/loss_backward.cuh>
#include <xent/cuda/loss_block.cuh>
#include <xent/cuda/loss_general.cuh>
#include <xent/cuda/loss_registers.cuh>
#include <xent/cuda/loss_tile.cuh>
#include <xent/cuda/loss_validate.cuh>
#include <xent/cuda/loss_warp.cuh>

namespace xent::cuda {

namespace {

using Kind = Reduction::Kind;
using Options = SoftmaxCrossEntropyOptions;

// ---- scratch: scalars, sums of the blocks, and for sample_mean the losses of the rows ----

constexpr size_t scalars_bytes = 256, sums_bytes = most_loss_blocks * sizeof(double);
static_assert(sizeof(LossScalars) <= scalars_bytes);

struct Scratch {
  LossScalars* scalars;
  double *sums, *row_losses;

  explicit Scratch(const Call& call)
      : scalars(static_cast<LossScalars*>(call.workspace)),
        sums(reinterpret_cast<double*>(static_cast<std::byte*>(call.workspace) + scalars_bytes)),
        row_losses(sums + most_loss_blocks) {}
};

Shape shape_of_logits(const Call& call, const LossAttrs& attrs) {
  if (const Slice& logits = call.in[loss_in::logits]) return logits.shape;
  const Slice& target = call.in[loss_in::target];
  return is_floating(target.dtype) ? target.shape
                                   : logits_shape(target.shape, static_cast<int>(attrs.options.axis), attrs.classes);
}

size_t scratch_bytes(const Call& call) {
  const auto& attrs = call.attrs.as<LossAttrs>();
  const Shape shape = call.in[loss_in::logits].shape;
  const bool samples = attrs.options.reduction.kind == Kind::sample_mean;
  const int64_t rows = samples ? shape.elements() / std::max<int64_t>(1, shape[attrs.options.axis]) : 0;
  return scalars_bytes + sums_bytes + static_cast<size_t>(rows) * sizeof(double);
}

// ---- what a call says, for kernels ----

LossTarget target_of(const Call& call, const Shape& shape, const LossAttrs& attrs) {
  const Options& options = attrs.options;
  const auto axis = static_cast<int>(options.axis);
  const Slice &target = call.in[loss_in::target], &ignore = call.in[loss_in::ignore];
  const int64_t classes = shape[axis], inner = shape.product(axis + 1, shape.rank());
  const bool dense = is_floating(target.dtype);
  const int64_t smoothed_over = options.parity.smoothing_classes ? options.parity.smoothing_classes : classes;
  return {.labels = {.data = dense ? nullptr : target.data,
                     .dtype = target.dtype,
                     .count = shape.product(0, axis) * inner,
                     .classes = classes,
                     .ignores = options.target.ignore.has_value() || ignore,
                     .ignore = options.target.ignore.value_or(0),
                     .ignore_at = ignore.as<const int64_t>()},
          .distribution = dense ? numbers_of(target) : FloatingNumbers(),
          .class_weights = numbers_of(call.in[loss_in::class_weights]),
          .element_weights = numbers_of(call.in[loss_in::element_weights]),
          .inner = Divisor(std::max<int64_t>(1, inner)),
          .kept = 1 - options.target.smoothing,
          .spread = options.target.smoothing / static_cast<double>(smoothed_over),
          .out_of_range = options.parity.out_of_range,
          .dense = dense,
          .multiply_zeros = options.parity.multiply_zeros,
          .exact = options.parity.dense_grad == Options::Parity::DenseGrad::exact};
}

// The preparation of a loss whose denominator is not known yet.
LossPreparation preparation_of(const char* op, const Call& call, const Shape& shape, const LossAttrs& attrs) {
  const auto& [kind, denominator, when_zero, batch_axis] = attrs.options.reduction;
  LossPreparation p = {.target = target_of(call, shape, attrs),
                       .options = attrs.options,
                       .op = op,
                       .errors = errors_of(call),
                       .scalars = Scratch(call).scalars,
                       .partial = Scratch(call).sums};
  p.checks_labels = !p.target.dense && attrs.options.parity.out_of_range == Options::Parity::OutOfRange::error;
  if (kind == Kind::sample_mean) {
    p.denominator = static_cast<double>(SampleRows(shape, static_cast<int>(attrs.options.axis), batch_axis).per_sample);
  } else if (kind == Kind::mean) {
    if (denominator == Reduction::Denominator::rows) p.denominator = static_cast<double>(p.target.rows());
    else p.sums_shares = true;
  }
  return p;
}

// For a loss that is computed, and may be given its denominator.
LossPreparation preparation_of_rows(const char* op, const Call& call, const LossAttrs& attrs) {
  LossPreparation p = preparation_of(op, call, call.in[loss_in::logits].shape, attrs);
  const Reduction& reduction = attrs.options.reduction;
  p.checks_denominator =
      reduction.kind == Kind::mean && reduction.when_zero == Reduction::WhenZero::error_if_not_positive;
  p.normalizer = numbers_of(call.in[loss_in::normalizer]);
  if (p.normalizer) p.sums_shares = false;
  return p;
}

// Is a row's gradient that of RowGrad?
bool is_plain(const Call& call, const LossTarget& target, const Options& options) {
  return !target.dense && !(target.smoothed() && target.class_weights) && !call.in[loss_in::grad_addend] &&
         options.input == Options::Input::logits;
}

// Errors are told after those of the labels. That logits look like probabilities is for the CPU to find.
void validate(const char* op, const Call& call, const LossTarget& target) {
  if (!call.attrs.as<LossAttrs>().options.validate) return;
  if (target.classes() == 1) warn("softmax_cross_entropy: there is one class, so the loss is always 0");
  validate_loss(call, op, target, Scratch(call).sums);
}

// ---- forward ----

Grid grid_of(int64_t rows, int64_t rows_per_block, unsigned threads) {
  const int64_t blocks = (rows + rows_per_block - 1) / rows_per_block;
  return {.blocks = static_cast<unsigned>(std::clamp<int64_t>(blocks, 1, most_loss_threads / threads)),
          .threads = threads,
          .max_threads = threads};
}

template <class T, bool smoothed>
void start_tiles(const Call& call, const LossRows<T>& rows, size_t bytes) {
  Grid grid = grid_of(rows.target.rows(), tile_rows, tile_rows);
  grid.shared_bytes = bytes;
  start(call, "loss_of_tiles", grid, kernels::loss_of_tiles<T, smoothed>, rows);
}

template <class T, bool smoothed>
void start_warps(const Call& call, const LossRows<T>& rows) {
  const int64_t classes = rows.target.classes();
  const auto kernel = classes <= 128   ? kernels::loss_of_warps<T, 4, smoothed>
                      : classes <= 256 ? kernels::loss_of_warps<T, 8, smoothed>
                      : classes <= 512 ? kernels::loss_of_warps<T, 16, smoothed>
                                       : kernels::loss_of_warps<T, 32, smoothed>;
  start(call, "loss_of_warps", grid_of(rows.target.rows(), warp_threads / 32, warp_threads), kernel, rows);
}

template <class T, bool smoothed>
void start_blocks(const Call& call, const LossRows<T>& rows) {
  if constexpr (!std::is_same_v<T, double>) {
    const int64_t packs = rows.target.classes() / LogitWords::count<T>;
    const auto aligned = [](const T* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; };
    if (packs * LogitWords::count<T> == rows.target.classes() && packs <= 1024 * register_packs &&
        aligned(rows.logits) && aligned(rows.grad)) {
      const auto go = [&]<int threads>() {
        start(call, "loss_in_registers", grid_of(rows.target.rows(), 1, threads),
              kernels::loss_in_registers<T, threads, smoothed>, rows);
      };
      if (packs <= 256 * register_packs) return go.template operator()<256>();
      if (packs <= 512 * register_packs) return go.template operator()<512>();
      return go.template operator()<1024>();
    }
  }
  start(call, "loss_of_blocks", grid_of(rows.target.rows(), 1, block_threads), kernels::loss_of_blocks<T, smoothed>,
        rows);
}

template <class T, bool smoothed>
void start_plain(const Call& call, const LossRows<T>& rows) {
  const int64_t classes = rows.target.classes();
  constexpr size_t most_shared = 48 << 10;
  if (classes <= 64)
    if (const size_t bytes = tile_rows * sizeof(T) * tile_stride<T>(static_cast<int>(classes)); bytes <= most_shared)
      return start_tiles<T, smoothed>(call, rows, bytes);
  if (classes <= 1024) return start_warps<T, smoothed>(call, rows);
  start_blocks<T, smoothed>(call, rows);
}

template <class T>
void forward(const char* op, const Call& call, const Slice& grad, bool in_place) {
  const auto& attrs = call.attrs.as<LossAttrs>();
  const Options& options = attrs.options;
  const Shape& shape = call.in[loss_in::logits].shape;
  const Kind kind = options.reduction.kind;
  const Scratch scratch(call);
  LossPreparation p = preparation_of_rows(op, call, attrs);
  p.denominator_out = call.out[loss_out::denominator].as<double>();
  prepare_loss(call, p);
  validate(op, call, p.target);

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
        .softmax = options.input == Options::Input::logits,
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
        kernels::add_samples, rows.row_losses, samples.samples, samples.after, samples.per_sample, rows.scalars,
        rows.loss);
}

// ---- backward ----

struct LossGrads {
  Slice grad_loss, grad_log_probs, statistics;
  Slice logits, target, element_weights;  // where the gradients go
};

template <class T>
void backward(const Call& call, const LossGrads& grads, const LossTarget& target) {
  const Options& options = call.attrs.as<LossAttrs>().options;
  const auto& [kind, denominator, when_zero, batch_axis] = options.reduction;
  using Denominator = Reduction::Denominator;
  const Slice& logits = call.in[loss_in::logits];
  const LossRows<T> rows = {.logits = logits.as<T>(),
                            .target = target,
                            .scalars = Scratch(call).scalars,
                            .grad = grads.logits.as<T>(),
                            .statistics = grads.statistics.as<Wide<T>>()};
  const bool one_number = kind == Kind::sum || kind == Kind::mean;
  const FloatingNumbers grad_losses = one_number ? FloatingNumbers() : numbers_of(grads.grad_loss);
  const bool plain = is_plain(call, target, options);
  if (plain && target.inner.by == 1 && kind != Kind::sample_mean && grads.grad_loss && !grads.grad_log_probs &&
      grads.logits && grads.logits.dtype == dtype_of<T> && !grads.target && !grads.element_weights)
    return start_backward(call, rows, grad_losses);

  LossExtras extras = {
      .softmax = options.input == Options::Input::logits,
      .plain = plain,
      .from_loss = static_cast<bool>(grads.grad_loss),
      .weights_in_mass = denominator == Denominator::weight_sum,
      .element_in_denominator = denominator == Denominator::element_weights,
      .mass_in_denominator = denominator == Denominator::weight_sum || denominator == Denominator::target_mass,
      .grad = numbers_of(grads.logits),
      .addend = numbers_of(call.in[loss_in::grad_addend]),
      .grad_losses = grad_losses,
      .grad_log_probs = numbers_of(grads.grad_log_probs),
      .grad_target = numbers_of(grads.target),
      .grad_element_weights = numbers_of(grads.element_weights)};
  if (kind == Kind::sample_mean) {
    const SampleRows samples(logits.shape, static_cast<int>(options.axis), batch_axis);
    extras.after = Divisor(samples.after);
    extras.samples = Divisor(std::max<int64_t>(1, samples.samples));
    extras.by_sample = true;
  }
  with_group(target.rows(), target.classes(), target.inner.by, most_loss_threads / group_threads,
             [&]<class Group>(Grid grid) {
               start(call, "loss_general_backward", grid, kernels::loss_general_backward<T, Group>, rows, extras);
             });
}

void backward(const Call& call, const LossGrads& grads, LossPreparation p) {
  const Kind kind = p.options.reduction.kind;
  if (kind == Kind::sum || kind == Kind::mean) p.grad_loss = numbers_of(grads.grad_loss);
  prepare_loss(call, p);
  dispatch_floating(call.in[loss_in::logits].dtype, [&]<class T>() { backward<T>(call, grads, p.target); });
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

// Unlike the CPU's this computes the gradient anew where forward has written one for an upstream of 1: that takes as
// many bytes as multiplying it, and nobody has to look at the upstream first.
void softmax_cross_entropy_grad(const Call& call) {
  const auto& attrs = call.attrs.as<LossAttrs>();
  LossPreparation p = preparation_of("softmax_cross_entropy", call, call.in[loss_in::logits].shape, attrs);
  p.checks_labels = p.sums_shares = false;
  p.denominator_at = call.out[loss_out::denominator].as<double>();
  p.normalizer = numbers_of(call.in[loss_in::normalizer]);
  p.total = call.out[loss_out::total].as<double>();
  backward(call,
           {.grad_loss = call.grad_out[loss_out::loss],
            .grad_log_probs = call.grad_out[loss_out::log_probs],
            .statistics = call.out[loss_out::statistics],
            .logits = call.grad_in[loss_in::logits],
            .target = call.grad_in[loss_in::target],
            .element_weights = call.grad_in[loss_in::element_weights]},
           p);
}

void softmax_cross_entropy_grad_op(const Call& call) {
  const LossPreparation p = preparation_of_rows("softmax_cross_entropy_grad", call, call.attrs.as<LossAttrs>());
  backward(call,
           {.grad_loss = call.in[loss_in::grad_loss],
            .grad_log_probs = {},
            .statistics = call.in[loss_in::statistics],
            .logits = call.out[0],
            .target = {},
            .element_weights = {}},
           p);
  validate(p.op, call, p.target);
}

void softmax_cross_entropy_denominator(const Call& call) {
  const auto& attrs = call.attrs.as<LossAttrs>();
  LossPreparation p = preparation_of("softmax_cross_entropy_denominator", call, shape_of_logits(call, attrs), attrs);
  p.scalars = nullptr;
  p.denominator_out = call.out[0].as<double>();
  prepare_loss(call, p);
  validate(p.op, call, p.target);
}

size_t softmax_cross_entropy_workspace(const Call& call) { return scratch_bytes(call); }
size_t softmax_cross_entropy_in_place_workspace(const Call& call) { return scratch_bytes(call); }
size_t softmax_cross_entropy_grad_workspace(const Call&) { return scalars_bytes + sums_bytes; }
size_t softmax_cross_entropy_grad_op_workspace(const Call&) { return scalars_bytes + sums_bytes; }
size_t softmax_cross_entropy_denominator_workspace(const Call&) { return scalars_bytes + sums_bytes; }

}  // namespace xent::cuda
