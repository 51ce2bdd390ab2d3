// How many devices there are: one, unless a test says otherwise before it asks for any. Each has memory and streams of
// its own; a kernel is started on the current device of the thread, in a stream of that device, and touches no other's
// memory.
#pragma once

namespace xent::emulator {

void set_device_count(int count);
int current_device();  // of this thread, as cudaSetDevice has set it

}  // namespace xent::emulator
