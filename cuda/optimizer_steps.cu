// sgd_step, adam_step and advance on CUDA; ops/optimizer_steps.cpp has the formulas.
//
// One launch for many parameters (core/join.h): a table of them is the kernel's argument, so that a graph has a copy of
// it and nothing is sent to the device; a block finds its parameter there. One pass over each array, in packs of 16
// bytes where all arrays of a parameter are aligned for it. Bytes per element of f32: sgd reads x and g and writes x,
// 12; with momentum 20; adam 28. The learning rate and the step count are read on the device, so a replayed graph uses
// what they are then; what follows from them alone is computed in f64 and rounded to the parameter's type, once per
// block. The rest is in the parameter's type, with fused multiply-adds.
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include <xent/cuda/call.cuh>
#include <xent/ops/optimizer_steps.h>

namespace xent::cuda {

namespace {

// A parameter, its gradient, and one array for each kind of state: velocity, or both moments.
template <class T, int states>
struct Segment {
  T* x;
  const T* gradient;
  T* state[states > 0 ? states : 1];
  const float* rate;
  const int64_t* steps;
  int64_t count;
  bool aligned;
};

// As many segments as the 4 KB of a kernel's arguments hold. Those from first_block[s] on work on segment s.
template <class T, int states>
struct Table {
  static constexpr int most = 48;
  Segment<T, states> segments[most];
  unsigned first_block[most + 1];
  int count;

  template <class F>
  void for_each_pointer(F&& f) const {
    for (int s = 0; s < count; ++s) {
      f(segments[s].x), f(segments[s].gradient), f(segments[s].rate), f(segments[s].steps);
      for (int k = 0; k < states; ++k) f(segments[s].state[k]);
    }
  }
};

constexpr int64_t elements_per_block = 8 * threads_per_block;

template <class T, int width>
struct alignas(width * sizeof(T)) Pack {
  T at[width];
};

template <class T, int states>
__device__ const Segment<T, states>& segment_of_block(const Table<T, states>& table, int64_t& begin) {
  int s = 0;
  while (blockIdx.x >= table.first_block[s + 1]) ++s;
  begin = static_cast<int64_t>(blockIdx.x - table.first_block[s]) * elements_per_block;
  return table.segments[s];
}

// Calls rule(x, gradient, state) for each element of packs [begin, end), and keeps what it makes of x and state.
template <int width, class T, int states, class Rule>
__device__ void update_packs(const Rule& rule, const Segment<T, states>& segment, int64_t begin, int64_t end) {
  using P = Pack<T, width>;
  for (int64_t i = begin + threadIdx.x; i < end; i += threads_per_block) {
    P x = reinterpret_cast<const P*>(segment.x)[i];
    const P gradient = reinterpret_cast<const P*>(segment.gradient)[i];
    P state[states > 0 ? states : 1];
#pragma unroll
    for (int s = 0; s < states; ++s) state[s] = reinterpret_cast<const P*>(segment.state[s])[i];
#pragma unroll
    for (int k = 0; k < width; ++k) {
      if constexpr (states == 0) rule(x.at[k], gradient.at[k]);
      if constexpr (states == 1) rule(x.at[k], gradient.at[k], state[0].at[k]);
      if constexpr (states == 2) rule(x.at[k], gradient.at[k], state[0].at[k], state[1].at[k]);
    }
    reinterpret_cast<P*>(segment.x)[i] = x;
#pragma unroll
    for (int s = 0; s < states; ++s) reinterpret_cast<P*>(segment.state[s])[i] = state[s];
  }
}

// The same for a block's elements from `begin` on: packs of 16 bytes, and one by one what is left.
template <class T, int states, class Rule>
__device__ void update(const Rule& rule, const Segment<T, states>& segment, int64_t begin) {
  constexpr int width = 16 / sizeof(T);
  const int64_t end = begin + elements_per_block < segment.count ? begin + elements_per_block : segment.count;
  const int64_t packed = segment.aligned ? end / width * width : begin;
  update_packs<width>(rule, segment, begin / width, packed / width);
  update_packs<1>(rule, segment, packed, end);
}

template <class T>
__device__ T normal_or_zero(T mean) {  // as on the CPU, where others would cost time (ops/cpu/optimizer_kernel.h)
  return std::abs(mean) < std::numeric_limits<T>::min() ? 0 : mean;
}

// ---- SGD ----

template <class T>
struct SgdRule {
  T rate, momentum, decay;
  bool nesterov;

  __device__ void operator()(T& x, T gradient) const { x -= rate * (gradient + decay * x); }
  __device__ void operator()(T& x, T gradient, T& velocity) const {
    const T d = gradient + decay * x;
    velocity = normal_or_zero(momentum * velocity + d);
    x -= rate * (nesterov ? d + momentum * velocity : velocity);
  }
};

template <class T, int states>
__global__ void __launch_bounds__(threads_per_block)
    sgd(const ErrorRecord* errors, SgdRule<T> rule, const __grid_constant__ Table<T, states> table) {
  if (errors->kind != ErrorRecord::Kind::none) return;
  int64_t begin = 0;
  const Segment<T, states>& segment = segment_of_block(table, begin);
  rule.rate = static_cast<T>(*segment.rate);
  update(rule, segment, begin);
}

// ---- Adam ----

template <class T>
struct AdamRule {
  T beta1, rest1, beta2, rest2, epsilon, decay;
  T keep, size, correction;  // these depend on rate and count

  __device__ void operator()(T& x, T gradient, T& m, T& v) const {
    const T g = gradient + decay * x;
    m = normal_or_zero(beta1 * m + rest1 * g);
    v = beta2 * v + rest2 * g * g;
    x = keep * x - size * m / (std::sqrt(v) * correction + epsilon);
  }
};

template <class T>
__global__ void __launch_bounds__(threads_per_block)
    adam(const ErrorRecord* errors, AdamAttrs options, AdamRule<T> rule, const __grid_constant__ Table<T, 2> table) {
  if (errors->kind != ErrorRecord::Kind::none) return;
  int64_t begin = 0;
  const Segment<T, 2>& segment = segment_of_block(table, begin);
  const auto rate = static_cast<double>(*segment.rate);
  // A power of doubles takes a thousand cycles: two threads of each block, at once, not every thread.
  XENT_SHARED(T, of_count, 2);
  if (threadIdx.x < 2) {
    const bool first = threadIdx.x == 0;
    const double rest = 1 - std::pow(first ? options.beta1 : options.beta2, static_cast<double>(*segment.steps));
    of_count[threadIdx.x] = static_cast<T>(first ? rate / rest : 1 / std::sqrt(rest));
  }
  __syncthreads();
  rule.size = of_count[0];
  rule.correction = of_count[1];
  rule.keep = static_cast<T>(options.decoupled ? 1 - rate * options.weight_decay : 1);
  update(rule, segment, begin);
}

__global__ void add_to_counter(const ErrorRecord* errors, int64_t* counter, int64_t by) {
  if (errors->kind != ErrorRecord::Kind::none) return;
  *counter = static_cast<int64_t>(static_cast<uint64_t>(*counter) + static_cast<uint64_t>(by));  // wraps around
}

bool is_aligned(const Slice& slice) { return reinterpret_cast<uintptr_t>(slice.data) % 16 == 0; }

// Calls start(table) for the parameters of type T with so many states, as many at a time as a table holds. The inputs
// of each are x, gradient, states (a velocity may be missing), rate, and of Adam the step count.
template <class T, int states, class Start>
void for_each_table(const Call& call, const Start& start) {
  constexpr size_t first_state = 2, state_inputs = states == 2 ? 2 : 1, rate = first_state + state_inputs;
  constexpr size_t inputs = rate + (states == 2 ? 2 : 1);
  Table<T, states> table{};
  for (size_t at = 0; at < call.in.size(); at += inputs) {
    const std::span<const Slice> in = call.in.subspan(at, inputs);
    const int64_t count = in[0].shape.elements();
    if (in[0].dtype != dtype_of<T> || count == 0 || (states > 0) != static_cast<bool>(in[first_state])) continue;
    Segment<T, states> segment{in[0].as<T>(),
                               in[1].as<T>(),
                               {},
                               in[rate].as<float>(),
                               states == 2 ? in[inputs - 1].as<int64_t>() : nullptr,
                               count,
                               is_aligned(in[0]) && is_aligned(in[1])};
    for (int s = 0; s < states; ++s) {
      segment.state[s] = in[first_state + s].as<T>();
      segment.aligned = segment.aligned && is_aligned(in[first_state + s]);
    }
    table.segments[table.count] = segment;
    const int64_t blocks = (count - 1) / elements_per_block + 1;
    table.first_block[table.count + 1] = table.first_block[table.count] + static_cast<unsigned>(blocks);
    if (++table.count < table.most) continue;
    start(table);
    table.count = 0;
  }
  if (table.count > 0) start(table);
}

template <class T, int states>
Grid grid_for(const Table<T, states>& table) {
  return {table.first_block[table.count], threads_per_block, 0, threads_per_block};
}

template <class T, int states>
void start_sgd(const Call& call) {
  const SgdAttrs& options = call.attrs.as<SgdAttrs>();
  const SgdRule<T> rule{0, static_cast<T>(options.momentum), static_cast<T>(options.weight_decay), options.nesterov};
  for_each_table<T, states>(call, [&](const Table<T, states>& table) {
    start(call, "sgd_step", grid_for(table), sgd<T, states>, errors_of(call), rule, table);
  });
}

template <class T>
void start_adam(const Call& call) {
  const AdamAttrs& options = call.attrs.as<AdamAttrs>();
  AdamRule<T> rule{};
  rule.beta1 = static_cast<T>(options.beta1);
  rule.rest1 = static_cast<T>(1 - options.beta1);
  rule.beta2 = static_cast<T>(options.beta2);
  rule.rest2 = static_cast<T>(1 - options.beta2);
  rule.epsilon = static_cast<T>(options.epsilon);
  rule.decay = static_cast<T>(options.decoupled ? 0 : options.weight_decay);
  for_each_table<T, 2>(call, [&](const Table<T, 2>& table) {
    start(call, "adam_step", grid_for(table), adam<T>, errors_of(call), options, rule, table);
  });
}

}  // namespace

void sgd_step(const Call& call) {
  start_sgd<float, 0>(call);
  start_sgd<float, 1>(call);
  start_sgd<double, 0>(call);
  start_sgd<double, 1>(call);
}

void adam_step(const Call& call) {
  start_adam<float>(call);
  start_adam<double>(call);
}

void advance(const Call& call) {
  start(call, "advance", {1, 1}, add_to_counter, errors_of(call), call.in[0].as<int64_t>(),
        call.attrs.as<AdvanceAttrs>().by);
}

}  // namespace xent::cuda
