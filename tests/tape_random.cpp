// Random graphs with views, copies, repeated inputs and watched results, against derivatives carried forward: every
// op here works element by element, so a value and its partial derivatives by all watched tensors are its reference.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/random.h>
#include <xent/core/step.h>
#include <xent/core/tape.h>

#include "replay_mode.h"
#include "small_ops.h"

using namespace xent;
using small::add, small::exp, small::flat, small::mul, small::scale, small::square;
using small::Doubles, small::f64, small::values;

namespace {

constexpr size_t extent = 3;
using Triple = std::array<double, extent>;
using Partials = std::vector<std::optional<Triple>>;  // by watched tensor; none: does not depend on it

struct Node {
  Tensor tensor;
  Triple value;
  Partials partials;
};

template <class F>
Triple each(const F& f) {
  Triple result;
  for (size_t i = 0; i < extent; ++i) result[i] = f(i);
  return result;
}

// A value of one input, or of two, whose derivatives by them are known.
Node node_of(Tensor tensor, const Triple& value, const Node& a, const Triple& by_a, const Node& b, const Triple& by_b) {
  Node node = {std::move(tensor), value, Partials(std::max(a.partials.size(), b.partials.size()))};
  for (const auto& [input, slope] : {std::pair(&a, &by_a), std::pair(&b, &by_b)}) {
    for (size_t k = 0; k < input->partials.size(); ++k) {
      if (!input->partials[k]) continue;
      Triple& sum = node.partials[k] ? *node.partials[k] : node.partials[k].emplace(Triple{});
      for (size_t i = 0; i < extent; ++i) sum[i] += (*slope)[i] * (*input->partials[k])[i];
    }
  }
  return node;
}

// Applies one of nine small functions, none of which leaves [-1, 1].
Node apply_random(HostRandom& random, const Node& a, const Node& b) {
  const auto constant = [](double c) { return each([&](size_t) { return c; }); };
  const Triple zero = constant(0), one = constant(1), half = constant(0.5);
  const auto of_a = [&](auto f) { return each([&](size_t i) { return f(a.value[i]); }); };
  const Triple &x = a.value, &y = b.value;
  const Tensor &p = a.tensor, &q = b.tensor;
  switch (random.below(9)) {
    case 0: return node_of(scale(add(p, q), 0.5), each([&](size_t i) { return (x[i] + y[i]) / 2; }), a, half, b, half);
    case 1: return node_of(mul(p, q), each([&](size_t i) { return x[i] * y[i]; }), a, y, b, x);
    case 2:
      return node_of(square(p), of_a([](double v) { return v * v; }), a, of_a([](double v) { return 2 * v; }), a, zero);
    case 3: {
      const Triple value = of_a([](double v) { return 0.36 * std::exp(v); });
      return node_of(scale(exp(p), 0.36), value, a, value, a, zero);
    }
    case 4: return node_of(flat(p), x, a, one, a, zero);
    case 5: return node_of(p.clone(), x, a, one, a, zero);
    case 6:
      return node_of(mul(p, p), of_a([](double v) { return v * v; }), a, of_a([](double v) { return 2 * v; }), a, zero);
    case 7: return node_of(scale(add(flat(p), p), 0.5), x, a, one, a, zero);
    default: return node_of(mul(flat(p), flat(flat(q))), each([&](size_t i) { return x[i] * y[i]; }), a, y, b, x);
  }
}

Tensor tensor_of(const Triple& element) { return f64(Doubles(element.begin(), element.end())); }

// The largest error of gradients against the partial derivatives of a root times an upstream gradient.
double error_of(const Gradients& gradients, const std::vector<Tensor>& watched, const Node& root,
                const Triple& upstream, double times) {
  double worst = 0;
  for (size_t k = 0; k < watched.size(); ++k) {
    const bool depends = k < root.partials.size() && root.partials[k];
    if (gradients.contains(watched[k]) != depends) return INFINITY;
    if (!depends) continue;
    const Doubles gradient = values(gradients[watched[k]]);
    for (size_t i = 0; i < extent; ++i) {
      const double expected = times * upstream[i] * (*root.partials[k])[i];
      worst = std::max(worst, std::abs(gradient[i] - expected) / (1 + std::abs(expected)));
    }
  }
  return worst;
}

struct Graph {
  std::vector<Node> nodes;
  std::vector<Tensor> watched;
};

void watch(Graph& graph, Node& node, Tape& tape) {
  tape.watch(node.tensor);
  node.partials.resize(graph.watched.size() + 1);
  node.partials.back() = each([](size_t) { return 1.0; });
  graph.watched.push_back(node.tensor);
}

Graph random_graph(HostRandom& random, Tape& tape, const std::vector<Tensor>& leaves) {
  Graph graph;
  for (const Tensor& leaf : leaves) {
    const Doubles host = values(leaf);
    graph.nodes.push_back({leaf, {host[0], host[1], host[2]}, {}});
    if (graph.nodes.size() != 2) watch(graph, graph.nodes.back(), tape);  // the second one is a constant
  }
  const uint64_t size = 3 + random.below(25);
  for (uint64_t n = 0; n < size; ++n) {
    const auto pick = [&]() -> const Node& { return graph.nodes[random.below(graph.nodes.size())]; };
    const Node &a = pick(), &b = pick();
    Node node = apply_random(random, a, b);
    if (random.below(4) == 0) watch(graph, node, tape);
    graph.nodes.push_back(std::move(node));
    if (random.below(5) == 0) {  // a handle that goes: what is kept of it is the tape's business
      graph.nodes.erase(graph.nodes.begin() + static_cast<std::ptrdiff_t>(random.below(graph.nodes.size() - 1)));
    }
  }
  return graph;
}

std::vector<Tensor> random_leaves(HostRandom& random) {
  std::vector<Tensor> leaves;
  for (int i = 0; i < 3; ++i) leaves.push_back(tensor_of(each([&](size_t) { return 2 * random.uniform() - 1.0; })));
  return leaves;
}

}  // namespace

TEST_CASE("backward agrees with derivatives carried forward, also repeated and accumulated") {
  const bool before = poison_fresh_memory(true);
  double worst = 0;
  int roots = 0;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    HostRandom random(seed);
    Tape tape;
    const Graph graph = random_graph(random, tape, random_leaves(random));
    const Node& root = graph.nodes[random.below(graph.nodes.size())];
    bool depends = false;
    for (const auto& partial : root.partials) depends |= partial.has_value();
    if (!depends) continue;
    ++roots;
    const Triple upstream = each([&](size_t) { return 2 * random.uniform() - 1.0; });
    const Tensor given = tensor_of(upstream);
    Gradients total;
    for (int times = 1; times <= 3; ++times) {
      const BackwardOptions options = {.upstream = given, .retain = times < 3};
      tape.backward(root.tensor, total, options);
      worst = std::max(worst, error_of(total, graph.watched, root, upstream, times));
    }
    if (values(given) != Doubles(upstream.begin(), upstream.end())) worst = INFINITY;
  }
  poison_fresh_memory(before);
  CHECK(roots > 2000);
  CHECK(worst < 1e-12);
}

TEST_CASE("random graphs in a Step give the bits that they give without one") {
  const Mode mode(Replay::on);
  int differences = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    // The graph's choices depend on the seed only, so that the function does the same in every call.
    const auto function = [seed](const Tensor& a, const Tensor& b, const Tensor& c) {
      HostRandom random(seed, 1);
      Tape tape;
      for (const Tensor* leaf : {&a, &b, &c}) tape.watch(*leaf);
      std::vector<Node> nodes = {{a, {}, {}}, {b, {}, {}}, {c, {}, {}}};
      for (int n = 0; n < 20; ++n) {
        const size_t i = random.below(nodes.size()), j = random.below(nodes.size());
        nodes.push_back(apply_random(random, nodes[i], nodes[j]));
        if (nodes.size() > 6) nodes.erase(nodes.begin() + 3);
      }
      const Tensor root = add(mul(nodes.back().tensor, a), add(mul(b, c), nodes[4].tensor));
      Gradients gradients = tape.backward(root, {.upstream = a});
      return std::array{root, gradients[a], gradients[b], gradients[c]};
    };
    Step step(function);
    for (int call = 0; call < 4; ++call) {
      HostRandom random(seed, 100 + static_cast<uint64_t>(call));
      const std::vector<Tensor> x = random_leaves(random);
      const auto replayed = step(x[0], x[1], x[2]), eager = function(x[0], x[1], x[2]);
      for (size_t i = 0; i < eager.size(); ++i) differences += values(replayed[i]) == values(eager[i]) ? 0 : 1;
    }
  }
  CHECK(differences == 0);
}
