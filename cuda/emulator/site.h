// Site: the line of a kernel that calls something, and the error that names it.
//
//   void __syncthreads(Site site = Site::here());   // the caller's line, not this one
#pragma once

#include <string>

#include <xent/core/error.h>

namespace xent::emulator {

struct Site {
  const char* file = "";
  int line = 0;

  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
  std::string str() const;  // "reduce.cu:12"
  bool operator==(const Site& other) const;
};

// A kernel that does what CUDA leaves undefined, or that is started with what it cannot take.
struct KernelError : Error {
  using Error::Error;
};

}  // namespace xent::emulator
