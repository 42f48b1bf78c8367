// SPDX-License-Identifier: Apache-2.0
// diffusers' UNet2DConditionModel as a static graph: wiring only. Sources: arXiv 2311.16567 (MobileDiffusion),
// arXiv 2112.10752 (latent diffusion).
#pragma once

#include "../core/begin.hpp"

#include <array>
#include <span>
#include <string>

#include "../blocks/stage.hpp"
#include "../config/validate.hpp"
#include "../kernels/kernels.hpp"
#include "../reflect/reflect.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Lowering: from the configuration to the narrow specs of its parts.
namespace lower {

constexpr std::size_t time_width(const UnetConfig& c) { return c.time_width != 0 ? c.time_width : 4 * c.stages[0].channels; }

constexpr TransformerSpec transformer(const UnetConfig& c, const TransformerConfig& t, std::size_t level) {
  if (t.depth == 0) return {};
  const std::size_t width = c.stages[level].channels;
  return {.depth = t.depth,
          .width = width,
          .heads = attention_heads(c, level),
          .tokens = (c.height >> level) * (c.width >> level),
          .groups = c.groups,
          .context_length = c.context_length,
          .context_width = c.context_width,
          .self_attention = t.self_attention,
          .cross_attention = t.cross_attention,
          .self_reads_context = t.self_reads_context,
          .shared_kv = c.attention.shared_kv,
          .kind = c.attention.kind,
          .projections = c.attention.projections,
          .linear_projections = c.attention.linear_projections,
          .position_embedding = c.attention.position_embedding,
          .ratio = c.feed_forward.ratio,
          .activation = c.feed_forward.activation};
}

constexpr StageSpec stage(const UnetConfig& c, std::size_t level) {
  const StageConfig& s = c.stages[level];
  return {.height = c.height >> level,
          .width = c.width >> level,
          .in = 0,
          .channels = s.channels,
          .resnets = 0,
          .groups = c.groups,
          .time_width = time_width(c),
          .separable1 = s.separable.conv1,
          .separable2 = s.separable.conv2,
          .sampler = false,
          .separable_sampler = s.separable_sampler};
}

constexpr StageSpec down(const UnetConfig& c, std::size_t level) {
  StageSpec r = stage(c, level);
  r.in = c.stages[level == 0 ? 0 : level - 1].channels;
  r.resnets = c.stages[level].down_resnets;
  for (std::size_t i = 0; i < r.resnets; ++i) r.transformers[i] = transformer(c, c.stages[level].down_transformers[i], level);
  r.sampler = level + 1 < c.levels;
  return r;
}

// Skips leave in the order: conv_in, then per level its residual blocks and its sampler; they join in reverse.
constexpr std::size_t skip_count(const UnetConfig& c) {
  std::size_t n = 1;
  for (std::size_t l = 0; l < c.levels; ++l) n += c.stages[l].down_resnets + (l + 1 < c.levels ? 1 : 0);
  return n;
}
constexpr std::size_t skip_channels(const UnetConfig& c, std::size_t index) {
  std::size_t n = 1;
  if (index == 0) return c.stages[0].channels;
  for (std::size_t l = 0; l < c.levels; ++l) {
    n += c.stages[l].down_resnets + (l + 1 < c.levels ? 1 : 0);
    if (index < n) return c.stages[l].channels;
  }
  return 0;
}
// The number of skips that the up stages below this level have taken before it.
constexpr std::size_t skips_taken(const UnetConfig& c, std::size_t level) {
  std::size_t n = 0;
  for (std::size_t l = level + 1; l < c.levels; ++l) n += c.stages[l].up_resnets;
  return n;
}

constexpr StageSpec up(const UnetConfig& c, std::size_t level) {
  StageSpec r = stage(c, level);
  r.in = c.stages[level + 1 < c.levels ? level + 1 : level].channels;
  r.resnets = c.stages[level].up_resnets;
  for (std::size_t i = 0; i < r.resnets; ++i) {
    r.transformers[i] = transformer(c, c.stages[level].up_transformers[i], level);
    r.skips[i] = skip_channels(c, skip_count(c) - 1 - skips_taken(c, level) - i);
  }
  r.sampler = level > 0;
  return r;
}

constexpr ResnetSpec middle_resnet(const UnetConfig& c) {
  const std::size_t level = c.levels - 1, channels = c.stages[level].channels;
  return {.in = channels,
          .out = channels,
          .height = c.height >> level,
          .width = c.width >> level,
          .groups = c.groups,
          .time_width = time_width(c),
          .separable1 = c.middle.separable.conv1,
          .separable2 = c.middle.separable.conv2};
}

}  // namespace lower

// What a UNet reads beside latents and times, whoever makes it: a text encoder, an adapter, a control branch.
struct Conditioning {
  const float* context = nullptr;  // [batch][context_tokens][context_width]
  const float* pooled = nullptr;   // [batch][pooled_width], where the configuration has one
  std::size_t context_tokens = 0;  // at most the configuration's context_length; 0: as many
  // What a control branch (arXiv 2302.05543) adds to the skips, in their order, before the way up reads them: arrays of each
  // skip's size, or null; and to what leaves the middle, where there is one. Not seen by backward.
  std::span<const float* const> skip_residuals{};
  const float* middle_residual = nullptr;
  const float* guidance = nullptr;  // [batch], where the configuration embeds it: of at least 1, what would guide otherwise
  // [batch][height][width][input_channels - latent_channels], where the configuration has more of the first: of an inpainting
  // model the mask (1: to paint) and the latents of the picture without what is under it. Behind the latents; trained by none.
  const float* beside = nullptr;
};
// Where backward adds the gradients of what is trained along with a UNet. Null: not wanted.
struct ConditioningGradients {
  float* context = nullptr;
  float* pooled = nullptr;
};

// OutputChannels: of y. A diffusion model puts out latents; with one channel the same network judges them (Discriminator).
template <UnetConfig C, std::size_t OutputChannels = C.latent_channels>
class Unet {
  static_assert(ValidUnet<C>::value);
  static_assert(OutputChannels > 0, "mobilediffusion: a UNet puts out at least one channel; change `OutputChannels`");

 public:
  // The parts, whose members tell their sizes.
  template <std::size_t L>
  using Down = DownStage<lower::down(C, L)>;
  template <std::size_t J>  // J counts from the lowest resolution, as diffusers' up_blocks do
  using Up = UpStage<lower::up(C, C.levels - 1 - J)>;
  static constexpr TransformerSpec middle_spec = lower::transformer(C, C.middle.transformer, C.levels - 1);
  static constexpr bool has_middle = C.middle.resnets > 0, has_middle_transformer = has_middle && middle_spec.depth > 0;
  using MiddleResnet = ResnetBlock<lower::middle_resnet(C)>;
  template <bool Has, TransformerSpec S>
  struct MiddleTransformer {
    using Weights = Absent;
    using Saved = Absent;
  };
  template <TransformerSpec S>
  struct MiddleTransformer<true, S> {
    using Weights = std::tuple<typename Transformer2D<S>::Weights>;
    using Saved = typename Transformer2D<S>::Saved;
  };
  using Middle = MiddleTransformer<has_middle_transformer, middle_spec>;

 private:
  static constexpr std::size_t first = C.stages[0].channels, last = C.stages[C.levels - 1].channels;
  static constexpr std::size_t pixels = C.height * C.width,
                               low_pixels = (C.height >> (C.levels - 1)) * (C.width >> (C.levels - 1));
  static constexpr std::size_t time_width = lower::time_width(C);

 public:
  static constexpr std::size_t input_channels = C.input_channels != 0 ? C.input_channels : C.latent_channels,
                               beside_channels = input_channels - C.latent_channels;
  using ConvIn = Convolution<ConvolutionSpec{.in = input_channels, .out = first, .height = C.height, .width = C.width}>;
  using ConvOut = Convolution<ConvolutionSpec{.in = first, .out = OutputChannels, .height = C.height, .width = C.width}>;
  using NormOut =
      GroupNorm<GroupNormSpec{.channels = first, .groups = C.groups, .pixels = pixels, .activation = Activation::silu}>;
  using Time1 = Linear<LinearSpec{.in = first, .out = time_width}>;
  using Guidance = Linear<LinearSpec{.in = C.guidance_width != 0 ? C.guidance_width : 1, .out = first, .bias = false}>;
  using Time2 = Linear<LinearSpec{.in = time_width, .out = time_width}>;
  using Pooled1 = Linear<LinearSpec{.in = C.pooled_width != 0 ? C.pooled_width : 1, .out = time_width}>;

 private:
  template <class First>
  struct Embedding {
    typename First::Weights linear_1;
    typename Time2::Weights linear_2;
  };
  struct TimeEmbedding {
    typename Time1::Weights linear_1;
    std::conditional_t<C.guidance_width != 0, typename Guidance::Weights, Absent> cond_proj;
    typename Time2::Weights linear_2;
  };
  struct MiddleWeights {
    std::array<typename MiddleResnet::Weights, C.middle.resnets> resnets;
    typename Middle::Weights attentions;
  };
  template <class Indices>
  struct Tuples;
  template <std::size_t... L>
  struct Tuples<std::index_sequence<L...>> {
    using DownWeights = std::tuple<typename Down<L>::Weights...>;
    using DownSaved = std::tuple<typename Down<L>::Saved...>;
    using UpWeights = std::tuple<typename Up<L>::Weights...>;
    using UpSaved = std::tuple<typename Up<L>::Saved...>;
  };
  using All = Tuples<std::make_index_sequence<C.levels>>;

 public:
  static constexpr UnetConfig config = C;
  static constexpr std::size_t latent_floats = pixels * C.latent_channels, output_floats = pixels * OutputChannels;  // per image
  static constexpr std::size_t beside_floats = pixels * beside_channels;  // of Conditioning::beside, per image
  static constexpr std::size_t context_floats = C.context_length * C.context_width;
  static constexpr std::size_t middle_floats = low_pixels * last;  // of what leaves the middle

  struct Weights {
    typename ConvIn::Weights conv_in;
    TimeEmbedding time_embedding;
    std::conditional_t<C.pooled_width != 0, Embedding<Pooled1>, Absent> add_embedding;
    typename All::DownWeights down_blocks;
    std::conditional_t<has_middle, MiddleWeights, Absent> mid_block;
    typename All::UpWeights up_blocks;
    typename NormOut::Weights conv_norm_out;
    typename ConvOut::Weights conv_out;
  };
  // Pointers to what backward reads again.
  struct Saved {
    typename ConvIn::Saved conv_in;
    typename ConvOut::Saved conv_out;
    NormSaved norm_out;
    typename All::DownSaved down;
    typename All::UpSaved up;
    std::array<typename MiddleResnet::Saved, 2> middle;
    typename Middle::Saved middle_transformer;
    const float *time_sinusoid = nullptr, *time_hidden = nullptr, *time_active = nullptr, *time_sum = nullptr;
    const float* guidance_sinusoid = nullptr;
    const float *pooled = nullptr, *pooled_hidden = nullptr, *pooled_active = nullptr;
  };

  static constexpr std::size_t skips = lower::skip_count(C);
  // Floats per image of skip i.
  static constexpr std::size_t skip_floats(std::size_t index) {
    std::size_t n = 1, result = index == 0 ? pixels * first : 0;
    unroll<C.levels>([&]<std::size_t L>(Index<L>) {
      for (std::size_t i = 0; i < Down<L>::outputs; ++i, ++n)
        if (n == index) result = Down<L>::output_floats(i);
    });
    return result;
  }

 public:
  static constexpr std::size_t parameters = reflect::parameters<Weights>();
  static constexpr std::size_t weight_bytes = 4 * parameters;
  static constexpr std::size_t macs = [] {
    std::size_t total = ConvIn::macs + ConvOut::macs + Time1::macs(1) + Time2::macs(1) + C.middle.resnets * MiddleResnet::macs;
    if constexpr (C.guidance_width != 0) total += Guidance::macs(1);
    if constexpr (C.pooled_width != 0) total += Pooled1::macs(1) + Time2::macs(1);
    if constexpr (has_middle_transformer) total += Transformer2D<middle_spec>::macs;
    unroll<C.levels>([&]<std::size_t L>(Index<L>) { total += Down<L>::macs + Up<L>::macs; });
    return total;
  }();
  static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
    Planned p{plan};
    if (C.guidance_width != 0) p.take(batch * C.guidance_width);
    p.take(batch * first).take((C.pooled_width != 0 ? 7 : 4) * aligned(batch * time_width));
    for (std::size_t i = 0; i < skips; ++i) p.take(batch * skip_floats(i));
    if (beside_channels > 0) p.take(batch * pixels * input_channels);
    p.part(ConvIn::stack_floats(plan, batch));
    unroll<C.levels>([&]<std::size_t L>(Index<L>) { p.part(Down<L>::stack_floats(plan, batch)); });
    if constexpr (has_middle) {
      const std::size_t tensor = batch * low_pixels * last, resnet = MiddleResnet::stack_floats(plan, batch);
      p.take(tensor).part(resnet);
      if constexpr (has_middle_transformer) p.take(tensor).part(Transformer2D<middle_spec>::stack_floats(plan, batch));
      if (C.middle.resnets == 2) p.take(tensor).part(resnet);
    }
    unroll<C.levels>(
        [&]<std::size_t J>(Index<J>) { p.take(batch * Up<J>::output_floats).part(Up<J>::stack_floats(plan, batch)); });
    p.take(batch * pixels * first).take(NormOut::stack_floats(batch)).part(ConvOut::stack_floats(plan, batch));
    return p.peak;
  }
  static constexpr std::size_t backward_floats(std::size_t batch) {
    const std::size_t top = batch * pixels * first, tensor = batch * low_pixels * last;
    Planned p{Plan::inference};
    p.take(batch * time_width).take(top);
    Planned out{Plan::inference};
    p.part(out.take(top).part(ConvOut::backward_floats(batch)).part(NormOut::backward_floats(batch, false)).peak);
    for (std::size_t i = 0; i < skips; ++i) p.take(batch * skip_floats(i));
    unroll_reversed<C.levels>([&]<std::size_t J>(Index<J>) {
      constexpr StageSpec spec = lower::up(C, C.levels - 1 - J);
      p.take(batch * (spec.height * spec.width) * spec.in).part(Up<J>::backward_floats(batch));
    });
    if constexpr (has_middle) {
      const std::size_t resnet = MiddleResnet::backward_floats(batch);
      if (C.middle.resnets == 2) p.take(tensor).part(resnet);
      if constexpr (has_middle_transformer) p.take(tensor).part(Transformer2D<middle_spec>::backward_floats(batch));
      p.take(tensor).part(resnet);
    }
    std::size_t n = skips;
    unroll_reversed<C.levels>([&]<std::size_t L>(Index<L>) {
      n -= Down<L>::outputs;
      Planned below{Plan::inference};
      p.part(below.take(batch * skip_floats(n - 1)).part(Down<L>::backward_floats(batch)).peak);
    });
    if (beside_channels > 0) p.part(aligned(batch * pixels * input_channels) + aligned(batch * pixels * beside_channels));
    p.take(3 * aligned(batch * time_width));
    if (C.guidance_width != 0) p.take(batch * first);
    return p.peak;
  }
  // Of one image; the sampler's own buffers are counted by the pipeline.
  static constexpr std::size_t activation_bytes = 4 * stack_floats(Plan::inference, 1);

  // z [batch][height][width][latent_channels], timesteps [batch] in [0, 1000) -> y [batch][height][width][OutputChannels].
  static void forward(Context& c, const Weights& w, const float* z, const float* timesteps, const Conditioning& conditioning,
                      float* y, Saved& s) {
    Scope scope(c.stack);
    const float* time = embed_time(c, w, timesteps, conditioning, s);
    std::array<float*, skips> skip{};
    float* h = way_down(c, w, z, time, conditioning, skip, s);
    for (std::size_t i = 0; i < conditioning.skip_residuals.size(); ++i)
      if (const float* residual = conditioning.skip_residuals[i]; residual != nullptr)
        kernels::add_to(c.executor, residual, skip[i], c.batch * skip_floats(i));
    if constexpr (has_middle)
      if (conditioning.middle_residual != nullptr)
        kernels::add_to(c.executor, conditioning.middle_residual, h, c.batch * middle_floats);
    way_up(c, w, h, skip, time, conditioning, y, s);
  }

  // The parts of forward, for a branch that runs some of them: all take memory from the stack that the caller's Scope gives back.
  // SiLU of the time embedding (plus the pooled text's): what every residual block projects.
  static const float* embed_time(Context& c, const Weights& w, const float* timesteps, const Conditioning& conditioning,
                                 Saved& s) {
    const std::size_t floats = c.batch * time_width;
    float* sinusoid = c.stack.take(c.batch * first);
    kernels::timestep_embedding(timesteps, c.batch, first, sinusoid);
    if constexpr (C.guidance_width != 0) {
      if (conditioning.guidance == nullptr) throw Error("unet: expected the guidance of each image, which it embeds, found none");
      float* guidance = c.stack.take(c.batch * C.guidance_width);
      kernels::guidance_embedding(conditioning.guidance, c.batch, C.guidance_width, guidance);
      kernels::Epilogue add;
      add.accumulate = true;
      Guidance::forward(c, w.time_embedding.cond_proj, guidance, sinusoid, c.batch, add);
      s.guidance_sinusoid = guidance;
    }
    float* hidden = c.stack.take(floats);
    Time1::forward(c, w.time_embedding.linear_1, sinusoid, hidden, c.batch);
    float* active = c.stack.take(floats);
    kernels::activate(c.executor, Activation::silu, hidden, active, floats);
    float* sum = c.stack.take(floats);
    Time2::forward(c, w.time_embedding.linear_2, active, sum, c.batch);
    if constexpr (C.pooled_width != 0) {
      float* pooled_hidden = c.stack.take(floats);
      Pooled1::forward(c, w.add_embedding.linear_1, conditioning.pooled, pooled_hidden, c.batch);
      float* pooled_active = c.stack.take(floats);
      kernels::activate(c.executor, Activation::silu, pooled_hidden, pooled_active, floats);
      float* both = c.stack.take(floats);
      kernels::Epilogue add;
      add.residual = sum;
      add.residual_ld = time_width;
      Time2::forward(c, w.add_embedding.linear_2, pooled_active, both, c.batch, add);
      s.pooled = conditioning.pooled;
      s.pooled_hidden = pooled_hidden;
      s.pooled_active = pooled_active;
      sum = both;
    }
    float* result = c.stack.take(floats);
    kernels::activate(c.executor, Activation::silu, sum, result, floats);
    s.time_sinusoid = sinusoid;
    s.time_hidden = hidden;
    s.time_active = active;
    s.time_sum = sum;
    return result;
  }
  // Fills the skips; returns what leaves the middle.
  static float* way_down(Context& c, const Weights& w, const float* z, const float* time, const Conditioning& conditioning,
                         std::array<float*, skips>& skip, Saved& s) {
    for (std::size_t i = 0; i < skips; ++i) skip[i] = c.stack.take(c.batch * skip_floats(i));
    if constexpr (beside_channels > 0) {
      if (conditioning.beside == nullptr) throw Error("unet: expected what it reads beside the latents, found none");
      float* joined = c.stack.take(c.batch * pixels * input_channels);
      kernels::concat_channels(c.executor, z, C.latent_channels, conditioning.beside, beside_channels, joined, c.batch * pixels);
      z = joined;
    }
    ConvIn::forward(c, w.conv_in, z, skip[0], s.conv_in);
    std::size_t n = 1;
    unroll<C.levels>([&]<std::size_t L>(Index<L>) {
      Down<L>::forward(c, std::get<L>(w.down_blocks), skip[n - 1], time, text_of(conditioning), &skip[n], std::get<L>(s.down));
      n += Down<L>::outputs;
    });
    float* h = skip[skips - 1];
    if constexpr (has_middle) {
      const auto resnet = [&](std::size_t i) {
        float* out = c.stack.take(c.batch * low_pixels * last);
        MiddleResnet::forward(c, w.mid_block.resnets[i], h, time, out, s.middle[i]);
        h = out;
      };
      resnet(0);
      if constexpr (has_middle_transformer) {
        float* out = c.stack.take(c.batch * low_pixels * last);
        Transformer2D<middle_spec>::forward(c, std::get<0>(w.mid_block.attentions), h, text_of(conditioning), out,
                                            s.middle_transformer);
        h = out;
      }
      if constexpr (C.middle.resnets == 2) resnet(1);
    }
    return h;
  }
  static void way_up(Context& c, const Weights& w, const float* h, const std::array<float*, skips>& skip, const float* time,
                     const Conditioning& conditioning, float* y, Saved& s) {
    std::size_t n = skips;
    unroll<C.levels>([&]<std::size_t J>(Index<J>) {
      float* out = c.stack.take(c.batch * Up<J>::output_floats);
      std::array<const float*, 4> joining{};
      for (std::size_t i = 0; i < C.stages[C.levels - 1 - J].up_resnets; ++i) joining[i] = skip[--n];
      Up<J>::forward(c, std::get<J>(w.up_blocks), h, joining.data(), time, text_of(conditioning), out, std::get<J>(s.up));
      h = out;
    });
    float* normed = c.stack.take(c.batch * pixels * first);
    NormOut::forward(c, w.conv_norm_out, h, normed, s.norm_out, resnet_epsilon);
    ConvOut::forward(c, w.conv_out, normed, y, s.conv_out);
  }

  // Gradients are added to g's leafs and to those of the conditioning; dz (nullable) is assigned.
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* dy, float* dz,
                       const ConditioningGradients& gradients) {
    float* const d_context = gradients.context;
    Scope scope(c.stack);
    float* d_time = c.stack.take_zeroed(c.batch * time_width);
    float* d = c.stack.take(c.batch * pixels * first);
    {
      Scope inner(c.stack);
      float* d_normed = c.stack.take(c.batch * pixels * first);
      ConvOut::backward(c, w.conv_out, g.conv_out, s.conv_out, dy, d_normed);
      NormOut::backward(c, w.conv_norm_out, g.conv_norm_out, s.norm_out, d_normed, d, false);
    }
    std::array<float*, skips> d_skip{};
    for (std::size_t i = 0; i < skips; ++i) d_skip[i] = c.stack.take(c.batch * skip_floats(i));
    std::size_t n = 0;
    unroll_reversed<C.levels>([&]<std::size_t J>(Index<J>) {
      constexpr StageSpec spec = lower::up(C, C.levels - 1 - J);
      float* below = c.stack.take(c.batch * (spec.height * spec.width) * spec.in);
      std::array<float*, 4> joining{};
      for (std::size_t i = spec.resnets; i-- > 0;) joining[i] = d_skip[n++];
      Up<J>::backward(c, std::get<J>(w.up_blocks), std::get<J>(g.up_blocks), std::get<J>(s.up), d, below, joining.data(), d_time,
                      d_context);
      d = below;
    });
    if constexpr (has_middle) {
      const auto resnet = [&](std::size_t i) {
        float* below = c.stack.take(c.batch * low_pixels * last);
        MiddleResnet::backward(c, w.mid_block.resnets[i], g.mid_block.resnets[i], s.middle[i], d, below, d_time);
        d = below;
      };
      if constexpr (C.middle.resnets == 2) resnet(1);
      if constexpr (has_middle_transformer) {
        float* below = c.stack.take(c.batch * low_pixels * last);
        Transformer2D<middle_spec>::backward(c, std::get<0>(w.mid_block.attentions), std::get<0>(g.mid_block.attentions),
                                             s.middle_transformer, d, below, d_context);
        d = below;
      }
      resnet(0);
    }
    kernels::add_to(c.executor, d, d_skip[skips - 1], c.batch * skip_floats(skips - 1));
    n = skips;
    unroll_reversed<C.levels>([&]<std::size_t L>(Index<L>) {
      Scope inner(c.stack);
      n -= Down<L>::outputs;
      float* below = c.stack.take(c.batch * skip_floats(n - 1));
      Down<L>::backward(c, std::get<L>(w.down_blocks), std::get<L>(g.down_blocks), std::get<L>(s.down), &d_skip[n], below, d_time,
                        d_context);
      kernels::add_to(c.executor, below, d_skip[n - 1], c.batch * skip_floats(n - 1));
    });
    if constexpr (beside_channels > 0) {
      Scope inner(c.stack);
      float* d_joined = dz == nullptr ? nullptr : c.stack.take(c.batch * pixels * input_channels);
      ConvIn::backward(c, w.conv_in, g.conv_in, s.conv_in, d_skip[0], d_joined);
      if (dz != nullptr)
        kernels::split_channels_backward(c.executor, d_joined, dz, C.latent_channels,
                                         c.stack.take(c.batch * pixels * beside_channels), beside_channels, c.batch * pixels);
    } else {
      ConvIn::backward(c, w.conv_in, g.conv_in, s.conv_in, d_skip[0], dz);
    }
    embed_time_backward(c, w, g, s, d_time, gradients.pooled);
  }

 private:
  static AttentionContext text_of(const Conditioning& conditioning) {
    if (conditioning.context_tokens > C.context_length)
      throw Error("unet: expected a context of at most " + std::to_string(C.context_length) + " tokens, found " +
                  std::to_string(conditioning.context_tokens));
    return {conditioning.context, conditioning.context_tokens};
  }
  static void embed_time_backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* d_result,
                                  float* d_pooled) {
    const std::size_t floats = c.batch * time_width;
    float* d_sum = c.stack.take(floats);
    kernels::activate_backward(c.executor, Activation::silu, s.time_sum, d_result, d_sum, floats);
    float* d_active = c.stack.take(floats);
    float* d_hidden = c.stack.take(floats);
    if constexpr (C.pooled_width != 0) {
      Time2::backward(c, w.add_embedding.linear_2, g.add_embedding.linear_2, s.pooled_active, d_sum, d_active, c.batch);
      kernels::activate_backward(c.executor, Activation::silu, s.pooled_hidden, d_active, d_hidden, floats);
      Pooled1::backward(c, w.add_embedding.linear_1, g.add_embedding.linear_1, s.pooled, d_hidden, d_pooled, c.batch, true);
    }
    Time2::backward(c, w.time_embedding.linear_2, g.time_embedding.linear_2, s.time_active, d_sum, d_active, c.batch);
    kernels::activate_backward(c.executor, Activation::silu, s.time_hidden, d_active, d_hidden, floats);
    float* d_sinusoid = C.guidance_width != 0 ? c.stack.take(c.batch * first) : nullptr;
    Time1::backward(c, w.time_embedding.linear_1, g.time_embedding.linear_1, s.time_sinusoid, d_hidden, d_sinusoid, c.batch);
    if constexpr (C.guidance_width != 0)
      Guidance::backward(c, w.time_embedding.cond_proj, g.time_embedding.cond_proj, s.guidance_sinusoid, d_sinusoid, nullptr,
                         c.batch);
  }
};

// The same network with a logit for each place of the latents: whether what it reads there is real. Its tensors are the UNet's
// but for conv_out, so it can start from a trained one (UFOGen, Xu et al., arXiv 2311.09257).
template <UnetConfig C>
using Discriminator = Unet<C, 1>;

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
