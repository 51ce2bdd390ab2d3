// What a loss and its gradient need to know before the first logit is read: the denominator of a mean and what follows
// from it, by a launch over labels and weights. The same launch checks the labels, and makes the ticket ready that
// loss_sums.cuh counts blocks with.
#pragma once

#include <xent/cuda/loss_target.cuh>

namespace xent::cuda {

struct LossScalars {
  double by;              // what a sum is divided by
  double factor;          // scale / by, times the gradient that arrives if that is one number
  double all_weights;     // the sum of the class weights
  double of_denominator;  // the gradient of a mean's own denominator
  bool zero_loss, zero_grad;
  unsigned ticket;
};

// Where they come from, and where they go.
struct LossPreparation {
  LossTarget target;
  SoftmaxCrossEntropyOptions options;
  const char* op = nullptr;  // in the host's memory
  ErrorRecord* errors = nullptr;
  bool checks_labels = false, checks_denominator = false;
  bool sums_shares = false;                // the denominator is the sum of what the rows add to it,
  double denominator = 1;                  // or known on the host,
  const double* denominator_at = nullptr;  // or on the device,
  FloatingNumbers normalizer = {};         // or given
  FloatingNumbers grad_loss = {};          // if it is one number
  const double* total = nullptr;           // of the losses, where the denominator has a gradient
  double* denominator_out = nullptr;
  LossScalars* scalars = nullptr;
  double* partial = nullptr;

  template <class F>
  void for_each_pointer(F&& f) const {
    target.for_each_pointer(f);
    for (const void* pointer : {static_cast<const void*>(errors), static_cast<const void*>(denominator_at),
                                static_cast<const void*>(normalizer.data), static_cast<const void*>(grad_loss.data),
                                static_cast<const void*>(total), static_cast<const void*>(denominator_out),
                                static_cast<const void*>(scalars), static_cast<const void*>(partial)})
      f(pointer);
  }
};

// Launches the preparation. Errors are told by the record.
void prepare_loss(const Call& call, const LossPreparation& p);

}  // namespace xent::cuda
