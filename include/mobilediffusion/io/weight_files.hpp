// SPDX-License-Identifier: Apache-2.0
// The tensors of one network under the names of diffusers and transformers: one safetensors file of it, shards with an index, or
// its part of a file that holds more.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json.hpp"
#include "safetensors.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Looks like a SafetensorsFile to check_weights and read_weights.
class WeightFiles {
 public:
  struct Tensor : TensorView {  // its name is the file's own
    std::string path;           // what diffusers calls it
    std::size_t file = 0;       // which of the shards
    bool transposed = false;    // a matrix whose rows are the columns of the file's; its shape is already as it is here
  };

  // folder/stem.safetensors, else folder/stem.safetensors.index.json with its shards, else the same of the variants fp16, bf16
  // and non_ema: folder/stem.fp16.safetensors, folder/stem.safetensors.index.fp16.json, or, in older folders,
  // folder/stem.safetensors.fp16.index.json. Throws Error where none of them is there, where a shard is missing or damaged,
  // and where index and shards disagree.
  WeightFiles(const std::filesystem::path& folder, const std::string& stem);
  // Some tensors of a file under other names. spelling: what the file would call one of these, for messages. Throws Error where
  // two tensors have one name.
  WeightFiles(std::shared_ptr<const SafetensorsFile> file, std::vector<Tensor> tensors,
              std::function<std::string(std::string_view)> spelling);

  const std::string& name() const { return name_; }
  std::span<const Tensor> tensors() const { return tensors_; }  // in the order of their paths
  const Tensor* find(std::string_view path) const;
  // As SafetensorsFile's, but shapes may differ by ones at their end: [C,C] of a linear layer and [C,C,1,1] of a convolution are
  // the same matrix, and tools write either. Autoencoders published before 2023 call an attention's projections query, key, value
  // and proj_attn; transformers 5 saves a text encoder without the prefix text_model.
  const TensorView& require(std::string_view name, std::span<const std::size_t> shape) const;
  // tensor: of this object.
  void read_floats(const TensorView& tensor, float* out) const;

 private:
  void sort();
  static std::string other_name(std::string_view name);

  [[noreturn]] static void fail_missing(const std::filesystem::path& folder, const std::string& stem);

  void open_shards(const std::filesystem::path& folder, const std::filesystem::path& index);

  std::string name_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  std::vector<Tensor> tensors_;
  std::function<std::string(std::string_view)> spelling_;
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY WeightFiles::WeightFiles(const std::filesystem::path& folder, const std::string& stem)
    : name_(detail::path_text(folder / stem)) {
  for (const std::string variant : {"", ".fp16", ".bf16", ".non_ema"}) {
    const auto single = folder / (stem + variant + ".safetensors");
    if (path_exists(single)) {
      name_ = detail::path_text(single);
      files_.push_back(std::make_shared<const SafetensorsFile>(single));
    } else {
      for (const std::string& end : {".index" + variant + ".json", variant + ".index.json"})
        if (const auto index = folder / (stem + ".safetensors" + end); files_.empty() && path_exists(index)) {
          name_ = detail::path_text(index);
          open_shards(folder, index);
        }
    }
    if (!files_.empty()) break;
  }
  if (files_.empty()) fail_missing(folder, stem);
  for (std::size_t f = 0; f < files_.size(); ++f)
    for (const TensorView& t : files_[f]->tensors()) tensors_.push_back({t, t.name, f});
  sort();
}

MOBILEDIFFUSION_BODY WeightFiles::WeightFiles(std::shared_ptr<const SafetensorsFile> file, std::vector<Tensor> tensors,
                                              std::function<std::string(std::string_view)> spelling)
    : name_(file->name()), files_{std::move(file)}, tensors_(std::move(tensors)), spelling_(std::move(spelling)) {
  sort();
  const auto twice =
      std::adjacent_find(tensors_.begin(), tensors_.end(), [](const Tensor& a, const Tensor& b) { return a.path == b.path; });
  if (twice != tensors_.end())
    throw Error(detail::join({"file ", detail::printable(name_), ": tensors ", detail::printable(twice->name), " and ",
                              detail::printable((twice + 1)->name), ": both are ", detail::printable(twice->path)}));
}

MOBILEDIFFUSION_BODY const WeightFiles::Tensor* WeightFiles::find(std::string_view path) const {
  const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), path,
                                   [](const Tensor& t, std::string_view wanted) { return t.path < wanted; });
  return at != tensors_.end() && at->path == path ? &*at : nullptr;
}

MOBILEDIFFUSION_BODY const TensorView& WeightFiles::require(std::string_view name, std::span<const std::size_t> shape) const {
  const Tensor* tensor = find(name);
  if (tensor == nullptr) tensor = find(other_name(name));
  if (tensor == nullptr) {
    const std::string spelt = spelling_ ? spelling_(name) : std::string(name);
    throw Error(detail::join({"file ", detail::printable(name_), ": tensor ", detail::printable(spelt),
                              ": missing, expected shape ", detail::to_text(shape)}));
  }
  if (!detail::same_shape(shape, tensor->shape))
    throw Error(detail::join({"file ", detail::printable(name_), ": tensor ", detail::printable(tensor->name),
                              ": expected shape ", detail::to_text(shape), ", found ", detail::to_text(tensor->shape)}));
  return *tensor;
}

MOBILEDIFFUSION_BODY void WeightFiles::read_floats(const TensorView& tensor, float* out) const {
  const auto& t = static_cast<const Tensor&>(tensor);
  if (!t.transposed || t.shape.size() != 2) return files_[t.file]->read_floats(t, out);
  std::vector<float> values(t.count());
  files_[t.file]->read_floats(t, values.data());
  for (std::size_t r = 0; r < t.shape[0]; ++r)
    for (std::size_t k = 0; k < t.shape[1]; ++k) out[r * t.shape[1] + k] = values[k * t.shape[0] + r];
}

MOBILEDIFFUSION_BODY void WeightFiles::sort() {
  std::sort(tensors_.begin(), tensors_.end(),
            [](const Tensor& a, const Tensor& b) { return a.path != b.path ? a.path < b.path : a.name < b.name; });
}

MOBILEDIFFUSION_BODY std::string WeightFiles::other_name(std::string_view name) {
  if (constexpr std::string_view prefix = "text_model."; name.starts_with(prefix)) return std::string(name.substr(prefix.size()));
  static constexpr std::array<std::array<std::string_view, 2>, 4> names{
      {{".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}}};
  std::string out(name);
  for (const auto& [now, then] : names)
    if (const std::size_t at = out.find(now); at != std::string::npos) return out.replace(at, now.size(), then);
  return out;
}

MOBILEDIFFUSION_BODY void WeightFiles::fail_missing(const std::filesystem::path& folder, const std::string& stem) {
  std::string hint;
  for (const std::string& pickle : {stem + ".bin", std::string("pytorch_model.bin"), stem + ".fp16.bin"})
    if (hint.empty() && path_exists(folder / pickle))
      hint = detail::join({"; ", pickle, " is there, but pickles are not read: convert it to safetensors"});
  throw Error(detail::join({"folder ", detail::printable(detail::path_text(folder)), ": expected ", stem, ".safetensors or ",
                            stem, ".safetensors.index.json with its shards, found neither", hint}));
}

MOBILEDIFFUSION_BODY void WeightFiles::open_shards(const std::filesystem::path& folder, const std::filesystem::path& index) {
  const auto fail = [&](std::initializer_list<detail::Piece> what) { detail::fail_file(index, what); };
  const auto json = read_json(index, JsonLimits::index_bytes);
  if (!json.contains("weight_map") || !json["weight_map"].is_object() || json["weight_map"].empty())
    fail({"expected an object \"weight_map\" of tensors and shards"});
  std::map<std::string, std::set<std::string>> shards;  // with the tensors that the index expects of them
  for (const auto& [tensor, shard] : json["weight_map"].items()) {
    if (!shard.is_string()) fail({"tensor ", detail::printable(tensor), ": expected the name of a shard"});
    const std::string file = shard.get<std::string>();
    if (file.find_first_of("/\\:") != std::string::npos)
      fail({"tensor ", detail::printable(tensor), ": shard ", detail::printable(file), " is not in this folder"});
    shards[file].insert(tensor);
  }
  for (const auto& [shard, expected] : shards) {
    if (!path_exists(folder / shard)) fail({"shard ", detail::printable(shard), ": missing"});
    files_.push_back(std::make_shared<const SafetensorsFile>(folder / shard));
    for (const std::string& tensor : expected)
      if (files_.back()->find(tensor) == nullptr)
        fail({"tensor ", detail::printable(tensor), ": missing in shard ", detail::printable(shard)});
    for (const TensorView& t : files_.back()->tensors())
      if (!expected.contains(t.name))
        fail({"shard ", detail::printable(shard), ": tensor ", detail::printable(t.name), " is not in the index"});
  }
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
