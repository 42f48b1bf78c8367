// SPDX-License-Identifier: Apache-2.0
// Forward and backward passes of whole models on random weights, to compare ways of running them.
#pragma once

#include "gradient_check.hpp"
#include "mobilediffusion/models/text_encoder.hpp"
#include "mobilediffusion/models/unet.hpp"
#include "mobilediffusion/models/vae.hpp"

namespace model_tests {

using namespace mobilediffusion;
using gradient_tests::Bound;
using gradient_tests::Floats;

struct Way {
  std::size_t batch = 2;
  int threads = 1;
  bool packed = false;
  bool backward = false;
  std::size_t first = 0;  // image of the inputs to start with
};

struct Result {
  Floats output, input_gradient, weight_gradients;
  std::size_t peak_inference = 0, peak_training = 0, peak_backward = 0;  // the last: above what forward kept
};

// Images first .. first + batch of the same endless sequence.
inline Floats images(const Way& way, std::size_t floats, std::uint64_t stream) {
  Floats all = gradient_tests::normals((way.first + way.batch) * floats, stream);
  all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(way.first * floats));
  return all;
}

// forward(context, weights, output); backward(context, weights, gradients, d_output, input_gradient)
template <class W, class Forward, class Backward>
Result run(const Way& way, std::size_t stack_floats, std::size_t output, std::size_t input, Forward&& forward,
           Backward&& backward) {
  Executor executor = Executor::oversubscribed(way.threads);
  AlignedBuffer memory(stack_floats);
  Bound<W> weights;
  gradient_tests::randomize(*weights, 1);
  Result r;
  r.output.assign(output, 0.0f);
  {
    Stack stack(memory);
    Context c{executor, stack, way.batch, way.packed};
    if (way.packed) {
      const PackedWeights<W> packed(*weights, Format::fp32);
      forward(c, packed.weights(), r.output.data());
    } else {
      forward(c, *weights, r.output.data());
    }
    r.peak_inference = stack.peak();
  }
  if (way.packed) return r;
  Stack stack(memory);
  Context c{executor, stack, way.batch, false};
  stack.keep(true);
  forward(c, *weights, r.output.data());
  r.peak_training = stack.peak();
  stack.keep(false);
  if (way.backward) {
    Bound<W> gradients;
    r.input_gradient.assign(input, 0.0f);
    const Floats d = images(way, output / way.batch, 50);
    backward(c, *weights, *gradients, d.data(), r.input_gradient.data());
    r.peak_backward = stack.peak() - r.peak_training;
    r.weight_gradients.assign(gradients.memory().span().begin(), gradients.memory().span().end());
  }
  return r;
}

// No more than the plans say: what takes more throws.
template <class Part>
std::size_t room(const Way& way) {
  return std::max(Part::stack_floats(Plan::inference, way.batch),
                  Part::stack_floats(Plan::training, way.batch) + (way.backward ? Part::backward_floats(way.batch) : 0));
}

// Backward: whether to compile a backward pass; without one Way::backward does nothing.
template <UnetConfig C, bool Backward = true>
Result run_unet(const Way& way) {
  using Model = Unet<C>;
  using W = typename Model::Weights;
  typename Model::Saved saved;
  const Floats z = images(way, Model::latent_floats, 60), context = images(way, Model::context_floats, 61);
  const Floats pooled = images(way, std::max<std::size_t>(C.pooled_width, 1), 62);
  const Floats guidance(way.batch, 2.5f), beside = images(way, std::max<std::size_t>(Model::beside_floats, 1), 65);
  const Conditioning conditioning{
      .context = context.data(), .pooled = pooled.data(), .guidance = guidance.data(), .beside = beside.data()};
  Floats timesteps;
  for (std::size_t i = 0; i < way.batch; ++i) timesteps.push_back(static_cast<float>(37 + 211 * (way.first + i)));
  Floats d_context(context.size()), d_pooled(pooled.size());
  return run<W>(
      way, room<Model>(way), z.size(), z.size(),
      [&](Context& c, const W& w, float* y) { Model::forward(c, w, z.data(), timesteps.data(), conditioning, y, saved); },
      [&]([[maybe_unused]] Context& c, [[maybe_unused]] const W& w, [[maybe_unused]] const W& g, const float* dy, float* dx) {
        if constexpr (Backward) Model::backward(c, w, g, saved, dy, dx, {d_context.data(), d_pooled.data()});
      });
}

template <VaeConfig C, bool Backward = true>
Result run_encoder(const Way& way) {
  using Model = Vae<C>;
  using W = typename Model::Weights;
  typename Model::Encoder::Saved saved;
  const Floats x = images(way, Model::picture_floats, 63);
  return run<W>(
      way, room<typename Model::Encoder>(way), way.batch * Model::encoded_floats, 0,
      [&](Context& c, const W& w, float* y) { Model::encode(c, w, x.data(), y, saved); },
      [&]([[maybe_unused]] Context& c, [[maybe_unused]] const W& w, [[maybe_unused]] const W& g, const float* dy, float*) {
        if constexpr (Backward) Model::encode_backward(c, w, g, saved, dy);
      });
}

template <VaeConfig C, bool Backward = true>
Result run_decoder(const Way& way) {
  using Model = Vae<C>;
  using W = typename Model::Weights;
  typename Model::Decoder::Saved saved;
  const Floats z = images(way, Model::latent_floats, 64);
  return run<W>(
      way, room<typename Model::Decoder>(way), way.batch * Model::picture_floats, z.size(),
      [&](Context& c, const W& w, float* y) { Model::decode(c, w, z.data(), y, saved); },
      [&]([[maybe_unused]] Context& c, [[maybe_unused]] const W& w, [[maybe_unused]] const W& g, const float* dy, float* dx) {
        if constexpr (Backward) Model::decode_backward(c, w, g, saved, dy, dx);
      });
}

// The output is the context followed by the pooled vectors.
template <TextEncoderConfig C, bool Backward = true>
Result run_text(const Way& way) {
  using Model = TextEncoder<C>;
  using W = typename Model::Weights;
  typename Model::Saved saved;
  std::vector<std::int32_t> ids;
  for (std::size_t i = way.first * C.length; i < (way.first + way.batch) * C.length; ++i)
    ids.push_back(static_cast<std::int32_t>(i * i % 37 % C.vocabulary));
  const std::size_t contexts = way.batch * Model::context_floats;
  return run<W>(
      way, room<Model>(way), contexts + way.batch * Model::pooled_floats, 0,
      [&](Context& c, const W& w, float* y) { Model::forward(c, w, ids.data(), y, y + contexts, saved); },
      [&]([[maybe_unused]] Context& c, [[maybe_unused]] const W& w, [[maybe_unused]] const W& g, const float* dy, float*) {
        if constexpr (Backward) Model::backward(c, w, g, saved, dy, dy + contexts);
      });
}

// Configurations that differ from the presets in kind.
namespace odd {

inline constexpr TransformerConfig one{.depth = 1};
inline constexpr TransformerConfig self_only{.depth = 2, .cross_attention = false};

// Four levels, three residual blocks up, keys apart from values, a number of heads: Stable Diffusion 1.5 made narrow.
inline constexpr UnetConfig narrow_sd15{.height = 16,
                                        .width = 8,
                                        .levels = 4,
                                        .stages = {StageConfig{.channels = 16,
                                                               .down_resnets = 2,
                                                               .up_resnets = 3,
                                                               .down_transformers = {one, one},
                                                               .up_transformers = {one, one, one}},
                                                   StageConfig{.channels = 32,
                                                               .down_resnets = 2,
                                                               .up_resnets = 3,
                                                               .down_transformers = {one, one},
                                                               .up_transformers = {one, one, one}},
                                                   StageConfig{.channels = 64,
                                                               .down_resnets = 2,
                                                               .up_resnets = 3,
                                                               .down_transformers = {one, one},
                                                               .up_transformers = {one, one, one}},
                                                   StageConfig{.channels = 64, .down_resnets = 2, .up_resnets = 3}},
                                        .middle = {.transformer = one},
                                        .attention = {.head_dim = 0, .heads = 2, .shared_kv = false},
                                        .feed_forward = {.ratio = 8, .activation = Activation::gelu},
                                        .context_length = 9,
                                        .context_width = 24,
                                        .groups = 8};

inline constexpr UnetConfig one_level{
    .height = 3,
    .width = 5,
    .latent_channels = 1,
    .input_channels = 4,
    .levels = 1,
    .stages = {StageConfig{.channels = 8, .down_transformers = {self_only}, .separable = {.conv1 = true}}},
    .middle = {.resnets = 1, .transformer = self_only},
    .attention = {.head_dim = 8, .linear_projections = true},
    .context_length = 3,
    .context_width = 8,
    .guidance_width = 6,
    .groups = 2};

inline constexpr UnetConfig no_middle{
    .height = 4,
    .width = 6,
    .latent_channels = 5,
    .levels = 2,
    .stages = {StageConfig{.channels = 8, .separable = {.conv2 = true}}, StageConfig{.channels = 24, .up_transformers = {one}}},
    .middle = {.resnets = 0},
    .attention = {.head_dim = 24, .kind = AttentionKind::relu, .projections = false},
    .context_length = 4,
    .context_width = 8,
    .time_width = 20,
    .groups = 4};

// The middle's transformer larger than any stage.
inline constexpr UnetConfig heavy_middle{.height = 8,
                                         .width = 8,
                                         .latent_channels = 2,
                                         .levels = 2,
                                         .stages = {StageConfig{.channels = 8}, StageConfig{.channels = 64}},
                                         .middle = {.resnets = 2, .transformer = {.depth = 3}},
                                         .attention = {.head_dim = 16, .projections = false, .position_embedding = true},
                                         .context_length = 70,
                                         .context_width = 16,
                                         .groups = 8};

inline constexpr VaeConfig plain_vae{.height = 16,
                                     .width = 8,
                                     .latent_channels = 2,
                                     .levels = 2,
                                     .encoder_channels = {8, 8},
                                     .decoder_channels = {8, 16},
                                     .encoder_resnets = 2,
                                     .decoder_resnets = 1,
                                     .middle = false,
                                     .middle_attention = false,
                                     .quant_conv = false,
                                     .groups = 4};
inline constexpr VaeConfig narrow_sd_vae{
    .height = 32, .width = 32, .encoder_channels = {8, 16, 32, 32}, .decoder_channels = {8, 16, 32, 32}, .groups = 8};
inline constexpr VaeConfig one_level_vae{.height = 12,
                                         .width = 4,
                                         .latent_channels = 1,
                                         .patch = 4,
                                         .levels = 1,
                                         .encoder_channels = {16},
                                         .decoder_channels = {24},
                                         .encoder_resnets = 1,
                                         .decoder_resnets = 1,
                                         .middle_attention = false,
                                         .quant_conv = true,
                                         .separable_samplers = true,
                                         .groups = 8};

// A decoder that is not built as its encoder is.
inline constexpr VaeConfig light_vae{.height = 16,
                                     .width = 8,
                                     .latent_channels = 2,
                                     .decoder_patch = 2,
                                     .levels = 3,
                                     .encoder_channels = {8, 8, 8},
                                     .decoder_channels = {8, 12},
                                     .encoder_resnets = 1,
                                     .decoder_resnets = 2,
                                     .decoder_middle = false,
                                     .decoder_separable = {.conv1 = true, .conv2 = true},
                                     .separable_samplers = true,
                                     .groups = 4,
                                     .decoder_norms = false};

inline constexpr VaeConfig narrow_taesd{.kind = VaeKind::autoencoder_tiny,
                                        .height = 16,
                                        .width = 32,
                                        .levels = 3,
                                        .encoder_channels = {8, 8, 8},
                                        .decoder_channels = {16, 16, 16},
                                        .encoder_resnets = 1,
                                        .decoder_resnets = 3,
                                        .middle = false,
                                        .middle_attention = false,
                                        .quant_conv = false,
                                        .groups = 0,
                                        .scaling_millionths = 1'000'000};

inline constexpr TextEncoderConfig wide_mlp{.vocabulary = 12,
                                            .length = 5,
                                            .width = 8,
                                            .layers = 1,
                                            .heads = 1,
                                            .mlp_ratio = 5,
                                            .activation = Activation::gelu,
                                            .causal = false};
inline constexpr TextEncoderConfig projected{
    .vocabulary = 12, .length = 5, .width = 16, .layers = 2, .heads = 2, .penultimate = true, .projection = 8};
inline constexpr TextEncoderConfig projected_last = [] {
  TextEncoderConfig c = projected;
  c.penultimate = false;
  return c;
}();
inline constexpr TextEncoderConfig penultimate = [] {
  TextEncoderConfig c = projected;
  c.projection = 0;
  return c;
}();

}  // namespace odd
}  // namespace model_tests
