// SPDX-License-Identifier: Apache-2.0
// First stage: the autoencoder, on scenes of everything that the font can draw.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "../common/progress.hpp"
#include "bitmaps.hpp"
#include "dataset.hpp"
#include "mobilediffusion/train/vae_trainer.hpp"
#include "training.hpp"

namespace emoji {

// The VAE never sees these concepts: its error is measured on them.
inline bool held_out_of_vae(const Concept& c) { return stable_hash({"vae", c.name}) % 25 == 0; }

// Scenes for the autoencoder: two of three from things, the rest from everything that can be drawn.
class VaePictures {
 public:
  explicit VaePictures(std::uint64_t seed)
      : entries_(read_names()), all_(Level::all, entries_), bitmaps_(load_bitmaps(all_)), things_(Level::objects, entries_),
        everything_(all_, visibility_of(bitmaps_), seed),
        only_things_(things_, visibility_of(load_bitmaps(things_)), seed) {
    for (std::size_t i = 0; i < all_.size(); ++i)
      if (held_out_of_vae(all_[i])) held_out_.push_back(i);
  }
  Scene scene(std::uint64_t index) const {
    for (std::uint64_t attempt = 0;; ++attempt) {
      const Scene s = (index % 3 == 0 ? everything_ : only_things_).autoencoder_scene(index * 64 + attempt);
      if (std::none_of(s.objects.begin(), s.objects.end(), [&](const Placement& p) { return held_out_of_vae(all_[p.concept_id]); })) return s;
    }
  }
  // Pictures of concepts that training leaves out, centred, on every background in turn.
  std::vector<Scene> held_out() const {
    std::vector<Scene> out;
    for (std::size_t k = 0; k < held_out_.size(); ++k) out.push_back({{layout::single(held_out_[k])}, k % backgrounds.size()});
    return out;
  }
  void render(const Scene& s, float* out) const { bitmaps_.render(s, std::span<float>(out, picture_bytes)); }

 private:
  std::vector<Entry> entries_;
  Vocabulary all_;
  Bitmaps bitmaps_;
  Vocabulary things_;
  Dataset everything_, only_things_;
  std::vector<std::size_t> held_out_;
};

inline double psnr_of(double mean_squared_error, double range) { return 10.0 * std::log10(range * range / mean_squared_error); }

template <class Trainer>
double vae_psnr(Trainer& trainer, const VaePictures& pictures, std::size_t limit, md::Image* sheet = nullptr) {
  const auto scenes = pictures.held_out();
  const std::size_t count = std::min(limit, scenes.size());
  std::vector<float> x(picture_bytes), y(picture_bytes), z(md::Vae<demo.vae>::latent_floats);
  std::vector<md::Image> images;
  double sum = 0;
  for (std::size_t k = 0; k < count; ++k) {
    pictures.render(scenes[k * scenes.size() / count], x.data());
    trainer.encode(x.data(), 1, z.data());
    trainer.decode(z.data(), 1, y.data());
    double error = 0;
    for (std::size_t i = 0; i < picture_bytes; ++i) {
      const double e = static_cast<double>(x[i]) - static_cast<double>(std::clamp(y[i], -1.0f, 1.0f));
      error += e * e;
    }
    sum += psnr_of(error / static_cast<double>(picture_bytes), 2.0);
    if (sheet != nullptr && k < 32) images.push_back(to_image(x)), images.push_back(to_image(y));
  }
  if (sheet != nullptr) *sheet = md::contact_sheet(images, 8);
  return sum / static_cast<double>(count);
}

inline void train_vae(const TrainingOptions& o) {
  const md::Executor ex(o.threads, o.precision);
  const VaePictures pictures(o.seed);
  md::train::VaeOptions options;
  options.batch = o.vae_batch;
  options.seed = o.seed;
  options.optimizer.adamw.weight_decay = 0.0f;
  options.optimizer.schedule = {o.vae_rate, 0.02f * o.vae_rate, 100, o.vae_steps / 3, o.vae_steps};
  options.optimizer.ema_decay = 0.998f;
  md::train::VaeTrainer<demo.vae> trainer(ex, options);
  const auto checkpoint = o.out / "vae.checkpoint.safetensors";
  const bool resumed = std::filesystem::exists(checkpoint);
  if (resumed) trainer.state.load(checkpoint);
  std::ofstream log = open_log(o.out / "vae.csv", resumed, "step,seconds,loss,mse,kl,latent_deviation,gradient_norm,learning_rate");
  examples::Progress progress("vae", o.vae_steps, trainer.state.step);
  std::vector<float> batch(o.vae_batch * picture_bytes);
  float deviation = 0;
  while (trainer.state.step < o.vae_steps) {
    const std::size_t first = trainer.state.step * o.vae_batch;
    ex.parallel_for(o.vae_batch, 1, [&](std::size_t begin, std::size_t end, int) {
      for (std::size_t i = begin; i < end; ++i) pictures.render(pictures.scene(first + i), &batch[i * picture_bytes]);
    });
    const md::train::VaeReport r = trainer.step(batch.data());
    const std::size_t step = trainer.state.step;
    deviation = deviation == 0 ? r.latent_deviation : 0.99f * deviation + 0.01f * r.latent_deviation;
    if (step % 20 == 0)
      log << step << ',' << progress.seconds() << ',' << r.loss << ',' << r.mse << ',' << r.kl << ',' << r.latent_deviation << ','
          << r.step.gradient_norm << ',' << r.step.learning_rate << std::endl;
    progress.update(step, "loss " + std::to_string(r.loss));
    if (step % o.save_every == 0 || step == o.vae_steps) {
      trainer.state.save(checkpoint);
      md::Image sheet;
      const double db = vae_psnr(trainer, pictures, 40, &sheet);
      md::write_png(o.out / "vae.png", sheet);
      std::ofstream(o.out / "vae_psnr.csv", std::ios::app) << step << ',' << progress.seconds() << ',' << db << std::endl;
    }
  }
  // Latents of unit variance from here on: measured on what the diffusion model will see.
  double square = 0;
  const std::size_t probes = 128, latents = md::Vae<demo.vae>::latent_floats;
  std::vector<float> x(picture_bytes), z(latents);
  for (std::size_t k = 0; k < probes; ++k) {
    pictures.render(pictures.scene(1'000'000 + k), x.data());
    trainer.encode(x.data(), 1, z.data());
    for (float v : z) square += static_cast<double>(v) * static_cast<double>(v);
  }
  trainer.normalize_latents(static_cast<float>(std::sqrt(square / static_cast<double>(probes * latents))));
  const double db = vae_psnr(trainer, pictures, 1000);
  std::vector<md::TensorToWrite> tensors;
  md::list_weights(tensors, "vae.", trainer.state.average, md::Dtype::f32);
  md::write_safetensors(o.out / "vae.safetensors", tensors, {{"vae_psnr", std::to_string(db)}, {"steps", std::to_string(o.vae_steps)}});
}

}  // namespace emoji
