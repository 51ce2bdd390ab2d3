// The calls: from a case's api to a function of nn/compat. One file per system.
#pragma once

#include <functional>
#include <span>

#include "golden_case.h"

namespace golden {

// What a call gave, by the names that the files use.
struct Results {
  Tensors outputs, grads;
};

struct Api {
  std::string_view name;
  Results (*call)(const Case&);
};

std::span<const Api> onnxruntime_apis();
std::span<const Api> mxnet_apis();
std::span<const Api> torch_apis();  // composer's too
std::span<const Api> tensorflow_apis();

// Runs a case's call with the gradients that are expected. Throws Malformed for an api or argument that is unknown.
Results call(const Case& wanted);

// Runs forward under a tape, and from its "output" backward to the inputs whose gradients are expected.
Results differentiate(const Case& wanted, const std::function<Tensors()>& forward);

}  // namespace golden
