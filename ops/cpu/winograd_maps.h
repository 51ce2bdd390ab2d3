// The maps of Winograd's F(4 x 4, 3 x 3) along one side of a tile, many channels side by side.
//
// Six products give four results of three taps, where the definition takes twelve:
//   y = A' ((G g) * (B' d)),  d: 6 inputs, g: 3 taps, y: 4 results, * element by element.
// They come from polynomials that are evaluated at 0, 1, -1, 2, -2 and infinity, multiplied, and interpolated. A
// gradient takes the transposed maps. What the points 1 and -1, or 2 and -2, have in common is computed once. `order`
// has results next to each other that have it in common: the half of a map that is computed alone needs no more.
#pragma once

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

template <int lanes>
struct WinogradMaps {
  typedef float Vector __attribute__((vector_size(lanes * sizeof(float))));
  typedef int Integers __attribute__((vector_size(lanes * sizeof(int))));  // as many

  struct Image {  // B'
    static constexpr int from = 6, to = 6;
    static constexpr int order[] = {0, 1, 2, 3, 4, 5};
    static void apply(const Vector* x, Vector* y) {
      const Vector even = x[4] - 4.f * x[2], odd = x[3] - 4.f * x[1];
      const Vector far_even = x[4] - x[2], far_odd = 2.f * (x[3] - x[1]);
      y[0] = 4.f * x[0] + (x[4] - 5.f * x[2]);
      y[1] = even + odd;
      y[2] = even - odd;
      y[3] = far_even + far_odd;
      y[4] = far_even - far_odd;
      y[5] = 4.f * x[1] + (x[5] - 5.f * x[3]);
    }
  };
  struct ImageGrad {  // B
    static constexpr int from = 6, to = 6;
    static constexpr int order[] = {0, 2, 4, 1, 3, 5};
    static void apply(const Vector* x, Vector* y) {
      const Vector near = x[1] + x[2], near_odd = x[1] - x[2], far = x[3] + x[4], far_odd = x[3] - x[4];
      y[0] = 4.f * x[0];
      y[1] = 4.f * (x[5] - near_odd) - 2.f * far_odd;
      y[2] = -5.f * x[0] - (4.f * near + far);
      y[3] = (near_odd + 2.f * far_odd) - 5.f * x[5];
      y[4] = x[0] + near + far;
      y[5] = x[5];
    }
  };
  struct Result {  // A'
    static constexpr int from = 6, to = 4;
    static constexpr int order[] = {0, 1, 2, 3};
    static void apply(const Vector* x, Vector* y) {
      const Vector near = x[1] + x[2], near_odd = x[1] - x[2], far = x[3] + x[4], far_odd = x[3] - x[4];
      y[0] = x[0] + near + far;
      y[1] = near_odd + 2.f * far_odd;
      y[2] = near + 4.f * far;
      y[3] = near_odd + 8.f * far_odd + x[5];
    }
  };
  struct ResultGrad {  // A
    static constexpr int from = 4, to = 6;
    static constexpr int order[] = {0, 1, 2, 3, 4, 5};
    static void apply(const Vector* x, Vector* y) {
      const Vector even = x[0] + x[2], odd = x[1] + x[3];
      const Vector far_even = x[0] + 4.f * x[2], far_odd = 2.f * x[1] + 8.f * x[3];
      y[0] = x[0];
      y[1] = even + odd;
      y[2] = even - odd;
      y[3] = far_even + far_odd;
      y[4] = far_even - far_odd;
      y[5] = x[3];
    }
  };
  struct Weight {  // G
    static constexpr int from = 3, to = 6;
    static constexpr int order[] = {0, 1, 2, 3, 4, 5};
    static void apply(const Vector* x, Vector* y) {
      const Vector even = (x[0] + x[2]) * (-1 / 6.f), odd = x[1] * (-1 / 6.f);
      const Vector far_even = x[0] * (1 / 24.f) + x[2] * (1 / 6.f), far_odd = x[1] * (1 / 12.f);
      y[0] = x[0] * 0.25f;
      y[1] = even + odd;
      y[2] = even - odd;
      y[3] = far_even + far_odd;
      y[4] = far_even - far_odd;
      y[5] = x[2];
    }
  };
  struct WeightGrad {  // G'
    static constexpr int from = 6, to = 3;
    static constexpr int order[] = {0, 1, 2};
    static void apply(const Vector* x, Vector* y) {
      const Vector near = (x[1] + x[2]) * (-1 / 6.f), far = x[3] + x[4];
      y[0] = x[0] * 0.25f + near + far * (1 / 24.f);
      y[1] = (x[2] - x[1]) * (1 / 6.f) + (x[3] - x[4]) * (1 / 12.f);
      y[2] = near + far * (1 / 6.f) + x[5];
    }
  };
};

}  // namespace

}  // namespace xent::cpu
