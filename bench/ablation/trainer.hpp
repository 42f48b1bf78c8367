// SPDX-License-Identifier: Apache-2.0
// One variant's training and its measurement.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "data.hpp"

namespace ablation {

constexpr md::ModelConfig with_unet(md::ModelConfig m, const md::UnetConfig& unet) {
  m.unet = unet;
  return m;
}

// Mean squared error of the prediction on the held-out pairs, each at `times` times: those of training, evenly spread over all
// pairs together. Times and noise are the same for every variant and seed.
template <md::ModelConfig M>
double validation_loss(const Data& data, const md::train::DiffusionWeights<M>& weights) {
  using Text = md::TextEncoder<M.text>;
  using Net = md::Unet<M.unet>;
  constexpr std::size_t times = 8, latents = Net::latent_floats;
  const md::AlignedBuffer memory(
      std::max(Text::stack_floats(md::Plan::inference, times), Net::stack_floats(md::Plan::inference, times)));
  std::vector<float> context(times * Text::context_floats), pooled(times * Text::pooled_floats), steps(times);
  std::vector<float> z(times * latents), goal(times * latents), y(times * latents);
  std::vector<std::int32_t> ids;
  const std::size_t pairs = data.heldout_latents.size();
  double sum = 0;
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    ids.clear();
    for (std::size_t k = 0; k < times; ++k) {
      const float place = (static_cast<float>(k) + (static_cast<float>(pair) + 0.5f) / static_cast<float>(pairs)) / times;
      const float time = md::shifted(place, static_cast<float>(M.sampler.shift_percent) * 0.01f);
      const md::NoiseLevel level = md::noise_level(M.sampler.schedule, time);
      steps[k] = md::timestep(M.sampler.schedule, time);
      float* const eps = &goal[k * latents];  // becomes the target in place
      md::Random(0x76616c6964u, pair * times + k).normals({eps, latents});
      const auto& x = data.heldout_latents[pair];
      md::add_noise(level, &x[0], eps, &z[k * latents], latents);
      for (std::size_t j = 0; j < latents; ++j) eps[j] = md::target(M.sampler.prediction, level, x[j], eps[j]);
      ids.insert(ids.end(), data.heldout_ids[pair].begin(), data.heldout_ids[pair].end());
    }
    md::Stack stack(memory);
    md::Context c{data.executor, stack, times, false};
    typename Text::Saved text{};
    typename Net::Saved net{};
    Text::forward(c, weights.text_encoder, ids.data(), context.data(), pooled.data(), text);
    Net::forward(c, weights.unet, z.data(), steps.data(), {context.data(), pooled.data()}, y.data(), net);
    for (std::size_t j = 0; j < y.size(); ++j) {
      const double e = static_cast<double>(y[j]) - static_cast<double>(goal[j]);
      sum += e * e;
    }
  }
  return sum / static_cast<double>(pairs * times * latents);
}

template <md::ModelConfig M>
Outcome train_model(const TrainingPlan& plan, std::uint64_t seed, Data& data, const std::filesystem::path& folder,
                    const md::Metadata& identity) {
  emoji::TrainingOptions o;
  o.out = folder;
  o.seed = seed;
  o.steps = o.single_steps = plan.steps;
  o.first = {.single = 1, .count = 0, .pair = 0, .size = 0};  // what things are called is all that so short a training can learn
  o.batch = plan.batch;
  o.micro_batch = plan.batch % 2 == 0 ? plan.batch / 2 : plan.batch;
  o.rate = plan.rate;
  o.warmup_steps = plan.steps / 10;
  o.save_every = std::max<std::size_t>(1, plan.steps / 10);
  md::train::DiffusionTrainer<M> trainer(data.executor, emoji::diffusion_options(o));
  emoji::train_on(trainer, data.cache, data.tokenizer, o, identity, [](std::size_t) {});
  Outcome out{validation_loss<M>(data, trainer.state.average), {}};

  emoji::EvaluationOptions e;
  e.limit = plan.pictures;
  e.pictures_each = std::max<std::size_t>(1, plan.pictures / data.vocabulary.size());
  e.blind = 1;  // what a model would score that never hears the prompt is not asked here
  e.drawing.packed = {};
  e.wanted = {"seen_object_top1",    "seen_object_psnr",    "seen_background",
              "heldout_object_top1", "heldout_object_psnr", "heldout_background"};
  e.sheet = folder / "sheet.png";
  for (auto& [name, value] :
       emoji::evaluate<M>(data.executor, trainer.state.average, data.tokenizer, data.vae, data.vocabulary, data.bitmaps, e))
    if (std::find(e.wanted.begin(), e.wanted.end(), name) != e.wanted.end()) out.figures.emplace_back(name, value);
  return out;
}

template <std::size_t I>
Outcome train(const TrainingPlan& plan, std::uint64_t seed, Data& data, const std::filesystem::path& folder,
              const md::Metadata& identity) {
  if constexpr (trained_as(I) == I)
    return train_model<with_unet(emoji::demo, *variants[I].unet.demo)>(plan, seed, data, folder, identity);
  else throw md::Error("variant " + std::to_string(I) + " has no training of its own");
}

}  // namespace ablation
