// SPDX-License-Identifier: Apache-2.0
// Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685, section 4.1): some matrices W of a model become
// W + scale alpha / rank B A. Which ones, their names and shapes come from the reflected visit of the weights; files hold them
// under PEFT's names: "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight".
// Adapted can be whatever is one matrix: linear layers and 1x1 convolutions.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/memory.hpp"
#include "../core/random.hpp"
#include "numbers.hpp"
#include "weights.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct LoraOptions {
  std::size_t rank = 8;  // at most the smaller side of every adapted matrix
  float alpha = 8.0f;    // above 0
  std::uint64_t seed = 1;
};

// A [rank][columns] and B [rows][rank] of one matrix.
struct LoraPair {
  std::string path;  // of the matrix: "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
  const reflect::LeafType* type;
  float *a, *b;
};

class Lora {
 public:
  std::size_t rank() const { return rank_; }
  float alpha() const { return alpha_; }
  std::span<const LoraPair> pairs() const { return pairs_; }
  std::size_t parameters() const {
    std::size_t n = 0;
    for (const LoraPair& p : pairs_) n += rank_ * (p.type->rows + p.type->columns);
    return n;
  }
  // All of A and B in one array, for an optimizer; between them lie zeros.
  const AlignedBuffer& memory() const { return memory_; }

  // values [rows][columns] of the pair's matrix += scale alpha / rank B A.
  void add_to(const LoraPair& pair, float scale, float* values) const {
    const float factor = scale * alpha_ / static_cast<float>(rank_);
    const std::size_t columns = pair.type->columns;
    for (std::size_t i = 0; i < pair.type->rows; ++i)
      for (std::size_t r = 0; r < rank_; ++r) {
        const float share = factor * pair.b[i * rank_ + r];
        for (std::size_t j = 0; j < columns; ++j) values[i * columns + j] += share * pair.a[r * columns + j];
      }
  }

  // Zeros. Throws Error for no pairs, a rank that they are too small for, and an alpha that is no number above 0.
  Lora(std::vector<LoraPair> pairs, std::size_t rank, float alpha) : rank_(rank), alpha_(alpha), pairs_(std::move(pairs)) {
    if (pairs_.empty()) throw Error("lora: expected at least one matrix to adapt, found none");
    std::size_t floats = 0;
    for (const LoraPair& p : pairs_) {
      if (const std::size_t most = std::min(p.type->rows, p.type->columns); rank < 1 || rank > most)
        throw Error(detail::join({"lora: rank: expected 1 to ", most, " for ", p.path, ", found ", rank}));
      floats += aligned(rank * p.type->columns) + aligned(rank * p.type->rows);
    }
    if (!(alpha > 0.0f) || !std::isfinite(alpha))
      throw Error("lora: alpha: expected a number above 0, found " + std::to_string(alpha));
    memory_ = AlignedBuffer(floats);
    float* at = memory_.data();
    for (LoraPair& p : pairs_) {
      p.a = at;
      p.b = p.a + aligned(rank * p.type->columns);
      at = p.b + aligned(rank * p.type->rows);
    }
  }

 private:
  std::size_t rank_;
  float alpha_;
  std::vector<LoraPair> pairs_;
  AlignedBuffer memory_;
};

// What is adapted where nothing else is asked for: the projections of the UNet's attentions.
inline bool is_attention_projection(std::string_view path) {
  if (!path.starts_with("unet.")) return false;
  return std::ranges::any_of(
      std::array<std::string_view, 5>{".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_kv.weight", ".to_out.0.weight"},
      [&](std::string_view end) { return path.ends_with(end); });
}

namespace detail {
inline bool can_adapt(const reflect::LeafView& leaf) {
  return leaf.type->is_matrix && leaf.type->taps == 1 && leaf.path.ends_with(".weight");
}
inline std::string lora_name(std::string_view path, char which) {
  path.remove_suffix(std::string_view("weight").size());
  return join({std::string(path), "lora_", std::string(1, which), ".weight"});
}
// PEFT's shapes: of a 1x1 convolution four numbers.
inline std::vector<std::size_t> lora_shape(const reflect::LeafType& type, std::size_t rows, std::size_t columns) {
  std::vector<std::size_t> shape{rows, columns};
  shape.resize(type.file_shape.size(), 1);
  return shape;
}
// Which of the leafs is the pair's matrix. Throws Error where none is.
inline std::size_t place_of(const LoraPair& pair, std::span<const reflect::LeafView> leafs) {
  const auto at = std::find_if(leafs.begin(), leafs.end(),
                               [&](const reflect::LeafView& leaf) { return leaf.path == pair.path && leaf.type == pair.type; });
  if (at == leafs.end()) throw Error(join({"lora: the weights have no such matrix: ", pair.path}));
  return static_cast<std::size_t>(at - leafs.begin());
}
}  // namespace detail

// For every matrix of W whose path `adapts` accepts: A normal with variance 1 / columns, B zero, so that nothing changes yet.
// W: an aggregate of a whole model's parts, as the model's file names them (ModelWeights, train::DiffusionWeights). Throws Error
// as Lora does.
template <class W, class Predicate = bool (*)(std::string_view)>
Lora make_lora(const LoraOptions& o, Predicate adapts = is_attention_projection) {
  W weights{};
  std::vector<LoraPair> pairs;
  for (const reflect::LeafView& leaf : reflect::leafs(weights))
    if (detail::can_adapt(leaf) && adapts(std::string_view(leaf.path))) pairs.push_back({leaf.path, leaf.type, nullptr, nullptr});
  Lora lora(std::move(pairs), o.rank, o.alpha);
  std::uint64_t stream = 0x6c6f7261;
  for (const LoraPair& p : lora.pairs()) {
    const std::span<float> a(p.a, o.rank * p.type->columns);
    Random(o.seed, ++stream).normals(a);
    for (float& x : a) x /= std::sqrt(static_cast<float>(p.type->columns));
  }
  return lora;
}

// weights: bound, not packed. Throws Error where they lack one of the matrices, before any is changed.
template <class W>
void merge_lora(W& weights, const Lora& lora, float scale = 1.0f) {
  std::vector<float*> matrices;
  const auto leafs = reflect::leafs(weights);
  for (const LoraPair& p : lora.pairs()) matrices.push_back(leafs[detail::place_of(p, leafs)].data());
  for (std::size_t i = 0; i < matrices.size(); ++i) lora.add_to(lora.pairs()[i], scale, matrices[i]);
}

// As safetensors with PEFT's names; rank and alpha are metadata. The file is replaced in one step.
inline void write_lora(const std::filesystem::path& path, const Lora& lora, Dtype dtype = Dtype::f32, Metadata metadata = {}) {
  std::vector<TensorToWrite> tensors;
  for (const LoraPair& p : lora.pairs()) {
    const std::size_t rows = p.type->rows, columns = p.type->columns;
    tensors.push_back({.name = detail::lora_name(p.path, 'A'),
                       .dtype = dtype,
                       .shape = detail::lora_shape(*p.type, lora.rank(), columns),
                       .floats = {p.a, lora.rank() * columns}});
    tensors.push_back({.name = detail::lora_name(p.path, 'B'),
                       .dtype = dtype,
                       .shape = detail::lora_shape(*p.type, rows, lora.rank()),
                       .floats = {p.b, rows * lora.rank()}});
  }
  metadata["rank"] = std::to_string(lora.rank());
  metadata["alpha"] = detail::number_text(lora.alpha());
  write_safetensors(path, tensors, metadata);
}

// For weights of type W, as make_lora; matrices that the file does not name are not adapted. Without alpha in its metadata it is
// the rank. Throws Error naming file and tensor for one that W does not have, that lacks its partner, is of another shape, rank
// or dtype or has numbers that are not finite.
template <class W>
Lora read_lora(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const auto fail = [&](std::initializer_list<detail::Piece> what) {
    throw Error(detail::join({"file ", detail::printable(file.name()), ": ", detail::join(what)}));
  };
  W weights{};
  std::vector<LoraPair> pairs;
  std::vector<std::string> known;
  std::size_t rank = 0;
  for (const reflect::LeafView& leaf : reflect::leafs(weights)) {
    if (!detail::can_adapt(leaf)) continue;
    const std::string a_name = detail::lora_name(leaf.path, 'A'), b_name = detail::lora_name(leaf.path, 'B');
    const TensorView *a = file.find(a_name), *b = file.find(b_name);
    if (a == nullptr && b == nullptr) continue;
    if (a == nullptr || b == nullptr) fail({"tensor ", a == nullptr ? a_name : b_name, ": missing beside its partner"});
    if (pairs.empty()) rank = a->shape.empty() ? 0 : a->shape[0];
    const LoraPair pair{leaf.path, leaf.type, nullptr, nullptr};
    file.require(a_name, detail::lora_shape(*leaf.type, rank, leaf.type->columns));
    file.require(b_name, detail::lora_shape(*leaf.type, leaf.type->rows, rank));
    for (const TensorView* t : {a, b})
      if (t->dtype != Dtype::f32 && t->dtype != Dtype::f16 && t->dtype != Dtype::bf16)
        fail({"tensor ", detail::printable(t->name), ": expected dtype F32, F16 or BF16, found ", name_of(t->dtype)});
    known.push_back(a_name);
    known.push_back(b_name);
    pairs.push_back(pair);
  }
  for (const TensorView& t : file.tensors())
    if (std::find(known.begin(), known.end(), t.name) == known.end())
      fail({"tensor ", detail::printable(t.name), ": expected lora_A.weight or lora_B.weight of a matrix of the model"});

  float alpha = static_cast<float>(rank);
  const auto number = [&](const char* key, auto& value) {
    const auto at = file.metadata().find(key);
    if (at == file.metadata().end()) return;
    if (!detail::parse_number(at->second, value))
      fail({"metadata ", key, ": expected a number, found ", detail::printable(at->second)});
  };
  std::size_t said = rank;
  number("rank", said);
  number("alpha", alpha);
  if (said != rank) fail({"metadata rank: expected that of the tensors, ", rank, ", found ", said});
  try {
    Lora lora(std::move(pairs), rank, alpha);
    for (const LoraPair& p : lora.pairs())
      for (const char which : {'A', 'B'}) {
        const TensorView& t = *file.find(detail::lora_name(p.path, which));
        float* to = which == 'A' ? p.a : p.b;
        file.read_floats(t, to);
        if (!std::all_of(to, to + t.count(), [](float x) { return std::isfinite(x); }))
          throw Error(detail::join({"tensor ", t.name, ": expected finite numbers, found NaN or infinity"}));
      }
    return lora;
  } catch (const Error& e) {
    throw Error(detail::join({"file ", detail::printable(file.name()), ": ", e.what()}));
  }
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
        throw Error(detail::join(
            {"file ", detail::printable(f.path.string()), ": scale: expected a number, found ", std::to_string(f.scale)}));
      loras_.push_back(read_lora<W>(f.path));
      for (const LoraPair& p : loras_.back().pairs())
        for (const reflect::LeafView& leaf : leafs)
          if (leaf.path == p.path) places_.push_back({leaf.slot, loras_.size() - 1, &p, f.scale});
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
      loras_[place.lora].add_to(*place.pair, place.scale, merged_.data());
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
    std::size_t lora;
    const LoraPair* pair;
    float scale;
  };
  std::vector<Lora> loras_;  // their pairs stay where they are when this grows
  std::vector<Place> places_;
  std::vector<float> merged_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
