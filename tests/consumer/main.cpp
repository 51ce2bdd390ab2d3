// Embeds xent: trains a model, and checks an op of its own, with nothing but the installed headers and library.
#include <cmath>
#include <cstdio>

#include <xent/xent.h>

#if __has_include(<xent/nn/prefetch.h>) || __has_include(<xent/nn/atomic_file.h>) || \
    __has_include(<xent/nn/safetensors.h>) || __has_include(<xent/nn/shuffle.h>) || __has_include(<xent/core/require.h>)
#error "a private header is installed"
#endif

using namespace xent;

namespace {

// cube:  y = x^3      dx = 3 x^2 dy
void cube(const Call& call) {
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    for (int64_t i = 0; i < call.in[0].shape.elements(); ++i)
      call.out[0].as<T>()[i] = std::pow(call.in[0].as<T>()[i], T(3));
  });
}

void cube_grad(const Call& call) {
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const T* x = call.in[0].as<T>();
    for (int64_t i = 0; i < call.in[0].shape.elements(); ++i)
      call.grad_in[0].as<T>()[i] = 3 * x[i] * x[i] * call.grad_out[0].as<T>()[i];
  });
}

constinit const Op cube_op = {
    .name = "cube",
    .formula = "y = x^3",
    .infer = same_as_input,
    .forward = {cube},
    .backward = {cube_grad},
    .needs_out = nothing,
    .samples =
        [](DType dtype) {
          return Samples{{{normal_sample({3, 5}, dtype, 1)}, {}}};
        },
};

}  // namespace

int main() {
  if (const GradientReport report = check_op(cube_op); !report) {
    std::printf("%s\n", report.message.c_str());
    return 1;
  }

  ImageDataset data = generated_digits(1000, 1);
  Loader batches(data, {.batch = 50, .shuffle = true, .seed = 1});
  Generator random(1);
  Sequential model(Flatten(), Linear(784, 32, random, Activation::relu), Linear(32, 10, random));
  Adam optimizer(model.parameters(), {.learning_rate = 3e-3});
  Step train_step([&](const Tensor& images, const Tensor& labels) {
    Tape tape;
    Tensor loss = softmax_cross_entropy(model(images), labels);
    optimizer.step(tape.backward(loss));
    return loss;
  });
  double loss = 0;
  for (int epoch = 0; epoch < 5; ++epoch)
    for (const Batch& batch : batches) loss = train_step(batch.images, batch.labels).item();
  std::printf("loss %.4f\n", loss);
  return loss < 0.7 ? 0 : 1;
}
