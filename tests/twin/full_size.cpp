// SPDX-License-Identifier: Apache-2.0
// A preset of the Stable Diffusion family, loaded from a folder of diffusers' layout, on given inputs: our side of full_size.py.
//
//   parity_PRESET MODEL INPUTS OUTPUTS PROMPT
//
// INPUTS: ids [1, length] (I32), z, timesteps [1], context, picture [1, height, width, 3] and latents, channels last.
// OUTPUTS: tokens of PROMPT (I32), text, unet, encoder (means, log variances) and decoder, channels last.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "mobilediffusion/layers/packed_weights.hpp"
#include "mobilediffusion/model_source.hpp"

namespace md = mobilediffusion;

namespace {

template <md::ModelConfig M>
class Parity {
  using Text = md::TextEncoder<M.text>;
  using Unet = md::Unet<M.unet>;
  using Vae = md::Vae<M.vae>;
  using Floats = std::vector<float>;
  using Shape = std::vector<std::size_t>;
  using Ids = std::vector<std::int32_t>;

 public:
  Parity(const std::filesystem::path& model, const std::filesystem::path& inputs) : source_(model), inputs_(inputs) {
    source_.read(packed_.weights(), [&](const auto& leaf, auto values) { packed_.set(leaf, values); });
    packed_.finish();
    const md::Plan plan = md::Plan::inference;
    activations_ = md::AlignedBuffer(std::max({Text::stack_floats(plan, 1), Unet::stack_floats(plan, 1),
                                               Vae::Encoder::stack_floats(plan, 1), Vae::Decoder::stack_floats(plan, 1)}));
  }

  void run(const std::filesystem::path& path, const std::string& prompt) const {
    const md::ModelWeights<M>& w = packed_.weights();
    constexpr std::size_t h = M.vae.height, width = M.vae.width, length = M.text.length;
    const Shape latents{1, Vae::latent_height, Vae::latent_width, M.vae.latent_channels}, picture{1, h, width, 3};
    const Shape moments{1, Vae::latent_height, Vae::latent_width, 2 * M.vae.latent_channels};
    const Shape context{1, length, M.text.width};

    const Ids tokens = source_.tokenizer().encode(prompt, length), ids = read_ids("ids", {1, length});
    const Floats text = compute(context, [&](md::Context& c, float* y) {
      typename Text::Saved saved{};
      Text::forward(c, w.text_encoder, ids.data(), y, nullptr, saved);
    });
    const Floats z = read("z", latents), time = read("timesteps", {1}), caption = read("context", context);
    const Floats unet = compute(latents, [&](md::Context& c, float* y) {
      typename Unet::Saved saved{};
      Unet::forward(c, w.unet, z.data(), time.data(), {caption.data()}, y, saved);
    });
    const Floats x = read("picture", picture);
    const Floats encoder = compute(moments, [&](md::Context& c, float* y) {
      typename Vae::Encoder::Saved saved{};
      Vae::encode(c, w.vae, x.data(), y, saved);
    });
    const Floats l = read("latents", latents);
    const Floats decoder = compute(picture, [&](md::Context& c, float* y) {
      typename Vae::Decoder::Saved saved{};
      Vae::decode(c, w.vae, l.data(), y, saved);
    });

    const auto floats = [](const char* name, const Shape& shape, const Floats& values) {
      return md::TensorToWrite{.name = name, .dtype = md::Dtype::f32, .shape = shape, .floats = values};
    };
    std::vector<md::TensorToWrite> outputs{floats("text", context, text), floats("unet", latents, unet),
                                           floats("encoder", moments, encoder), floats("decoder", picture, decoder)};
    outputs.push_back({.name = "tokens", .dtype = md::Dtype::i32, .shape = {1, length}, .fill = [&](std::span<std::byte> bytes) {
                         std::memcpy(bytes.data(), tokens.data(), bytes.size());
                       }});
    md::write_safetensors(path, outputs, {});
  }

 private:
  Floats read(const char* name, const Shape& shape) const {
    const md::TensorView& tensor = inputs_.require(name, shape);
    Floats values(tensor.count());
    inputs_.read_floats(tensor, values.data());
    return values;
  }
  Ids read_ids(const char* name, const Shape& shape) const {
    const md::TensorView& tensor = inputs_.require(name, shape);
    if (tensor.dtype != md::Dtype::i32) throw md::Error(std::string(name) + ": expected I32");
    Ids values(tensor.count());
    inputs_.read_bytes(tensor, std::as_writable_bytes(std::span(values)));
    return values;
  }
  // run(context, output), as inference runs: packed weights and a stack of no more than planned.
  template <class F>
  Floats compute(const Shape& shape, F&& run) const {
    std::size_t count = 1;
    for (const std::size_t n : shape) count *= n;
    Floats y(count);
    md::Stack stack(activations_);
    md::Context c{.executor = executor_, .stack = stack, .batch = 1, .packed = true, .format = packed_.format()};
    run(c, y.data());
    return y;
  }

  md::ModelSource<M> source_;
  md::SafetensorsFile inputs_;
  md::Executor executor_{0};
  md::PackedWeights<md::ModelWeights<M>> packed_{md::Format::fp32};
  md::AlignedBuffer activations_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "expected MODEL INPUTS OUTPUTS PROMPT\n");
    return 2;
  }
  try {
    Parity<md::presets::PARITY_PRESET>(argv[1], argv[2]).run(argv[3], argv[4]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
