// check_labels: one launch that reads every label once, and writes nothing unless one of them is no class.
#include <xent/cuda/label_check.cuh>

namespace xent::cuda {

namespace {

__global__ void __launch_bounds__(threads_per_block) find_bad_labels(LabelCheck check) {
  bool found = false;
  for (int64_t row = first_index(); row < check.labels.count; row += grid_stride())
    found |= check.labels.is_bad(check.labels[row]);
  report_bad_labels(check, found, static_cast<int64_t>(blockIdx.x) * blockDim.x, grid_stride());
}

}  // namespace

void check_labels(const Call& call, const char* op, const Slice& labels, int64_t classes,
                  std::optional<int64_t> ignore) {
  const int64_t count = labels.shape.elements();
  const LabelCheck check = {.labels = {.data = labels.data,
                                       .dtype = labels.dtype,
                                       .count = count,
                                       .classes = classes,
                                       .ignores = ignore.has_value(),
                                       .ignore = ignore.value_or(0)},
                            .op = op,
                            .errors = errors_of(call)};
  start(call, op, {.blocks = blocks_for(count), .max_threads = threads_per_block}, find_bad_labels, check);
}

}  // namespace xent::cuda
