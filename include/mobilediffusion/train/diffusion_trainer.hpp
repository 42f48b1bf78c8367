// SPDX-License-Identifier: Apache-2.0
// Training of UNet and text encoder together on latents and captions: the base model.
#pragma once

#include "../core/begin.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "diffusion_loss.hpp"
#include "initialize.hpp"
#include "passes.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train {

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

 public:
  TrainState<DiffusionWeights<M>> state;

  DiffusionTrainer(std::reference_wrapper<const Executor> ex, DiffusionOptions options)
      : ex_(ex),
        options_(checked(options)),
        passes_(ex, options.batch / options.micro_batch, diffusion_stack_floats<M>(options.micro_batch)) {
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
    const DiffusionBatch batch{pictures, ids, unconditional, state.step, options_.seed, options_.caption_dropout, 0.0f};
    const std::size_t n = options_.micro_batch;
    std::vector<DiffusionLosses> losses(options_.batch / n);
    passes_.run(state, [&](std::size_t i, const Executor& ex, Stack& stack, DiffusionWeights<M>& gradients) {
      losses[i] = diffusion_loss<M>(batch, i * n, n, ex, stack, state.weights, gradients);
    });
    DiffusionReport report;
    double total = 0;
    std::array<double, 5> sums{};
    for (const DiffusionLosses& l : losses) {
      std::array<double, 5> bands{};
      for (std::size_t i = 0; i < n; ++i) {
        const float t = l.times[i];
        const std::size_t band = t < 0.25f ? 0 : t < 0.5f ? 1 : t < 0.75f ? 2 : t < 0.9f ? 3 : 4;
        bands[band] += l.samples[i];
        ++report.band_samples[band];
      }
      for (std::size_t k = 0; k < 5; ++k) {
        total += bands[k];
        sums[k] += bands[k];
      }
    }
    report.loss = static_cast<float>(total / static_cast<double>(options_.batch));
    for (std::size_t i = 0; i < 5; ++i)
      report.bands[i] =
          report.band_samples[i] != 0 ? static_cast<float>(sums[i] / static_cast<double>(report.band_samples[i])) : 0.0f;
    return report;
  }

 private:
  static DiffusionOptions checked(DiffusionOptions options) {
    if (options.batch == 0 || options.micro_batch == 0 || options.batch % options.micro_batch != 0)
      throw Error("training: the batch must be a multiple of the micro-batch, both at least 1");
    return options;
  }

  const Executor& ex_;
  DiffusionOptions options_;
  Passes<DiffusionWeights<M>> passes_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train

#include "../core/end.hpp"
