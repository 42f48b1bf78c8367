// SPDX-License-Identifier: Apache-2.0
// One-step finetuning: a diffusion model and a discriminator, both starting from the trained UNet (UFOGen, Xu et al., arXiv
// 2311.09257; MobileDiffusion, arXiv 2311.16567, finetunes with it).
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "../core/random.hpp"
#include "../diffusion/sampler.hpp"
#include "../models/text_encoder.hpp"
#include "../models/unet.hpp"
#include "passes.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train {

struct UfogenOptions {
  OptimizerOptions generator{.adamw = {.beta1 = 0.9f, .weight_decay = 0.0f}, .schedule = {.peak = 1e-4f, .warmup_steps = 100}};
  OptimizerOptions discriminator{.adamw = {.beta1 = 0.0f, .weight_decay = 0.0f},
                                 .schedule = {.peak = 1e-4f, .warmup_steps = 100}};
  std::size_t batch = 32, micro_batch = 16;  // a step has batch / micro_batch passes (Passes says how they use threads)
  std::size_t intervals = 4;                 // K: the discriminator compares where time is one of K equal intervals earlier
  float sampler_share = 0.5f;                // of the samples whose times are the sampler's own for 1, 2 and 4 steps
  float reconstruction = 1.0f;               // lambda: weight of the distance to the picture
  float signal_power = 0.0f;                 // gamma_t = alpha_t to this power: > 0 asks less of what is mostly noise
  std::size_t discriminator_every = 2;       // generator steps for one of the discriminator
  std::uint64_t seed = 1;
};

struct UfogenReport {
  float generator_loss = 0;                   // adversarial + lambda * reconstruction
  float adversarial = 0, reconstruction = 0;  // the latter with gamma_t
  float one_step_error = 0;                   // mean squared distance to the picture (or goal) of the samples of pure noise
  std::size_t one_step_samples = 0;
  float logit_fake = 0;  // mean
  bool judged = false;   // whether the discriminator's step was due; the rest is of it
  float discriminator_loss = 0, logit_real = 0;
  float accuracy = 0;  // share of the samples, real and fake, that it tells right
  StepReport generator{}, discriminator{};
};

namespace detail {

// Copies what has equal names and shapes in both; the rest of `to` becomes zero.
template <class From, class To>
void copy_common(const From& from, To& to) {
  const auto have = reflect::leafs(from);
  for (const reflect::LeafView& leaf : reflect::leafs(to)) {
    const auto same = [&](const reflect::LeafView& other) {
      const auto &a = other.type->file_shape, &b = leaf.type->file_shape;
      return other.path == leaf.path && std::equal(a.begin(), a.end(), b.begin(), b.end());
    };
    if (const auto at = std::find_if(have.begin(), have.end(), same); at != have.end())
      std::copy_n(at->data(), leaf.type->count, leaf.data());
    else std::fill_n(leaf.data(), leaf.type->count, 0.0f);
  }
}

// log(1 + e^x): the cross-entropy of the logit x where it should say no, of -x where yes.
inline double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }
inline double sigmoid(double x) { return x >= 0.0 ? 1.0 / (1.0 + std::exp(-x)) : std::exp(x) / (1.0 + std::exp(x)); }

}  // namespace detail

// The text encoder stays as it is; both networks read its output. Losses, for a pair of times t and t- (one of K equal intervals
// apart) of which x_t and x_real are the picture x0 with noise, x0' the generator's picture of x_t and x_fake x0' with noise at
// t-:
//   discriminator: BCE(D(x_real), 1) + BCE(D(x_fake), 0),
//   generator: BCE(D(x_fake), 1) + lambda gamma_t |x0 - x0'|^2,
// BCE: binary cross-entropy with logits, mean over the map. The gradient of the first term reaches the generator through x_fake.
// Of lambda and gamma the paper's values for other data tell little; ours are options.
template <ModelConfig M>
class UfogenTrainer {
  static_assert(ValidModel<M>::value);
  using Text = TextEncoder<M.text>;
  using Net = Unet<M.unet>;
  using Judge = Discriminator<M.unet>;
  static constexpr std::size_t latents = Net::latent_floats, length = M.text.length, places = Judge::output_floats;

 public:
  TrainState<typename Net::Weights> generator;  // its average is what is deployed
  TrainState<typename Judge::Weights> discriminator;

  // text, start: bound, not packed; text is read at every step. Throws Error for options that do not fit together.
  UfogenTrainer(std::reference_wrapper<const Executor> ex, UfogenOptions options, const typename Text::Weights& text,
                const typename Net::Weights& start)
      : ex_(ex),
        options_(checked(options)),
        text_(text),
        generating_(ex, options.batch / options.micro_batch, generating_floats(options.micro_batch)),
        judging_(ex, options.batch / options.micro_batch, judging_floats(options.micro_batch)),
        contexts_(options.batch * Text::context_floats),
        pooled_(Text::pooled_floats > 0 ? options.batch * Text::pooled_floats : 0),
        earlier_(options.batch),
        fake_(options.batch * latents) {
    detail::copy_common(start, generator.weights);
    generator.start_average();
    detail::copy_common(start, discriminator.weights);  // all but its last layer: zero, it knows nothing yet
    discriminator.start_average();
  }

  // pictures[i]: the latents of sample i, unit variance; ids [batch][length]. Times and noise depend on the seed, the step and
  // the place in the batch only. Both networks learn from the same fakes, each from gradients at the weights before the step.
  // goals: empty, or for each sample null or the latents that take the place of pictures[i] for the generator. Of pure noise a
  // picture of the data says nothing, so a generator that is compared with it may ignore the noise; what a slower sampler
  // makes of the same noise keeps seeds apart.
  UfogenReport step(std::span<const float* const> pictures, const std::int32_t* ids, std::span<const float* const> goals = {}) {
    UfogenReport report = gradients(pictures, ids, generator.step % options_.discriminator_every == 0, goals);
    report.generator = generator.update(ex_, options_.generator);
    if (report.judged) report.discriminator = discriminator.update(ex_, options_.discriminator);
    return report;
  }

  // The losses that the next step would see and their gradients in generator.gradients and (judge) discriminator.gradients.
  UfogenReport gradients(std::span<const float* const> pictures, const std::int32_t* ids, bool judge,
                         std::span<const float* const> goals = {}) {
    if (pictures.size() != options_.batch || (!goals.empty() && goals.size() != options_.batch))
      throw Error("training: expected as many latents as the batch has samples");
    std::vector<const float*> wanted(pictures.begin(), pictures.end());
    for (std::size_t i = 0; i < goals.size(); ++i)
      if (goals[i] != nullptr) wanted[i] = goals[i];
    const std::size_t passes = options_.batch / options_.micro_batch, n = options_.micro_batch;
    std::vector<Generated> generated(passes);
    generating_.run(generator, [&](std::size_t i, const Executor& ex, Stack& stack, typename Net::Weights& g) {
      generated[i] = generating_pass(wanted, ids, i * n, ex, stack, g);
    });
    std::vector<Judged> judged(passes);
    if (judge)
      judging_.run(discriminator, [&](std::size_t i, const Executor& ex, Stack& stack, typename Judge::Weights& g) {
        judged[i] = judging_pass(pictures, i * n, ex, stack, g);
      });

    const double samples = static_cast<double>(options_.batch);
    Generated all;
    for (const Generated& p : generated) {
      all.adversarial += p.adversarial / samples;
      all.reconstruction += p.reconstruction / samples;
      all.one_step += p.one_step;
      all.one_step_samples += p.one_step_samples;
      all.logit += p.logit / samples;
    }
    UfogenReport report;
    report.adversarial = static_cast<float>(all.adversarial);
    report.reconstruction = static_cast<float>(all.reconstruction);
    report.generator_loss =
        static_cast<float>(all.adversarial + static_cast<double>(options_.reconstruction) * all.reconstruction);
    report.one_step_samples = all.one_step_samples;
    if (all.one_step_samples > 0)
      report.one_step_error = static_cast<float>(all.one_step / static_cast<double>(all.one_step_samples));
    report.logit_fake = static_cast<float>(all.logit);
    report.judged = judge;
    Judged total;
    for (const Judged& p : judged) {
      total.loss += p.loss / samples;
      total.logit_real += p.logit_real / samples;
      total.right += p.right;
    }
    report.discriminator_loss = static_cast<float>(total.loss);
    report.logit_real = static_cast<float>(total.logit_real);
    report.accuracy = static_cast<float>(static_cast<double>(total.right) / (2.0 * samples));
    return report;
  }

  // Of the next step: whether sample i of the batch begins at pure noise, and the seed from which sampling begins with its noise.
  bool from_noise(std::size_t sample) const { return times(sample).t == 1.0f; }
  std::uint64_t noise_seed(std::size_t sample) const {
    return options_.seed * 0x9e3779b97f4a7c15u + generator.step * options_.batch + sample;
  }

  // Both networks with all that their optimizers know, in one file; the training goes on from it bit for bit.
  void save(const std::filesystem::path& path, Metadata metadata = {}) const {
    std::vector<TensorToWrite> tensors;
    generator.list(tensors, "generator.");
    discriminator.list(tensors, "discriminator.");
    metadata["generator.step"] = std::to_string(generator.step);
    metadata["discriminator.step"] = std::to_string(discriminator.step);
    write_safetensors(path, tensors, metadata);
  }
  // Throws Error for a file of another architecture or with numbers that are not finite, with everything as it was.
  Metadata load(const std::filesystem::path& path) {
    const SafetensorsFile file(path);
    generator.check(file, "generator.");
    discriminator.check(file, "discriminator.");
    const std::size_t generated = number_of(file, "generator.step"), judged = number_of(file, "discriminator.step");
    generator.read(file, "generator.");
    discriminator.read(file, "discriminator.");
    generator.step = generated;
    discriminator.step = judged;
    return file.metadata();
  }

 private:
  static constexpr std::size_t generating_floats(std::size_t n) {
    Planned p{Plan::inference};
    p.take(n * latents).take(n).take(n).take(n).part(Text::stack_floats(Plan::inference, n));
    p.plan = Plan::training;
    p.take(n * latents).take(n * places);
    p.part(Net::stack_floats(Plan::training, n)).part(Judge::stack_floats(Plan::training, n));
    p.plan = Plan::inference;
    p.take(n * latents).take(n * Text::context_floats).take(reflect::storage_floats<typename Judge::Weights>());
    return p.part(Judge::backward_floats(n)).part(Net::backward_floats(n)).peak;
  }
  static constexpr std::size_t judging_floats(std::size_t n) {
    Planned p{Plan::training};
    p.take(2 * n * latents).take(2 * n * Text::context_floats).take(2 * n * Text::pooled_floats);
    p.take(2 * n).take(2 * n * places).take(2 * n).part(Judge::stack_floats(Plan::training, 2 * n));
    p.plan = Plan::inference;
    return p.take(2 * n * Text::context_floats).part(Judge::backward_floats(2 * n)).peak;
  }

  static UfogenOptions checked(UfogenOptions options) {
    if (options.batch == 0 || options.micro_batch == 0 || options.batch % options.micro_batch != 0)
      throw Error("training: the batch must be a multiple of the micro-batch, both at least 1");
    if (options.intervals == 0 || options.discriminator_every == 0)
      throw Error("training: intervals and discriminator_every must be at least 1");
    return options;
  }

  struct Generated {  // sums over a pass
    double adversarial = 0, reconstruction = 0, one_step = 0, logit = 0;
    std::size_t one_step_samples = 0;
  };
  struct Judged {
    double loss = 0, logit_real = 0;
    std::size_t right = 0;
  };

  Random random(std::size_t sample) const {
    return {options_.seed, (std::uint64_t{2} << 40) + generator.step * options_.batch + sample};
  }
  enum class Noise : std::uint64_t { real, fake };  // independent of each other and of what the generator begins with
  void noise(std::size_t sample, Noise which, float* out) const {
    random(sample).normals({out, latents}, static_cast<std::uint64_t>(which) * aligned(latents));
  }

  // Times are even before the sampler's shift, as its own steps are.
  struct Times {
    float t, earlier;
  };
  Times times(std::size_t sample) const {
    Random draw = random(sample);
    // Stratified over the batch: every step sees all of [0, 1).
    float place = (static_cast<float>(sample) + draw.uniform()) / static_cast<float>(options_.batch);
    if (draw.uniform() < options_.sampler_share) {
      const std::uint32_t steps = 1u << draw.below(3);
      place = 1.0f - static_cast<float>(draw.below(steps)) / static_cast<float>(steps);
    }
    const float shift = static_cast<float>(M.sampler.shift_percent) * 0.01f;
    return {shifted(place, shift), shifted(std::max(place - 1.0f / static_cast<float>(options_.intervals), 0.0f), shift)};
  }

  // BCE of n logit maps, summed over the samples; the maps become the gradient of its mean over the batch. logits: mean of each.
  double cross_entropy(float* maps, std::size_t n, bool real, float* logits) const {
    const double unit = 1.0 / static_cast<double>(places), mean = unit / static_cast<double>(options_.batch);
    double loss = 0;
    for (std::size_t i = 0; i < n; ++i) {
      double sum = 0;
      for (float& l : std::span(maps + i * places, places)) {
        const double logit = static_cast<double>(l);
        sum += logit;
        loss += unit * detail::softplus(real ? -logit : logit);
        l = static_cast<float>(mean * (detail::sigmoid(logit) - (real ? 1.0 : 0.0)));
      }
      logits[i] = static_cast<float>(unit * sum);
    }
    return loss;
  }

  // The generator's loss over samples first to first + micro_batch, forward and backward; leaves contexts and fakes. pictures:
  // that it should make.
  Generated generating_pass(std::span<const float* const> pictures, const std::int32_t* ids, std::size_t first,
                            const Executor& ex, Stack& stack, typename Net::Weights& gradients) {
    const std::size_t n = options_.micro_batch;
    Context c{ex, stack, n, false};
    float *z = stack.take(n * latents), *steps = stack.take(n), *earlier_steps = stack.take(n), *logits = stack.take(n);
    std::vector<NoiseLevel> levels(n);
    std::vector<float> at(n);
    for (std::size_t i = 0; i < n; ++i) {
      const Times t = times(first + i);
      at[i] = t.t;
      levels[i] = noise_level(M.sampler.schedule, t.t);
      steps[i] = timestep(M.sampler.schedule, t.t);
      earlier_[first + i] = noise_level(M.sampler.schedule, t.earlier);
      earlier_steps[i] = timestep(M.sampler.schedule, t.earlier);
    }
    each(ex, n, [&](std::size_t i) {
      float* zi = z + i * latents;
      Random(noise_seed(first + i), 0).normals({zi, latents});
      // At t = 1 as the sampler begins: with the noise alone, also where the schedule leaves something of the picture.
      if (at[i] < 1.0f) add_noise(levels[i], pictures[first + i], zi, zi, latents);
    });
    float* context = contexts_.data() + first * Text::context_floats;
    float* pooled = Text::pooled_floats > 0 ? pooled_.data() + first * Text::pooled_floats : nullptr;
    stack.keep(false);  // nothing flows back into the text encoder
    typename Text::Saved text{};
    Text::forward(c, text_, ids + first * length, context, pooled, text);
    stack.keep(true);

    float *picture = stack.take(n * latents), *fake = fake_.data() + first * latents, *maps = stack.take(n * places);
    typename Net::Saved net{};
    Net::forward(c, generator.weights, z, steps, {context, pooled, length}, picture, net);
    each(ex, n, [&](std::size_t i) {
      picture_of(M.sampler.prediction, levels[i], z + i * latents, picture + i * latents, latents);
      float* x = fake + i * latents;
      noise(first + i, Noise::fake, x);
      add_noise(earlier_[first + i], picture + i * latents, x, x, latents);
    });
    typename Judge::Saved judged{};
    Judge::forward(c, discriminator.weights, fake, earlier_steps, {context, pooled, length}, maps, judged);
    stack.keep(false);

    Generated sums;
    sums.adversarial = cross_entropy(maps, n, true, logits);
    for (std::size_t i = 0; i < n; ++i) sums.logit += static_cast<double>(logits[i]);
    float *d_fake = stack.take(n * latents), *d_context = stack.take_zeroed(n * Text::context_floats);
    typename Judge::Weights unwanted{};  // the discriminator does not learn from this
    reflect::bind(unwanted, stack.take_zeroed(reflect::storage_floats<typename Judge::Weights>()));
    Judge::backward(c, discriminator.weights, unwanted, judged, maps, d_fake, {d_context});

    for (std::size_t i = 0; i < n; ++i) {
      const float gamma = std::pow(static_cast<float>(levels[i].alpha), options_.signal_power);
      const float unit = 2.0f * options_.reconstruction * gamma / static_cast<float>(options_.batch * latents);
      const float slope = picture_slope(M.sampler.prediction, levels[i]), through = static_cast<float>(earlier_[first + i].alpha);
      const float* x = pictures[first + i];
      double error = 0;
      for (std::size_t j = 0; j < latents; ++j) {
        const float e = picture[i * latents + j] - x[j];
        error += static_cast<double>(e) * static_cast<double>(e);
        d_fake[i * latents + j] = slope * (through * d_fake[i * latents + j] + unit * e);  // becomes that of the output
      }
      error /= static_cast<double>(latents);
      sums.reconstruction += static_cast<double>(gamma) * error;
      if (at[i] == 1.0f) {
        sums.one_step += error;
        ++sums.one_step_samples;
      }
    }
    Net::backward(c, generator.weights, gradients, net, d_fake, nullptr, {d_context});
    return sums;
  }

  // The discriminator's loss over the same samples, forward and backward; reads what generating_pass left.
  Judged judging_pass(std::span<const float* const> pictures, std::size_t first, const Executor& ex, Stack& stack,
                      typename Judge::Weights& gradients) const {
    const std::size_t n = options_.micro_batch;
    Context c{ex, stack, 2 * n, false};
    const auto twice = [&](const float* from, std::size_t floats) {  // what fakes and real ones share
      float* to = stack.take(2 * n * floats);
      std::copy_n(from + first * floats, n * floats, to);
      std::copy_n(to, n * floats, to + n * floats);
      return to;
    };
    float* x = twice(fake_.data(), latents);
    const float* context = twice(contexts_.data(), Text::context_floats);
    const float* pooled = Text::pooled_floats > 0 ? twice(pooled_.data(), Text::pooled_floats) : nullptr;
    float *steps = stack.take(2 * n), *maps = stack.take(2 * n * places), *logits = stack.take(2 * n);
    for (std::size_t i = 0; i < n; ++i) steps[i] = steps[n + i] = timestep(M.sampler.schedule, times(first + i).earlier);
    each(ex, n, [&](std::size_t i) {
      float* real = x + (n + i) * latents;
      noise(first + i, Noise::real, real);
      add_noise(earlier_[first + i], pictures[first + i], real, real, latents);
    });
    typename Judge::Saved saved{};
    Judge::forward(c, discriminator.weights, x, steps, {context, pooled, length}, maps, saved);
    stack.keep(false);
    Judged sums;
    sums.loss = cross_entropy(maps, n, false, logits) + cross_entropy(maps + n * places, n, true, logits + n);
    for (std::size_t i = 0; i < n; ++i) {
      sums.logit_real += static_cast<double>(logits[n + i]);
      sums.right += (logits[i] < 0.0f ? 1u : 0u) + (logits[n + i] > 0.0f ? 1u : 0u);
    }
    float* d_context = stack.take_zeroed(2 * n * Text::context_floats);
    Judge::backward(c, discriminator.weights, gradients, saved, maps, nullptr, {d_context});
    return sums;
  }

  template <class F>
  static void each(const Executor& ex, std::size_t n, F&& f) {
    ex.parallel_for(n, 1, [&](std::size_t begin, std::size_t end, int) {
      for (std::size_t i = begin; i < end; ++i) f(i);
    });
  }

  const Executor& ex_;
  UfogenOptions options_;
  typename Text::Weights text_;
  Passes<typename Net::Weights> generating_;
  Passes<typename Judge::Weights> judging_;
  // Of the whole batch, from the generator's passes to the discriminator's.
  std::vector<float> contexts_, pooled_;
  std::vector<NoiseLevel> earlier_;
  std::vector<float> fake_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train

#include "../core/end.hpp"
