// SPDX-License-Identifier: Apache-2.0
// torch.nn.GroupNorm (with an optional SiLU behind it) and torch.nn.LayerNorm.
#pragma once

#include "../core/begin.hpp"

#include <type_traits>

#include "../kernels/kernels.hpp"
#include "context.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// The two values that the Stable Diffusion family uses, by place.
inline constexpr float resnet_epsilon = 1e-5f, transformer_epsilon = 1e-6f;

struct NormSaved {
  const float* x = nullptr;
  const float* statistics = nullptr;  // mean and 1/std
};

struct GroupNormSpec {
  std::size_t channels, groups, pixels;
  Activation activation = Activation::none;
};

template <GroupNormSpec S>
struct GroupNorm {
  static constexpr bool normalizes = S.groups > 0;  // 0 groups: the activation alone, as in TAESD
  static_assert(
      !normalizes || S.channels % S.groups == 0,
      "mobilediffusion: channels of a GroupNorm must be a multiple of its groups; change `groups` or the stage's channels");
  struct Affine {
    Param<S.channels> weight, bias;
  };
  using Weights = std::conditional_t<normalizes, Affine, Absent>;
  static constexpr std::size_t stack_floats(std::size_t batch) { return normalizes ? aligned(batch * S.groups * 2) : 0; }
  static constexpr std::size_t backward_floats(std::size_t batch, bool accumulate) {
    return normalizes ? aligned(batch * 2 * S.channels) : accumulate ? aligned(batch * S.pixels * S.channels) : 0;
  }

  // x, y: [batch][pixels][channels]. Takes its statistics from the stack: the caller's scope holds them.
  static void forward(Context& c, [[maybe_unused]] const Weights& w, const float* x, float* y, NormSaved& saved,
                      [[maybe_unused]] float epsilon) {
    if constexpr (normalizes) {
      float* statistics = c.stack.take(c.batch * S.groups * 2);
      const Span span(c, {"group_norm", w.weight.data, 0, 8 * c.batch * S.pixels * S.channels});
      kernels::group_norm(c.executor, x, y, c.batch, S.pixels, S.channels, S.groups, epsilon, w.weight.data, w.bias.data,
                          S.activation, statistics);
      saved = {x, statistics};
    } else {
      const Span span(c, {"activation", nullptr, 0, 8 * c.batch * S.pixels * S.channels});
      kernels::activate(c.executor, S.activation, x, y, c.batch * S.pixels * S.channels);
      saved = {x, nullptr};
    }
  }
  // The same of a and b [batch][pixels][...], whose channels follow each other; in inference only.
  static void forward_joined(Context& c, const Weights& w, const float* a, std::size_t a_channels, const float* b, float* y,
                             float epsilon) {
    static_assert(normalizes, "mobilediffusion: skips join in front of a GroupNorm; set the UNet's `groups`");
    float* statistics = c.stack.take(c.batch * S.groups * 2);
    const Span span(c, {"group_norm", w.weight.data, 0, 8 * c.batch * S.pixels * S.channels});
    kernels::group_norm_joined(c.executor, a, a_channels, b, S.channels - a_channels, y, c.batch, S.pixels, S.groups, epsilon,
                               w.weight.data, w.bias.data, S.activation, statistics);
  }
  static void backward(Context& c, [[maybe_unused]] const Weights& w, [[maybe_unused]] const Weights& g, const NormSaved& saved,
                       const float* dy, float* dx, bool accumulate) {
    Scope scope(c.stack);
    if constexpr (normalizes) {
      float* partial = c.stack.take(c.batch * 2 * S.channels);
      kernels::group_norm_backward(c.executor, saved.x, dy, dx, accumulate, c.batch, S.pixels, S.channels, S.groups,
                                   w.weight.data, w.bias.data, S.activation, saved.statistics, g.weight.data, g.bias.data,
                                   partial);
    } else {
      const std::size_t floats = c.batch * S.pixels * S.channels;
      float* d = accumulate ? c.stack.take(floats) : dx;
      kernels::activate_backward(c.executor, S.activation, saved.x, dy, d, floats);
      if (accumulate) kernels::add_to(c.executor, d, dx, floats);
    }
  }
};

template <std::size_t Channels>
struct LayerNorm {
  struct Weights {
    Param<Channels> weight, bias;
  };
  static constexpr float epsilon = 1e-5f;
  static constexpr std::size_t stack_floats(std::size_t rows) { return aligned(rows * 2); }
  static constexpr std::size_t backward_floats(std::size_t rows) {
    return aligned(kernels::layer_norm_partial_floats(rows, Channels));
  }

  static void forward(Context& c, const Weights& w, const float* x, float* y, std::size_t rows, NormSaved& saved) {
    float* statistics = c.stack.take(rows * 2);
    const Span span(c, {"layer_norm", w.weight.data, 0, 8 * rows * Channels});
    kernels::layer_norm(c.executor, x, y, rows, Channels, epsilon, w.weight.data, w.bias.data, statistics);
    saved = {x, statistics};
  }
  static void backward(Context& c, const Weights& w, const Weights& g, const NormSaved& saved, const float* dy, float* dx,
                       std::size_t rows, bool accumulate) {
    Scope scope(c.stack);
    float* partial = c.stack.take(kernels::layer_norm_partial_floats(rows, Channels));
    kernels::layer_norm_backward(c.executor, saved.x, dy, dx, accumulate, rows, Channels, w.weight.data, saved.statistics,
                                 g.weight.data, g.bias.data, partial);
  }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
