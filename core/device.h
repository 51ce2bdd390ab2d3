// Device: where bytes live and kernels run. A value; the memory functions behind it are in memory.h.
//
//   Tensor x = Tensor::zeros({64, 784}, DType::f32, Device::cpu());
//   Device device = parse_device("cuda:1");   // DeviceError if that is no device name
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace xent {

struct Device {
  enum class Kind : uint8_t { cpu, cuda };
  Kind kind = Kind::cpu;
  int index = 0;

  static constexpr Device cpu() { return {Kind::cpu, 0}; }
  static constexpr Device cuda(int index = 0) { return {Kind::cuda, index}; }

  std::string str() const;  // "cpu", "cuda:0"
  friend constexpr bool operator==(Device, Device) = default;
};

// Where a device's kernels are launched. On the CPU there is none: a kernel has run when it returns.
struct Stream {
  void* handle = nullptr;  // cudaStream_t on CUDA
  void* errors = nullptr;  // on CUDA where kernels tell of bad labels: cuda/error_record.h
};

Device parse_device(std::string_view text);

// Says whether tensors can be made there in this build on this machine.
bool is_available(Device device);

}  // namespace xent
