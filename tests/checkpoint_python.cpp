// The safetensors package of Python reads what a Checkpoint saves, and a Checkpoint loads what the package saves.
#include <sys/wait.h>

#include <cmath>
#include <cstdlib>

#include <doctest/doctest.h>

#include "checkpoint_run.h"
#include "data_files.h"

using namespace xent;
using namespace checkpoint_run;
using data_files::contains;
using data_files::error_of;
using data_files::Folder;

namespace {

bool has_python() {
  static const bool found = std::system("python3 -c 'import numpy, safetensors.numpy' 2>/dev/null") == 0;
  if (!found) MESSAGE("skipped: python3 has no packages safetensors and numpy");
  return found;
}

// Runs a program in a folder, and says whether it ended well.
bool python(const Folder& folder, const std::string& program) {
  write_bytes(folder.file("program.py"), "import numpy as np\nimport safetensors, safetensors.numpy as st\n" + program);
  return std::system(("cd '" + folder.path() + "' && python3 program.py").c_str()) == 0;
}

}  // namespace

TEST_CASE("Python reads a checkpoint: names, dtypes, shapes, elements and metadata") {
  if (!has_python()) return;
  const Folder folder;
  Run run(1);
  run.train(4);
  run.model.fc1.weight.copy_from(Tensor::from({0.5, -1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, {4, 3}));
  run.checkpoint.add("empty", Tensor::zeros({2, 0, 3}, DType::u8));
  run.checkpoint.add("byte", Tensor::full({3}, 200, DType::u8));
  run.checkpoint.add("half", Tensor::full({2}, 1.5, DType::f16));
  run.checkpoint.add("word", Tensor::full({1, 1}, -7, DType::i32));
  run.checkpoint.save_best(folder.file("run.safetensors"), 0.25);
  CHECK(python(folder, R"(
t = st.load_file("run.safetensors")
def check(name, dtype, values):
    assert t[name].dtype == dtype and np.array_equal(t[name], np.array(values, dtype)), (name, t[name])
    assert t[name].shape == np.array(values).shape, t[name].shape
check("fc1.weight", np.float32, [[0.5, -1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]])
check("optimizer.step", np.int64, 4)
check("steps", np.int64, 4)
check("train", np.int64, [3, 1, 1])
check("best_score", np.float64, 0.25)
check("byte", np.uint8, [200, 200, 200])
check("half", np.float16, [1.5, 1.5])
check("word", np.int32, [[-7]])
assert t["empty"].shape == (2, 0, 3) and t["empty"].dtype == np.uint8
assert len(t) == 24, len(t)
with safetensors.safe_open("run.safetensors", "np") as f:
    m = f.metadata()
assert m["format"] == "xent" and m["parts"].split()[0] == "optimizer" and len(m["crc32"]) == 8
)"));
}

TEST_CASE("a file that Python wrote loads when no checksum is asked for") {
  if (!has_python()) return;
  const Folder folder;
  REQUIRE(python(folder, R"(
st.save_file({"fc1.weight": np.arange(12, dtype=np.float32).reshape(4, 3), "fc1.bias": np.full(3, -0.5, np.float32),
              "fc2.weight": np.ones((3, 3), np.float32), "fc2.bias": np.zeros(3, np.float32),
              "scale": np.array(0.75, np.float32)}, "theirs.safetensors", {"format": "pt"})
)"));
  Run run(1);
  CHECK(contains(error_of<FormatError>([&] { load_parameters(run.model, folder.file("theirs.safetensors")); }),
                 "has no checksum"));
  load_parameters(run.model, folder.file("theirs.safetensors"), {.require_checksum = false});
  CHECK(run.model.fc1.weight.to_vector<float>() == std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  CHECK(run.model.fc1.bias.to_vector<float>() == std::vector<float>(3, -0.5f));
  CHECK(run.model.scale.item() == 0.75);
}

TEST_CASE("a whole checkpoint that Python loaded and saved again loads, and a run goes on from it bit for bit") {
  if (!has_python()) return;
  const Folder folder;
  Run run(1), other(2);
  run.train(4);
  run.checkpoint.save_best(folder.file("run"), 0.5);
  REQUIRE(python(folder, R"(st.save_file(st.load_file("run"), "again"))"));
  other.checkpoint.load(folder.file("again"), {.require_checksum = false});
  CHECK((other.bits() == run.bits()));

  // With our metadata, but the bytes in another order, the checksum cannot hold; without it all is well.
  REQUIRE(python(folder, R"(
with safetensors.safe_open("run", "np") as f:
    m = f.metadata()
st.save_file(st.load_file("run"), "stale", m)
del m["crc32"]
st.save_file(st.load_file("run"), "fresh", m)
)"));
  CHECK(
      contains(error_of<FormatError>([&] { other.checkpoint.load(folder.file("stale"), {.require_checksum = false}); }),
               "such a program has to leave out the metadata 'crc32'"));
  load_parameters(other.model, folder.file("fresh"), {.require_checksum = false});
}
