// SPDX-License-Identifier: Apache-2.0
// One file is one model: every weight, the tokenizer and what the configuration means.
#pragma once

#include "core/begin.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "config/presets.hpp"
#include "config/validate.hpp"
#include "diffusion/samplers.hpp"
#include "io/numbers.hpp"
#include "io/tokenizer.hpp"
#include "io/weights.hpp"
#include "layers/packed_weights.hpp"
#include "models/text_encoder.hpp"
#include "models/unet.hpp"
#include "models/vae.hpp"
#include "reflect/describe.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

template <ModelConfig M>
struct ModelWeights {
  typename TextEncoder<M.text>::Weights text_encoder;
  typename Unet<M.unet>::Weights unet;
  typename Vae<M.vae>::Weights vae;
  TextEncoderWeights<M.text_2> text_encoder_2{};
};

namespace detail {
inline constexpr const char *configuration_key = "mobilediffusion.configuration", *tokenizer_key = "mobilediffusion.tokenizer";
inline constexpr const char *sampler_kind_key = "sampler.kind", *sampler_steps_key = "sampler.steps",
                            *sampler_guidance_key = "sampler.guidance";

// What files had before `configuration_key`: a number of the configuration's every field. Of those only the shipped models' is
// known.
inline constexpr const char *former_key = "mobilediffusion.fingerprint", *former_emoji = "d85a0e3f802e06e2";
}  // namespace detail

// What changes pictures though all tensors are equal, and what tensors show: the configuration but for the sizes of pictures
// and prompts and what a request may say. Its fields' names and defaults are part of the file format: a new field's default
// changes nothing.
constexpr ModelConfig meaning_of(ModelConfig m) {
  constexpr ModelConfig d{};
  m.unet.height = d.unet.height;
  m.unet.width = d.unet.width;
  m.unet.context_length = m.text.length;
  m.vae.height = d.vae.height;
  m.vae.width = d.vae.width;
  m.sampler.steps = d.sampler.steps;
  m.sampler.guidance_percent = d.sampler.guidance_percent;
  return m;
}

// As a model's metadata have it: "path=value" for each field that is not the default, with spaces between them.
std::string configuration_text(const reflect::Fields& fields);
inline std::string configuration_text(const ModelConfig& config) {
  return configuration_text(reflect::describe(meaning_of(config)));
}

// What a model's file was made for. Throws Error for one that does not say.
reflect::Fields read_configuration(const SafetensorsFile& file);

// The first field in which two descriptions differ, as a text; empty where they are equal.
std::string difference(const reflect::Fields& expected, const reflect::Fields& found);

// Every leaf from a SafetensorsFile or WeightFiles, packed; otherwise as read_weights into plain memory.
template <class W, class File>
void read_weights(const File& file, std::string_view prefix, PackedWeights<W>& packed) {
  read_weights(file, prefix, packed.weights(),
               [&](const reflect::LeafView& leaf, std::span<const float> values) { packed.set(leaf, values); });
  packed.finish();
}

// Throws Error unless the file is exactly model M: what it was made for, every tensor with its shape and a readable dtype, none
// besides. Pictures may have another size.
template <ModelConfig M>
void check_model(const SafetensorsFile& file) {
  const reflect::Fields found = read_configuration(file);
  check_weights<ModelWeights<M>>(file, "");
  std::vector<std::string> known;
  ModelWeights<M> weights{};
  for (const reflect::LeafView& leaf : reflect::leafs(weights)) {
    known.push_back(leaf.path);
    if (file.find(leaf.path)->dtype == Dtype::i8) known.push_back(detail::scale_name(leaf.path));
  }
  if (const std::size_t n = known.size(); file.tensors().size() != n) {
    std::sort(known.begin(), known.end());
    const auto is_foreign = [&](const TensorView& t) { return !std::binary_search(known.begin(), known.end(), t.name); };
    const auto foreign = std::find_if(file.tensors().begin(), file.tensors().end(), is_foreign);
    throw Error(detail::join({"file ", detail::printable(file.name()), ": tensor ", detail::printable(foreign->name),
                              ": unknown to the model, expected its ", n, " tensors, found ", file.tensors().size()}));
  }
  if (const std::string differs = difference(reflect::describe(meaning_of(M)), found); !differs.empty())
    throw Error(detail::join({"file ", detail::printable(file.name()), ": trained for another configuration: field ", differs}));
}

// The tokenizer inside a model's file. Throws Error for one that is missing, damaged, or of more than `vocabulary` pieces.
Tokenizer read_tokenizer(const SafetensorsFile& file, std::size_t vocabulary);

// How pictures are drawn where a request does not say, as entries of a model's metadata. Throws Error for a sampler with options
// of its own: a file holds its name.
void put_sampling(Metadata& metadata, const SamplingOptions& o);
// Of a model's metadata; what it does not say stays as in `otherwise`. file: for messages. Throws Error for values that no
// request may have.
SamplingOptions sampling_of(const Metadata& metadata, SamplingOptions otherwise, std::string_view file);

// tokenizer: the bytes of its model. dtype: of every tensor (F32, F16 or BF16), or I8 as list_weights has it. metadata: whatever
// should be known of the training.
template <ModelConfig M>
void write_model(const std::filesystem::path& path, const ModelWeights<M>& weights, std::string_view tokenizer, Dtype dtype,
                 Metadata metadata = {}) {
  std::vector<TensorToWrite> tensors;
  list_weights(tensors, "", weights, dtype);
  metadata[detail::configuration_key] = configuration_text(M);
  metadata[detail::tokenizer_key] = base64_encode(tokenizer);
  write_safetensors(path, tensors, metadata);
}

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY std::string configuration_text(const reflect::Fields& fields) {
  std::string text;
  for (const auto& [path, value] : fields) text += (text.empty() ? "" : " ") + path + '=' + value;
  return text;
}

MOBILEDIFFUSION_BODY reflect::Fields read_configuration(const SafetensorsFile& file) {
  const auto found = file.metadata().find(detail::configuration_key);
  if (found == file.metadata().end()) {
    const auto former = file.metadata().find(detail::former_key);
    if (former == file.metadata().end()) file.require_metadata(detail::configuration_key);
    else if (former->second != detail::former_emoji)
      throw Error(detail::join({"file ", detail::printable(file.name()), ": metadata ", detail::configuration_key,
                                ": missing, found the fingerprint ", detail::printable(former->second),
                                " of a configuration that is unknown; write the model again"}));
    return reflect::describe(meaning_of(presets::emoji));
  }
  reflect::Fields fields;
  const std::string_view text = found->second;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view field = text.substr(begin, end - begin);
    const std::size_t equals = field.find('=');
    if (equals == field.npos || !fields.emplace(field.substr(0, equals), field.substr(equals + 1)).second)
      throw Error(detail::join({"file ", detail::printable(file.name()), ": metadata ", detail::configuration_key,
                                ": expected path=value once each, found ", detail::printable(std::string(field))}));
    begin = end + 1;
  }
  return fields;
}

MOBILEDIFFUSION_BODY std::string difference(const reflect::Fields& expected, const reflect::Fields& found) {
  const auto value = [](const reflect::Fields& fields, const std::string& path) {
    const auto at = fields.find(path);
    return at == fields.end() ? std::string("the default") : detail::printable(at->second);
  };
  reflect::Fields all = expected;
  all.insert(found.begin(), found.end());
  for (const auto& [path, ignored] : all)
    if (value(expected, path) != value(found, path))
      return detail::join({detail::printable(path), ": expected ", value(expected, path), ", found ", value(found, path)});
  return "";
}

MOBILEDIFFUSION_BODY Tokenizer read_tokenizer(const SafetensorsFile& file, std::size_t vocabulary) {
  const std::string& text = file.require_metadata(detail::tokenizer_key);
  try {
    return Tokenizer(base64_decode(text), vocabulary);
  } catch (const Error& e) {
    throw Error(detail::join(
        {"file ", detail::printable(file.name()), ": metadata ", detail::printable(detail::tokenizer_key), ": ", e.what()}));
  }
}

MOBILEDIFFUSION_BODY void put_sampling(Metadata& metadata, const SamplingOptions& o) {
  if (o.sampler != sampler_named(name_of(o.sampler)))
    throw Error(detail::join({"sampler ", std::string(name_of(o.sampler)), ": expected its usual options for a model's file"}));
  metadata[detail::sampler_kind_key] = name_of(o.sampler);
  metadata[detail::sampler_steps_key] = std::to_string(o.steps);
  metadata[detail::sampler_guidance_key] = detail::number_text(o.guidance);
}

MOBILEDIFFUSION_BODY SamplingOptions sampling_of(const Metadata& metadata, SamplingOptions otherwise, std::string_view file) {
  SamplingOptions o = otherwise;
  const auto value = [&](const char* key, const std::string& expected, auto&& take) {
    const auto at = metadata.find(key);
    if (at != metadata.end() && !take(at->second))
      throw Error(detail::join({"file ", detail::printable(file), ": metadata ", key, ": expected ", expected, ", found ",
                                detail::printable(at->second)}));
  };
  value(detail::sampler_kind_key, "one of " + sampler_names(), [&](const std::string& text) {
    const std::optional<Sampler> found = sampler_named(text);
    if (found) o.sampler = *found;
    return found.has_value();
  });
  value(detail::sampler_steps_key, "a whole number of 1 to 1000",
        [&](const std::string& text) { return detail::parse_number(text, o.steps) && o.steps >= 1 && o.steps <= 1000; });
  value(detail::sampler_guidance_key, "a number of at least 0", [&](const std::string& text) {
    return detail::parse_number(text, o.guidance) && std::isfinite(o.guidance) && o.guidance >= 0.0f;
  });
  return o;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
