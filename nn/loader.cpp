#include <xent/nn/loader.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <span>

#include <xent/core/require.h>
#include <xent/core/step_state.h>
#include <xent/nn/prefetch.h>
#include <xent/nn/shuffle.h>
#include <xent/ops/ops.h>

namespace xent {

namespace {

int64_t count_batches(int64_t samples, const LoaderOptions& options) {
  require<ArgumentError>(samples > 0, "Loader: the data set has {} samples; there is nothing to load", samples);
  require<ArgumentError>(options.batch >= 1, "Loader: batch is {}, expected 1 or more", options.batch);
  require<ArgumentError>(!options.drop_last || samples >= options.batch,
                         "Loader: drop_last leaves no batch of {}: the data set has {} samples", options.batch,
                         samples);
  return samples / options.batch + (!options.drop_last && samples % options.batch != 0);
}

// Returns 0, 1, ... A data set may claim any size.
std::vector<int64_t> order_of(int64_t samples) {
  try {
    std::vector<int64_t> order(static_cast<size_t>(samples));
    std::iota(order.begin(), order.end(), 0);
    return order;
  } catch (const std::exception&) {
    fail<DeviceError>("Loader: no memory for the order of {} samples", samples);
  }
}

Shape batch_shape(int64_t count, const Shape& sample) {
  require<ShapeError>(sample.rank() < Shape::max_rank, "Loader: samples are {}: no axis is left for the batch", sample);
  std::array<int64_t, Shape::max_rank> extents{count};
  std::ranges::copy(sample, extents.begin() + 1);
  return Shape(std::span<const int64_t>(extents.data(), static_cast<size_t>(sample.rank()) + 1));
}

// Makes a tensor that nobody else can see: the one from last time, unless there is none or somebody holds it.
void make_own(Tensor& tensor, const Shape& shape, DType dtype, Device device) {
  if (tensor && tensor.storage().use_count() == 1) {
    // Another thread may just have let go of it: what that thread read, it read before we write. To take and drop a
    // reference says so, as a fence would, and ThreadSanitizer understands it.
    StorageRef(tensor.storage()).reset();
    return;
  }
  tensor = Tensor::persistent("a batch", shape, dtype, device);
}

constexpr const char* loop = "a loop over a Loader";
constexpr const char* way_out = "walk over it outside, and pass the batch as inputs";

template <Element T>
std::span<T> writable(Tensor& tensor) {
  return {tensor.mutable_data<T>(), static_cast<size_t>(tensor.elements())};
}

}  // namespace

Loader::Loader(const Dataset& dataset, const LoaderOptions& options)
    : dataset_(&dataset),
      options_(options),
      sample_shape_(dataset.sample_shape()),
      batches_(count_batches(dataset.size(), options)),
      order_(order_of(dataset.size())) {
  batch_shape(1, sample_shape_);
  if (!options.resident) return;
  const ByteSamples samples = dataset.bytes();
  require<ArgumentError>(static_cast<bool>(samples.pixels),
                         "Loader: resident is for a data set that has its samples in memory as bytes, as ImageDataset "
                         "has; leave it out, and batches are copied to {}",
                         options.device);
  const Shape expected = batch_shape(size(), sample_shape_);
  require<ShapeError>(samples.pixels.shape() == expected && samples.labels.shape() == Shape{size()},
                      "Loader: the data set has {} samples of {}, but bytes of {} and labels {}", size(), sample_shape_,
                      samples.pixels.shape(), samples.labels.shape());
  require<DTypeError>(samples.pixels.dtype() == DType::u8 && samples.labels.dtype() == DType::u8,
                      "Loader: the bytes of a data set are {} with labels of {}, expected u8 for both",
                      samples.pixels.dtype(), samples.labels.dtype());
  pixels_ = samples.pixels.to(options.device);
  labels_ = samples.labels.to(options.device);
}

Loader::Iterator Loader::begin() {
  require_outside_step(loop, way_out);
  drop_prepared();
  end_loop();
  const int64_t epoch = resume_ ? epoch_ - 1 : epoch_, first = resume_ ? handed_ : 0;
  if (options_.shuffle) {
    HostRandom random(options_.seed, static_cast<uint64_t>(epoch));
    std::iota(order_.begin(), order_.end(), 0);  // not the order of the epoch before
    shuffle(std::span(order_), random);
  }
  if (options_.resident) own_.order = Tensor::from(std::span<const int64_t>(order_), {size()}, options_.device);
  load(first);
  epoch_ = epoch + 1;  // not if the first batch cannot be had
  handed_ = first + 1;
  resume_ = false;
  return Iterator(*this, first);
}

void Loader::set_epoch(int64_t epoch) { set_position({options_.seed, epoch, 0}); }

Loader::Position Loader::position() const {
  const bool within = resume_ || own_.loop.use_count() > 1;
  if (!within || handed_ == batches_) return {options_.seed, epoch_, 0};
  return {options_.seed, epoch_ - 1, handed_};
}

void Loader::check_position(const Position& position) const {
  require<ArgumentError>(position.epoch >= 0 && position.epoch < std::numeric_limits<int64_t>::max() / 2,
                         "Loader: {} is not an epoch; they count from 0", position.epoch);
  require<ArgumentError>(position.batch >= 0 && position.batch < batches_,
                         "Loader: position after {} batches of an epoch that has {}; was it another data set or batch?",
                         position.batch, batches_);
}

void Loader::set_position(const Position& position) {
  check_position(position);
  drop_prepared();
  end_loop();
  options_.seed = position.seed;
  resume_ = position.batch > 0;
  epoch_ = position.epoch + resume_;
  handed_ = position.batch;
}

std::span<const int64_t> Loader::samples_of(int64_t index) const {
  const int64_t begin = index * options_.batch;
  const int64_t count = std::min(options_.batch, size() - begin);
  return std::span(order_).subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
}

// Returns host memory for a batch that nobody else can see.
std::pair<std::span<float>, std::span<int64_t>> Loader::make_room(Buffers& to, int64_t count) {
  const bool on_host = options_.device == Device::cpu();
  Tensor& images = on_host ? to.batch.images : to.host_images;
  Tensor& labels = on_host ? to.batch.labels : to.host_labels;
  make_own(images, batch_shape(count, sample_shape_), DType::f32, Device::cpu());
  make_own(labels, {count}, DType::i64, Device::cpu());
  return {writable<float>(images), writable<int64_t>(labels)};
}

// The device has the samples and the order of the epoch: one kernel, and no copy. Each batch is in memory of its own,
// from the device's cache.
void Loader::load_resident(int64_t index) {
  const int64_t begin = index * options_.batch, count = std::min(options_.batch, size() - begin);
  const ByteSamples now = dataset_->bytes();  // the normalisation may have been set since
  const auto [images, labels] = gather_batch(pixels_, labels_, own_.order.view({count}, begin),
                                             static_cast<double>(now.scale), static_cast<double>(now.offset));
  buffers(room_, index).batch = {images, labels, index};
}

void Loader::load(int64_t index) {
  if (options_.resident) return load_resident(index);
  const std::span<const int64_t> samples = samples_of(index);
  Buffers& present = buffers(room_, index);
  if (Prefetch* ahead = own_.ahead.get(); ahead && ahead->index() == index) {
    ahead->take();
    std::swap(present, buffers(ahead->room, index));
  } else {
    const auto [images, labels] = make_room(present, static_cast<int64_t>(samples.size()));
    dataset_->gather(samples, images, labels);
  }
  auto& [batch, host_images, host_labels] = present;
  if (options_.device != Device::cpu()) {
    make_own(batch.images, host_images.shape(), DType::f32, options_.device);
    make_own(batch.labels, host_labels.shape(), DType::i64, options_.device);
    batch.images.copy_from(host_images);
    batch.labels.copy_from(host_labels);
  }
  batch.index = index;
  if (options_.prefetch && index + 1 < batches_) prepare(index + 1);
}

// Begins with a batch in the background. Where that fails, for want of memory or of a thread, nothing is prepared: the
// loop loads the batch when its turn comes, and an error arrives where it would without prefetch.
void Loader::prepare(int64_t index) {
  try {
    if (!own_.ahead) own_.ahead = std::make_unique<Prefetch>();
    Prefetch& ahead = *own_.ahead;
    const std::span<const int64_t> samples = samples_of(index);
    const auto [images, labels] = make_room(buffers(ahead.room, index), static_cast<int64_t>(samples.size()));
    ahead.start(*dataset_, index, samples, images, labels);
  } catch (const std::exception&) {
  }
}

void Loader::drop_prepared() {
  if (own_.ahead) own_.ahead->drop();
}

// A loop that still runs would go on from the old position: its iterators keep what is ours no longer.
void Loader::end_loop() {
  if (own_.loop.use_count() > 1) own_.loop = std::make_shared<char>();
}

Loader::Own::Own() : loop(std::make_shared<char>()) {}
Loader::Own::Own(const Own&) : Own() {}
Loader::Own& Loader::Own::operator=(const Own& other) {
  if (this == &other) return *this;
  ahead.reset();
  loop = std::make_shared<char>();
  return *this;
}
Loader::Own::~Own() = default;

Loader::Iterator& Loader::Iterator::operator++() {
  require_outside_step(loop, way_out);
  require<ArgumentError>(
      loop_ == loader_->own_.loop,
      "Loader: another loop over it has begun, or its position was set; use a Loader of its own there");
  require<ArgumentError>(index_ < loader_->batches_, "Loader: this epoch has {} batches and is over",
                         loader_->batches_);
  if (index_ + 1 < loader_->batches_) {
    loader_->load(index_ + 1);
    loader_->handed_ = index_ + 2;
  }
  ++index_;
  return *this;
}

}  // namespace xent
