// SPDX-License-Identifier: Apache-2.0
// Captions to latents: text encoders once, then UNet and sampler step by step, with classifier-free guidance in one batch.
#pragma once

#include "core/begin.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <type_traits>

#include "config/validate.hpp"
#include "core/random.hpp"
#include "core/torch_random.hpp"
#include "diffusion/samplers.hpp"
#include "models/text_encoder.hpp"
#include "models/unet.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// What a generation call reports after each step: on_step(Progress). A callback that returns false cancels; one that returns
// nothing never does.
struct Progress {
  std::size_t step = 0, steps = 0;
  // [pictures][height][width][channels]; valid during the call. What sampling has come to, and the pictures that the network sees
  // in it: those a preview decodes.
  std::span<const float> latents{}, estimate{};
  std::size_t first = 0, pictures = 1;  // which of a list of requests they are
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

// Where the normals of a batch come from.
struct NoiseSource {
  const std::uint64_t* seeds = nullptr;  // [batch]: counted from each seed, a stream for each step
  std::span<TorchNormals> torch{};       // [batch]: as PyTorch's generator gives them instead; goes on with it
  // [batch], or empty: these [pixels][channels] are a picture's first normals; null: as above.
  std::span<const float* const> initial{};
};

// Pictures that sampling starts from instead of noise alone (Meng et al., arXiv 2108.01073, SDEdit), and what stays of them.
struct SamplingSource {
  const float* pictures = nullptr;  // latents [batch][pixels][channels]; null: none
  // In (0, 1]: of the times from noise to picture, the share that is sampled; the number of steps shrinks with it, to no less
  // than one. At 1 nothing of the pictures is left but what the schedule leaves in its last noise, and where some of it is
  // painted anew, not even that.
  float strength = 1.0f;
  // [batch][pixels] in [0, 1]; 1: painted anew; 0: kept. After every step what is kept comes from `pictures`, with the noise of
  // that step's time. Null: everything is painted.
  const float* painted = nullptr;
  // [batch][pixels][channels besides the latents], for a UNet that reads such: an inpainting model's mask and masked picture.
  const float* beside = nullptr;
};

// Captions of a batch as the text encoder reads them.
struct Captions {
  const std::int32_t* ids = nullptr;  // [batch][chunks][length]: the chunks of a caption are encoded apart
  const float* weights = nullptr;     // likewise: what each token's state is multiplied by; null: nothing is
  std::size_t chunks = 1;
  std::size_t clip_skip = 0;  // the text encoders' last layers that are left out
};

template <ModelConfig M>
struct Sampling {
  static_assert(ValidModel<M>::value);
  using Text = TextEncoder<M.text>;
  static constexpr bool two_texts = is_present(M.text_2);
  using Text2 = TextEncoder<two_texts ? M.text_2 : M.text>;
  using Net = Unet<M.unet>;
  static constexpr std::size_t latents = Net::latent_floats, most_chunks = M.unet.context_length / M.text.length;
  static constexpr std::size_t most_clip_skip = std::min(Text::most_clip_skip, Text2::most_clip_skip);
  // Guidance is an input of the UNet, which was distilled for it, instead of a second pass (LCM, arXiv 2310.04378).
  static constexpr bool embeds_guidance = M.unet.guidance_width != 0;

  // Whether the UNet also sees what guidance leads away from.
  static constexpr bool takes_two_passes(float guidance) { return !embeds_guidance && is_guided(guidance); }

  static constexpr std::size_t text_macs = Text::macs + (two_texts ? Text2::macs : 0);
  // What the text encoders make of `n` captions.
  static constexpr std::size_t conditioning_floats(std::size_t n) {
    const std::size_t context = Net::context_floats, pooled = M.unet.pooled_width * (two_texts ? 1 : most_chunks);
    return aligned(n * context) + (pooled > 0 ? aligned(n * pooled) : 0);
  }
  // What that takes besides. Two text encoders read one caption after the other.
  static constexpr std::size_t encode_floats(std::size_t n) {
    if constexpr (two_texts)
      return aligned(Text::context_floats) + aligned(Text2::context_floats) +
             std::max(Text::stack_floats(Plan::inference, 1), Text2::stack_floats(Plan::inference, 1));
    else return Text::stack_floats(Plan::inference, n * most_chunks);
  }
  // What drawing `count` pictures holds on to, beside conditioning and what a pass of the UNet takes. Twice as many passes in a
  // batch under guidance.
  static constexpr std::size_t state_floats(std::size_t count) {
    const std::size_t n = 2 * count;
    return (embeds_guidance ? 2 : 1) * aligned(n) + 2 * aligned(n * latents) + aligned(n * Net::beside_floats) +
           (2 + remembered_by_any) * aligned(count * latents);
  }
  // For `count` captions with guidance, conditioning included.
  static constexpr std::size_t stack_floats(std::size_t count) {
    const std::size_t n = 2 * count;
    return conditioning_floats(n) + std::max(encode_floats(n), state_floats(count) + Net::stack_floats(Plan::inference, n));
  }

  // What the configuration asks for. Latent consistency models are drawn with their own sampler.
  static constexpr SamplingOptions defaults{.sampler = embeds_guidance ? Sampler(Lcm{}) : Sampler(Ddim{}),
                                            .steps = M.sampler.steps,
                                            .guidance = static_cast<float>(M.sampler.guidance_percent) * 0.01f};

  static Course course(const SamplingOptions& o, float strength) {
    return {o.steps, strength, static_cast<float>(M.sampler.shift_percent) * 0.01f};
  }

  // within: batch captions. Contexts of a caption's chunks follow each other; what is pooled is the first one's. The result is on
  // the stack, until the caller's Scope gives it back.
  static Conditioning encode(const Context& within, const typename Text::Weights& text,
                             const Captions& captions) requires(!two_texts) {
    Context c = within;
    c.batch *= captions.chunks;
    float* context = c.stack.take(c.batch * Text::context_floats);
    float* pooled = Text::pooled_floats > 0 ? c.stack.take(c.batch * Text::pooled_floats) : nullptr;
    typename Text::Saved saved{};
    Text::forward(c, text, captions.ids, context, pooled, saved, captions.clip_skip);
    for (std::size_t i = 0; captions.weights != nullptr && i < c.batch; ++i)
      weigh_tokens<M.text.width>(captions.weights + i * M.text.length, context + i * Text::context_floats);
    for (std::size_t i = 1; captions.chunks > 1 && i < within.batch; ++i)
      std::copy_n(pooled + i * captions.chunks * Text::pooled_floats, Text::pooled_floats, pooled + i * Text::pooled_floats);
    return {context, pooled, captions.chunks * M.text.length};
  }
  // The same by two text encoders: both contexts side by side, the second's projection, and the sizes of a picture that was never
  // scaled or cropped. Both have one vocabulary; the second's chunks are filled up with the token 0, "!", which a prompt's own
  // "!" is not, as in the models' training (diffusers' second tokenizer takes it for the filler). Of captions from number
  // `zeros_from` on, those without a word have zeros for both (force_zeros_for_empty_prompt in a folder's model_index.json).
  static Conditioning encode(const Context& within, const typename Text::Weights& text,
                             const TextEncoderWeights<M.text_2>& text_2, const Captions& captions,
                             std::size_t zeros_from) requires(two_texts) {
    constexpr std::size_t length = M.text.length, floats = length * M.unet.context_width, width = M.unet.pooled_width;
    const std::size_t chunks = captions.chunks;
    Context c = within;
    float *context = c.stack.take(c.batch * chunks * floats), *pooled = c.stack.take(c.batch * width);
    Scope scope(c.stack);
    c.batch = 1;
    float *first = c.stack.take(Text::context_floats), *second = c.stack.take(Text2::context_floats);
    constexpr auto h = static_cast<float>(M.vae.height), w = static_cast<float>(M.vae.width);
    constexpr std::array<float, picture_sizes> sizes{h, w, 0, 0, h, w};
    for (std::size_t b = 0; b < within.batch; ++b) {
      const std::int32_t* const caption = captions.ids + b * chunks * length;
      float* const row = pooled + b * width;
      kernels::timestep_embedding(sizes.data(), picture_sizes, size_sinusoids, row + M.text_2.projection);
      bool empty = true;
      for (std::size_t k = 0; k < chunks; ++k) empty = empty && Text::end_of(caption + k * length) <= 1;
      if (b >= zeros_from && empty) {
        std::fill_n(context + b * chunks * floats, chunks * floats, 0.0f);
        std::fill_n(row, M.text_2.projection, 0.0f);
        continue;
      }
      for (std::size_t k = 0; k < chunks; ++k) {
        const std::int32_t* const ids = caption + k * length;
        std::array<std::int32_t, length> ids_2{};
        std::copy_n(ids, Text::end_of(ids) + 1, ids_2.begin());
        std::array<float, M.text_2.projection> unread;  // what later chunks project
        typename Text::Saved saved{};
        Text::forward(c, text, ids, first, nullptr, saved, captions.clip_skip);
        typename Text2::Saved saved_2{};
        Text2::forward(c, text_2, ids_2.data(), second, k == 0 ? row : unread.data(), saved_2, captions.clip_skip);
        const std::size_t n = b * chunks + k;
        if (captions.weights != nullptr) {
          weigh_tokens<M.text.width>(captions.weights + n * length, first);
          weigh_tokens<M.text_2.width>(captions.weights + n * length, second);
        }
        kernels::concat_channels(c.executor, first, M.text.width, second, M.text_2.width, context + n * floats, length);
      }
    }
    return {context, pooled, chunks * length};
  }

  // within: batch pictures. text: of the captions, then (if it takes two passes) of what guidance leads away from.
  // z [batch][latents] receives the latents. Allocates nothing. False: cancelled. Throws Error for a course that the sampler
  // cannot take.
  template <class OnStep>
  static bool sample(const Context& within, const typename Net::Weights& net, const Conditioning& text,
                     const NoiseSchedule& schedule, const NoiseSource& noise, const SamplingOptions& options,
                     const SamplingSource& source, float* z, OnStep&& on_step) {
    const Sampler& sampler = options.sampler;
    const Course course = Sampling::course(options, source.strength);
    check_course(sampler, course);
    constexpr Prediction prediction = M.sampler.prediction;
    const float guidance = options.guidance;
    Stack& stack = within.stack;
    const std::size_t count = within.batch, floats = count * latents;
    const bool guided = takes_two_passes(guidance);
    const std::size_t n = guided ? 2 * count : count;
    Scope scope(stack);
    Context c = within;
    c.batch = n;
    float *times = stack.take(n), *input = stack.take(n * latents), *output = stack.take(n * latents);
    float *first = stack.take(floats), *estimate = stack.take(floats), *memory = stack.take(remembered_by_any * floats);
    Conditioning conditioning = text;
    if constexpr (embeds_guidance) {
      float* each = stack.take(n);
      std::fill_n(each, n, std::max(guidance, 1.0f));
      conditioning.guidance = each;
    }
    if constexpr (Net::beside_floats > 0) {
      float* beside = stack.take(n * Net::beside_floats);
      for (std::size_t half = 0; half < n; half += count)
        std::copy_n(source.beside, count * Net::beside_floats, beside + half * Net::beside_floats);
      conditioning.beside = beside;
    }
    const auto draw = [&](float* into, std::uint64_t stream) {
      for (std::size_t i = 0; i < count; ++i) {
        const std::span<float> normals{into + i * latents, latents};
        const bool given = stream == 0 && !noise.initial.empty() && noise.initial[i] != nullptr;
        if (given) std::copy_n(noise.initial[i], latents, normals.data());
        else if (noise.torch.empty()) Random(noise.seeds[i], stream).normals(normals);
        else noise.torch[i].normals(normals.data(), M.unet.latent_channels, latents / M.unet.latent_channels);
      }
    };
    draw(first, 0);
    // As diffusers: what is painted anew from noise alone sees nothing of the picture, though the schedule would leave some of
    // it.
    if (source.pictures != nullptr && !(source.painted != nullptr && source.strength == 1.0f)) {
      add_noise(start_of(sampler, schedule, course), source.pictures, first, z, floats);
    } else {
      const auto scale = static_cast<float>(noise_scale(sampler, schedule, course));
      for (std::size_t i = 0; i < floats; ++i) z[i] = scale * first[i];
    }
    typename Net::Saved saved{};
    const std::size_t steps = passes(sampler, course);
    for (std::size_t step = 0; step < steps; ++step) {
      const SamplingStep at = step_at(sampler, schedule, course, step);
      std::fill_n(times, n, at.time);
      std::copy_n(z, floats, input);
      if (guided) std::copy_n(z, floats, input + floats);
      Net::forward(c, net, input, times, conditioning, output, saved);
      if (guided) guide(output + floats, output, guidance, output, floats);
      std::copy_n(output, floats, estimate);
      picture_of(prediction, at.from, z, estimate, floats);
      sampler_step(
          sampler, schedule, course, prediction, step, output, z, memory, input, [&](float* into) { draw(into, step + 1); },
          floats);
      // What is kept has the noise that z has: the first of the path, or new; in diffusers always the first. In the end it has
      // none, also where the sampler takes the schedule's lowest noise for none.
      if (source.painted != nullptr) {
        const bool renewed = renews_noise(sampler) && noise.torch.empty(), noisy = step + 1 < steps && at.to.sigma > 0.0;
        if (noisy) add_noise(at.to, source.pictures, renewed ? input : first, input, floats);
        keep(source.painted, noisy ? input : source.pictures, z, floats);
      }
      if (!detail::goes_on(on_step, Progress{step + 1, steps, {z, floats}, {estimate, floats}, 0, count})) return false;
    }
    return true;
  }

  // From captions: ids [2 * batch][length], the captions, then what guidance leads away from (the second half is not read without
  // guidance), with the noise schedule of the configuration and the noise of seeds [batch].
  template <class OnStep>
  static bool run(const Context& within, const typename Text::Weights& text, const typename Net::Weights& net,
                  const std::int32_t* ids, const std::uint64_t* seeds, const SamplingOptions& options,
                  const SamplingSource& source, float* z, OnStep&& on_step) {
    Scope scope(within.stack);
    Context c = within;
    if (takes_two_passes(options.guidance)) c.batch *= 2;
    const Conditioning conditioning = encode(c, text, {.ids = ids});
    return sample(within, net, conditioning, NoiseSchedule(M.sampler.schedule), {.seeds = seeds}, options, source, z, on_step);
  }
  template <class OnStep>
  static bool run(const Context& within, const typename Text::Weights& text, const typename Net::Weights& net,
                  const std::int32_t* ids, const std::uint64_t* seeds, const SamplingOptions& options, float* z,
                  OnStep&& on_step) {
    return run(within, text, net, ids, seeds, options, SamplingSource{}, z, on_step);
  }

 private:
  // z [length][width] *= weights [length], then by one number, so that the mean stays (AUTOMATIC1111's "Original").
  template <std::size_t Width>
  static void weigh_tokens(const float* weights, float* z) {
    constexpr std::size_t floats = M.text.length * Width;
    if (std::all_of(weights, weights + M.text.length, [](float weight) { return weight == 1.0f; })) return;
    const double before = std::accumulate(z, z + floats, 0.0);
    for (std::size_t i = 0; i < floats; ++i) z[i] *= weights[i / Width];
    const double after = std::accumulate(z, z + floats, 0.0);
    if (after != 0.0)
      for (std::size_t i = 0; i < floats; ++i) z[i] = static_cast<float>(z[i] * (before / after));
  }
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
