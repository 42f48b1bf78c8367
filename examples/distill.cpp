// SPDX-License-Identifier: Apache-2.0
// Makes the demo model draw in fewer steps, on the pictures that it was trained on.
//
//   distill --model emoji.safetensors --out FOLDER [--stage progressive|ufogen|all]
//
// progressive: the guided model is the teacher of a student that takes half its steps and no guidance, which teaches the next; at
// 8 and 4 steps students go to files (FOLDER/emoji_8_steps.safetensors, emoji_4_steps.safetensors). ufogen finetunes the UNet
// together with a discriminator until one step from noise is a picture (FOLDER/emoji_one_step.safetensors). The text encoder and
// the autoencoder stay as they are. Every few minutes a checkpoint is written, from which a killed run goes on bit-exactly;
// losses and the variety over seeds go to CSV files; sheets of pictures show the progress.
#include <CLI/CLI.hpp>
#include <bit>
#include <cstdio>
#include <filesystem>
#include <string>

#include "common/arguments.hpp"
#include "emoji/distillation.hpp"

namespace md = mobilediffusion;

int main(int argc, char** argv) {
  emoji::DistillationOptions options;
  options.model = MOBILEDIFFUSION_DEMO_FOLDER "/emoji.safetensors";
  CLI::App app{"Fewer steps for the demo model", "distill"};
  std::string stage = "all", precision = "bf16";
  app.add_option("--model", options.model, "the model to start from")->capture_default_str();
  app.add_option("--out", options.out, "folder for checkpoints, logs, sheets and models")->required();
  app.add_option("--stage", stage, "progressive, ufogen or all")
      ->check(CLI::IsMember({"progressive", "ufogen", "all"}))
      ->capture_default_str();
  app.add_option("--precision", precision, "of matrix products: fp32 or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "0: all")->capture_default_str();
  app.add_option("--seed", options.seed)->capture_default_str();
  app.add_option("--batch", options.batch)->capture_default_str();
  app.add_option("--micro-batch", options.micro_batch)->capture_default_str();
  app.add_option("--scenes", options.scenes, "cached pictures of two objects")->capture_default_str();
  app.add_option("--save-every", options.save_every, "steps between checkpoints")->capture_default_str();
  app.add_option("--sheet-every", options.sheet_every, "steps between sheets of pictures")->capture_default_str();
  app.add_option("--first", options.first, "progressive: sampling steps of the first student, until times a power of two")
      ->capture_default_str();
  app.add_option("--until", options.until, "progressive: sampling steps of the last student, 4 or 8")
      ->check(CLI::IsMember({4, 8}))
      ->capture_default_str();
  app.add_option("--round-steps", options.round_steps, "progressive: training steps of each round")->capture_default_str();
  app.add_option("--round-rate", options.round_rate, "progressive: peak learning rate")->capture_default_str();
  app.add_option("--guidance", options.guidance, "progressive: of the first teacher")->capture_default_str();
  app.add_option("--steps", options.steps, "ufogen: of the generator")->capture_default_str();
  app.add_option("--rate", options.rate, "ufogen: peak learning rate of the generator")->capture_default_str();
  app.add_option("--discriminator-rate", options.discriminator_rate, "ufogen: its peak learning rate")->capture_default_str();
  app.add_option("--reconstruction", options.reconstruction, "ufogen: weight of the distance to the picture")
      ->capture_default_str();
  app.add_option("--signal-power", options.signal_power, "ufogen: that weight falls with the signal to this power")
      ->capture_default_str();
  app.add_option("--sampler-share", options.sampler_share, "ufogen: of the samples at the sampler's own times")
      ->capture_default_str();
  app.add_option("--intervals", options.intervals,
                 "ufogen: pictures are judged with the noise of this share of the time earlier; 1: without")
      ->capture_default_str();
  app.add_option("--discriminator-every", options.discriminator_every, "ufogen: generator steps for one of the discriminator")
      ->capture_default_str();
  app.add_option("--from", options.from, "ufogen: model file whose UNet to start from; default: --model");
  if (const auto status = examples::parse(app, argc, argv)) return *status;
  try {
    options.precision = precision == "bf16" ? md::Precision::bf16 : md::Precision::fp32;
    if (options.scenes == 0) throw md::Error("scenes: expected at least 1 picture of two objects, found 0");
    for (std::size_t every : {options.save_every, options.sheet_every})
      if (every == 0) throw md::Error("save-every, sheet-every: expected at least 1, found 0");
    if (options.first < options.until || options.first % options.until != 0 ||
        !std::has_single_bit(options.first / options.until) || options.first > 500)
      throw md::Error("first: expected " + std::to_string(options.until) + " times a power of two, at most 500, found " +
                      std::to_string(options.first));
    std::filesystem::create_directories(options.out);
    emoji::DistillationData data(options);
    if (stage == "progressive" || stage == "all") emoji::train_progressive(data);
    if (stage == "ufogen" || stage == "all") emoji::train_ufogen(data);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "distill: %s\n", e.what());
    return 1;
  }
  return 0;
}
