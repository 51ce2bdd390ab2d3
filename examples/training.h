// What the training programs share, so that each of them shows its model and its loop: options, data, progress, log.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
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

inline void add_options(CLI::App& app, Options& options) {
  app.add_option(
      "--data", options.data,
      "Folder with MNIST's files, or 'digits' for generated ones (default: Fashion-MNIST if installed, else digits)");
  app.add_option("--epochs", options.epochs, "Passes over the training images")
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
  app.add_option("--log", options.log, "File that gets one JSON object a line; what is in it is replaced");
  app.add_flag("--quiet", options.quiet, "Print the last line only");
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
  } catch (const CLI::Success& success) {  // --help
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "%s: %s; try --help\n", name.c_str(), error.what());
    return 2;
  }
  try {
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

inline std::unique_ptr<xent::Optimizer> make_optimizer(const Options& options,
                                                       const std::vector<xent::Parameter>& parameters) {
  const double rate = options.learning_rate > 0 ? options.learning_rate : options.optimizer == "sgd" ? 0.05 : 1e-3;
  if (options.optimizer == "sgd")
    return std::make_unique<xent::Sgd>(parameters, xent::Sgd::Options{.learning_rate = rate, .momentum = 0.9});
  if (options.optimizer == "adamw")
    return std::make_unique<xent::AdamW>(parameters, xent::AdamW::Options{.learning_rate = rate});
  return std::make_unique<xent::Adam>(parameters, xent::Adam::Options{.learning_rate = rate});
}

// ---- what is shown and written ----

struct Epoch {
  int number;  // from 1
  double train_loss, test_loss, test_accuracy;
};

class Report {
 public:
  Report(const Options& options, const Data& data, int64_t parameters) : options_(options) {
    if (!options.log.empty()) {
      log_.open(options.log);
      if (!log_)
        throw std::runtime_error("cannot write " + options.log + "; is it a folder, or in one that does not exist?");
    }
    if (!options.quiet)
      std::printf("%s: %lld training and %lld test images; %lld weights; %d thread%s\n", data.name.c_str(),
                  static_cast<long long>(data.train.size()), static_cast<long long>(data.test.size()),
                  static_cast<long long>(parameters), options.threads, options.threads == 1 ? "" : "s");
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

  void end_epoch(const Epoch& epoch) {
    const double images_per_second = static_cast<double>(images_) / seconds_;
    write({{"event", "epoch"},
           {"epoch", epoch.number},
           {"train_loss", epoch.train_loss},
           {"test_loss", epoch.test_loss},
           {"test_accuracy", epoch.test_accuracy},
           {"images_per_second", images_per_second},
           {"seconds", elapsed()}});
    if (!options_.quiet)
      std::printf("%sepoch %2d/%d  train %.4f  test %.4f  accuracy %5.2f %%  %6.0f images/s\n", terminal_ ? "\r" : "",
                  epoch.number, options_.epochs, epoch.train_loss, epoch.test_loss, 100 * epoch.test_accuracy,
                  images_per_second);
    if (!std::isfinite(epoch.train_loss) || epoch.train_loss > 1e6)
      throw std::runtime_error("the loss has grown without bound; try a smaller --lr");
    if (epoch.number == options_.epochs)
      std::printf("test accuracy %.2f %% after %d epoch%s\n", 100 * epoch.test_accuracy, options_.epochs,
                  options_.epochs == 1 ? "" : "s");
    std::fflush(stdout);
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
