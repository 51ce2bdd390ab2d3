// Graph: launches that a device has noted, and starts all at once.
//
//   const Graph graph(device, [&] { launch_fill(x, 0); });  // nothing runs yet
//   graph.launch();
#pragma once

#include <functional>
#include <utility>

#include <xent/core/device.h>

namespace xent {

class Graph {
 public:
  // Notes what `work` launches on the device instead of running it. Other threads' launches there wait meanwhile.
  // Throws DeviceError if a kernel does more than launch: waits, say; and what `work` throws.
  Graph(Device device, const std::function<void()>& work);
  ~Graph();
  Graph(Graph&& from) noexcept : device_(from.device_), graph_(std::exchange(from.graph_, nullptr)) {}
  Graph& operator=(Graph&& from) noexcept {
    std::swap(device_, from.device_);
    std::swap(graph_, from.graph_);
    return *this;
  }

  void launch() const;
  Device device() const { return device_; }

 private:
  Device device_;
  void* graph_ = nullptr;
};

}  // namespace xent
