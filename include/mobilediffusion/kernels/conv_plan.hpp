// SPDX-License-Identifier: Apache-2.0
// How much memory a convolution with packed filters takes, and in which pieces it works: the same for every instruction set.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>

#include "../core/executor.hpp"
#include "../core/param.hpp"
#include "operand.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

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
inline constexpr std::size_t winograd_own = 300 * 1024, winograd_shared = 3 * 1024 * 1024;

struct WinogradPlan {
  // Rows of the largest tile of vectors: no product should end in a low one, and weights are worth to be read for two of them.
  // AMX's tiles of 16 rows are thus filled to 88 % at least where an image has that many tiles, and to 97 % where 300 pass
  // together.
#if defined(__aarch64__)
  static constexpr std::size_t rows = 12;
#else
  static constexpr std::size_t rows = 14;
#endif
  std::size_t side, points;  // of a tile of outputs; matrices
  std::size_t down, across, tiles;
  bool own = false;                         // a thread's own tiles
  std::size_t chunk = 0;                    // tiles that pass together
  std::size_t in_point = 0, out_point = 0;  // floats from one of the matrices to the next: no multiple of a page

  constexpr WinogradPlan(const ConvGeometry& g, std::size_t outputs, Format format)
      : side(winograd_tile(format)),
        points(winograd_points(format)),
        down((g.out_h + side - 1) / side),
        across((g.out_w + side - 1) / side),
        tiles(g.batch * down * across),
        channels_(g.channels),
        outputs_(outputs) {
    divide(2 * rows);
    own = floats() <= winograd_own;
    if (!own) divide(rows);
    for (std::size_t n = chunk; n < tiles; n += rows) {  // as many as fit
      divide(n + rows);
      if (floats() <= (own ? winograd_own : winograd_shared)) continue;
      divide(n);
      break;
    }
  }
  constexpr std::size_t floats() const { return points * (in_point + out_point); }

 private:
  constexpr void divide(std::size_t n) {
    chunk = std::min(tiles, n);
    // Of bf16, for the instruction set whose panels are highest; of int8 less, but for two floats a row.
    const std::size_t height = std::max((chunk + rows - 1) / rows * rows, (chunk + 31) / 32 * 32);
    const std::size_t panels = height * ((channels_ + 31) / 32 * 32) / 2 + 2 * chunk;
    in_point = aligned(std::max(chunk * channels_, panels)) + 16;
    out_point = aligned(chunk * outputs_) + 16;
  }
  std::size_t channels_, outputs_;
};

}  // namespace detail

// Floats of scratch that conv2d takes with filters packed for this method.
inline constexpr std::size_t conv2d_scratch(const ConvGeometry& g, std::size_t outputs, ConvMethod method, Format format) {
  if (method != ConvMethod::winograd && method != ConvMethod::direct) return 0;
  const detail::WinogradPlan plan(g, outputs, format);
  return plan.own ? 0 : plan.floats();
}

// Floats of scratch that conv2d_backward_input takes: none unless the convolution upsamples.
inline constexpr std::size_t conv2d_backward_input_scratch(const ConvGeometry& g, std::size_t outputs) {
  return g.upsample ? (g.kernel + 1) * (g.kernel + 1) * outputs * g.channels : 0;
}

// Floats of scratch that pack_filters takes.
inline constexpr std::size_t pack_filters_scratch(std::size_t outputs, std::size_t channels, ConvMethod method) {
  return (method == ConvMethod::phases ? 4 : method == ConvMethod::patches ? 0 : 1) * outputs * channels;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
