// Loader: walks over a Dataset in batches, in a new random order every epoch.
//
//   Loader loader(train, {.batch = 64, .shuffle = true, .seed = 1});
//   for (int epoch = 0; epoch < 5; ++epoch)
//     for (const Batch& batch : loader)  // images [64, 28, 28, 1], labels [64]
//       train_step(batch.images, batch.labels);
//
// The order depends on seed and epoch only, and a batch is the same for any number of threads. Batches are made
// outside Steps and handed to them. After the first epoch a Loader takes no memory: it writes a batch over an earlier
// one. A batch that somebody still holds a handle to is left alone, so what you keep does not change.
//
// With .device = Device::cuda() batches are made on the host and copied. With .resident = true too the device gets all
// samples once, as bytes, and makes the batches itself, the same to the bit: no step waits for a copy. It is for data
// sets that have their samples in memory as bytes, as ImageDataset, and that fit beside the model; one byte per pixel.
//
// With .prefetch = true a thread prepares the next batch while you use the present one: same batches, same errors at
// the same place. It is for data sets that wait, for a disk or a decoder. What is in memory gains little or nothing: it
// is gathered by all threads at once otherwise. That thread works serially, so that it never keeps parallel_for from
// the kernels; get() must not wait for the thread that walks. It takes room for another two batches, and two epochs to
// warm up. It may still be at work after a loop was left early: before you change the data set, let the loop run to its
// end or call set_position, which waits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <xent/core/tensor.h>
#include <xent/nn/dataset.h>

namespace xent {

struct LoaderOptions {
  int64_t batch = 64;  // samples; the last batch of an epoch may have fewer
  bool shuffle = false;
  uint64_t seed = 0;       // of the order
  bool drop_last = false;  // leaves out a last batch that is not full
  Device device = Device::cpu();
  bool prefetch = false;  // prepares the next batch in the background
  bool resident = false;  // keeps the data set on the device; nothing is left to prefetch then
};

struct Batch {
  Tensor images;      // [batch, ...sample shape], f32
  Tensor labels;      // [batch], i64
  int64_t index = 0;  // in its epoch

  int64_t size() const { return labels.elements(); }
};

class Loader {
 public:
  class Iterator;

  // The data set must outlive the Loader and keep its size. Throws ArgumentError for a data set without samples, a
  // batch below 1, or if drop_last leaves no batch; ShapeError for samples of rank 8; DeviceError if there is no memory
  // for the order of so many samples, or no such device; ArgumentError if it is to be resident and has no bytes,
  // ShapeError or DTypeError if these are not what it has by its own account.
  explicit Loader(const Dataset& dataset, const LoaderOptions& options = {});
  explicit Loader(const Dataset&& temporary, const LoaderOptions& options = {}) = delete;

  // Copies the options and the position that holds outside of a loop; batches, loops and background thread are the
  // copy's own. A move is a copy, so loops stay valid.
  Loader(const Loader&) = default;
  Loader& operator=(const Loader&) = default;
  ~Loader() = default;

  // Starts the next epoch: also after a loop that was left early, by break, return or an exception. A loop over an
  // earlier one that still runs gets an ArgumentError at its next batch.
  Iterator begin();
  struct End {};
  End end() const { return {}; }

  int64_t batches() const { return batches_; }  // per epoch

  // The epoch of position(), from 0.
  int64_t epoch() const { return position().epoch; }
  void set_epoch(int64_t epoch);  // throws ArgumentError below 0

  // What comes next. In the body of a loop: the rest of this epoch, which is what a later run has to go on with; a
  // Checkpoint (checkpoint.h) keeps that. Outside: what the next loop will hand out, a whole epoch unless set_position
  // said otherwise. So to stop in the middle and go on later, save first, then break. A loop lasts as long as its
  // iterators.
  struct Position {
    uint64_t seed = 0;
    int64_t epoch = 0;
    int64_t batch = 0;  // the next one in this epoch

    friend bool operator==(const Position&, const Position&) = default;
  };
  Position position() const;
  void set_position(const Position& position);          // throws ArgumentError for one that this Loader cannot have
  void check_position(const Position& position) const;  // only throws

 private:
  struct Buffers {
    Batch batch;
    Tensor host_images, host_labels;  // on the way to another device
  };

  struct Room {
    Buffers full, last;  // last has fewer samples
  };
  class Prefetch;  // nn/prefetch.h
  struct Own {     // what each Loader has of its own: a copy is as if made anew
    Own();
    Own(const Own&);
    Own& operator=(const Own&);
    ~Own();  // waits for the thread

    std::unique_ptr<Prefetch> ahead;   // the next batch
    Tensor order;                      // on the device, if the data set is there
    std::shared_ptr<const char> loop;  // shared with the iterators of the newest loop, and with nobody outside of one
  };

  int64_t size() const { return static_cast<int64_t>(order_.size()); }
  Buffers& buffers(Room& room, int64_t index) { return index < size() / options_.batch ? room.full : room.last; }
  std::span<const int64_t> samples_of(int64_t index) const;
  std::pair<std::span<float>, std::span<int64_t>> make_room(Buffers& buffers, int64_t count);
  void load(int64_t index);
  void load_resident(int64_t index);
  void prepare(int64_t index);
  void drop_prepared();
  void end_loop();

  const Dataset* dataset_;
  LoaderOptions options_;
  Shape sample_shape_;
  int64_t batches_;
  int64_t epoch_ = 0;           // of the next loop
  int64_t handed_ = 0;          // batches of the epoch before that
  bool resume_ = false;         // the next loop goes on with that one
  std::vector<int64_t> order_;  // of the samples in this epoch
  Tensor pixels_, labels_;      // of all samples, on the device, if they are resident
  Room room_;                   // for the present batch
  Own own_;
};

// An input iterator: one batch at a time, and copies walk together.
class Loader::Iterator {
 public:
  using value_type = Batch;
  using difference_type = std::ptrdiff_t;

  const Batch& operator*() const { return loader_->buffers(loader_->room_, index_).batch; }
  const Batch* operator->() const { return &**this; }
  Iterator& operator++();
  void operator++(int) { ++*this; }
  friend bool operator==(const Iterator& i, End) { return i.index_ == i.loader_->batches(); }

 private:
  friend class Loader;
  Iterator(Loader& loader, int64_t index) : loader_(&loader), loop_(loader.own_.loop), index_(index) {}

  Loader* loader_;
  std::shared_ptr<const char> loop_;
  int64_t index_;
};

}  // namespace xent
