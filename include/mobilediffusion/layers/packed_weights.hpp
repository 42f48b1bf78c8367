// SPDX-License-Identifier: Apache-2.0
// Weights as inference keeps them: every matrix in the order and the number format that the kernels read.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "../core/memory.hpp"
#include "../kernels/kernels.hpp"
#include "../reflect/reflect.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// A weights aggregate and the memory that it is bound to; for a Context with packed = true and this format.
template <class W>
class PackedWeights {
 public:
  static constexpr std::size_t bytes(Format format) { return 4 * reflect::packed_floats<W>(format); }

  // Zeros, until set() was called for every leaf. room: behind a table's own rows, for more. memory: null means the free store.
  explicit PackedWeights(Format format, const reflect::Room& room = {}, MemoryResource* memory = nullptr)
      : format_(format), blob_(reflect::packed_floats<W>(format) + room.floats, memory) {
    reflect::bind_packed(weights_, blob_.data(), format, room);
  }
  // Copies weights that are bound and not packed.
  PackedWeights(const W& plain, Format format) : PackedWeights(format) { copy(plain); }
  void copy(const W& plain) {
    const auto from = reflect::leafs(plain), to = reflect::leafs(weights_);
    for (std::size_t i = 0; i < from.size(); ++i) set(to[i], {from[i].data(), from[i].type->count});
  }

  // leaf: of weights(). values: leaf.type->count floats in the order of memory (core/param.hpp).
  void set(const reflect::LeafView& leaf, std::span<const float> values) {
    const reflect::LeafType& t = *leaf.type;
    if (!t.is_matrix) {
      std::copy(values.begin(), values.end(), leaf.data());
      return;
    }
    const Format format = t.format(format_);
    const ConvMethod method = t.method(format_);
    if (method == ConvMethod::patches) {
      kernels::pack_weights(values.data(), t.rows, t.columns, leaf.data(), format);
      return;
    }
    const std::size_t floats = kernels::pack_filters_scratch(t.rows, t.inner, method);
    if (scratch_.size() < floats) scratch_.resize(floats);
    kernels::pack_filters(values.data(), t.rows, t.inner, method, format, leaf.data(), scratch_.data());
  }
  // Frees what set() needed.
  void finish() { scratch_ = {}; }

  W& weights() { return weights_; }
  const W& weights() const { return weights_; }
  Format format() const { return format_; }
  std::size_t bytes() const { return blob_.bytes(); }

 private:
  Format format_;
  AlignedBuffer blob_;
  W weights_{};
  std::vector<float> scratch_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
