// Sums of [rows, columns] in f64, in an order that depends on the shape only: along a row, and down the columns.
//
//   const RowSums sums(rows, columns, 1);  // one kind of sum per column
//   sums.run([&](const RowChunk& part, double* const* to) {
//     sum_rows(part, [&](int64_t row, int64_t i) { return static_cast<double>(x[row * columns + i]); }, to[0]);
//   }, workspace);
//   sums.total(workspace, 0, column);
//
// The rows are cut into chunks that stay in the cache: what is summed next may read a chunk again, and memory is read
// once. Many columns are cut into blocks.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include <xent/core/parallel.h>

namespace xent::cpu {

// Rows [begin, end), columns [column, column + count).
struct RowChunk {
  static constexpr int64_t most_columns = 128;
  int64_t begin, end;
  int64_t column, count;
};

// to[i] = the sum of term(row, column) over the rows, for each column of a chunk.
template <class Term>
void sum_rows(const RowChunk& part, const Term& term, double* to) {
  double sums[RowChunk::most_columns];
  std::fill_n(sums, part.count, 0.0);
  int64_t r = part.begin;
  for (; r + 4 <= part.end; r += 4)  // four rows at a time: the sums are read and written once for all of them
    for (int64_t i = 0; i < part.count; ++i) {
      const int64_t column = part.column + i;
      sums[i] += (term(r, column) + term(r + 1, column)) + (term(r + 2, column) + term(r + 3, column));
    }
  for (; r < part.end; ++r)
    for (int64_t i = 0; i < part.count; ++i) sums[i] += term(r, part.column + i);
  std::copy_n(sums, part.count, to);
}

// Returns the sum of term(i) for i in [0, count), in eight sums side by side.
template <class Term>
double sum_run(int64_t count, const Term& term) {
  constexpr int64_t lanes = 8;
  double sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int64_t lane = 0; lane < lanes; ++lane) sums[lane] += term(i + lane);
  for (int64_t lane = 0; i < count; ++i, ++lane) sums[lane] += term(i);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

class RowSums {
 public:
  static constexpr int64_t most_kinds = 2;

  RowSums(int64_t rows, int64_t columns, int64_t kinds)
      : rows_(rows),
        columns_(columns),
        kinds_(kinds),
        blocks_((columns + RowChunk::most_columns - 1) / RowChunk::most_columns),
        chunk_(std::max<int64_t>(16, chunk_elements / std::clamp<int64_t>(columns, 1, RowChunk::most_columns))),
        chunks_((rows + chunk_ - 1) / chunk_) {}

  size_t workspace() const { return static_cast<size_t>(chunks_ * kinds_ * columns_) * sizeof(double); }
  int64_t chunks() const { return chunks_; }
  int64_t rows_of(int64_t chunk) const { return std::min(chunk_, rows_ - chunk * chunk_); }

  // Calls body(part, to) for every part; it writes its sums, `part.count` of kind k to to[k].
  template <class Body>
  void run(const Body& body, void* workspace) const {
    auto* partials = static_cast<double*>(workspace);
    parallel_chunks(chunks_ * blocks_, [&](int64_t item) {
      const int64_t chunk = item / blocks_, column = item % blocks_ * RowChunk::most_columns;
      std::array<double*, most_kinds> to{};
      for (int64_t k = 0; k < kinds_; ++k)
        to[static_cast<size_t>(k)] = partials + (chunk * kinds_ + k) * columns_ + column;
      body({chunk * chunk_, std::min(rows_, (chunk + 1) * chunk_), column,
            std::min(RowChunk::most_columns, columns_ - column)},
           to.data());
    });
  }

  double partial(const void* workspace, int64_t chunk, int64_t kind, int64_t column) const {
    return static_cast<const double*>(workspace)[(chunk * kinds_ + kind) * columns_ + column];
  }
  double total(const void* workspace, int64_t kind, int64_t column) const {
    double total = 0;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) total += partial(workspace, chunk, kind, column);
    return total;
  }

  // Calls body(column) for all columns, in parallel where there are many chunks to add up.
  template <class Body>
  void each_column(const Body& body) const {
    parallel_for(columns_, chunk_elements / std::max<int64_t>(chunks_, 1) + 1, [&](int64_t begin, int64_t end) {
      for (int64_t column = begin; column < end; ++column) body(column);
    });
  }

 private:
  static constexpr int64_t chunk_elements = 1 << 14;

  int64_t rows_, columns_, kinds_, blocks_;
  int64_t chunk_, chunks_;  // rows per chunk, and their number
};

}  // namespace xent::cpu
