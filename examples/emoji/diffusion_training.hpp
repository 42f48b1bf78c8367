// SPDX-License-Identifier: Apache-2.0
// Second stage: text encoder and UNet together, on cached latents of captioned scenes.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <unordered_map>
#include <vector>

#include "../common/progress.hpp"
#include "bitmaps.hpp"
#include "dataset.hpp"
#include "mobilediffusion/io/tokenizer.hpp"
#include "mobilediffusion/model_file.hpp"
#include "mobilediffusion/sampling.hpp"
#include "mobilediffusion/train/diffusion_trainer.hpp"
#include "mobilediffusion/train/tokenizer.hpp"
#include "training.hpp"

namespace emoji {

// The trained autoencoder.
class Autoencoder {
  using Model = md::Vae<demo.vae>;

 public:
  static constexpr std::size_t latents = Model::latent_floats, group = 8;

  Autoencoder(const md::Executor& ex, const std::filesystem::path& path)
      : ex_(ex), blob_(md::reflect::storage_floats<Model::Weights>()),
        memory_(std::max(Model::Encoder::stack_floats(md::Plan::inference, group), Model::Decoder::stack_floats(md::Plan::inference, group)) +
                3 * group * latents) {
    md::reflect::bind(weights, blob_.data());
    md::read_weights(md::SafetensorsFile(path), "vae.", weights);
  }
  // Pictures [count][128][128][3], at most `group` -> latents [count][latents].
  void encode(const float* pictures, std::size_t count, float* out) {
    md::Stack stack(memory_);
    md::Context c{ex_, stack, count, false};
    float* moments = stack.take(2 * count * latents);
    Model::Encoder::Saved saved{};
    Model::encode(c, weights, pictures, moments, saved);
    constexpr std::size_t k = demo.vae.latent_channels;
    for (std::size_t i = 0; i < count * latents; ++i) out[i] = moments[i / k * 2 * k + i % k];
  }
  void decode(const float* z, std::size_t count, float* pictures) {
    md::Stack stack(memory_);
    md::Context c{ex_, stack, count, false};
    Model::Decoder::Saved saved{};
    Model::decode(c, weights, z, pictures, saved);
  }

  Model::Weights weights{};

 private:
  const md::Executor& ex_;
  md::AlignedBuffer blob_, memory_;
};

// Latents and tokens of everything that training shows. Scenes of one object are complete; two-object scenes are a fixed pool.
class LatentCache {
 public:
  LatentCache(const Dataset& dataset, const Bitmaps& bitmaps, const md::Tokenizer& tokenizer, Autoencoder& vae, std::size_t scenes)
      : dataset_(dataset) {
    std::vector<Sample> samples = dataset.training_singles();
    for (Sample& s : dataset.training_counts()) samples.push_back(std::move(s));
    for (std::size_t i = 0; i < samples.size(); ++i) index_.emplace(samples[i].caption, i);
    singles_ = samples.size();
    for (std::uint64_t k = 0; samples.size() < singles_ + scenes; ++k)
      if (Sample s = dataset.training_sample(pool_first + k); s.scene.objects.size() == 2 && (s.task == Task::pair || s.task == Task::size))
        samples.push_back(std::move(s));
    latents_.resize(samples.size() * Autoencoder::latents);
    ids_.resize(samples.size() * length);
    std::vector<float> pictures(Autoencoder::group * picture_bytes);
    examples::Progress progress("encoding", samples.size());
    for (std::size_t first = 0; first < samples.size(); first += Autoencoder::group) {
      const std::size_t n = std::min(Autoencoder::group, samples.size() - first);
      for (std::size_t i = 0; i < n; ++i) {
        bitmaps.render(samples[first + i].scene, std::span<float>(&pictures[i * picture_bytes], picture_bytes));
        const auto ids = tokenizer.encode(samples[first + i].caption, length);
        std::copy(ids.begin(), ids.end(), &ids_[(first + i) * length]);
      }
      vae.encode(pictures.data(), n, &latents_[first * Autoencoder::latents]);
      progress.update(first + n);
    }
  }

  static constexpr std::size_t length = demo.text.length;
  std::size_t size() const { return ids_.size() / length; }

  // Which entry training sample number `index` uses.
  std::size_t entry(std::uint64_t index) const {
    const Sample s = dataset_.training_sample(index);
    if (const auto at = index_.find(s.caption); at != index_.end()) return at->second;
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

// Pictures of captions, with weights that are not packed: for sheets during training.
template <class Weights>
std::vector<md::Image> draw_samples(const md::Executor& ex, const Weights& weights, const md::Tokenizer& tokenizer, Autoencoder& vae,
                                    const std::vector<std::string>& captions, std::size_t steps, float guidance) {
  using Sampling = md::Sampling<demo>;
  constexpr std::size_t group = Autoencoder::group, length = demo.text.length;
  md::AlignedBuffer memory(Sampling::stack_floats(group));
  std::vector<md::Image> images;
  std::vector<float> z(group * Autoencoder::latents), pictures(group * picture_bytes);
  const auto unconditional = tokenizer.encode_unconditional(length);
  for (std::size_t first = 0; first < captions.size(); first += group) {
    const std::size_t n = std::min(group, captions.size() - first);
    std::vector<std::int32_t> ids;
    std::vector<std::uint64_t> seeds;
    for (std::size_t i = 0; i < n; ++i) {
      const auto tokens = tokenizer.encode(captions[first + i], length);
      ids.insert(ids.end(), tokens.begin(), tokens.end());
      seeds.push_back(first + i);
    }
    for (std::size_t i = 0; i < n; ++i) ids.insert(ids.end(), unconditional.begin(), unconditional.end());
    md::Stack stack(memory);
    Sampling::run(ex, stack, false, weights.text_encoder, weights.unet, ids.data(), seeds.data(), n, steps, guidance, z.data(),
                  [](md::Progress) { return true; });
    vae.decode(z.data(), n, pictures.data());
    for (std::size_t i = 0; i < n; ++i) images.push_back(to_image({&pictures[i * picture_bytes], picture_bytes}));
  }
  return images;
}

// The tokenizer is learnt once, from the captions of everything, so that a wider vocabulary can train on.
inline std::string tokenizer_model(const TrainingOptions& o, const std::vector<Entry>& entries) {
  const auto path = o.out / "tokenizer.model";
  if (std::filesystem::exists(path)) return md::read_file(path);
  const Vocabulary all(Level::all, entries);
  const Dataset dataset(all, visibility_of(load_bitmaps(all)), o.seed);
  const std::string model = md::train_tokenizer(dataset.captions(), demo.text.vocabulary);
  md::write_file(path, model);
  return model;
}

inline void train_diffusion(const TrainingOptions& o) {
  const md::Executor ex(o.threads, o.precision);
  const auto entries = read_names();
  const Vocabulary vocabulary(o.level, entries);
  const Bitmaps bitmaps = load_bitmaps(vocabulary);
  const Dataset dataset(vocabulary, visibility_of(bitmaps), o.seed);
  const std::string tokenizer_bytes = tokenizer_model(o, entries);
  const md::Tokenizer tokenizer(tokenizer_bytes);
  Autoencoder vae(ex, o.out / "vae.safetensors");
  const LatentCache cache(dataset, bitmaps, tokenizer, vae, o.scenes);

  md::train::DiffusionOptions options;
  options.batch = o.batch;
  options.micro_batch = o.micro_batch;
  options.seed = o.seed;
  options.optimizer.schedule = {o.rate, 0.03f * o.rate, 300, o.steps / 2, o.steps};
  options.optimizer.ema_decay = 0.998f;
  md::train::DiffusionTrainer<demo> trainer(ex, options);
  const auto checkpoint = o.out / "diffusion.checkpoint.safetensors";
  const bool resumed = std::filesystem::exists(checkpoint);
  if (resumed) trainer.state.load(checkpoint);
  std::ofstream log = open_log(o.out / "diffusion.csv", resumed,
                               "step,seconds,samples_per_second,loss,t<.25,t<.5,t<.75,t<.9,t<1,gradient_norm,learning_rate");

  std::vector<std::string> sheet_captions;
  for (const Sample& s : dataset.gallery()) sheet_captions.push_back(s.caption);
  for (const Sample& s : dataset.seen_singles(20)) sheet_captions.push_back(s.caption);
  const auto unconditional = tokenizer.encode_unconditional(demo.text.length);
  examples::Progress progress("diffusion", o.steps, trainer.state.step);
  std::vector<const float*> pictures(o.batch);
  std::vector<std::int32_t> ids(o.batch * demo.text.length);
  double loss = 0;
  while (trainer.state.step < o.steps) {
    for (std::size_t i = 0; i < o.batch; ++i) {
      const std::size_t e = cache.entry(trainer.state.step * o.batch + i);
      pictures[i] = cache.latents(e);
      std::copy_n(cache.ids(e), demo.text.length, &ids[i * demo.text.length]);
    }
    const md::train::DiffusionReport r = trainer.step(pictures, ids.data(), unconditional.data());
    const std::size_t step = trainer.state.step;
    loss = loss == 0 ? static_cast<double>(r.loss) : 0.98 * loss + 0.02 * static_cast<double>(r.loss);
    if (step % 20 == 0) {
      log << step << ',' << progress.seconds() << ',' << progress.rate(step) * static_cast<double>(o.batch) << ',' << r.loss;
      for (float band : r.bands) log << ',' << band;
      log << ',' << r.step.gradient_norm << ',' << r.step.learning_rate << std::endl;
    }
    progress.update(step, "loss " + std::to_string(loss));
    const bool last = step == o.steps;
    if (step % o.save_every == 0 || last) trainer.state.save(checkpoint);
    if (step % o.sheet_every == 0 || last)
      md::write_png(o.out / ("sheet_" + std::to_string(step) + ".png"),
                    md::contact_sheet(draw_samples(ex, trainer.state.average, tokenizer, vae, sheet_captions, 20, 2.5f), 8));
  }

  md::ModelWeights<demo> whole{trainer.state.average.text_encoder, trainer.state.average.unet, vae.weights};
  md::write_model<demo>(o.out / "emoji.safetensors", whole, tokenizer_bytes, md::Dtype::f16,
                        {{"training.samples", std::to_string(o.steps * o.batch)}, {"training.seed", std::to_string(o.seed)},
                         {"training.concepts", std::to_string(vocabulary.size())}});
}

}  // namespace emoji
