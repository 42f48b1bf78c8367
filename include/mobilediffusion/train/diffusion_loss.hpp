// SPDX-License-Identifier: Apache-2.0
// The loss of a diffusion model on some samples of a batch, forward and backward: what training it and adapting it share.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "../core/random.hpp"
#include "../diffusion/sampler.hpp"
#include "../models/text_encoder.hpp"
#include "../models/unet.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train {

// What diffusion trains. The names are those of the model's file.
template <ModelConfig M>
struct DiffusionWeights {
  static_assert(!is_present(M.text_2), "mobilediffusion: training knows of one text encoder; set `text_2.layers` to 0");
  typename TextEncoder<M.text>::Weights text_encoder;
  typename Unet<M.unet>::Weights unet;
};

// What a step learns from.
struct DiffusionBatch {
  std::span<const float* const> pictures;   // the latents of every sample, unit variance
  const std::int32_t *ids, *unconditional;  // [batch][length]; [length]: tokens of no caption
  std::size_t step;                         // done before this one
  std::uint64_t seed;
  float caption_dropout, noise_share;  // shares of samples without their caption, and that are noise alone
};

struct DiffusionLosses {
  std::vector<double> samples;  // mean squared error of each
  std::vector<float> times;
};

// Of the stack, for n samples.
template <ModelConfig M>
constexpr std::size_t diffusion_stack_floats(std::size_t n) {
  using Text = TextEncoder<M.text>;
  using Net = Unet<M.unet>;
  Planned p{Plan::training};
  p.take(n * Net::latent_floats)
      .take(n * Net::latent_floats)
      .take(n)
      .take(n * Text::context_floats)
      .take(n * Text::pooled_floats);
  p.part(Text::stack_floats(Plan::training, n)).take(n * Net::latent_floats).part(Net::stack_floats(Plan::training, n));
  p.plan = Plan::inference;  // the way back keeps nothing
  p.take(n * Text::context_floats).take(n * Text::pooled_floats);
  return p.part(Net::backward_floats(n)).part(Text::backward_floats(n)).peak;
}

// Mean squared error of what the network puts out for samples first to first + n; gradients, zero before, are those of the mean
// over the whole batch, the text encoder's only where trains_text. The stack is empty and keeps. Times, noise and dropped
// captions depend on the seed, the step and the place in the batch only.
template <ModelConfig M>
DiffusionLosses diffusion_loss(const DiffusionBatch& batch, std::size_t first, std::size_t n, const Executor& ex, Stack& stack,
                               const DiffusionWeights<M>& weights, DiffusionWeights<M>& gradients, bool trains_text = true) {
  using Text = TextEncoder<M.text>;
  using Net = Unet<M.unet>;
  constexpr std::size_t latents = Net::latent_floats, length = M.text.length;
  struct Noise {
    NoiseLevel level, input;
  };
  const std::size_t size = batch.pictures.size();
  const auto random = [&](std::size_t i) { return Random(batch.seed, 0x100000000u + batch.step * size + first + i); };
  Context c{ex, stack, n, false};
  DiffusionLosses losses{.samples = std::vector<double>(n), .times = std::vector<float>(n)};
  std::vector<std::int32_t> tokens(n * length);
  std::vector<Noise> noise(n);
  float *z = stack.take(n * latents), *goal = stack.take(n * latents), *steps = stack.take(n);
  const float shift = static_cast<float>(M.sampler.shift_percent) * 0.01f;
  for (std::size_t i = 0; i < n; ++i) {
    Random draw = random(i);
    // Stratified over the batch: every step sees all of [0, 1).
    const float place = (static_cast<float>(first + i) + draw.uniform()) / static_cast<float>(size);
    const bool dropped = draw.uniform() < batch.caption_dropout, noise_alone = draw.uniform() < batch.noise_share;
    const float t = noise_alone ? 1.0f : shifted(place, shift);
    losses.times[i] = t;
    noise[i].level = noise_level(M.sampler.schedule, t);
    // As the sampler begins, also where the schedule leaves something of the picture at t = 1.
    noise[i].input = noise_alone ? NoiseLevel{0, 1} : noise[i].level;
    steps[i] = timestep(M.sampler.schedule, t);
    std::copy_n(dropped ? batch.unconditional : batch.ids + (first + i) * length, length,
                tokens.begin() + static_cast<std::ptrdiff_t>(i * length));
  }
  ex.parallel_for(n, 1, [&](std::size_t begin, std::size_t end, int) {
    for (std::size_t i = begin; i < end; ++i) {
      float* eps = goal + i * latents;  // becomes the target in place
      random(i).normals({eps, latents});
      const float* x = batch.pictures[first + i];
      const NoiseLevel level = noise[i].level;
      add_noise(noise[i].input, x, eps, z + i * latents, latents);
      for (std::size_t j = 0; j < latents; ++j) eps[j] = target(M.sampler.prediction, level, x[j], eps[j]);
    }
  });

  float* context = stack.take(n * Text::context_floats);
  float* pooled = Text::pooled_floats > 0 ? stack.take(n * Text::pooled_floats) : nullptr;
  typename Text::Saved text{};
  typename Net::Saved net{};
  Text::forward(c, weights.text_encoder, tokens.data(), context, pooled, text);
  float* y = stack.take(n * latents);
  Net::forward(c, weights.unet, z, steps, {context, pooled, length}, y, net);
  stack.keep(false);

  // y becomes the gradient.
  const float unit = 2.0f / static_cast<float>(size * latents);
  for (std::size_t i = 0; i < n; ++i) {
    double sum = 0;
    for (std::size_t j = i * latents; j < (i + 1) * latents; ++j) {
      const float e = y[j] - goal[j];
      sum += static_cast<double>(e) * static_cast<double>(e);
      y[j] = unit * e;
    }
    losses.samples[i] = sum / static_cast<double>(latents);
  }
  float* d_context = stack.take_zeroed(n * Text::context_floats);
  float* d_pooled = Text::pooled_floats > 0 ? stack.take_zeroed(n * Text::pooled_floats) : nullptr;
  Net::backward(c, weights.unet, gradients.unet, net, y, nullptr, {d_context, d_pooled});
  if (trains_text) Text::backward(c, weights.text_encoder, gradients.text_encoder, text, d_context, d_pooled);
  return losses;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train

#include "../core/end.hpp"
