// The public functions, one per op: the page users read. The ops themselves, with formula and kernels, are in the files
// named above each group; docs/ops.md lists them all.
//
// All of them take f32 and f64 unless they say otherwise, throw ShapeError or DTypeError naming the op and what was
// wrong, and record a node if a tape is alive and an input wants a gradient.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>

#include <xent/core/random.h>
#include <xent/core/tensor.h>
#include <xent/ops/softmax_cross_entropy.h>

namespace xent {

// ---- elementwise.cpp: any shape ----

Tensor relu(const Tensor& x);  // max(x, 0)
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);  // 1 / (1 + exp(-x))
Tensor gelu(const Tensor& x);     // x times the normal distribution function of x, by erf
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);                   // NaN below 0, -inf at 0
Tensor sqrt(const Tensor& x);                  // NaN below 0
Tensor scale(const Tensor& x, double factor);  // factor * x; the factor is frozen in a Step
Tensor shift(const Tensor& x, double term);    // x + term

// ---- binary.cpp: NumPy broadcasting, aligned at the last axis ----
//
//   Tensor centred = sub(x, mean(x, {0}));  // [64, 10] - [10]

Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator-(const Tensor& a) { return scale(a, -1); }
inline Tensor operator+(const Tensor& a, double b) { return shift(a, b); }
inline Tensor operator-(const Tensor& a, double b) { return shift(a, -b); }
inline Tensor operator*(const Tensor& a, double b) { return scale(a, b); }
inline Tensor operator/(const Tensor& a, double b) { return div(a, Tensor::scalar(b, a.dtype(), a.device())); }
inline Tensor operator+(double a, const Tensor& b) { return shift(b, a); }
inline Tensor operator-(double a, const Tensor& b) { return shift(scale(b, -1), a); }
inline Tensor operator*(double a, const Tensor& b) { return scale(b, a); }
inline Tensor operator/(double a, const Tensor& b) { return div(Tensor::scalar(a, b.dtype(), b.device()), b); }

// ---- matmul.cpp, linear.cpp ----

struct MatmulOptions {
  bool transpose_a = false;
  bool transpose_b = false;
};

// Multiplies two matrices: [m, k] x [k, n] -> [m, n]; a transposed operand is given as [k, m] or [n, k].
Tensor matmul(const Tensor& a, const Tensor& b, MatmulOptions options = {});

// Activations that linear can fuse: those whose derivative can be told from the output.
enum class Activation { none, relu, tanh, sigmoid };

// Computes activation(x w + b) in one pass:  [batch, in] x [in, out] + [out] -> [batch, out].
//   Tensor hidden = linear(images, weight, bias, Activation::relu);
// An empty handle for the bias leaves it out.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, Activation activation = Activation::none);

// ---- conv2d.cpp, conv2d_max_pool2d.cpp, pool2d.cpp, global_avg_pool2d.cpp: images are [batch, height, width,
// channels] ----

// An extent along height and one along width; a single number stands for both: {.stride = 2}, {.padding = {1, 0}}.
struct Extent2d {
  int64_t height, width;

  constexpr Extent2d(int64_t both) : height(both), width(both) {}
  constexpr Extent2d(int64_t h, int64_t w) : height(h), width(w) {}
  friend bool operator==(const Extent2d&, const Extent2d&) = default;
};

struct Conv2dOptions {
  Extent2d stride = 1;
  Extent2d padding = 0;   // rows and columns of zeros on each side
  Extent2d dilation = 1;  // distance of the elements that a kernel reads
  Activation activation = Activation::none;
};

// Slides kernels over images, activation(x * w + b):
//   [batch, h, w, in] and [kernel h, kernel w, in, out] -> [batch, h', w', out],
//   h' = (h + 2 padding - dilation (kernel h - 1) - 1) / stride + 1, rounded down, and w' likewise.
//   Tensor maps = conv2d(images, weight, bias, {.padding = 1, .activation = Activation::relu});
// The kernel is not flipped, as in PyTorch. An empty handle for the bias [out] leaves it out. Padding is multiplied
// like any element: under a weight that is infinite or NaN it gives NaN. Kernels of 3 x 3 may be computed by tiles of
// 4 x 4 results, in which one infinity or NaN is everyone's. Throws ShapeError if the kernel, dilated, is larger than
// the padded image.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const Conv2dOptions& options = {});

// Computes max_pool2d(conv2d(x, weight, bias, options)), windows of 2 x 2, in one op: the same bits (gradients too, but
// for NaN behind tanh and sigmoid), and by tiles without storing the images between the two. Throws ShapeError if those
// would be smaller than 2 x 2.
//   Tensor maps = conv2d_max_pool2d(images, weight, bias, {.activation = Activation::relu});
Tensor conv2d_max_pool2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                         const Conv2dOptions& options = {});

struct Pool2dOptions {
  Extent2d window = 2;
  Extent2d stride = 0;   // 0: the window's extents
  Extent2d padding = 0;  // at most half of the window
};

// Takes the largest element, or the mean, of each window: [batch, h, w, channels] -> [batch, h', w', channels], with
// h' = (h + 2 padding - window h) / stride + 1, rounded down: windows that would reach beyond the padded image are left
// out. Padding is never the largest; the mean counts it as zeros, as PyTorch does. NaN counts as largest; among equals
// the first gets the gradient.
Tensor max_pool2d(const Tensor& x, const Pool2dOptions& options = {});
Tensor avg_pool2d(const Tensor& x, const Pool2dOptions& options = {});
Tensor global_avg_pool2d(const Tensor& x);  // [batch, h, w, channels] -> [batch, channels]

// ---- batch_norm2d.cpp, layer_norm.cpp ----

struct BatchNormOptions {
  double momentum = 0.1;  // share of the batch in the running statistics
  double epsilon = 1e-5;  // added to the variance
};

// Normalises each channel of [batch, h, w, channels] over the batch:  y = (x - mean) / sqrt(variance + epsilon) weight
// + bias, and updates the running statistics in place as PyTorch does (with the variance of n - 1). weight, bias and
// the statistics are [channels]; empty handles for weight and bias stand for 1 and 0. Throws ShapeError if a channel
// has fewer than two elements.
Tensor batch_norm2d(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor running_mean, Tensor running_var,
                    const BatchNormOptions& options = {});

// The same with given statistics, for evaluation and frozen layers. Differentiable in x, weight and bias.
Tensor batch_norm2d_frozen(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& mean,
                           const Tensor& variance, double epsilon = 1e-5);

struct LayerNormOptions {
  int64_t axes = 1;  // how many of the last axes are normalised together
  double epsilon = 1e-5;
};

// Normalises over the last axes:  y = (x - mean) / sqrt(variance + epsilon) weight + bias;  weight and bias have the
// shape of these axes, or are empty handles.
Tensor layer_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {},
                  const LayerNormOptions& options = {});

// ---- reduce.cpp ----

// Sums, or averages, over the given axes (none given: all of them), which are dropped unless keep_axes.
//   mean(images, {0});           // [64, 784] -> [784]
//   sum(x);                      // -> []
// The mean of no elements is NaN. Sums are in f64 and in a fixed order.
Tensor sum(const Tensor& x, std::initializer_list<int64_t> axes = {}, bool keep_axes = false);
Tensor mean(const Tensor& x, std::initializer_list<int64_t> axes = {}, bool keep_axes = false);

// Returns the index of the largest element along an axis, i64; the first one among equals, NaN counts as largest.
//   argmax(logits);  // [64, 10] -> [64]
// Not differentiable. Throws ShapeError if the axis has no element.
Tensor argmax(const Tensor& x, int64_t axis = -1);

// ---- reshape.cpp: views, they share the bytes of x ----

Tensor reshape(const Tensor& x, const Shape& shape);             // as many elements
Tensor flatten(const Tensor& x, int64_t first_axis = 1);         // [64, 28, 28, 1] -> [64, 784]
Tensor slice_rows(const Tensor& x, int64_t begin, int64_t end);  // rows [begin, end) of the first axis

// ---- permute.cpp, concat.cpp: copies; any dtype ----

// Reorders the axes: axis i of the result is axis axes[i] of x.
//   permute(images, {0, 3, 1, 2});  // [64, 28, 28, 3] -> [64, 3, 28, 28]
Tensor permute(const Tensor& x, std::span<const int64_t> axes);
inline Tensor permute(const Tensor& x, std::initializer_list<int64_t> axes) {
  return permute(x, std::span(axes.begin(), axes.size()));
}

// Joins tensors along an axis; the other extents are equal.
//   concat({a, b}, 1);  // [64, 3], [64, 5] -> [64, 8]
Tensor concat(std::span<const Tensor> tensors, int64_t axis = 0);
inline Tensor concat(std::initializer_list<Tensor> tensors, int64_t axis = 0) {
  return concat(std::span(tensors.begin(), tensors.size()), axis);
}

// ---- cast.cpp: between all dtypes ----

// Converts the elements. Floats are rounded to nearest, ties to even; to an integer, fractions are cut off, NaN becomes
// 0 and what is out of range the nearest integer. Differentiable between floating types.
Tensor cast(const Tensor& x, DType dtype);

// ---- softmax.cpp: along one axis, the last one by default ----

Tensor softmax(const Tensor& x, int64_t axis = -1);
Tensor log_softmax(const Tensor& x, int64_t axis = -1);

// ---- pick.cpp ----

// Takes one element per row along the last axis:  x [..., classes], index [...] of u8, i32, i64 -> [...].
//   Tensor loss = scale(mean(pick(log_softmax(logits), labels)), -1);  // softmax cross-entropy, unfused
// Throws LabelError if an index is not in [0, classes).
Tensor pick(const Tensor& x, const Tensor& index);

// ---- gather_batch.cpp ----

// Makes a batch of samples that lie in memory as bytes: what a Loader with .resident = true does on its device.
//   auto [images, labels] = gather_batch(pixels, labels, indices, 1.0 / 255, 0);  // f32 [batch, 28, 28, 1], i64
//   [batch]
// pixels are u8 [n, ...], labels u8 [n], indices i64 [batch]; an element is scale times its byte, plus offset. Throws
// LabelError if an index is not in [0, n).
std::array<Tensor, 2> gather_batch(const Tensor& pixels, const Tensor& labels, const Tensor& indices, double scale,
                                   double offset);

// ---- random.cpp: advance the generator, also at every replay of a Step ----

Tensor uniform(const Shape& shape, double low, double high, Generator& generator, DType dtype = DType::f32);
Tensor normal(const Shape& shape, double mean, double deviation, Generator& generator, DType dtype = DType::f32);

// ---- dropout.cpp, random_shift_flip.cpp: as above, and the same masks on every device ----

// Zeroes each element with probability p, in [0, 1], and scales the others by 1 / (1 - p).
Tensor dropout(const Tensor& x, double p, Generator& generator);

struct ShiftFlipOptions {
  Extent2d shift = 0;  // by up to so many rows and columns, either way
  bool flip = false;   // mirrors left and right, every other image on average
  double fill = 0;     // of what a shift uncovers
};

// Shifts and flips each image of [batch, height, width, channels] by random amounts of its own.
Tensor random_shift_flip(const Tensor& x, const ShiftFlipOptions& options, Generator& generator);

// ---- optimizer_steps.cpp: update in place, no gradient of their own ----

struct SgdOptions {
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;  // added to the gradient
};

// x -= learning_rate * step, as torch.optim.SGD computes it, but that a velocity below the smallest normal number is 0.
// velocity may be empty if momentum is 0; it starts as 0.
void sgd_step(Tensor x, const Tensor& gradient, Tensor velocity, const Tensor& learning_rate,
              const SgdOptions& options = {});

struct AdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  bool decoupled = false;  // AdamW: decays the weights themselves instead of adding to the gradient
};

// One step of Adam, as torch.optim.Adam and AdamW compute it, but that an m below the smallest normal number is 0. m
// and v start as 0; step is i64 [], the number of steps including this one, so that bias correction reads it on the
// device.
void adam_step(Tensor x, const Tensor& gradient, Tensor m, Tensor v, const Tensor& learning_rate, const Tensor& step,
               const AdamOptions& options = {});

// Adds to an i64 counter in place.
void advance(Tensor counter, int64_t by = 1);

// ---- clip.cpp: the norm of many tensors, and clipping by it, decided on the device; nn/clip.h uses them ----

void accumulate_squares(Tensor total, const Tensor& x);  // total += sum x^2;  total is f64 []

// x *= min(1, max_norm / (sqrt(squares) + 1e-6)), as torch.nn.utils.clip_grad_norm_ computes it.
void clip_to_norm(Tensor x, const Tensor& squares, double max_norm);

// ---- schedule_rate.cpp ----

enum class Decay { constant, step, linear, cosine };

// A learning rate over time, as a factor of the base rate. n counts steps from 0; in the first `warmup` of them the
// factor is (n + 1) / warmup, from there on k = n - warmup counts.
struct ScheduleOptions {
  Decay decay = Decay::constant;
  int64_t warmup = 0;
  int64_t steps = 1;    // linear, cosine: from factor 1 to `last` in so many steps;  step: every so many steps ...
  double factor = 0.1;  // ... the rate is multiplied by this
  double last = 0;      // linear, cosine
};

// rate = base factor(count);  rate and base are f32 [], count is i64 [].
void schedule_rate(Tensor rate, const Tensor& base, const Tensor& count, const ScheduleOptions& options = {});

// ---- metrics.cpp: accumulate on the device, f64 [2] = {total, count}, read once per epoch ----

void accumulate_mean(Tensor state, const Tensor& value, int64_t count);  // total += count * value
// Counts rows whose label is among the `top` largest logits, the first among equals ranking higher; a row with a NaN is
// wrong. Throws LabelError as the loss does.
void accumulate_correct(Tensor state, const Tensor& logits, const Tensor& labels, int64_t top = 1);
// counts[label, argmax of the logits] += 1 for every row without a NaN;  counts is i64 [classes, classes].
void accumulate_confusion(Tensor counts, const Tensor& logits, const Tensor& labels);

}  // namespace xent
