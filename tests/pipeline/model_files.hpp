// SPDX-License-Identifier: Apache-2.0
// Model files with random weights, and every way in which such a file can be wrong with what the refusal must say.
#pragma once

#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "mobilediffusion/model_file.hpp"
#include "mobilediffusion/train/initialize.hpp"
#include "mobilediffusion/train/tokenizer.hpp"

namespace model_files {

namespace md = mobilediffusion;

inline std::string small_tokenizer(std::size_t pieces = 36) {
  const std::vector<std::string> captions{"a red apple", "a blue apple",  "a red cat", "a blue cat",
                                          "red cats",    "two blue cats", "a cat"};
  return md::train_tokenizer(captions, pieces);
}

template <md::ModelConfig M>
class RandomModel {
 public:
  explicit RandomModel(std::uint64_t seed = 1) : blob_(md::reflect::storage_floats<md::ModelWeights<M>>()) {
    md::reflect::bind(weights, blob_.data());
    md::train::initialize(weights, seed, {.zero_branches = false});
  }
  void write(const std::filesystem::path& path, md::Dtype dtype = md::Dtype::f32) const {
    md::write_model<M>(path, weights, small_tokenizer(), dtype, {{"training.note", "random"}});
  }

  md::ModelWeights<M> weights{};

 private:
  md::AlignedBuffer blob_;
};

using Tensors = std::vector<md::TensorToWrite>;

// A file that is well-formed, but not the model.
struct WrongModel {
  std::string kind;
  std::function<void(Tensors&, md::Metadata&)> edit;
  std::vector<std::string> says;
};
// A file that is not even well-formed.
struct WrongBytes {
  std::string kind;
  std::function<void(std::string&)> edit;
  std::vector<std::string> says;
};

inline md::TensorToWrite& tensor(Tensors& tensors, const std::string& name) {
  for (md::TensorToWrite& t : tensors)
    if (t.name == name) return t;
  throw md::Error("test: no tensor " + name);
}
inline void put_last_float(md::TensorToWrite& t, float value) {
  t.dtype = md::Dtype::f32;
  t.floats = {};
  t.fill = [value](std::span<std::byte> bytes) { std::memcpy(bytes.data() + bytes.size() - 4, &value, 4); };
}

inline void make_int8(md::TensorToWrite& t) {
  t = {.name = t.name, .dtype = md::Dtype::i8, .shape = t.shape, .fill = [](auto) {}};
}

inline std::vector<WrongModel> wrong_models() {
  const std::string bias = "unet.conv_in.bias", fc1 = "text_encoder.text_model.encoder.layers.0.mlp.fc1.weight";
  const char *configuration = md::detail::configuration_key, *tokenizer = md::detail::tokenizer_key;
  return {
      {"one-too-few",
       [=](Tensors& t, auto&) { std::erase_if(t, [&](const auto& x) { return x.name == bias; }); },
       {bias, "missing, expected shape ["}},
      {"one-too-many",
       [](Tensors& t, auto&) { t.push_back({.name = "unet.extra", .shape = {0}}); },
       {"unet.extra", "unknown to the model, expected its"}},
      {"int8-without-scale",
       [=](Tensors& t, auto&) { make_int8(tensor(t, fc1)); },
       {fc1 + "_scale", "missing, expected shape ["}},
      {"int8-bias",
       [=](Tensors& t, auto&) { make_int8(tensor(t, bias)); },
       {bias, "expected dtype F32, F16, BF16, F8_E4M3 or F8_E5M2, found I8"}},
      {"scale-of-floats",
       [=](Tensors& t, auto&) { t.push_back({.name = fc1 + "_scale", .shape = {0}}); },
       {fc1 + "_scale", "unknown to the model, expected its"}},
      {"renamed", [=](Tensors& t, auto&) { tensor(t, bias).name = "unet.conv_in.bias_"; }, {bias, "missing, expected shape ["}},
      {"transposed",
       [=](Tensors& t, auto&) { std::swap(tensor(t, fc1).shape[0], tensor(t, fc1).shape[1]); },
       {fc1, "expected shape [", "found ["}},
      {"flat",
       [=](Tensors& t, auto&) { tensor(t, fc1).shape = {tensor(t, fc1).floats.size()}; },
       {fc1, "expected shape [", "found ["}},
      {"dtype",
       [=](Tensors& t, auto&) {
         tensor(t, bias).dtype = md::Dtype::f64;
         tensor(t, bias).fill = [](std::span<std::byte>) {};
       },
       {bias, "expected dtype F32, F16, BF16, F8_E4M3 or F8_E5M2, found F64"}},
      {"nan",
       [=](Tensors& t, auto&) { put_last_float(tensor(t, bias), std::numeric_limits<float>::quiet_NaN()); },
       {bias, "expected finite numbers"}},
      {"infinity",
       [=](Tensors& t, auto&) { put_last_float(tensor(t, bias), -std::numeric_limits<float>::infinity()); },
       {bias, "expected finite numbers"}},
      {"configuration",
       [=](Tensors&, md::Metadata& m) { m[configuration] += " unet.attention.kind=relu"; },
       {"trained for another configuration: field \"unet.attention.kind\": expected the default, found \"relu\""}},
      {"configuration-default",
       [=](Tensors&, md::Metadata& m) { m[configuration] = ""; },
       {"trained for another configuration: field \"sampler.schedule\": expected \"cosine\", found the default"}},
      {"configuration-of-the-future",
       [=](Tensors&, md::Metadata& m) { m[configuration] += " unet.zeta=1"; },
       {"field \"unet.zeta\": expected the default, found \"1\""}},
      {"configuration-damaged",
       [=](Tensors&, md::Metadata& m) { m[configuration] += " unet"; },
       {configuration, "expected path=value once each, found \"unet\""}},
      {"fingerprint-of-before",
       [=](Tensors&, md::Metadata& m) {
         m.erase(configuration);
         m[md::detail::former_key] = "1234";
       },
       {configuration, "missing, found the fingerprint \"1234\""}},
      {"no-configuration", [=](Tensors&, md::Metadata& m) { m.erase(configuration); }, {configuration, "missing"}},
      {"no-tokenizer", [=](Tensors&, md::Metadata& m) { m.erase(tokenizer); }, {tokenizer, "missing"}},
      {"tokenizer-base64",
       [=](Tensors&, md::Metadata& m) { m[tokenizer][7] = '#'; },
       {tokenizer, "base64: unexpected \"#\" at position 7"}},
      {"tokenizer-empty", [=](Tensors&, md::Metadata& m) { m[tokenizer] = ""; }, {tokenizer, "tokenizer model: empty"}},
      {"tokenizer-foreign",
       [=](Tensors&, md::Metadata& m) { m[tokenizer] = md::base64_encode("tokens"); },
       {tokenizer, "not a sentencepiece model"}},
      {"tokenizer-cut",
       [=](Tensors&, md::Metadata& m) {
         const std::string bytes = md::base64_decode(m[tokenizer]);
         m[tokenizer] = md::base64_encode(bytes.substr(0, bytes.size() / 2));
       },
       {tokenizer, "not a sentencepiece model"}},
  };
}

// The first number after `mark` in the header gets another first digit.
inline void change_digit(std::string& file, const std::string& mark) {
  char& digit = file.at(file.find(mark) + mark.size());
  digit = digit == '9' ? '8' : static_cast<char>(digit + 1);
}

inline std::vector<WrongBytes> wrong_bytes() {
  return {
      {"empty", [](std::string& f) { f.clear(); }, {"expected at least 8 bytes, found 0"}},
      {"seven-bytes", [](std::string& f) { f.resize(7); }, {"expected at least 8 bytes, found 7"}},
      {"header-cut", [](std::string& f) { f.resize(100); }, {"header: ", "bytes announced, 92 follow"}},
      {"data-cut", [](std::string& f) { f.pop_back(); }, {"tensor \"vae.", "leave the file"}},
      {"data-longer", [](std::string& f) { f += '\0'; }, {"the tensors cover", "the last is tensor \"vae."}},
      {"text", [](std::string& f) { f = "This is a letter and no model."; }, {"header: "}},
      {"picture",
       [](std::string& f) { f.replace(0, 16, std::string("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16)); },
       {"expected a safetensors file, found a picture (PNG)"}},
      {"length", [](std::string& f) { f[7] = '\x7f'; }, {"header: ", "are allowed"}},
      {"length-short", [](std::string& f) { f[0] = static_cast<char>(f[0] ^ 8), f[1] = 0, f[2] = 0; }, {"header: not JSON"}},
      {"json", [](std::string& f) { f[9] = '}'; }, {"header: not JSON"}},
      {"shape", [](std::string& f) { change_digit(f, "\"shape\":["); }, {"tensor \"text_encoder.", "bytes, but data_offsets ["}},
      {"offsets",
       [](std::string& f) { change_digit(f, "\"data_offsets\":["); },
       {"tensor \"text_encoder.", "bytes, but data_offsets ["}},
      {"dtype-name", [](std::string& f) { f[f.find("\"dtype\":\"") + 9] = 'X'; }, {"tensor \"text_encoder.", "unknown dtype"}},
  };
}

template <md::ModelConfig M>
void write_wrong(const RandomModel<M>& model, const WrongModel& wrong, const std::filesystem::path& path) {
  Tensors tensors;
  md::list_weights(tensors, "", model.weights, md::Dtype::f16);
  md::Metadata metadata{{md::detail::configuration_key, md::configuration_text(M)},
                        {md::detail::tokenizer_key, md::base64_encode(small_tokenizer())}};
  wrong.edit(tensors, metadata);
  md::write_safetensors(path, tensors, metadata);
}

}  // namespace model_files
