// SPDX-License-Identifier: Apache-2.0
// diffusers' ResnetBlock2D: norm, SiLU, conv1 (+ time embedding), norm, SiLU, conv2, + shortcut.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>

#include "../kernels/kernels.hpp"
#include "../layers/convolution.hpp"
#include "../layers/norm.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct ResnetSpec {
  std::size_t in, out;
  std::size_t height, width;
  std::size_t groups;
  std::size_t time_width = 0;  // 0: no time embedding (the VAE)
  bool separable1 = false, separable2 = false;
};

template <ResnetSpec S>
struct ResnetBlock {
  static constexpr bool has_time = S.time_width > 0, has_shortcut = S.in != S.out;
  static constexpr std::size_t pixels = S.height * S.width;
  static constexpr float epsilon = has_time ? resnet_epsilon : transformer_epsilon;
  using Norm1 = GroupNorm<GroupNormSpec{.channels = S.in, .groups = S.groups, .pixels = pixels, .activation = Activation::silu}>;
  using Norm2 = GroupNorm<GroupNormSpec{.channels = S.out, .groups = S.groups, .pixels = pixels, .activation = Activation::silu}>;
  using Conv1 =
      Convolution<ConvolutionSpec{.in = S.in, .out = S.out, .height = S.height, .width = S.width, .separable = S.separable1}>;
  using Conv2 =
      Convolution<ConvolutionSpec{.in = S.out, .out = S.out, .height = S.height, .width = S.width, .separable = S.separable2}>;
  using Time = Linear<LinearSpec{.in = has_time ? S.time_width : 1, .out = S.out}>;
  using Shortcut = Linear<LinearSpec{.in = S.in, .out = S.out, .conv = true}>;

  struct Weights {
    typename Norm1::Weights norm1;
    typename Conv1::Weights conv1;
    std::conditional_t<has_time, typename Time::Weights, Absent> time_emb_proj;
    typename Norm2::Weights norm2;
    typename Conv2::Weights conv2;
    std::conditional_t<has_shortcut, typename Shortcut::Weights, Absent> conv_shortcut;
  };
  struct Saved {
    NormSaved norm1, norm2;
    typename Conv1::Saved conv1;
    typename Conv2::Saved conv2;
    const float *x = nullptr, *time = nullptr;
  };

  static constexpr std::size_t macs =
      Conv1::macs + Conv2::macs + (has_time ? Time::macs(1) : 0) + (has_shortcut ? Shortcut::macs(pixels) : 0);
  static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
    const bool keeps = plan == Plan::training;
    Planned p{plan};
    p.take(batch * pixels * (keeps ? S.in : std::max(S.in, S.out))).take(Norm1::stack_floats(batch));
    if (keeps) p.take(batch * pixels * S.out);
    if (has_time) p.take(batch * S.out);
    p.part(Conv1::stack_floats(plan, batch));
    if (keeps) p.take(batch * pixels * S.out);
    return p.take(Norm2::stack_floats(batch)).part(Conv2::stack_floats(plan, batch)).peak;
  }

  static constexpr std::size_t backward_floats(std::size_t batch) {
    Planned p{Plan::inference};  // what a part took is free when it ends
    p.take(batch * pixels * S.out).part(Conv2::backward_floats(batch));
    p.take(batch * pixels * S.out).part(Norm2::backward_floats(batch, false));
    if (has_time) p.take(batch * S.out);
    p.take(batch * pixels * S.in).part(Conv1::backward_floats(batch)).part(Norm1::backward_floats(batch, true));
    return p.peak;
  }

  // x [batch][pixels][in], time [batch][time_width] (already through SiLU) -> y [batch][pixels][out]
  // skip: null, or the last channels of the input [batch][pixels][skip_channels], and x only those before; inference only.
  // y must not be x or skip: in inference it also holds what is between the convolutions.
  static void forward(Context& c, const Weights& w, const float* x, const float* time, float* y, Saved& saved,
                      const float* skip = nullptr, std::size_t skip_channels = 0) {
    Scope scope(c.stack);
    const bool keeps = c.stack.keeps();
    float* n1 = c.stack.take(c.batch * pixels * (keeps ? S.in : std::max(S.in, S.out)));
    if constexpr (has_shortcut && S.groups > 0) {
      if (skip != nullptr) Norm1::forward_joined(c, w.norm1, x, S.in - skip_channels, skip, n1, epsilon);
    }
    if (skip == nullptr) Norm1::forward(c, w.norm1, x, n1, saved.norm1, epsilon);
    float* h = keeps ? c.stack.take(c.batch * pixels * S.out) : y;
    kernels::Epilogue with_time;
    if constexpr (has_time) {  // one bias per image: conv1's own plus the projected time embedding
      float* bias = c.stack.take(c.batch * S.out);
      kernels::Epilogue plus_conv;
      plus_conv.residual = Conv1::bias(w.conv1);
      plus_conv.residual_ld = 0;
      Time::forward(c, w.time_emb_proj, time, bias, c.batch, plus_conv);
      with_time.bias = bias;
      with_time.rows_per_bias = pixels;
    }
    Conv1::forward(c, w.conv1, n1, h, saved.conv1, with_time);
    float* n2 = keeps ? c.stack.take(c.batch * pixels * S.out) : n1;
    Norm2::forward(c, w.norm2, h, n2, saved.norm2, epsilon);
    kernels::Epilogue shortcut;
    if constexpr (has_shortcut) {
      const std::size_t rows = c.batch * pixels;
      Shortcut::forward(c, w.conv_shortcut,
                        skip == nullptr ? kernels::Operand::dense(x, rows, S.in)
                                        : kernels::Operand::joined(x, S.in - skip_channels, skip, skip_channels, rows),
                        y);
      shortcut.accumulate = true;
    } else {
      shortcut.residual = x;
      shortcut.residual_ld = S.out;
    }
    Conv2::forward(c, w.conv2, n2, y, saved.conv2, shortcut);
    saved.x = x;
    saved.time = time;
  }

  // dx is assigned, d_time (of the SiLU'd embedding; null without one) added to.
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& saved, const float* dy, float* dx,
                       float* d_time) {
    Scope scope(c.stack);
    const std::size_t rows = c.batch * pixels;
    float* dn2 = c.stack.take(rows * S.out);
    Conv2::backward(c, w.conv2, g.conv2, saved.conv2, dy, dn2);
    float* dh = c.stack.take(rows * S.out);
    Norm2::backward(c, w.norm2, g.norm2, saved.norm2, dn2, dh, false);
    if constexpr (has_time) {
      float* d_bias = c.stack.take(c.batch * S.out);
      kernels::sum_pixels(c.executor, dh, c.batch, pixels, S.out, d_bias);
      Time::backward(c, w.time_emb_proj, g.time_emb_proj, saved.time, d_bias, d_time, c.batch, true);
    }
    float* dn1 = c.stack.take(rows * S.in);
    Conv1::backward(c, w.conv1, g.conv1, saved.conv1, dh, dn1);
    if constexpr (has_shortcut) {
      Shortcut::backward(c, w.conv_shortcut, g.conv_shortcut, saved.x, dy, dx, rows);
    } else {
      kernels::copy(c.executor, dy, dx, rows * S.out);
    }
    Norm1::backward(c, w.norm1, g.norm1, saved.norm1, dn1, dx, true);
  }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
