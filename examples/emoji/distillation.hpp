// SPDX-License-Identifier: Apache-2.0
// The demo model in fewer steps: progressive distillation to 8 and 4, UFOGen to a single one.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../common/progress.hpp"
#include "bitmaps.hpp"
#include "dataset.hpp"
#include "diffusion_training.hpp"
#include "drawing.hpp"
#include "mobilediffusion/model_file.hpp"
#include "mobilediffusion/train/distillation_trainer.hpp"
#include "mobilediffusion/train/ufogen_trainer.hpp"
#include "training.hpp"

namespace emoji {

struct DistillationOptions {
  std::filesystem::path model, out;
  // Of UFOGen: model files. Whose UNet both networks start from; empty: the model's. Whose pictures the generator is compared
  // with; empty: the true ones.
  std::filesystem::path from{}, goals{};
  md::Precision precision = md::Precision::bf16;
  int threads = 0;
  std::uint64_t seed = 1;
  std::size_t batch = 32, micro_batch = 16, scenes = 32000;
  std::size_t save_every = 250, sheet_every = 500;
  // Progressive distillation.
  std::size_t first = 16, until = 4;  // sampling steps of the first student and of the last
  std::size_t round_steps = 1200;
  float round_rate = 2e-4f;
  float guidance = md::Sampling<demo>::defaults.guidance;  // of the first teacher
  // UFOGen.
  std::size_t steps = 3000;  // of the generator
  float rate = 2e-4f, discriminator_rate = 5e-4f;
  float reconstruction = 10.0f, signal_power = 0.0f, sampler_share = 0.5f;
  std::size_t intervals = 1, discriminator_every = 2;
};

// A model's file as training reads it: plain weights.
struct PlainModel {
  explicit PlainModel(const std::filesystem::path& path) : PlainModel(md::SafetensorsFile(path)) {}

  md::train::DiffusionWeights<demo> weights{};
  md::Metadata metadata;
  std::string tokenizer_bytes;

 private:
  explicit PlainModel(const md::SafetensorsFile& file) : blob_(md::reflect::storage_floats<decltype(weights)>()) {
    md::check_model<demo>(file);
    md::read_tokenizer(file, demo.text.vocabulary);  // refuses one that is damaged or too large
    md::reflect::bind(weights, blob_.data());
    md::read_weights(file, "", weights);
    metadata = file.metadata();
    tokenizer_bytes = md::base64_decode(file.require_metadata(md::detail::tokenizer_key));
  }
  md::AlignedBuffer blob_;
};

// Everything that the stages learn from, and what they are judged by.
class DistillationData {
 public:
  explicit DistillationData(const DistillationOptions& o)
      : options(o),
        ex(o.threads, o.precision),
        base(o.model),
        tokenizer(base.tokenizer_bytes),
        vae(ex, o.model),
        vocabulary(trained_level(base.metadata, read_names()), read_names()),
        bitmaps(load_bitmaps(vocabulary)),
        dataset(vocabulary, visibility_of(bitmaps), o.seed),
        cache(ex, dataset, bitmaps, tokenizer, vae, o.scenes),
        unconditional(tokenizer.encode_unconditional(LatentCache::length)) {
    for (const Sample& s : dataset.gallery()) captions_.push_back(s.caption);
    for (const Sample& s : dataset.seen_singles(12)) captions_.push_back(s.caption);
    for (const Sample& s : dataset.gallery()) varied_.insert(varied_.end(), seeds, s.caption);
    examples::Progress progress("base model", 2);
    const md::SamplingOptions own = md::sampling_of(base.metadata, md::Sampling<demo>::defaults, o.model.string());
    base_images_ = draw(base.weights.unet, captions_, own);
    progress.update(1);
    base_variety_ = latent_variety_of(base.weights.unet, own);
    progress.update(2);
  }

  // What a training that has begun must keep: the model decides what latents and captions mean, the rest which sample comes next.
  md::Metadata identity() const {
    return {{"model", checksum_},
            {"seed", std::to_string(options.seed)},
            {"batch", std::to_string(options.batch)},
            {"scenes", std::to_string(options.scenes)},
            {"concepts", std::to_string(vocabulary.size())}};
  }
  static void check_identity(const md::Metadata& identity, const std::filesystem::path& checkpoint, const md::Metadata& found) {
    for (const auto& [key, value] : identity)
      if (const auto at = found.find(key); at == found.end() || at->second != value)
        throw md::Error("file " + checkpoint.string() + ": began with another " + key +
                        "; give what it began with, or another folder to begin anew");
  }

  // Throws md::Error for a model whose tokens and latents mean something else.
  void expect_kin(const std::filesystem::path& path) const {
    const md::SafetensorsFile file(path);
    if (md::base64_decode(file.require_metadata(md::detail::tokenizer_key)) != base.tokenizer_bytes ||
        Autoencoder(ex, path).encoder_checksum() != vae.encoder_checksum())
      throw md::Error("file " + path.string() + ": expected the tokenizer and the autoencoder of " + options.model.string());
  }

  struct Batch {
    std::vector<const float*> pictures;
    std::vector<std::int32_t> ids;
  };
  // Of training step `step`, counted from 0.
  Batch batch(std::size_t step) const {
    Batch b;
    for (std::size_t i = 0; i < options.batch; ++i) {
      const std::size_t e = cache.entry(step * options.batch + i, scenes_mixture);
      b.pictures.push_back(cache.latents(e));
      b.ids.insert(b.ids.end(), cache.ids(e), cache.ids(e) + LatentCache::length);
    }
    return b;
  }

  using UnetWeights = md::Unet<demo.unet>::Weights;

  // Latents of captions [n][latents], caption i with the noise of seed i.
  std::vector<float> sample(const UnetWeights& unet, const std::vector<std::string>& captions,
                            const md::SamplingOptions& o) const {
    using Sampling = md::Sampling<demo>;
    constexpr std::size_t group = 8, length = LatentCache::length;
    const md::AlignedBuffer memory(Sampling::stack_floats(group));
    std::vector<float> out(captions.size() * Sampling::latents);
    for (std::size_t first = 0; first < captions.size(); first += group) {
      const std::size_t n = std::min(group, captions.size() - first);
      std::vector<std::int32_t> ids;
      std::vector<std::uint64_t> seeds_of;
      for (std::size_t i = 0; i < n; ++i) {
        const auto tokens = tokenizer.encode(captions[first + i], length);
        ids.insert(ids.end(), tokens.begin(), tokens.end());
        seeds_of.push_back(first + i);
      }
      for (std::size_t i = 0; i < n; ++i) ids.insert(ids.end(), unconditional.begin(), unconditional.end());
      md::Stack stack(memory);
      const md::Context c{ex, stack, n, false};
      Sampling::run(c, base.weights.text_encoder, unet, ids.data(), seeds_of.data(), o, &out[first * Sampling::latents],
                    [](md::Progress) { return true; });
    }
    return out;
  }
  std::vector<md::Image> draw(const UnetWeights& unet, const std::vector<std::string>& captions, const md::SamplingOptions& o) {
    const std::vector<float> z = sample(unet, captions, o);
    std::vector<md::Image> images;
    std::vector<float> picture(picture_bytes);
    for (std::size_t i = 0; i < captions.size(); ++i) {
      vae.decode(&z[i * Autoencoder::latents], 1, picture.data());
      images.push_back(to_image(picture));
    }
    return images;
  }

  // How far pictures of one caption differ from seed to seed (root mean square of latents, mean over pairs and captions),
  // relative to the base model: a collapse shows here.
  double variety(const UnetWeights& unet, const md::SamplingOptions& o) const {
    return latent_variety_of(unet, o) / base_variety_;
  }
  double base_variety() const { return base_variety_; }

  // Side by side for each caption: the base model, then the UNet as each of the options says.
  md::Image sheet(const UnetWeights& unet, const std::vector<md::SamplingOptions>& columns) {
    std::vector<std::vector<md::Image>> drawn{base_images_};
    for (const md::SamplingOptions& o : columns) drawn.push_back(draw(unet, captions_, o));
    std::vector<md::Image> images;
    for (std::size_t i = 0; i < captions_.size(); ++i)
      for (const auto& column : drawn) images.push_back(column[i]);
    return md::contact_sheet(images, 9 / drawn.size() * drawn.size());
  }

  // The base model with another UNet; a request that says nothing gets these options.
  void write(const std::string& name, const UnetWeights& unet, const md::SamplingOptions& o, const md::Metadata& about) {
    const md::ModelWeights<demo> whole{base.weights.text_encoder, unet, vae.weights};
    md::Metadata metadata = base.metadata;
    for (const auto& [key, value] : about) metadata[key] = value;
    md::put_sampling(metadata, o);
    md::write_model<demo>(options.out / name, whole, base.tokenizer_bytes, md::Dtype::f16, metadata);
  }

  const DistillationOptions options;
  const md::Executor ex;
  const PlainModel base;
  const md::Tokenizer tokenizer;
  Autoencoder vae;
  const Vocabulary vocabulary;
  const Bitmaps bitmaps;
  const Dataset dataset;
  const LatentCache cache;
  const std::vector<std::int32_t> unconditional;

 private:
  static constexpr std::size_t seeds = 6;

  double latent_variety_of(const UnetWeights& unet, const md::SamplingOptions& o) const {
    constexpr std::size_t n = Autoencoder::latents;
    const std::vector<float> z = sample(unet, varied_, o);
    double sum = 0;
    std::size_t pairs = 0;
    for (std::size_t first = 0; first < varied_.size(); first += seeds)
      for (std::size_t a = first; a < first + seeds; ++a)
        for (std::size_t b = a + 1; b < first + seeds; ++b, ++pairs) {
          double square = 0;
          for (std::size_t j = 0; j < n; ++j) {
            const double d = static_cast<double>(z[a * n + j]) - static_cast<double>(z[b * n + j]);
            square += d * d;
          }
          sum += std::sqrt(square / static_cast<double>(n));
        }
    return sum / static_cast<double>(pairs);
  }

  const std::string checksum_ = file_checksum(options.model);
  std::vector<std::string> captions_, varied_;  // the latter: each gallery caption `seeds` times
  std::vector<md::Image> base_images_;
  double base_variety_ = 1;
};

// Means of what is reported between two rows of a log.
template <std::size_t N>
class Means {
 public:
  void add(const std::array<double, N>& values) {
    for (std::size_t i = 0; i < N; ++i) sums_[i] += values[i];
    ++count_;
  }
  // And begins anew; zeros where nothing was added.
  std::array<double, N> take() {
    std::array<double, N> out{};
    for (std::size_t i = 0; i < N && count_ > 0; ++i) out[i] = sums_[i] / static_cast<double>(count_);
    sums_ = {};
    count_ = 0;
    return out;
  }

 private:
  std::array<double, N> sums_{};
  std::size_t count_ = 0;
};

// Round by round: FOLDER/emoji_8_steps.safetensors, emoji_4_steps.safetensors.
inline void train_progressive(DistillationData& data) {
  const DistillationOptions& o = data.options;
  md::train::DistillationOptions options;
  options.batch = o.batch;
  options.micro_batch = o.micro_batch;
  options.seed = o.seed;
  options.sampling_steps = o.first;
  options.guidance = o.guidance;
  options.teacher_format = o.precision == md::Precision::bf16 ? md::Format::bf16 : md::Format::fp32;
  options.optimizer.schedule = {o.round_rate, 0.03f * o.round_rate, 100, o.round_steps / 2, o.round_steps};
  options.optimizer.ema_decay = 0.998f;
  md::train::DistillationTrainer<demo> trainer(data.ex, options, data.base.weights.text_encoder, data.base.weights.unet);
  const auto checkpoint = o.out / "progressive.checkpoint.safetensors";
  const md::Metadata identity = data.identity();
  if (md::path_exists(checkpoint)) data.check_identity(identity, checkpoint, trainer.load(checkpoint));
  const auto done = [&] { return trainer.round() * o.round_steps + trainer.state.step; };
  std::size_t rounds = 1;
  for (std::size_t n = o.first; n > o.until; n /= 2) ++rounds;
  const std::size_t begin = done(), total = rounds * o.round_steps;
  Log log(o.out / "progressive.csv", begin,
          "step,seconds,samples_per_second,sampling_steps,loss,picture_error,gradient_norm,learning_rate");
  Log variety(o.out / "progressive_variety.csv", begin, "step,seconds,sampling_steps,variety,base_distance");

  examples::Progress progress("progressive", total, begin);
  Means<3> means;
  for (;; trainer.halve()) {
    const md::SamplingOptions sampling{md::Ddim{}, trainer.sampling_steps(), 1.0f};
    while (trainer.state.step < o.round_steps) {
      const auto batch = data.batch(done());
      const md::train::DistillationReport r = trainer.step(batch.pictures, batch.ids.data(), data.unconditional.data());
      means.add({r.loss, r.picture_error, r.step.gradient_norm});
      const std::size_t step = done();
      if (step % 20 == 0) {
        const auto m = means.take();
        log.row(step, progress.seconds(), progress.rate(step) * static_cast<double>(o.batch), sampling.steps, m[0], m[1], m[2],
                r.step.learning_rate);
        progress.update(step, std::to_string(sampling.steps) + " steps, loss " + std::to_string(m[0]));
      } else {
        progress.update(step);
      }
      const bool last = trainer.state.step == o.round_steps;
      if (step % o.save_every == 0 || last) trainer.save(checkpoint, identity);
      if (step % o.sheet_every == 0 || last) {
        md::write_png(o.out / ("progressive_" + std::to_string(step) + ".png"), data.sheet(trainer.state.average, {sampling}));
        variety.row(step, progress.seconds(), sampling.steps, data.variety(trainer.state.average, sampling), data.base_variety());
      }
    }
    if (sampling.steps <= 8)
      data.write("emoji_" + std::to_string(sampling.steps) + "_steps.safetensors", trainer.state.average, sampling,
                 {{"finetuning.method", "progressive distillation"}, {"finetuning.samples", std::to_string(done() * o.batch)}});
    if (sampling.steps <= o.until) return;
  }
}

// What a model of few steps makes of noise: what a model of one step should make of it.
class Goals {
 public:
  Goals(std::reference_wrapper<const md::Executor> ex, const std::filesystem::path& path)
      : ex_(ex),
        model_(path, ex.get().precision() == md::Precision::bf16 ? md::Format::bf16 : md::Format::fp32),
        sampling_(md::sampling_of(model_.metadata(), Sampling::defaults, path.string())),
        memory_(Sampling::stack_floats(group)) {
    if (md::is_guided(sampling_.guidance))
      throw md::Error("file " + path.string() + ": expected a model that needs no guidance, found guidance " +
                      std::to_string(sampling_.guidance));
  }

  // Latents for each sample of the trainer's next step. What begins at pure noise gets the picture of that noise; what begins
  // nearer to the picture gets one of other noise, as the sampler of several steps meets it.
  std::span<const float* const> of(const md::train::UfogenTrainer<demo>& trainer, const std::vector<std::int32_t>& ids) {
    constexpr std::size_t length = LatentCache::length;
    const std::size_t batch = ids.size() / length;
    latents_.resize(batch * Sampling::latents);
    goals_.clear();
    std::vector<std::uint64_t> seeds;
    for (std::size_t i = 0; i < batch; ++i) {
      goals_.push_back(&latents_[i * Sampling::latents]);
      seeds.push_back(trainer.noise_seed(i) + (trainer.from_noise(i) ? 0 : std::uint64_t{1} << 62));
    }
    for (std::size_t first = 0; first < batch; first += group) {
      md::Stack stack(memory_);
      const md::Context c{
          .executor = ex_, .stack = stack, .batch = std::min(group, batch - first), .packed = true, .format = model_.format()};
      Sampling::run(c, model_.weights().text_encoder, model_.weights().unet, &ids[first * length], &seeds[first], sampling_,
                    &latents_[first * Sampling::latents], [](md::Progress) { return true; });
    }
    return goals_;
  }

 private:
  using Sampling = md::Sampling<demo>;
  static constexpr std::size_t group = 16;
  const md::Executor& ex_;
  const PackedModel<> model_;
  const md::SamplingOptions sampling_;
  md::AlignedBuffer memory_;
  std::vector<float> latents_;
  std::vector<const float*> goals_;
};

// To one step: FOLDER/emoji_one_step.safetensors.
inline void train_ufogen(DistillationData& data) {
  const DistillationOptions& o = data.options;
  md::train::UfogenOptions options;
  options.batch = o.batch;
  options.micro_batch = o.micro_batch;
  options.seed = o.seed;
  options.generator.schedule = {o.rate, 0.03f * o.rate, 100, o.steps / 2, o.steps};
  const std::size_t judged = o.steps / std::max<std::size_t>(o.discriminator_every, 1);  // its own steps
  options.discriminator.schedule = {o.discriminator_rate, 0.03f * o.discriminator_rate, 50, judged / 2, judged};
  options.generator.ema_decay = 0.998f;
  options.reconstruction = o.reconstruction;
  options.signal_power = o.signal_power;
  options.sampler_share = o.sampler_share;
  options.intervals = o.intervals;
  options.discriminator_every = o.discriminator_every;
  for (const auto& other : {o.from, o.goals})
    if (!other.empty()) data.expect_kin(other);
  const std::unique_ptr<PlainModel> from = o.from.empty() ? nullptr : std::make_unique<PlainModel>(o.from);
  const std::unique_ptr<Goals> goals = o.goals.empty() ? nullptr : std::make_unique<Goals>(data.ex, o.goals);
  md::train::UfogenTrainer<demo> trainer(data.ex, options, data.base.weights.text_encoder,
                                         from ? from->weights.unet : data.base.weights.unet);
  const auto checkpoint = o.out / "ufogen.checkpoint.safetensors";
  md::Metadata identity = data.identity();
  identity["goals"] = o.goals.empty() ? "none" : file_checksum(o.goals);
  if (md::path_exists(checkpoint)) data.check_identity(identity, checkpoint, trainer.load(checkpoint));
  const std::size_t begin = trainer.generator.step;
  Log log(o.out / "ufogen.csv", begin,
          "step,seconds,samples_per_second,generator_loss,adversarial,reconstruction,one_step_error,logit_fake,"
          "discriminator_loss,logit_real,accuracy,generator_norm,discriminator_norm,learning_rate");
  Log variety(o.out / "ufogen_variety.csv", begin, "step,seconds,one_step,four_steps,base_distance");
  const md::SamplingOptions one{md::Renoise{}, 1, 1.0f}, four{md::Renoise{}, 4, 1.0f};

  examples::Progress progress("ufogen", o.steps, begin);
  Means<5> generator;
  Means<4> discriminator;
  double errors = 0, error_samples = 0;
  while (trainer.generator.step < o.steps) {
    const auto batch = data.batch(trainer.generator.step);
    const md::train::UfogenReport r = goals ? trainer.step(batch.pictures, batch.ids.data(), goals->of(trainer, batch.ids))
                                            : trainer.step(batch.pictures, batch.ids.data());
    const std::size_t step = trainer.generator.step;
    generator.add({r.generator_loss, r.adversarial, r.reconstruction, r.logit_fake, r.generator.gradient_norm});
    if (r.judged) discriminator.add({r.discriminator_loss, r.logit_real, r.accuracy, r.discriminator.gradient_norm});
    errors += static_cast<double>(r.one_step_error) * static_cast<double>(r.one_step_samples);
    error_samples += static_cast<double>(r.one_step_samples);
    if (step % 20 == 0) {
      const auto g = generator.take();
      const auto d = discriminator.take();
      const double error = errors / std::max(error_samples, 1.0);
      errors = error_samples = 0;
      log.row(step, progress.seconds(), progress.rate(step) * static_cast<double>(o.batch), g[0], g[1], g[2], error, g[3], d[0],
              d[1], d[2], g[4], d[3], r.generator.learning_rate);
      progress.update(step, "one-step error " + std::to_string(error) + ", accuracy " + std::to_string(d[2]));
    } else {
      progress.update(step);
    }
    const bool last = step == o.steps;
    if (step % o.save_every == 0 || last) trainer.save(checkpoint, identity);
    if (step % o.sheet_every == 0 || last) {
      md::write_png(o.out / ("ufogen_" + std::to_string(step) + ".png"), data.sheet(trainer.generator.average, {four, one}));
      variety.row(step, progress.seconds(), data.variety(trainer.generator.average, one),
                  data.variety(trainer.generator.average, four), data.base_variety());
    }
  }
  data.write("emoji_one_step.safetensors", trainer.generator.average, one,
             {{"finetuning.method", "ufogen"}, {"finetuning.samples", std::to_string(o.steps * o.batch)}});
}

}  // namespace emoji
