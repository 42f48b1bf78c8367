// SPDX-License-Identifier: Apache-2.0
// One file is one model: every weight, the tokenizer and the configuration's fingerprint.
#pragma once

#include "core/begin.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "config/validate.hpp"
#include "diffusion/sampler.hpp"
#include "io/numbers.hpp"
#include "io/tokenizer.hpp"
#include "io/weights.hpp"
#include "layers/packed_weights.hpp"
#include "models/text_encoder.hpp"
#include "models/unet.hpp"
#include "models/vae.hpp"
#include "reflect/fingerprint.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

template <ModelConfig M>
struct ModelWeights {
  typename TextEncoder<M.text>::Weights text_encoder;
  typename Unet<M.unet>::Weights unet;
  typename Vae<M.vae>::Weights vae;
};

namespace detail {
inline constexpr const char *fingerprint_key = "mobilediffusion.fingerprint", *tokenizer_key = "mobilediffusion.tokenizer";
inline constexpr const char *sampler_kind_key = "sampler.kind", *sampler_steps_key = "sampler.steps",
                            *sampler_guidance_key = "sampler.guidance";
inline std::string hexadecimal(std::uint64_t value) {
  char text[16];
  const auto r = std::to_chars(text, text + 16, value, 16);
  return {text, r.ptr};
}
}  // namespace detail

// Every leaf from a SafetensorsFile or WeightFiles, packed; otherwise as read_weights into plain memory.
template <class W, class File>
void read_weights(const File& file, std::string_view prefix, PackedWeights<W>& packed) {
  read_weights(file, prefix, packed.weights(),
               [&](const reflect::LeafView& leaf, std::span<const float> values) { packed.set(leaf, values); });
  packed.finish();
}

// Throws Error unless the file is exactly model M: fingerprint, every tensor with its shape and a readable dtype, none besides.
template <ModelConfig M>
void check_model(const SafetensorsFile& file) {
  constexpr std::uint64_t expected = reflect::fingerprint(M);
  const std::string& found = file.require_metadata(detail::fingerprint_key);
  check_weights<ModelWeights<M>>(file, "");
  if (const std::size_t n = reflect::leaf_count<ModelWeights<M>>(); file.tensors().size() != n) {
    std::vector<std::string> known;
    ModelWeights<M> weights{};
    for (const reflect::LeafView& leaf : reflect::leafs(weights)) known.push_back(leaf.path);
    std::sort(known.begin(), known.end());
    const auto is_foreign = [&](const TensorView& t) { return !std::binary_search(known.begin(), known.end(), t.name); };
    const auto foreign = std::find_if(file.tensors().begin(), file.tensors().end(), is_foreign);
    throw Error(detail::join({"file ", detail::printable(file.name()), ": tensor ", detail::printable(foreign->name),
                              ": unknown to the model, expected its ", n, " tensors, found ", file.tensors().size()}));
  }
  if (found != detail::hexadecimal(expected))
    throw Error(detail::join({"file ", detail::printable(file.name()), ": expected the configuration's fingerprint ",
                              detail::hexadecimal(expected), ", found ", detail::printable(found),
                              ": trained for another configuration"}));
}

// The tokenizer inside a model's file. Throws Error for one that is missing, damaged, or of more than `vocabulary` pieces.
inline Tokenizer read_tokenizer(const SafetensorsFile& file, std::size_t vocabulary) {
  const std::string& text = file.require_metadata(detail::tokenizer_key);
  try {
    return Tokenizer(base64_decode(text), vocabulary);
  } catch (const Error& e) {
    throw Error(detail::join(
        {"file ", detail::printable(file.name()), ": metadata ", detail::printable(detail::tokenizer_key), ": ", e.what()}));
  }
}

// How pictures are drawn where a request does not say, as entries of a model's metadata.
inline void put_sampling(Metadata& metadata, const SamplingOptions& o) {
  metadata[detail::sampler_kind_key] = name_of(o.kind);
  metadata[detail::sampler_steps_key] = std::to_string(o.steps);
  metadata[detail::sampler_guidance_key] = detail::number_text(o.guidance);
}
// Of a model's metadata; what it does not say stays as in `otherwise`. file: for messages. Throws Error for values that no
// request may have.
inline SamplingOptions sampling_of(const Metadata& metadata, SamplingOptions otherwise, std::string_view file) {
  SamplingOptions o = otherwise;
  const auto value = [&](const char* key, const char* expected, auto&& take) {
    const auto at = metadata.find(key);
    if (at != metadata.end() && !take(at->second))
      throw Error(detail::join({"file ", detail::printable(file), ": metadata ", key, ": expected ", expected, ", found ",
                                detail::printable(at->second)}));
  };
  value(detail::sampler_kind_key, "ddim or renoise", [&](const std::string& text) {
    const auto at =
        std::find_if(std::begin(sampler_kinds), std::end(sampler_kinds), [&](SamplerKind k) { return text == name_of(k); });
    if (at == std::end(sampler_kinds)) return false;
    o.kind = *at;
    return true;
  });
  value(detail::sampler_steps_key, "a whole number of 1 to 1000",
        [&](const std::string& text) { return detail::parse_number(text, o.steps) && o.steps >= 1 && o.steps <= 1000; });
  value(detail::sampler_guidance_key, "a number of at least 0", [&](const std::string& text) {
    return detail::parse_number(text, o.guidance) && std::isfinite(o.guidance) && o.guidance >= 0.0f;
  });
  return o;
}

// tokenizer: the bytes of its model. dtype: of every tensor (F32, F16 or BF16). metadata: whatever should be known of the
// training.
template <ModelConfig M>
void write_model(const std::filesystem::path& path, const ModelWeights<M>& weights, std::string_view tokenizer, Dtype dtype,
                 Metadata metadata = {}) {
  std::vector<TensorToWrite> tensors;
  list_weights(tensors, "", weights, dtype);
  metadata[detail::fingerprint_key] = detail::hexadecimal(reflect::fingerprint(M));
  metadata[detail::tokenizer_key] = base64_encode(tokenizer);
  write_safetensors(path, tensors, metadata);
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
