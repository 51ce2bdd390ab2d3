// A handful of tiny ops, so that the tests of the engine need none of ops/: plain loops, f32 and f64, equal shapes.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <xent/core/dispatch.h>
#include <xent/core/op.h>

namespace small {

using xent::Attrs, xent::Call, xent::Op, xent::Shape, xent::Slice, xent::Spec, xent::Specs, xent::Tensor;

// to[i] = f<T>(i), or += where the tape asks for it.
template <class F>
void write_each(const Slice& to, const F& f) {
  if (!to) return;
  xent::dispatch_compute(to.dtype, [&]<class T>() {
    T* values = to.as<T>();
    for (int64_t i = 0; i < to.shape.elements(); ++i) {
      const T value = f.template operator()<T>(i);
      values[i] = to.beta == 0 ? value : values[i] + value;
    }
  });
}

template <class T>
T at(const Slice& x, int64_t i) {
  return x.as<T>()[i];
}

using Doubles = std::vector<double>;

inline Tensor f64(const Doubles& values) { return Tensor::from(values, {static_cast<int64_t>(values.size())}); }
inline Tensor parameter(const Doubles& values) { return f64(values).set_requires_grad(); }
inline Doubles values(const Tensor& x) { return x.to_vector<double>(); }

inline Specs like_first(std::span<const Spec> in, const Attrs&) { return {in[0]}; }

// ---- square: y = x^2, dx = 2 x dy ----

inline constexpr Op square_op = {
    .name = "square",
    .formula = "y = x^2",
    .infer = like_first,
    .forward = {[](const Call& c) {
      write_each(c.out[0], [&]<class T>(int64_t i) { return at<T>(c.in[0], i) * at<T>(c.in[0], i); });
    }},
    .backward = {[](const Call& c) {
      write_each(c.grad_in[0], [&]<class T>(int64_t i) { return 2 * at<T>(c.in[0], i) * at<T>(c.grad_out[0], i); });
    }},
    .needs_out = xent::nothing,
};
inline Tensor square(const Tensor& x) { return apply(square_op, {x})[0]; }

// ---- exp: y = e^x, dx = y dy; backward reads the output only ----

inline constexpr Op exp_op = {
    .name = "exp",
    .formula = "y = e^x",
    .infer = like_first,
    .forward = {[](const Call& c) {
      write_each(c.out[0], [&]<class T>(int64_t i) { return std::exp(at<T>(c.in[0], i)); });
    }},
    .backward = {[](const Call& c) {
      write_each(c.grad_in[0], [&]<class T>(int64_t i) { return at<T>(c.out[0], i) * at<T>(c.grad_out[0], i); });
    }},
    .needs_in = xent::nothing,
};
inline Tensor exp(const Tensor& x) { return apply(exp_op, {x})[0]; }

// ---- add: y = a + b, da = db = dy; adds to gradients that are there already ----

inline constexpr Op add_op = {
    .name = "add",
    .formula = "y = a + b",
    .inputs = 2,
    .infer = like_first,
    .forward = {[](const Call& c) {
      write_each(c.out[0], [&]<class T>(int64_t i) { return at<T>(c.in[0], i) + at<T>(c.in[1], i); });
    }},
    .backward = {[](const Call& c) {
      for (const Slice& gradient : c.grad_in)
        write_each(gradient, [&]<class T>(int64_t i) { return at<T>(c.grad_out[0], i); });
    }},
    .needs_in = xent::nothing,
    .needs_out = xent::nothing,
    .accumulates = true,
};
inline Tensor add(const Tensor& a, const Tensor& b) { return apply(add_op, {a, b})[0]; }

// ---- mul: y = a b, da = b dy, db = a dy ----

inline constexpr Op mul_op = {
    .name = "mul",
    .formula = "y = a b",
    .inputs = 2,
    .infer = like_first,
    .forward = {[](const Call& c) {
      write_each(c.out[0], [&]<class T>(int64_t i) { return at<T>(c.in[0], i) * at<T>(c.in[1], i); });
    }},
    .backward = {[](const Call& c) {
      for (size_t k = 0; k < 2; ++k) {
        write_each(c.grad_in[k], [&]<class T>(int64_t i) { return at<T>(c.in[1 - k], i) * at<T>(c.grad_out[0], i); });
      }
    }},
    .needs_out = xent::nothing,
    .accumulates = true,
};
inline Tensor mul(const Tensor& a, const Tensor& b) { return apply(mul_op, {a, b})[0]; }

// ---- scale: y = factor x ----

struct ScaleAttrs {
  double factor;
  bool operator==(const ScaleAttrs&) const = default;
};

inline void scale_kernel(const Slice& to, const Slice& from, const Attrs& attrs) {
  write_each(to, [&]<class T>(int64_t i) { return static_cast<T>(attrs.as<ScaleAttrs>().factor) * at<T>(from, i); });
}

inline constexpr Op scale_op = {
    .name = "scale",
    .formula = "y = factor x",
    .infer = like_first,
    .forward = {[](const Call& c) { scale_kernel(c.out[0], c.in[0], c.attrs); }},
    .backward = {[](const Call& c) { scale_kernel(c.grad_in[0], c.grad_out[0], c.attrs); }},
    .needs_in = xent::nothing,
    .needs_out = xent::nothing,
};
inline Tensor scale(const Tensor& x, double factor) { return apply(scale_op, {x}, ScaleAttrs{factor})[0]; }

// ---- sum: y = sum x, to a scalar ----

inline constexpr Op sum_op = {
    .name = "sum",
    .formula = "y = sum x",
    .infer = [](std::span<const Spec> in, const Attrs&) { return Specs{{.shape = {}, .dtype = in[0].dtype}}; },
    .forward = {[](const Call& c) {
      write_each(c.out[0], [&]<class T>(int64_t) {
        T total = 0;
        for (int64_t i = 0; i < c.in[0].shape.elements(); ++i) total += at<T>(c.in[0], i);
        return total;
      });
    }},
    .backward = {[](const Call& c) {
      write_each(c.grad_in[0], [&]<class T>(int64_t) { return at<T>(c.grad_out[0], 0); });
    }},
    .needs_in = xent::nothing,
    .needs_out = xent::nothing,
};
inline Tensor sum(const Tensor& x) { return apply(sum_op, {x})[0]; }

// ---- flat: the same bytes as one axis; a view without a backward of its own ----

inline constexpr Op flat_op = {
    .name = "flat",
    .formula = "y = x",
    .infer = [](std::span<const Spec> in,
                const Attrs&) { return Specs{{.shape = {in[0].shape.elements()}, .dtype = in[0].dtype}}; },
    .view = [](std::span<const Spec>, const Attrs&) { return int64_t{0}; },
};
inline Tensor flat(const Tensor& x) { return apply(flat_op, {x})[0]; }

// ---- descend: x -= rate dx, in place ----

inline constexpr Op descend_op = {
    .name = "descend",
    .formula = "x -= rate dx",
    .inputs = 2,
    .infer = [](std::span<const Spec>, const Attrs&) { return Specs{}; },
    .forward = {[](const Call& c) {
      write_each(c.in[0], [&]<class T>(int64_t i) {
        return at<T>(c.in[0], i) - static_cast<T>(c.attrs.as<ScaleAttrs>().factor) * at<T>(c.in[1], i);
      });
    }},
    .updates = 0b1,
};
inline void descend(const Tensor& x, const Tensor& dx, double rate) { apply(descend_op, {x, dx}, ScaleAttrs{rate}); }

// ---- checked: y = x, unless an element is negative, which is an error that only the kernel can see ----

inline constexpr Op checked_op = {
    .name = "checked",
    .formula = "y = x",
    .infer = like_first,
    .forward = {[](const Call& c) {
      write_each(c.out[0], [&]<class T>(int64_t i) {
        if (at<T>(c.in[0], i) < 0) throw xent::LabelError("checked: a negative element");
        return at<T>(c.in[0], i);
      });
    }},
};
inline Tensor checked(const Tensor& x) { return apply(checked_op, {x})[0]; }

}  // namespace small
