// sum_axes: sums over some axes of a shape, in f64 and in an order that depends on the shape only.
//
//   sum_axes(call, "sum", {64, 784}, 0b01, ElementsOf<float>{x}, RoundedTo<float>{y, 1});   // y: 784 sums of 64
//   elements
//
// A term says what an element of the shape adds to its sum, a store what becomes of the sum of output j:
//
//   struct Term {
//     using Value = double;        // what is passed on between threads, see block_sum.cuh
//     using Running = double;      // what a thread adds up in
//     __device__ void add(Running& running, const Place& place) const;
//     __device__ Value finish(const Running& running) const;
//   };
//   struct Store { __device__ void operator()(int64_t j, const Value& sum) const; };
//
// Neighbouring axes that are all summed over, or all kept, are merged. Threads that are neighbours read neighbours: if
// the innermost axis is summed over, 1 to 32 lanes or a whole block share a sum; if it is kept, every thread has a
// column of its own. Where this makes too few threads, sums are cut into chunks, and a second launch adds up what they
// left in the workspace. Everything is read once.
#pragma once

#include <algorithm>
#include <cstdint>

#include <xent/cuda/axes.cuh>
#include <xent/cuda/block_sum.cuh>
#include <xent/cuda/call.cuh>

namespace xent::cuda {

// An element of the shape: the `term`-th of sum `output`. Of a matrix, these are its row and column.
struct Place {
  int64_t element, output, term;
};

// How many lanes share a sum of this many elements, if no other sum has elements between them: a power of two, or the
// whole block.
inline constexpr int whole_block = threads_per_block;
inline int lanes_for(int64_t length) {
  if (length > 2048) return whole_block;
  int lanes = 1;
  while (lanes < 32 && lanes * 4 < length) lanes *= 2;
  return lanes;
}

class AxisSum {
 public:
  AxisSum(const Shape& shape, Mask axes) {
    int64_t stride = 1;
    int64_t inner_kept = 1;  // the extent of the innermost axis if it is kept
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      if (shape[axis] == 1) continue;
      (axes >> axis & 1 ? summed_ : kept_).push(shape[axis], stride);
      if (summed_.size == 1) inner_kept = kept_.size;
      stride *= shape[axis];
    }
    const int64_t outputs = std::max<int64_t>(kept_.size, 1);
    if (inner_kept != 1) {
      inner_ = Divisor(inner_kept);
      chunks_ = parts(summed_.size / 64, (int64_t{1} << 17) / outputs);
    } else {
      lanes_ = lanes_for(summed_.size);
      if (lanes_ == whole_block) chunks_ = parts(summed_.size / (16 * whole_block), 2048 / outputs);
    }
  }

  // The sums of the rows of a matrix, none of them cut.
  static AxisSum of_rows(int64_t rows, int64_t columns) {
    AxisSum sum;
    if (rows != 1) sum.kept_.push(rows, columns);
    if (columns != 1) sum.summed_.push(columns, 1);
    sum.lanes_ = lanes_for(columns);
    return sum;
  }

  int64_t outputs() const { return kept_.size; }
  int64_t chunks() const { return chunks_.by; }
  template <class Value>
  size_t workspace() const {
    return chunks() == 1 ? 0 : static_cast<size_t>(outputs() * chunks()) * sizeof(Value);
  }

  __host__ __device__ int64_t items() const { return kept_.size * chunks_.by; }  // a sum, or a chunk of one
  __host__ __device__ int lanes() const { return lanes_; }

  // An item is a chunk of output j. Items of neighbouring columns are neighbours, then come the chunks.
  struct Item {
    int64_t j, chunk;
  };
  __device__ Item item(int64_t number) const {
    const auto [beyond, column] = inner_.of(number);
    const auto [j, chunk] = chunks_.of(beyond);
    return {j * inner_.by + column, chunk};
  }

  // Where the item's sum goes: the chunks of an output are neighbours.
  __device__ int64_t output(const Item& item) const { return item.j * chunks_.by + item.chunk; }

  // What a lane adds up of an item.
  template <class Term>
  __device__ typename Term::Value run(const Item& item, int lane, const Term& term) const {
    typename Term::Running running = {};
    const int64_t j = item.j, base = kept_.offset(j), step = chunks_.by * lanes_;
#pragma unroll 4
    for (int64_t i = item.chunk * lanes_ + lane; i < summed_.size; i += step)
      term.add(running, {base + summed_.offset(i), j, i});
    return term.finish(running);
  }

 private:
  AxisSum() = default;

  static Divisor parts(int64_t wanted, int64_t most) { return Divisor(std::min(wanted, most)); }

  MergedAxes kept_, summed_;
  Divisor inner_;  // columns; 1 if the innermost axis is summed over
  Divisor chunks_;
  int lanes_ = 1;
};

template <class Term, class Store>
__global__ void __launch_bounds__(threads_per_block) axis_sum(const AxisSum sum, const Term term, const Store store) {
  using Value = typename Term::Value;
  const int lanes = sum.lanes(), bits = __ffs(lanes) - 1;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  // A warp, or the block, stays together: all of it takes part in the sum.
  const int beside = static_cast<int>(lanes == whole_block ? threadIdx.x : threadIdx.x % 32);
  for (int64_t thread = first_index(); (thread - beside) >> bits < sum.items(); thread += grid_stride()) {
    const int64_t number = thread >> bits;
    const bool in_range = number < sum.items();
    const AxisSum::Item item = sum.item(number);
    Value value = {};
    if (in_range) value = sum.run(item, lane, term);
    value = lanes == whole_block ? block_sum<whole_block>(value) : warp_sum(value, lanes);
    if (in_range && lane == 0) store(sum.output(item), value);
  }
}

// ---- terms and stores ----

template <class T>
struct ElementsOf {
  using Value = double;
  using Running = double;
  const T* x;
  __device__ void add(double& running, const Place& place) const { running += static_cast<double>(x[place.element]); }
  __device__ double finish(double running) const { return running; }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(x);
  }
};

// What the chunks of a sum have left.
template <class V>
struct PartialSums {
  using Value = V;
  using Running = V;
  const V* of;
  __device__ void add(V& running, const Place& place) const { running = running + of[place.element]; }
  __device__ V finish(const V& running) const { return running; }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(of);
  }
};

// Leaves the sums of chunks in the workspace, or stores those that are whole: one kernel for both.
template <class V, class Store>
struct IntoPartials {
  V* of;  // null if sums are whole
  Store store;
  __device__ void operator()(int64_t j, const V& sum) const {
    if (of) of[j] = sum;
    else store(j, sum);
  }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(of);
    store.for_each_pointer(f);
  }
};

// y_j = sum / divisor, rounded once.
template <class T>
struct RoundedTo {
  T* y;
  double divisor;
  __device__ void operator()(int64_t j, double sum) const { y[j] = static_cast<T>(sum / divisor); }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(y);
  }
};

// Takes the workspace that AxisSum(shape, axes).workspace<Term::Value>() says.
template <class Term, class Store>
void sum_axes(const Call& call, const char* name, const Shape& shape, Mask axes, const Term& term, const Store& store,
              void* workspace) {
  using Value = typename Term::Value;
  const AxisSum sum(shape, axes);
  auto* partials = sum.chunks() == 1 ? nullptr : static_cast<Value*>(workspace);
  start(call, name, {blocks_for(sum.items() * sum.lanes())}, axis_sum<Term, IntoPartials<Value, Store>>, sum, term,
        IntoPartials<Value, Store>{partials, store});
  if (!partials) return;
  const AxisSum rest = AxisSum::of_rows(sum.outputs(), sum.chunks());
  start(call, name, {blocks_for(rest.items() * rest.lanes())}, axis_sum<PartialSums<Value>, Store>, rest,
        PartialSums<Value>{partials}, store);
}

}  // namespace xent::cuda
