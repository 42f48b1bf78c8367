// SPDX-License-Identifier: Apache-2.0
// One resolution of the UNet, down and up: residual blocks, each with an optional transformer stack behind it, and the sampler.
#pragma once

#include "../core/begin.hpp"

#include <array>
#include <tuple>

#include "../core/unroll.hpp"
#include "../kernels/kernels.hpp"
#include "resnet.hpp"
#include "transformer.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct StageSpec {
  std::size_t height, width;
  std::size_t in, channels;
  std::size_t resnets;
  std::array<std::size_t, 4> skips{};  // channels concatenated before residual block i (up only)
  std::array<TransformerSpec, 4> transformers{};
  std::size_t groups, time_width;
  bool separable1 = false, separable2 = false;
  bool sampler = false, separable_sampler = false;
  bool pad_end = false;  // the down-sampling pads right and below only (the VAE's encoder)
};

constexpr ResnetSpec resnet_spec(const StageSpec& s, std::size_t i) {
  return {.in = (i == 0 ? s.in : s.channels) + s.skips[i],
          .out = s.channels,
          .height = s.height,
          .width = s.width,
          .groups = s.groups,
          .time_width = s.time_width,
          .separable1 = s.separable1,
          .separable2 = s.separable2};
}

template <class Layer>
struct SamplerWeights {
  typename Layer::Weights conv;
};

// What both directions share: the types of the parts and their weights.
template <StageSpec S>
struct StageParts {
  template <std::size_t I>
  using Resnet = ResnetBlock<resnet_spec(S, I)>;
  template <std::size_t I>
  static constexpr bool has_transformer = S.transformers[I].depth > 0;
  template <std::size_t I>
  using Transformer = Transformer2D<S.transformers[I]>;

  template <std::size_t I, bool Has = has_transformer<I>>
  struct Attentions {
    using Weights = Absent;
    using Saved = Absent;
  };
  template <std::size_t I>
  struct Attentions<I, true> {
    using Weights = typename Transformer<I>::Weights;
    using Saved = typename Transformer<I>::Saved;
  };

  template <class Indices>
  struct Tuples;
  template <std::size_t... I>
  struct Tuples<std::index_sequence<I...>> {
    using ResnetWeights = std::tuple<typename Resnet<I>::Weights...>;
    using ResnetSaved = std::tuple<typename Resnet<I>::Saved...>;
    using AttentionWeights = std::tuple<typename Attentions<I>::Weights...>;
    using AttentionSaved = std::tuple<typename Attentions<I>::Saved...>;
  };
  using All = Tuples<std::make_index_sequence<S.resnets>>;

  static constexpr std::size_t pixels = S.height * S.width;

  // Inference reads a skip where it lies. Training keeps a copy, joined to what it follows, for the way back.
  template <std::size_t I>
  static constexpr bool joins_by_address = S.skips[I] > 0 && S.groups > 0 && Resnet<I>::has_shortcut;

  // Of one residual block with what stands around it: the joined skip before, the transformers behind.
  template <std::size_t I>
  static constexpr std::size_t step_floats(Plan plan, std::size_t batch) {
    Planned p{plan};
    if (S.skips[I] > 0 && !(joins_by_address<I> && plan == Plan::inference)) p.take(batch * pixels * resnet_spec(S, I).in);
    if constexpr (has_transformer<I>) p.take(batch * pixels * S.channels);
    p.part(Resnet<I>::stack_floats(plan, batch));
    if constexpr (has_transformer<I>) p.part(Transformer<I>::stack_floats(plan, batch));
    return p.peak;
  }

  static constexpr std::size_t macs() {
    std::size_t total = 0;
    unroll<S.resnets>([&]<std::size_t I>(Index<I>) {
      total += Resnet<I>::macs;
      if constexpr (has_transformer<I>) total += Transformer<I>::macs;
    });
    return total;
  }
};

template <StageSpec S>
struct DownStage : StageParts<S> {
  using Base = StageParts<S>;
  template <std::size_t I>
  using Resnet = typename Base::template Resnet<I>;
  template <std::size_t I>
  using Transformer = typename Base::template Transformer<I>;
  using Sampler = Convolution<ConvolutionSpec{.in = S.channels,
                                              .out = S.channels,
                                              .height = S.height,
                                              .width = S.width,
                                              .stride = 2,
                                              .pad_end = S.pad_end,
                                              .separable = S.separable_sampler}>;
  static constexpr std::size_t outputs = S.resnets + (S.sampler ? 1 : 0);  // each is a skip; the last leaves the stage

  struct Weights {
    typename Base::All::ResnetWeights resnets;
    typename Base::All::AttentionWeights attentions;
    std::conditional_t<S.sampler, std::tuple<SamplerWeights<Sampler>>, Absent> downsamplers;
  };
  struct Saved {
    typename Base::All::ResnetSaved resnets;
    typename Base::All::AttentionSaved attentions;
    typename Sampler::Saved sampler;
  };

  static constexpr std::size_t macs = Base::macs() + (S.sampler ? Sampler::macs : 0);
  static constexpr std::size_t output_floats(std::size_t i) {  // of output i, per image
    return i < S.resnets ? Base::pixels * S.channels : Sampler::out_pixels * S.channels;
  }
  static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
    Planned p{plan};
    unroll<S.resnets>([&]<std::size_t I>(Index<I>) { p.part(Base::template step_floats<I>(plan, batch)); });
    if (S.sampler) p.part(Sampler::stack_floats(plan, batch));
    return p.peak;
  }

  static constexpr std::size_t backward_floats(std::size_t batch) {
    const std::size_t floats = batch * Base::pixels * S.channels;
    Planned p{Plan::inference};
    if (S.sampler) p.take(floats).part(Sampler::backward_floats(batch));
    unroll<S.resnets>([&]<std::size_t I>(Index<I>) {
      Planned step{Plan::inference};
      if constexpr (Base::template has_transformer<I>) step.take(floats).part(Transformer<I>::backward_floats(batch));
      if (I > 0) step.take(floats);
      p.part(step.part(Resnet<I>::backward_floats(batch)).peak);
    });
    return p.peak;
  }

  // x [batch][pixels][in] -> ys[i], each caller-owned memory of batch * output_floats(i). ys[i] comes from the one before it
  // alone, so those that nobody else reads may share memory with the next but one.
  static void forward(Context& c, const Weights& w, const float* x, const float* time, const AttentionContext& context,
                      float* const* ys, Saved& saved) {
    unroll<S.resnets>([&]<std::size_t I>(Index<I>) {
      Scope scope(c.stack);
      if constexpr (Base::template has_transformer<I>) {
        float* h = c.stack.take(c.batch * Base::pixels * S.channels);
        Resnet<I>::forward(c, std::get<I>(w.resnets), x, time, h, std::get<I>(saved.resnets));
        Transformer<I>::forward(c, std::get<I>(w.attentions), h, context, ys[I], std::get<I>(saved.attentions));
      } else {
        Resnet<I>::forward(c, std::get<I>(w.resnets), x, time, ys[I], std::get<I>(saved.resnets));
      }
      x = ys[I];
    });
    if constexpr (S.sampler) Sampler::forward(c, std::get<0>(w.downsamplers).conv, x, ys[S.resnets], saved.sampler);
  }

  // d_outputs[i] hold the gradients that reach output i from elsewhere (the last also from below); they are used up. dx is
  // assigned; d_time and d_context are added to.
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, float* const* d_outputs, float* dx,
                       float* d_time, float* d_context) {
    Scope scope(c.stack);
    const std::size_t floats = c.batch * Base::pixels * S.channels;
    if constexpr (S.sampler) {
      float* d = c.stack.take(floats);
      Sampler::backward(c, std::get<0>(w.downsamplers).conv, std::get<0>(g.downsamplers).conv, s.sampler, d_outputs[S.resnets],
                        d);
      kernels::add_to(c.executor, d, d_outputs[S.resnets - 1], floats);
    }
    unroll_reversed<S.resnets>([&]<std::size_t I>(Index<I>) {
      Scope inner(c.stack);
      float* d = d_outputs[I];
      if constexpr (Base::template has_transformer<I>) {
        float* dh = c.stack.take(floats);
        Transformer<I>::backward(c, std::get<I>(w.attentions), std::get<I>(g.attentions), std::get<I>(s.attentions), d, dh,
                                 d_context);
        d = dh;
      }
      if constexpr (I == 0) {
        Resnet<I>::backward(c, std::get<I>(w.resnets), std::get<I>(g.resnets), std::get<I>(s.resnets), d, dx, d_time);
      } else {
        float* below = c.stack.take(floats);
        Resnet<I>::backward(c, std::get<I>(w.resnets), std::get<I>(g.resnets), std::get<I>(s.resnets), d, below, d_time);
        kernels::add_to(c.executor, below, d_outputs[I - 1], floats);
      }
    });
  }
};

template <StageSpec S>
struct UpStage : StageParts<S> {
  using Base = StageParts<S>;
  template <std::size_t I>
  using Resnet = typename Base::template Resnet<I>;
  template <std::size_t I>
  using Transformer = typename Base::template Transformer<I>;
  using Sampler = Convolution<ConvolutionSpec{.in = S.channels,
                                              .out = S.channels,
                                              .height = S.height,
                                              .width = S.width,
                                              .upsample = true,
                                              .separable = S.separable_sampler}>;

  struct Weights {
    typename Base::All::ResnetWeights resnets;
    typename Base::All::AttentionWeights attentions;
    std::conditional_t<S.sampler, std::tuple<SamplerWeights<Sampler>>, Absent> upsamplers;
  };
  struct Saved {
    typename Base::All::ResnetSaved resnets;
    typename Base::All::AttentionSaved attentions;
    typename Sampler::Saved sampler;
  };

  static constexpr std::size_t macs = Base::macs() + (S.sampler ? Sampler::macs : 0);
  static constexpr std::size_t output_floats = (S.sampler ? Sampler::out_pixels : Base::pixels) * S.channels;  // per image
  // In inference the outputs of the residual blocks take turns between y and memory that is taken for the first that needs it.
  static constexpr bool stays_in_y(std::size_t i) { return (S.resnets - i + (S.sampler ? 1 : 0)) % 2 == 1; }
  static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
    Planned p{plan};
    unroll<S.resnets>([&]<std::size_t I>(Index<I>) {
      if (plan == Plan::training ? I + 1 < S.resnets || S.sampler : I < 2 && !stays_in_y(I))
        p.take(batch * Base::pixels * S.channels);
      p.part(Base::template step_floats<I>(plan, batch));
    });
    if (S.sampler) p.part(Sampler::stack_floats(plan, batch));
    return p.peak;
  }

  static constexpr std::size_t backward_floats(std::size_t batch) {
    const std::size_t rows = batch * Base::pixels, floats = rows * S.channels;
    Planned p{Plan::inference};
    if (S.sampler) p.take(floats).part(Sampler::backward_floats(batch));
    unroll_reversed<S.resnets>([&]<std::size_t I>(Index<I>) {
      constexpr std::size_t in = resnet_spec(S, I).in;
      if (I > 0) p.take(rows * (in - S.skips[I]));
      Planned step{Plan::inference};
      if constexpr (Base::template has_transformer<I>) step.take(floats).part(Transformer<I>::backward_floats(batch));
      if (S.skips[I] > 0) step.take(rows * in);
      p.part(step.part(Resnet<I>::backward_floats(batch)).peak);
    });
    return p.peak;
  }

  // x [batch][pixels][in]; skips[i] [batch][pixels][S.skips[i]] join residual block i (the VAE's decoder has none: null)
  // -> y, batch * output_floats, none of what is read
  static void forward(Context& c, const Weights& w, const float* x, const float* const* skips, const float* time,
                      const AttentionContext& context, float* y, Saved& saved) {
    Scope scope(c.stack);
    float* other = nullptr;
    unroll<S.resnets>([&]<std::size_t I>(Index<I>) {
      float* out = y;
      if (c.stack.keeps() ? I + 1 < S.resnets || S.sampler : !stays_in_y(I)) {
        if (c.stack.keeps() || other == nullptr) other = c.stack.take(c.batch * Base::pixels * S.channels);
        out = other;
      }
      Scope inner(c.stack);
      const float* skip = nullptr;
      if constexpr (S.skips[I] > 0) {
        if (Base::template joins_by_address<I> && !c.stack.keeps()) {
          skip = skips[I];
        } else {
          constexpr std::size_t in = resnet_spec(S, I).in;
          float* joined = c.stack.take(c.batch * Base::pixels * in);
          const Span span(c, {"concat", nullptr, 0, 8 * c.batch * Base::pixels * in});
          kernels::concat_channels(c.executor, x, in - S.skips[I], skips[I], S.skips[I], joined, c.batch * Base::pixels);
          x = joined;
        }
      }
      if constexpr (Base::template has_transformer<I>) {
        float* h = c.stack.take(c.batch * Base::pixels * S.channels);
        Resnet<I>::forward(c, std::get<I>(w.resnets), x, time, h, std::get<I>(saved.resnets), skip, S.skips[I]);
        Transformer<I>::forward(c, std::get<I>(w.attentions), h, context, out, std::get<I>(saved.attentions));
      } else {
        Resnet<I>::forward(c, std::get<I>(w.resnets), x, time, out, std::get<I>(saved.resnets), skip, S.skips[I]);
      }
      x = out;
    });
    if constexpr (S.sampler) Sampler::forward(c, std::get<0>(w.upsamplers).conv, x, y, saved.sampler);
  }

  // dx and every d_skips[i] are assigned; d_time and d_context are added to.
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* dy, float* dx,
                       float* const* d_skips, float* d_time, float* d_context) {
    Scope scope(c.stack);
    const std::size_t rows = c.batch * Base::pixels, floats = rows * S.channels;
    const float* d = dy;
    if constexpr (S.sampler) {
      float* below = c.stack.take(floats);
      Sampler::backward(c, std::get<0>(w.upsamplers).conv, std::get<0>(g.upsamplers).conv, s.sampler, dy, below);
      d = below;
    }
    unroll_reversed<S.resnets>([&]<std::size_t I>(Index<I>) {
      constexpr std::size_t in = resnet_spec(S, I).in;
      float* below = I == 0 ? dx : c.stack.take(rows * (in - S.skips[I]));
      Scope inner(c.stack);
      if constexpr (Base::template has_transformer<I>) {
        float* dh = c.stack.take(floats);
        Transformer<I>::backward(c, std::get<I>(w.attentions), std::get<I>(g.attentions), std::get<I>(s.attentions), d, dh,
                                 d_context);
        d = dh;
      }
      float* joined = S.skips[I] > 0 ? c.stack.take(rows * in) : below;
      Resnet<I>::backward(c, std::get<I>(w.resnets), std::get<I>(g.resnets), std::get<I>(s.resnets), d, joined, d_time);
      if constexpr (S.skips[I] > 0)
        kernels::split_channels_backward(c.executor, joined, below, in - S.skips[I], d_skips[I], S.skips[I], rows);
      d = below;
    });
  }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
