#include <xent/nn/prefetch.h>

#include <utility>

#include <xent/core/parallel.h>

namespace xent {

Loader::Prefetch::Prefetch() : thread_([this] { work(); }) {}

Loader::Prefetch::~Prefetch() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Loader::Prefetch::start(const Dataset& dataset, int64_t index, std::span<const int64_t> samples,
                             std::span<float> images, std::span<int64_t> labels) {
  samples_.assign(samples.begin(), samples.end());
  dataset_ = &dataset;
  images_ = images;
  labels_ = labels;
  {
    const std::scoped_lock lock(mutex_);
    working_ = true;
  }
  index_ = index;
  changed_.notify_all();
}

void Loader::Prefetch::take() {
  if (const std::exception_ptr error = wait()) std::rethrow_exception(error);
}

void Loader::Prefetch::drop() { wait(); }

std::exception_ptr Loader::Prefetch::wait() {
  index_ = -1;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !working_; });
  return std::exchange(error_, nullptr);
}

void Loader::Prefetch::work() {
  const SerialScope serial;  // the pool is for the kernels of the batch in use
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return working_ || stopping_; });
    if (stopping_) return;
    lock.unlock();
    std::exception_ptr error;
    try {
      dataset_->gather(samples_, images_, labels_);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    error_ = std::exchange(error, nullptr);
    working_ = false;
    changed_.notify_all();
  }
}

}  // namespace xent
