// All of CUDA C++ that a kernel can use here. Kernels include <xent/cuda/device.cuh>, which picks this or the real
// thing.
#pragma once

#include "builtins.h"

#include "atomics.h"
#include "collectives.h"
#include "intrinsics.h"
