// SPDX-License-Identifier: Apache-2.0
// Files of adapters, in any of the usual grammars (lora_names.hpp), and how strong each says that it is.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json.hpp"
#include "lora.hpp"
#include "lora_names.hpp"
#include "numbers.hpp"
#include "weights.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {

// Both factors of one matrix, and what multiplies them, as tensors of a file.
struct LoraTensors {
  LoraName name{};  // of one of them
  const TensorView *a = nullptr, *b = nullptr, *alpha = nullptr;
};

// PEFT's configuration of an adapter: of the library itself beside its file, or in the metadata of diffusers, with the part
// ("unet.") in front of each key.
class PeftConfig {
 public:
  PeftConfig(nlohmann::json json, std::string place) : json_(std::move(json)), place_(std::move(place)) {
    if (!json_.is_object()) throw Error(place_ + ": expected a JSON object");
  }

  // What multiplies B A of this matrix, times the rank; nothing where the configuration does not say. part: "unet".
  // matrix: its name in the file. Throws Error for other methods than LoRA.
  std::optional<float> alpha(const std::string& part, std::string_view matrix, std::size_t rank) const {
    const auto field = [&](const char* name) -> const nlohmann::json* {
      auto at = json_.find(part + "." + name);
      if (at == json_.end()) at = json_.find(name);
      return at == json_.end() || at->is_null() ? nullptr : &*at;
    };
    const auto is_on = [&](const char* name) {
      const nlohmann::json* const value = field(name);
      return value != nullptr && *value != nlohmann::json(false);
    };
    if (const nlohmann::json* const type = field("peft_type"); type != nullptr && *type != nlohmann::json("LORA"))
      throw Error(join({place_, ": peft_type: expected LORA, found ", printable(type->dump())}));
    if (is_on("use_dora")) throw Error(place_ + ": DoRA: not supported, only LoRA is");
    if (is_on("fan_in_fan_out")) throw Error(place_ + ": fan_in_fan_out: not supported");
    const nlohmann::json* found = field("lora_alpha");
    if (const nlohmann::json* const patterns = field("alpha_pattern"); patterns != nullptr && patterns->is_object())
      for (auto at = patterns->begin(); at != patterns->end(); ++at) {
        const std::string& name = at.key();
        if (name.find_first_of("^$*+?()[]{}|\\") != name.npos)
          throw Error(join({place_, ": alpha_pattern: expected names of layers, found the expression ", printable(name)}));
        if (matrix == name || matrix.ends_with("." + name)) found = &*at;
      }
    if (found == nullptr) return std::nullopt;
    if (!found->is_number()) throw Error(join({place_, ": lora_alpha: expected a number, found ", printable(found->dump())}));
    return found->get<float>() * (is_on("use_rslora") ? std::sqrt(static_cast<float>(rank)) : 1.0f);
  }

 private:
  nlohmann::json json_;
  std::string place_;  // for messages
};

// One number of any usual dtype.
inline float read_lora_alpha(const SafetensorsFile& file, const TensorView& tensor) {
  const auto fail = [&](std::initializer_list<Piece> what) {
    throw Error(join({"file ", printable(file.name()), ": tensor ", printable(tensor.name), ": ", join(what)}));
  };
  if (tensor.count() != 1) fail({"expected one number, found shape ", to_text(tensor.shape)});
  float value = 0;
  if (is_float(tensor.dtype)) {
    file.read_floats(tensor, &value);
  } else {
    const std::vector<std::byte> bytes = file.read_bytes(tensor);
    if (tensor.dtype == Dtype::f64) value = static_cast<float>(load<double>(bytes.data()));
    else if (tensor.dtype == Dtype::i64) value = static_cast<float>(load<std::int64_t>(bytes.data()));
    else if (tensor.dtype == Dtype::i32) value = static_cast<float>(load<std::int32_t>(bytes.data()));
    else fail({"expected a number, found dtype ", name_of(tensor.dtype)});
  }
  return value;
}

// By the place of its matrix among the leafs. Throws Error for tensors of other matrices and other methods, and for factors
// alone.
inline std::map<std::size_t, LoraTensors> find_lora_tensors(const SafetensorsFile& file,
                                                            std::span<const reflect::LeafView> leafs) {
  const auto fail = [&](std::string_view name, std::initializer_list<Piece> what) {
    throw Error(join({"file ", printable(file.name()), ": tensor ", printable(name), ": ", join(what)}));
  };
  const LoraMatrices matrices(leafs);
  std::map<std::size_t, LoraTensors> found;
  for (const TensorView& t : file.tensors()) {
    if (const char* const method = other_method(t.name); method != nullptr)
      fail(t.name, {method, ": not supported, only LoRA is"});
    const auto name = parse_lora_name(t.name);
    const auto leaf = name ? matrices.find(*name) : std::nullopt;
    if (!leaf)
      fail(t.name, {"expected lora_A.weight or lora_B.weight, or what other grammars call them, of a matrix of the model"});
    LoraTensors& tensors = found[*leaf];
    const TensorView*& slot = name->role() == LoraRole::a ? tensors.a : name->role() == LoraRole::b ? tensors.b : tensors.alpha;
    if (slot != nullptr) fail(t.name, {"stands for the same as tensor ", printable(slot->name)});
    slot = &t;
    if (name->role() != LoraRole::alpha) tensors.name = *name;
  }
  for (const auto& [leaf, tensors] : found) {
    if (tensors.a == nullptr && tensors.b == nullptr) fail(tensors.alpha->name, {"there are no factors beside it"});
    if (tensors.a == nullptr || tensors.b == nullptr) fail(tensors.name.partner(), {"missing beside its partner"});
  }
  return found;
}

// Reads a factor into [rows][columns] of memory; its taps lie last in the file and before the channels in memory.
inline void read_lora_factor(const SafetensorsFile& file, const TensorView& tensor, std::size_t rows, std::size_t inner,
                             std::size_t taps, float* out) {
  if (taps == 1) {
    file.read_floats(tensor, out);
  } else {
    std::vector<float> order(tensor.count());
    file.read_floats(tensor, order.data());
    reflect::LeafType type{};
    type.outer = rows;
    type.inner = inner;
    type.taps = taps;
    to_memory_order(type, order.data(), out);
  }
  if (!std::all_of(out, out + tensor.count(), [](float x) { return std::isfinite(x); }))
    throw Error(join({"tensor ", tensor.name, ": expected finite numbers, found NaN or infinity"}));
}

}  // namespace detail

// For weights of type W, as make_lora, and of convolutions too; matrices that the file does not name are not adapted. Each has
// the rank of its factors. Its alpha is what the file says of it: a tensor PATH.alpha, else the metadata lora_adapter_metadata
// (diffusers) or alpha (write_lora), else adapter_config.json beside the file where its names are PEFT's own (base_model.model.),
// else the rank. Throws Error naming file and tensor for one that W does not have, that lacks its partner, is of another shape or
// of a dtype that is no float or has numbers that are not finite; and naming the method for others than LoRA.
template <class W>
Lora read_lora(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const auto fail = [&](std::initializer_list<detail::Piece> what) {
    throw Error(detail::join({"file ", detail::printable(file.name()), ": ", detail::join(what)}));
  };
  const auto said = [&](const char* key) -> const std::string* {
    const auto at = file.metadata().find(key);
    return at == file.metadata().end() ? nullptr : &at->second;
  };
  W weights{};
  const std::vector<reflect::LeafView> leafs = reflect::leafs(weights);
  const auto found = detail::find_lora_tensors(file, leafs);

  const auto number = [&](const char* key, auto value) {
    const std::string* const text = said(key);
    if (text == nullptr) return std::optional<decltype(value)>{};
    if (!detail::parse_number(*text, value)) fail({"metadata ", key, ": expected a number, found ", detail::printable(*text)});
    return std::optional(value);
  };
  const auto rank_said = number("rank", std::size_t{});
  const auto alpha_said = number("alpha", float{});
  std::optional<detail::PeftConfig> peft;
  if (const std::string* const text = said("lora_adapter_metadata"); text != nullptr) {
    const std::string place = detail::join({"file ", detail::printable(file.name()), ": metadata lora_adapter_metadata"});
    peft.emplace(parse_json(*text, place), place);
  } else if (std::any_of(found.begin(), found.end(),
                         [](const auto& f) { return f.second.name.matrix.starts_with("base_model.model."); })) {
    const std::filesystem::path config = path.parent_path() / "adapter_config.json";
    if (!path_exists(config)) fail({"expected PEFT's adapter_config.json beside it, which says how strong the adapter is"});
    peft.emplace(read_json(config), detail::join({"file ", detail::printable(detail::path_text(config))}));
  }

  std::vector<LoraPair> pairs;
  for (const auto& [at, tensors] : found) {
    const reflect::LeafView& leaf = leafs[at];
    const std::size_t rank = tensors.a->shape.empty() ? 0 : tensors.a->shape[0];
    std::vector<std::size_t> a_shape(leaf.type->file_shape.begin(), leaf.type->file_shape.end());
    a_shape[0] = rank;
    const auto check = [&](const TensorView& t, std::span<const std::size_t> shape) {
      if (!detail::same_shape(shape, t.shape))
        fail({"tensor ", detail::printable(t.name), ": expected shape ", detail::to_text(shape), ", found ",
              detail::to_text(t.shape)});
      if (!is_float(t.dtype))
        fail({"tensor ", detail::printable(t.name), ": expected dtype ", float_dtypes, ", found ", name_of(t.dtype)});
    };
    check(*tensors.a, a_shape);
    check(*tensors.b, std::array{leaf.type->rows, rank});
    if (rank_said && *rank_said != rank) fail({"metadata rank: expected that of the tensors, ", rank, ", found ", *rank_said});
    std::optional<float> alpha;
    if (tensors.alpha != nullptr) alpha = detail::read_lora_alpha(file, *tensors.alpha);
    if (!alpha && peft) alpha = peft->alpha(leaf.path.substr(0, leaf.path.find('.')), tensors.name.matrix, rank);
    if (!alpha) alpha = alpha_said;
    pairs.push_back({leaf.path, leaf.type, rank, alpha.value_or(static_cast<float>(rank))});
  }
  try {
    Lora lora(std::move(pairs));
    auto p = lora.pairs().begin();
    for (const auto& [at, tensors] : found) {
      detail::read_lora_factor(file, *tensors.a, p->rank, p->type->columns / p->type->taps, p->type->taps, p->a);
      detail::read_lora_factor(file, *tensors.b, p->type->rows, p->rank, 1, p->b);
      ++p;
    }
    return lora;
  } catch (const Error& e) {
    throw Error(detail::join({"file ", detail::printable(file.name()), ": ", e.what()}));
  }
}

// As safetensors with PEFT's names; rank and alpha are metadata, or, where they differ, each alpha is a tensor. The file is
// replaced in one step. Throws Error as write_safetensors.
inline void write_lora(const std::filesystem::path& path, const Lora& lora, Dtype dtype = Dtype::f32, Metadata metadata = {}) {
  const LoraPair& first = lora.pairs().front();
  const bool uniform = std::all_of(lora.pairs().begin(), lora.pairs().end(),
                                   [&](const LoraPair& p) { return p.rank == first.rank && p.alpha == first.alpha; });
  std::vector<TensorToWrite> tensors;
  for (const LoraPair& p : lora.pairs()) {
    const reflect::LeafType& type = *p.type;
    const std::string module = p.path.substr(0, p.path.size() - std::string_view("weight").size());
    std::vector<std::size_t> a_shape(type.file_shape.begin(), type.file_shape.end()), b_shape(a_shape.size(), 1);
    a_shape[0] = b_shape[1] = p.rank;
    b_shape[0] = type.rows;
    tensors.push_back({.name = module + "lora_A.weight", .dtype = dtype, .shape = a_shape});
    if (type.taps == 1) {
      tensors.back().floats = {p.a, p.rank * type.columns};
    } else {
      tensors.back().fill = [&p, dtype](std::span<std::byte> bytes) {
        reflect::LeafType a_type{};
        a_type.outer = p.rank;
        a_type.inner = p.type->columns / p.type->taps;
        a_type.taps = p.type->taps;
        std::vector<float> order(p.rank * p.type->columns);
        detail::to_file_order(a_type, p.a, order.data());
        convert_from_floats(dtype, order, bytes);
      };
    }
    tensors.push_back({.name = module + "lora_B.weight", .dtype = dtype, .shape = b_shape, .floats = {p.b, type.rows * p.rank}});
    if (!uniform) tensors.push_back({.name = module + "alpha", .shape = {}, .floats = {&p.alpha, 1}});
  }
  if (uniform) {
    metadata["rank"] = std::to_string(first.rank);
    metadata["alpha"] = detail::number_text(first.alpha);
  }
  write_safetensors(path, tensors, metadata);
}

// A file of adapters and how much of it: 0 nothing, 1 as it was trained.
struct LoraFile {
  std::filesystem::path path;
  float scale = 1.0f;
};

// Adds adapters to matrices of W while they are read, whatever is done with them then.
template <class W>
class LoraMerge {
 public:
  // Throws Error as read_lora, and for a scale that is no number. weights: what will be read into.
  LoraMerge(W& weights, std::span<const LoraFile> files) {
    const std::vector<reflect::LeafView> leafs = files.empty() ? std::vector<reflect::LeafView>{} : reflect::leafs(weights);
    for (const LoraFile& f : files) {
      if (!std::isfinite(f.scale))
        throw Error(detail::join({"file ", detail::printable(detail::path_text(f.path)), ": scale: expected a number, found ",
                                  std::to_string(f.scale)}));
      loras_.push_back(read_lora<W>(f.path));
      for (const LoraPair& p : loras_.back().pairs())
        for (const reflect::LeafView& leaf : leafs)
          if (leaf.path == p.path) places_.push_back({leaf.slot, &p, f.scale});
    }
  }
  LoraMerge(const LoraMerge&) = delete;
  LoraMerge& operator=(const LoraMerge&) = delete;

  // values of the leaf, with what is to be added; valid until the next call. Throws Error where the sum is not finite.
  std::span<const float> operator()(const reflect::LeafView& leaf, std::span<const float> values) {
    bool changed = false;
    for (const Place& place : places_) {
      if (place.slot != leaf.slot) continue;
      if (!changed) merged_.assign(values.begin(), values.end());
      changed = true;
      Lora::add_to(*place.pair, place.scale, merged_.data());
    }
    if (!changed) return values;
    if (!std::all_of(merged_.begin(), merged_.end(), [](float x) { return std::isfinite(x); }))
      throw Error(
          detail::join({"lora: ", leaf.path, ": expected finite numbers once merged, found NaN or infinity; lower the scale"}));
    return merged_;
  }

 private:
  struct Place {
    float** slot;  // of the leaf: parts of W are read under names of their own
    const LoraPair* pair;
    float scale;
  };
  std::vector<Lora> loras_;  // their pairs stay where they are when this grows
  std::vector<Place> places_;
  std::vector<float> merged_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
