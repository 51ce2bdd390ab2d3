// Times softmax_cross_entropy_with_grad in place, its loss and gradient of the logits in one pass over them, for a few
// shapes, types and numbers of threads, in bursts that take turns with a copy of as many bytes by non-temporal stores:
// what the memory allows. Prints the median with the quarter and three quarter points, and the share of the copy's
// rate.
//
//   bench_loss [rows classes] [rounds]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <xent/core/parallel.h>
#include <xent/ops/samples.h>
#include <xent/xent.h>

using namespace xent;

namespace {

double milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// Copies bytes, a multiple of 16 at addresses that are, past the caches.
void copy_past_caches(const void* from, void* to, int64_t bytes) {
  parallel_for(bytes / 16, 1 << 16, [&](int64_t begin, int64_t end) {
#if defined(__SSE2__)
    const auto* source = static_cast<const __m128i*>(from);
    auto* target = static_cast<__m128i*>(to);
    for (int64_t i = begin; i < end; ++i) _mm_stream_si128(target + i, _mm_load_si128(source + i));
    _mm_sfence();
#else
    std::memcpy(static_cast<char*>(to) + 16 * begin, static_cast<const char*>(from) + 16 * begin, static_cast<size_t>(16 * (end - begin)));
#endif
  });
}

struct Times {
  std::vector<double> all;

  double at(double share) {
    std::sort(all.begin(), all.end());
    return all[static_cast<size_t>(share * static_cast<double>(all.size() - 1))];
  }
};

// Times every call by itself: on a machine that others use as well, the best of many short ones means most.
void measure(int64_t rows, int64_t classes, DType dtype, int thread_count, int rounds) {
  set_threads(thread_count);
  const Tensor original = normal_sample({rows, classes}, dtype, 1);
  const Tensor labels = label_sample({rows}, classes, DType::i64, 2);
  Tensor logits = original.clone(), grad = original.clone();
  const int64_t bytes = original.elements() * static_cast<int64_t>(size_of(dtype));
  const int64_t repeats = std::max<int64_t>(1, 20'000'000 / bytes);  // some milliseconds to a burst
  Times in_place, apart, copy;
  for (int round = -1; round < rounds; ++round) {
    const auto burst = [&](Times& times, const std::function<void()>& work) {
      for (int64_t i = 0; i < repeats; ++i) times.all.push_back(milliseconds(work));
    };
    logits.copy_from(original);
    burst(in_place, [&] { logits = softmax_cross_entropy_with_grad(std::move(logits), labels).grad; });
    burst(apart, [&] { grad = softmax_cross_entropy_with_grad(original, labels).grad; });
    burst(copy, [&] { copy_past_caches(original.raw(), grad.raw(), bytes); });
    if (round < 0) in_place = apart = copy = {};  // first touches of memory
  }
  std::printf("[%ld, %ld] %s, %d threads\n", static_cast<long>(rows), static_cast<long>(classes), name(dtype).data(),
              thread_count);
  const auto print = [&](const char* what, Times& times) {
    std::printf("  %-9s best %8.3f ms %5.1f GB/s %4.0f %% of the copy's; median %8.3f ms (%.3f to %.3f) %4.0f %%\n",
                what, times.at(0), 2e-6 * static_cast<double>(bytes) / times.at(0), 100 * copy.at(0) / times.at(0),
                times.at(0.5), times.at(0.25), times.at(0.75), 100 * copy.at(0.5) / times.at(0.5));
  };
  print("in place", in_place);
  print("apart", apart);
  print("copy", copy);
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
  const auto argument = [&](int i) { return std::atol(arguments[i]); };
  const int rounds = count == 2 ? static_cast<int>(argument(1)) : count == 4 ? static_cast<int>(argument(3)) : 9;
  std::vector<std::pair<int64_t, int64_t>> shapes = {{65536, 10}, {8192, 1000}, {4096, 32000}};
  if (count >= 3) shapes = {{argument(1), argument(2)}};
  for (const auto& [rows, classes] : shapes)
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const int threads : {1, 2}) measure(rows, classes, dtype, threads, rounds);
}
