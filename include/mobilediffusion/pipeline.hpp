// SPDX-License-Identifier: Apache-2.0
// The ten-line user interface: a prompt becomes a picture.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/image.hpp"
#include "io/tokenizer.hpp"
#include "layers/packed_weights.hpp"
#include "model_source.hpp"
#include "sampling.hpp"

namespace mobilediffusion {

struct Request {
  std::string prompt;
  std::string negative{};  // what guidance leads away from; empty: no caption
  std::uint64_t seed = 0;
  std::optional<std::size_t> steps{};  // 1 to 1000; default: the configuration's
  std::optional<float> guidance{};     // >= 0; 1: none, half the work; default: the configuration's
};

// A loaded model. Generating allocates no memory but the picture and the tokenizer's own; it prints nothing and keeps no
// global state: any number of models may run at once, one thread each at a time. Same request, same bytes, on any number of
// threads. F: what the weights are kept and multiplied in.
template <ModelConfig M, Format F = Format::fp32>
class TextToImage {
  using Text = TextEncoder<M.text>;
  using Net = Unet<M.unet>;
  using Autoencoder = Vae<M.vae>;
  using Sampler = Sampling<M>;
  using Weights = ModelWeights<M>;

 public:
  static constexpr ModelConfig config = M;
  static constexpr std::size_t width = M.vae.width, height = M.vae.height, context_length = M.text.length;
  static constexpr std::size_t parameters = reflect::parameters<Weights>();
  static constexpr Format format = F;
  static constexpr std::size_t weight_bytes = PackedWeights<Weights>::bytes(F);
  // Everything that one generation needs besides weights and kernel scratch.
  static constexpr std::size_t activation_bytes =
      4 * (aligned(Autoencoder::latent_floats) + aligned(Autoencoder::picture_floats) +
           std::max(Sampler::stack_floats(1), Autoencoder::Decoder::stack_floats(Plan::inference, 1)));

  // Reads and packs the weights of a file of this library, or of a folder as diffusers lays it out. Throws Error for one that is
  // not exactly this model, before anything of it is used. threads: 0 means all.
  explicit TextToImage(const std::filesystem::path& path, int threads = 0) : TextToImage(ModelSource<M>(path), threads) {}

  // Throws Error for a prompt that is empty, not UTF-8 or too long, and for steps or guidance out of range. on_step(Progress)
  // is called after every step; if it returns false, generation stops and the picture is empty (width 0).
  template <class OnStep>
  Image generate(const Request& request, OnStep&& on_step) {
    std::array<std::int32_t, 2 * context_length> ids{};
    const auto prompt = tokenizer_.encode(request.prompt, context_length);
    const auto negative =
        request.negative.empty() ? tokenizer_.encode_unconditional(context_length) : encode_negative(request.negative);
    std::copy(prompt.begin(), prompt.end(), ids.begin());
    std::copy(negative.begin(), negative.end(), ids.begin() + context_length);
    Image image(width, height);
    const float guidance = request.guidance.value_or(static_cast<float>(M.sampler.guidance_percent) * 0.01f);
    if (!generate(ids, request.seed, request.steps.value_or(M.sampler.steps), guidance, image.rgb, on_step)) return {};
    return image;
  }
  Image generate(const Request& request) {
    return generate(request, [](Progress) { return true; });
  }

  // The same from token ids (prompt, then negative; context_length each) into rgb [height][width][3]; allocates nothing.
  // False: cancelled, rgb untouched.
  template <class OnStep>
  bool generate(std::span<const std::int32_t, 2 * context_length> ids, std::uint64_t seed, std::size_t steps, float guidance,
                std::span<std::uint8_t> rgb, OnStep&& on_step) {
    if (steps < 1 || steps > 1000) throw Error(detail::join({"steps: expected 1 to 1000, found ", steps}));
    if (!(guidance >= 0.0f) || !std::isfinite(guidance))
      throw Error("guidance: expected a number of at least 0, found " + std::to_string(guidance));
    if (rgb.size() != width * height * 3)
      throw Error(detail::join({"picture: expected room for ", width * height * 3, " bytes, found ", rgb.size()}));
    for (std::int32_t id : ids)
      if (id < 0 || static_cast<std::size_t>(id) >= M.text.vocabulary)
        throw Error(detail::join({"token id: expected 0 to ", M.text.vocabulary - 1, ", found ", std::to_string(id)}));
    Stack stack(activations_);
    float* z = stack.take(Autoencoder::latent_floats);
    float* picture = stack.take(Autoencoder::picture_floats);
    const Weights& weights = weights_.weights();
    Context c{.executor = executor_, .stack = stack, .batch = 1, .packed = true, .format = F};
    if (!Sampler::run(c, weights.text_encoder, weights.unet, ids.data(), &seed, steps, guidance, z, on_step)) return false;
    for (std::size_t i = 0; i < Autoencoder::latent_floats; ++i) z[i] /= Autoencoder::scaling;
    typename Autoencoder::Decoder::Saved saved{};
    Autoencoder::decode(c, weights.vae, z, picture, saved);
    for (std::size_t i = 0; i < rgb.size(); ++i) {
      const float v = picture[i] * 127.5f + 127.5f;
      rgb[i] = static_cast<std::uint8_t>(v > 0.0f ? std::min(v, 255.0f) + 0.5f : 0.0f);  // NaN: black
    }
    peak_activation_bytes_ = std::max(peak_activation_bytes_, 4 * stack.peak());
    return true;
  }

  const Tokenizer& tokenizer() const { return tokenizer_; }
  const Metadata& metadata() const { return metadata_; }
  int threads() const { return executor_.threads(); }
  // Held by this object: weights, activations, kernel scratch.
  std::size_t memory_bytes() const { return weights_.bytes() + activations_.bytes() + executor_.scratch_bytes(); }
  // The most that generating has used so far: activation_bytes, or less without guidance.
  std::size_t peak_activation_bytes() const { return peak_activation_bytes_; }

 private:
  TextToImage(const ModelSource<M>& source, int threads)
      : executor_(threads), tokenizer_(source.tokenizer()), metadata_(source.metadata()), weights_(F) {
    source.read(weights_.weights(),
                [&](const reflect::LeafView& leaf, std::span<const float> values) { weights_.set(leaf, values); });
    weights_.finish();
    activations_ = AlignedBuffer(activation_bytes / 4);  // after what reading needed is free again
  }

  std::vector<std::int32_t> encode_negative(const std::string& text) const {
    try {
      return tokenizer_.encode(text, context_length);
    } catch (const Error& e) {
      throw Error(std::string("negative ") + e.what());
    }
  }

  Executor executor_;
  Tokenizer tokenizer_;
  Metadata metadata_;
  PackedWeights<Weights> weights_;
  AlignedBuffer activations_;
  std::size_t peak_activation_bytes_ = 0;
};

}  // namespace mobilediffusion
