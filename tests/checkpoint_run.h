// A small training run for the tests of checkpoints: everything that one can keep, and the bits it has.
#pragma once

#include <cstdint>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include <xent/xent.h>

namespace checkpoint_run {

using namespace xent;

struct Points : Dataset {
  int64_t size() const override { return 10; }
  Shape sample_shape() const override { return {4}; }
  int64_t get(int64_t index, std::span<float> sample) const override {
    for (size_t i = 0; i < sample.size(); ++i)
      sample[i] = static_cast<float>((index + 1) * static_cast<int64_t>(i + 2) % 7);
    return index % 3;
  }
};

struct Mlp : Module {
  Linear fc1, fc2;
  Tensor scale = Tensor::full({}, 0.5);  // a buffer
  explicit Mlp(Generator& random, int64_t hidden = 3, DType dtype = DType::f32)
      : fc1(4, hidden, random, Activation::relu, {.dtype = dtype}),
        fc2(hidden, 3, random, Activation::none, {.dtype = dtype}) {}

  Tensor forward(const Tensor& x) override { return fc2(fc1(x)); }
  void visit(Visitor& visitor) override { visitor("fc1", fc1)("fc2", fc2).buffer("scale", scale); }
};

// Appends the bits of tensors.
inline void append_bits(std::string& bits, const std::vector<NamedTensor>& tensors) {
  for (const NamedTensor& tensor : tensors)
    dispatch(tensor.value.dtype(), [&]<class T>() {
      const std::vector<T> values = tensor.value.to_vector<T>();
      bits.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    });
}

struct Run {
  Points data;
  Loader loader{data, {.batch = 4, .shuffle = true, .seed = 3}};  // batches of 4, 4 and 2
  Generator random;
  Mlp model;
  AdamW optimizer{model.parameters(), {.learning_rate = 1e-2}};
  int64_t steps = 0;
  double loss = 0;
  Checkpoint checkpoint;

  explicit Run(uint64_t seed, int64_t hidden = 3, DType dtype = DType::f32)
      : random(seed), model(random, hidden, dtype) {
    checkpoint.add(model);
    checkpoint.add("optimizer", optimizer);
    checkpoint.add("random", random.state());
    checkpoint.add("train", loader);
    checkpoint.add("steps", steps);
    checkpoint.add("loss", loss);
  }

  // Takes some steps, of as many epochs as it takes, with noise on the inputs. Stops in the body of the loop, where the
  // position is still that of this epoch.
  void train(
      int64_t count, const std::function<void()>& stop = [] {}) {
    if (count == 0) stop();
    Step step([&](const Tensor& x, const Tensor& labels) {
      Tape tape;
      const Tensor noise = uniform(x.shape(), -0.1, 0.1, random);
      const Tensor value = softmax_cross_entropy(model(cast(x + noise, model.fc1.weight.dtype())), labels);
      optimizer.step(tape.backward(value));
      return value;
    });
    while (count > 0)
      for (const Batch& batch : loader) {
        loss = step(batch.images, batch.labels).item();
        ++steps;
        if (--count == 0) return stop();
      }
  }

  // All state, bit for bit.
  std::string bits() {
    std::string bits;
    append_bits(bits, model.state());
    append_bits(bits, optimizer.state());
    append_bits(bits, {{"random", random.state()}});
    const auto [seed, epoch, batch] = loader.position();
    const double numbers[] = {static_cast<double>(seed),
                              static_cast<double>(epoch),
                              static_cast<double>(batch),
                              static_cast<double>(steps),
                              loss,
                              checkpoint.best_score()};
    return bits.append(reinterpret_cast<const char*>(numbers), sizeof numbers);
  }
};

inline std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::string write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

// The bytes of a safetensors file: the header's length in 8 bytes, header, data.
inline std::string file_of(const std::string& header, const std::string& data = "") {
  std::string file;
  for (size_t i = 0; i < 8; ++i) file.push_back(static_cast<char>(uint64_t{header.size()} >> 8 * i));
  return file + header + data;
}

}  // namespace checkpoint_run
