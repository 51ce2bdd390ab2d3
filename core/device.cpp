#include <xent/core/device.h>

#include <charconv>
#include <cstdlib>
#include <cstring>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <xent/core/memory.h>
#include <xent/core/require.h>

namespace xent {

std::string Device::str() const { return kind == Kind::cpu ? "cpu" : fmt::format("cuda:{}", index); }

Device parse_device(std::string_view text) {
  if (text == "cpu") return Device::cpu();
  if (text == "cuda") return Device::cuda();
  int index = -1;
  if (text.starts_with("cuda:")) {
    const auto [end, error] = std::from_chars(text.data() + 5, text.data() + text.size(), index);
    if (error != std::errc{} || end != text.data() + text.size()) index = -1;
  }
  require<DeviceError>(index >= 0, "unknown device '{}': use cpu, cuda or cuda:N", text);
  return Device::cuda(index);
}

namespace {

// Large blocks begin on a huge page and ask for such: a step walks over more memory than the processor keeps addresses
// of small pages for. Where the system has none to give, nothing changes.
void* allocate(size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr size_t huge_page = size_t{2} << 20;
  if (bytes >= huge_page) {
    void* data = std::aligned_alloc(huge_page, (bytes + huge_page - 1) / huge_page * huge_page);
    if (data) madvise(data, bytes / huge_page * huge_page, MADV_HUGEPAGE);
    return data;
  }
#endif
  constexpr size_t line = 64;
  return std::aligned_alloc(line, bytes);
}

constexpr Memory cpu_memory = {
    .allocate = [](int, size_t bytes) { return allocate(bytes); },
    .release = [](int, void* data, size_t) { std::free(data); },
    .fill_bytes = [](int, void* data, int byte, size_t bytes) { std::memset(data, byte, bytes); },
    .copy_from_host = [](int, void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); },
    .copy_to_host = [](int, void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); },
};

}  // namespace

#if defined(XENT_WITH_CUDA)
bool is_available(Device device) {
  if (device.kind == Device::Kind::cpu) return device.index == 0;
  return device.index >= 0 && device.index < cuda::device_count();
}
#else
bool is_available(Device device) { return device == Device::cpu(); }
#endif

const Memory& memory(Device device) {
#if defined(XENT_WITH_CUDA)
  if (device.kind == Device::Kind::cuda) return cuda::memory(device.index);
#else
  require<DeviceError>(device.kind != Device::Kind::cuda,
                       "{}: xent was built without CUDA (" XENT_NO_CUDA "; see docs/cuda.md); use cpu", device);
#endif
  require<DeviceError>(device.index == 0, "cpu: there is one CPU device, index 0, not {}", device.index);
  return cpu_memory;
}

}  // namespace xent
