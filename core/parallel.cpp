#include <xent/core/parallel.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <xent/core/require.h>

namespace xent {

namespace {

thread_local bool inside_chunk = false;  // nested work runs serially, and so does that of a SerialScope

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

// One job at a time. A ticket holds the job's serial in its upper half and the number of unclaimed chunks in its lower
// half; a thread claims a chunk by counting the ticket down. The job's fields are read only between claiming a chunk
// and finishing it, while the job cannot end, so a thread that wakes late never sees a half-written job.
class Pool {
 public:
  ~Pool() { stop(); }

  void resize(int threads) {
    std::scoped_lock lock(mutex_);
    stop();
    wanted_ = threads;
  }

  int size() const { return wanted_; }

  // Runs a job with the caller's help. Returns false if another thread has the pool.
  bool try_run(int64_t chunks, detail::ChunkFunction function, void* context) {
    std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock || wanted_ == 1) return false;
    start();
    function_ = function;
    context_ = context;
    chunks_ = chunks;
    error_ = nullptr;
    error_chunk_ = chunks;
    unfinished_.store(chunks, std::memory_order_relaxed);
    serial_ = (serial_ + 1) & 0x7fffffff;
    ticket_.store(serial_ << 32 | static_cast<uint64_t>(chunks), std::memory_order_release);
    ticket_.notify_all();

    while (run_one_chunk()) {
    }
    wait_until([&] { return unfinished_.load(std::memory_order_acquire) == 0; }, unfinished_);
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    return true;
  }

 private:
  // Spins for some 50 us, which is cheaper than sleeping between the kernels of a training step, and then sleeps.
  template <class Done, class T>
  static void wait_until(const Done& done, std::atomic<T>& value) {
    for (;;) {
      const T seen = value.load(std::memory_order_acquire);
      if (done()) return;
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
      do {
        for (int i = 0; i < 64; ++i) {
          if (value.load(std::memory_order_acquire) != seen) break;
          pause();
        }
        if (done()) return;
      } while (std::chrono::steady_clock::now() < deadline);
      value.wait(seen, std::memory_order_acquire);
    }
  }

  bool run_one_chunk() {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    do {
      if ((ticket & 0xffffffff) == 0) return false;
    } while (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel, std::memory_order_acquire));
    const int64_t chunk = chunks_ - static_cast<int64_t>(ticket & 0xffffffff);
    inside_chunk = true;
    try {
      function_(context_, chunk);
    } catch (...) {
      std::scoped_lock lock(error_mutex_);
      if (chunk < error_chunk_) {
        error_chunk_ = chunk;
        error_ = std::current_exception();
      }
    }
    inside_chunk = false;
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_all();
    return true;
  }

  void work() {
    for (;;) {
      wait_until(
          [&] {
            return stopping_.load(std::memory_order_acquire) ||
                   (ticket_.load(std::memory_order_acquire) & 0xffffffff) != 0;
          },
          ticket_);
      if (stopping_.load(std::memory_order_acquire)) return;
      run_one_chunk();
    }
  }

  void start() {
    try {
      while (static_cast<int>(workers_.size()) < wanted_ - 1) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {  // no more threads to be had: those there are, and the caller, do the work
    }
  }

  void stop() {
    stopping_.store(true, std::memory_order_release);
    ticket_.fetch_add(uint64_t{1} << 63, std::memory_order_acq_rel);  // a new value wakes those who sleep on it
    ticket_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    stopping_.store(false, std::memory_order_release);
  }

  std::mutex mutex_;
  std::atomic<int> wanted_ = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  std::vector<std::thread> workers_;
  std::atomic<bool> stopping_ = false;
  std::atomic<uint64_t> ticket_ = 0;
  std::atomic<int64_t> unfinished_ = 0;
  uint64_t serial_ = 0;

  // The job.
  detail::ChunkFunction function_ = nullptr;
  void* context_ = nullptr;
  int64_t chunks_ = 0;
  std::mutex error_mutex_;
  std::exception_ptr error_;
  int64_t error_chunk_ = 0;
};

Pool& pool() {
  static Pool pool;
  return pool;
}

}  // namespace

void set_threads(int count) {
  require<ArgumentError>(count >= 1, "set_threads: {} is not a number of threads; use 1 or more", count);
  require<ArgumentError>(!inside_chunk, "set_threads: called inside parallel_for or a SerialScope");
  pool().resize(count);
}

int threads() { return pool().size(); }

SerialScope::SerialScope() : before_(inside_chunk) { inside_chunk = true; }
SerialScope::~SerialScope() { inside_chunk = before_; }

void detail::run_chunks(int64_t chunks, ChunkFunction function, void* context) {
  constexpr int64_t most = 0xffffffff;  // what a ticket counts
  if (chunks <= 0) return;
  if (chunks > most || inside_chunk || !pool().try_run(chunks, function, context))
    for (int64_t chunk = 0; chunk < chunks; ++chunk) function(context, chunk);
}

}  // namespace xent
