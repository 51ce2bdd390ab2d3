#include <xent/ops/ops_page.h>

#include <xent/core/require.h>
#include <xent/ops/all_ops.h>

namespace xent {

namespace {

std::string shape_list(const Specs& specs) {
  std::string text;
  for (const Spec& spec : specs)
    if (spec) text += fmt::format("{}{}", text.empty() ? "" : " ", spec.shape);
  return text;
}

// The inputs and outputs of an op's first sample.
struct Example {
  Specs in, out;
};

Example example_of(const Op& op) {
  Example example;
  if (!op.samples) return example;
  const Sample sample = op.samples(DType::f32)[0];
  for (const Tensor& input : sample.inputs)
    example.in.push_back({input.shape(), input.dtype(), static_cast<bool>(input)});
  example.out = op.infer({example.in.data(), example.in.size()}, sample.attrs);
  return example;
}

// "[5, 7] [7, 3] -> [5, 3]"
std::string shapes(const Example& example) {
  const std::string in = shape_list(example.in), out = shape_list(example.out);
  return out.empty() ? in : fmt::format("{} -> {}", in, out);
}

std::string numbers(Mask mask, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i)
    if (mask >> i & 1) text += fmt::format("{}{}", text.empty() ? "" : ", ", i);
  return text;
}

// What the tape keeps: "in 0, 1; out 0".
std::string kept(const Op& op, size_t inputs, size_t outputs) {
  if (op.view || !op.backward) return "";
  const std::string in = numbers(op.needs_in, inputs), out = numbers(op.needs_out, outputs);
  std::string text;
  if (!in.empty()) text = fmt::format("in {}", in);
  if (!out.empty()) text += fmt::format("{}out {}", text.empty() ? "" : "; ", out);
  return text;
}

// '|' would end a table's cell.
std::string cell(std::string_view formula) {
  std::string text;
  for (const char c : formula) {
    if (c == '|') text += '\\';
    text += c;
  }
  return text;
}

}  // namespace

std::string ops_page() {
  std::string page =
      "# Ops\n\n"
      "Printed from the op table; `XENT_UPDATE_DOCS=1 tests/run -R docs` prints it anew. The functions, with what they "
      "take and\n"
      "throw, are in `ops/ops.h`. *Gradient*: by a kernel, as a view of the same bytes, or none. *Kept*: the inputs "
      "and outputs,\n"
      "counted from 0, that backward reads; the tape drops the bytes of the others. *Updates*: the inputs written in "
      "place.\n\n"
      "| op | formula | example | gradient | kept | updates |\n| --- | --- | --- | --- | --- | --- |\n";
  for (const Op* op : all_ops()) {
    if (!op->samples) continue;  // the engine's own: no user calls them
    const Example example = example_of(*op);
    const char* gradient = op->backward ? "kernel" : op->view ? "view" : "none";
    page += fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", op->name, cell(op->formula), shapes(example), gradient,
                        kept(*op, example.in.size(), example.out.size()), numbers(op->updates, example.in.size()));
  }
  return page;
}

}  // namespace xent
