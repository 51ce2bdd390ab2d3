// Trains the MLP of 04_mnist_mlp, 784-512-256-10, and prints what a warmed-up step costs: images per second, page
// faults, allocations. Exits with 1 if a warm step takes a page fault or an allocation.
//
//   bench_train_mlp [batch]
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include <xent/xent.h>

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

Cost measure(const ImageDataset& data, int64_t batch, int thread_count) {
  set_threads(thread_count);
  Loader batches(data, {.batch = batch, .shuffle = true, .seed = 1, .drop_last = true});
  Generator random(1);
  Sequential model(Flatten(), Linear(784, 512, random, Activation::relu), Linear(512, 256, random, Activation::relu),
                   Linear(256, 10, random));
  Adam optimizer(model.parameters());
  Step step([&](const Tensor& images, const Tensor& labels) {
    Tape tape;
    Tensor loss = softmax_cross_entropy(model(images), labels);
    optimizer.step(tape.backward(loss));
    return loss;
  });
  constexpr int warm_up = 3, measured = 200;
  std::vector<double> seconds;
  seconds.reserve(measured);
  Cost cost{};
  int64_t faults_before = 0;
  uint64_t allocations_before = 0, requests_before = 0;
  auto last = std::chrono::steady_clock::now();
  for (int done = 0; done < warm_up + measured;)
    for (const Batch& next : batches) {
      step(next.images, next.labels);
      const auto now = std::chrono::steady_clock::now();
      if (done >= warm_up) seconds.push_back(std::chrono::duration<double>(now - last).count());
      last = now;
      if (++done == warm_up) {
        faults_before = page_faults();
        allocations_before = allocations;
        requests_before = memory_stats().requests;
      }
      if (done == warm_up + measured) break;
    }
  cost.faults = page_faults() - faults_before;
  cost.allocations = allocations - allocations_before;
  cost.requests = memory_stats().requests - requests_before;
  std::nth_element(seconds.begin(), seconds.begin() + measured / 2, seconds.end());
  cost.images_per_second = static_cast<double>(batch) / seconds[measured / 2];
  return cost;
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t batch = argc > 1 ? std::atoll(argv[1]) : 64;
  if (batch < 1 || batch > 60000) {
    std::fprintf(stderr, "usage: bench_train_mlp [batch, 1 to 60000]\n");
    return 2;
  }
  const std::string folder = find_fashion_mnist();
  const ImageDataset data =
      folder.empty() ? generated_digits(std::max<int64_t>(batch, 10000), 1) : load_mnist(folder, Split::train);
  std::printf("MLP 784-512-256-10, Adam, batch %lld, loader included; 200 steps after 3\n",
              static_cast<long long>(batch));
  std::printf("%8s %10s %12s %12s %15s\n", "threads", "images/s", "page faults", "allocations", "cache requests");
  bool clean = true;
  for (const int count : {1, 2}) {
    const Cost cost = measure(data, batch, count);
    std::printf("%8d %10.0f %12lld %12llu %15llu\n", count, cost.images_per_second, static_cast<long long>(cost.faults),
                static_cast<unsigned long long>(cost.allocations), static_cast<unsigned long long>(cost.requests));
    clean = clean && cost.faults == 0 && cost.allocations == 0 && cost.requests == 0;
  }
  return clean ? 0 : 1;
}
