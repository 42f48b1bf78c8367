// SPDX-License-Identifier: Apache-2.0
// Pictures of the Stable Diffusion family, as a user draws them: our side of pipelines.py.
//
//   pipelines_GROUP JOBS
//
// JOBS: a JSON list of models, each {"preset", "tiny_vae", "model", "vae", "vocabulary", "loras": [[path, scale]], "format",
// "draws"}; a draw is {"prompt", "negative", "seed", "steps", "guidance", "sampler": {"name", "spacing", "karras", "eta"},
// "picture", "mask", "strength", "out"}. All but model, format, draws and out may be left out. Pictures are files of RGB bytes
// alone.
#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mobilediffusion/mobilediffusion.hpp"

namespace md = mobilediffusion;

namespace {

using Json = nlohmann::json;

// The structure of a preset, a tenth as wide, with pictures of 128 x 192 (height x width).
constexpr md::ModelConfig reduced(md::ModelConfig m) {
  const bool second = m.text.width == 1024;
  for (md::StageConfig& s : m.unet.stages) s.channels /= 10;
  m.unet.groups = 8;
  if (m.unet.attention.head_dim != 0) m.unet.attention.head_dim = 16;
  else m.unet.attention.heads = 4;
  if (m.unet.guidance_width != 0) m.unet.guidance_width = 32;
  m.text.width = m.unet.context_width = second ? 96 : 64;
  m.text.heads = 4;
  m.text.layers = 3;
  m.text.vocabulary = 526;
  for (auto* widths : {&m.vae.encoder_channels, &m.vae.decoder_channels})
    for (std::size_t& w : *widths) w /= 4;
  if (m.vae.groups != 0) m.vae.groups = 8;
  return md::presets::with_picture_size(m, 128, 192);
}
constexpr md::ModelConfig with_tiny_vae(const md::ModelConfig& m) { return md::presets::with_vae(m, md::presets::taesd); }

#if defined(PIPELINES_FULL_SIZE)
constexpr md::ModelConfig sized(const md::ModelConfig& m) { return m; }
#else
constexpr md::ModelConfig sized(const md::ModelConfig& m) { return reduced(m); }
#endif

md::Sampler sampler_of(const Json& json) {
  const std::string name = json.at("name");
  auto sampler = md::sampler_named(name);
  if (!sampler) throw md::Error("sampler " + name + ": unknown");
  if (json.contains("spacing")) {
    const std::string spacing = json["spacing"];
    md::set_spacing(*sampler, spacing == "leading"    ? md::Spacing::leading
                              : spacing == "trailing" ? md::Spacing::trailing
                                                      : md::Spacing::linspace);
  }
  if (json.contains("karras")) md::set_karras(*sampler, json["karras"]);
  if (json.contains("eta")) md::set_eta(*sampler, json["eta"]);
  return *sampler;
}

md::Image read_rgb(const std::string& path, std::size_t width, std::size_t height) {
  md::Image image(width, height);
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.size() != image.rgb.size()) throw md::Error(path + ": expected " + std::to_string(image.rgb.size()) + " bytes");
  std::copy(bytes.begin(), bytes.end(), image.rgb.begin());
  return image;
}
void write_rgb(const std::string& path, const md::Image& image) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(image.rgb.data()), static_cast<std::streamsize>(image.rgb.size()));
  if (!file) throw md::Error(path + ": cannot write");
}

template <md::ModelConfig M, md::Format F>
void draw(const Json& job) {
  std::vector<md::LoraFile> loras;
  for (const Json& lora : job.value("loras", Json::array()))
    loras.push_back({lora.at(0).get<std::string>(), lora.at(1).get<float>()});
  const md::ModelPaths paths{job.at("model").get<std::string>(), job.value("vae", ""), job.value("vocabulary", "")};
  md::Session<M, F> session(md::Model<M, F>(paths, loras));
  if (const std::string& note = session.model().note(); !note.empty()) std::printf("note: %s\n", note.c_str());
  for (const Json& d : job.at("draws")) {
    md::Request request{.prompt = d.value("prompt", ""), .negative = d.value("negative", "")};
    request.seed = d.value("seed", std::uint64_t{0});
    request.noise = md::NoiseKind::torch;
    if (d.contains("steps")) request.steps = d["steps"].get<std::size_t>();
    if (d.contains("guidance")) request.guidance = d["guidance"].get<float>();
    if (d.contains("sampler")) request.sampler = sampler_of(d["sampler"]);
    const auto picture = [&](const char* name) { return read_rgb(d.at(name), session.width, session.height); };
    const float strength = d.value("strength", 1.0f);
    write_rgb(d.at("out"), d.contains("mask")      ? session.inpaint(picture("picture"), picture("mask"), request, strength)
                           : d.contains("picture") ? session.image_to_image(picture("picture"), request, strength)
                                                   : session.generate(request));
  }
}
template <md::ModelConfig M>
void draw(const Json& job) {
  const std::string format = job.at("format");
  if (format == "fp32") draw<M, md::Format::fp32>(job);
  else if (format == "bf16") draw<M, md::Format::bf16>(job);
  else if (format == "int8") draw<M, md::Format::int8>(job);
  else throw md::Error("format " + format + ": expected fp32, bf16 or int8");
}

struct Preset {
  const char* name;
  void (*draw)(const Json&);
  void (*draw_with_tiny_vae)(const Json&);
};
#define PIPELINES_PRESET(name) Preset{#name, &draw<sized(md::presets::name)>, &draw<sized(with_tiny_vae(md::presets::name))>},
const std::array presets{PIPELINES_PRESETS};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "expected JOBS\n");
    return 2;
  }
  try {
    for (const Json& job : Json::parse(std::ifstream(argv[1]))) {
      const std::string name = job.value("preset", presets[0].name);
      const auto preset = std::find_if(presets.begin(), presets.end(), [&](const Preset& p) { return p.name == name; });
      if (preset == presets.end()) throw md::Error("preset " + name + ": not in this program");
      (job.value("tiny_vae", false) ? preset->draw_with_tiny_vae : preset->draw)(job);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
