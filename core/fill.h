// The ops the engine itself is made of. They go through launch() like all others, so a Step records them.
#pragma once

#include <xent/core/op.h>

namespace xent {

extern const Op fill_op;        // x = value
extern const Op copy_op;        // y = x
extern const Op accumulate_op;  // x += y, in place
extern const Op put_back_op;    // x = y if the device has an error to tell of; on CUDA only, see Tape::put_back

struct FillAttrs {
  double value;
  bool operator==(const FillAttrs&) const = default;
};

namespace cpu {

void add_to(const Slice& to, const Slice& from);  // to += from: alike, of any floating dtype

}  // namespace cpu

void launch_fill(const Tensor& x, double value);
void launch_copy(const Tensor& to, const Tensor& from);
void launch_accumulate(const Tensor& to, const Tensor& from);
void launch_put_back(const Tensor& state, const Tensor& copy);

}  // namespace xent
