// SPDX-License-Identifier: Apache-2.0
// One preset of text_to_image: MOBILEDIFFUSION_PRESET is its name, MOBILEDIFFUSION_SIZES further sizes, as {width, height}, ...
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <variant>

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
using md::detail::number_text;
using md::detail::printable;

// What of a prompt the model does not read, said on stderr.
void check_prompt(const char* which, const auto& session, const std::string& prompt, const md::PromptOptions& words) try {
  if (const std::string cut = session.read(prompt, words).cut; !cut.empty())
    std::fprintf(stderr, "text_to_image: %sprompt: too long for the model, which does not read %s\n", which,
                 printable(cut).c_str());
} catch (const md::Error& e) {
  throw md::Error(which + std::string(e.what()));
}

// Text encoders whose last layer is left out always: Stable Diffusion 2's come without it, XL's context is before it.
template <md::ModelConfig M>
constexpr std::size_t usual_clip_skip = M.text.layers == 23 || M.text.penultimate ? 2 : 1;

template <md::ModelConfig M>
std::size_t skipped_layers(std::size_t clip_skip) {
  constexpr std::size_t usual = usual_clip_skip<M>, most = usual + md::Sampling<M>::most_clip_skip;
  if (clip_skip < usual || clip_skip > most)
    throw md::Error(join({"clip-skip: expected ", usual, " to ", most, " for this model, found ", clip_skip}));
  return clip_skip - usual;
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
  text += join({"\nSteps: ", o.steps, ", Sampler: ", md::name_of(o.sampler), ", CFG scale: ", number_text(o.guidance),
                ", Seed: ", r.seed, ", Size: ", width, "x", height, ", Model: ", options.paths.model.stem().string()});
  std::visit(
      [&](const auto& s) {
        if constexpr (requires { s.karras; }) text += s.karras ? ", Schedule type: Karras" : "";
      },
      o.sampler);
  if (options.clip_skip) text += join({", Clip skip: ", *options.clip_skip});
  if (!options.init_image.empty()) text += ", Denoising strength: " + number_text(options.strength);
  if (options.format != md::Format::fp32) text += std::string(", Weights: ") + md::name_of(options.format);
  if (r.noise == md::NoiseKind::torch) text += ", RNG: CPU";
  return text + ", Version: mobilediffusion " MOBILEDIFFUSION_VERSION;
}

template <md::ModelConfig M, md::Format F>
void draw_in(const Options& o) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); };
  const auto begin = Clock::now();
  const std::size_t clip_skip = o.clip_skip ? skipped_layers<M>(*o.clip_skip) : 0;
  const md::Model<M, F> model(o.paths, o.loras, o.embeddings);
  md::Session<M, F> session(model, {.threads = o.threads, .batch = o.init_image.empty() ? std::min(o.batch, o.count) : 1});
  if (!model.note().empty()) std::fprintf(stderr, "text_to_image: %s\n", model.note().c_str());
  if (!o.quiet)
    std::fprintf(stderr, "loaded in %.1f s: %zu MB of weights, %zu MB to draw, %d threads\n", seconds_since(begin),
                 model.memory_bytes() >> 20, session.memory_bytes() >> 20, session.threads());
  check_prompt("", session, o.request.prompt, o.request.words);
  check_prompt("negative ", session, o.request.negative, o.request.words);

  md::Image picture, mask;
  if (!o.mask.empty())
    std::tie(picture, mask) =
        examples::read_picture_and_mask("text_to_image", o.init_image, o.mask, session.width, session.height, o.fit);
  else if (!o.init_image.empty())
    picture = examples::read_picture("text_to_image", o.init_image, session.width, session.height, o.fit);

  const std::size_t least = mask.width > 0 ? session.inpaint_steps : 1;  // where the request does not say
  const md::SamplingOptions used{o.request.sampler.value_or(model.sampling().sampler),
                                 o.request.steps.value_or(std::max(model.sampling().steps, least)),
                                 o.request.guidance.value_or(model.sampling().guidance)};
  for (std::size_t first = 0; first < o.count; first += session.batch()) {
    std::vector<md::Request> requests;
    for (std::size_t k = first; k < std::min(first + session.batch(), o.count); ++k) {
      requests.push_back(o.request);
      requests.back().steps = used.steps;
      requests.back().seed += k;
      requests.back().words.clip_skip = clip_skip;
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
// Prompts of three chunks: short ones cost and give the same as without.
constexpr md::ModelConfig preset = md::presets::with_long_prompts(md::presets::MOBILEDIFFUSION_PRESET, 3);
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
