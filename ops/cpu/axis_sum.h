// AxisSum: sums over some axes of a shape, in f64 and in an order that depends on the shape only.
//
//   const AxisSum sum({64, 784}, 0b01);  // over axis 0: 784 sums of 64 elements
//   sum.run<float>([&](int64_t at, int64_t, float*) { return x + at; },
//                  [&](int64_t j, double total) { y[j] = static_cast<float>(total); }, workspace);
//
// Neighbouring axes that are all summed over, or all kept, are merged. If the innermost axis is summed over, it is read
// in runs; if it is kept, in blocks of columns, row after row. Long sums are cut into chunks, whose partial sums lie in
// the workspace and are added in the order of the chunks.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include <xent/core/op.h>
#include <xent/core/parallel.h>

namespace xent::cpu {

class AxisSum {
 public:
  // Sums over the axes whose bits are set.
  AxisSum(const Shape& shape, Mask axes) {
    int64_t stride = 1;
    bool first = true, previous = false;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      const int64_t extent = shape[axis];
      if (extent == 1) continue;
      const bool summed = axes >> axis & 1;
      Axes& list = summed ? summed_ : kept_;
      if (first) inner_ = extent;
      else if (summed == previous && list.rank == 0) inner_ *= extent;
      else if (summed == previous) list.extent[list.rank - 1] *= extent;
      else list.push(extent, stride);
      if (first) inner_summed_ = summed;
      first = false;
      previous = summed;
      stride *= extent;
    }
    const int64_t columns = inner_summed_ ? 1 : std::min(inner_, width);
    length_ = inner_summed_ ? summed_.size() * inner_ : summed_.size();
    chunk_ = chunk_elements / std::max<int64_t>(columns, 1);
    chunks_ = std::max<int64_t>(1, (length_ + chunk_ - 1) / chunk_);
    blocks_ = inner_summed_ ? 1 : (inner_ + width - 1) / width;
    outputs_ = inner_summed_ ? kept_.size() : kept_.size() * inner_;
    grain_ = std::max<int64_t>(1, chunk_elements / std::max<int64_t>(columns * std::min(length_, chunk_), 1));
  }

  // Returns the bytes of the partial sums; none if no sum is cut.
  size_t workspace() const { return chunks_ == 1 ? 0 : static_cast<size_t>(outputs_ * chunks_) * sizeof(double); }

  // Calls store(j, total) for every output j. load(at, count, scratch) returns where the elements [at, at + count) are;
  // they may be computed into scratch, which has room for them.
  template <class T, class Load, class Store>
  void run(const Load& load, const Store& store, void* workspace) const {
    auto* partials = static_cast<double*>(workspace);
    parallel_for(kept_.size() * blocks_ * chunks_, grain_, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        // Blocks of the same rows follow each other: they share what the processor has fetched.
        const int64_t block = item % blocks_, part = item / blocks_ % chunks_, kept = item / blocks_ / chunks_;
        const auto emit = [&](int64_t j, double total) {
          if (chunks_ == 1) store(j, total);
          else partials[part * outputs_ + j] = total;
        };
        if (inner_summed_) sum_runs<T>(kept, part, load, emit);
        else sum_columns<T>(kept, block, part, load, emit);
      }
    });
    if (chunks_ == 1) return;
    parallel_for(outputs_, chunk_elements / chunks_ + 1, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) {
        double total = 0;
        for (int64_t part = 0; part < chunks_; ++part) total += partials[part * outputs_ + j];
        store(j, total);
      }
    });
  }

 private:
  static constexpr int64_t width = 1024;  // elements per load, and columns per block: sums and four rows fit in L1
  static constexpr int64_t chunk_elements = 1 << 14;
  static constexpr int64_t lanes = 8;  // of a run: independent sums keep the adders of a processor busy

  struct Axes {  // all but the innermost axis of the shape; the innermost first
    std::array<int64_t, Shape::max_rank> extent{}, stride{};
    size_t rank = 0;

    void push(int64_t next_extent, int64_t next_stride) {
      extent[rank] = next_extent;
      stride[rank++] = next_stride;
    }
    int64_t size() const {
      int64_t product = 1;
      for (size_t axis = 0; axis < rank; ++axis) product *= extent[axis];
      return product;
    }
    int64_t offset(int64_t index) const {
      int64_t at = 0;
      for (size_t axis = 0; axis < rank; ++axis) {
        const bool last = axis + 1 == rank;  // saves a division
        at += (last ? index : index % extent[axis]) * stride[axis];
        if (!last) index /= extent[axis];
      }
      return at;
    }
  };

  template <class T, class Load, class Emit>
  void sum_runs(int64_t kept, int64_t part, const Load& load, const Emit& emit) const {
    const int64_t end = std::min(length_, (part + 1) * chunk_), base = kept_.offset(kept);
    T scratch[width];
    double sums[lanes] = {};
    for (int64_t i = part * chunk_; i < end;) {
      const int64_t column = i % inner_, count = std::min({inner_ - column, end - i, width});
      const T* x = load(base + summed_.offset(i / inner_) + column, count, scratch);
      int64_t k = 0;
      for (; k + lanes <= count; k += lanes)
        for (int64_t lane = 0; lane < lanes; ++lane) sums[lane] += static_cast<double>(x[k + lane]);
      for (int64_t lane = 0; k < count; ++k, ++lane) sums[lane] += static_cast<double>(x[k]);
      i += count;
    }
    emit(kept, ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7])));
  }

  template <class T, class Load, class Emit>
  void sum_columns(int64_t kept, int64_t block, int64_t part, const Load& load, const Emit& emit) const {
    const int64_t column = block * width, count = std::min(width, inner_ - column);
    const int64_t end = std::min(length_, (part + 1) * chunk_), base = kept_.offset(kept) + column;
    T scratch[4][width];
    double sums[width];
    std::fill_n(sums, count, 0.0);
    int64_t i = part * chunk_;
    const auto next_row = [&](T* to) { return load(base + summed_.offset(i++), count, to); };
    while (i + 4 <= end) {  // four rows at a time: the sums are read and written once for all of them
      const T *a = next_row(scratch[0]), *b = next_row(scratch[1]);
      const T *c = next_row(scratch[2]), *d = next_row(scratch[3]);
      for (int64_t k = 0; k < count; ++k)
        sums[k] += (static_cast<double>(a[k]) + static_cast<double>(b[k])) +
                   (static_cast<double>(c[k]) + static_cast<double>(d[k]));
    }
    while (i < end) {
      const T* a = next_row(scratch[0]);
      for (int64_t k = 0; k < count; ++k) sums[k] += static_cast<double>(a[k]);
    }
    for (int64_t k = 0; k < count; ++k) emit(kept * inner_ + column + k, sums[k]);
  }

  Axes kept_, summed_;
  int64_t inner_ = 1;  // the extent of the innermost axis
  bool inner_summed_ = false;
  int64_t length_, chunk_;   // of one sum: elements, or rows if the innermost axis is kept; as many per chunk
  int64_t chunks_, blocks_;  // per sum; of columns
  int64_t outputs_, grain_;
};

}  // namespace xent::cpu
