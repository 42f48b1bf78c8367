// SPDX-License-Identifier: Apache-2.0
// Samples a second of the demo's training step (UNet and text encoder, batch 32): what tests/twin/train_step.py times in PyTorch.
//
//   training [--precision fp32|bf16] [--threads N] [--batch N] [--steps N]
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/train/diffusion_trainer.hpp"
#include "peak.hpp"

namespace md = mobilediffusion;

int main(int argc, char** argv) {
  CLI::App app{"Times the demo's training step", "training"};
  std::string precision = "bf16";
  int threads = 0;
  std::size_t batch = 32, steps = 7;
  app.add_option("--precision", precision, "Of matrix products")->check(CLI::IsMember({"fp32", "bf16"}))->capture_default_str();
  app.add_option("--threads", threads, "0: all")->capture_default_str();
  app.add_option("--batch", batch)->capture_default_str()->check(CLI::Range(1, 4096));
  app.add_option("--steps", steps)->capture_default_str()->check(CLI::Range(1, 10000));
  CLI11_PARSE(app, argc, argv);
  try {
    constexpr md::ModelConfig preset = md::presets::emoji;
    constexpr std::size_t latents = md::Unet<preset.unet>::latent_floats, length = preset.text.length;
    const md::Executor ex(threads, precision == "bf16" ? md::Precision::bf16 : md::Precision::fp32);
    md::train::DiffusionOptions options;
    options.batch = batch;
    md::train::DiffusionTrainer<preset> trainer(ex, options);
    std::vector<float> x(batch * latents);
    md::Random(1, 1).normals(x);
    std::vector<const float*> pictures;
    std::vector<std::int32_t> ids(batch * length), unconditional(length);
    for (std::size_t i = 0; i < batch; ++i) pictures.push_back(&x[i * latents]);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(4 + i * 7 % 1500);
    std::vector<double> seconds;
    for (std::size_t step = 0; step <= steps; ++step) {  // the first makes memory
      const double start = bench::now(ex);
      trainer.step(pictures, ids.data(), unconditional.data());
      if (step > 0) seconds.push_back(bench::now(ex) - start);
    }
    const double median = bench::median(seconds);
    const double macs = static_cast<double>(3 * batch * (md::Unet<preset.unet>::macs + md::TextEncoder<preset.text>::macs));
    const bench::Peak peak = bench::measure_peak(ex);
    std::printf("%s, batch %zu, %d threads: %.3f s a step (median of %zu), %.1f samples/s, %.0f %% of peak\n", precision.c_str(),
                batch, ex.threads(), median, steps, static_cast<double>(batch) / median,
                100 * macs / median / peak.of(precision == "bf16" ? md::Format::bf16 : md::Format::fp32));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "training: %s\n", e.what());
    return 1;
  }
  return 0;
}
