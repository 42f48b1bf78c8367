// SPDX-License-Identifier: Apache-2.0
// The library's side of pictures.py: prompt to PNG in memory, with a model that stays loaded; answers commands, one a line.
//   bench_pictures MODEL PRESET [--vae FILE] [--format NAME] [--threads N] [--steps N] [--guidance X] [--vocabulary FOLDER]
#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <sstream>
#include <string>

#include "mobilediffusion/mobilediffusion.hpp"

namespace md = mobilediffusion;

namespace {

struct Options {
  md::ModelPaths paths;
  md::Request request{.prompt = "a photograph of a lighthouse at dusk", .noise = md::NoiseKind::torch};
  md::Format format = md::Format::fp32;
  int threads = 0;
};

template <md::ModelConfig M, md::Format F>
void serve_in(const Options& o) {
  const md::Model<M, F> model(o.paths);
  md::Session<M, F> session(model, {.threads = o.threads});
  md::Request first = o.request;
  first.steps = 1;
  md::encode_png(session.generate(first));
  std::cout << "ready {}" << std::endl;
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    std::istringstream words(line);
    std::string command, seconds;
    std::size_t runs = 0;
    if (!(words >> command >> runs) || command != "time") throw md::Error("expected time N or quit");
    for (std::size_t i = 0; i < runs; ++i) {
      const auto start = std::chrono::steady_clock::now();
      md::encode_png(session.generate(o.request));
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
      seconds += (i > 0 ? " " : "") + std::to_string(passed.count());
    }
    std::cout << seconds << std::endl;
  }
}

template <md::ModelConfig M>
void serve(const Options& o) {
  switch (o.format) {
    case md::Format::fp32:
      return serve_in<M, md::Format::fp32>(o);
    case md::Format::bf16:
      return serve_in<M, md::Format::bf16>(o);
    case md::Format::int8:
      return serve_in<M, md::Format::int8>(o);
  }
}

template <md::ModelConfig M>
void serve_either(const Options& o) {
  if (!o.paths.vae.empty() && md::is_tiny_vae(md::open_vae(o.paths.vae))) serve<md::presets::with_vae(M, md::presets::taesd)>(o);
  else serve<M>(o);
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  std::string model, preset, vae, vocabulary, format = "fp32";
  std::size_t steps = 1;
  float guidance = 1.0f;
  CLI::App app{"A model that draws pictures when told to", "bench_pictures"};
  app.add_option("model", model)->required();
  app.add_option("preset", preset)->required()->check(CLI::IsMember({"sd_turbo", "sd15"}));
  app.add_option("--vae", vae);
  app.add_option("--vocabulary", vocabulary);
  app.add_option("--format", format)->check(CLI::IsMember({"fp32", "bf16", "int8"}));
  app.add_option("--threads", o.threads);
  app.add_option("--steps", steps);
  app.add_option("--guidance", guidance);
  CLI11_PARSE(app, argc, argv);
  o.paths = {model, vae, vocabulary};
  o.request.steps = steps;
  o.request.guidance = guidance;
  if (format != "fp32") o.format = format == "int8" ? md::Format::int8 : md::Format::bf16;
  try {
    if (preset == "sd15") serve_either<md::presets::sd15>(o);
    else serve_either<md::presets::sd_turbo>(o);
  } catch (const std::exception& e) {
    std::cout << "error " << e.what() << std::endl;
    return 1;
  }
  return 0;
}
