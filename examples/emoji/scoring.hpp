// SPDX-License-Identifier: Apache-2.0
// How well a generated picture shows what its caption says: retrieval by pixel error against the true bitmaps.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "dataset.hpp"
#include "mobilediffusion/core/error.hpp"
#include "picture.hpp"
#include "vocabulary.hpp"

namespace emoji {

// Pictures are [128][128][3] bytes throughout (to_bytes makes them of floats in -1..1).
using PictureView = std::span<const std::uint8_t>;

// Mean squared error of bytes.
inline double mean_squared_error(PictureView a, PictureView b) {
  if (a.size() != b.size() || a.empty())
    throw mobilediffusion::Error("pictures: expected equal sizes, found " + std::to_string(a.size()) + " and " +
                                 std::to_string(b.size()));
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const int d = int{a[i]} - int{b[i]};
    sum += static_cast<std::uint64_t>(d * d);
  }
  return static_cast<double>(sum) / static_cast<double>(a.size());
}

// In dB for bytes; equal pictures give 99.
inline double psnr(double mse) { return mse <= 0 ? 99.0 : std::min(99.0, 10.0 * std::log10(255.0 * 255.0 / mse)); }

// The part of a picture inside a box of a scene, [size][size][3]. Throws if the box leaves the picture.
inline std::vector<std::uint8_t> crop(PictureView picture, const Placement& box) {
  const int n = static_cast<int>(picture_size);
  if (picture.size() != picture_bytes || box.size < 1 || box.x < 0 || box.y < 0 || box.x + box.size > n || box.y + box.size > n)
    throw mobilediffusion::Error("crop: expected a box inside 128x128x3 bytes, found x " + std::to_string(box.x) + ", y " +
                                 std::to_string(box.y) + ", size " + std::to_string(box.size));
  const auto size = static_cast<std::size_t>(box.size);
  std::vector<std::uint8_t> out(size * size * 3);
  for (std::size_t y = 0; y < size; ++y) {
    const std::size_t from = ((static_cast<std::size_t>(box.y) + y) * picture_size + static_cast<std::size_t>(box.x)) * 3;
    std::copy_n(picture.begin() + static_cast<std::ptrdiff_t>(from), size * 3,
                out.begin() + static_cast<std::ptrdiff_t>(y * size * 3));
  }
  return out;
}

// The index of the background nearest to the median colour of the pixels outside all boxes.
inline std::size_t background_of(PictureView picture, const Scene& scene) {
  if (picture.size() != picture_bytes)
    throw mobilediffusion::Error("picture: expected 128x128x3 bytes, found " + std::to_string(picture.size()));
  std::array<std::vector<std::uint8_t>, 3> outside;
  for (std::size_t y = 0; y < picture_size; ++y)
    for (std::size_t x = 0; x < picture_size; ++x) {
      const bool inside = std::any_of(scene.objects.begin(), scene.objects.end(), [&](const Placement& p) {
        const int dx = static_cast<int>(x) - p.x, dy = static_cast<int>(y) - p.y;
        return dx >= 0 && dx < p.size && dy >= 0 && dy < p.size;
      });
      for (std::size_t c = 0; c < 3 && !inside; ++c) outside[c].push_back(picture[(y * picture_size + x) * 3 + c]);
    }
  if (outside[0].empty()) throw mobilediffusion::Error("scene: expected pixels outside the boxes, found none");
  std::array<int, 3> colour{};
  for (std::size_t c = 0; c < 3; ++c) {
    const auto middle = outside[c].begin() + static_cast<std::ptrdiff_t>(outside[c].size() / 2);
    std::nth_element(outside[c].begin(), middle, outside[c].end());
    colour[c] = *middle;
  }
  const auto distance = [&](const Background& b) {
    int sum = 0;
    for (std::size_t c = 0; c < 3; ++c) sum += (colour[c] - b.rgb[c]) * (colour[c] - b.rgb[c]);
    return sum;
  };
  return static_cast<std::size_t>(
      std::min_element(backgrounds.begin(), backgrounds.end(),
                       [&](const Background& a, const Background& b) { return distance(a) < distance(b); }) -
      backgrounds.begin());
}

// What one picture scored. Ranks count from 0: top-1 is rank 0, top-5 is a rank below 5.
struct Score {
  std::vector<std::size_t> ranks;  // of each object of the scene in its own box, among its rivals
  double psnr = 0;                 // dB over the boxes of all objects
  bool background_right = false;
  std::size_t count = 0;  // for Task::count: the predicted number of copies, 1..4; else 0
  bool top1() const { return all_below(1); }
  bool top5() const { return all_below(5); }
  bool all_below(std::size_t n) const {
    return std::all_of(ranks.begin(), ranks.end(), [&](std::size_t r) { return r < n; });
  }
};

// Compares with every concept of a vocabulary. Keeps the bitmaps resampled to the sizes given, as planes, so that one
// picture against 849 candidates takes milliseconds. Const functions may run on several threads at once.
class Scorer {
 public:
  Scorer(const Vocabulary& vocabulary, const Bitmaps& bitmaps,
         const std::vector<int>& sizes = {single_size, pair_size, count_size, big_size, small_size})
      : vocabulary_(vocabulary), bitmaps_(bitmaps) {
    if (vocabulary.size() != bitmaps.size())
      throw mobilediffusion::Error("scorer: expected a bitmap for each of " + std::to_string(vocabulary.size()) +
                                   " concepts, found " + std::to_string(bitmaps.size()));
    for (const int size : sizes) {
      const auto n = static_cast<std::size_t>(size) * static_cast<std::size_t>(size);
      auto& planes = planes_[size];
      // People appear as singles only.
      const std::size_t concepts = size == single_size ? vocabulary.size() : vocabulary.things();
      planes.resize(concepts * 4 * n);
      for (std::size_t i = 0; i < concepts; ++i) {
        const auto ink = resized(bitmaps[i], static_cast<std::size_t>(size));
        for (std::size_t k = 0; k < n; ++k)
          for (std::size_t c = 0; c < 4; ++c)
            planes[(i * 4 + c) * n + k] = c < 3 ? ink[k * 4 + c] : static_cast<std::uint8_t>(255 - ink[k * 4 + 3]);
      }
    }
  }

  // How many of the concept's rivals fit the box better than the concept itself, on the given background.
  std::size_t rank(PictureView picture, const Placement& box, std::size_t background) const {
    const auto found = planes_.find(box.size);
    if (found == planes_.end())
      throw mobilediffusion::Error("scorer: expected one of the sizes it was made for, found " + std::to_string(box.size));
    const auto n = static_cast<std::size_t>(box.size) * static_cast<std::size_t>(box.size);
    const auto [first, last] = vocabulary_.rivals(box.concept_id);
    if (last * 4 * n > found->second.size())
      throw mobilediffusion::Error("scorer: expected people at size " + std::to_string(single_size) + " only, found " +
                                   std::to_string(box.size));
    const auto pixels = crop(picture, box);
    std::vector<std::uint8_t> target(3 * n);
    for (std::size_t k = 0; k < n; ++k)
      for (std::size_t c = 0; c < 3; ++c) target[c * n + k] = pixels[k * 3 + c];
    const std::uint64_t truth = error(&found->second[box.concept_id * 4 * n], target, n, background);
    std::size_t better = 0;
    for (std::size_t i = first; i < last; ++i) better += error(&found->second[i * 4 * n], target, n, background) < truth;
    return better;
  }

  // The layout of 1, 2, 3 or 4 copies of the concept that is nearest to the whole picture.
  std::size_t count(PictureView picture, std::size_t concept_id, std::size_t background) const {
    std::size_t best = 0;
    double least = 0;
    for (std::size_t n = 1; n <= 4; ++n) {
      const double e = mean_squared_error(picture, bitmaps_.render({layout::count(concept_id, n), background}));
      if (best == 0 || e < least) {
        best = n;
        least = e;
      }
    }
    return best;
  }

  Score score(PictureView picture, const Sample& sample) const {
    Score out;
    const auto truth = bitmaps_.render(sample.scene);
    double sum = 0, area = 0;
    for (const Placement& box : sample.scene.objects) {
      out.ranks.push_back(rank(picture, box, sample.scene.background));
      const double pixels = static_cast<double>(box.size) * box.size;
      sum += mean_squared_error(crop(picture, box), crop(truth, box)) * pixels;
      area += pixels;
    }
    out.psnr = psnr(sum / area);
    out.background_right = background_of(picture, sample.scene) == sample.scene.background;
    if (sample.task == Task::count) out.count = count(picture, sample.scene.objects.front().concept_id, sample.scene.background);
    return out;
  }

 private:
  // Sum of squared differences between a box and a candidate drawn over the background; planes: 3 of premultiplied
  // colour, one of 255 - alpha. Rounds as drawing does, so a perfect picture has error 0.
  static std::uint64_t error(const std::uint8_t* planes, const std::vector<std::uint8_t>& target, std::size_t n,
                             std::size_t background) {
    std::uint64_t sum = 0;
    const std::uint8_t* clear = planes + 3 * n;
    for (std::size_t c = 0; c < 3; ++c) {
      const std::uint8_t* ink = planes + c * n;
      const std::uint8_t* pixel = target.data() + c * n;
      const std::uint32_t behind = backgrounds[background].rgb[c];
      std::uint32_t plane = 0;  // at most 128 * 128 * 255^2 < 2^32
      for (std::size_t k = 0; k < n; ++k) {
        const std::uint32_t t = behind * clear[k] + 128;
        const auto value = static_cast<std::int32_t>(std::min<std::uint32_t>(255, ink[k] + ((t + (t >> 8)) >> 8)));
        const std::int32_t d = value - pixel[k];
        plane += static_cast<std::uint32_t>(d * d);
      }
      sum += plane;
    }
    return sum;
  }

  const Vocabulary& vocabulary_;  // both outlive the scorer
  const Bitmaps& bitmaps_;
  std::map<int, std::vector<std::uint8_t>> planes_;  // [concept][4][size * size] by size
};

// Means over a list of scores.
struct Report {
  std::size_t pictures = 0;
  double top1 = 0, top5 = 0;    // every object of the picture right, shares of pictures
  double psnr = 0;              // mean dB
  double background_right = 0;  // share
  double count_right = 0;       // share, of Task::count only
};

inline Report report(const std::vector<Score>& scores, const std::vector<Sample>& samples) {
  if (scores.size() != samples.size())
    throw mobilediffusion::Error("report: expected a score for each of " + std::to_string(samples.size()) + " samples, found " +
                                 std::to_string(scores.size()));
  Report r;
  std::size_t counts = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    r.top1 += scores[i].top1();
    r.top5 += scores[i].top5();
    r.psnr += scores[i].psnr;
    r.background_right += scores[i].background_right;
    if (samples[i].task != Task::count) continue;
    ++counts;
    r.count_right += scores[i].count == samples[i].scene.objects.size();
  }
  r.pictures = scores.size();
  const double n = static_cast<double>(std::max<std::size_t>(1, scores.size()));
  r.top1 /= n;
  r.top5 /= n;
  r.psnr /= n;
  r.background_right /= n;
  r.count_right /= static_cast<double>(std::max<std::size_t>(1, counts));
  return r;
}

}  // namespace emoji
