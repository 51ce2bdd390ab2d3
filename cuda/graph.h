// Graphs of kernels, as core/memory.h asks for them: what is launched between begin and end is noted, and started all
// at once by launch_graph. The caller holds the context's lock from begin to end.
#pragma once

namespace xent::cuda {

void begin_capture(int index);
void* end_capture(int index);  // null if the capture was spoiled: a kernel waited, or took memory
void launch_graph(int index, void* graph);
void release_graph(int index, void* graph);

}  // namespace xent::cuda
