// SPDX-License-Identifier: Apache-2.0
// The autoencoder of a model. diffusers' AutoencoderKL as a static graph (arXiv 2112.10752, section 3.1): encoder, decoder, and
// their shared shape; the other kind is in tiny_vae.hpp.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "../blocks/stage.hpp"
#include "../config/validate.hpp"
#include "../layers/attention.hpp"
#include "../reflect/reflect.hpp"
#include "tiny_vae.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// What goes from part to part of a chain. In inference two pieces of memory take turns, since a part reads only what the one
// before it put out; training keeps every output.
struct RelayPlan {
  std::array<std::size_t, 2> pieces{};  // floats
  std::size_t outputs = 0;

  constexpr void add(std::size_t floats) {
    std::size_t& piece = pieces[outputs++ % 2];
    piece = std::max(piece, floats);
  }
  constexpr void begin(Planned& p, std::size_t batch) const {
    if (p.plan == Plan::inference) p.take(batch * pieces[0]).take(batch * pieces[1]);
  }
  static constexpr Planned& output(Planned& p, std::size_t floats) { return p.plan == Plan::training ? p.take(floats) : p; }
};
class Relay {
 public:
  Relay(Context& c, const RelayPlan& plan) : c_(c) {
    if (c.stack.keeps()) return;
    for (std::size_t i = 0; i < 2; ++i) memory_[i] = c.stack.take(c.batch * plan.pieces[i]);
  }
  float* output(std::size_t floats) { return c_.stack.keeps() ? c_.stack.take(floats) : memory_[outputs_++ % 2]; }

 private:
  Context& c_;
  std::array<float*, 2> memory_{};
  std::size_t outputs_ = 0;
};

// The block pair at the latent resolution, with single-head attention between.
struct VaeMiddleSpec {
  std::size_t channels, height, width, groups;
  bool attention;
};

template <VaeMiddleSpec S>
struct VaeMiddle {
  static constexpr std::size_t tokens = S.height * S.width;
  using Resnet =
      ResnetBlock<ResnetSpec{.in = S.channels, .out = S.channels, .height = S.height, .width = S.width, .groups = S.groups}>;
  using Norm = GroupNorm<GroupNormSpec{.channels = S.channels, .groups = S.groups, .pixels = tokens}>;
  static constexpr std::size_t width = S.attention ? S.channels : 8;  // without attention its rules do not bind the channels
  using Attend = Attention<AttentionSpec{
      .width = width, .heads = 1, .queries = tokens, .keys = tokens, .context_width = width, .shared_kv = false, .bias = true}>;
  struct AttentionWeights {
    typename Norm::Weights group_norm;
    typename Linear<LinearSpec{.in = S.channels, .out = S.channels}>::Weights to_q, to_k, to_v;
    std::tuple<typename Linear<LinearSpec{.in = S.channels, .out = S.channels}>::Weights> to_out;
    typename Attend::Weights attention() const { return {to_q, to_k, to_v, to_out}; }
  };
  struct Weights {
    std::conditional_t<S.attention, std::tuple<AttentionWeights>, Absent> attentions;
    std::array<typename Resnet::Weights, 2> resnets;
  };
  struct Saved {
    std::array<typename Resnet::Saved, 2> resnets;
    NormSaved norm;
    typename Attend::Saved attention;
  };
  static constexpr std::size_t macs = 2 * Resnet::macs + (S.attention ? Attend::macs : 0);
  static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
    const std::size_t tensor = batch * tokens * S.channels, resnet = Resnet::stack_floats(plan, batch);
    Planned p{plan};
    p.take(tensor).part(resnet);
    if (S.attention) p.take(tensor).take(Norm::stack_floats(batch)).take(tensor).part(Attend::stack_floats(batch));
    return p.part(resnet).peak;
  }
  static constexpr std::size_t backward_floats(std::size_t batch) {
    const std::size_t tensor = batch * tokens * S.channels, resnet = Resnet::backward_floats(batch);
    Planned p{Plan::inference};
    p.take(tensor).part(resnet);
    if (S.attention) p.take(tensor).part(Attend::backward_floats(batch)).part(Norm::backward_floats(batch, true));
    return p.part(resnet).peak;
  }
  static void forward(Context& c, const Weights& w, const float* x, float* y, Saved& s) {
    Scope scope(c.stack);
    const std::size_t floats = c.batch * tokens * S.channels;
    float* h = c.stack.take(floats);
    Resnet::forward(c, w.resnets[0], x, nullptr, h, s.resnets[0]);
    if constexpr (S.attention) {
      const AttentionWeights& a = std::get<0>(w.attentions);
      float* n = c.stack.take(floats);
      Norm::forward(c, a.group_norm, h, n, s.norm, transformer_epsilon);
      float* attended = c.stack.take(floats);
      Attend::forward(c, a.attention(), n, n, h, attended, s.attention);
      h = attended;
    }
    Resnet::forward(c, w.resnets[1], h, nullptr, y, s.resnets[1]);
  }
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* dy, float* dx) {
    Scope scope(c.stack);
    const std::size_t floats = c.batch * tokens * S.channels;
    float* d = c.stack.take(floats);
    Resnet::backward(c, w.resnets[1], g.resnets[1], s.resnets[1], dy, d, nullptr);
    if constexpr (S.attention) {
      const AttentionWeights &a = std::get<0>(w.attentions), &ga = std::get<0>(g.attentions);
      float* dn = c.stack.take(floats);
      Attend::backward(c, a.attention(), ga.attention(), s.attention, d, dn, dn);
      Norm::backward(c, a.group_norm, ga.group_norm, s.norm, dn, d, true);
    }
    Resnet::backward(c, w.resnets[0], g.resnets[0], s.resnets[0], d, dx, nullptr);
  }
};

template <VaeConfig C>
class Vae {
  static_assert(ValidVae<C>::value);
  static constexpr std::size_t top_height = C.height / C.patch, top_width = C.width / C.patch;
  static constexpr std::size_t picture_channels = 3 * C.patch * C.patch;
  static constexpr std::size_t low = C.levels - 1, low_height = top_height >> low, low_width = top_width >> low;
  static constexpr std::size_t top_pixels = top_height * top_width, low_pixels = low_height * low_width;
  // Where the decoder ends.
  static constexpr std::size_t end_patch = decoder_patch(C), end_levels = decoder_levels(C);
  static constexpr std::size_t end_height = C.height / end_patch, end_width = C.width / end_patch;
  static constexpr std::size_t end_pixels = end_height * end_width, end_groups = C.decoder_norms ? C.groups : 0;

  static constexpr StageSpec down_spec(std::size_t l) {
    return {.height = top_height >> l,
            .width = top_width >> l,
            .in = C.encoder_channels[l == 0 ? 0 : l - 1],
            .channels = C.encoder_channels[l],
            .resnets = C.encoder_resnets,
            .groups = C.groups,
            .time_width = 0,
            .sampler = l < low,
            .pad_end = true};
  }
  static constexpr StageSpec up_spec(std::size_t l) {
    return {.height = end_height >> l,
            .width = end_width >> l,
            .in = C.decoder_channels[l + 1 == end_levels ? l : l + 1],
            .channels = C.decoder_channels[l],
            .resnets = C.decoder_resnets,
            .groups = end_groups,
            .time_width = 0,
            .separable1 = C.decoder_separable.conv1,
            .separable2 = C.decoder_separable.conv2,
            .sampler = l > 0,
            .separable_sampler = C.separable_samplers};
  }

 public:
  static constexpr VaeConfig config = C;
  static constexpr std::size_t latent_height = low_height, latent_width = low_width;
  static constexpr std::size_t latent_floats = low_pixels * C.latent_channels, picture_floats = C.height * C.width * 3;
  static constexpr std::size_t encoded_floats = 2 * latent_floats;  // of what `encode` gives
  static constexpr float scaling = static_cast<float>(C.scaling_millionths) * 1e-6f;

  // Picture [batch][height][width][3] in [-1, 1] -> moments [batch][latent pixels][2 * latent_channels]: means, log variances.
  struct Encoder {
    template <std::size_t L>
    using Down = DownStage<down_spec(L)>;
    static constexpr std::size_t top = C.encoder_channels[0], bottom = C.encoder_channels[low], moments = 2 * C.latent_channels;
    using ConvIn = Convolution<ConvolutionSpec{.in = picture_channels, .out = top, .height = top_height, .width = top_width}>;
    using Middle = VaeMiddle<VaeMiddleSpec{bottom, low_height, low_width, C.groups, C.middle_attention}>;
    using NormOut =
        GroupNorm<GroupNormSpec{.channels = bottom, .groups = C.groups, .pixels = low_pixels, .activation = Activation::silu}>;
    using ConvOut = Convolution<ConvolutionSpec{.in = bottom, .out = moments, .height = low_height, .width = low_width}>;
    using Quant = Linear<LinearSpec{.in = moments, .out = moments, .conv = true}>;
    template <class I>
    struct Tuples;
    template <std::size_t... L>
    struct Tuples<std::index_sequence<L...>> {
      using Weights = std::tuple<typename Down<L>::Weights...>;
      using Saved = std::tuple<typename Down<L>::Saved...>;
    };
    using All = Tuples<std::make_index_sequence<C.levels>>;
    struct Weights {
      typename ConvIn::Weights conv_in;
      typename All::Weights down_blocks;
      std::conditional_t<C.middle, typename Middle::Weights, Absent> mid_block;
      typename NormOut::Weights conv_norm_out;
      typename ConvOut::Weights conv_out;
    };
    struct Saved {
      typename ConvIn::Saved conv_in;
      typename All::Saved down;
      typename Middle::Saved middle;
      NormSaved norm_out;
      typename ConvOut::Saved conv_out;
      const float* before_quant = nullptr;
    };
    static constexpr std::size_t macs = [] {
      std::size_t total =
          ConvIn::macs + ConvOut::macs + (C.middle ? Middle::macs : 0) + (C.quant_conv ? Quant::macs(low_pixels) : 0);
      unroll<C.levels>([&]<std::size_t L>(Index<L>) { total += Down<L>::macs; });
      return total;
    }();
    static constexpr RelayPlan relay = [] {
      RelayPlan r;
      r.add(top_pixels * top);
      unroll<C.levels>([&]<std::size_t L>(Index<L>) {
        for (std::size_t i = 0; i < Down<L>::outputs; ++i) r.add(Down<L>::output_floats(i));
      });
      if (C.middle) r.add(low_pixels * bottom);
      return r;
    }();
    static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
      Planned p{plan};
      if (C.patch > 1) p.take(batch * picture_floats);
      relay.begin(p, batch);
      relay.output(p, batch * top_pixels * top).part(ConvIn::stack_floats(plan, batch));
      unroll<C.levels>([&]<std::size_t L>(Index<L>) {
        for (std::size_t i = 0; i < Down<L>::outputs; ++i) relay.output(p, batch * Down<L>::output_floats(i));
        p.part(Down<L>::stack_floats(plan, batch));
      });
      if constexpr (C.middle) relay.output(p, batch * low_pixels * bottom).part(Middle::stack_floats(plan, batch));
      p.take(batch * low_pixels * bottom).take(NormOut::stack_floats(batch));
      if (C.quant_conv) p.take(batch * low_pixels * moments);
      p.part(ConvOut::stack_floats(plan, batch));
      return p.peak;
    }
    static constexpr std::size_t backward_floats(std::size_t batch) {
      const std::size_t bottom_floats = batch * low_pixels * bottom;
      Planned p{Plan::inference}, out{Plan::inference};
      p.take(bottom_floats);
      if (C.quant_conv) out.take(batch * low_pixels * moments);
      out.take(bottom_floats).part(ConvOut::backward_floats(batch)).part(NormOut::backward_floats(batch, false));
      p.part(out.peak);
      if constexpr (C.middle) p.take(bottom_floats).part(Middle::backward_floats(batch));
      unroll_reversed<C.levels>([&]<std::size_t L>(Index<L>) {
        constexpr StageSpec spec = down_spec(L);
        p.take(batch * spec.height * spec.width * spec.in);
        for (std::size_t i = 0; i + 1 < Down<L>::outputs; ++i) p.take(batch * Down<L>::output_floats(i));
        p.part(Down<L>::backward_floats(batch));
      });
      return p.part(ConvIn::backward_floats(batch)).peak;
    }
    static void forward(Context& c, const Weights& w, const auto& quant, const float* x, float* y, Saved& s) {
      Scope scope(c.stack);
      if constexpr (C.patch > 1) {
        float* unshuffled = c.stack.take(c.batch * picture_floats);
        kernels::pixel_unshuffle(c.executor, x, unshuffled, c.batch, C.height, C.width, 3, C.patch);
        x = unshuffled;
      }
      Relay memory(c, relay);
      float* h = memory.output(c.batch * top_pixels * top);
      ConvIn::forward(c, w.conv_in, x, h, s.conv_in);
      unroll<C.levels>([&]<std::size_t L>(Index<L>) {
        std::array<float*, Down<L>::outputs> outputs{};
        for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i] = memory.output(c.batch * Down<L>::output_floats(i));
        Down<L>::forward(c, std::get<L>(w.down_blocks), h, nullptr, nullptr, outputs.data(), std::get<L>(s.down));
        h = outputs.back();
      });
      if constexpr (C.middle) {
        float* out = memory.output(c.batch * low_pixels * bottom);
        Middle::forward(c, w.mid_block, h, out, s.middle);
        h = out;
      }
      float* n = c.stack.take(c.batch * low_pixels * bottom);
      NormOut::forward(c, w.conv_norm_out, h, n, s.norm_out, transformer_epsilon);
      if constexpr (C.quant_conv) {
        float* raw = c.stack.take(c.batch * low_pixels * moments);
        ConvOut::forward(c, w.conv_out, n, raw, s.conv_out);
        Quant::forward(c, quant, raw, y, c.batch * low_pixels);
        s.before_quant = raw;
      } else {
        ConvOut::forward(c, w.conv_out, n, y, s.conv_out);
      }
    }
    static void backward(Context& c, const Weights& w, const Weights& g, const auto& quant, const auto& g_quant, const Saved& s,
                         const float* dy) {
      Scope scope(c.stack);
      const std::size_t low_floats = c.batch * low_pixels * bottom;
      float* d = c.stack.take(low_floats);
      {
        Scope inner(c.stack);
        if constexpr (C.quant_conv) {
          float* raw = c.stack.take(c.batch * low_pixels * moments);
          Quant::backward(c, quant, g_quant, s.before_quant, dy, raw, c.batch * low_pixels);
          dy = raw;
        }
        float* dn = c.stack.take(low_floats);
        ConvOut::backward(c, w.conv_out, g.conv_out, s.conv_out, dy, dn);
        NormOut::backward(c, w.conv_norm_out, g.conv_norm_out, s.norm_out, dn, d, false);
      }
      if constexpr (C.middle) {
        float* below = c.stack.take(low_floats);
        Middle::backward(c, w.mid_block, g.mid_block, s.middle, d, below);
        d = below;
      }
      unroll_reversed<C.levels>([&]<std::size_t L>(Index<L>) {
        constexpr StageSpec spec = down_spec(L);
        float* below = c.stack.take(c.batch * spec.height * spec.width * spec.in);
        std::array<float*, Down<L>::outputs> d_outputs{};
        for (std::size_t i = 0; i + 1 < d_outputs.size(); ++i)
          d_outputs[i] = c.stack.take_zeroed(c.batch * Down<L>::output_floats(i));
        d_outputs.back() = d;
        Down<L>::backward(c, std::get<L>(w.down_blocks), std::get<L>(g.down_blocks), std::get<L>(s.down), d_outputs.data(), below,
                          nullptr, nullptr);
        d = below;
      });
      ConvIn::backward(c, w.conv_in, g.conv_in, s.conv_in, d, nullptr);
    }
  };

  // Latents [batch][latent pixels][latent_channels], already divided by `scaling` -> picture [batch][height][width][3].
  struct Decoder {
    template <std::size_t J>  // from the lowest resolution
    using Up = UpStage<up_spec(end_levels - 1 - J)>;
    static constexpr std::size_t top = C.decoder_channels[0], bottom = C.decoder_channels[end_levels - 1];
    static constexpr bool has_middle = C.middle && C.decoder_middle;
    using PostQuant = Linear<LinearSpec{.in = C.latent_channels, .out = C.latent_channels, .conv = true}>;
    using ConvIn = Convolution<ConvolutionSpec{.in = C.latent_channels, .out = bottom, .height = low_height, .width = low_width}>;
    using Middle = VaeMiddle<VaeMiddleSpec{bottom, low_height, low_width, end_groups, has_middle&& C.middle_attention}>;
    using NormOut =
        GroupNorm<GroupNormSpec{.channels = top, .groups = end_groups, .pixels = end_pixels, .activation = Activation::silu}>;
    using ConvOut =
        Convolution<ConvolutionSpec{.in = top, .out = 3 * end_patch* end_patch, .height = end_height, .width = end_width}>;
    template <class I>
    struct Tuples;
    template <std::size_t... J>
    struct Tuples<std::index_sequence<J...>> {
      using Weights = std::tuple<typename Up<J>::Weights...>;
      using Saved = std::tuple<typename Up<J>::Saved...>;
    };
    using All = Tuples<std::make_index_sequence<end_levels>>;
    struct Weights {
      typename ConvIn::Weights conv_in;
      std::conditional_t<has_middle, typename Middle::Weights, Absent> mid_block;
      typename All::Weights up_blocks;
      typename NormOut::Weights conv_norm_out;
      typename ConvOut::Weights conv_out;
    };
    struct Saved {
      const float* z = nullptr;
      typename ConvIn::Saved conv_in;
      typename Middle::Saved middle;
      typename All::Saved up;
      NormSaved norm_out;
      typename ConvOut::Saved conv_out;
    };
    static constexpr std::size_t macs = [] {
      std::size_t total =
          ConvIn::macs + ConvOut::macs + (has_middle ? Middle::macs : 0) + (C.quant_conv ? PostQuant::macs(low_pixels) : 0);
      unroll<end_levels>([&]<std::size_t J>(Index<J>) { total += Up<J>::macs; });
      return total;
    }();
    static constexpr RelayPlan relay = [] {
      RelayPlan r;
      r.add(low_pixels * bottom);
      if (has_middle) r.add(low_pixels * bottom);
      unroll<end_levels>([&]<std::size_t J>(Index<J>) { r.add(Up<J>::output_floats); });
      return r;
    }();
    static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
      Planned p{plan};
      if (C.quant_conv) p.take(batch * latent_floats);
      relay.begin(p, batch);
      relay.output(p, batch * low_pixels * bottom).part(ConvIn::stack_floats(plan, batch));
      if constexpr (has_middle) relay.output(p, batch * low_pixels * bottom).part(Middle::stack_floats(plan, batch));
      unroll<end_levels>(
          [&]<std::size_t J>(Index<J>) { relay.output(p, batch * Up<J>::output_floats).part(Up<J>::stack_floats(plan, batch)); });
      p.take(batch * end_pixels * top).take(NormOut::stack_floats(batch));
      if (end_patch > 1) p.take(batch * picture_floats);
      p.part(ConvOut::stack_floats(plan, batch));
      return p.peak;
    }
    static constexpr std::size_t backward_floats(std::size_t batch) {
      const std::size_t top_floats = batch * end_pixels * top;
      Planned p{Plan::inference}, out{Plan::inference};
      p.take(top_floats);
      if (end_patch > 1) out.take(batch * picture_floats);
      out.take(top_floats).part(ConvOut::backward_floats(batch)).part(NormOut::backward_floats(batch, false));
      p.part(out.peak);
      unroll_reversed<end_levels>([&]<std::size_t J>(Index<J>) {
        constexpr StageSpec spec = up_spec(end_levels - 1 - J);
        p.take(batch * spec.height * spec.width * spec.in).part(Up<J>::backward_floats(batch));
      });
      if constexpr (has_middle) p.take(batch * low_pixels * bottom).part(Middle::backward_floats(batch));
      if (C.quant_conv) p.take(batch * latent_floats);
      return p.part(ConvIn::backward_floats(batch)).peak;
    }
    static void forward(Context& c, const Weights& w, const auto& post_quant, const float* z, float* y, Saved& s) {
      Scope scope(c.stack);
      s.z = z;
      if constexpr (C.quant_conv) {
        float* q = c.stack.take(c.batch * latent_floats);
        PostQuant::forward(c, post_quant, z, q, c.batch * low_pixels);
        z = q;
      }
      Relay memory(c, relay);
      float* h = memory.output(c.batch * low_pixels * bottom);
      ConvIn::forward(c, w.conv_in, z, h, s.conv_in);
      if constexpr (has_middle) {
        float* out = memory.output(c.batch * low_pixels * bottom);
        Middle::forward(c, w.mid_block, h, out, s.middle);
        h = out;
      }
      unroll<end_levels>([&]<std::size_t J>(Index<J>) {
        float* out = memory.output(c.batch * Up<J>::output_floats);
        Up<J>::forward(c, std::get<J>(w.up_blocks), h, nullptr, nullptr, nullptr, out, std::get<J>(s.up));
        h = out;
      });
      float* n = c.stack.take(c.batch * end_pixels * top);
      NormOut::forward(c, w.conv_norm_out, h, n, s.norm_out, transformer_epsilon);
      if constexpr (end_patch > 1) {
        float* shuffled = c.stack.take(c.batch * picture_floats);
        ConvOut::forward(c, w.conv_out, n, shuffled, s.conv_out);
        kernels::pixel_shuffle(c.executor, shuffled, y, c.batch, C.height, C.width, 3, end_patch);
      } else {
        ConvOut::forward(c, w.conv_out, n, y, s.conv_out);
      }
    }
    // dz is assigned.
    static void backward(Context& c, const Weights& w, const Weights& g, const auto& post_quant, const auto& g_post_quant,
                         const Saved& s, const float* dy, float* dz) {
      Scope scope(c.stack);
      float* d = c.stack.take(c.batch * end_pixels * top);
      {
        Scope inner(c.stack);
        if constexpr (end_patch > 1) {
          float* unshuffled = c.stack.take(c.batch * picture_floats);
          kernels::pixel_unshuffle(c.executor, dy, unshuffled, c.batch, C.height, C.width, 3, end_patch);
          dy = unshuffled;
        }
        float* dn = c.stack.take(c.batch * end_pixels * top);
        ConvOut::backward(c, w.conv_out, g.conv_out, s.conv_out, dy, dn);
        NormOut::backward(c, w.conv_norm_out, g.conv_norm_out, s.norm_out, dn, d, false);
      }
      unroll_reversed<end_levels>([&]<std::size_t J>(Index<J>) {
        constexpr StageSpec spec = up_spec(end_levels - 1 - J);
        float* below = c.stack.take(c.batch * spec.height * spec.width * spec.in);
        Up<J>::backward(c, std::get<J>(w.up_blocks), std::get<J>(g.up_blocks), std::get<J>(s.up), d, below, nullptr, nullptr,
                        nullptr);
        d = below;
      });
      if constexpr (has_middle) {
        float* below = c.stack.take(c.batch * low_pixels * bottom);
        Middle::backward(c, w.mid_block, g.mid_block, s.middle, d, below);
        d = below;
      }
      if constexpr (C.quant_conv) {
        float* dq = c.stack.take(c.batch * latent_floats);
        ConvIn::backward(c, w.conv_in, g.conv_in, s.conv_in, d, dq);
        PostQuant::backward(c, post_quant, g_post_quant, s.z, dq, dz, c.batch * low_pixels);
      } else {
        ConvIn::backward(c, w.conv_in, g.conv_in, s.conv_in, d, dz);
      }
    }
  };

  struct Weights {
    typename Encoder::Weights encoder;
    std::conditional_t<C.quant_conv, typename Encoder::Quant::Weights, Absent> quant_conv;
    typename Decoder::Weights decoder;
    std::conditional_t<C.quant_conv, typename Decoder::PostQuant::Weights, Absent> post_quant_conv;
  };
  static constexpr std::size_t parameters = reflect::parameters<Weights>();
  static constexpr std::size_t weight_bytes = 4 * parameters;
  static constexpr std::size_t encoder_macs = Encoder::macs, decoder_macs = Decoder::macs;
  // Of decoding one picture.
  static constexpr std::size_t activation_bytes = 4 * Decoder::stack_floats(Plan::inference, 1);

  static void encode(Context& c, const Weights& w, const float* picture, float* moments, typename Encoder::Saved& s) {
    Encoder::forward(c, w.encoder, w.quant_conv, picture, moments, s);
  }
  static void decode(Context& c, const Weights& w, const float* z, float* picture, typename Decoder::Saved& s) {
    Decoder::forward(c, w.decoder, w.post_quant_conv, z, picture, s);
  }
  static void encode_backward(Context& c, const Weights& w, const Weights& g, const typename Encoder::Saved& s,
                              const float* d_moments) {
    Encoder::backward(c, w.encoder, g.encoder, w.quant_conv, g.quant_conv, s, d_moments);
  }
  static void decode_backward(Context& c, const Weights& w, const Weights& g, const typename Decoder::Saved& s,
                              const float* d_picture, float* dz) {
    Decoder::backward(c, w.decoder, g.decoder, w.post_quant_conv, g.post_quant_conv, s, d_picture, dz);
  }

  // Whatever the kind: from a picture in [-1, 1] to the latents of a diffusion model, and back; floats of stack that they take.
  // to_picture uses z up. Latents are the scaled means or, with normals (which may stand in z), drawn from their distribution.
  static constexpr bool gives_distribution = true;
  static constexpr std::size_t to_latents_floats(std::size_t batch) {
    return aligned(batch * encoded_floats) + Encoder::stack_floats(Plan::inference, batch);
  }
  static void to_latents(Context& c, const Weights& w, const float* picture, float* z, const float* normals = nullptr) {
    constexpr std::size_t channels = C.latent_channels;
    Scope scope(c.stack);
    float* moments = c.stack.take(c.batch * encoded_floats);
    typename Encoder::Saved saved{};
    encode(c, w, picture, moments, saved);
    for (std::size_t i = 0; i < c.batch * latent_floats; ++i) {
      const float* const of_pixel = moments + i / channels * 2 * channels + i % channels;
      const float away = normals == nullptr ? 0.0f : std::exp(0.5f * std::clamp(of_pixel[channels], -30.0f, 20.0f)) * normals[i];
      z[i] = scaling * (*of_pixel + away);
    }
  }
  static constexpr std::size_t to_picture_floats(std::size_t batch) { return Decoder::stack_floats(Plan::inference, batch); }
  static void to_picture(Context& c, const Weights& w, float* z, float* picture) {
    for (std::size_t i = 0; i < c.batch * latent_floats; ++i) z[i] /= scaling;
    typename Decoder::Saved saved{};
    decode(c, w, z, picture, saved);
  }
};

template <VaeConfig C>
requires(C.kind == VaeKind::autoencoder_tiny) class Vae<C> : public TinyVae<C> {
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
