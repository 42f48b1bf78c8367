// SPDX-License-Identifier: Apache-2.0
// Files of adapters, in any of the usual grammars (lora_names.hpp) and by several methods (lora_changes.hpp): read to be trained
// on, written, and merged into a model's weights.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lora.hpp"
#include "lora_changes.hpp"
#include "lora_delta.hpp"
#include "numbers.hpp"
#include "weights.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// For weights of type W, as make_lora, and of convolutions too; matrices that the file does not name are not adapted. Each has
// the rank of its factors. Its alpha is what the file says of it: a tensor PATH.alpha, else the metadata lora_adapter_metadata
// (diffusers) or alpha (write_lora), else adapter_config.json beside the file where its names are PEFT's own (base_model.model.),
// else the rank. Throws Error naming file and tensor for one that W does not have, that lacks its partner, is of another shape or
// of a dtype that is no float or has numbers that are not finite; and for a file that holds anything but factors: that can be
// merged (LoraMerge), but is no Lora.
template <class W>
Lora read_lora(const std::filesystem::path& path) {
  W weights{};
  const detail::LoraChanges changes(path, reflect::leafs(weights));
  const auto refuse = [&](std::string_view place) {
    throw Error(detail::join({"file ", detail::printable(changes.file().name()), ": ", place,
                              ": expected low-rank factors alone, found another change, which can only be merged"}));
  };
  if (!changes.biases().empty()) refuse(changes.biases().front().path);
  std::vector<LoraPair> pairs;
  std::vector<detail::LowRankFactors> factors;
  for (const detail::LoraChange& c : changes.weights()) {
    if (c.method != detail::LoraMethod::low_rank || c.has_magnitudes()) refuse(c.path);
    factors.push_back(detail::low_rank_factors(changes, c));
    const std::size_t rank = factors.back().rank;  // with a core, another than that of the strength
    pairs.push_back({c.path, c.type, rank, rank == c.rank ? c.alpha : c.factor * static_cast<float>(rank)});
  }
  Lora lora(std::move(pairs));
  for (std::size_t i = 0; i < factors.size(); ++i) {
    std::copy(factors[i].a.begin(), factors[i].a.end(), lora.pairs()[i].a);
    std::copy(factors[i].b.begin(), factors[i].b.end(), lora.pairs()[i].b);
  }
  return lora;
}

// As safetensors with PEFT's names; rank and alpha are metadata, or, where they differ, each alpha is a tensor. The file is
// replaced in one step. Throws Error as write_safetensors.
void write_lora(const std::filesystem::path& path, const Lora& lora, Dtype dtype = Dtype::f32, Metadata metadata = {});

// A file of adapters and how much of it: 0 nothing, 1 as it was trained.
struct LoraFile {
  std::filesystem::path path;
  float scale = 1.0f;
  std::optional<float> text_scale{};  // of the text encoder; none: the same
};

// Adds adapters to weights of W while they are read, whatever is done with them then. Several are added in their order, which is
// that of PEFT: it matters only where one has magnitudes (lora_changes.hpp).
template <class W>
class LoraMerge {
 public:
  // Throws Error where a file has what W has no place for, and otherwise as read_lora, but reads no numbers yet; and for a scale
  // that is no number. weights: what will be read into. ex: multiplies; the sums are the same on any number of threads. Both
  // outlive this.
  LoraMerge(W& weights, std::span<const LoraFile> files, const Executor& ex) : ex_(ex), room_(ex) {
    if (files.empty()) return;
    const std::vector<reflect::LeafView> leafs = reflect::leafs(weights);
    for (const LoraFile& f : files) {
      for (const float scale : {f.scale, f.text_scale.value_or(f.scale)})
        if (!std::isfinite(scale))
          throw Error(detail::join({"file ", detail::printable(detail::path_text(f.path)), ": scale: expected a number, found ",
                                    std::to_string(scale)}));
      const detail::LoraChanges& changes = files_.emplace_back(f.path, leafs);
      const auto scale_of = [&](const std::string& path) {
        return path.starts_with("text_encoder") ? f.text_scale.value_or(f.scale) : f.scale;
      };
      for (const detail::LoraChange& c : changes.weights())
        if (const float scale = scale_of(c.path); scale != 0.0f) {
          const reflect::LeafView& leaf = leafs[c.leaf];
          auto& places = passes_take(*leaf.type) ? matrices_ : vectors_;
          places.push_back({leaf, &changes, &c, nullptr, scale});
        }
      for (const detail::LoraBiasChange& b : changes.biases())
        if (const float scale = scale_of(b.path); scale != 0.0f)
          vectors_.push_back({leafs[b.leaf], &changes, nullptr, b.tensor, scale * b.factor});
    }
  }
  LoraMerge(const LoraMerge&) = delete;
  LoraMerge& operator=(const LoraMerge&) = delete;

  // values of the leaf, with what is to be added; valid until the next call. For what read_weights hands over. Throws Error where
  // a file's numbers or the sum are not finite.
  std::span<const float> operator()(const reflect::LeafView& leaf, std::span<const float> values) {
    bool changed = false;
    for (const Place& place : matrices_) {
      if (place.leaf.slot != leaf.slot) continue;
      if (!changed) merged_.assign(values.begin(), values.end());
      changed = true;
      detail::merge_change(ex_, *place.changes, *place.change, place.scale, values, merged_, room_);
    }
    if (!changed) return values;
    check(leaf, merged_);
    return merged_;
  }
  // The rest, biases and norms, which stand where they are bound once all is read.
  void finish() {
    for (const Place& place : vectors_) {
      const std::span<float> values(place.leaf.data(), place.leaf.type->count);
      if (place.change != nullptr) {
        detail::merge_change(ex_, *place.changes, *place.change, place.scale, {}, values, room_);
      } else {
        const std::vector<float> added = place.changes->read(*place.bias);
        for (std::size_t i = 0; i < values.size(); ++i) values[i] += place.scale * added[i];
      }
      check(place.leaf, values);
    }
  }

 private:
  struct Place {
    reflect::LeafView leaf;  // by its slot: parts of W are read under names of their own
    const detail::LoraChanges* changes;
    const detail::LoraChange* change;  // or
    const TensorView* bias;
    float scale;
  };
  static bool passes_take(const reflect::LeafType& type) { return type.is_matrix || type.taps > 1; }
  static void check(const reflect::LeafView& leaf, std::span<const float> values) {
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
      throw Error(
          detail::join({"lora: ", leaf.path, ": expected finite numbers once merged, found NaN or infinity; lower the scale"}));
  }

  const Executor& ex_;
  std::list<detail::LoraChanges> files_;  // stay where they are when this grows
  std::vector<Place> matrices_, vectors_;
  std::vector<float> merged_;
  detail::LoraDelta room_;
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY void write_lora(const std::filesystem::path& path, const Lora& lora, Dtype dtype, Metadata metadata) {
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

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
