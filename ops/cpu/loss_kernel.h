// The loops over one row of adjacent logits that softmax and its loss spend their time in: the largest element, the sum
// of exponentials, and the gradient, compiled once per instruction set. rows.h and loss_rows.h do the same for any row,
// and are what these are tested against.
#pragma once

#include <cstdint>

#include <xent/core/dtype.h>

namespace xent::cpu {

// The largest element m of a row, and the sum of exp(x - m). What is short of 1 in the sum's other terms is not lost in
// the 1 that m itself adds: they are summed apart, and only then in f64.
struct RowSum {
  float max;
  double sum;
};

// Some rows of few classes: what is known of them, and what is found.
struct LossGroup {
  static constexpr int64_t most_classes = 16, most_rows = 16;
  static constexpr uint32_t none = 0xffffffff, skipped = 0xfffffffe;  // a row without label; one whose gradient is +0

  alignas(64) uint32_t label[most_rows];
  alignas(64) float scale[most_rows];  // of the gradient, by the label's weight
  alignas(64) float max[most_rows];
  alignas(64) float log_sum[most_rows];
  alignas(64) float surprise[most_rows];  // log_sum - (x - max) of the label
};

// Where the exponentials of a row stay from its sum to its gradient, in a form of their own: those of the first `room`
// elements, a multiple of 256, with Kept::spare more places behind them; of a row shorter than a pair none. For f32 it
// may be the row itself, or where its gradient goes, without any place behind the row.
struct Kept {
  static constexpr int64_t spare = 32;

  float* at = nullptr;
  int64_t room = 0;
};

// Rows of few classes that all weigh the same.
struct LossRun {
  const void* labels;  // of the first row: classes or `ignored`, by their lower words
  int label_bytes;     // 1, 4 or 8
  uint32_t ignored;    // a label; LossGroup::skipped if none is
  float scale;         // of the gradient
  float* statistics;   // pairs of max and log_sum go here, of 0 for ignored rows
};

struct LabelCount {
  bool bad;      // is one neither a class nor ignored?
  int64_t kept;  // those that are not ignored
};

struct LossKernel {
  // Also keeps exp(x - m) for grad where there is room.
  RowSum (*sum)(const void* x, int64_t classes, Kept kept);

  // dx = factor exp(x - max) in the type of the logits, rounded once. No x is larger than max. dx may be x.
  // stream: past the caches where that can be done, for gradients that these do not hold anyway.
  void (*grad)(const void* x, int64_t classes, float max, float factor, Kept kept, bool stream, void* dx);

  // The same for up to group_rows adjacent rows of up to LossGroup::most_classes classes. Finds max, log_sum and
  // surprise, or takes the first two as given, and then writes the gradient unless dx is null.
  void (*group)(const void* x, int64_t rows, int64_t classes, bool has_pairs, LossGroup& group, void* dx);
  int64_t group_rows;

  // The same for any number of adjacent rows. Returns the sum of their surprises.
  double (*run)(const void* x, int64_t rows, int64_t classes, const LossRun& run, void* dx);

  // Looks at labels of so many bytes. ignore may be null.
  LabelCount (*count_labels)(const void* labels, int bytes, int64_t count, int64_t classes, const int64_t* ignore);

  // Does grad round only once with this factor? Not with a tiny one.
  static bool takes(double factor) { return factor > 0x1p-90 || factor < -0x1p-90 || factor == 0; }
};

// The loops for this machine and logits of that type; null where there are none.
const LossKernel* loss_kernel(DType dtype);

namespace avx2 {
extern const LossKernel loss_f32, loss_f16, loss_bf16;
}
namespace avx512 {
extern const LossKernel loss_f32, loss_f16, loss_bf16;
}

}  // namespace xent::cpu
