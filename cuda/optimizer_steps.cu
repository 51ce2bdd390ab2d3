// sgd_step, adam_step and advance on CUDA; ops/optimizer_steps.cpp has the formulas.
//
// One pass over each array, in packs of 16 bytes where all of them are aligned for it. Bytes per element of f32: sgd
// reads x and g and writes x, 12; with momentum 20; adam 28. The learning rate and the step count are read on the
// device, so a replayed graph uses what they are then; what follows from them alone is computed in f64 and rounded to
// the parameter's type, once per block. The rest is in the parameter's type, with fused multiply-adds.
#include <cmath>
#include <cstdint>

#include <xent/cuda/call.cuh>
#include <xent/ops/optimizer_steps.h>

namespace xent::cuda {

namespace {

// A parameter, its gradient, and one array for each kind of state: velocity, or both moments.
template <class T, int states>
struct Arrays {
  T* x;
  const T* gradient;
  T* state[states > 0 ? states : 1];

  template <class F>
  void for_each_pointer(F&& f) const {
    f(x), f(gradient);
    for (int s = 0; s < states; ++s) f(state[s]);
  }

  bool are_aligned() const {
    auto bits = reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(gradient);
    for (int s = 0; s < states; ++s) bits |= reinterpret_cast<uintptr_t>(state[s]);
    return bits % 16 == 0;
  }
};

template <class T, int width>
struct alignas(width * sizeof(T)) Pack {
  T at[width];
};

// Calls rule(x, gradient, state) for each element of packs [begin, end), and keeps what it makes of x and state.
template <int width, class T, int states, class Rule>
__device__ void update_packs(const Rule& rule, const Arrays<T, states>& arrays, int64_t begin, int64_t end) {
  using P = Pack<T, width>;
  for (int64_t i = begin + first_index(); i < end; i += grid_stride()) {
    P x = reinterpret_cast<const P*>(arrays.x)[i];
    const P gradient = reinterpret_cast<const P*>(arrays.gradient)[i];
    P state[states > 0 ? states : 1];
#pragma unroll
    for (int s = 0; s < states; ++s) state[s] = reinterpret_cast<const P*>(arrays.state[s])[i];
#pragma unroll
    for (int k = 0; k < width; ++k) {
      if constexpr (states == 0) rule(x.at[k], gradient.at[k]);
      if constexpr (states == 1) rule(x.at[k], gradient.at[k], state[0].at[k]);
      if constexpr (states == 2) rule(x.at[k], gradient.at[k], state[0].at[k], state[1].at[k]);
    }
    reinterpret_cast<P*>(arrays.x)[i] = x;
#pragma unroll
    for (int s = 0; s < states; ++s) reinterpret_cast<P*>(arrays.state[s])[i] = state[s];
  }
}

// The same for `count` elements: packs of 16 bytes, and one by one what is left.
template <class T, int states, class Rule>
__device__ void update(const Rule& rule, const Arrays<T, states>& arrays, int64_t count, bool aligned) {
  constexpr int width = 16 / sizeof(T);
  const int64_t packs = aligned ? count / width : 0;
  update_packs<width>(rule, arrays, 0, packs);
  update_packs<1>(rule, arrays, packs * width, count);
}

// ---- SGD ----

template <class T>
struct SgdRule {
  T rate, momentum, decay;
  bool nesterov;

  __device__ void operator()(T& x, T gradient) const { x -= rate * (gradient + decay * x); }
  __device__ void operator()(T& x, T gradient, T& velocity) const {
    const T d = gradient + decay * x;
    velocity = momentum * velocity + d;
    x -= rate * (nesterov ? d + momentum * velocity : velocity);
  }
};

template <class T, int states>
__global__ void __launch_bounds__(threads_per_block) sgd(const ErrorRecord* errors, const float* rate, SgdRule<T> rule,
                                                         Arrays<T, states> arrays, int64_t count, bool aligned) {
  if (errors->kind != ErrorRecord::Kind::none) return;
  rule.rate = static_cast<T>(*rate);
  update(rule, arrays, count, aligned);
}

// ---- Adam ----

template <class T>
struct AdamRule {
  T beta1, rest1, beta2, rest2, epsilon, decay;
  T keep, size, correction;  // these depend on rate and count

  __device__ void operator()(T& x, T gradient, T& m, T& v) const {
    const T g = gradient + decay * x;
    m = beta1 * m + rest1 * g;
    v = beta2 * v + rest2 * g * g;
    x = keep * x - size * m / (std::sqrt(v) * correction + epsilon);
  }
};

template <class T>
__global__ void __launch_bounds__(threads_per_block)
    adam(const ErrorRecord* errors, const float* rate, const int64_t* steps, AdamAttrs options, AdamRule<T> rule,
         Arrays<T, 2> arrays, int64_t count, bool aligned) {
  if (errors->kind != ErrorRecord::Kind::none) return;
  // A power of doubles takes a thousand cycles: two threads of each block, at once, not every thread.
  XENT_SHARED(T, of_count, 2);
  if (threadIdx.x < 2) {
    const bool first = threadIdx.x == 0;
    const double rest = 1 - std::pow(first ? options.beta1 : options.beta2, static_cast<double>(*steps));
    of_count[threadIdx.x] = static_cast<T>(first ? static_cast<double>(*rate) / rest : 1 / std::sqrt(rest));
  }
  __syncthreads();
  rule.size = of_count[0];
  rule.correction = of_count[1];
  rule.keep = static_cast<T>(options.decoupled ? 1 - static_cast<double>(*rate) * options.weight_decay : 1);
  update(rule, arrays, count, aligned);
}

__global__ void add_to_counter(const ErrorRecord* errors, int64_t* counter, int64_t by) {
  if (errors->kind != ErrorRecord::Kind::none) return;
  *counter = static_cast<int64_t>(static_cast<uint64_t>(*counter) + static_cast<uint64_t>(by));  // wraps around
}

template <class T>
Grid grid_for(int64_t count, bool aligned) {
  const int64_t width = aligned ? 16 / sizeof(T) : 1;
  return {blocks_for(count / width + (count % width != 0)), threads_per_block, 0, threads_per_block};
}

template <int states, class T>
void start_sgd(const Call& call, const Arrays<T, states>& arrays) {
  const SgdAttrs& options = call.attrs.as<SgdAttrs>();
  const SgdRule<T> rule{0, static_cast<T>(options.momentum), static_cast<T>(options.weight_decay), options.nesterov};
  const int64_t count = call.in[0].shape.elements();
  const bool aligned = arrays.are_aligned();
  start(call, "sgd_step", grid_for<T>(count, aligned), sgd<T, states>, errors_of(call), call.in[3].as<float>(), rule,
        arrays, count, aligned);
}

}  // namespace

void sgd_step(const Call& call) {
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    T *x = call.in[0].as<T>(), *gradient = call.in[1].as<T>(), *velocity = call.in[2].as<T>();
    if (velocity) start_sgd(call, Arrays<T, 1>{x, gradient, {velocity}});
    else start_sgd(call, Arrays<T, 0>{x, gradient, {}});
  });
}

void adam_step(const Call& call) {
  const AdamAttrs& options = call.attrs.as<AdamAttrs>();
  const int64_t count = call.in[0].shape.elements();
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    AdamRule<T> rule{};
    rule.beta1 = static_cast<T>(options.beta1);
    rule.rest1 = static_cast<T>(1 - options.beta1);
    rule.beta2 = static_cast<T>(options.beta2);
    rule.rest2 = static_cast<T>(1 - options.beta2);
    rule.epsilon = static_cast<T>(options.epsilon);
    rule.decay = static_cast<T>(options.decoupled ? 0 : options.weight_decay);
    const Arrays<T, 2> arrays{call.in[0].as<T>(), call.in[1].as<T>(), {call.in[2].as<T>(), call.in[3].as<T>()}};
    const bool aligned = arrays.are_aligned();
    start(call, "adam_step", grid_for<T>(count, aligned), adam<T>, errors_of(call), call.in[4].as<float>(),
          call.in[5].as<int64_t>(), options, rule, arrays, count, aligned);
  });
}

void advance(const Call& call) {
  start(call, "advance", {1, 1}, add_to_counter, errors_of(call), call.in[0].as<int64_t>(),
        call.attrs.as<AdvanceAttrs>().by);
}

}  // namespace xent::cuda
