// SPDX-License-Identifier: Apache-2.0
// Pictures that people bring, in the size of the model.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "mobilediffusion/core/error.hpp"
#include "mobilediffusion/io/message.hpp"
#include "mobilediffusion/io/read_image.hpp"
#include "mobilediffusion/io/resize.hpp"

namespace examples {

// --fit: what becomes of pictures in another size.
inline void add_fit(CLI::App& app, mobilediffusion::Fit& fit) {
  using mobilediffusion::Fit;
  app.add_option_function<std::string>(
         "--fit",
         [&](const std::string& name) { fit = name == "contain"   ? Fit::contain
                                              : name == "stretch" ? Fit::stretch
                                                                  : Fit::cover; },
         "A picture of another size is cut to its middle (cover), shown whole with a border (contain) or stretched; default "
         "cover")
      ->type_name("NAME")
      ->check(CLI::IsMember({"cover", "contain", "stretch"}));
}

// Makes a picture width x height; says on stderr what it did to it. path: where it is from.
inline mobilediffusion::Image fit_picture(const std::string& program, const std::string& path,
                                          const mobilediffusion::Image& image, std::size_t width, std::size_t height,
                                          mobilediffusion::Fit fit) {
  using mobilediffusion::Fit, mobilediffusion::detail::join;
  if (image.width == width && image.height == height) return image;
  const bool same_shape = image.width * height == image.height * width;
  const std::string how = same_shape            ? ""
                          : fit == Fit::cover   ? " cut to the middle and"
                          : fit == Fit::contain ? " with a border and"
                                                : " stretched and";
  const std::string other = !same_shape && fit == Fit::cover ? " (--fit contain or stretch shows all of it)" : "";
  std::fprintf(stderr, "%s\n",
               join({program, ": ", mobilediffusion::detail::printable(path), ": ", image.width, " x ", image.height, " pixels,",
                     how, " resized to ", width, " x ", height, other})
                   .c_str());
  return mobilediffusion::fitted(image, width, height, fit);
}

inline mobilediffusion::Image read_picture(const std::string& program, const std::string& path, std::size_t width,
                                           std::size_t height, mobilediffusion::Fit fit) {
  return fit_picture(program, path, mobilediffusion::read_image(path), width, height, fit);
}

// Picture and mask, which belong to each other pixel by pixel. A border is not painted.
inline std::pair<mobilediffusion::Image, mobilediffusion::Image> read_picture_and_mask(const std::string& program,
                                                                                       const std::string& picture_path,
                                                                                       const std::string& mask_path,
                                                                                       std::size_t width, std::size_t height,
                                                                                       mobilediffusion::Fit fit) {
  using mobilediffusion::detail::join;
  const mobilediffusion::Image picture = mobilediffusion::read_image(picture_path), mask = mobilediffusion::read_mask(mask_path);
  const std::size_t a = mask.width * picture.height, b = picture.width * mask.height;
  if (std::max(a, b) - std::min(a, b) > std::max(picture.width, picture.height))  // a pixel of rounding
    throw mobilediffusion::Error(
        join({"mask ", mobilediffusion::detail::printable(mask_path), ": expected the shape of its picture, ", picture.width,
              " x ", picture.height, " pixels, found ", mask.width, " x ", mask.height}));
  return {fit_picture(program, picture_path, picture, width, height, fit), mobilediffusion::fitted(mask, width, height, fit, 0)};
}

}  // namespace examples
