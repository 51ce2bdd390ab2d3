// Times xent on a GPU for cuda/gpu_check, one JSON object per line and figure:
//
//   {"table": "loss", "row": "[8192, 32000] bf16", "what": "fused", "ms": 0.27, "bytes": 1048576000}
//   {"table": "epilogue", "row": "bf16 bias", "works": true}
//
// Device work is timed between two events, nine bursts each, of which the median counts; training by the clock of the
// host, loader included.
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <xent/core/memory.h>
#include <xent/cuda/check.h>
#include <xent/cuda/context.h>
#include <xent/ops/samples.h>
#include <xent/xent.h>

#include "../bench/training.h"

using namespace xent;

namespace {

constexpr int bursts = 9;

void print(const nlohmann::ordered_json& figure) {
  std::printf("%s\n", figure.dump().c_str());
  std::fflush(stdout);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + bursts / 2, values.end());
  return values[bursts / 2];
}

// Milliseconds that the device takes for work(), from many calls in a row.
double milliseconds(const std::function<void()>& work) {
  const cudaStream_t stream = cuda::context(0).stream;
  cudaEvent_t begin, end;
  cuda::check(cudaEventCreate(&begin), "cudaEventCreate");
  cuda::check(cudaEventCreate(&end), "cudaEventCreate");
  const auto burst = [&](int calls) {
    cuda::check(cudaEventRecord(begin, stream), "cudaEventRecord");
    for (int i = 0; i < calls; ++i) work();
    cuda::check(cudaEventRecord(end, stream), "cudaEventRecord");
    cuda::check(cudaEventSynchronize(end), "cudaEventSynchronize");
    float time = 0;
    cuda::check(cudaEventElapsedTime(&time, begin, end), "cudaEventElapsedTime");
    return static_cast<double>(time) / calls;
  };
  burst(3);
  const int calls = std::clamp(static_cast<int>(20 / burst(1)), 3, 200);  // some 20 ms to a burst
  std::vector<double> times;
  for (int i = 0; i < bursts; ++i) times.push_back(burst(calls));
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return median(times);
}

double copy_milliseconds(const Tensor& from, const Tensor& to) {
  return milliseconds([&] {
    cuda::check(cudaMemcpyAsync(const_cast<std::byte*>(static_cast<const std::byte*>(to.raw())), from.raw(),
                                from.bytes(), cudaMemcpyDeviceToDevice, cuda::context(0).stream),
                "cudaMemcpyAsync");
  });
}

// The loss of these logits, each way beside a copy of as many bytes.
void measure_loss(const char* table, int64_t rows, int64_t classes, DType dtype, bool all) {
  Generator random(1, Device::cuda());
  Tensor logits = cast(normal({rows, classes}, 0, 1, random), dtype);
  const Tensor labels = cast(label_sample({rows}, classes, DType::i64, 2), DType::i32).to(Device::cuda());
  const auto row = "[" + std::to_string(rows) + ", " + std::to_string(classes) + "] " + std::string(name(dtype));
  const double bytes = static_cast<double>(logits.bytes());
  const auto figure = [&](const char* what, int transfers, double ms) {
    print({{"table", table}, {"row", row}, {"what", what}, {"ms", ms}, {"bytes", transfers * bytes}});
  };
  if (all) {
    figure("forward", 1, milliseconds([&] { softmax_cross_entropy(logits, labels); }));
    logits.set_requires_grad(true);
    figure("forward and backward", 3, milliseconds([&] {
             Tape tape;
             tape.backward(softmax_cross_entropy(logits, labels));
           }));
    logits.set_requires_grad(false);
    // Without the host's part in it, ten to a graph.
    Step in_graph([](const Tensor& x, const Tensor& target) {
      Tensor loss;
      for (int i = 0; i < 10; ++i) loss = softmax_cross_entropy_with_grad(x, target).loss;
      return loss;
    });
    figure("fused, in a graph", 2, milliseconds([&] { in_graph(logits, labels); }) / 10);
  }
  {
    const Tensor target = Tensor::empty({rows, classes}, dtype, Device::cuda());
    figure("copy", 2, copy_milliseconds(logits, target));
  }
  // Last: the gradient takes the place of the logits, and theirs is taken of it in turn.
  figure("fused", 2, milliseconds([&] { logits = softmax_cross_entropy_with_grad(std::move(logits), labels).grad; }));
}

// Whether cuBLASLt has an algorithm for an epilogue at the size of the MLP's first layer.
void list_epilogues() {
  cublasLtHandle_t handle = nullptr;
  if (cublasLtCreate(&handle) != CUBLAS_STATUS_SUCCESS) return;
  const std::pair<const char*, cublasLtEpilogue_t> epilogues[] = {
      {"none", CUBLASLT_EPILOGUE_DEFAULT},
      {"bias", CUBLASLT_EPILOGUE_BIAS},
      {"relu, bias", CUBLASLT_EPILOGUE_RELU_BIAS},
      {"relu, mask, bias", CUBLASLT_EPILOGUE_RELU_AUX_BIAS},
      {"drelu", CUBLASLT_EPILOGUE_DRELU},
      {"drelu, bias gradient", CUBLASLT_EPILOGUE_DRELU_BGRAD},
      {"bias gradient a", CUBLASLT_EPILOGUE_BGRADA},
      {"bias gradient b", CUBLASLT_EPILOGUE_BGRADB}};
  const std::pair<const char*, cudaDataType> types[] = {
      {"f32", CUDA_R_32F}, {"bf16", CUDA_R_16BF}, {"f16", CUDA_R_16F}};
  const uint64_t m = 512, n = 64, k = 768;
  for (const auto& [type_name, type] : types)
    for (const auto& [words, epilogue] : epilogues) {
      cublasLtMatmulDesc_t product = nullptr;
      cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
      cublasLtMatmulPreference_t preference = nullptr;
      cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
      const cublasOperation_t transpose = CUBLAS_OP_T;
      cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose);
      cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
      const int64_t mask_stride = m;
      cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &mask_stride, sizeof mask_stride);
      cublasLtMatrixLayoutCreate(&a, type, k, m, k);
      cublasLtMatrixLayoutCreate(&b, type, k, n, k);
      cublasLtMatrixLayoutCreate(&d, type, m, n, m);
      cublasLtMatmulPreferenceCreate(&preference);
      cublasLtMatmulHeuristicResult_t found{};
      int count = 0;
      const cublasStatus_t status =
          cublasLtMatmulAlgoGetHeuristic(handle, product, a, b, d, d, preference, 1, &found, &count);
      print({{"table", "epilogue"},
             {"row", words},
             {"what", type_name},
             {"works", status == CUBLAS_STATUS_SUCCESS && count > 0}});
      cublasLtMatmulPreferenceDestroy(preference);
      for (const cublasLtMatrixLayout_t layout : {a, b, d}) cublasLtMatrixLayoutDestroy(layout);
      cublasLtMatmulDescDestroy(product);
    }
  cublasLtDestroy(handle);
}

void measure_training(const char* model, Sequential (*make)(Generator&), const ImageDataset& data, int64_t batch) {
  for (const bool graph : {false, true}) {
    set_replay(graph ? Replay::on : Replay::off);
    bench::Training training(data, batch, make, true, Device::cuda());
    const auto run = [&](int64_t steps) {
      const auto begin = std::chrono::steady_clock::now();
      training.run(steps);
      memory(Device::cuda()).wait(0);
      return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    };
    run(10);
    std::vector<double> steps;
    for (int i = 0; i < bursts; ++i) steps.push_back(run(50) / 50);
    const int64_t epoch = data.size() / batch;
    print({{"table", "training"},
           {"row", std::string(model) + ", batch " + std::to_string(batch)},
           {"what", graph ? "graph" : "eager"},
           {"ms", median(steps)},
           {"epoch_s", run(epoch) / 1000},
           {"images", epoch * batch}});
  }
}

void describe_device() {
  cudaDeviceProp properties{};
  cuda::check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  print({{"table", "device"},
         {"name", properties.name},
         {"capability", std::to_string(properties.major) + "." + std::to_string(properties.minor)},
         {"processors", properties.multiProcessorCount},
         {"memory_gib", static_cast<double>(properties.totalGlobalMem) / (1 << 30)},
         {"driver", driver},
         {"runtime", runtime}});
}

}  // namespace

int main() try {
  describe_device();
  list_epilogues();
  for (const auto& [rows, classes] : {std::pair<int64_t, int64_t>{8192, 32000}, {4096, 128256}, {65536, 10}})
    for (const DType dtype : {DType::bf16, DType::f32}) measure_loss("loss", rows, classes, dtype, true);
  for (int64_t classes = 2; classes <= 262144; classes *= classes < 64 ? 2 : 4)
    for (const DType dtype : {DType::bf16, DType::f32})
      measure_loss("classes", (int64_t{1} << 29) / (classes * static_cast<int64_t>(size_of(dtype))), classes, dtype,
                   false);
  const ImageDataset data = bench::training_data();
  for (const int64_t batch : {64, 1024}) {
    measure_training("MLP 784-512-256-10", bench::make_mlp, data, batch);
    measure_training("CNN of 05_mnist_cnn", bench::make_cnn, data, batch);
  }
} catch (const Error& error) {
  std::fprintf(stderr, "gpu_bench: %s\n", error.what());
  return 1;
}
