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

Sequential make_mlp(Generator& random) {
  return Sequential(Flatten(), Linear(784, 512, random, Activation::relu), Linear(512, 256, random, Activation::relu),
                    Linear(256, 10, random));
}

Sequential make_cnn(Generator& random) {
  return Sequential(Conv2d(1, 32, 3, random, {.activation = Activation::relu}),
                    Conv2d(32, 64, 3, random, {.activation = Activation::relu}), MaxPool2d(2), Dropout(0.25, random),
                    Flatten(), Linear(9216, 128, random, Activation::relu), Dropout(0.5, random),
                    Linear(128, 10, random));
}

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

// A model, its optimizer and its training step, going over the data again and again.
class Training {
 public:
  Training(const ImageDataset& data, int64_t batch, Sequential (*make)(Generator&), int thread_count)
      : batches_(data, {.batch = batch, .shuffle = true, .seed = 1, .drop_last = true}),
        random_(1),
        model_(make(random_)),
        optimizer_(model_.parameters()),
        batch_(batch) {
    set_threads(thread_count);
  }

  // Calls after(i) after each of so many steps.
  template <class After>
  void run(int steps, const After& after) {
    Step step([this](const Tensor& images, const Tensor& labels) {
      Tape tape;
      Tensor loss = softmax_cross_entropy(model_(images), labels);
      optimizer_.step(tape.backward(loss));
      return loss;
    });
    for (int done = 0; done < steps;)
      for (const Batch& next : batches_) {
        step(next.images, next.labels);
        after(++done);
        if (done == steps) break;
      }
  }

  int64_t batch() const { return batch_; }

 private:
  Loader batches_;
  Generator random_;
  Sequential model_;
  Adam optimizer_;
  int64_t batch_;
};

constexpr int warm_up = 3;

Cost measure(Training& training, int measured) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> seconds;
  seconds.reserve(static_cast<size_t>(measured));
  Cost before{}, after{};
  const auto now_spent = [] { return Cost{0, page_faults(), allocations, memory_stats().requests}; };
  auto last = Clock::now();
  training.run(warm_up + measured, [&](int done) {
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
  training.run(warm_up + measured, [&](int done) {
    if (done == warm_up) profile = std::make_unique<Profile>();
  });
  const auto milliseconds = [&](Profile::Pass pass) { return 1e3 * profile->seconds(pass) / measured; };
  std::printf("  ms per step: forward %.3f, backward %.3f, updates %.3f\n", milliseconds(Profile::Pass::forward),
              milliseconds(Profile::Pass::backward), milliseconds(Profile::Pass::update));
  std::printf("%s\n", profile->str().c_str());
}

bool bench(const char* name, const ImageDataset& data, int64_t batch, Sequential (*make)(Generator&), int measured) {
  std::printf("%s, Adam, batch %lld: median of %d steps after %d\n", name, static_cast<long long>(batch), measured,
              warm_up);
  bool clean = true;
  for (const int count : {1, 2}) {
    Training training(data, batch, make, count);
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
  const std::string folder = find_fashion_mnist();
  const ImageDataset data = folder.empty() ? generated_digits(10000, 1) : load_mnist(folder, Split::train);
  bool clean = true;
  if (which != "cnn") clean &= bench("MLP 784-512-256-10", data, batch, make_mlp, 200);
  if (which != "mlp") clean &= bench("CNN of 05_mnist_cnn", data, batch, make_cnn, 30);
  return clean ? 0 : 1;
}
