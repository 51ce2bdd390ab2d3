// dropout on CUDA; ops/dropout.cpp has the formula. A thread draws a Philox block for four elements, which it reads and
// writes as packs where they are aligned: 8 bytes per element of f32, and as many in backward, which draws the words
// again and so reads no mask. Which elements go depends on the state alone and is the same on every device; what stays
// is rounded once, by its product with 1 / (1 - p).
//
// The state {seed, next} stays on the device: one thread keeps it in the second output and advances it, then all read
// what was kept.
#include <cmath>
#include <cstdint>

#include <xent/core/random.h>
#include <xent/cuda/call.cuh>
#include <xent/ops/dropout.h>

namespace xent::cuda {

namespace {

constexpr int64_t words_per_block = 4;

template <class T>
struct alignas(16) Pack {
  T at[words_per_block];
};

__global__ void take_blocks(const ErrorRecord* errors, int64_t* state, int64_t* used, int64_t blocks) {
  used[0] = state[0];
  used[1] = state[1];
  if (errors->kind != ErrorRecord::Kind::none) return;
  state[1] = static_cast<int64_t>(static_cast<uint64_t>(state[1]) + static_cast<uint64_t>(blocks));
}

// y = scale x where the word is at least `least`, else 0.
template <class T>
__global__ void mask(const T* x, T* y, int64_t count, const int64_t* used, uint32_t least, T scale, bool aligned) {
  const auto seed = static_cast<uint64_t>(used[0]), next = static_cast<uint64_t>(used[1]);
  for (int64_t i = first_index(); i * words_per_block < count; i += grid_stride()) {
    const auto words = philox_block(seed, next + static_cast<uint64_t>(i));
    const int64_t at = i * words_per_block;
    if (aligned && at + words_per_block <= count) {
      Pack<T> pack = reinterpret_cast<const Pack<T>*>(x)[i];
      for (size_t k = 0; k < words_per_block; ++k) pack.at[k] = words[k] >= least ? pack.at[k] * scale : T(0);
      reinterpret_cast<Pack<T>*>(y)[i] = pack;
    } else {
      for (int64_t k = 0; at + k < count && k < words_per_block; ++k)
        y[at + k] = words[static_cast<size_t>(k)] >= least ? x[at + k] * scale : T(0);
    }
  }
}

template <class T>
void start_mask(const Call& call, const T* x, T* y, int64_t count) {
  if (count == 0) return;
  const double p = call.attrs.as<DropoutAttrs>().p;
  const double bound = std::ceil(p * 0x1p32);  // word >= p 2^32 just if word >= this
  const auto bytes = static_cast<size_t>(count) * sizeof(T);
  if (bound <= 0) {  // p is 0: every bit stays
    check(cudaMemcpyAsync(y, x, bytes, cudaMemcpyDeviceToDevice, stream_of(call)), "dropout");
    return;
  }
  if (bound >= 0x1p32) {  // no word is as large, and for p = 1 there is no scale
    check(cudaMemsetAsync(y, 0, bytes, stream_of(call)), "dropout");
    return;
  }
  const bool aligned = (reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y)) % 16 == 0;
  start(call, "dropout", {blocks_for(count / words_per_block + (count % words_per_block != 0))}, mask<T>, x, y, count,
        call.out[1].as<int64_t>(), static_cast<uint32_t>(bound), static_cast<T>(1 / (1 - p)), aligned);
}

}  // namespace

void dropout(const Call& call) {
  const Slice &x = call.in[0], &y = call.out[0];
  const int64_t count = x.shape.elements();
  start(call, "dropout", {1, 1}, take_blocks, errors_of(call), call.in[1].as<int64_t>(), call.out[1].as<int64_t>(),
        count / words_per_block + (count % words_per_block != 0));
  dispatch_compute(x.dtype, [&]<class T>() { start_mask(call, x.as<T>(), y.as<T>(), count); });
}

void dropout_grad(const Call& call) {
  const Slice &dy = call.grad_out[0], &dx = call.grad_in[0];
  dispatch_compute(dx.dtype, [&]<class T>() { start_mask(call, dy.as<T>(), dx.as<T>(), dx.shape.elements()); });
}

}  // namespace xent::cuda
