// save_best, save_parameters and load_parameters: the checkpoint that is used after training.
#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include "checkpoint_run.h"
#include "data_files.h"

using namespace xent;
using namespace checkpoint_run;
using data_files::contains;
using data_files::error_of;
using data_files::Folder;

namespace {

// A model with one layer more, or with a buffer less.
struct Deeper : Mlp {
  Linear fc3;
  explicit Deeper(Generator& random) : Mlp(random), fc3(3, 3, random) {}
  void visit(Visitor& visitor) override {
    Mlp::visit(visitor);
    visitor("fc3", fc3);
  }
};
struct Shallower : Mlp {
  using Mlp::Mlp;
  void visit(Visitor& visitor) override { visitor("fc1", fc1).buffer("scale", scale); }
};

std::string model_bits(Module& model) {
  std::string bits;
  append_bits(bits, model.state());
  return bits;
}

}  // namespace

TEST_CASE("save_best saves when the score is higher than ever before, and NaN never is") {
  const Folder folder;
  Run run(1);
  const std::string path = folder.file("best");
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(!run.checkpoint.save_best(path, nan));
  CHECK(!std::filesystem::exists(path));
  CHECK(run.checkpoint.save_best(path, -2.5));
  CHECK(!run.checkpoint.save_best(path, -2.5));
  CHECK(!run.checkpoint.save_best(path, nan));
  CHECK(run.checkpoint.save_best(path, 0.5));
  const std::string best = bytes_of(path);
  run.train(1);
  CHECK(!run.checkpoint.save_best(path, 0.25));
  CHECK((bytes_of(path) == best));
  CHECK(run.checkpoint.save_best(path, std::numeric_limits<double>::infinity()));
  CHECK((bytes_of(path) != best));
}

TEST_CASE("the best score comes back with every checkpoint that was saved since, and goes with one from before") {
  const Folder folder;
  Run run(1), resumed(2);
  run.checkpoint.save(folder.file("before"));
  run.checkpoint.save_best(folder.file("best"), 0.75);
  run.checkpoint.save(folder.file("last"));
  for (const char* name : {"best", "last"}) {
    resumed.checkpoint.load(folder.file("before"));
    CHECK(resumed.checkpoint.best_score() == -std::numeric_limits<double>::infinity());
    resumed.checkpoint.load(folder.file(name));
    CHECK(resumed.checkpoint.best_score() == 0.75);
    CHECK(!resumed.checkpoint.save_best(folder.file("other"), 0.75));
    CHECK(resumed.checkpoint.save_best(folder.file("other"), 0.8));
  }
}

TEST_CASE("a best score that could not be saved is not the best") {
  const Folder folder;
  Run run(1);
  CHECK_THROWS_AS(run.checkpoint.save_best(folder.file("missing/best"), 1), Error);
  CHECK(run.checkpoint.save_best(folder.file("best"), 0.5));
}

TEST_CASE("parameters and buffers are saved alone, and loaded into a model made anew") {
  const Folder folder;
  Run run(1), other(2);
  run.train(2);
  run.model.scale.fill(0.25);
  save_parameters(run.model, folder.file("model"));
  const std::string optimizer = other.bits().substr(model_bits(other.model).size());
  load_parameters(other.model, folder.file("model"));
  CHECK((model_bits(other.model) == model_bits(run.model)));
  CHECK((other.bits().substr(model_bits(other.model).size()) == optimizer));
}

TEST_CASE("load_parameters takes the model out of a whole checkpoint") {
  const Folder folder;
  Run run(1), other(2);
  run.train(2);
  run.checkpoint.save_best(folder.file("best"), 1);
  load_parameters(other.model, folder.file("best"));
  CHECK((model_bits(other.model) == model_bits(run.model)));
}

TEST_CASE("load_parameters leaves out only what was added with a name: another model is refused, larger or smaller") {
  const Folder folder;
  Generator random(5);
  Run run(1);
  Deeper deeper(random);
  Shallower shallower(random);
  Mlp wider(random, 4);
  run.checkpoint.save_best(folder.file("whole"), 1);
  save_parameters(run.model, folder.file("model"));
  for (const char* name : {"whole", "model"}) {
    const std::string path = folder.file(name);
    const auto error = [&](Module& model) {
      const std::string before = model_bits(model);
      const std::string text = error_of<FormatError>([&] { load_parameters(model, path); });
      CHECK((model_bits(model) == before));
      return text;
    };
    CHECK(contains(error(deeper), "has no fc3.weight"));
    CHECK(contains(error(shallower), "has fc2.bias f32 [3], for which there is nothing here"));
    CHECK(contains(error(wider),
                   "the checkpoint has fc1.weight f32 [4, 3], here it is f32 [4, 4]: it was made by another model"));
    load_parameters(shallower, path, {.ignore_extra = true});
    CHECK(shallower.fc1.weight.to_vector<float>() == run.model.fc1.weight.to_vector<float>());
  }
}

TEST_CASE("a part's name covers its own tensors and no others") {
  const Folder folder;
  Run run(1);
  Shallower shallower(run.random);
  Checkpoint checkpoint;
  checkpoint.add(run.model);
  int64_t number = 1;
  checkpoint.add("fc", number);  // fc2.weight begins like it
  checkpoint.save(folder.file("x"));
  CHECK(contains(error_of<FormatError>([&] { load_parameters(shallower, folder.file("x")); }), "has fc2.bias"));
  load_parameters(run.model, folder.file("x"));
}

TEST_CASE("an average of a model is a part with names of its own") {
  const Folder folder;
  Run run(1);
  Mlp average(run.random);
  run.checkpoint.add("average", average);
  run.checkpoint.save(folder.file("run"));
  const std::string before = model_bits(average);
  average.fc1.weight.fill(0);
  run.checkpoint.load(folder.file("run"));
  CHECK((model_bits(average) == before));
  load_parameters(run.model, folder.file("run"));
}
