// The public functions, one per op: the page users read. The ops themselves, with formula and kernels, are in the files
// named above each group; docs/ops.md lists them all.
//
// All of them take f32 and f64 unless they say otherwise, throw ShapeError or DTypeError naming the op and what was
// wrong, and record a node if a tape is alive and an input wants a gradient.
#pragma once

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

// ---- random.cpp: advance the generator, also at every replay of a Step ----

Tensor uniform(const Shape& shape, double low, double high, Generator& generator, DType dtype = DType::f32);
Tensor normal(const Shape& shape, double mean, double deviation, Generator& generator, DType dtype = DType::f32);

// ---- optimizer_steps.cpp: update in place, no gradient of their own ----

struct SgdOptions {
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;  // added to the gradient
};

// x -= learning_rate * step, as torch.optim.SGD computes it. velocity may be empty if momentum is 0; it starts as 0.
void sgd_step(Tensor x, const Tensor& gradient, Tensor velocity, const Tensor& learning_rate,
              const SgdOptions& options = {});

struct AdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  bool decoupled = false;  // AdamW: decays the weights themselves instead of adding to the gradient
};

// One step of Adam, as torch.optim.Adam and AdamW compute it. m and v start as 0; step is i64 [], the number of steps
// including this one, so that bias correction reads it on the device.
void adam_step(Tensor x, const Tensor& gradient, Tensor m, Tensor v, const Tensor& learning_rate, const Tensor& step,
               const AdamOptions& options = {});

// Adds to an i64 counter in place.
void advance(Tensor counter, int64_t by = 1);

// ---- metrics.cpp: accumulate on the device, f64 [2] = {total, count}, read once per epoch ----

void accumulate_mean(Tensor state, const Tensor& value, int64_t count);  // total += count * value
// Counts rows whose argmax is the label; a row with a NaN is wrong. Throws LabelError as the loss does.
void accumulate_correct(Tensor state, const Tensor& logits, const Tensor& labels);

}  // namespace xent
