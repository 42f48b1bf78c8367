// SPDX-License-Identifier: Apache-2.0
// Captions to latents: text encoder once, then UNet and sampler step by step, with classifier-free guidance in one batch.
#pragma once

#include <algorithm>
#include <cstdint>

#include "config/validate.hpp"
#include "core/random.hpp"
#include "diffusion/sampler.hpp"
#include "models/text_encoder.hpp"
#include "models/unet.hpp"

namespace mobilediffusion {

// What a generation call reports after each step; returning false from the callback cancels.
struct Progress {
  std::size_t step = 0, steps = 0;
};

template <ModelConfig M>
struct Sampling {
  static_assert(ValidModel<M>::value);
  using Text = TextEncoder<M.text>;
  using Net = Unet<M.unet>;
  static constexpr std::size_t latents = Net::latent_floats;

  // For `count` captions with guidance (twice that many passes in a batch).
  static constexpr std::size_t stack_floats(std::size_t count) {
    const std::size_t n = 2 * count;
    return aligned(n * Text::context_floats) + (M.text.pooled > 0 ? aligned(n * Text::pooled_floats) : 0) + aligned(n) +
           2 * aligned(n * latents) + std::max(Text::stack_floats(Plan::inference, n), Net::stack_floats(Plan::inference, n));
  }

  // What the configuration asks for.
  static constexpr SamplingOptions defaults{.steps = M.sampler.steps,
                                            .guidance = static_cast<float>(M.sampler.guidance_percent) * 0.01f};

  // within: batch captions. ids [2 * batch][length]: the captions, then what guidance leads away from (the second half is not
  // read at guidance 1). z [batch][latents] receives the latents of caption i with the noise of seeds[i]; noise that is added
  // later is drawn from the same seed, a stream for each step. Allocates nothing. False: cancelled.
  template <class OnStep>
  static bool run(const Context& within, const typename Text::Weights& text, const typename Net::Weights& net,
                  const std::int32_t* ids, const std::uint64_t* seeds, const SamplingOptions& options, float* z,
                  OnStep&& on_step) {
    const auto [kind, steps, guidance] = options;
    Stack& stack = within.stack;
    const std::size_t count = within.batch;
    const bool guided = guidance != 1.0f;
    const std::size_t n = guided ? 2 * count : count, floats = count * latents;
    const float shift = static_cast<float>(M.sampler.shift_percent) * 0.01f;
    Scope scope(stack);
    Context c = within;
    c.batch = n;
    float* context = stack.take(n * Text::context_floats);
    float* pooled = M.text.pooled > 0 ? stack.take(n * Text::pooled_floats) : nullptr;
    float *times = stack.take(n), *input = stack.take(n * latents), *output = stack.take(n * latents);
    typename Text::Saved text_saved{};
    Text::forward(c, text, ids, context, pooled, text_saved);
    for (std::size_t i = 0; i < count; ++i) Random(seeds[i], 0).normals({z + i * latents, latents});
    typename Net::Saved saved{};
    for (std::size_t step = 0; step < steps; ++step) {
      const float from = step_time(step, steps, shift), to = step_time(step + 1, steps, shift);
      std::fill_n(times, n, timestep(M.sampler.schedule, from));
      std::copy_n(z, floats, input);
      if (guided) std::copy_n(z, floats, input + floats);
      Net::forward(c, net, input, times, context, pooled, output, saved);
      if (guided) guide(output + floats, output, guidance, output, floats);
      const NoiseLevel before = noise_level(M.sampler.schedule, from), after = noise_level(M.sampler.schedule, to);
      if (kind == SamplerKind::ddim) {
        ddim_step(M.sampler.prediction, before, after, output, z, floats);
      } else {
        picture_of(M.sampler.prediction, before, z, output, floats);
        if (step + 1 == steps) std::copy_n(output, floats, z);
        for (std::size_t i = 0; i < count && step + 1 < steps; ++i) {
          float* noise = z + i * latents;  // the old z is used up
          Random(seeds[i], step + 1).normals({noise, latents});
          add_noise(after, output + i * latents, noise, noise, latents);
        }
      }
      if (!on_step(Progress{step + 1, steps})) return false;
    }
    return true;
  }
  // With DDIM.
  template <class OnStep>
  static bool run(const Context& within, const typename Text::Weights& text, const typename Net::Weights& net,
                  const std::int32_t* ids, const std::uint64_t* seeds, std::size_t steps, float guidance, float* z,
                  OnStep&& on_step) {
    return run(within, text, net, ids, seeds, {.steps = steps, .guidance = guidance}, z, on_step);
  }
};

}  // namespace mobilediffusion
