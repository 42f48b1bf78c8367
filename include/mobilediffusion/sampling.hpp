// SPDX-License-Identifier: Apache-2.0
// Captions to latents: text encoder once, then UNet and sampler step by step, with classifier-free guidance in one batch.
#pragma once

#include "core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "config/validate.hpp"
#include "core/random.hpp"
#include "diffusion/sampler.hpp"
#include "models/text_encoder.hpp"
#include "models/unet.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// What a generation call reports after each step: on_step(Progress). A callback that returns false cancels; one that returns
// nothing never does.
struct Progress {
  std::size_t step = 0, steps = 0;
};

namespace detail {
template <class OnStep>
bool goes_on(OnStep& on_step, Progress progress) {
  constexpr bool callable = std::is_invocable_v<OnStep&, Progress>;
  static_assert(
      callable,
      "mobilediffusion: on_step is called with a Progress; let it take one by value, as in [](mobilediffusion::Progress p) {}");
  if constexpr (callable) {
    using Result = std::invoke_result_t<OnStep&, Progress>;
    constexpr bool answers = std::is_void_v<Result> || std::is_convertible_v<Result, bool>;
    static_assert(answers, "mobilediffusion: on_step returns whether to go on; let it return bool, or nothing");
    if constexpr (std::is_void_v<Result>) on_step(progress);
    else if constexpr (answers) return on_step(progress);
  }
  return true;
}
}  // namespace detail

// Pictures that sampling starts from instead of noise alone (Meng et al., arXiv 2108.01073, SDEdit), and what stays of them.
struct SamplingSource {
  const float* pictures = nullptr;  // latents [batch][pixels][channels]; null: none
  // In (0, 1]: of the times from noise to picture, the share that is sampled; the number of steps shrinks with it, to no less
  // than one. At 1 nothing of the pictures is left but what the schedule leaves in its last noise.
  float strength = 1.0f;
  // [batch][pixels] in [0, 1]; 1: painted anew; 0: kept. After every step what is kept comes from `pictures`, with the noise of
  // that step's time. Null: everything is painted.
  const float* painted = nullptr;
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

  // How many of the steps are taken.
  static std::size_t steps_from(float strength, std::size_t steps) {
    return std::max<std::size_t>(1, static_cast<std::size_t>(std::lround(strength * static_cast<float>(steps))));
  }

  // within: batch captions. ids [2 * batch][length]: the captions, then what guidance leads away from (the second half is not
  // read without guidance). z [batch][latents] receives the latents of caption i with the noise of seeds[i]; noise that is added
  // later is drawn from the same seed, a stream for each step. Allocates nothing. False: cancelled.
  template <class OnStep>
  static bool run(const Context& within, const typename Text::Weights& text, const typename Net::Weights& net,
                  const std::int32_t* ids, const std::uint64_t* seeds, const SamplingOptions& options,
                  const SamplingSource& source, float* z, OnStep&& on_step) {
    const SamplerKind kind = options.kind;
    const float guidance = options.guidance;
    const std::size_t steps = steps_from(source.strength, options.steps);
    Stack& stack = within.stack;
    const std::size_t count = within.batch;
    const bool guided = is_guided(guidance);
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
    const auto time = [&](std::size_t step) {
      if (source.strength == 1.0f) return step_time(step, steps, shift);
      return shifted(source.strength * (1.0f - static_cast<float>(step) / static_cast<float>(steps)), shift);
    };
    for (std::size_t i = 0; i < count; ++i) Random(seeds[i], 0).normals({z + i * latents, latents});
    if (source.pictures != nullptr) add_noise(noise_level(M.sampler.schedule, time(0)), source.pictures, z, z, floats);
    typename Net::Saved saved{};
    for (std::size_t step = 0; step < steps; ++step) {
      const float from = time(step), to = time(step + 1);
      std::fill_n(times, n, timestep(M.sampler.schedule, from));
      std::copy_n(z, floats, input);
      if (guided) std::copy_n(z, floats, input + floats);
      Net::forward(c, net, input, times, {context, pooled}, output, saved);
      if (guided) guide(output + floats, output, guidance, output, floats);
      const NoiseLevel before = noise_level(M.sampler.schedule, from), after = noise_level(M.sampler.schedule, to);
      switch (kind) {
        case SamplerKind::ddim: {
          ddim_step(M.sampler.prediction, before, after, output, z, floats);
          if (source.painted != nullptr) {  // with the noise that sampling began with: the one that this path has
            for (std::size_t i = 0; i < count; ++i) Random(seeds[i], 0).normals({input + i * latents, latents});
            add_noise(after, source.pictures, input, input, floats);
            keep(source.painted, input, z, floats);
          }
          break;
        }
        case SamplerKind::renoise: {
          picture_of(M.sampler.prediction, before, z, output, floats);
          if (source.painted != nullptr) keep(source.painted, source.pictures, output, floats);
          if (step + 1 == steps) std::copy_n(output, floats, z);
          for (std::size_t i = 0; i < count && step + 1 < steps; ++i) {
            float* noise = z + i * latents;  // the old z is used up
            Random(seeds[i], step + 1).normals({noise, latents});
            add_noise(after, output + i * latents, noise, noise, latents);
          }
          break;
        }
      }
      if (!detail::goes_on(on_step, Progress{step + 1, steps})) return false;
    }
    return true;
  }
  template <class OnStep>
  static bool run(const Context& within, const typename Text::Weights& text, const typename Net::Weights& net,
                  const std::int32_t* ids, const std::uint64_t* seeds, const SamplingOptions& options, float* z,
                  OnStep&& on_step) {
    return run(within, text, net, ids, seeds, options, SamplingSource{}, z, on_step);
  }

 private:
  // z = (1 - painted) kept + painted z, painted [pixels] for z [pixels][channels]; exact where painted is 0 or 1.
  static void keep(const float* painted, const float* kept, float* z, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      const float p = painted[i / M.unet.latent_channels];
      z[i] = (1.0f - p) * kept[i] + p * z[i];
    }
  }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
