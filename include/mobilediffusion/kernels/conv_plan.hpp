// SPDX-License-Identifier: Apache-2.0
// How much memory a convolution with packed filters takes, and in which pieces it works: the same for every instruction set.
#pragma once

#include <algorithm>
#include <cstddef>

#include "../core/executor.hpp"
#include "../core/param.hpp"
#include "operand.hpp"

namespace mobilediffusion::kernels {

// Filters packed for one of the ways to compute a 3x3 convolution in inference.
struct PackedFilters {
  const float* data;
  std::size_t outputs;
  ConvMethod method;
  Format format;  // of the matrices in it
};

namespace detail {

// Floats of transformed inputs and outputs that pass together. Narrow layers: a thread's own tiles, at the end of its scratch, so
// that they stay in the second-level cache. Wide ones, whose weights would have to be read again and again: all threads
// together, in memory of the caller's that a third-level cache holds.
inline constexpr std::size_t winograd_own = 300 * 1024, winograd_shared = 2 * 1024 * 1024, winograd_least_own = 24;

struct WinogradPlan {
  std::size_t side, points;  // of a tile of outputs; matrices
  std::size_t down, across, tiles;
  bool own;                         // a thread's own tiles
  std::size_t chunk;                // tiles that pass together
  std::size_t in_point, out_point;  // floats from one of the matrices to the next: no multiple of a page
  constexpr WinogradPlan(const ConvGeometry& g, std::size_t outputs, Format format)
      : side(winograd_tile(format)),
        points(winograd_points(format)),
        down((g.out_h + side - 1) / side),
        across((g.out_w + side - 1) / side),
        tiles(g.batch * down * across) {
    constexpr std::size_t least = 14;
    const std::size_t tile = points * (g.channels + outputs), margin = points * 64;
    own = (winograd_own - margin) / tile >= winograd_least_own;
    chunk = std::min(tiles, own ? (winograd_own - margin) / tile : std::max(least, winograd_shared / tile));
    in_point = aligned(chunk * g.channels) + 16;
    out_point = aligned(chunk * outputs) + 16;
  }
  constexpr std::size_t floats() const { return points * (in_point + out_point); }
};

}  // namespace detail

// Floats of scratch that conv2d takes with filters packed for this method.
inline constexpr std::size_t conv2d_scratch(const ConvGeometry& g, std::size_t outputs, ConvMethod method, Format format) {
  if (method != ConvMethod::winograd) return 0;
  const detail::WinogradPlan plan(g, outputs, format);
  return plan.own ? 0 : plan.floats();
}

// Floats of scratch that pack_filters takes.
inline constexpr std::size_t pack_filters_scratch(std::size_t outputs, std::size_t channels, ConvMethod method) {
  return (method == ConvMethod::phases ? 4 : method == ConvMethod::winograd ? 1 : 0) * outputs * channels;
}

}  // namespace mobilediffusion::kernels
