// Prefetch: one thread that gathers one batch at a time for a Loader. Private.
//
//   ahead.start(dataset, 7, samples, images, labels);  // returns at once
//   ...
//   if (ahead.index() == 7) ahead.take();              // waits; throws what the data set threw
//
// The thread sees nothing of the Loader, only what start() was given, so the Loader may be copied or assigned to
// meanwhile. It starts with the object and ends with it, and takes no memory for a batch once it is warm.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include <xent/nn/loader.h>

namespace xent {

class Loader::Prefetch {
 public:
  Prefetch();   // throws std::system_error if no thread is to be had
  ~Prefetch();  // waits for the batch that is being gathered

  // Begins to gather a batch; the one before must have been taken or dropped. The spans have to stay valid until then.
  void start(const Dataset& dataset, int64_t index, std::span<const int64_t> samples, std::span<float> images,
             std::span<int64_t> labels);

  int64_t index() const { return index_; }  // of the batch that was started; -1: none

  // Waits until the batch is there. Throws what gathering it threw. None is started afterwards, either way.
  void take();
  void drop();  // the same, but what was thrown is lost

  Room room;  // written by the thread between start and the end of take or drop

 private:
  std::exception_ptr wait();
  void work();

  // Of the thread that walks over the Loader.
  int64_t index_ = -1;

  // Written by start() and read by the thread while it works.
  const Dataset* dataset_ = nullptr;
  std::vector<int64_t> samples_;  // a copy: the Loader may shuffle its own
  std::span<float> images_;
  std::span<int64_t> labels_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool working_ = false, stopping_ = false;
  std::exception_ptr error_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace xent
