// Our side of tests/bench/run: does the work it is asked for and says how long it took.
//
//   bench_serve THREADS
//
// It prints READY and what it is, then answers lines such as "20 mlp 64 adam" (so many steps of that work) with the
// seconds per step. One step before goes untimed: it fetches back what others have driven out of the caches.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <xent/ops/cpu/gemm.h>
#include <xent/xent.h>

#include "peak.h"
#include "training.h"

namespace {

using namespace xent;
using Work = std::function<void(int64_t steps)>;

Work repeat(std::function<void()> once) {
  return [once = std::move(once)](int64_t steps) {
    for (; steps > 0; --steps) once();
  };
}

// What follows on the line; throws if it is not there.
template <class T = int64_t>
T next(std::istream& line) {
  T value;
  if (!(line >> value)) throw std::runtime_error("a word is missing, or no number where one is expected");
  return value;
}

Work fma() {  // 10^7 operations a step
  return repeat([] { bench::multiply_add(1e7); });
}

Work copy() {  // 2^26 bytes a step, read and written
  const Shape shape{int64_t{1} << 24};
  return repeat([from = Tensor::ones(shape), to = Tensor::zeros(shape)]() mutable {
    bench::copy_past_caches(reinterpret_cast<char*>(to.mutable_data<float>()),
                            reinterpret_cast<const char*>(from.data<float>()), int64_t{1} << 26);
  });
}

Work gemm(std::istream& line) {  // m n k, then nn, tn or nt
  GemmShape shape{next(line), next(line), next(line)};
  const auto kind = next<std::string>(line);
  shape.transpose_a = kind == "tn";
  shape.transpose_b = kind == "nt";
  Generator random(1);
  return repeat([shape, a = normal({shape.m * shape.k}, 0, 1, random), b = normal({shape.k * shape.n}, 0, 1, random),
                 c = Tensor::zeros({shape.m, shape.n})]() mutable {
    cpu::gemm(shape, a.data<float>(), b.data<float>(), 0.0f, c.mutable_data<float>());
  });
}

Work conv(std::istream& line) {  // forward or backward, batch extent in out: 3 x 3 kernels, images of extent x extent
  const bool backward = next<std::string>(line) == "backward";
  const int64_t batch = next(line), extent = next(line), in = next(line), out = next(line);
  Generator random(1);
  const Tensor x = normal({batch, extent, extent, in}, 0, 1, random), weight = normal({3, 3, in, out}, 0, 0.1, random),
               bias = normal({out}, 0, 1, random), dy = normal({batch, extent - 2, extent - 2, out}, 0, 1, random);
  if (!backward) return repeat([=] { conv2d(x, weight, bias); });
  auto tape = std::make_shared<Tape>();
  if (in > 1) tape->watch(x);  // the first layer's images want no gradient
  tape->watch(weight);
  tape->watch(bias);
  return repeat([=, y = conv2d(x, weight, bias)] { tape->backward(y, {.upstream = dy, .retain = true}); });
}

Work loss(std::istream& line) {  // rows classes dtype, then in_place or new: where the gradient goes
  const int64_t rows = next(line), classes = next(line);
  const DType dtype = next<std::string>(line) == "bf16" ? DType::bf16 : DType::f32;
  const bool in_place = next<std::string>(line) == "in_place";
  Generator random(1);
  const Tensor labels = label_sample({rows}, classes, DType::i64, 1);
  // In place, a gradient is the next step's logits: that saves copying, and takes as long.
  return repeat([=, logits = cast(normal({rows, classes}, 0, 1, random), dtype)]() mutable {
    if (in_place) logits = softmax_cross_entropy_with_grad(std::move(logits), labels).grad;
    else softmax_cross_entropy_with_grad(logits, labels);
  });
}

Work train(std::istream& line, Sequential (*make)(Generator&)) {  // batch, then adam or sgd
  static const ImageDataset data = bench::training_data();
  const int64_t batch = next(line);
  auto training = std::make_shared<bench::Training>(data, batch, make, next<std::string>(line) == "adam");
  training->run(3);  // the third step is the first that is replayed
  return [=](int64_t steps) { training->run(steps); };
}

Work make_work(std::istream& line) {
  const auto kind = next<std::string>(line);
  if (kind == "fma") return fma();
  if (kind == "copy") return copy();
  if (kind == "gemm") return gemm(line);
  if (kind == "conv") return conv(line);
  if (kind == "loss") return loss(line);
  if (kind == "mlp") return train(line, bench::make_mlp);
  if (kind == "small") return train(line, bench::make_small_mlp);
  if (kind == "cnn") return train(line, bench::make_cnn);
  throw std::runtime_error("no such work: " + kind);
}

const char* name(cpu::InstructionSet set) {
  switch (set) {
    case cpu::InstructionSet::avx512: return "AVX-512";
    case cpu::InstructionSet::avx2: return "AVX2";
    default: return "baseline";
  }
}

void serve() {
  std::printf("READY xent, %s, compiled by %s\n", name(cpu::instruction_set()),
#if defined(__clang__)
              "clang " __clang_version__
#else
              "GCC " __VERSION__
#endif
  );
  std::fflush(stdout);
  Work work;
  for (std::string text, last; std::getline(std::cin, text);) {
    std::istringstream line(text);
    const int64_t steps = next(line);
    if (const std::string asked = text.substr(text.find(' ') + 1); asked != last) {
      work = {};  // its memory first
      work = make_work(line);
      last = asked;
    }
    work(1);
    const auto start = std::chrono::steady_clock::now();
    work(steps);
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    std::printf("%.9g\n", spent.count() / static_cast<double>(steps));
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 2) throw std::runtime_error("usage: bench_serve THREADS");
    set_threads(std::atoi(argv[1]));
    serve();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_serve: %s\n", error.what());
    return 1;
  }
}
