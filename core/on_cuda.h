// ON_CUDA(f): the project's one dispatch macro. &cuda::f in a CUDA build, null otherwise, so that an op names both of
// its kernels side by side, nothing is stubbed, and a kernel that is missing in a CUDA build is a linker error naming
// it.
#pragma once

#if defined(XENT_WITH_CUDA)
#include <xent/cuda/kernels.h>
#define ON_CUDA(...) &cuda::__VA_ARGS__
#else
#define ON_CUDA(...) nullptr
#endif
