// What core/ sees of CUDA: the functions of a device, and how many there are.
#pragma once

#include <xent/core/memory.h>

namespace xent::cuda {

// Returns how many devices this machine has; 0 without a driver.
int device_count();

// Returns the functions of a device. Throws DeviceError if there is no driver, or no device of this index.
const Memory& memory(int index);

}  // namespace xent::cuda
