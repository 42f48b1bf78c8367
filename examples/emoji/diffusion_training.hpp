// SPDX-License-Identifier: Apache-2.0
// Second stage: text encoder and UNet together, on cached latents of captioned scenes.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "../common/progress.hpp"
#include "bitmaps.hpp"
#include "caption_words.hpp"
#include "dataset.hpp"
#include "drawing.hpp"
#include "mobilediffusion/io/tokenizer.hpp"
#include "mobilediffusion/model_file.hpp"
#include "mobilediffusion/train/diffusion_trainer.hpp"
#include "mobilediffusion/train/tokenizer.hpp"
#include "training.hpp"

namespace emoji {

// Latents and tokens of everything that training shows, for models with the demo's text encoder and autoencoder. Scenes of one
// object are complete; two-object scenes are a fixed pool of `scenes`.
class LatentCache {
 public:
  LatentCache(const md::Executor& ex, const Dataset& dataset, const Bitmaps& bitmaps, const md::Tokenizer& tokenizer,
              Autoencoder& vae, std::size_t scenes)
      : dataset_(dataset) {
    std::vector<Sample> samples = dataset.training_singles();
    for (Sample& s : dataset.training_counts()) samples.push_back(std::move(s));
    for (std::size_t i = 0; i < samples.size(); ++i) index_.emplace(samples[i].caption, i);
    singles_ = samples.size();
    for (std::uint64_t k = 0; samples.size() < singles_ + scenes; ++k)
      if (Sample s = dataset.training_sample(pool_first + k, scenes_mixture);
          s.scene.objects.size() == 2 && (s.task == Task::pair || s.task == Task::size))
        samples.push_back(std::move(s));
    latents_.resize(samples.size() * Autoencoder::latents);
    ids_.resize(samples.size() * length);
    std::vector<float> pictures(Autoencoder::group * picture_bytes);
    examples::Progress progress("encoding", samples.size());
    for (std::size_t first = 0; first < samples.size(); first += Autoencoder::group) {
      const std::size_t n = std::min(Autoencoder::group, samples.size() - first);
      ex.parallel_for(n, 1, [&](std::size_t begin, std::size_t end, int) {
        for (std::size_t i = begin; i < end; ++i)
          bitmaps.render(samples[first + i].scene, std::span<float>(&pictures[i * picture_bytes], picture_bytes));
      });
      for (std::size_t i = 0; i < n; ++i) {
        const auto ids = tokenizer.encode(samples[first + i].caption, length);
        std::copy(ids.begin(), ids.end(), &ids_[(first + i) * length]);
      }
      vae.encode(pictures.data(), n, &latents_[first * Autoencoder::latents]);
      progress.update(first + n);
    }
  }

  static constexpr std::size_t length = demo.text.length;
  std::size_t size() const { return ids_.size() / length; }

  // Which entry training sample number `index` of this mixture uses. Throws for a scene of two objects where there is no pool.
  std::size_t entry(std::uint64_t index, const Mixture& mixture) const {
    const Sample s = dataset_.training_sample(index, mixture);
    if (const auto at = index_.find(s.caption); at != index_.end()) return at->second;
    if (size() == singles_) throw md::Error("scenes: expected at least 1 picture of two objects, found 0");
    return singles_ + md::Random(index, 0x706f6f6c).below(static_cast<std::uint32_t>(size() - singles_));
  }
  const float* latents(std::size_t entry) const { return &latents_[entry * Autoencoder::latents]; }
  const std::int32_t* ids(std::size_t entry) const { return &ids_[entry * length]; }

 private:
  static constexpr std::uint64_t pool_first = std::uint64_t{1} << 40;
  const Dataset& dataset_;
  std::unordered_map<std::string, std::size_t> index_;
  std::size_t singles_ = 0;
  std::vector<float> latents_;
  std::vector<std::int32_t> ids_;
};

// The tokenizer is learnt once, from the captions of everything, so that a wider vocabulary can train on.
inline std::string tokenizer_model(const TrainingOptions& o, const std::vector<Entry>& entries) {
  const auto path = o.out / "tokenizer.model";
  if (md::path_exists(path)) return md::read_file(path);
  const Vocabulary all(Level::all, entries);
  const Dataset dataset(all, visibility_of(load_bitmaps(all)), o.seed);
  const std::string model = md::train_tokenizer(dataset.captions(), demo.text.vocabulary);
  md::write_file(path, model);
  return model;
}

inline md::train::DiffusionOptions diffusion_options(const TrainingOptions& o) {
  md::train::DiffusionOptions options;
  options.batch = o.batch;
  options.micro_batch = o.micro_batch;
  options.seed = o.seed;
  options.optimizer.schedule = {o.rate, 0.03f * o.rate, o.warmup_steps, o.steps / 2, o.steps};
  options.optimizer.ema_decay = 0.998f;
  return options;
}

// Trains text encoder and UNet of model M to step o.steps: from where the checkpoint in o.out stands, else from o.from, else as
// the trainer is. M is the demo or differs from it in its UNet. identity: what a training that has begun must keep.
// each_step(step) is called after every step.
template <md::ModelConfig M, class EachStep>
void train_on(md::train::DiffusionTrainer<M>& trainer, const LatentCache& cache, const md::Tokenizer& tokenizer,
              const TrainingOptions& o, const md::Metadata& identity, EachStep&& each_step) {
  static_assert(
      std::is_same_v<md::TextEncoder<M.text>, md::TextEncoder<demo.text>> && std::is_same_v<md::Vae<M.vae>, md::Vae<demo.vae>>,
      "captions and latents are cached for the demo's text encoder and autoencoder");
  const auto checkpoint = o.out / "diffusion.checkpoint.safetensors";
  if (!o.from.empty() && !md::path_exists(checkpoint)) {
    const md::SafetensorsFile file(o.from);
    md::check_model<M>(file);
    md::read_weights(file, "", trainer.state.weights);
    trainer.state.start_average();
  }
  if (md::path_exists(checkpoint)) {
    const md::Metadata metadata = trainer.state.load(checkpoint);
    for (const auto& [key, value] : identity)
      if (const auto at = metadata.find(key); at != metadata.end() && at->second != value)
        throw md::Error("file " + checkpoint.string() + ": began with " + key + " " + at->second + ", found " + value +
                        "; give what it began with, or another folder to begin anew");
  }
  Log log(o.out / "diffusion.csv", trainer.state.step,
          "step,seconds,samples_per_second,loss,t<.25,t<.5,t<.75,t<.9,t<1,gradient_norm,learning_rate");
  const auto unconditional = tokenizer.encode_unconditional(LatentCache::length);
  examples::Progress progress("diffusion", o.steps, trainer.state.step);
  std::vector<const float*> pictures(o.batch);
  std::vector<std::int32_t> ids(o.batch * LatentCache::length);
  double loss = 0;
  while (trainer.state.step < o.steps) {
    // What things are called is learnt from pictures of one thing; who stands where only then.
    const Mixture& mixture = trainer.state.step < o.single_steps ? o.first : o.then;
    for (std::size_t i = 0; i < o.batch; ++i) {
      const std::size_t e = cache.entry(trainer.state.step * o.batch + i, mixture);
      pictures[i] = cache.latents(e);
      std::copy_n(cache.ids(e), LatentCache::length, &ids[i * LatentCache::length]);
    }
    const md::train::DiffusionReport r = trainer.step(pictures, ids.data(), unconditional.data());
    const std::size_t step = trainer.state.step;
    loss = loss == 0 ? static_cast<double>(r.loss) : 0.98 * loss + 0.02 * static_cast<double>(r.loss);
    if (step % 20 == 0)
      log.row(step, progress.seconds(), progress.rate(step) * static_cast<double>(o.batch), r.loss, r.bands[0], r.bands[1],
              r.bands[2], r.bands[3], r.bands[4], r.step.gradient_norm, r.step.learning_rate);
    progress.update(step, "loss " + std::to_string(loss));
    if (step % o.save_every == 0 || step == o.steps) trainer.state.save(checkpoint, identity);
    each_step(step);
  }
}

inline void train_diffusion(const TrainingOptions& o) {
  if (o.scenes == 0) throw md::Error("scenes: expected at least 1 picture of two objects, found 0");
  const md::Executor ex(o.threads, o.precision);
  const auto entries = read_names();
  const Vocabulary vocabulary(o.level, entries);
  const Bitmaps bitmaps = load_bitmaps(vocabulary);
  const Dataset dataset(vocabulary, visibility_of(bitmaps), o.seed);
  const std::string tokenizer_bytes = tokenizer_model(o, entries);
  const md::Tokenizer tokenizer(tokenizer_bytes);
  if (tokenizer.vocabulary() > demo.text.vocabulary)
    throw md::Error("tokenizer.model: expected at most " + std::to_string(demo.text.vocabulary) + " pieces, found " +
                    std::to_string(tokenizer.vocabulary()));
  Autoencoder vae(ex, o.out / "vae.safetensors");
  const LatentCache cache(ex, dataset, bitmaps, tokenizer, vae, o.scenes);

  std::vector<std::string> sheet_captions;
  for (const Sample& s : dataset.gallery()) sheet_captions.push_back(s.caption);
  for (const Sample& s : dataset.seen_singles(20)) sheet_captions.push_back(s.caption);
  md::train::DiffusionTrainer<demo> trainer(ex, diffusion_options(o));
  // Latents of another encoder are another language, and seed, batch and vocabulary decide which sample comes next.
  const md::Metadata identity{{"encoder", md::detail::hexadecimal(vae.encoder_checksum())},
                              {"seed", std::to_string(o.seed)},
                              {"batch", std::to_string(o.batch)},
                              {"concepts", std::to_string(vocabulary.size())}};
  train_on(trainer, cache, tokenizer, o, identity, [&](std::size_t step) {
    if (step % o.sheet_every == 0 || step == o.steps)
      md::write_png(o.out / ("sheet_" + std::to_string(step) + ".png"),
                    md::contact_sheet(draw_samples(ex, trainer.state.average, tokenizer, vae, sheet_captions, {}), 8));
  });

  md::ModelWeights<demo> whole{trainer.state.average.text_encoder, trainer.state.average.unet, vae.weights};
  md::Metadata about{{"training.samples", std::to_string(o.steps * o.batch)},
                     {"training.seed", std::to_string(o.seed)},
                     {"training.concepts", std::to_string(vocabulary.size())}};
  words_of_captions(vocabulary).write(about);
  md::write_model<demo>(o.out / "emoji.safetensors", whole, tokenizer_bytes, md::Dtype::f16, about);
}

}  // namespace emoji
