// SPDX-License-Identifier: Apache-2.0
// Whole pictures as diffusers' pipelines draw them from the same folder, request and seed (tests/twin/golden_pipelines.py).
#include <array>
#include <cmath>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../io/temporary_folder.hpp"
#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/session.hpp"

namespace test_golden_pipelines_cpp {

using namespace mobilediffusion;

namespace {

// Stable Diffusion 1's structure with two levels and a residual block at each, for pictures of 32 x 48.
constexpr ModelConfig small(std::size_t input_channels) {
  ModelConfig m = presets::bk_sdm_base;
  m.text = {.vocabulary = 526, .length = 16, .width = 16, .layers = 2, .heads = 2};
  UnetConfig& u = m.unet;
  u.levels = 2;
  u.stages[0].channels = 16;
  u.stages[1] = {.channels = 32};
  u.stages[2] = u.stages[3] = {};
  u.attention.heads = 2;
  u.groups = 4;
  u.input_channels = input_channels;
  u.context_length = u.context_width = 16;
  m.vae.levels = 2;
  m.vae.encoder_channels = m.vae.decoder_channels = {8, 8};
  m.vae.encoder_resnets = 1;
  m.vae.decoder_resnets = 2;
  m.vae.groups = 4;
  return presets::with_picture_size(m, 32, 48);
}

// The weights that golden_pipelines.py gives to this tensor.
std::vector<float> weights_of(std::string_view name, const std::vector<std::size_t>& shape) {
  std::uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  std::size_t count = 1;
  for (const std::size_t n : shape) count *= n;
  const double scale = name == "unet.conv_out.weight" || name == "vae.encoder.conv_out.weight" ? 3.0
                       : name == "vae.decoder.conv_out.weight"                                 ? 0.5
                                                                                               : 1.0;
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t x = hash + static_cast<std::uint32_t>(i) * 0x9E3779B9u;
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    x ^= x >> 16;
    double u = (static_cast<double>(x >> 8) / 16777216.0 - 0.5) * std::sqrt(12.0);
    if (shape.size() == 1) u = 0.2 * u + (name.ends_with("weight") ? 1.0 : 0.0);
    else if (name.find("embedding.weight") != name.npos) u *= 0.5;
    else u *= scale / std::sqrt(static_cast<double>(count / shape[0]));
    values[i] = static_cast<float>(u);
  }
  return values;
}

template <class W>
void write_network(const std::filesystem::path& path, const std::string& part) {
  W weights{};
  std::vector<TensorToWrite> tensors;
  list_weights(tensors, "", weights, Dtype::f32);
  std::deque<std::vector<float>> values;
  for (TensorToWrite& t : tensors) {
    values.push_back(weights_of(part + "." + t.name, t.shape));
    t.fill = {};
    t.floats = values.back();
  }
  std::filesystem::create_directories(path.parent_path());
  write_safetensors(path, tensors, {});
}

void write_text(const std::filesystem::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

double decibels(const Image& a, const Image& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.rgb.size(); ++i) sum += std::pow(double{1} * a.rgb[i] - b.rgb[i], 2);
  return sum == 0 ? 100.0 : 10 * std::log10(255.0 * 255.0 * static_cast<double>(a.rgb.size()) / sum);
}

class Pictures {
 public:
  Pictures() : file_(MOBILEDIFFUSION_TEST_DATA "/pipelines.safetensors") {}
  const std::string& text(const std::string& name) const { return file_.metadata().at(name); }
  Image picture(const std::string& name) const {
    const TensorView& t = file_.require(name, std::array<std::size_t, 3>{32, 48, 3});
    Image image(48, 32);
    file_.read_bytes(t, std::as_writable_bytes(std::span(image.rgb)));
    return image;
  }

  // Draws all cases of models whose UNet reads so many channels.
  template <ModelConfig M>
  std::size_t compare() const {
    const TemporaryFolder folder;
    const auto root = folder / "model";
    write_network<typename Unet<M.unet>::Weights>(root / "unet/diffusion_pytorch_model.safetensors", "unet");
    write_network<typename Vae<M.vae>::Weights>(root / "vae/diffusion_pytorch_model.safetensors", "vae");
    write_network<typename TextEncoder<M.text>::Weights>(root / "text_encoder/model.safetensors", "text_encoder");
    for (const char* part : {"tokenizer", "scheduler"}) std::filesystem::create_directories(root / part);
    for (const char* name : {"vocab.json", "merges.txt"}) write_text(root / "tokenizer" / name, text(name));
    std::size_t cases = 0;
    for (const auto& [name, said] : file_.metadata()) {
      if (!said.starts_with("{\"scheduler\"")) continue;
      const nlohmann::json json = nlohmann::json::parse(said);
      if (json.value("inputs", 4u) != (M.unet.input_channels == 0 ? M.unet.latent_channels : M.unet.input_channels)) continue;
      ++cases;
      write_text(root / "scheduler/scheduler_config.json", json["scheduler"].get<std::string>());
      Session<M> session(Model<M>(root), {.threads = 1});
      Request request{.prompt = text("prompt"), .negative = text("negative"), .noise = NoiseKind::torch};
      request.seed = std::stoull(text("seed"));
      request.steps = json["steps"].get<std::size_t>();
      request.guidance = json["guidance"].get<float>();
      const float strength = json.value("strength", 1.0f);
      const Image drawn = json.contains("inpaint")    ? session.inpaint(picture("picture"), picture("mask"), request, strength)
                          : json.contains("strength") ? session.image_to_image(picture("picture"), request, strength)
                                                      : session.generate(request);
      INFO(name);
      CHECK(decibels(drawn, picture(name)) > 75.0);
      request.seed += 1;
      if (name == "ddim") CHECK(decibels(session.generate(request), picture(name)) < 30.0);  // so it could fail
    }
    return cases;
  }

 private:
  SafetensorsFile file_;
};

}  // namespace

TEST_CASE("whole pictures are those of diffusers", "[golden]") { CHECK(Pictures().compare<small(0)>() == 10); }
TEST_CASE("an inpainting model's pictures are those of diffusers", "[golden]") { CHECK(Pictures().compare<small(9)>() == 2); }

}  // namespace test_golden_pipelines_cpp
