// The product behind matmul and linear against three plain loops, at sizes around every edge of tiles, panels and
// slabs. ctest runs it once per instruction set.
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/parallel.h>
#include <xent/core/random.h>
#include <xent/ops/cpu/gemm.h>

#include "machine_has_it.h"

using namespace xent;

namespace {

template <class T>
std::vector<T> numbers(int64_t count, HostRandom& random) {
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) value = static_cast<T>(random.normal());
  return values;
}

template <class T>
struct Operands {
  GemmShape shape;
  std::vector<T> a, b, c;

  Operands(const GemmShape& s, uint64_t seed) : shape(s) {
    HostRandom random(seed);
    a = numbers<T>(s.m * s.k, random);
    b = numbers<T>(s.k * s.n, random);
    c = numbers<T>(s.m * s.n, random);
  }

  std::vector<T> product(float beta, const cpu::Epilogue<T>& epilogue = {}) const {
    std::vector<T> out = c;
    if (beta == 0) out.assign(out.size(), std::numeric_limits<T>::quiet_NaN());  // beta 0 writes without reading
    cpu::gemm(shape, a.data(), b.data(), beta, out.data(), epilogue);
    return out;
  }

  // The largest error, in units of the sum of the terms' absolute values times the type's epsilon.
  double error(const std::vector<T>& got, float beta) const {
    // From one term to the next, and from one row or column; by pointers, which are faster under sanitizers.
    const int64_t a_step = shape.transpose_a ? shape.m : 1, a_row = shape.transpose_a ? 1 : shape.k;
    const int64_t b_step = shape.transpose_b ? 1 : shape.n, b_column = shape.transpose_b ? shape.k : 1;
    double worst = 0;
    for (int64_t i = 0; i < shape.m; ++i)
      for (int64_t j = 0; j < shape.n; ++j) {
        const size_t at = static_cast<size_t>(i * shape.n + j);
        const T *left = a.data() + i * a_row, *right = b.data() + j * b_column;
        double sum = beta == 0 ? 0 : static_cast<double>(c[at]), scale = std::abs(sum);
        for (int64_t k = 0; k < shape.k; ++k) {
          const double term = static_cast<double>(left[k * a_step]) * static_cast<double>(right[k * b_step]);
          sum += term;
          scale += std::abs(term);
        }
        const double difference = std::abs(static_cast<double>(got[at]) - sum);
        if (difference == 0) continue;
        const double units = difference / (scale * std::numeric_limits<T>::epsilon());
        worst = std::max(worst, std::isnan(difference) ? 1e9 : units);
      }
    return worst;
  }
};

template <class T>
void check(const GemmShape& base) {
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true})
      for (const float beta : {0.0f, 1.0f}) {
        GemmShape shape = base;
        shape.transpose_a = transpose_a;
        shape.transpose_b = transpose_b;
        CAPTURE(shape.m);
        CAPTURE(shape.n);
        CAPTURE(shape.k);
        const Operands<T> operands(shape, 1);
        CHECK(operands.error(operands.product(beta), beta) < 8);
      }
}

}  // namespace

TEST_CASE("every size around the edges of tiles and panels") {
  if (!machine_has_it()) return;
  for (const int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 24})
    for (const int64_t n : {1, 7, 8, 9, 16, 17, 32, 33})
      for (const int64_t k : {0, 1, 5, 64}) {
        check<float>({m, n, k});
        check<double>({m, n, k});
      }
}

TEST_CASE("sizes of several blocks and slabs") {
  if (!machine_has_it()) return;
  for (const GemmShape& shape : {GemmShape{64, 10, 256},
                                 {65, 129, 257},
                                 {130, 300, 31},
                                 {3, 140, 600},
                                 {200, 1, 300},
                                 {1, 200, 300},
                                 {64, 128, 2000},
                                 {33, 150, 450},
                                 {64, 200, 512},
                                 {31, 40, 1024},
                                 {40, 2200, 70},
                                 {70, 100, 3000}}) {
    check<float>(shape);
    check<double>(shape);
  }
}

TEST_CASE("empty products are zero, or leave C as it is") {
  if (!machine_has_it()) return;
  const Operands<float> none({3, 5, 0}, 2);
  CHECK(none.product(0) == std::vector<float>(15, 0));
  CHECK(none.product(1) == none.c);
  CHECK(Operands<float>({0, 5, 3}, 3).product(0).empty());
}

template <class T>
void check_epilogue(double tolerance) {
  const auto applied = [](Activation activation, double z) {
    switch (activation) {
      case Activation::relu: return z <= 0 ? 0 : z;
      case Activation::tanh: return std::tanh(z);
      case Activation::sigmoid: return 1 / (1 + std::exp(-z));
      default: return z;
    }
  };
  for (const GemmShape& shape : {GemmShape{70, 150, 300}, {13, 33, 9}, {5, 10, 64}, {3, 40, 0}}) {
    const Operands<T> operands(shape, 4);
    HostRandom random(5);
    const std::vector<T> bias = numbers<T>(shape.n, random);
    for (const float beta : {0.0f, 1.0f})
      for (const T* with : {static_cast<const T*>(nullptr), bias.data()})
        for (const Activation activation :
             {Activation::none, Activation::relu, Activation::tanh, Activation::sigmoid}) {
          const std::vector<T> plain = operands.product(beta), fused = operands.product(beta, {with, activation});
          for (size_t i = 0; i < fused.size(); ++i) {
            const T z = with ? plain[i] + bias[i % bias.size()] : plain[i];  // rounded once more, as the kernel does
            REQUIRE(std::abs(static_cast<double>(fused[i]) - applied(activation, static_cast<double>(z))) <= tolerance);
          }
        }
  }
}

TEST_CASE("bias and activation are applied once, to the finished sum") {
  if (!machine_has_it()) return;
  check_epilogue<double>(1e-15);
  check_epilogue<float>(2e-7);
}

TEST_CASE("relu keeps a NaN of the product, in whole panels and in the last one") {
  if (!machine_has_it()) return;
  Operands<float> operands({14, 37, 5}, 6);
  for (size_t i = 0; i < 14; ++i) operands.a[5 * i] = std::numeric_limits<float>::quiet_NaN();
  for (const float y : operands.product(0, {nullptr, Activation::relu})) CHECK(std::isnan(y));
}

TEST_CASE("the bits do not depend on the number of threads, nor an element's on where it is in C") {
  if (!machine_has_it()) return;
  const int before = threads();
  const auto product = [](const Operands<float>& operands, int count) {
    set_threads(count);
    return operands.product(0);
  };
  const Operands<float> operands({150, 200, 700}, 6);
  const std::vector<float> one = product(operands, 1);
  CHECK(product(operands, 3) == one);
  for (const Operands<float>& others :
       {Operands<float>({64, 128, 2000}, 7), Operands<float>({40, 200, 450, false, true}, 8),
        Operands<float>({40, 2200, 70, false, true}, 9)})
    CHECK(product(others, 3) == product(others, 1));
  set_threads(before);

  if (cpu::instruction_set() == cpu::InstructionSet::baseline) return;  // Eigen sums small products in another order
  Operands<float> row = operands;
  row.shape.m = 1;
  row.a.assign(operands.a.begin() + 77 * 700, operands.a.begin() + 78 * 700);
  row.c.resize(200);
  const std::vector<float> alone = row.product(0);
  CHECK(std::memcmp(alone.data(), one.data() + 77 * 200, alone.size() * sizeof(float)) == 0);
}
