// SPDX-License-Identifier: Apache-2.0
// Pictures in another size.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../core/error.hpp"
#include "image.hpp"
#include "message.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {

// The cubic of Catmull and Rom (Keys 1981, a = -1/2).
float cubic(float x);

// Resizes the second of three dimensions, [outer][from][inner] to [outer][to][inner]. Reducing stretches the cubic over all
// pixels that fall together, so nothing aliases; at the borders the weights of what is there are divided by their sum.
template <class T>
std::vector<float> resize_dimension(const std::vector<T>& in, std::size_t outer, std::size_t from, std::size_t to,
                                    std::size_t inner) {
  std::vector<float> out(outer * to * inner, 0.0f), weights;
  const float scale = static_cast<float>(from) / static_cast<float>(to), stretch = std::max(scale, 1.0f);
  for (std::size_t j = 0; j < to; ++j) {
    const float centre = (static_cast<float>(j) + 0.5f) * scale;
    const auto first = static_cast<std::size_t>(std::max(centre - 2.0f * stretch, 0.0f));
    const auto end = std::min(static_cast<std::size_t>(centre + 2.0f * stretch) + 1, from);
    weights.clear();
    float sum = 0.0f;
    for (std::size_t i = first; i < end; ++i) {
      weights.push_back(cubic((static_cast<float>(i) + 0.5f - centre) / stretch));
      sum += weights.back();
    }
    for (std::size_t o = 0; o < outer; ++o)
      for (std::size_t i = first; i < end; ++i) {
        const float w = weights[i - first] / sum;
        const T* const source = &in[(o * from + i) * inner];
        float* const target = &out[(o * to + j) * inner];
        for (std::size_t c = 0; c < inner; ++c) target[c] += w * static_cast<float>(source[c]);
      }
  }
  return out;
}

}  // namespace detail

// The picture in another size, by cubic interpolation that averages where it reduces; sides may be stretched differently.
// Throws Error for an empty picture and for sizes of 0 or more than max_image_pixels.
Image resized(const Image& image, std::size_t width, std::size_t height);

// How a picture is made to fit another shape: cut to its middle, shown whole with a border, or stretched.
enum class Fit { cover, contain, stretch };

// The picture in another size and shape. border: the grey value around a picture that is shown whole.
Image fitted(const Image& image, std::size_t width, std::size_t height, Fit fit = Fit::cover, std::uint8_t border = 255);

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY float cubic(float x) {
  x = std::abs(x);
  if (x < 1.0f) return (1.5f * x - 2.5f) * x * x + 1.0f;
  if (x < 2.0f) return ((-0.5f * x + 2.5f) * x - 4.0f) * x + 2.0f;
  return 0.0f;
}

}  // namespace detail

MOBILEDIFFUSION_BODY Image resized(const Image& image, std::size_t width, std::size_t height) {
  if (image.width == 0 || image.height == 0 || image.rgb.size() != image.width * image.height * 3)
    throw Error(detail::join(
        {"resize: expected a picture, found ", image.width, " x ", image.height, " pixels with ", image.rgb.size(), " bytes"}));
  if (width == 0 || height == 0 || width > max_image_pixels / height)
    throw Error(detail::join({"resize: expected 1 to ", max_image_pixels, " pixels, found ", width, " x ", height}));
  if (width == image.width && height == image.height) return image;
  const auto rows = detail::resize_dimension(image.rgb, image.height, image.width, width, 3);
  const auto values = detail::resize_dimension(rows, 1, image.height, height, width * 3);
  Image out(width, height);
  for (std::size_t i = 0; i < values.size(); ++i)
    out.rgb[i] = static_cast<std::uint8_t>(std::clamp(values[i] + 0.5f, 0.0f, 255.0f));
  return out;
}

MOBILEDIFFUSION_BODY Image fitted(const Image& image, std::size_t width, std::size_t height, Fit fit, std::uint8_t border) {
  if (fit == Fit::stretch || image.width == 0 || image.height == 0) return resized(image, width, height);
  // The side that decides keeps its length; the other one follows, at least a pixel.
  const double x = static_cast<double>(width) / static_cast<double>(image.width),
               y = static_cast<double>(height) / static_cast<double>(image.height),
               scale = fit == Fit::cover ? std::max(x, y) : std::min(x, y);
  const auto side = [](double length, std::size_t most) {
    return std::clamp<std::size_t>(static_cast<std::size_t>(std::lround(length)), 1, most);
  };
  if (fit == Fit::contain) {
    const std::size_t w = side(static_cast<double>(image.width) * scale, width),
                      h = side(static_cast<double>(image.height) * scale, height);
    const Image shown = resized(image, w, h);
    Image out(width, height, border);
    for (std::size_t row = 0; row < h; ++row)
      std::copy_n(&shown.rgb[row * w * 3], w * 3, &out.rgb[((row + (height - h) / 2) * width + (width - w) / 2) * 3]);
    return out;
  }
  const std::size_t w = side(static_cast<double>(width) / scale, image.width),
                    h = side(static_cast<double>(height) / scale, image.height);
  Image middle(w, h);
  for (std::size_t row = 0; row < h; ++row)
    std::copy_n(&image.rgb[((row + (image.height - h) / 2) * image.width + (image.width - w) / 2) * 3], w * 3,
                &middle.rgb[row * w * 3]);
  return resized(middle, width, height);
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
