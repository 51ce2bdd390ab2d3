// Graphs of kernels, as core/memory.h asks for them: what is launched between begin and end is noted, and started all
// at once by launch_graph. The caller holds the context's lock from begin to end.
#pragma once

namespace xent::cuda {

void begin_capture(int index);

// Returns null if the capture was spoiled: a kernel waited, or took memory. Throws DeviceError if CUDA cannot make a
// graph of it, for want of memory, say.
void* end_capture(int index);

void drop_capture(int index) noexcept;  // ends it, and makes nothing of it

void launch_graph(int index, void* graph);
void release_graph(int index, void* graph);

}  // namespace xent::cuda
