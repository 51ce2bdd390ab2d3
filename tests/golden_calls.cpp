#include "golden_calls.h"

#include <xent/core/tape.h>

namespace golden {

Results call(const Case& wanted) {
  for (const auto apis : {onnxruntime_apis(), mxnet_apis(), torch_apis(), tensorflow_apis()})
    for (const Api& api : apis)
      if (api.name == wanted.api) return api.call(wanted);
  throw Malformed("unknown api '" + wanted.api + "'");
}

Results differentiate(const Case& wanted, const std::function<Tensors()>& forward) {
  xent::Tape tape;
  for (const auto& [name, expected] : wanted.grads)
    if (const Tensor input = wanted.optional_input(name); input && is_floating(input.dtype())) tape.watch(input);
  Results results = {forward(), {}};
  if (wanted.grads.empty()) return results;
  const xent::Gradients gradients = tape.backward(results.outputs.at("output"), {.upstream = wanted.upstream});
  for (const auto& [name, expected] : wanted.grads)
    if (const Tensor input = wanted.optional_input(name); input && gradients.contains(input))
      results.grads[name] = gradients[input];
  return results;
}

}  // namespace golden
