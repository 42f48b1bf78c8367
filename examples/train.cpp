// SPDX-License-Identifier: Apache-2.0
// Trains the demo model from nothing but two Debian packages: pictures from an emoji font, captions from Unicode's names.
//
//   train --out FOLDER [--level animals-foods|objects|all] [--stage vae|decoder|diffusion|all]
//
// The VAE comes first, then its decoder alone goes on; latents of all training pictures are cached; UNet and text encoder then
// learn together. Every few minutes a checkpoint is written, from which a killed training goes on bit-exactly; losses go to CSV
// files; sheets of pictures show the progress. At the end FOLDER/emoji.safetensors is the whole model: one file.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "common/arguments.hpp"
#include "emoji/diffusion_training.hpp"
#include "emoji/vae_training.hpp"

namespace md = mobilediffusion;

int main(int argc, char** argv) {
  emoji::TrainingOptions options;
  CLI::App app{"Train the demo model: VAE, text encoder and UNet"};
  std::string level = "animals-foods", stage = "all", precision = "bf16", out;
  std::vector<std::string> wordless;
  app.add_option("--out", out, "folder for checkpoints, logs, sheets and the model");
  app.add_option("--add-words", wordless, "no training: write the words of their captions into model files that lack them")
      ->type_name("FILE");
  app.add_option("--level", level, "vocabulary: animals-foods (285 concepts), objects (849) or all (2109)")
      ->capture_default_str();
  app.add_option("--stage", stage, "vae, decoder, diffusion or all")
      ->check(CLI::IsMember({"vae", "decoder", "diffusion", "all"}))
      ->capture_default_str();
  app.add_option("--precision", precision, "of matrix products: fp32 or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "0: all")->capture_default_str();
  app.add_option("--seed", options.seed)->capture_default_str();
  app.add_option("--vae-steps", options.vae_steps)->capture_default_str();
  app.add_option("--decoder-steps", options.decoder_steps, "of the decoder alone")->capture_default_str();
  app.add_option("--vae-batch", options.vae_batch)->capture_default_str();
  app.add_option("--vae-rate", options.vae_rate, "peak learning rate")->capture_default_str();
  app.add_option("--steps", options.steps)->capture_default_str();
  app.add_option("--single-steps", options.single_steps, "the first steps show mostly single objects")->capture_default_str();
  app.add_option("--batch", options.batch)->capture_default_str();
  app.add_option("--micro-batch", options.micro_batch)->capture_default_str();
  app.add_option("--rate", options.rate, "peak learning rate")->capture_default_str();
  app.add_option("--from", options.from, "model file to start text encoder and UNet from");
  app.add_option("--scenes", options.scenes, "cached pictures of two objects")->capture_default_str();
  app.add_option("--save-every", options.save_every, "steps between checkpoints")->capture_default_str();
  app.add_option("--sheet-every", options.sheet_every, "steps between sheets of pictures")->capture_default_str();
  app.callback([&] {
    if (out.empty() && wordless.empty()) throw CLI::RequiredError("--out");
  });
  if (const auto status = examples::parse(app, argc, argv)) return *status;
  try {
    for (const std::string& file : wordless) emoji::add_words_to(file);
    if (!wordless.empty()) return 0;
    options.out = out;
    options.level = emoji::level_from(level);
    options.precision = precision == "bf16" ? md::Precision::bf16 : md::Precision::fp32;
    md::create_folders(options.out);
    if (stage == "vae" || stage == "all") emoji::train_vae(options);
    if (stage == "decoder" || stage == "all") emoji::train_vae(options, true);
    if (stage == "diffusion" || stage == "all") emoji::train_diffusion(options);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "train: %s\n", e.what());
    return 1;
  }
  return 0;
}
