// Whole models on the GPU: they train as on the CPU, with the same bits eager and as a graph, and a bad batch leaves
// no trace.
#include <array>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "cuda_orders.h"
#include "replay_mode.h"

using namespace xent;

namespace {

constexpr int64_t classes = 4, batch = 8;

// Bytes that tell their label: the brightest quarter of an image of 8 x 8.
const ImageDataset& images() {
  static const ImageDataset data = [] {
    HostRandom random(1);
    constexpr int64_t count = 60;
    std::vector<uint8_t> pixels, labels;
    for (int64_t i = 0; i < count; ++i) {
      const auto label = static_cast<uint8_t>(random.below(classes));
      labels.push_back(label);
      for (uint8_t y = 0; y < 8; ++y)
        for (uint8_t x = 0; x < 8; ++x)
          pixels.push_back(static_cast<uint8_t>(random.below(120) + (y / 4 * 2 + x / 4 == label ? 100 : 0)));
    }
    ImageDataset made(Tensor::from(pixels, {count, 8, 8}), Tensor::from(labels, {count}), classes);
    made.set_normalisation(normalisation_of(made));
    return made;
  }();
  return data;
}

std::unique_ptr<Sequential> make_mlp(Generator& random) {
  return std::make_unique<Sequential>(Flatten(), Linear(64, 33, random, Activation::relu), Linear(33, classes, random));
}

std::unique_ptr<Sequential> make_cnn(Generator& random) {
  return std::make_unique<Sequential>(Conv2d(1, 5, 3, random), BatchNorm2d(5), Relu(), MaxPool2d(2),
                                      Dropout(0.25, random), Flatten(), Linear(45, classes, random));
}

using MakeModel = std::unique_ptr<Sequential> (*)(Generator&);

// All there is to a run, on a device.
struct Training {
  Generator random;
  std::unique_ptr<Sequential> model;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<Schedule> schedule;
  Mean loss_mean;
  Accuracy accuracy;
  Loader batches;
  std::unique_ptr<Step<std::function<Tensor(const Tensor&, const Tensor&)>>> step;

  Training(MakeModel make, Device device)
      : random(7, device),
        model(make(random)),
        loss_mean(device),
        accuracy(device),
        batches(images(), {.batch = batch, .shuffle = true, .seed = 2, .drop_last = true, .device = device}) {
    model->to(device);  // running statistics are made on the CPU
    if (make == make_mlp)
      optimizer = std::make_unique<AdamW>(model->parameters(), AdamW::Options{.learning_rate = 2e-3});
    else optimizer = std::make_unique<Sgd>(model->parameters(), Sgd::Options{.learning_rate = 0.02, .momentum = 0.9});
    schedule =
        std::make_unique<Schedule>(*optimizer, ScheduleOptions{.decay = Decay::cosine, .warmup = 5, .steps = 80});
    step = std::make_unique<Step<std::function<Tensor(const Tensor&, const Tensor&)>>>(
        [this](const Tensor& x, const Tensor& labels) {
          Tape tape;
          const Tensor logits = (*model)(x), loss = softmax_cross_entropy(logits, labels);
          Gradients gradients = tape.backward(loss);
          clip_gradients(gradients, 0.5);
          optimizer->step(gradients);
          schedule->step();
          loss_mean.add(loss, labels.elements());
          accuracy.add(logits, labels);
          return loss;
        });
  }

  // Trains on the next batches; returns the loss of each.
  std::vector<double> train(int steps) {
    std::vector<double> losses;
    while (steps > 0)
      for (const Batch& next : batches) {
        losses.push_back((*step)(next.images, next.labels).item());
        if (--steps == 0) break;
      }
    return losses;
  }

  std::vector<NamedTensor> parts() const {
    std::vector<NamedTensor> list = model->state();
    for (const auto& state : {optimizer->state(), schedule->state()})
      list.insert(list.end(), state.begin(), state.end());
    list.insert(list.end(), {{"random", random.state()}, {"loss", loss_mean.state()}, {"accuracy", accuracy.state()}});
    return list;
  }
  std::vector<Tensor> state() const {
    std::vector<Tensor> list;
    for (const NamedTensor& part : parts()) list.push_back(part.value.clone().to(Device::cpu()));
    return list;
  }
  Checkpoint checkpoint() const {
    Checkpoint all;
    int number = 0;
    for (const NamedTensor& part : parts()) all.add("part" + std::to_string(number++), part.value);
    return all;
  }
};

void check_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(same_bits(a[i], b[i]));
  }
}

}  // namespace

TEST_CASE("models train on the GPU as on the CPU, with the same bits eager, as a graph, and in every order") {
  for (const MakeModel make : {make_mlp, make_cnn}) {
    CAPTURE((make == make_cnn));
    const int steps = looks_for_races ? 4 : 50;
    const Mode on(Replay::on);
    Training here(make, Device::cpu()), graph(make, Device::cuda());
    check_same(here.state(), graph.state());  // made alike
    const std::vector<double> expected = here.train(steps), losses = graph.train(steps);
    // A step's rounding errors are some 1e-7, and training carries them on.
    CHECK(losses.back() == doctest::Approx(expected.back()).epsilon(1e-4));
    CHECK(losses.back() < (looks_for_races ? 2 : 0.5) * losses.front());
    CHECK(graph.loss_mean.value() == doctest::Approx(here.loss_mean.value()).epsilon(1e-4));
    CHECK(graph.accuracy.count() == steps * batch);
    CHECK(same_bits(graph.random.state().to(Device::cpu()), here.random.state()));

    const Mode off(Replay::off);
    Training eager(make, Device::cuda());
    CHECK(eager.train(steps) == losses);
    check_same(eager.state(), graph.state());

    const Mode replay(Replay::on);
    const auto orders = in_every_order([&] {
      Training run(make, Device::cuda());
      run.train(4);
      return run.state();
    });
  }
}

TEST_CASE("a bad label is told when the loss is read, and nothing of its batch stays") {
  for (const MakeModel make : {make_mlp, make_cnn})
    for (const Replay mode : {Replay::off, Replay::on}) {
      CAPTURE((make == make_cnn));
      const Mode set(mode);
      Training run(make, Device::cuda()), other(make, Device::cuda());
      run.train(4);
      other.train(4);
      const std::vector<Tensor> before = run.state();
      const Tensor x = Tensor::full({batch, 8, 8, 1}, 3, DType::f32, Device::cuda());
      const Tensor bad = Tensor::from<int64_t>({0, 1, 2, 3, 9, 1, 2, 3}, {batch}, Device::cuda());
      const Tensor loss = (*run.step)(x, bad);
      CHECK_THROWS_WITH_AS(loss.item(), doctest::Contains("softmax_cross_entropy: row 4: label 9 is not in [0, 4)"),
                           LabelError);
      check_same(run.state(), before);
      CHECK(run.train(3) == other.train(3));
      check_same(run.state(), other.state());
    }
}

TEST_CASE("two steps are launched before the first one's bad label is told: the second leaves no trace either") {
  Training run(make_cnn, Device::cuda());
  run.train(4);
  const std::vector<Tensor> before = run.state();
  const Tensor x = Tensor::full({batch, 8, 8, 1}, 3, DType::f32, Device::cuda());
  const Tensor good = Tensor::zeros({batch}, DType::i64, Device::cuda());
  const Tensor bad = Tensor::full({batch}, -1, DType::i64, Device::cuda());
  (*run.step)(x, bad);
  const Tensor loss = (*run.step)(x, good);
  CHECK_THROWS_AS(loss.item(), LabelError);
  check_same(run.state(), before);
}

TEST_CASE("a run goes on from a checkpoint of the GPU, there and on the CPU") {
  const std::string path = std::filesystem::temp_directory_path() / "xent_cuda_train.safetensors";
  Training run(make_cnn, Device::cuda());
  run.train(7);  // an epoch
  run.checkpoint().save(path);
  const std::vector<Tensor> saved = run.state();
  const std::vector<double> losses = run.train(7);

  Training there(make_cnn, Device::cuda()), here(make_cnn, Device::cpu());
  for (Training* next : {&there, &here}) {
    Checkpoint checkpoint = next->checkpoint();
    checkpoint.load(path);
    check_same(next->state(), saved);
    next->batches.set_epoch(1);
  }
  CHECK(there.train(7) == losses);
  check_same(there.state(), run.state());
  CHECK(here.train(7).back() == doctest::Approx(losses.back()).epsilon(1e-4));
  std::filesystem::remove(path);
}

TEST_CASE("the README's program trains on the GPU with the lines that docs/cuda.md changes") {
  const Device device = is_available(Device::cuda()) ? Device::cuda() : Device::cpu();
  ImageDataset data = generated_digits(2048, 1);
  Loader batches(data, {.batch = 64, .shuffle = true, .seed = 1, .device = device, .resident = true});

  Generator random(1, device);  // layers are made where it is, and dropout draws there
  Sequential model(Flatten(), Linear(784, 128, random, Activation::relu), Linear(128, 10, random));
  model.to(device);  // what no generator made, such as running statistics; before the optimizer
  Adam optimizer(model.parameters(), {.learning_rate = 1e-3});

  Step train_step([&](const Tensor& images, const Tensor& labels) {
    Tape tape;
    Tensor loss = softmax_cross_entropy(model(images), labels);  // []
    optimizer.step(tape.backward(loss));
    return loss;
  });
  std::vector<double> losses;
  for (const Batch& next : batches) {
    Tensor loss = train_step(next.images, next.labels);
    CHECK(loss.device() == Device::cuda());
    losses.push_back(loss.item());
    if (looks_for_races && losses.size() == 3) return;
  }
  CHECK(losses.back() < 0.8 * losses.front());
}

TEST_CASE("a Loader's batches are on the GPU, copied or made there of resident bytes, with the bits of the CPU's") {
  const LoaderOptions options{.batch = 7, .shuffle = true, .seed = 5};
  LoaderOptions copied = options, resident = options, ahead = options;
  copied.device = resident.device = ahead.device = Device::cuda();
  resident.resident = true;
  ahead.prefetch = true;
  Loader expected(images(), options);
  std::array loaders{Loader(images(), copied), Loader(images(), resident), Loader(images(), ahead)};
  for (int epoch = 0; epoch < 2; ++epoch)
    for (Loader& loader : loaders) {
      expected.set_epoch(epoch);
      auto wanted = expected.begin();
      for (const Batch& next : loader) {
        CHECK(next.images.device() == Device::cuda());
        CHECK(same_bits(next.images.to(Device::cpu()), wanted->images));
        CHECK(same_bits(next.labels.to(Device::cpu()), wanted->labels));
        CHECK(next.index == wanted->index);
        ++wanted;
      }
      CHECK(wanted == expected.end());
    }
}

TEST_CASE("gather_batch: an index that is no sample is told, in every order of threads, and rows beyond a grid") {
  const Tensor pixels = label_sample({5, 300}, 256, DType::u8, 1), labels = label_sample({5}, 9, DType::u8, 2);
  const auto there = [](const Tensor& x) { return x.to(Device::cuda()); };
  for (const int64_t bad : {int64_t{-1}, int64_t{5}, std::numeric_limits<int64_t>::max()}) {
    const Tensor indices = Tensor::from<int64_t>({0, 4, bad}, {3});
    const Tensor y = gather_batch(there(pixels), there(labels), there(indices), 1, 0)[0];
    CHECK_THROWS_WITH_AS(y.to_vector<float>(), doctest::Contains("gather_batch: row 2: label"), LabelError);
  }
  const Tensor many = label_sample({looks_for_races ? 100 : 65540}, 5, DType::i64, 3);
  const Tensor one = pixels.slice(0, 1).reshape({300}).slice(0, 5).clone();
  const auto expected = gather_batch(one, labels, many, 0.5, -3);
  const auto got = in_every_order([&] { return gather_batch(there(one), there(labels), there(many), 0.5, -3); });
  for (size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i], expected[i]));
  for (const Shape& shape : {Shape{5, 0}, Shape{5, 300}, Shape{5, 3, 1, 2}}) {
    const Tensor x = label_sample(shape, 256, DType::u8, 4);
    const Tensor indices = label_sample({9}, 5, DType::i64, 3);
    const auto right = gather_batch(x, labels, indices, 0.013, -0.7);
    const auto mine =
        in_every_order([&] { return gather_batch(there(x), there(labels), there(indices), 0.013, -0.7); });
    for (size_t i = 0; i < mine.size(); ++i) CHECK(same_bits(mine[i], right[i]));
  }
}
