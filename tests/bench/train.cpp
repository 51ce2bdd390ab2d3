// Trains the models of 04_mnist_mlp and 05_mnist_cnn and prints what a warmed-up step costs, loader included: images
// per second for 1 and 2 threads, its split into forward, backward and updates, and the time per op. Exits with 1 if a
// warm step takes a page fault or an allocation.
//
//   bench_train [mlp|cnn|all] [batch]
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <xent/xent.h>

#include "training.h"

namespace {
std::atomic<uint64_t> allocations = 0;
}
void* operator new(size_t bytes) {
  ++allocations;
  if (void* data = std::malloc(bytes)) return data;
  throw std::bad_alloc();
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, size_t) noexcept { std::free(data); }

using namespace xent;
using bench::Training;

namespace {

int64_t page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt + usage.ru_majflt;
}

struct Cost {
  double images_per_second;  // of the median step
  int64_t faults;
  uint64_t allocations, requests;
};

constexpr int warm_up = 3;

Cost measure(Training& training, int measured) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> seconds;
  seconds.reserve(static_cast<size_t>(measured));
  Cost before{}, after{};
  const auto now_spent = [] { return Cost{0, page_faults(), allocations, memory_stats().requests}; };
  auto last = Clock::now();
  training.run(warm_up + measured, [&](int64_t done) {
    const auto now = Clock::now();
    if (done > warm_up) seconds.push_back(std::chrono::duration<double>(now - last).count());
    if (done == warm_up) before = now_spent();
    if (done == warm_up + measured) after = now_spent();
    last = Clock::now();
  });
  const auto median = seconds.begin() + measured / 2;
  std::nth_element(seconds.begin(), median, seconds.end());
  return {static_cast<double>(training.batch()) / *median, after.faults - before.faults,
          after.allocations - before.allocations, after.requests - before.requests};
}

// Measures in a run of its own: looking at the clock twice per launch costs time too.
void print_split(Training& training, int measured) {
  std::unique_ptr<Profile> profile;
  training.run(warm_up + measured, [&](int64_t done) {
    if (done == warm_up) profile = std::make_unique<Profile>();
  });
  const auto milliseconds = [&](Profile::Pass pass) { return 1e3 * profile->seconds(pass) / measured; };
  std::printf("  ms per step: forward %.3f, backward %.3f, updates %.3f\n", milliseconds(Profile::Pass::forward),
              milliseconds(Profile::Pass::backward), milliseconds(Profile::Pass::update));
  std::printf("%s\n", profile->str().c_str());
}

bool measure(const char* name, const ImageDataset& data, int64_t batch, Sequential (*make)(Generator&), int measured) {
  std::printf("%s, Adam, batch %lld: median of %d steps after %d\n", name, static_cast<long long>(batch), measured,
              warm_up);
  bool clean = true;
  for (const int count : {1, 2}) {
    set_threads(count);
    Training training(data, batch, make);
    const Cost cost = measure(training, measured);
    std::printf("%d thread%s %9.0f images/s, page faults %lld, allocations %llu, cache requests %llu\n", count,
                count == 1 ? ": " : "s:", cost.images_per_second, static_cast<long long>(cost.faults),
                static_cast<unsigned long long>(cost.allocations), static_cast<unsigned long long>(cost.requests));
    print_split(training, measured);
    clean = clean && cost.faults == 0 && cost.allocations == 0 && cost.requests == 0;
  }
  return clean;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string which = argc > 1 ? argv[1] : "all";
  const int64_t batch = argc > 2 ? std::atoll(argv[2]) : 64;
  if ((which != "mlp" && which != "cnn" && which != "all") || batch < 1 || batch > 10000) {
    std::fprintf(stderr, "usage: bench_train [mlp|cnn|all] [batch, 1 to 10000]\n");
    return 2;
  }
  const ImageDataset data = bench::training_data();
  bool clean = true;
  if (which != "cnn") clean &= measure("MLP 784-512-256-10", data, batch, bench::make_mlp, 200);
  if (which != "mlp") clean &= measure("CNN of 05_mnist_cnn", data, batch, bench::make_cnn, 30);
  return clean ? 0 : 1;
}
