#include <xent/core/graph.h>

#include <xent/core/memory.h>
#include <xent/core/require.h>

namespace xent {

Graph::Graph(Device device, const std::function<void()>& work) : device_(device) {
  const Memory& functions = memory(device);
  require<DeviceError>(functions.begin_capture != nullptr, "{}: there are no graphs on this device", device);
  const Turn turn(device);
  functions.begin_capture(device.index);
  try {
    work();
  } catch (...) {
    functions.drop_capture(device.index);
    throw;
  }
  graph_ = functions.end_capture(device.index);
  require<DeviceError>(graph_ != nullptr,
                       "{}: a kernel of the Step cannot be part of a graph, because it waits for the device or takes "
                       "memory; set_replay(Replay::off) runs the Step without one",
                       device);
}

Graph::~Graph() {
  if (graph_) memory(device_).release_graph(device_.index, graph_);
}

void Graph::launch() const {
  const Turn turn(device_);
  memory(device_).launch_graph(device_.index, graph_);
}

}  // namespace xent
