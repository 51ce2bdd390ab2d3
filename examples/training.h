// What the training programs share, so that each of them shows its model and its loop: options, data, progress, log.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <xent/xent.h>

namespace training {

// ---- options ----

struct Options {
  std::string data;  // a folder with MNIST's four files, or "digits"; empty: Fashion-MNIST if installed, else digits
  int epochs = 10;
  int64_t batch = 64;
  double learning_rate = 0;  // 0: what suits the optimizer
  std::string optimizer = "adam";
  uint64_t seed = 1;
  int threads = xent::threads();
  std::string device = "cpu";
  std::string checkpoint, best, resume;  // files; empty: none
  std::string log;
  bool quiet = false;
};

// CLI11's own ranges let NaN pass.
inline const CLI::Validator positive(
    [](const std::string& text) {
      const double value = std::strtod(text.c_str(), nullptr);
      return value > 0 && std::isfinite(value) ? std::string() : text + " must be a positive number";
    },
    "POSITIVE");

// Refuses what is no device's name; whether there is such a device is seen when it is used.
inline const CLI::Validator device_name(
    [](const std::string& text) {
      try {
        xent::parse_device(text);
        return std::string();
      } catch (const xent::DeviceError& error) {
        return std::string(error.what());
      }
    },
    "DEVICE");

void add_options(CLI::App& app, Options& options) {
  app.add_option(
      "--data", options.data,
      "Folder with MNIST's files, or 'digits' for generated ones (default: Fashion-MNIST if installed, else digits)");
  app.add_option("--epochs", options.epochs, "Passes over the training images, those before --resume included")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  app.add_option("--batch", options.batch, "Images per step")->check(CLI::Range(1, 1000000))->capture_default_str();
  app.add_option("--lr", options.learning_rate,
                 "Learning rate of the first epoch (default: 0.001 for adam and adamw, 0.05 for sgd)")
      ->check(positive);
  app.add_option("--optimizer", options.optimizer, "sgd, adam or adamw")
      ->check(CLI::IsMember({"sgd", "adam", "adamw"}))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Seed of the weights and of the order")->capture_default_str();
  app.add_option("--threads", options.threads, "Threads that compute")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--device", options.device, "Where it computes: cpu, cuda or cuda:N")
      ->check(device_name)
      ->capture_default_str();
  app.add_option("--checkpoint", options.checkpoint, "File that gets the state of the run after every epoch");
  app.add_option("--best", options.best, "The same, only after epochs with the best test accuracy so far");
  app.add_option("--resume", options.resume,
                 "Checkpoint to go on from: its learning rate and seed count, not --lr and --seed");
  app.add_option("--log", options.log,
                 "File that gets one JSON object a line; what is in it is replaced, or added to after --resume");
  app.add_flag("--quiet", options.quiet, "Print the last line only");
}

// Says whether two paths lead to one file, which need not be there yet.
inline bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code error;  // of a folder that may not be read: then the paths as they are
  const auto target = [&](const std::string& path) {
    const std::filesystem::path whole =
        std::filesystem::weakly_canonical(std::filesystem::absolute(path, error), error);
    return error ? std::filesystem::path(path).lexically_normal() : whole;
  };
  return !a.empty() && !b.empty() && target(a) == target(b);
}

// Runs a program: exit code 2 for bad arguments, 1 for failures, each with one line on stderr that says what to do.
inline int run(int argc, char** argv, const char* description, int default_epochs,
               const std::function<void(const Options&)>& train) {
  Options options;
  options.epochs = default_epochs;
  CLI::App app(description);
  add_options(app, options);
  const std::string name = std::string(argv[0]).substr(std::string(argv[0]).find_last_of('/') + 1);
  try {
    app.parse(argc, argv);
    if (is_same_file(options.checkpoint, options.best))
      throw CLI::ValidationError("--best", "is the file of --checkpoint, which replaces it; give each its own");
  } catch (const CLI::Success& success) {  // --help
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "%s: %s; try --help\n", name.c_str(), error.what());
    return 2;
  }
  try {
    for (const std::string& path : {options.checkpoint, options.best})  // now, not after an hour's training
      if (!path.empty()) xent::require_writable(path);
    xent::set_threads(options.threads);
    xent::Tensor::empty({}, xent::DType::f32, xent::parse_device(options.device));  // the same: says what is missing
    train(options);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), error.what());
    return 1;
  }
}

// ---- data ----

struct Data {
  xent::ImageDataset train, test;
  std::string name;
};

inline Data load_data(const std::string& folder) {
  const std::string found = folder.empty() ? xent::find_fashion_mnist() : folder == "digits" ? "" : folder;
  Data data = found.empty()
                  ? Data{xent::generated_digits(20000, 1), xent::generated_digits(4000, 2), "generated digits"}
                  : Data{xent::load_mnist(found, xent::Split::train), xent::load_mnist(found, xent::Split::test),
                         folder.empty() ? "Fashion-MNIST" : folder};
  const xent::Normalisation normalisation = xent::normalisation_of(data.train);
  data.train.set_normalisation(normalisation);
  data.test.set_normalisation(normalisation);
  return data;
}

// ---- what is shown and written ----

class Report {
 public:
  Report(const Options& options, const Data& data, xent::Module& model) : options_(options) {
    int64_t weights = 0;
    std::string where = options.device;
    if (where == "cpu") where = std::to_string(options.threads) + (options.threads == 1 ? " thread" : " threads");
    for (const xent::Parameter& parameter : model.parameters()) weights += parameter.value.elements();
    if (!options.log.empty()) {
      log_.open(options.log, options.resume.empty() ? std::ios::out : std::ios::app);
      if (!log_)
        throw std::runtime_error("cannot write " + options.log + "; is it a folder, or in one that does not exist?");
    }
    if (!options.quiet)
      std::printf("%s: %lld training and %lld test images; %lld weights; %s\n", data.name.c_str(),
                  static_cast<long long>(data.train.size()), static_cast<long long>(data.test.size()),
                  static_cast<long long>(weights), where.c_str());
  }

  // Call before the first step of an epoch.
  void begin_epoch(int number) {
    epoch_ = number;
    images_ = 0;
    start_ = shown_ = Clock::now();
  }

  // Call after each step. Reads the loss, which waits for the device, only when it is logged or shown.
  void step(const xent::Batch& batch, const xent::Tensor& loss, int64_t batches) {
    images_ += batch.size();
    const bool logged = batch.index % 100 == 0 && log_.is_open();
    const bool shown = terminal_ && !options_.quiet && Clock::now() - shown_ > std::chrono::milliseconds(100);
    if (!logged && !shown) return;
    const double value = loss.item();
    if (logged) write({{"event", "step"}, {"epoch", epoch_}, {"step", batch.index}, {"loss", value}});
    if (!shown) return;
    shown_ = Clock::now();
    std::printf("\repoch %2d/%d  %3d %%  loss %.4g  %6.0f images/s ", epoch_, options_.epochs,
                static_cast<int>(100 * (batch.index + 1) / batches), value, rate());
    std::fflush(stdout);
  }

  // Call after the last step of an epoch, before the test.
  void end_training() { seconds_ = elapsed(); }

  void end_epoch(double train_loss, double test_loss, double test_accuracy) {
    const double images_per_second = static_cast<double>(images_) / seconds_;
    write({{"event", "epoch"},
           {"epoch", epoch_},
           {"train_loss", train_loss},
           {"test_loss", test_loss},
           {"test_accuracy", test_accuracy},
           {"images_per_second", images_per_second},
           {"seconds", elapsed()}});
    if (!options_.quiet)
      std::printf("%sepoch %2d/%d  train %.4f  test %.4f  accuracy %5.2f %%  %6.0f images/s\n", terminal_ ? "\r" : "",
                  epoch_, options_.epochs, train_loss, test_loss, 100 * test_accuracy, images_per_second);
    std::fflush(stdout);
    if (!std::isfinite(train_loss) || train_loss > 1e6)
      throw std::runtime_error("the loss has grown without bound; try a smaller --lr");
  }

  void end(double test_accuracy, int64_t epochs) {
    std::printf("test accuracy %.2f %% after %lld epoch%s\n", 100 * test_accuracy, static_cast<long long>(epochs),
                epochs == 1 ? "" : "s");
  }

 private:
  using Clock = std::chrono::steady_clock;

  double elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  double rate() const { return static_cast<double>(images_) / elapsed(); }

  void write(const nlohmann::ordered_json& line) {
    if (!log_.is_open()) return;
    log_ << line.dump() << std::endl;
    if (!log_) throw std::runtime_error("cannot write to " + options_.log + "; is the disk full?");
  }

  Options options_;
  std::ofstream log_;
  bool terminal_ = isatty(STDOUT_FILENO) == 1;
  int epoch_ = 0;
  int64_t images_ = 0;
  double seconds_ = 0;
  Clock::time_point start_, shown_;
};

}  // namespace training
