// Checkpoint: what is kept, under which names, and that a run goes on from it bit for bit.
#include <zlib.h>

#include <cmath>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "checkpoint_run.h"
#include "data_files.h"

using namespace xent;
using namespace checkpoint_run;
using data_files::contains;
using data_files::error_of;
using data_files::Folder;
using nlohmann::json;

namespace {

template <class F>
std::string argument_error(F&& f) {
  return error_of<ArgumentError>(f);
}

uint64_t header_length(const std::string& file) {
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= uint64_t{static_cast<uint8_t>(file[i])} << 8 * i;
  return length;
}

json header_of(const std::string& file) { return json::parse(file.substr(8, header_length(file))); }

}  // namespace

TEST_CASE("what was saved is loaded bit for bit into a model, optimizer, generator, loader and numbers made anew") {
  const Folder folder;
  Run run(1), other(2);
  std::string bits;
  run.train(4, [&] {  // in the second epoch
    run.checkpoint.save(folder.file("run"));
    bits = run.bits();
  });
  other.train(2);
  CHECK((other.bits() != bits));
  other.checkpoint.load(folder.file("run"));
  CHECK((other.bits() == bits));
  CHECK(other.steps == 4);
  CHECK(other.loader.position() == Loader::Position{3, 1, 1});
}

TEST_CASE("a checkpoint behind a loop that was left early goes on as this run does: with a new epoch") {
  const Folder folder;
  Run run(1), other(2);
  run.train(4);
  run.checkpoint.save(folder.file("run"));
  other.checkpoint.load(folder.file("run"));
  CHECK(other.loader.position() == Loader::Position{3, 2, 0});
  run.train(3);
  other.train(3);
  CHECK((run.bits() == other.bits()));
}

TEST_CASE("a run that stopped after any batch and was loaded goes on to the same bits as one that never stopped") {
  const Folder folder;
  Run whole(1);
  whole.train(7, [&] { whole.checkpoint.save(folder.file("whole")); });
  for (int64_t stop = 0; stop <= 7; ++stop) {
    Run first(1), second(9);
    first.train(stop, [&] { first.checkpoint.save(folder.file("stopped")); });
    second.checkpoint.load(folder.file("stopped"));
    second.train(7 - stop, [&] { second.checkpoint.save(folder.file("resumed")); });
    CHECK_MESSAGE((bytes_of(folder.file("resumed")) == bytes_of(folder.file("whole"))), "stopped after ", stop);
  }
}

TEST_CASE("the same training with 1, 2 or 3 threads saves the same bytes") {
  const Folder folder;
  std::string first;
  const int before = threads();
  for (const int count : {1, 2, 3}) {
    set_threads(count);
    Run run(1, 50'000);  // wide enough to be cut into chunks
    run.train(4);
    run.checkpoint.save(folder.file("run"));
    if (first.empty()) first = bytes_of(folder.file("run"));
    CHECK(first.size() > 4'000'000);
    CHECK((bytes_of(folder.file("run")) == first));
  }
  set_threads(before);
}

TEST_CASE("tensors of every dtype, scalars, empty ones and eight axes keep their bits") {
  const Folder folder;
  const std::vector<Shape> shapes = {{}, {3}, {0}, {2, 0, 3}, {1, 2, 1, 2, 1, 2, 1, 2}};
  std::vector<NamedTensor> saved, loaded;
  Checkpoint from, to;
  for (const DType dtype : {DType::u8, DType::f16, DType::i32, DType::f64, DType::bf16, DType::f32, DType::i64})
    for (const Shape& shape : shapes) {
      Tensor tensor = Tensor::empty(shape, dtype);
      auto* bytes = static_cast<uint8_t*>(tensor.raw());
      for (size_t i = 0; i < tensor.bytes(); ++i) bytes[i] = static_cast<uint8_t>(0xFF - 37 * i);  // NaN are among them
      const std::string name = std::string(xent::name(dtype)) + shape.str();
      saved.push_back({name, tensor});
      loaded.push_back({name, Tensor::zeros(shape, dtype)});
    }
  for (size_t i = 0; i < saved.size(); ++i) {
    std::string name = saved[i].name;
    std::erase(name, ' ');
    from.add(name, saved[i].value);
    to.add(name, loaded[i].value);
  }
  from.save(folder.file("x"));
  to.load(folder.file("x"));
  std::string wanted, got;
  append_bits(wanted, saved);
  append_bits(got, loaded);
  CHECK((got == wanted));
}

TEST_CASE("the file is safetensors: names as in PyTorch, larger elements first, aligned, no holes, a checksum") {
  const Folder folder;
  Run run(1);
  run.train(1);
  run.checkpoint.save(folder.file("run"));
  std::string file = bytes_of(folder.file("run"));
  CHECK(header_length(file) % 8 == 0);

  using Offsets = std::vector<size_t>;
  json header = header_of(file);
  CHECK(header["fc1.weight"] == json({{"dtype", "F32"}, {"shape", {4, 3}}, {"data_offsets", Offsets{64, 112}}}));
  CHECK(header["train"] == json({{"dtype", "I64"}, {"shape", {3}}, {"data_offsets", Offsets{24, 48}}}));
  CHECK(header["loss"] == json({{"dtype", "F64"}, {"shape", json::array()}, {"data_offsets", Offsets{56, 64}}}));
  const json metadata = header["__metadata__"];
  CHECK(metadata["format"] == "xent");
  CHECK(metadata["parts"] == "optimizer random train steps loss");
  header.erase("__metadata__");
  std::vector<std::string> names;
  std::vector<Offsets> spans;
  for (const auto& [name, entry] : header.items()) {
    names.push_back(name);
    spans.push_back(entry["data_offsets"].get<Offsets>());
  }
  CHECK(names ==
        std::vector<std::string>{"fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight", "loss",
                                 "optimizer.0.learning_rate", "optimizer.0.m.fc1.bias", "optimizer.0.m.fc1.weight",
                                 "optimizer.0.m.fc2.bias", "optimizer.0.m.fc2.weight", "optimizer.0.v.fc1.bias",
                                 "optimizer.0.v.fc1.weight", "optimizer.0.v.fc2.bias", "optimizer.0.v.fc2.weight",
                                 "optimizer.step", "random", "scale", "steps", "train"});
  std::ranges::sort(spans);
  size_t next = 0;
  for (const Offsets& span : spans) {
    CHECK(span[0] == next);
    next = span[1];
  }
  CHECK(8 + header_length(file) + next == file.size());

  const std::string stored = metadata["crc32"];
  file.replace(file.find(stored), 8, "00000000");
  char digits[9];
  std::snprintf(digits, sizeof digits, "%08lx",
                crc32(0, reinterpret_cast<const Bytef*>(file.data()), static_cast<uInt>(file.size())));
  CHECK(stored == digits);
}

TEST_CASE("the same state gives the same bytes, over an older file as well") {
  const Folder folder;
  Run run(1), large(1, 50);
  large.checkpoint.save(folder.file("a"));
  run.checkpoint.save(folder.file("a"));
  run.checkpoint.save(folder.file("b"));
  CHECK((bytes_of(folder.file("a")) == bytes_of(folder.file("b"))));
}

TEST_CASE("an empty checkpoint can be saved and loaded") {
  const Folder folder;
  Checkpoint().save(folder.file("x"));
  CHECK(bytes_of(folder.file("x")).size() % 8 == 0);
  Checkpoint().load(folder.file("x"));
}

TEST_CASE("loading moves no bytes: a Step that was recorded before goes on with what was loaded") {
  const Folder folder;
  Run run(1), other(2);
  other.checkpoint.save(folder.file("other"));
  Step step([&](const Tensor& x) { return run.model(x); });
  const Tensor x = Tensor::ones({2, 4});
  for (int call = 0; call < 3; ++call) step(x);
  const void* before = run.model.fc1.weight.raw();
  run.checkpoint.load(folder.file("other"));
  CHECK(run.model.fc1.weight.raw() == before);
  CHECK(step(x).to_vector<float>() == other.model(x).to_vector<float>());
}

TEST_CASE("a backward after a load refuses to use what the load changed") {
  const Folder folder;
  Run run(1);
  run.checkpoint.save(folder.file("run"));
  Tape tape;
  const Tensor loss = sum(run.model(Tensor::ones({2, 4})));
  run.checkpoint.load(folder.file("run"));
  CHECK(contains(error_of<TapeError>([&] { tape.backward(loss); }), "in place"));
}

TEST_CASE("a loop over a Loader ends when a position is loaded, and goes on when a load was refused") {
  const Folder folder;
  Run run(1);
  run.checkpoint.save(folder.file("run"));
  Loader::Iterator at = run.loader.begin();
  CHECK_THROWS_AS(run.checkpoint.load(folder.file("nothing")), Error);
  ++at;
  run.checkpoint.load(folder.file("run"));
  CHECK(contains(argument_error([&] { ++at; }), "its position was set"));
}

TEST_CASE("saving and loading inside a Step are refused") {
  const Folder folder;
  Run run(1);
  run.checkpoint.save(folder.file("run"));
  const Tensor x = Tensor::ones({1});
  const auto inside = [&](auto&& act) {
    Step step([&](const Tensor& in) {
      act();
      return in + 1.0;
    });
    return error_of<ReplayError>([&] { step(x); });
  };
  CHECK(contains(inside([&] { run.checkpoint.save(folder.file("inside")); }), "Checkpoint::save inside a Step"));
  CHECK(contains(inside([&] { run.checkpoint.save_best(folder.file("inside"), 1); }), "Checkpoint::save inside"));
  CHECK(contains(inside([&] { run.checkpoint.load(folder.file("run")); }), "Checkpoint::load inside a Step"));
  CHECK(contains(inside([&] { save_parameters(run.model, folder.file("inside")); }), "Checkpoint::save inside"));
  CHECK(contains(inside([&] { load_parameters(run.model, folder.file("run")); }), "Checkpoint::load inside"));
  CHECK(!std::filesystem::exists(folder.file("inside")));
  CHECK(run.checkpoint.best_score() == -INFINITY);
}

TEST_CASE("names that are there already, or cannot be any, are refused, and nothing is added") {
  const Folder folder;
  Run run(1);
  run.checkpoint.save(folder.file("before"));
  int64_t number = 0;
  Generator random(2);
  Mlp second(random);
  const Tensor tensor = Tensor::ones({2});
  Checkpoint& checkpoint = run.checkpoint;
  CHECK(contains(argument_error([&] { checkpoint.add(second); }), "'fc1.weight' is added twice"));
  CHECK(contains(argument_error([&] { checkpoint.add("optimizer", run.optimizer); }), "'optimizer' is added twice"));
  CHECK(contains(argument_error([&] { checkpoint.add("steps", number); }), "'steps' is added twice"));
  CHECK(contains(argument_error([&] { checkpoint.add("fc2.bias", tensor); }), "'fc2.bias' is added twice"));
  CHECK(contains(argument_error([&] { checkpoint.add("best_score", number); }), "cannot be named 'best_score'"));
  CHECK(contains(argument_error([&] { checkpoint.add("__metadata__", tensor); }), "cannot be named '__metadata__'"));
  CHECK(contains(argument_error([&] { checkpoint.add("\xff", tensor); }), "cannot be named"));
  CHECK(contains(argument_error([&] { checkpoint.add("", tensor); }), "is no name"));
  CHECK(contains(argument_error([&] { checkpoint.add("my number", number); }), "'my number' is no name"));
  CHECK(contains(argument_error([&] { checkpoint.add("nothing", Tensor()); }), "'nothing' is an empty tensor handle"));
  struct : Module {
    Tensor forward(const Tensor& x) override { return x; }
  } hollow;
  CHECK(contains(argument_error([&] { checkpoint.add(hollow); }), "visit()"));
  Step step([&](const Tensor& in) { return in + 1.0; });
  const Tensor result = step(tensor);
  CHECK(contains(error_of<ReplayError>([&] { checkpoint.add("result", result); }), "'result' was made in a Step"));
  checkpoint.save(folder.file("after"));
  CHECK((bytes_of(folder.file("before")) == bytes_of(folder.file("after"))));
}

TEST_CASE("names may hold quotes, line ends and letters of any script") {
  const Folder folder;
  struct Odd : Module {
    Tensor tensor = Tensor::ones({2});
    Tensor forward(const Tensor& x) override { return x; }
    void visit(Visitor& visitor) override { visitor("\"crc32\":\"\n\xc3\xa9\\", tensor); }
  } odd;
  save_parameters(odd, folder.file("x"));
  odd.tensor.fill(0);
  load_parameters(odd, folder.file("x"));
  CHECK(odd.tensor.to_vector<float>() == std::vector<float>{1, 1});
}

TEST_CASE("a tensor that two parts share is kept once, under its first name") {
  const Folder folder;
  Run run(1);
  Checkpoint both;
  both.add(run.model);
  both.add("again", run.model);
  both.save(folder.file("both"));
  json header = header_of(bytes_of(folder.file("both")));
  CHECK(header.size() == 1 + run.model.state().size());
  CHECK(!header.contains("again.fc1.weight"));
  both.load(folder.file("both"));
}
