// SPDX-License-Identifier: Apache-2.0
// MobileDiffusion at its real size: a prompt becomes 512x512 pixels in one step or eight. Nobody has published weights, so the
// pictures are noise; time and memory are real.
//
//   full_size MODEL [-o PICTURE] [--steps N]     MODEL: a file of seeded random weights (1 GB), written if it is missing
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>

#include "common/arguments.hpp"
#include "mobilediffusion/mobilediffusion.hpp"
#include "mobilediffusion/train/initialize.hpp"
#include "mobilediffusion/train/tokenizer.hpp"

namespace md = mobilediffusion;

namespace {

constexpr md::ModelConfig preset = md::presets::full;
using Model = md::TextToImage<preset>;
static_assert(md::Unet<preset.unet>::parameters == 391'726'152);
static_assert(md::Unet<preset.unet>::macs < 200'000'000'000);

void write_random_model(const std::filesystem::path& path, std::uint64_t seed) {
  using Weights = md::ModelWeights<preset>;
  const md::AlignedBuffer blob(md::reflect::storage_floats<Weights>());
  Weights weights{};
  md::reflect::bind(weights, blob.data());
  md::train::initialize(weights, seed, {.zero_branches = false});
  const std::vector<std::string> captions{"a photo of a cat", "a painting of a dog", "an astronaut on a horse", "a red apple"};
  md::write_model<preset>(path, weights, md::train_tokenizer(captions, 40), md::Dtype::f16, {{"training.note", "random weights"}});
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double mebibytes(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"MobileDiffusion at 512x512 with random weights", "full_size"};
  std::string model_path, output = "full.png", prompt = "a photo of a cat";
  std::size_t steps = 1;
  int threads = 0;
  app.add_option("model", model_path, "A file of the preset full; written with random weights if it is missing")->required();
  app.add_option("-o,--output", output, "The picture")->capture_default_str();
  app.add_option("--prompt", prompt)->capture_default_str();
  app.add_option("--steps", steps)->capture_default_str();
  app.add_option("--threads", threads, "0: all")->capture_default_str();
  if (const auto status = examples::parse(app, argc, argv)) return *status;
  try {
    if (!std::filesystem::exists(model_path)) write_random_model(model_path, 1);
    auto start = std::chrono::steady_clock::now();
    Model model(model_path, threads);
    std::printf("loaded and packed in %.2f s\n", seconds_since(start));
    for (int run = 0; run < 3; ++run) {
      start = std::chrono::steady_clock::now();
      const md::Image image = model.generate({.prompt = prompt, .seed = 7, .steps = steps});
      std::printf("%zux%zu pixels, %zu step%s, %d threads: %.2f s\n", image.width, image.height, steps, steps == 1 ? "" : "s",
                  model.threads(), seconds_since(start));
      md::write_png(output, image);
    }
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    std::printf("weights %.0f MiB, activations planned %.1f MiB, used %.1f MiB; the whole program at most %.0f MiB\n",
                mebibytes(Model::weight_bytes), mebibytes(Model::activation_bytes), mebibytes(model.peak_activation_bytes()),
                static_cast<double>(usage.ru_maxrss) / 1024);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "full_size: %s\n", e.what());
    return 1;
  }
  return 0;
}
