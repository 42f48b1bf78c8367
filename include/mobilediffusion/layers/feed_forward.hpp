// SPDX-License-Identifier: Apache-2.0
// diffusers' gated FeedForward: net.0.proj makes value and gate, net.2 projects back (net.1 is dropout: absent).
#pragma once

#include "../core/begin.hpp"

#include <tuple>

#include "../kernels/kernels.hpp"
#include "linear.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct FeedForwardSpec {
  std::size_t width, ratio;
  Activation activation;
};

template <FeedForwardSpec S>
struct FeedForward {
  static_assert(
      S.ratio >= 2 && S.ratio % 2 == 0,
      "mobilediffusion: the feed-forward ratio counts value and gate and must be even; use 6 (MobileDiffusion) or 8 (SD)");
  static constexpr std::size_t hidden = S.width * S.ratio / 2;
  using Up = Linear<LinearSpec{.in = S.width, .out = 2 * hidden}>;
  using Down = Linear<LinearSpec{.in = hidden, .out = S.width}>;
  struct Proj {
    typename Up::Weights proj;
  };
  struct Weights {
    std::tuple<Proj, Absent, typename Down::Weights> net;
  };
  struct Saved {
    const float *x = nullptr, *both = nullptr, *gated = nullptr;
  };

  static constexpr std::size_t macs(std::size_t rows) { return Up::macs(rows) + Down::macs(rows); }
  static constexpr std::size_t stack_floats(std::size_t rows) { return aligned(rows * 2 * hidden) + aligned(rows * hidden); }
  static constexpr std::size_t backward_floats(std::size_t rows) { return stack_floats(rows); }

  // x [rows][width] -> out = net(x) + residual.
  static void forward(Context& c, const Weights& w, const float* x, const float* residual, float* out, std::size_t rows,
                      Saved& saved) {
    Scope scope(c.stack);
    float* both = c.stack.take(rows * 2 * hidden);
    Up::forward(c, std::get<0>(w.net).proj, x, both, rows);
    float* gated = c.stack.take(rows * hidden);
    {
      const Span span(c, {"gate", std::get<0>(w.net).proj.weight.data, 0, 12 * rows * hidden});
      kernels::gate(c.executor, S.activation, both, gated, rows, hidden);
    }
    kernels::Epilogue epilogue;
    epilogue.residual = residual;
    epilogue.residual_ld = S.width;
    Down::forward(c, std::get<2>(w.net), gated, out, rows, epilogue);
    saved = {x, both, gated};
  }

  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* d_out, float* dx,
                       std::size_t rows) {
    Scope scope(c.stack);
    float* d_gated = c.stack.take(rows * hidden);
    Down::backward(c, std::get<2>(w.net), std::get<2>(g.net), s.gated, d_out, d_gated, rows);
    float* d_both = c.stack.take(rows * 2 * hidden);
    kernels::gate_backward(c.executor, S.activation, s.both, d_gated, d_both, rows, hidden);
    Up::backward(c, std::get<0>(w.net).proj, std::get<0>(g.net).proj, s.x, d_both, dx, rows);
  }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
