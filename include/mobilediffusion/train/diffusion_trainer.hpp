// SPDX-License-Identifier: Apache-2.0
// Training of UNet and text encoder together on latents and captions: the base model.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "../core/random.hpp"
#include "../diffusion/schedule.hpp"
#include "../models/text_encoder.hpp"
#include "../models/unet.hpp"
#include "initialize.hpp"
#include "passes.hpp"

namespace mobilediffusion::train {

// What diffusion trains. The names are those of the model's file.
template <ModelConfig M>
struct DiffusionWeights {
  typename TextEncoder<M.text>::Weights text_encoder;
  typename Unet<M.unet>::Weights unet;
};

struct DiffusionOptions {
  OptimizerOptions optimizer{};
  std::size_t batch = 64, micro_batch = 16;  // a step has batch / micro_batch passes (Passes says how they use threads)
  float caption_dropout = 0.1f;              // share of samples that learn the unconditional model
  std::uint64_t seed = 1;
};

struct DiffusionReport {
  float loss = 0;
  std::array<float, 5> bands{};  // mean loss by time: below .25, .5, .75, .9, 1
  std::array<std::size_t, 5> band_samples{};
  StepReport step{};
};

template <ModelConfig M>
class DiffusionTrainer {
  static_assert(ValidModel<M>::value);
  using Text = TextEncoder<M.text>;
  using Net = Unet<M.unet>;
  static constexpr std::size_t latents = Net::latent_floats, length = M.text.length;

 public:
  TrainState<DiffusionWeights<M>> state;

  DiffusionTrainer(const Executor& ex, DiffusionOptions options)
      : ex_(ex), options_(checked(options)), passes_(ex, options.batch / options.micro_batch, stack_floats(options.micro_batch)) {
    initialize(state.weights, options.seed);
    state.start_average();
  }

  // pictures[i]: the latents of sample i, unit variance; ids [batch][length]; unconditional [length]: tokens of no caption.
  // Times, noise and dropped captions depend on the seed, the step and the place in the batch only.
  DiffusionReport step(std::span<const float* const> pictures, const std::int32_t* ids, const std::int32_t* unconditional) {
    DiffusionReport report = gradients(pictures, ids, unconditional);
    report.step = state.update(ex_, options_.optimizer);
    return report;
  }

  // The loss that the next step would see and its gradient in state.gradients; changes nothing else.
  DiffusionReport gradients(std::span<const float* const> pictures, const std::int32_t* ids, const std::int32_t* unconditional) {
    if (pictures.size() != options_.batch) throw Error("training: expected as many latents as the batch has samples");
    std::vector<Losses> losses(options_.batch / options_.micro_batch);
    passes_.run(state, [&](std::size_t i, const Executor& ex, Stack& stack, DiffusionWeights<M>& gradients) {
      losses[i] = pass(pictures, ids, unconditional, i * options_.micro_batch, ex, stack, gradients);
    });
    DiffusionReport report;
    double total = 0;
    std::array<double, 5> sums{};
    for (const Losses& l : losses)
      for (std::size_t k = 0; k < 5; ++k) {
        total += l.sums[k];
        sums[k] += l.sums[k];
        report.band_samples[k] += l.samples[k];
      }
    report.loss = static_cast<float>(total / static_cast<double>(options_.batch));
    for (std::size_t i = 0; i < 5; ++i)
      report.bands[i] =
          report.band_samples[i] != 0 ? static_cast<float>(sums[i] / static_cast<double>(report.band_samples[i])) : 0.0f;
    return report;
  }

 private:
  static constexpr std::size_t stack_floats(std::size_t n) {
    return Text::stack_floats(Plan::training, n) + Net::stack_floats(Plan::training, n) +
           4 * Net::stack_floats(Plan::inference, n) + 4 * Text::stack_floats(Plan::inference, n) +
           8 * n * (latents + Text::context_floats) + (std::size_t{1} << 22);
  }

  static DiffusionOptions checked(DiffusionOptions options) {
    if (options.batch == 0 || options.micro_batch == 0 || options.batch % options.micro_batch != 0)
      throw Error("training: the batch must be a multiple of the micro-batch, both at least 1");
    return options;
  }

  struct Losses {  // of one pass, by band of time
    std::array<double, 5> sums{};
    std::array<std::size_t, 5> samples{};
  };

  // Forward and backward of samples first to first + micro_batch.
  Losses pass(std::span<const float* const> pictures, const std::int32_t* ids, const std::int32_t* unconditional,
              std::size_t first, const Executor& ex, Stack& stack, DiffusionWeights<M>& gradients) const {
    const std::size_t n = options_.micro_batch;
    Losses losses;
    Context c{ex, stack, n, false};
    std::vector<std::int32_t> tokens(n * length);
    std::vector<float> times(n);
    std::vector<NoiseLevel> levels(n);
    float *z = stack.take(n * latents), *goal = stack.take(n * latents), *steps = stack.take(n);
    const float shift = static_cast<float>(M.sampler.shift_percent) * 0.01f;
    for (std::size_t i = 0; i < n; ++i) {
      Random draw(options_.seed, 0x100000000u + state.step * options_.batch + first + i);
      // Stratified over the batch: every step sees all of [0, 1).
      const float place = (static_cast<float>(first + i) + draw.uniform()) / static_cast<float>(options_.batch);
      times[i] = shifted(place, shift);
      const bool dropped = draw.uniform() < options_.caption_dropout;
      levels[i] = noise_level(M.sampler.schedule, times[i]);
      steps[i] = timestep(M.sampler.schedule, times[i]);
      std::copy_n(dropped ? unconditional : ids + (first + i) * length, length,
                  tokens.begin() + static_cast<std::ptrdiff_t>(i * length));
    }
    ex.parallel_for(n, 1, [&](std::size_t begin, std::size_t end, int) {
      for (std::size_t i = begin; i < end; ++i) {
        float* eps = goal + i * latents;  // becomes the target in place
        Random(options_.seed, 0x100000000u + state.step * options_.batch + first + i).normals({eps, latents});
        const float* x = pictures[first + i];
        for (std::size_t j = 0; j < latents; ++j) {
          z[i * latents + j] = levels[i].alpha * x[j] + levels[i].sigma * eps[j];
          eps[j] = target(M.sampler.prediction, levels[i], x[j], eps[j]);
        }
      }
    });

    float* context = stack.take(n * Text::context_floats);
    float* pooled = M.text.pooled > 0 ? stack.take(n * Text::pooled_floats) : nullptr;
    typename Text::Saved text{};
    typename Net::Saved net{};
    Text::forward(c, state.weights.text_encoder, tokens.data(), context, pooled, text);
    float* y = stack.take(n * latents);
    Net::forward(c, state.weights.unet, z, steps, context, pooled, y, net);
    stack.keep(false);

    // Mean squared error over the whole batch; y becomes its gradient.
    const float unit = 2.0f / static_cast<float>(options_.batch * latents);
    for (std::size_t i = 0; i < n; ++i) {
      double sum = 0;
      for (std::size_t j = i * latents; j < (i + 1) * latents; ++j) {
        const float e = y[j] - goal[j];
        sum += static_cast<double>(e) * static_cast<double>(e);
        y[j] = unit * e;
      }
      sum /= static_cast<double>(latents);
      const std::size_t band = times[i] < 0.25f ? 0 : times[i] < 0.5f ? 1 : times[i] < 0.75f ? 2 : times[i] < 0.9f ? 3 : 4;
      losses.sums[band] += sum;
      ++losses.samples[band];
    }
    float* d_context = stack.take_zeroed(n * Text::context_floats);
    float* d_pooled = M.text.pooled > 0 ? stack.take_zeroed(n * Text::pooled_floats) : nullptr;
    Net::backward(c, state.weights.unet, gradients.unet, net, y, nullptr, d_context, d_pooled);
    Text::backward(c, state.weights.text_encoder, gradients.text_encoder, text, d_context, d_pooled);
    return losses;
  }

  const Executor& ex_;
  DiffusionOptions options_;
  Passes<DiffusionWeights<M>> passes_;
};

}  // namespace mobilediffusion::train
