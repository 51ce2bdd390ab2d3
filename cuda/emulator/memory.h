// Device memory: bytes on the host that are known to be the device's. Fresh ones are 0xff (a NaN in f32, f16 and bf16),
// and on either side are bytes that nobody may touch. From 1 GiB on they are zeros instead and cost what is touched of
// them, so that a test can have more than 2^31 elements. The functions that programs call, cudaMalloc and so on, are
// NVIDIA's own declarations.
#pragma once

#include <cstddef>
#include <functional>

namespace xent::emulator {

// Says whether all these bytes belong to one allocation that has not been freed.
bool is_device_memory(const void* begin, size_t bytes);
bool is_pinned_memory(const void* begin, size_t bytes);

int device_of(const void* pointer);  // whose memory it points into; -1: nobody's

// Checks the arguments of a kernel that runs on a device: whatever check_device_pointer is asked of must be there.
void check_arguments(int device, const std::function<void()>& check);

// Throws KernelError if somebody wrote beside an allocation.
void check_guards(const char* kernel);

// While it lives, device memory may be accessed. Otherwise AddressSanitizer reports who does: the host.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

}  // namespace xent::emulator
