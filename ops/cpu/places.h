// Places: scratch for the parts of a kernel, of which only as many as there are threads run at a time.
//
//   Places places;
//   parallel_chunks(parts, [&](int64_t part) {                // at most 64
//     const Places::Place place(places);
//     work(part, scratch + place.index() * elements_of_one);  // index() < parts
//   });
//
// A part takes the first place that is free, and so works where one before it did, in memory that is in the cache; were
// each part's scratch its own, all of it would go through the cache. What a part finds there, and where it is, depends
// on the threads: it has to write what it reads.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

namespace xent::cpu {

class Places {
 public:
  static constexpr int64_t most = 64;

  class Place {
   public:
    explicit Place(Places& places) : places_(places), index_(places.take()) {}
    ~Place() { places_.taken_.fetch_and(~(uint64_t{1} << index_), std::memory_order_release); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    int64_t index() const { return index_; }

   private:
    Places& places_;
    int index_;
  };

 private:
  int take() {
    for (uint64_t taken = taken_.load(std::memory_order_relaxed);;) {
      const int free = std::countr_one(taken);
      if (taken_.compare_exchange_weak(taken, taken | uint64_t{1} << free, std::memory_order_acquire,
                                       std::memory_order_relaxed))
        return free;
    }
  }

  std::atomic<uint64_t> taken_ = 0;
};

}  // namespace xent::cpu
