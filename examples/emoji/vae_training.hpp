// SPDX-License-Identifier: Apache-2.0
// First stage: the autoencoder, on scenes of everything that the font can draw. Second: its decoder alone, for longer.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "../common/progress.hpp"
#include "mobilediffusion/train/vae_trainer.hpp"
#include "training.hpp"
#include "vae_pictures.hpp"

namespace emoji {

// decoder_only: goes on from OUT/vae.safetensors and leaves its encoder as it is, so that a diffusion model trained on its
// latents gets sharper pictures without another step.
inline void train_vae(const TrainingOptions& o, bool decoder_only = false) {
  const md::Executor ex(o.threads, o.precision);
  const VaePictures pictures(o.seed);
  const std::string name = decoder_only ? "decoder" : "vae";
  const std::size_t steps = decoder_only ? o.decoder_steps : o.vae_steps;
  md::train::VaeOptions options;
  options.batch = o.vae_batch;
  options.micro_batch = o.vae_batch % 2 == 0 ? o.vae_batch / 2 : o.vae_batch;
  options.freeze_encoder = decoder_only;
  options.seed = o.seed;
  options.optimizer.adamw.weight_decay = 0.0f;
  const float rate = decoder_only ? o.decoder_rate : o.vae_rate;
  options.optimizer.schedule = {rate, 0.02f * rate, 100, steps / 3, steps};
  options.optimizer.ema_decay = 0.998f;
  md::train::VaeTrainer<demo.vae> trainer(ex, options);
  const auto checkpoint = o.out / (name + ".checkpoint.safetensors"), result = o.out / "vae.safetensors";
  if (md::path_exists(checkpoint)) {
    trainer.state.load(checkpoint);
  } else if (decoder_only) {
    const md::SafetensorsFile file(result);
    md::check_weights<md::Vae<demo.vae>::Weights>(file, "vae.");
    md::read_weights(file, "vae.", trainer.state.weights);
    trainer.state.start_average();
  }
  Log log(o.out / (name + ".csv"), trainer.state.step, "step,seconds,loss,mse,kl,latent_deviation,gradient_norm,learning_rate");
  Log measured(o.out / (name + "_psnr.csv"), trainer.state.step, "step,seconds,psnr");
  examples::Progress progress(name, steps, trainer.state.step);
  std::vector<float> batch(o.vae_batch * picture_bytes);
  while (trainer.state.step < steps) {
    const std::size_t first = trainer.state.step * o.vae_batch;
    ex.parallel_for(o.vae_batch, 1, [&](std::size_t begin, std::size_t end, int) {
      for (std::size_t i = begin; i < end; ++i) pictures.render(pictures.scene(first + i), &batch[i * picture_bytes]);
    });
    const md::train::VaeReport r = trainer.step(batch.data());
    const std::size_t step = trainer.state.step;
    if (step % 20 == 0)
      log.row(step, progress.seconds(), r.loss, r.mse, r.kl, r.latent_deviation, r.step.gradient_norm, r.step.learning_rate);
    progress.update(step, "loss " + std::to_string(r.loss));
    if (step % o.save_every == 0 || step == steps) {
      trainer.state.save(checkpoint);
      md::Image sheet;
      const double db = vae_psnr(trainer, pictures, 40, &sheet);
      md::write_png(o.out / (name + ".png"), sheet);
      measured.row(step, progress.seconds(), db);
    }
  }
  if (!decoder_only) {
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
  }
  const double db = vae_psnr(trainer, pictures, 1000);
  std::vector<md::TensorToWrite> tensors;
  md::list_weights(tensors, "vae.", trainer.state.average, md::Dtype::f32);
  md::write_safetensors(result, tensors, {{"vae_psnr", std::to_string(db)}, {"steps", std::to_string(steps)}});
}

}  // namespace emoji
