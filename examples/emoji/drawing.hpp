// SPDX-License-Identifier: Apache-2.0
// Pictures of captions in groups, from weights as training has them: what its sheets and the evaluation draw with.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mobilediffusion/io/tokenizer.hpp"
#include "mobilediffusion/model_file.hpp"
#include "mobilediffusion/sampling.hpp"
#include "training.hpp"

namespace emoji {

// The trained autoencoder, from its own file or from a whole model's.
class Autoencoder {
  using Model = md::Vae<demo.vae>;
  static_assert(demo.vae.scaling_millionths == 1'000'000, "the trained autoencoder has latents of unit variance as it is");

 public:
  static constexpr std::size_t latents = Model::latent_floats, group = 8;

  // packed: as inference keeps the weights, in this format; else as training does.
  Autoencoder(std::reference_wrapper<const md::Executor> ex, const std::filesystem::path& path,
              std::optional<md::Format> packed = {})
      : ex_(ex),
        is_packed_(packed.has_value()),
        packed_(packed.value_or(md::Format::fp32)),
        blob_(is_packed_ ? 0 : md::reflect::storage_floats<Model::Weights>()),
        memory_(std::max(Model::Encoder::stack_floats(md::Plan::inference, group),
                         Model::Decoder::stack_floats(md::Plan::inference, group)) +
                3 * group * latents) {
    const md::SafetensorsFile file(path);
    md::check_weights<Model::Weights>(file, "vae.");
    if (is_packed_) {
      md::read_weights(file, "vae.", packed_);
      weights = packed_.weights();
    } else {
      md::reflect::bind(weights, blob_.data());
      md::read_weights(file, "vae.", weights);
    }
  }
  // Pictures [count][128][128][3], at most `group` -> latents [count][latents].
  void encode(const float* pictures, std::size_t count, float* out) {
    md::Stack stack(memory_);
    md::Context c = context(stack, count);
    float* moments = stack.take(2 * count * latents);
    Model::Encoder::Saved saved{};
    Model::encode(c, weights, pictures, moments, saved);
    constexpr std::size_t k = demo.vae.latent_channels;
    for (std::size_t i = 0; i < count * latents; ++i) out[i] = moments[i / k * 2 * k + i % k];
  }
  void decode(const float* z, std::size_t count, float* pictures) {
    md::Stack stack(memory_);
    md::Context c = context(stack, count);
    Model::Decoder::Saved saved{};
    Model::decode(c, weights, z, pictures, saved);
  }

  // Changes with any weight that latents depend on (FNV-1a over the encoder's bytes).
  std::uint64_t encoder_checksum() const {
    std::uint64_t h = 0xcbf29ce484222325u;
    for (const md::reflect::LeafView& leaf : md::reflect::leafs(weights.encoder))
      for (const std::byte b : std::as_bytes(std::span<const float>(leaf.data(), leaf.type->count)))
        h = (h ^ static_cast<std::uint64_t>(b)) * 0x100000001b3u;
    return h;
  }

  Model::Weights weights{};

 private:
  md::Context context(md::Stack& stack, std::size_t count) const {
    return {.executor = ex_, .stack = stack, .batch = count, .packed = is_packed_, .format = packed_.format()};
  }
  const md::Executor& ex_;
  bool is_packed_;
  md::PackedWeights<Model::Weights> packed_;
  md::AlignedBuffer blob_, memory_;
};

// The file of a model M, packed for drawing.
template <md::ModelConfig M = demo>
class PackedModel {
 public:
  PackedModel(const std::filesystem::path& path, md::Format format) : PackedModel(md::SafetensorsFile(path), format) {}
  const md::ModelWeights<M>& weights() const { return weights_.weights(); }
  const md::Tokenizer& tokenizer() const { return tokenizer_; }
  const md::Metadata& metadata() const { return metadata_; }
  md::Format format() const { return weights_.format(); }

 private:
  PackedModel(const md::SafetensorsFile& file, md::Format format)
      : tokenizer_(md::read_tokenizer((md::check_model<M>(file), file), M.text.vocabulary)),
        metadata_(file.metadata()),
        weights_(format) {
    md::read_weights(file, "", weights_);
  }
  md::Tokenizer tokenizer_;
  md::Metadata metadata_;
  md::PackedWeights<md::ModelWeights<M>> weights_;
};

struct DrawingOptions {
  md::SamplingOptions sampling = md::Sampling<demo>::defaults;
  std::uint64_t seed = 0;              // picture i has the noise of seed + i
  std::optional<md::Format> packed{};  // how the weights are kept; none: as in training
};

// weights: whatever has a text_encoder and a unet of model M, as o.packed tells; its latents are those of the demo. An empty
// caption: a picture of nothing in particular. done(n) is called when n pictures are ready.
template <md::ModelConfig M = demo, class Weights, class Done>
std::vector<md::Image> draw_samples(const md::Executor& ex, const Weights& weights, const md::Tokenizer& tokenizer,
                                    Autoencoder& vae, const std::vector<std::string>& captions, const DrawingOptions& o,
                                    Done&& done) {
  using Sampling = md::Sampling<M>;
  static_assert(Sampling::latents == Autoencoder::latents);
  constexpr std::size_t group = Autoencoder::group, length = M.text.length;
  md::AlignedBuffer memory(Sampling::stack_floats(group));
  std::vector<md::Image> images;
  std::vector<float> z(group * Autoencoder::latents), pictures(group * picture_bytes);
  const auto unconditional = tokenizer.encode_unconditional(length);
  for (std::size_t first = 0; first < captions.size(); first += group) {
    const std::size_t n = std::min(group, captions.size() - first);
    std::vector<std::int32_t> ids;
    std::vector<std::uint64_t> seeds;
    for (std::size_t i = 0; i < n; ++i) {
      const std::string& caption = captions[first + i];
      const auto tokens = caption.empty() ? unconditional : tokenizer.encode(caption, length);
      ids.insert(ids.end(), tokens.begin(), tokens.end());
      seeds.push_back(o.seed + first + i);
    }
    for (std::size_t i = 0; i < n; ++i) ids.insert(ids.end(), unconditional.begin(), unconditional.end());
    md::Stack stack(memory);
    const md::Context c{.executor = ex,
                        .stack = stack,
                        .batch = n,
                        .packed = o.packed.has_value(),
                        .format = o.packed.value_or(md::Format::fp32)};
    Sampling::run(c, weights.text_encoder, weights.unet, ids.data(), seeds.data(), o.sampling, z.data(),
                  [](md::Progress) { return true; });
    vae.decode(z.data(), n, pictures.data());
    for (std::size_t i = 0; i < n; ++i) images.push_back(to_image({&pictures[i * picture_bytes], picture_bytes}));
    done(images.size());
  }
  return images;
}
template <md::ModelConfig M = demo, class Weights>
std::vector<md::Image> draw_samples(const md::Executor& ex, const Weights& weights, const md::Tokenizer& tokenizer,
                                    Autoencoder& vae, const std::vector<std::string>& captions, const DrawingOptions& o) {
  return draw_samples<M>(ex, weights, tokenizer, vae, captions, o, [](std::size_t) {});
}

}  // namespace emoji
