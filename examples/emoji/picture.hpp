// SPDX-License-Identifier: Apache-2.0
// Pictures as bytes: transparent bitmaps, resampling, drawing a scene on one of twelve backgrounds.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mobilediffusion/core/error.hpp"

namespace emoji {

inline constexpr std::size_t picture_size = 128;                               // width and height
inline constexpr std::size_t picture_bytes = picture_size * picture_size * 3;  // [128][128][3], RGB
inline constexpr std::size_t bitmap_bytes = picture_size * picture_size * 4;   // [128][128][4], premultiplied RGBA

struct Background {
  std::string_view name;
  std::array<std::uint8_t, 3> rgb;
};

// Clear of each other (at least 60 apart in RGB) so that the colour of a picture can be named without doubt.
inline constexpr std::array<Background, 12> backgrounds{{
    {"white", {255, 255, 255}},
    {"black", {20, 20, 24}},
    {"light blue", {158, 208, 245}},
    {"yellow", {252, 222, 84}},
    {"green", {86, 178, 90}},
    {"red", {216, 60, 56}},
    {"purple", {136, 88, 190}},
    {"orange", {246, 146, 50}},
    {"pink", {250, 176, 208}},
    {"gray", {148, 150, 154}},
    {"brown", {124, 82, 54}},
    {"teal", {24, 134, 138}},
}};
inline constexpr std::size_t white_background = 0;

// One object of a scene: concept is its index in the vocabulary, the box is size x size pixels with (x, y) its upper left.
struct Placement {
  std::size_t concept_id = 0;
  int x = 0, y = 0, size = 0;
  friend bool operator==(const Placement&, const Placement&) = default;
};

struct Scene {
  std::vector<Placement> objects;
  std::size_t background = white_background;  // index into backgrounds
  friend bool operator==(const Scene&, const Scene&) = default;
};

// round(a * b / 255) for bytes, exact.
inline constexpr unsigned times_byte(unsigned a, unsigned b) {
  const unsigned t = a * b + 128;
  return (t + (t >> 8)) >> 8;
}

// Area average of premultiplied RGBA [128][128][4] to [size][size][4], size 1..128. Premultiplied, so edges keep their
// colour: transparent pixels weigh nothing.
inline std::vector<std::uint8_t> resized(std::span<const std::uint8_t> bitmap, std::size_t size) {
  if (bitmap.size() != bitmap_bytes || size == 0 || size > picture_size)
    throw mobilediffusion::Error("bitmap: expected 128x128x4 bytes and a size of 1..128, found " + std::to_string(bitmap.size()) +
                                 " bytes and size " + std::to_string(size));
  if (size == picture_size) return {bitmap.begin(), bitmap.end()};
  const std::size_t n = picture_size;
  // In units of 1/size source pixel: output i covers [i * n, (i + 1) * n), source k covers [k * size, (k + 1) * size).
  const auto covered = [&](std::size_t i, std::size_t k) {
    return static_cast<std::uint32_t>(std::min((i + 1) * n, (k + 1) * size) - std::max(i * n, k * size));
  };
  std::vector<std::uint32_t> rows(size * n * 4, 0);  // [size][128][4], sums with weight n
  for (std::size_t i = 0; i < size; ++i)
    for (std::size_t k = i * n / size; k < n && k * size < (i + 1) * n; ++k) {
      const std::uint32_t w = covered(i, k);
      for (std::size_t c = 0; c < n * 4; ++c) rows[i * n * 4 + c] += w * bitmap[k * n * 4 + c];
    }
  std::vector<std::uint8_t> out(size * size * 4);
  for (std::size_t y = 0; y < size; ++y)
    for (std::size_t i = 0; i < size; ++i) {
      std::array<std::uint32_t, 4> sum{};
      for (std::size_t k = i * n / size; k < n && k * size < (i + 1) * n; ++k)
        for (std::size_t c = 0; c < 4; ++c) sum[c] += covered(i, k) * rows[(y * n + k) * 4 + c];
      for (std::size_t c = 0; c < 4; ++c) out[(y * size + i) * 4 + c] = static_cast<std::uint8_t>((sum[c] + n * n / 2) / (n * n));
    }
  return out;
}

// Draws premultiplied RGBA [size][size][4] over the picture [128][128][3], cut at the borders.
inline void draw(std::span<std::uint8_t> picture, std::span<const std::uint8_t> ink, int x0, int y0, int size) {
  for (int y = std::max(0, -y0); y < size && y + y0 < static_cast<int>(picture_size); ++y)
    for (int x = std::max(0, -x0); x < size && x + x0 < static_cast<int>(picture_size); ++x) {
      const std::uint8_t* p = &ink[static_cast<std::size_t>(y * size + x) * 4];
      std::uint8_t* q = &picture[(static_cast<std::size_t>(y + y0) * picture_size + static_cast<std::size_t>(x + x0)) * 3];
      for (std::size_t c = 0; c < 3; ++c) q[c] = static_cast<std::uint8_t>(std::min(255u, p[c] + times_byte(q[c], 255u - p[3])));
    }
}

// The transparent pictures of a vocabulary, [128][128][4] bytes each, by concept index. Drawing is const and thread-safe.
class Bitmaps {
 public:
  explicit Bitmaps(std::vector<std::vector<std::uint8_t>> bitmaps) : bitmaps_(std::move(bitmaps)) {
    for (std::size_t i = 0; i < bitmaps_.size(); ++i)
      if (bitmaps_[i].size() != bitmap_bytes)
        throw mobilediffusion::Error("bitmap " + std::to_string(i) + ": expected 128x128x4 bytes, found " +
                                     std::to_string(bitmaps_[i].size()));
  }

  std::size_t size() const { return bitmaps_.size(); }

  std::span<const std::uint8_t> operator[](std::size_t concept_id) const {
    if (concept_id >= bitmaps_.size())
      throw mobilediffusion::Error("concept: expected an index below " + std::to_string(bitmaps_.size()) + ", found " +
                                   std::to_string(concept_id));
    return bitmaps_[concept_id];
  }

  // The scene as [128][128][3] bytes.
  void render(const Scene& scene, std::span<std::uint8_t> picture) const {
    if (picture.size() != picture_bytes)
      throw mobilediffusion::Error("picture: expected 128x128x3 bytes, found " + std::to_string(picture.size()));
    if (scene.background >= backgrounds.size())
      throw mobilediffusion::Error("background: expected an index below 12, found " + std::to_string(scene.background));
    const auto& rgb = backgrounds[scene.background].rgb;
    for (std::size_t i = 0; i < picture_bytes; i += 3) std::copy(rgb.begin(), rgb.end(), &picture[i]);
    for (const Placement& p : scene.objects) {
      if (p.size < 1 || p.size > static_cast<int>(picture_size))
        throw mobilediffusion::Error("placement: expected a size of 1..128, found " + std::to_string(p.size));
      draw(picture, resized((*this)[p.concept_id], static_cast<std::size_t>(p.size)), p.x, p.y, p.size);
    }
  }
  std::vector<std::uint8_t> render(const Scene& scene) const {
    std::vector<std::uint8_t> picture(picture_bytes);
    render(scene, std::span<std::uint8_t>(picture));
    return picture;
  }

  // The scene as [128][128][3] floats in -1..1, the range a VAE is trained in.
  void render(const Scene& scene, std::span<float> picture) const {
    if (picture.size() != picture_bytes)
      throw mobilediffusion::Error("picture: expected 128x128x3 values, found " + std::to_string(picture.size()));
    const auto bytes = render(scene);
    for (std::size_t i = 0; i < picture_bytes; ++i) picture[i] = static_cast<float>(bytes[i]) / 127.5f - 1.0f;
  }

  // Changes when any pixel of any bitmap does (FNV-1a): tells releases of the font apart.
  std::uint64_t fingerprint() const {
    std::uint64_t h = 0xcbf29ce484222325u;
    for (const auto& bitmap : bitmaps_)
      for (const std::uint8_t b : bitmap) h = (h ^ b) * 0x100000001b3u;
    return h;
  }

 private:
  std::vector<std::vector<std::uint8_t>> bitmaps_;
};

// Floats in -1..1 as bytes, rounded and clamped; what is not a number becomes 0.
inline std::vector<std::uint8_t> to_bytes(std::span<const float> values) {
  std::vector<std::uint8_t> out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float v = (values[i] + 1.0f) * 127.5f;
    out[i] = v > 0.0f ? static_cast<std::uint8_t>(std::min(v, 255.0f) + 0.5f) : std::uint8_t{0};
  }
  return out;
}

// The alpha-weighted share of a bitmap's ink that stands out from the background (at least 64 away in RGB), 0..1.
inline float visible_share(std::span<const std::uint8_t> bitmap, const Background& background) {
  double visible = 0, all = 0;
  for (std::size_t i = 0; i < bitmap.size(); i += 4) {
    const int a = bitmap[i + 3];
    if (a == 0) continue;
    double distance = 0;  // between the ink's own colour and the background
    for (std::size_t c = 0; c < 3; ++c) {
      const double d = 255.0 * bitmap[i + c] / a - background.rgb[c];
      distance += d * d;
    }
    all += a;
    if (distance >= 64.0 * 64.0) visible += a;
  }
  return all > 0 ? static_cast<float>(visible / all) : 0.0f;
}

}  // namespace emoji
