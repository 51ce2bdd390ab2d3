#include <xent/nn/digits.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>
#include <string_view>

#include <xent/core/parallel.h>
#include <xent/core/random.h>
#include <xent/core/require.h>
#include <xent/nn/shuffle.h>

namespace xent {

namespace {

constexpr int64_t side = 28;
constexpr int64_t pixels = side * side;

// The strokes of each digit: points xy on a grid 9 wide and 10 high, y downwards. A curve runs through the points of a
// stroke; a comma starts the next one.
// clang-format off
constexpr std::array<std::string_view, 10> glyphs = {
    "40 12 05 17 49 77 85 72 40",
    "22 40,40 45 49",
    "12 30 51 73 64 36 09,09 89",
    "11 40 72 54 34,34 64 86 68 39 08",
    "50 23 06,06 86,63 66 69",
    "70 20,20 14,14 44 75 77 58 29 08",
    "70 32 15 08 39 78 86 54 25 07",
    "00 80,80 55 39",
    "45 13 21 40 61 73 45 17 28 49 68 77 45",
    "72 54 24 13 11 40 71 74 57 19",
};
// clang-format on

struct Point {
  float x = 0, y = 0;
};

Point operator+(Point a, Point b) { return {a.x + b.x, a.y + b.y}; }
Point operator-(Point a, Point b) { return {a.x - b.x, a.y - b.y}; }
Point operator*(float factor, Point a) { return {factor * a.x, factor * a.y}; }
float dot(Point a, Point b) { return a.x * b.x + a.y * b.y; }

float between(HostRandom& random, float low, float high) { return low + (high - low) * random.uniform(); }

// One hand: how it maps the grid to pixels and how thick its pen is.
class Hand {
 public:
  explicit Hand(HostRandom& random) : random_(random) {
    const float height = between(random, 14, 21), width = height * between(random, 0.5f, 0.85f);
    const float slant = between(random, -0.3f, 0.5f), turn = between(random, -0.25f, 0.25f);
    const float c = std::cos(turn), s = std::sin(turn);
    across_ = {width / 8 * c, width / 8 * s};
    down_ = {-height / 9 * (slant * c + s), height / 9 * (c - slant * s)};
    centre_ = {between(random, 11, 16), between(random, 11, 16)};
    radius_ = between(random, 0.6f, 1.7f);
  }

  // Places a point of the grid, never twice alike.
  Point place(char x, char y) {
    const float wobble = 0.7f;
    const float right = static_cast<float>(x - '0') - 4 + between(random_, -wobble, wobble);
    const float below = static_cast<float>(y - '0') - 4.5f + between(random_, -wobble, wobble);
    return centre_ + right * across_ + below * down_;
  }

  float radius() const { return radius_; }

 private:
  HostRandom& random_;
  Point across_, down_, centre_;
  float radius_;
};

using Canvas = std::array<float, pixels>;  // ink, 0 to 1

// Inks the pixels around a line, with an edge one pixel wide.
void draw_line(Canvas& canvas, Point from, Point to, float radius) {
  const Point along = to - from;
  const float length2 = std::max(dot(along, along), 1e-6f);
  const auto inside = [](float at) { return std::clamp(static_cast<int64_t>(at), int64_t{0}, side - 1); };
  const float reach = radius + 1;
  const int64_t left = inside(std::min(from.x, to.x) - reach), right = inside(std::max(from.x, to.x) + reach);
  const int64_t top = inside(std::min(from.y, to.y) - reach), bottom = inside(std::max(from.y, to.y) + reach);
  for (int64_t y = top; y <= bottom; ++y)
    for (int64_t x = left; x <= right; ++x) {
      const Point pixel{static_cast<float>(x), static_cast<float>(y)};
      const float t = std::clamp(dot(pixel - from, along) / length2, 0.0f, 1.0f);
      const Point away = pixel - (from + t * along);
      float& ink = canvas[static_cast<size_t>(y * side + x)];
      ink = std::max(ink, std::clamp(radius + 0.5f - std::sqrt(dot(away, away)), 0.0f, 1.0f));
    }
}

// Draws a Catmull-Rom curve through the points.
void draw_curve(Canvas& canvas, std::span<const Point> points, float radius) {
  constexpr int lines = 5;  // between two points
  for (size_t i = 0; i + 1 < points.size(); ++i) {
    const Point a = points[i], b = points[i + 1];
    const Point before = points[i > 0 ? i - 1 : i], after = points[std::min(i + 2, points.size() - 1)];
    const Point slope_a = 0.5f * (b - before), slope_b = 0.5f * (after - a);
    Point from = a;
    for (int line = 1; line <= lines; ++line) {
      const float t = static_cast<float>(line) / lines, u = 1 - t;
      const Point to =
          (u * u * (1 + 2 * t)) * a + (t * t * (3 - 2 * t)) * b + (t * u * u) * slope_a - (t * t * u) * slope_b;
      draw_line(canvas, from, to, radius);
      from = to;
    }
  }
}

void draw_digit(std::span<uint8_t> image, size_t digit, HostRandom random) {
  Canvas canvas{};
  Hand hand(random);
  std::array<Point, 16> stroke;
  size_t length = 0;
  const std::string_view glyph = glyphs[digit];
  for (size_t i = 0; i < glyph.size(); i += 3) {  // two digits and what follows them
    stroke[length++] = hand.place(glyph[i], glyph[i + 1]);
    if (i + 2 < glyph.size() && glyph[i + 2] == ' ') continue;
    draw_curve(canvas, {stroke.data(), length}, hand.radius());
    length = 0;
  }
  const float pressure = between(random, 0.5f, 1), grain = between(random, 0, 0.2f);
  for (size_t i = 0; i < image.size(); ++i) {
    const float value = pressure * canvas[i] + between(random, -grain, grain);
    image[i] = static_cast<uint8_t>(255 * std::clamp(value, 0.0f, 1.0f));
  }
}

}  // namespace

ImageDataset generated_digits(int64_t count, uint64_t seed) {
  require<ArgumentError>(count >= 1, "generated_digits: count is {}, expected 1 or more", count);
  Tensor images = Tensor::persistent("generated_digits", {count, side, side}, DType::u8);
  Tensor labels = Tensor::persistent("generated_digits", {count}, DType::u8);
  uint8_t* image = images.mutable_data<uint8_t>();
  uint8_t* label = labels.mutable_data<uint8_t>();
  parallel_for(count, 10, [&](int64_t begin, int64_t end) {
    std::array<uint8_t, 10> digits;
    std::iota(digits.begin(), digits.end(), uint8_t{0});
    HostRandom random(seed, 2 * static_cast<uint64_t>(begin));  // even streams: orders, odd ones: images
    shuffle(std::span<uint8_t>(digits), random);
    for (int64_t i = begin; i < end; ++i) {
      label[i] = digits[static_cast<size_t>(i - begin)];
      draw_digit({image + i * pixels, pixels}, label[i], HostRandom(seed, 2 * static_cast<uint64_t>(i) + 1));
    }
  });
  return ImageDataset(images, labels, 10);
}

}  // namespace xent
