// Runs that are stopped and taken up again, and saved for any number of threads: the same bytes as in one go.
#include <doctest/doctest.h>

#ifdef XENT_BIN_DIR

#include "example_programs.h"

using namespace examples;

namespace {

// A program's checkpoint after a run with these arguments.
std::string checkpoint_of(const std::string& program, const std::string& arguments) {
  const fs::path path = scratch() / "checkpoint";
  fs::remove(path);
  const Result result = run(program, arguments + " --quiet --checkpoint " + path.string());
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  return read(path);
}

const std::string data_of(const std::string& program) {
  return "--batch 50 --data " + small_data(program == "05_mnist_cnn" ? 400 : 1000);
}

}  // namespace

TEST_CASE("a checkpoint has the same bytes for one thread, two and three") {
  for (const std::string program : {"04_mnist_mlp", "05_mnist_cnn"}) {
    CAPTURE(program);
    const std::string one = checkpoint_of(program, data_of(program) + " --epochs 1 --threads 1");
    CHECK(one.size() > 1000000);
    CHECK(checkpoint_of(program, data_of(program) + " --epochs 1 --threads 2") == one);
    CHECK(checkpoint_of(program, data_of(program) + " --epochs 1 --threads 3") == one);
  }
}

TEST_CASE("two epochs in one go end in the same bytes as one, and one more in a new process") {
  for (const std::string program : {"04_mnist_mlp", "05_mnist_cnn"}) {
    for (const std::string optimizer : {"adam", "sgd"}) {
      if (program == "05_mnist_cnn" && optimizer == "sgd") continue;
      CAPTURE(program);
      const std::string common = data_of(program) + " --optimizer " + optimizer;
      const std::string whole = checkpoint_of(program, common + " --epochs 2");
      const fs::path half = scratch() / "half";
      REQUIRE(run(program, common + " --epochs 1 --quiet --checkpoint " + half.string()).exit_code == 0);
      CHECK(read(half) != whole);
      CHECK(checkpoint_of(program, common + " --epochs 2 --resume " + half.string()) == whole);
      // The seed of a run is part of its checkpoint.
      CHECK(checkpoint_of(program, common + " --epochs 2 --seed 7 --resume " + half.string()) == whole);
    }
  }
}

TEST_CASE("a checkpoint that has all epochs is tested only, and the log of a resumed run goes on") {
  const std::string common = data_of("04_mnist_mlp");
  const fs::path saved = scratch() / "saved", log = scratch() / "resumed.jsonl";
  const Result first =
      run("04_mnist_mlp", common + " --epochs 2 --quiet --checkpoint " + saved.string() + " --log " + log.string());
  const int64_t logged = lines(read(log));
  CHECK(run("04_mnist_mlp", common + " --epochs 2 --quiet --resume " + saved.string()).out == first.out);
  CHECK(run("04_mnist_mlp", common + " --epochs 3 --quiet --resume " + saved.string() + " --log " + log.string())
            .exit_code == 0);
  CHECK(lines(read(log)) > logged);
}

TEST_CASE("the best epoch is saved, and a checkpoint of another model is refused with a line that says so") {
  const std::string common = data_of("04_mnist_mlp");
  const fs::path best = scratch() / "best";
  CHECK(run("04_mnist_mlp", common + " --epochs 2 --quiet --best " + best.string()).exit_code == 0);
  CHECK(fs::exists(best));
  const Result other = run("05_mnist_cnn", common + " --quiet --resume " + best.string());
  CHECK(other.exit_code == 1);
  CHECK(lines(other.err) == 1);
  CHECK(other.err.starts_with("05_mnist_cnn: "));
  const Result sgd = run("04_mnist_mlp", common + " --quiet --optimizer sgd --resume " + best.string());
  CHECK(sgd.exit_code == 1);
  CHECK(lines(sgd.err) == 1);
}

#endif
