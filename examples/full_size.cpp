// SPDX-License-Identifier: Apache-2.0
// MobileDiffusion at its real size: a prompt becomes 512x512 pixels in one step or eight. Nobody has published weights, so the
// pictures are noise; time and memory are real.
//
//   full_size MODEL [-o PICTURE] [--steps N] [--format fp32|bf16|int8]
//
// MODEL: a file of seeded random weights (1 GB), written if it is missing.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "common/arguments.hpp"
#include "mobilediffusion/mobilediffusion.hpp"
#include "mobilediffusion/train/initialize.hpp"
#include "mobilediffusion/train/tokenizer.hpp"

namespace md = mobilediffusion;

namespace {

constexpr md::ModelConfig preset = md::presets::MOBILEDIFFUSION_FULL_SIZE;  // CMake's value of that name: full
static_assert(md::Unet<md::presets::full.unet>::parameters == 391'726'152);
static_assert(md::Unet<md::presets::full.unet>::macs < 200'000'000'000);

void write_random_model(const std::filesystem::path& path, std::uint64_t seed) {
  using Weights = md::ModelWeights<preset>;
  const md::AlignedBuffer blob(md::reflect::storage_floats<Weights>());
  Weights weights{};
  md::reflect::bind(weights, blob.data());
  md::train::initialize(weights, seed, {.zero_branches = false});
  const std::vector<std::string> captions{"a photo of a cat", "a painting of a dog", "an astronaut on a horse", "a red apple"};
  md::write_model<preset>(path, weights, md::train_tokenizer(captions, 40), md::Dtype::f16,
                          {{"training.note", "random weights"}});
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double mebibytes(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// Where a picture's time goes; the parts are all of it.
using Stages = std::array<double, 5>;
constexpr std::array<const char*, 5> stage_names{"text encoder", "UNet", "decoder", "tokenizer, noise, rounding to 8 bits",
                                                 "PNG"};

double median_of(const std::vector<Stages>& all, std::size_t stage) {
  std::vector<double> values;
  for (const Stages& s : all) values.push_back(s[stage]);
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

struct Options {
  std::string model, output = "full.png", prompt = "a photo of a cat";
  std::size_t steps = 1, repetitions = 3;
  int threads = 0;
};

template <md::Format F>
void run(const Options& o) {
  using Model = md::TextToImage<preset, F>;
  auto start = std::chrono::steady_clock::now();
  Model model(o.model, o.threads);
  const double load = seconds_since(start);
  std::printf("loaded and packed as %s in %.2f s\n", md::name_of(F), load);
  std::vector<double> seconds;
  std::vector<Stages> stages;
  for (std::size_t i = 0; i < o.repetitions; ++i) {
    start = std::chrono::steady_clock::now();
    const md::Image image = model.generate({.prompt = o.prompt, .seed = 7, .steps = o.steps});
    const double drawn = seconds_since(start);
    md::write_png(o.output, image);
    seconds.push_back(seconds_since(start));
    const md::StageTimes& t = model.times();
    stages.push_back({t.text_encoder, t.unet, t.decoder, drawn - t.text_encoder - t.unet - t.decoder, seconds.back() - drawn});
    std::printf("%zux%zu pixels, %zu step%s, %d threads: prompt to PNG in %.2f s\n", image.width, image.height, o.steps,
                o.steps == 1 ? "" : "s", model.threads(), seconds.back());
  }
  const double first = load + seconds.front();
  for (std::size_t stage = 0; stage < stage_names.size(); ++stage)
    std::printf("  %-34s %7.1f ms\n", stage_names[stage], 1000 * median_of(stages, stage));
  std::printf("first picture %.2f s after the program began to load\n", first);
  std::sort(seconds.begin(), seconds.end());
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "median %.3f s; weights %.0f MiB, activations planned %.1f MiB, used %.1f MiB; the whole program at most %.0f MiB\n",
      seconds[seconds.size() / 2], mebibytes(Model::weight_bytes), mebibytes(Model::activation_bytes),
      mebibytes(model.peak_activation_bytes()), static_cast<double>(usage.ru_maxrss) / 1024);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"MobileDiffusion at 512x512 with random weights", "full_size"};
  Options o;
  md::Format format = md::Format::fp32;
  app.add_option("model", o.model, "A file of the preset that this is built for; written with random weights if it is missing")
      ->required();
  app.add_option("-o,--output", o.output, "The picture")->capture_default_str();
  app.add_option("--prompt", o.prompt)->capture_default_str();
  app.add_option("--steps", o.steps)->capture_default_str();
  app.add_option("--repetitions", o.repetitions)->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_option("--threads", o.threads, "0: all")->capture_default_str();
  examples::add_format(app, [&](md::Format f) { format = f; });
  if (const auto status = examples::parse(app, argc, argv)) return *status;
  try {
    if (!md::path_exists(o.model)) write_random_model(o.model, 1);
    if (format == md::Format::bf16) run<md::Format::bf16>(o);
    else if (format == md::Format::int8) run<md::Format::int8>(o);
    else run<md::Format::fp32>(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "full_size: %s\n", e.what());
    return 1;
  }
  return 0;
}
