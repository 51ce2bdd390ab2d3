// Random programs of many ops: their gradients against differences, and as Steps, with errors in between, against the
// same program run eagerly, bit for bit. And random files for read_idx. Seeds are fixed: a failure can be repeated.
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/gradcheck.h>
#include <xent/nn/idx.h>
#include <xent/xent.h>

#include "data_files.h"
#include "random_program.h"
#include "replay_mode.h"

using namespace xent;

namespace {

// Applies up to twelve, and makes one number of the last value and of those it began with.
Tensor random_graph(Chance& c, std::vector<Tensor> values, const Shape& wide, const Tensor& labels) {
  Tensor total = sum(tanh(values[0]));
  for (const Tensor& value : values) total = total + sum(mul(value, value));
  for (int64_t n = c.from(1, 12); n > 0; --n) values.push_back(apply_random(c, values, wide, labels));
  return total + sum(values.back());
}

// A training step that is another program for every seed, with all the state that a step can have.
class Training {
 public:
  explicit Training(uint64_t seed) : seed_(seed) { weight_.set_requires_grad(); }

  std::array<Tensor, 3> operator()(const Tensor& x, const Tensor& labels) {
    Chance c(seed_);
    Tape tape;
    tape.watch(x);
    const Tensor noise = uniform(x.shape(), -1, 1, generator_);
    const Tensor loss = random_graph(c, {x, weight_, noise}, x.shape(), labels);
    const Gradients gradients = tape.backward(loss);
    advance(steps_);
    if (c.one_in(2)) adam_step(weight_, gradients[weight_], m_, v_, rate_, steps_);
    else sgd_step(weight_, gradients[weight_], m_, rate_, {.momentum = 0.9});
    accumulate_mean(metric_, loss, 1);
    return {loss, gradients[x], gradients[weight_]};
  }

  std::vector<Tensor> state() const { return {weight_, m_, v_, steps_, metric_, generator_.state()}; }

 private:
  uint64_t seed_;
  Generator generator_{7};
  Tensor weight_ = Tensor::full({1}, 0.5), m_ = Tensor::zeros({1}), v_ = Tensor::zeros({1});
  Tensor rate_ = Tensor::scalar(1e-3), steps_ = Tensor::zeros({}, DType::i64), metric_ = Tensor::zeros({2}, DType::f64);
};

bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  return a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

// Calls a function; an error counts as a result.
std::string error_of(auto&& f, std::array<Tensor, 3>& results) {
  return data_files::error_of<Error>([&] { results = f(); });
}

}  // namespace

TEST_CASE("random graphs of ops have the gradients that differences give") {
  const bool poisoned = poison_fresh_memory(true);
  for (uint64_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    Chance c(seed);
    const int64_t n = c.from(0, 4), m = c.from(1, 4);
    const Tensor labels = labels_of(c, n, m, false);
    const auto graph = [&](std::span<const Tensor> leaves) {
      Chance choices(seed, 1);
      return random_graph(choices, {leaves.begin(), leaves.end()}, {n, m}, labels);
    };
    const GradientReport report = check_gradients(graph, {normals(c, {n, m}, DType::f64), normals(c, {m}, DType::f64),
                                                          normals(c, {n, 1}, DType::f64), normals(c, {}, DType::f64)});
    CHECK_MESSAGE(report.passed, report.message);
  }
  poison_fresh_memory(poisoned);
}

TEST_CASE("a random program gives the same bits as a Step, also for more shapes than plans and after errors") {
  for (const Replay how : {Replay::on, Replay::verify}) {
    const Mode mode(how);
    int errors = 0;
    for (uint64_t seed = 0; seed < 25; ++seed) {
      CAPTURE(seed);
      Training eager(seed), stepped(seed);
      Step step([&](const Tensor& x, const Tensor& labels) { return stepped(x, labels); });
      Chance c(seed, 2);
      for (int call = 0; call < 60; ++call) {
        CAPTURE(call);
        const int64_t n = c.one_in(2) ? 2 : c.from(0, 4), m = c.one_in(2) ? 3 : c.from(1, 3);
        const Tensor x = normals(c, {n, m}, DType::f32), labels = labels_of(c, n, m, c.one_in(6));
        std::array<Tensor, 3> expected, results;
        const std::string text = error_of([&] { return eager(x, labels); }, expected);
        CHECK(error_of([&] { return step(x, labels); }, results) == text);
        errors += text.empty() ? 0 : 1;
        for (size_t i = 0; text.empty() && i < expected.size(); ++i) CHECK(same_bits(results[i], expected[i]));
        for (size_t i = 0; i < eager.state().size(); ++i) CHECK(same_bits(stepped.state()[i], eager.state()[i]));
      }
      CHECK(step.runner().plans() == 8);
    }
    CHECK(errors > 30);
  }
}

TEST_CASE("read_idx reads a random file or throws FormatError, as its bytes say") {
  const data_files::Folder folder;
  int read = 0;
  for (uint64_t seed = 0; seed < 1500; ++seed) {
    CAPTURE(seed);
    Chance c(seed);
    std::vector<uint32_t> extents(c.below(10));
    for (uint32_t& extent : extents) extent = c.one_in(30) ? c.word() : static_cast<uint32_t>(c.below(4));
    std::vector<uint8_t> bytes = data_files::idx(c.any<uint8_t>({8, 9, 0x0B, 0x0C, 0x0D, 0x0E}), extents, {});
    double size = bytes[2] == 8 ? 1 : bytes[2] == 0x0E ? 8 : 4;
    for (const uint32_t extent : extents) size *= extent;
    const bool right = size < 5000 && !c.one_in(3);
    bytes.resize(bytes.size() + static_cast<size_t>(right ? size : static_cast<double>(c.below(40))), 0xA5);
    if (c.one_in(4)) bytes[c.below(bytes.size())] ^= static_cast<uint8_t>(1 << c.below(8));
    const std::string path = c.one_in(3) ? folder.write_gzip("x", bytes) : folder.write("x", bytes);
    try {
      const Tensor x = read_idx(path);
      const size_t header = 4 + 4 * static_cast<size_t>(x.rank());
      CHECK((bytes[0] == 0 && bytes[1] == 0));
      CHECK(static_cast<size_t>(x.rank()) == bytes[3]);
      CHECK(x.bytes() == bytes.size() - header);
      ++read;
    } catch (const FormatError& error) {
      CHECK(data_files::contains(error.what(), path));
    }
  }
  CHECK(read > 200);
}
