// The collections of tf.losses, and the names that get_losses searches.
#include <regex>

#include <xent/core/require.h>
#include <xent/nn/compat/tensorflow.h>
#include <xent/ops/ops.h>

namespace xent::compat::tensorflow::losses {

namespace {

constexpr const char* regularization = "regularization_losses";

thread_local Graph* innermost = nullptr;

Graph& current(const char* who) {
  Graph* graph = Graph::current();
  require<ArgumentError>(graph != nullptr,
                         "{}: there is no Graph on this thread; make one before you compute the losses", who);
  return *graph;
}

std::regex compiled(const std::string& scope) {
  constexpr size_t longest = 256;  // as of the names: matching may take stack for every character
  require<ArgumentError>(scope.size() <= longest, "get_losses: a scope of {} characters; {} are the most", scope.size(),
                         longest);
  try {
    return std::regex(scope);
  } catch (const std::regex_error& error) {
    fail<ArgumentError>("get_losses: scope '{}' is no regular expression: {}", scope, error.what());
  }
}

void check_alike(const std::vector<Tensor>& losses) {
  const Tensor& last = losses.back();
  for (size_t i = losses.size() - 1; i-- > 0;) {
    const Shape &a = losses[i].shape(), &b = last.shape();
    if (losses[i].dtype() != last.dtype())
      throw Refused(Cause::type, "TypeError",
                    fmt::format("Tensors in list passed to 'inputs' of 'AddN' Op have types {} and {} that don't all "
                                "match.",
                                losses[i].dtype(), last.dtype()));
    if (a.rank() != b.rank())
      throw Refused(Cause::shape, "ValueError",
                    fmt::format("Shapes must be equal rank, but are {} and {}", a.rank(), b.rank()));
    for (int axis = 0; axis < a.rank(); ++axis)
      if (a[axis] != b[axis])
        throw Refused(
            Cause::shape, "ValueError",
            fmt::format("Dimension {} in both shapes must be equal, but are {} and {}", axis, a[axis], b[axis]));
  }
}

}  // namespace

Graph::Graph() : outer_(innermost) { innermost = this; }

Graph::~Graph() {
  // Graphs end in reverse order unless they live on the heap; then this one is taken out of the middle.
  for (Graph** link = &innermost; *link; link = &(*link)->outer_)
    if (*link == this) {
      *link = outer_;
      break;
    }
}

Graph* Graph::current() { return innermost; }

std::string Graph::unique_name(const std::string& name) {
  int asked = names_[name]++;
  if (asked == 0) return name;
  std::string unique = name;
  while (names_.contains(unique)) unique = fmt::format("{}_{}", name, asked++);
  names_[unique] = 1;
  return unique;
}

void Graph::add(const std::string& collection, std::string name, Tensor loss) {
  collections_[collection].push_back({std::move(name), std::move(loss)});
}

std::vector<Tensor> Graph::get(const std::string& collection, const std::optional<std::string>& scope) const {
  std::vector<Tensor> losses;
  const auto found = collections_.find(collection);
  if (found == collections_.end()) return losses;
  const std::regex pattern = compiled(scope.value_or(""));
  for (const auto& [name, loss] : found->second)
    if (std::regex_search(name, pattern, std::regex_constants::match_continuous)) losses.push_back(loss);
  return losses;
}

void add_loss(const Tensor& loss, const std::optional<std::string>& loss_collection) {
  if (!loss_collection || loss_collection->empty()) return;
  Graph& graph = losses::current("add_loss");
  require<ArgumentError>(static_cast<bool>(loss), "add_loss: an empty tensor handle");
  graph.add(*loss_collection, graph.unique_name("loss") + ":0", loss);
}

void add_regularization_loss(const Tensor& loss) { add_loss(loss, regularization); }

std::vector<Tensor> get_losses(const std::optional<std::string>& scope, const std::string& loss_collection) {
  return losses::current("get_losses").get(loss_collection, scope);
}

std::vector<Tensor> get_regularization_losses(const std::optional<std::string>& scope) {
  return get_losses(scope, regularization);
}

Tensor get_total_loss(bool add_regularization_losses) {
  const Graph& graph = losses::current("get_total_loss");
  std::vector<Tensor> losses = graph.get("losses", {});
  if (add_regularization_losses)
    for (const Tensor& loss : graph.get(regularization, {})) losses.push_back(loss);
  if (losses.empty())
    throw Refused(Cause::no_losses, "ValueError",
                  "inputs must be a list of at least one Tensor with the same dtype and shape");
  check_alike(losses);
  const DType dtype = losses[0].dtype();
  if (is_computable(dtype) || losses.size() == 1) {
    Tensor total = losses[0];
    for (size_t i = 1; i < losses.size(); ++i) total = add(total, losses[i]);
    return total;
  }
  Tensor total = cast(losses[0], DType::f32);
  for (size_t i = 1; i < losses.size(); ++i) total = add(total, cast(losses[i], DType::f32));
  return cast(total, dtype);
}

}  // namespace xent::compat::tensorflow::losses
