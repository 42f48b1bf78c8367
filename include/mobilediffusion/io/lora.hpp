// SPDX-License-Identifier: Apache-2.0
// Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685, section 4.1): some matrices W of a model become
// W + scale alpha / rank B A. Which ones, their names and shapes come from the reflected visit of the weights; their files:
// lora_file.hpp. Linear layers and convolutions can be adapted; those of 3x3 only by reading a file. What else files of adapters
// do to weights: lora_changes.hpp.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/executor.hpp"
#include "../core/memory.hpp"
#include "../core/random.hpp"
#include "weights.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {
// c [n][m] += factor a [n][k] b [k][m]. Four rows of b at once, so that c is read and written a quarter as often.
inline void add_product(float factor, const float* a, const float* b, std::size_t n, std::size_t k, std::size_t m, float* c) {
  for (std::size_t i = 0; i < n; ++i) {
    float* const row = c + i * m;
    const float* const shares = a + i * k;
    std::size_t r = 0;
    for (; r + 4 <= k; r += 4) {
      const float s0 = factor * shares[r], s1 = factor * shares[r + 1], s2 = factor * shares[r + 2], s3 = factor * shares[r + 3];
      const float *b0 = b + r * m, *b1 = b0 + m, *b2 = b1 + m, *b3 = b2 + m;
      for (std::size_t j = 0; j < m; ++j) row[j] += (s0 * b0[j] + s1 * b1[j]) + (s2 * b2[j] + s3 * b3[j]);
    }
    for (; r < k; ++r) {
      const float share = factor * shares[r];
      for (std::size_t j = 0; j < m; ++j) row[j] += share * b[r * m + j];
    }
  }
}
// The same on all threads; each has rows of its own, so the sums are the same.
inline void add_product(const Executor& ex, float factor, const float* a, const float* b, std::size_t n, std::size_t k,
                        std::size_t m, float* c) {
  const std::size_t grain = 1 + (std::size_t{1} << 18) / (k * m + 1);
  ex.parallel_for(n, grain, [=](std::size_t begin, std::size_t end, int) {
    add_product(factor, a + begin * k, b, end - begin, k, m, c + begin * m);
  });
}
}  // namespace detail

struct LoraOptions {
  std::size_t rank = 8;  // at most the smaller side of every adapted matrix
  float alpha = 8.0f;    // above 0
  std::uint64_t seed = 1;
};

// A [rank][columns] and B [rows][rank] of one matrix, in the order of memory.
struct LoraPair {
  std::string path;  // of the matrix: "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
  const reflect::LeafType* type;
  std::size_t rank;
  float alpha;
  float *a = nullptr, *b = nullptr;

  float factor() const { return alpha / static_cast<float>(rank); }
};

class Lora {
 public:
  std::span<const LoraPair> pairs() const { return pairs_; }
  std::size_t parameters() const {
    std::size_t n = 0;
    for (const LoraPair& p : pairs_) n += p.rank * (p.type->rows + p.type->columns);
    return n;
  }
  // All of A and B in one array, for an optimizer; between them lie zeros.
  const AlignedBuffer& memory() const { return memory_; }

  // values [rows][columns] of the pair's matrix += scale alpha / rank B A.
  static void add_to(const LoraPair& pair, float scale, float* values) {
    detail::add_product(scale * pair.factor(), pair.b, pair.a, pair.type->rows, pair.rank, pair.type->columns, values);
  }

  // Zeros. Throws Error for no pairs, a rank of 0, and an alpha that is no number above 0.
  explicit Lora(std::vector<LoraPair> pairs) : pairs_(std::move(pairs)) {
    if (pairs_.empty()) throw Error("lora: expected at least one matrix to adapt, found none");
    std::size_t floats = 0;
    for (const LoraPair& p : pairs_) {
      if (p.rank < 1) throw Error(detail::join({"lora: rank: expected at least 1 for ", p.path, ", found 0"}));
      if (!(p.alpha > 0.0f) || !std::isfinite(p.alpha))
        throw Error(detail::join({"lora: alpha: expected a number above 0 for ", p.path, ", found ", std::to_string(p.alpha)}));
      floats += aligned(p.rank * p.type->columns) + aligned(p.rank * p.type->rows);
    }
    memory_ = AlignedBuffer(floats);
    float* at = memory_.data();
    for (LoraPair& p : pairs_) {
      p.a = at;
      p.b = p.a + aligned(p.rank * p.type->columns);
      at = p.b + aligned(p.rank * p.type->rows);
    }
  }

 private:
  std::vector<LoraPair> pairs_;
  AlignedBuffer memory_;
};

// What is adapted where nothing else is asked for: the projections of the UNet's attentions.
inline bool is_attention_projection(std::string_view path) {
  if (!path.starts_with("unet.")) return false;
  constexpr std::array<std::string_view, 5> ends{".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_kv.weight",
                                                 ".to_out.0.weight"};
  return std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return path.ends_with(end); });
}

namespace detail {
inline bool can_adapt(const reflect::LeafView& leaf) {
  return leaf.type->is_matrix && leaf.type->taps == 1 && leaf.path.ends_with(".weight");
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
// as Lora does, and for a rank that a matrix is too small for.
template <class W, class Predicate = bool (*)(std::string_view)>
Lora make_lora(const LoraOptions& o, Predicate adapts = is_attention_projection) {
  W weights{};
  std::vector<LoraPair> pairs;
  for (const reflect::LeafView& leaf : reflect::leafs(weights))
    if (detail::can_adapt(leaf) && adapts(std::string_view(leaf.path))) {
      if (const std::size_t most = std::min(leaf.type->rows, leaf.type->columns); o.rank < 1 || o.rank > most)
        throw Error(detail::join({"lora: rank: expected 1 to ", most, " for ", leaf.path, ", found ", o.rank}));
      pairs.push_back({leaf.path, leaf.type, o.rank, o.alpha});
    }
  Lora lora(std::move(pairs));
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

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
