// Profile: measures where a thread's time goes, by op, while it lives.
//
//   Profile profile;
//   for (const Batch& batch : loader) train_step(batch.images, batch.labels);
//   std::puts(profile.str().c_str());
//
//   op                     pass       launches   ms each     share
//   conv2d                 backward        200     7.412    48.3 %
//   ...
//
// Launches of replayed Steps count like all others. What is between the launches (the tape, the loader) is not in it.
// On CUDA the host waits for every kernel while a Profile lives, and a Step starts its kernels one by one instead of
// its graph: the sum is longer than a step without a Profile, the shares are right.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <xent/core/op.h>

namespace xent {

class Profile {
 public:
  enum class Pass { forward, backward, update };  // update: optimizer steps and all else that writes in place

  struct Row {
    const Op* op;
    Pass pass;
    int64_t launches = 0;
    double seconds = 0;
  };

  Profile();
  ~Profile();
  Profile(const Profile&) = delete;  // the innermost of a thread measures; ends on its own thread
  Profile& operator=(const Profile&) = delete;

  std::vector<Row> rows() const;    // the longest first
  double seconds(Pass pass) const;  // of all ops
  std::string str() const;

  static bool lives();  // on this thread
  void reset() { rows_.clear(); }

 private:
  friend void run_kernel(const Op& op, KernelFunction kernel, const Call& call, Device device);
  void add(const Op& op, const Call& call, double seconds);

  std::vector<Row> rows_;
  Profile* outer_;
};

// Runs a kernel, and measures it if a Profile lives on this thread. The engine's own way to start one.
void run_kernel(const Op& op, KernelFunction kernel, const Call& call, Device device);

}  // namespace xent
