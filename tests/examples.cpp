// The example programs as a user meets them: what they print, what they log, how they fail.
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#ifdef XENT_BIN_DIR

#include "example_programs.h"

using namespace examples;

namespace {

const std::string quick = "--data " + small_data() + " --epochs 2 --batch 50 --threads 2";

}  // namespace

TEST_CASE("the small examples run, and end in the line that the course page quotes") {
  const std::string page = read(fs::path(XENT_SOURCE_DIR) / "docs/course.md");
  for (const char* program :
       {"01_tensor", "02_tape", "03_softmax_regression", "06_resume", "07_your_own_op", "08_accumulation"}) {
    CAPTURE(program);
    const Result result = run(program);
    CHECK(result.exit_code == 0);
    CHECK(result.err.empty());
    CHECK_MESSAGE(page.find(last_line(result.out)) != std::string::npos, last_line(result.out));
  }
}

TEST_CASE("04_mnist_mlp trains, prints plain lines where there is no terminal, and logs JSON lines") {
  const fs::path log = scratch() / "log.jsonl";
  const Result result = run("04_mnist_mlp", quick + " --log " + log.string());
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  CHECK(result.err.empty());
  CHECK(result.out.find('\r') == std::string::npos);
  CHECK(lines(result.out) == 4);  // what it trains on, two epochs, the result
  CHECK(last_line(result.out).starts_with("test accuracy "));

  std::ifstream file(log);
  std::string line;
  std::vector<nlohmann::json> steps, epochs;
  while (std::getline(file, line)) {
    const nlohmann::json object = nlohmann::json::parse(line);
    (object.at("event") == "epoch" ? epochs : steps).push_back(object);
  }
  REQUIRE(epochs.size() == 2);
  CHECK(steps.size() == 2);  // every hundredth, of forty an epoch
  CHECK(steps[0].at("loss").get<double>() == doctest::Approx(2.302585).epsilon(0.2 / 2.302585));
  for (const char* key : {"epoch", "train_loss", "test_loss", "test_accuracy", "images_per_second", "seconds"})
    CHECK(epochs[0].at(key).is_number());
  CHECK(epochs[1].at("epoch") == 2);
  CHECK(epochs[1].at("train_loss") < epochs[0].at("train_loss"));
  CHECK(epochs[1].at("test_accuracy") > 0.8);
}

TEST_CASE("04_mnist_mlp gives the same numbers for 1, 2 and 3 threads and without replay") {
  const auto losses = [](const std::string& prefix, int threads) {
    const fs::path log = scratch() / "same.jsonl";
    REQUIRE(std::system((prefix + " " + XENT_BIN_DIR + "/04_mnist_mlp --quiet --data " + small_data() +
                         " --epochs 1 --batch 50 --threads " + std::to_string(threads) + " --log " + log.string() +
                         " > /dev/null")
                            .c_str()) == 0);
    std::string text;
    std::ifstream file(log);
    for (std::string line; std::getline(file, line);) text += line.substr(0, line.find("images_per_second"));
    return text;
  };
  const std::string one = losses("", 1);
  CHECK(one.size() > 100);
  CHECK(losses("", 2) == one);
  CHECK(losses("", 3) == one);
  CHECK(losses("XENT_REPLAY=off", 2) == one);
}

TEST_CASE("04_mnist_mlp draws digits of its own if asked to") {
  const Result result = run("04_mnist_mlp", "--data digits --epochs 1 --batch 500");
  CHECK(result.exit_code == 0);
  CHECK(result.out.starts_with("generated digits: 20000 training and 4000 test images"));
}

TEST_CASE("05_mnist_cnn trains") {
  const fs::path log = scratch() / "cnn.jsonl";
  const Result result =
      run("05_mnist_cnn", "--data " + small_data(800) + " --epochs 2 --batch 50 --log " + log.string());
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  CHECK(last_line(result.out).starts_with("test accuracy "));
  CHECK(last_line(result.out).ends_with(" % after 2 epochs"));
  const std::string first = read(log).substr(0, read(log).find('\n'));
  CHECK(nlohmann::json::parse(first).at("loss").get<double>() == doctest::Approx(2.302585).epsilon(0.2 / 2.302585));
}

TEST_CASE("--quiet prints the result only, --help explains and succeeds, every optimizer trains") {
  CHECK(lines(run("04_mnist_mlp", quick + " --quiet").out) == 1);
  const Result help = run("04_mnist_mlp", "--help");
  CHECK(help.exit_code == 0);
  for (const char* option : {"--data", "--epochs", "--batch", "--lr", "--optimizer", "--seed", "--threads", "--log",
                             "--quiet", "--device", "--checkpoint", "--best", "--resume"})
    CHECK(help.out.find(option) != std::string::npos);
  for (const char* optimizer : {"sgd", "adamw"})
    CHECK(run("04_mnist_mlp", quick + " --quiet --optimizer " + optimizer).exit_code == 0);
}

TEST_CASE("bad arguments end with exit code 2 and one line on stderr") {
  for (const char* arguments :
       {"--epochs 0", "--epochs two", "--batch -1", "--lr -0.1", "--lr nan", "--optimizer lion", "--threads 0",
        "--seed x", "--no-such-option", "stray", "--device gpu",
        "--checkpoint /tmp/xent_run --best /tmp/../tmp/./xent_run", "--best xent_run --checkpoint ./xent_run"}) {
    CAPTURE(arguments);
    const Result result = run("04_mnist_mlp", arguments);
    CHECK(result.exit_code == 2);
    CHECK(result.out.empty());
    CHECK(lines(result.err) == 1);
    CHECK(result.err.starts_with("04_mnist_mlp: "));
    CHECK(result.err.find("--help") != std::string::npos);
    if (result.err.find("--best") != std::string::npos)
      CHECK(result.err.find("is the file of --checkpoint") != std::string::npos);
  }
}

TEST_CASE("a device that is not there is missed before anything is read, and the message says what to do") {
  const Result result = run("04_mnist_mlp", quick + " --device cuda:4095");  // no machine has as many
  CHECK(result.exit_code == 1);
  CHECK(result.out.empty());
  CHECK(lines(result.err) == 1);
  CHECK(result.err.starts_with("04_mnist_mlp: cuda:4095: "));
  CHECK(run("04_mnist_mlp", quick + " --quiet --device cpu").exit_code == 0);
}

TEST_CASE("failures at run time end with exit code 1 and one line that says what to do") {
  const fs::path empty = scratch() / "empty";
  fs::create_directories(empty);
  for (const std::string& arguments :
       {std::string("--data /no/such/folder"), "--data " + empty.string(), quick + " --log /no/such/folder/log",
        quick + " --optimizer sgd --lr 1000", quick + " --checkpoint /no/such/folder/c", quick + " --best /dev/full",
        quick + " --resume /no/such/file"}) {
    CAPTURE(arguments);
    const Result result = run("04_mnist_mlp", arguments);
    CHECK(result.exit_code == 1);
    CHECK(lines(result.err) == 1);
    CHECK(result.err.starts_with("04_mnist_mlp: "));
  }
}

#endif
