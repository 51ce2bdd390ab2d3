// For tests of the path without epilogues: a cuBLASLt that knows of none, as some do for some types.
#pragma once

namespace xent::emulator {

// While it lives, cublasLtMatmul and its heuristic take the plain product alone.
class NoEpilogues {
 public:
  NoEpilogues();
  ~NoEpilogues();
  NoEpilogues(const NoEpilogues&) = delete;
  NoEpilogues& operator=(const NoEpilogues&) = delete;
};

}  // namespace xent::emulator
