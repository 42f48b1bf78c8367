// SPDX-License-Identifier: Apache-2.0
// One preset of text_to_image: MOBILEDIFFUSION_PRESET is its name, MOBILEDIFFUSION_SIZES further sizes, as {width, height}, ...
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>

#include "common/progress.hpp"
#include "common/read_picture.hpp"
#include "common/write_picture.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "text_to_image/drawing.hpp"

#define MOBILEDIFFUSION_TEXT(x) MOBILEDIFFUSION_TEXT_OF(x)
#define MOBILEDIFFUSION_TEXT_OF(x) #x
#define MOBILEDIFFUSION_JOIN(a, b) MOBILEDIFFUSION_JOIN_OF(a, b)
#define MOBILEDIFFUSION_JOIN_OF(a, b) a##b

namespace text_to_image {
namespace {

using md::detail::join;
using md::detail::printable;

std::string shortest(float value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

// What of a prompt the model does not read, said on stderr.
void check_prompt(const md::Tokenizer& tokenizer, const char* which, const std::string& prompt, std::size_t length) {
  if (const std::string cut = tokenizer.encode_prompt(prompt, length).cut; !cut.empty())
    std::fprintf(stderr, "text_to_image: %sprompt: too long for the model, which does not read %s\n", which,
                 printable(cut).c_str());
}

// Where picture i of n goes: x.png, else x-1.png, x-2.png and so on.
std::string numbered(const std::string& path, std::size_t i, std::size_t n) {
  if (n == 1 || examples::is_stream(path)) return path;
  const std::filesystem::path p(path);
  return (p.parent_path() / (p.stem().string() + join({"-", i + 1}) + p.extension().string())).string();
}

// The text that AUTOMATIC1111's program writes and others read.
std::string parameters_of(const md::Request& r, const md::SamplingOptions& o, const Options& options, std::size_t width,
                          std::size_t height) {
  std::string text = r.prompt;
  if (!r.negative.empty()) text += "\nNegative prompt: " + r.negative;
  text += join({"\nSteps: ", o.steps, ", Sampler: ", md::name_of(o.sampler), ", CFG scale: ", shortest(o.guidance),
                ", Seed: ", r.seed, ", Size: ", width, "x", height, ", Model: ", options.paths.model.stem().string()});
  if (!options.init_image.empty()) text += ", Denoising strength: " + shortest(options.strength);
  if (options.format != md::Format::fp32) text += std::string(", Weights: ") + md::name_of(options.format);
  if (r.noise == md::NoiseKind::torch) text += ", RNG: CPU";
  return text + ", Version: mobilediffusion " MOBILEDIFFUSION_VERSION;
}

template <md::ModelConfig M, md::Format F>
void draw_in(const Options& o) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); };
  const auto begin = Clock::now();
  const md::Model<M, F> model(o.paths, o.loras, o.embeddings);
  md::Session<M, F> session(model, {.threads = o.threads, .batch = o.init_image.empty() ? std::min(o.batch, o.count) : 1});
  if (!model.note().empty()) std::fprintf(stderr, "text_to_image: %s\n", model.note().c_str());
  if (!o.quiet)
    std::fprintf(stderr, "loaded in %.1f s: %zu MB of weights, %zu MB to draw, %d threads\n", seconds_since(begin),
                 model.memory_bytes() >> 20, session.memory_bytes() >> 20, session.threads());
  check_prompt(model.tokenizer(), "", o.request.prompt, M.text.length);
  check_prompt(model.tokenizer(), "negative ", o.request.negative, M.text.length);

  md::Image picture, mask;
  if (!o.mask.empty())
    std::tie(picture, mask) =
        examples::read_picture_and_mask("text_to_image", o.init_image, o.mask, session.width, session.height, o.fit);
  else if (!o.init_image.empty())
    picture = examples::read_picture("text_to_image", o.init_image, session.width, session.height, o.fit);

  const md::SamplingOptions used{o.request.sampler.value_or(model.sampling().sampler),
                                 o.request.steps.value_or(model.sampling().steps),
                                 o.request.guidance.value_or(model.sampling().guidance)};
  for (std::size_t first = 0; first < o.count; first += session.batch()) {
    std::vector<md::Request> requests;
    for (std::size_t k = first; k < std::min(first + session.batch(), o.count); ++k) {
      requests.push_back(o.request);
      requests.back().seed += k;
    }
    const auto start = Clock::now();
    std::vector<md::Image> images;
    {
      std::optional<examples::Progress> progress;
      const auto on_step = [&](md::Progress p) {
        if (!progress) progress.emplace("drawing", p.steps, 0, !o.quiet);
        progress->update(p.step);
      };
      if (picture.width == 0) images = session.generate(requests, on_step);
      else if (mask.width == 0) images.push_back(session.image_to_image(picture, requests[0], o.strength, on_step));
      else images.push_back(session.inpaint(picture, mask, requests[0], o.strength, on_step));
    }
    const double each = seconds_since(start) / static_cast<double>(images.size());
    for (std::size_t i = 0; i < images.size(); ++i) {
      const std::string path = numbered(o.output, first + i, o.count);
      const std::vector<std::pair<std::string, std::string>> text{
          {"parameters", parameters_of(requests[i], used, o, session.width, session.height)}};
      examples::write_picture(path, images[i], text);
      if (!o.quiet)
        std::fprintf(examples::is_standard_output(path) ? stderr : stdout, "%s  seed %llu  %.2f s\n", path.c_str(),
                     static_cast<unsigned long long>(requests[i].seed), each);
    }
  }
}

template <md::ModelConfig M>
void draw(const Options& o) {
  switch (o.format) {
    case md::Format::fp32:
      return draw_in<M, md::Format::fp32>(o);
    case md::Format::bf16:
      return draw_in<M, md::Format::bf16>(o);
    case md::Format::int8:
      return draw_in<M, md::Format::int8>(o);
  }
}

struct Size {
  std::size_t width, height;
};
constexpr md::ModelConfig preset = md::presets::MOBILEDIFFUSION_PRESET;
// The preset's own first.
constexpr std::array sizes{Size{preset.vae.width, preset.vae.height} MOBILEDIFFUSION_SIZES};

template <md::ModelConfig M>
void add(std::vector<Compiled>& rows) {
  rows.push_back(
      {MOBILEDIFFUSION_TEXT(MOBILEDIFFUSION_PRESET), M.vae.width, M.vae.height, M.vae.kind, M.sampler.prediction, &draw<M>});
}
template <std::size_t I>
void add_size(std::vector<Compiled>& rows) {
  constexpr md::ModelConfig sized = md::presets::with_picture_size(preset, sizes[I].height, sizes[I].width);
  add<sized>(rows);
  if constexpr (preset.vae.kind != md::VaeKind::autoencoder_tiny && preset.vae.levels == 4)
    add<md::presets::with_vae(sized, md::presets::taesd)>(rows);
}

}  // namespace

void MOBILEDIFFUSION_JOIN(add_, MOBILEDIFFUSION_PRESET)(std::vector<Compiled>& rows) {
  [&]<std::size_t... I>(std::index_sequence<I...>) { (add_size<I>(rows), ...); }
  (std::make_index_sequence<sizes.size()>{});
}

}  // namespace text_to_image
