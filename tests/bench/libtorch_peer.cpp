// PyTorch without Python: the training steps of torch_peer.py in C++, with the protocol of serve.cpp.
//
//   libtorch_peer THREADS
//
// Its settings are the best that we found: fused optimizers, channels_last, and the environment of the tuned peer. The
// data is one float tensor, from which a step takes its batch. tests/bench/run compiles it against the PyTorch of the
// peers' virtual environment.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_sgd.h>
#include <torch/torch.h>
#include <zlib.h>

namespace {

namespace nn = torch::nn;
using torch::Tensor;

// ---- models ----

struct Model : nn::Module {
  virtual Tensor forward(Tensor x) = 0;
};

struct Mlp : Model {
  std::vector<nn::Linear> layers;

  explicit Mlp(const std::vector<int64_t>& sizes) {
    for (size_t i = 0; i + 1 < sizes.size(); ++i)
      layers.push_back(register_module("fc" + std::to_string(i + 1), nn::Linear(sizes[i], sizes[i + 1])));
  }
  Tensor forward(Tensor x) override {
    for (size_t i = 0; i + 1 < layers.size(); ++i) x = torch::relu(layers[i](x));
    return layers.back()(x);
  }
};

struct Cnn : Model {
  nn::Conv2d conv1{nullptr}, conv2{nullptr};
  nn::Linear fc1{nullptr}, fc2{nullptr};

  Cnn() {
    conv1 = register_module("conv1", nn::Conv2d(1, 32, 3));
    conv2 = register_module("conv2", nn::Conv2d(32, 64, 3));
    fc1 = register_module("fc1", nn::Linear(9216, 128));
    fc2 = register_module("fc2", nn::Linear(128, 10));
    for (nn::Conv2d* layer : {&conv1, &conv2}) {
      Tensor& weight = (*layer)->weight;
      weight.set_data(weight.contiguous(torch::MemoryFormat::ChannelsLast));
    }
  }
  Tensor forward(Tensor x) override {
    x = x.view({-1, 1, 28, 28}).contiguous(torch::MemoryFormat::ChannelsLast);
    x = torch::max_pool2d(torch::relu(conv2(torch::relu(conv1(x)))), 2);
    x = torch::relu(fc1(torch::flatten(torch::dropout(x, 0.25, is_training()), 1)));
    return fc2(torch::dropout(x, 0.5, is_training()));
  }
};

std::unique_ptr<Model> make_model(const std::string& kind) {
  if (kind == "mlp") return std::make_unique<Mlp>(std::vector<int64_t>{784, 512, 256, 10});
  if (kind == "small") return std::make_unique<Mlp>(std::vector<int64_t>{784, 128, 10});
  if (kind == "cnn") return std::make_unique<Cnn>();
  throw std::runtime_error("no such work: " + kind);
}

// ---- data ----

struct Data {
  Tensor images, labels;  // [n, 784] in 0..1, [n]
};

// The bytes of a compressed file behind its header.
Tensor read_bytes(const std::string& path, size_t header) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<unsigned char> bytes, part(1 << 20);
  for (int got; (got = gzread(file.get(), part.data(), static_cast<unsigned>(part.size()))) > 0;)
    bytes.insert(bytes.end(), part.begin(), part.begin() + got);
  if (bytes.size() <= header) throw std::runtime_error(path + " is cut off");
  return torch::from_blob(bytes.data() + header, {static_cast<int64_t>(bytes.size() - header)}, torch::kByte).clone();
}

// Fashion-MNIST, or noise where it is not installed.
Data training_data() {
  const std::string start = "/usr/share/datasets/fashion-mnist/train-";
  if (!std::filesystem::exists(start + "images-idx3-ubyte.gz"))
    return {torch::rand({20000, 784}), torch::randint(10, {20000}, torch::kLong)};
  return {read_bytes(start + "images-idx3-ubyte.gz", 16).view({-1, 784}).to(torch::kFloat).div_(255),
          read_bytes(start + "labels-idx1-ubyte.gz", 8).to(torch::kLong)};
}

// ---- training ----

class Training {
 public:
  Training(const Data& data, const std::string& kind, int64_t batch, bool adam)
      : data_(data), model_(make_model(kind)), adam_(adam), weights_(model_->parameters()) {
    const int64_t count = data.labels.size(0) / batch;
    if (count == 0) throw std::invalid_argument("a batch of more than there is");
    batches_ = torch::randperm(data.labels.size(0)).slice(0, 0, count * batch).view({count, batch}).unbind();
    for (const Tensor& weight : weights_) {
      first_.push_back(torch::zeros_like(weight));
      second_.push_back(torch::zeros_like(weight));
      steps_.push_back(torch::zeros({}));
    }
  }

  void step() {
    const Tensor& index = batches_[next_++ % batches_.size()];
    const Tensor x = data_.images.index_select(0, index), y = data_.labels.index_select(0, index);
    for (Tensor& weight : weights_) weight.mutable_grad().reset();
    torch::cross_entropy_loss(model_->forward(x), y).backward();
    update();
  }

 private:
  void update() {
    const torch::NoGradGuard guard;
    std::vector<Tensor> gradients;
    for (const Tensor& weight : weights_) gradients.push_back(weight.grad());
    if (adam_) {
      torch::_foreach_add_(steps_, 1);
      at::_fused_adam_(weights_, gradients, first_, second_, {}, steps_, 1e-3, 0.9, 0.999, /*weight_decay=*/0, 1e-8,
                       /*amsgrad=*/false, /*maximize=*/false);
    } else {
      at::_fused_sgd_(weights_, gradients, first_, /*weight_decay=*/0, /*momentum=*/0.9, /*lr=*/0.02, /*dampening=*/0,
                      /*nesterov=*/false, /*maximize=*/false, /*is_first_step=*/false);
    }
  }

  Data data_;
  std::unique_ptr<Model> model_;
  bool adam_;
  std::vector<Tensor> weights_, first_, second_, steps_, batches_;  // first and second moments; steps for each weight
  size_t next_ = 0;
};

std::unique_ptr<Training> make_training(const std::string& work) {
  static const Data data = training_data();
  std::istringstream words(work);
  std::string kind, rule;
  int64_t batch = 0;
  if (!(words >> kind >> batch >> rule) || batch < 1) throw std::runtime_error("not MODEL BATCH RULE: " + work);
  return std::make_unique<Training>(data, kind, batch, rule == "adam");
}

void serve() {
  std::printf("READY libtorch " TORCH_VERSION "\n");
  std::fflush(stdout);
  std::unique_ptr<Training> training;
  std::string last, work;
  for (int steps; std::cin >> steps && std::getline(std::cin, work);) {
    if (work != last) {
      training.reset();  // its memory first
      training = make_training(last = work);
      training->step();
    }
    training->step();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < steps; ++i) training->step();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    std::printf("%.9g\n", spent.count() / steps);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 2) throw std::runtime_error("usage: libtorch_peer THREADS");
    torch::set_num_threads(std::atoi(argv[1]));
    torch::manual_seed(1);
    serve();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "libtorch_peer: %s\n", error.what());
    return 1;
  }
}
