// SPDX-License-Identifier: Apache-2.0
// The tensors of one network as diffusers and transformers store them: one safetensors file, or shards with an index.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "safetensors.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Looks like a SafetensorsFile to check_weights and read_weights.
class WeightFiles {
 public:
  // folder/stem.safetensors, else folder/stem.safetensors.index.json with its shards, else the same of the variants fp16 and
  // bf16: folder/stem.fp16.safetensors, folder/stem.safetensors.index.fp16.json. Throws Error where none of them is there, where
  // a shard is missing or damaged, and where index and shards disagree.
  WeightFiles(const std::filesystem::path& folder, const std::string& stem) : name_((folder / stem).string()) {
    for (const std::string variant : {"", ".fp16", ".bf16"}) {
      const auto single = folder / (stem + variant + ".safetensors"),
                 index = folder / (stem + ".safetensors.index" + variant + ".json");
      if (std::filesystem::exists(single)) {
        name_ = single.string();
        files_.emplace_back(single);
      } else if (std::filesystem::exists(index)) {
        name_ = index.string();
        open_shards(folder, index);
      }
      if (!files_.empty()) break;
    }
    if (files_.empty())
      throw Error(detail::join({"folder ", detail::printable(folder.string()), ": expected ", stem, ".safetensors or ", stem,
                                ".safetensors.index.json with its shards, found neither"}));
    for (const SafetensorsFile& f : files_)
      for (const TensorView& t : f.tensors()) tensors_.push_back(t);
  }

  const std::string& name() const { return name_; }
  std::span<const TensorView> tensors() const { return tensors_; }
  const TensorView* find(std::string_view name) const {
    for (const SafetensorsFile& f : files_)
      if (const TensorView* t = f.find(name)) return t;
    return nullptr;
  }
  // As SafetensorsFile's. Autoencoders published before 2023 call an attention's projections query, key, value and proj_attn;
  // transformers 5 saves a text encoder without the prefix text_model.
  const TensorView& require(std::string_view name, std::span<const std::size_t> shape) const {
    const TensorView* tensor = find(name);
    if (tensor == nullptr) tensor = find(other_name(name));
    if (tensor == nullptr)
      throw Error(detail::join({"file ", detail::printable(name_), ": tensor ", detail::printable(name),
                                ": missing, expected shape ", detail::to_text(shape)}));
    if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end()))
      throw Error(detail::join({"file ", detail::printable(name_), ": tensor ", detail::printable(name), ": expected shape ",
                                detail::to_text(shape), ", found ", detail::to_text(tensor->shape)}));
    return *tensor;
  }
  void read_floats(const TensorView& tensor, float* out) const {
    const auto owner = std::find_if(files_.begin(), files_.end(), [&](const SafetensorsFile& f) { return f.owns(tensor); });
    (owner == files_.end() ? files_.front() : *owner).read_floats(tensor, out);
  }

 private:
  static std::string other_name(std::string_view name) {
    if (constexpr std::string_view prefix = "text_model."; name.starts_with(prefix))
      return std::string(name.substr(prefix.size()));
    static constexpr std::array<std::array<std::string_view, 2>, 4> names{
        {{".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}}};
    std::string out(name);
    for (const auto& [now, then] : names)
      if (const std::size_t at = out.find(now); at != std::string::npos) return out.replace(at, now.size(), then);
    return out;
  }

  void open_shards(const std::filesystem::path& folder, const std::filesystem::path& index) {
    const auto fail = [&](std::initializer_list<detail::Piece> what) {
      throw Error(detail::join({"file ", detail::printable(index.string()), ": ", detail::join(what)}));
    };
    const auto json = nlohmann::json::parse(read_file(index), nullptr, false);
    if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object() || json["weight_map"].empty())
      fail({"expected an object \"weight_map\" of tensors and shards"});
    std::map<std::string, std::set<std::string>> shards;  // with the tensors that the index expects of them
    for (const auto& [tensor, shard] : json["weight_map"].items()) {
      if (!shard.is_string()) fail({"tensor ", detail::printable(tensor), ": expected the name of a shard"});
      const std::string file = shard.get<std::string>();
      if (file.find('/') != std::string::npos || file.find('\\') != std::string::npos)
        fail({"tensor ", detail::printable(tensor), ": shard ", detail::printable(file), " is not in this folder"});
      shards[file].insert(tensor);
    }
    for (const auto& [shard, expected] : shards) {
      if (!std::filesystem::exists(folder / shard)) fail({"shard ", detail::printable(shard), ": missing"});
      files_.emplace_back(folder / shard);
      for (const std::string& tensor : expected)
        if (files_.back().find(tensor) == nullptr)
          fail({"tensor ", detail::printable(tensor), ": missing in shard ", detail::printable(shard)});
      for (const TensorView& t : files_.back().tensors())
        if (!expected.contains(t.name))
          fail({"shard ", detail::printable(shard), ": tensor ", detail::printable(t.name), " is not in the index"});
    }
  }

  std::string name_;
  std::vector<SafetensorsFile> files_;
  std::vector<TensorView> tensors_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
