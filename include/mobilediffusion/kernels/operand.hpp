// SPDX-License-Identifier: Apache-2.0
// What a matrix product reads: a row-major matrix that may exist only as a rule (image patches, reordered filters).
#pragma once

#include "../core/begin.hpp"

#include <cstddef>
#include <cstdint>
#include <numeric>

#include "../core/error.hpp"
#include "../core/number_formats.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// A convolution of channels-last images: x [batch][in_h][in_w][channels] -> y [batch][out_h][out_w][outputs].
// y(oy, ox) reads x(oy * stride + ky - pad, ox * stride + kx - pad), zeros outside the image. The output size says how much
// zero padding follows the image, so padding at the right and bottom only is pad = 0 with a larger output.
struct ConvGeometry {
  std::size_t batch = 1, in_h = 0, in_w = 0, channels = 0, out_h = 0, out_w = 0;
  std::size_t kernel = 3, stride = 1, pad = 1;
  bool upsample = false;  // the image is first doubled by nearest neighbour; in_h and in_w are the sizes before that

  constexpr std::size_t taps() const { return kernel * kernel; }
  constexpr std::size_t in_pixels() const { return batch * in_h * in_w; }
  constexpr std::size_t out_pixels() const { return batch * out_h * out_w; }
  // A matrix product over pixels, no patches needed.
  constexpr bool pointwise() const {
    return kernel == 1 && stride == 1 && pad == 0 && !upsample && in_h == out_h && in_w == out_w;
  }
};

// Row i of the matrix is runs of run_length contiguous floats, one a tap. Any run may be absent (zeros).
class Operand {
 public:
  // Rows of `columns` floats, `ld` floats from row to row.
  static Operand dense(const float* p, std::size_t rows, std::size_t columns, std::size_t ld) {
    return Operand(Kind::dense, p, rows, columns, ld);
  }
  static Operand dense(const float* p, std::size_t rows, std::size_t columns) { return dense(p, rows, columns, columns); }

  // Row i is row i of a [rows][a_columns], then row i of b [rows][b_columns]: a concatenation that is not made. Left side only.
  static Operand joined(const float* a, std::size_t a_columns, const float* b, std::size_t b_columns, std::size_t rows) {
    const std::size_t run = std::gcd(a_columns, b_columns);
    Operand o(Kind::joined, a, rows, run, a_columns);
    o.second_ = b;
    o.group_ = a_columns / run;
    o.taps_x_ = (a_columns + b_columns) / run;
    return o;
  }

  // Weights [rows][columns] as pack_weights() left them: only as the right-hand side of matmul_nt.
  static Operand packed(const float* p, std::size_t rows, std::size_t columns, Format format = Format::fp32) {
    Operand o(Kind::packed, p, rows, columns, columns);
    o.format_ = format;
    return o;
  }

  // [rows][columns] in the panels that the register tiles read, `ld` floats from panel to panel. Left side only. ranges
  // [rows][2]: of 8 bits, scale and low of each row.
  static Operand panels(const float* p, std::size_t rows, std::size_t columns, std::size_t ld, const float* ranges = nullptr) {
    Operand o(Kind::panels, p, rows, columns, ld);
    o.second_ = ranges;
    return o;
  }

  // One row per output pixel of the convolution, [ky][kx][channels]: the patch of x under the filter.
  static Operand patches(const float* x, const ConvGeometry& g) {
    Operand o(Kind::patches, x, g.out_pixels(), g.channels, 0);
    o.taps_y_ = o.taps_x_ = g.kernel;
    o.grid(g.out_h, g.out_w, g.stride, -static_cast<std::int32_t>(g.pad), -static_cast<std::int32_t>(g.pad));
    o.source(g.in_h, g.in_w, g.upsample ? 1 : 0);
    return o;
  }

  // Of a doubled image: one row per input pixel, [2][2][channels], what its output pixel of this parity (0 or 1) reads.
  static Operand phase_patches(const float* x, const ConvGeometry& g, std::size_t parity_y, std::size_t parity_x) {
    Operand o(Kind::patches, x, g.in_pixels(), g.channels, 0);
    o.taps_y_ = o.taps_x_ = 2;
    o.grid(g.in_h, g.in_w, 1, static_cast<std::int32_t>(parity_y) - 1, static_cast<std::int32_t>(parity_x) - 1);
    o.source(g.in_h, g.in_w, 0);
    return o;
  }

  // Stride 1. One row per input pixel, [ty][tx][outputs]: what of dy [batch][out_h][out_w][outputs] depends on that pixel. Tap
  // t of an axis pairs with filter tap t; of an upsampled image with the sum of filter taps t - 1 and t, t = 0 .. kernel.
  static Operand adjoint_patches(const float* dy, const ConvGeometry& g, std::size_t outputs) {
    Operand o(Kind::patches, dy, g.in_pixels(), outputs, 0);
    o.direction_ = -1;
    o.taps_y_ = o.taps_x_ = g.upsample ? g.kernel + 1 : g.kernel;
    const std::int32_t origin = static_cast<std::int32_t>(g.pad) + (g.upsample ? 1 : 0);
    o.grid(g.in_h, g.in_w, g.upsample ? 2 : 1, origin, origin);
    o.source(g.out_h, g.out_w, 0);
    return o;
  }

  // Stride 2. The input pixels of odd or even (parity) rows and columns, and the filter taps that meet them: tap t of an axis
  // pairs with filter tap first_tap(parity) + 2 t.
  static Operand adjoint_patches(const float* dy, const ConvGeometry& g, std::size_t outputs, std::size_t parity_y,
                                 std::size_t parity_x) {
    const std::size_t h = (g.in_h + 1 - parity_y) / 2, w = (g.in_w + 1 - parity_x) / 2;
    Operand o(Kind::patches, dy, g.batch * h * w, outputs, 0);
    o.direction_ = -1;
    o.taps_y_ = taps_of(g, parity_y);
    o.taps_x_ = taps_of(g, parity_x);
    const auto origin = [&](std::size_t parity) {
      return static_cast<std::int32_t>((parity + g.pad - first_tap(g, parity)) / 2);
    };
    o.grid(h, w, 1, origin(parity_y), origin(parity_x));
    o.source(g.out_h, g.out_w, 0);
    return o;
  }
  static constexpr std::size_t first_tap(const ConvGeometry& g, std::size_t parity) { return (parity + g.pad) % 2; }
  static constexpr std::size_t taps_of(const ConvGeometry& g, std::size_t parity) {
    return (g.kernel + 1 - first_tap(g, parity)) / 2;
  }

  // Filters [outputs][kernel][kernel][channels] as a matrix of rows (tap, output), columns channels.
  static Operand transposed_filters(const float* w, const ConvGeometry& g, std::size_t outputs) {
    Operand o(Kind::filters, w, outputs * g.taps(), g.channels, g.taps() * g.channels);
    o.group_ = outputs;
    o.across_ = g.kernel;
    o.y_step_ = g.kernel * g.channels;
    o.x_step_ = g.channels;
    return o;
  }
  // Only the taps of adjoint_patches with these parities.
  static Operand transposed_filters(const float* w, const ConvGeometry& g, std::size_t outputs, std::size_t parity_y,
                                    std::size_t parity_x) {
    Operand o = transposed_filters(w + (first_tap(g, parity_y) * g.kernel + first_tap(g, parity_x)) * g.channels, g, outputs);
    o.across_ = taps_of(g, parity_x);
    o.rows_ = outputs * taps_of(g, parity_y) * o.across_;
    o.y_step_ *= 2;
    o.x_step_ *= 2;
    return o;
  }

  std::size_t rows() const { return rows_; }
  std::size_t columns() const { return run_length_ * runs(); }
  std::size_t run_length() const { return run_length_; }
  std::size_t runs() const { return taps_y_ * taps_x_; }
  std::size_t taps_x() const { return taps_x_; }
  std::size_t ld() const { return ld_; }
  const float* data() const { return data_; }
  bool is_dense() const { return kind_ == Kind::dense; }
  bool is_packed() const { return kind_ == Kind::packed; }
  bool is_panels() const { return kind_ == Kind::panels; }
  Format format() const { return format_; }        // of packed weights
  const float* ranges() const { return second_; }  // of panels of 8 bits

  // A place in the matrix, moved from row to row without divisions.
  struct Row {
    const float* base = nullptr;
    std::int32_t y = 0, x = 0;         // of tap (0, 0) in the (doubled) source
    std::size_t inner = 0, outer = 0;  // pixel column and row; or output and tap
  };

  Row row(std::size_t i) const {
    Row r;
    if (kind_ == Kind::patches) {
      r.inner = i % grid_w_;
      r.outer = i / grid_w_ % grid_h_;
      r.base = data_ + i / grid_w_ / grid_h_ * image_;
      r.y = origin_y_ + static_cast<std::int32_t>(r.outer) * step_;
      r.x = origin_x_ + static_cast<std::int32_t>(r.inner) * step_;
    } else if (kind_ == Kind::filters) {
      r.inner = i % group_;
      r.outer = i / group_;
      r.base = filter_tap(r.outer) + r.inner * ld_;
    } else {
      r.base = data_ + i * ld_;
      r.outer = i;
    }
    return r;
  }

  void advance(Row& r) const {
    if (kind_ == Kind::patches) {
      r.x += step_;
      if (++r.inner < grid_w_) return;
      r.inner = 0;
      r.x = origin_x_;
      r.y += step_;
      if (++r.outer < grid_h_) return;
      r.outer = 0;
      r.y = origin_y_;
      r.base += image_;
    } else {
      r.base += ld_;
      if (kind_ == Kind::joined) ++r.outer;
      if (kind_ == Kind::filters && ++r.inner == group_) {
        r.inner = 0;
        ++r.outer;
        r.base = filter_tap(r.outer);
      }
    }
  }

  // The run of tap (ty, tx) in row r; nullptr: zeros.
  const float* run(const Row& r, std::size_t ty, std::size_t tx) const {
    if (kind_ == Kind::joined) {
      if (tx < group_) return r.base + tx * run_length_;
      return second_ + r.outer * (taps_x_ - group_) * run_length_ + (tx - group_) * run_length_;
    }
    if (kind_ != Kind::patches) return r.base;
    const std::int32_t y = r.y + direction_ * static_cast<std::int32_t>(ty), x = r.x + direction_ * static_cast<std::int32_t>(tx);
    if (static_cast<std::uint32_t>(y) >= limit_h_ || static_cast<std::uint32_t>(x) >= limit_w_) return nullptr;
    return r.base + (static_cast<std::size_t>(y >> shift_) * source_w_ + static_cast<std::size_t>(x >> shift_)) * run_length_;
  }
  const float* segment(std::size_t i, std::size_t s) const { return run(row(i), s / taps_x_, s % taps_x_); }

 private:
  enum class Kind { dense, packed, panels, patches, filters, joined };

  Operand(Kind kind, const float* p, std::size_t rows, std::size_t run_length, std::size_t ld)
      : kind_(kind), data_(p), rows_(rows), run_length_(run_length), ld_(ld) {}
  const float* filter_tap(std::size_t t) const { return data_ + t / across_ * y_step_ + t % across_ * x_step_; }
  void grid(std::size_t h, std::size_t w, std::size_t step, std::int32_t origin_y, std::int32_t origin_x) {
    grid_h_ = h;
    grid_w_ = w;
    step_ = static_cast<std::int32_t>(step);
    origin_y_ = origin_y;
    origin_x_ = origin_x;
  }
  void source(std::size_t h, std::size_t w, int shift) {
    shift_ = shift;
    source_w_ = w;
    image_ = h * w * run_length_;
    limit_h_ = static_cast<std::uint32_t>(h << shift);
    limit_w_ = static_cast<std::uint32_t>(w << shift);
  }

  Kind kind_;
  Format format_ = Format::fp32;
  const float *data_, *second_ = nullptr;
  std::size_t rows_, run_length_, ld_;
  std::size_t taps_y_ = 1, taps_x_ = 1;
  std::size_t group_ = 1, across_ = 1, y_step_ = 0, x_step_ = 0;    // filters; group_: runs of the first of two joined
  std::size_t grid_h_ = 1, grid_w_ = 1, source_w_ = 0, image_ = 0;  // patches
  std::int32_t step_ = 1, origin_y_ = 0, origin_x_ = 0, direction_ = 1;
  std::uint32_t limit_h_ = 0, limit_w_ = 0;
  int shift_ = 0;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
