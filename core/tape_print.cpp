// How a tape is shown: a line per node, with what is kept for its backward.
#include <xent/core/require.h>
#include <xent/core/tape.h>

namespace xent {

size_t Tape::kept_bytes() const {
  size_t bytes = 0;
  for (const Node& node : nodes_)
    for (const auto* part : {&node.in, &node.out})
      for (const Kept& kept : *part)
        if (kept.tensor) bytes += kept.tensor.bytes();
  return bytes;
}

std::string Tape::print() const {
  const auto shapes = [](const InlineVector<Kept, most_operands>& part) {
    std::string text;
    for (const Kept& kept : part) text += fmt::format("{}{}", text.empty() ? "" : " ", kept.tensor.shape());
    return text;
  };
  std::string text =
      fmt::format("{:>3}  {:<22} {:<52} {:<14} {:>10}\n", "#", "op", "inputs -> outputs", "kept", "bytes");
  for (size_t n = 0; n < nodes_.size(); ++n) {
    const Node& node = nodes_[n];
    std::string kept;
    size_t bytes = 0;
    const auto add = [&](const char* prefix, const InlineVector<Kept, most_operands>& part) {
      for (size_t i = 0; i < part.size(); ++i) {
        if (!part[i].tensor) continue;
        kept += fmt::format("{}{}{}", kept.empty() ? "" : " ", prefix, i);
        bytes += part[i].tensor.bytes();
      }
    };
    add("in", node.in);
    add("out", node.out);
    text += fmt::format("{:>3}  {:<22} {:<52} {:<14} {:>10}\n", n, node.op->name,
                        shapes(node.in) + " -> " + shapes(node.out), kept, bytes);
  }
  return text;
}

}  // namespace xent
