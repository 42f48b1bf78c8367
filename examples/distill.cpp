// SPDX-License-Identifier: Apache-2.0
// Makes the demo model draw in fewer steps, on the pictures that it was trained on.
//
//   distill --model emoji.safetensors --out FOLDER [--stage progressive|ufogen|all]
//
// progressive: the guided model is the teacher of a student that takes half its steps and no guidance, which teaches the next; at
// 8 and 4 steps students go to files (FOLDER/emoji_8_steps.safetensors, emoji_4_steps.safetensors). ufogen finetunes the UNet
// together with a discriminator until one step from noise is a picture (FOLDER/emoji_one_step.safetensors); with --stage all it
// begins from the last student and takes that one's pictures for goals. The text encoder and the autoencoder stay as they are.
// Every few minutes a checkpoint is written, from which a killed run goes on bit-exactly; losses and the variety over seeds go to
// CSV files; sheets of pictures show the progress.
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
  app.add_option("--model", options.model, "the model to start from")->type_name("FILE")->capture_default_str();
  app.add_option("--out", options.out, "folder for checkpoints, logs, sheets and models")->required()->type_name("FOLDER");
  app.add_option("--stage", stage, "progressive, ufogen or all")
      ->check(CLI::IsMember({"progressive", "ufogen", "all"}))
      ->capture_default_str();
  app.add_option("--precision", precision, "of matrix products: fp32 or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  examples::add_whole(app, "--threads", 0, 1024, "Default 0: all", [&](auto n) { options.threads = static_cast<int>(n); });
  examples::add_whole(app, "--seed", 0, UINT64_MAX, "Default 1", [&](auto n) { options.seed = n; });
  const auto count = [&](const char* name, std::size_t& value, const char* help) { examples::add_count(app, name, value, help); };
  const auto number = [&](const char* name, float& value, const char* help) {
    char text[32];
    std::snprintf(text, sizeof text, "; default %g", static_cast<double>(value));
    examples::add_number(app, name, std::string(help) + text, [&](float x) { value = x; });
  };
  count("--batch", options.batch, "Samples of a step");
  count("--micro-batch", options.micro_batch, "Of a pass, of which a step has several");
  count("--scenes", options.scenes, "Cached pictures of two objects");
  count("--save-every", options.save_every, "Steps between checkpoints");
  count("--sheet-every", options.sheet_every, "Steps between sheets of pictures");
  count("--first", options.first, "progressive: sampling steps of the first student, --until times a power of two");
  app.add_option("--until", options.until, "progressive: sampling steps of the last student, 4 or 8")
      ->check(CLI::IsMember({4, 8}))
      ->capture_default_str();
  count("--round-steps", options.round_steps, "progressive: training steps of each round");
  number("--round-rate", options.round_rate, "progressive: peak learning rate");
  number("--guidance", options.guidance, "progressive: of the first teacher");
  count("--steps", options.steps, "ufogen: of the generator");
  number("--rate", options.rate, "ufogen: peak learning rate of the generator");
  number("--discriminator-rate", options.discriminator_rate, "ufogen: its peak learning rate");
  number("--reconstruction", options.reconstruction, "ufogen: weight of the distance to the picture");
  number("--signal-power", options.signal_power, "ufogen: that weight falls with the signal to this power");
  number("--sampler-share", options.sampler_share, "ufogen: of the samples at the sampler's own times, 0 to 1");
  count("--intervals", options.intervals, "ufogen: K; pictures are judged with the noise of 1/K of the time earlier; 1: without");
  count("--discriminator-every", options.discriminator_every, "ufogen: generator steps for one of the discriminator");
  app.add_option("--from", options.from,
                 "ufogen: model file whose UNet to start from; default: --model, of all stages the last student")
      ->type_name("FILE");
  app.add_option(
         "--goals", options.goals,
         "ufogen: model file, of the same tokenizer and autoencoder, whose pictures the generator is compared with; default: "
         "the true pictures, of all stages those of the last student")
      ->type_name("FILE");
  app.footer("Exit status: 1 for files that cannot be used, 2 for wrong arguments.");
  app.callback([&] {
    if (options.batch % options.micro_batch != 0) throw CLI::ValidationError("--batch", "expected a multiple of --micro-batch");
    if (options.sampler_share > 1.0f) throw CLI::ValidationError("--sampler-share", "expected at most 1");
    if (options.first < options.until || options.first % options.until != 0 ||
        !std::has_single_bit(options.first / options.until) || options.first > 500)
      throw CLI::ValidationError("--first", "expected " + std::to_string(options.until) +
                                                " times a power of two, at most 500, found " + std::to_string(options.first));
  });
  if (const auto status = examples::parse(app, argc, argv)) return *status;
  try {
    if (stage == "all")  // UFOGen goes on from the last student
      for (auto* path : {&options.from, &options.goals})
        if (path->empty()) *path = options.out / ("emoji_" + std::to_string(options.until) + "_steps.safetensors");
    options.precision = precision == "bf16" ? md::Precision::bf16 : md::Precision::fp32;
    md::create_folders(options.out);
    emoji::DistillationData data(options);
    if (stage == "progressive" || stage == "all") emoji::train_progressive(data);
    if (stage == "ufogen" || stage == "all") emoji::train_ufogen(data);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "distill: %s\n", e.what());
    return 1;
  }
  return 0;
}
