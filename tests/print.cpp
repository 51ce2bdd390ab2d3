// What str() and << show of a tensor, to the letter.
#include <cmath>
#include <sstream>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/tensor.h>

using namespace xent;

TEST_CASE("a small matrix is shown in full under its shape, dtype and device") {
  CHECK(Tensor::from({1, 2.5, -3, 0.1f, 1e10f, 1e-10f}, {2, 3}).str() ==
        "f32 [2, 3] cpu\n"
        "[[1, 2.5, -3],\n"
        " [0.1, 1e+10, 1e-10]]");
}

TEST_CASE("the stream operator shows the same") {
  std::ostringstream out;
  out << Tensor::from<int64_t>({-7, 2}, {2});
  CHECK(out.str() == "i64 [2] cpu\n[-7, 2]");
}

TEST_CASE("a scalar is shown without brackets") { CHECK(Tensor::scalar(0.5, DType::f64).str() == "f64 [] cpu\n0.5"); }

TEST_CASE("u8 is shown as numbers, not as characters") {
  CHECK(Tensor::from<uint8_t>({65, 0, 255}, {3}).str() == "u8 [3] cpu\n[65, 0, 255]");
}

TEST_CASE("16-bit floats are shown by value") {
  CHECK(Tensor::from<Float16>({Float16(0.5f), Float16(-2)}, {2}).str() == "f16 [2] cpu\n[0.5, -2]");
  CHECK(Tensor::from<BFloat16>({BFloat16(256)}, {1}).str() == "bf16 [1] cpu\n[256]");
}

TEST_CASE("values that are no numbers are shown by name") {
  CHECK(Tensor::from({NAN, INFINITY, -INFINITY}, {3}).str() == "f32 [3] cpu\n[nan, inf, -inf]");
}

TEST_CASE("a tensor without elements shows its brackets") {
  CHECK(Tensor::zeros({0, 3}).str() == "f32 [0, 3] cpu\n[]");
  CHECK(Tensor::zeros({2, 0}).str() == "f32 [2, 0] cpu\n[[],\n []]");
}

TEST_CASE("an axis of eight is shown in full, a longer one by its first and last four") {
  std::vector<int32_t> values;
  for (int32_t i = 0; i < 100; ++i) values.push_back(i);
  CHECK(Tensor::from(std::span<const int32_t>(values).first(8), {8}).str() == "i32 [8] cpu\n[0, 1, 2, 3, 4, 5, 6, 7]");
  CHECK(Tensor::from(std::span<const int32_t>(values).first(9), {9}).str() ==
        "i32 [9] cpu\n[0, 1, 2, 3, ..., 5, 6, 7, 8]");
  CHECK(Tensor::from(values, {100}).str() == "i32 [100] cpu\n[0, 1, 2, 3, ..., 96, 97, 98, 99]");
}

TEST_CASE("a long outer axis is shortened by rows") {
  std::vector<int32_t> values;
  for (int32_t i = 0; i < 20; ++i) values.push_back(i);
  CHECK(Tensor::from(values, {10, 2}).str() ==
        "i32 [10, 2] cpu\n"
        "[[0, 1],\n"
        " [2, 3],\n"
        " [4, 5],\n"
        " [6, 7],\n"
        " ...,\n"
        " [12, 13],\n"
        " [14, 15],\n"
        " [16, 17],\n"
        " [18, 19]]");
}

TEST_CASE("inner blocks are indented by their depth") {
  CHECK(Tensor::from<int32_t>({1, 2, 3, 4, 5, 6, 7, 8}, {2, 2, 2}).str() ==
        "i32 [2, 2, 2] cpu\n"
        "[[[1, 2],\n"
        "  [3, 4]],\n"
        " [[5, 6],\n"
        "  [7, 8]]]");
}

TEST_CASE("a view shows its own part") {
  CHECK(Tensor::from({1, 2, 3, 4}, {4}).view({2}, 2).str() == "f32 [2] cpu\n[3, 4]");
}
