// SPDX-License-Identifier: Apache-2.0
// The numbers of what a file of adapters changes (lora_changes.hpp), and their sum with a model's weights.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "lora_changes.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail {

// The factors of a low-rank change as Lora keeps them: A [rank][columns] in the order of memory, B [rows][rank].
struct LowRankFactors {
  std::vector<float> a, b;
  std::size_t rank;
};
LowRankFactors low_rank_factors(const LoraChanges& changes, const LoraChange& change);

// What a change adds to its weight at scale 1, without alpha / rank and magnitudes: type.count floats in the order of memory;
// valid until the next call.
class LoraDelta {
 public:
  explicit LoraDelta(const Executor& ex) : ex_(ex) {}
  std::span<float> operator()(const LoraChanges& changes, const LoraChange& change);

 private:
  // In the order of files: [rows][columns][taps].
  std::vector<float> product(const LoraChanges& changes, const LoraChange& change, LoraRole role_a, LoraRole role_b,
                             LoraRole role_core, std::size_t rows, std::size_t columns, std::size_t taps) const;

  const Executor& ex_;
  std::vector<float> values_, order_;
};

// merged: a weight with the changes before this one; base: without any; both in the order of memory.
void merge_change(const Executor& ex, const LoraChanges& changes, const LoraChange& change, float scale,
                  std::span<const float> base, std::span<float> merged, LoraDelta& room);

#ifdef MOBILEDIFFUSION_BODIES

// core [p][q][taps], b [q][inputs] -> [p][inputs][taps].
MOBILEDIFFUSION_BODY std::vector<float> multiply_core(const std::vector<float>& core, const std::vector<float>& b, std::size_t p,
                                                      std::size_t q, std::size_t inputs, std::size_t taps) {
  std::vector<float> out(p * inputs * taps);
  for (std::size_t o = 0; o < p; ++o)
    for (std::size_t k = 0; k < q; ++k)
      for (std::size_t i = 0; i < inputs; ++i)
        for (std::size_t t = 0; t < taps; ++t)
          out[(o * inputs + i) * taps + t] += core[(o * q + k) * taps + t] * b[k * inputs + i];
  return out;
}

MOBILEDIFFUSION_BODY LowRankFactors low_rank_factors(const LoraChanges& changes, const LoraChange& change) {
  const reflect::LeafType& type = *change.type;
  const std::size_t inputs = type.columns / type.taps;
  LowRankFactors f{changes.read(*change.tensors[LoraRole::down]), changes.read(*change.tensors[LoraRole::up]), change.rank};
  if (const TensorView* const mid = change.tensors[LoraRole::mid]; mid != nullptr) {
    f.rank = f.b.size() / type.rows;
    f.a = multiply_core(changes.read(*mid), f.a, f.rank, change.rank, inputs, type.taps);
  }
  if (type.taps > 1) {
    reflect::LeafType order{};
    order.outer = f.rank;
    order.inner = inputs;
    order.taps = type.taps;
    std::vector<float> memory(f.a.size());
    to_memory_order(order, f.a.data(), memory.data());
    f.a = std::move(memory);
  }
  return f;
}

MOBILEDIFFUSION_BODY std::span<float> LoraDelta::operator()(const LoraChanges& changes, const LoraChange& change) {
  const reflect::LeafType& type = *change.type;
  if (change.method == LoraMethod::low_rank) {
    const LowRankFactors f = low_rank_factors(changes, change);
    values_.assign(type.count, 0.0f);
    add_product(ex_, 1.0f, f.b.data(), f.a.data(), type.rows, f.rank, type.columns, values_.data());
    return values_;
  }
  const LoraTensors& t = change.tensors;
  if (change.method == LoraMethod::difference) {
    values_ = changes.read(*t[LoraRole::difference]);
  } else {
    const std::size_t inputs = type.columns / type.taps;
    const auto part = [&](LoraRole a, LoraRole b, LoraRole core, std::size_t rows, std::size_t columns) {
      return product(changes, change, a, b, core, rows, columns, type.taps);
    };
    if (change.method == LoraMethod::hadamard) {
      values_ = part(LoraRole::hada_w1_a, LoraRole::hada_w1_b, LoraRole::hada_t1, type.rows, inputs);
      const auto other = part(LoraRole::hada_w2_a, LoraRole::hada_w2_b, LoraRole::hada_t2, type.rows, inputs);
      for (std::size_t i = 0; i < values_.size(); ++i) values_[i] *= other[i];
    } else {
      const TensorView *whole1 = t[LoraRole::lokr_w1], *whole2 = t[LoraRole::lokr_w2];
      const TensorView& rows_of = whole1 != nullptr ? *whole1 : *t[LoraRole::lokr_w1_a];
      const TensorView& columns_of = whole1 != nullptr ? *whole1 : *t[LoraRole::lokr_w1_b];
      const std::size_t rows1 = rows_of.shape.empty() ? 1 : rows_of.shape[0],
                        columns1 = columns_of.shape.size() < 2 ? 1 : columns_of.shape[1], rows2 = type.rows / rows1,
                        columns2 = inputs / columns1;
      std::vector<float> w1;
      if (whole1 != nullptr) {
        w1 = changes.read(*whole1);
      } else {
        const auto a = changes.read(rows_of), b = changes.read(columns_of);
        w1.resize(rows1 * columns1);
        add_product(ex_, 1.0f, a.data(), b.data(), rows1, b.size() / columns1, columns1, w1.data());
      }
      const auto w2 = whole2 != nullptr ? changes.read(*whole2)
                                        : part(LoraRole::lokr_w2_a, LoraRole::lokr_w2_b, LoraRole::lokr_t2, rows2, columns2);
      values_.resize(type.count);
      const std::size_t run = columns2 * type.taps;
      for (std::size_t o1 = 0; o1 < rows1; ++o1)
        for (std::size_t o2 = 0; o2 < rows2; ++o2)
          for (std::size_t i1 = 0; i1 < columns1; ++i1)
            for (std::size_t k = 0; k < run; ++k)
              values_[((o1 * rows2 + o2) * columns1 + i1) * run + k] = w1[o1 * columns1 + i1] * w2[o2 * run + k];
    }
  }
  if (type.taps > 1) {
    order_.resize(type.count);
    to_memory_order(type, values_.data(), order_.data());
    values_.swap(order_);
  }
  return values_;
}

MOBILEDIFFUSION_BODY std::vector<float> LoraDelta::product(const LoraChanges& changes, const LoraChange& change, LoraRole role_a,
                                                           LoraRole role_b, LoraRole role_core, std::size_t rows,
                                                           std::size_t columns, std::size_t taps) const {
  std::vector<float> a = changes.read(*change.tensors[role_a]), b = changes.read(*change.tensors[role_b]);
  std::size_t inner = a.size() / rows;
  if (const TensorView* const core = change.tensors[role_core]; core != nullptr) {
    b = multiply_core(changes.read(*core), b, inner, b.size() / columns, columns, taps);
    std::vector<float> transposed(a.size());
    for (std::size_t k = 0; k < inner; ++k)
      for (std::size_t o = 0; o < rows; ++o) transposed[o * inner + k] = a[k * rows + o];
    a.swap(transposed);
  }
  std::vector<float> out(rows * columns * taps);
  add_product(ex_, 1.0f, a.data(), b.data(), rows, inner, columns * taps, out.data());
  return out;
}

// merged [rows][columns] <- m / |base + delta| (merged + delta), all in the order of memory; m: a magnitude for each row, or for
// each of the inputs.
MOBILEDIFFUSION_BODY void merge_magnitudes(const reflect::LeafType& type, std::span<const float> magnitudes, bool of_rows,
                                           const float* base, const float* delta, float* merged) {
  const std::size_t rows = type.rows, columns = type.columns, inputs = columns / type.taps;
  std::vector<double> squares(magnitudes.size());
  const auto place = [&](std::size_t row, std::size_t column) { return of_rows ? row : column % inputs; };
  for (std::size_t o = 0; o < rows; ++o)
    for (std::size_t j = 0; j < columns; ++j) {
      const double sum = static_cast<double>(base[o * columns + j]) + static_cast<double>(delta[o * columns + j]);
      squares[place(o, j)] += sum * sum;
    }
  std::vector<float> factors(magnitudes.size());
  for (std::size_t i = 0; i < factors.size(); ++i)
    factors[i] = static_cast<float>(static_cast<double>(magnitudes[i]) / std::sqrt(squares[i]));
  for (std::size_t o = 0; o < rows; ++o)
    for (std::size_t j = 0; j < columns; ++j) {
      float& value = merged[o * columns + j];
      value = factors[place(o, j)] * (value + delta[o * columns + j]);
    }
}

MOBILEDIFFUSION_BODY void merge_change(const Executor& ex, const LoraChanges& changes, const LoraChange& change, float scale,
                                       std::span<const float> base, std::span<float> merged, LoraDelta& room) {
  const float factor = scale * change.factor;
  const reflect::LeafType& type = *change.type;
  if (change.method == LoraMethod::low_rank && !change.has_magnitudes()) {
    const LowRankFactors f = low_rank_factors(changes, change);
    add_product(ex, factor, f.b.data(), f.a.data(), type.rows, f.rank, type.columns, merged.data());
    return;
  }
  const std::span<float> delta = room(changes, change);
  for (float& x : delta) x *= factor;
  if (!change.has_magnitudes()) {
    for (std::size_t i = 0; i < delta.size(); ++i) merged[i] += delta[i];
    return;
  }
  const std::vector<float> magnitudes = changes.read(*change.tensors[LoraRole::magnitude]);
  merge_magnitudes(type, magnitudes, has_magnitudes_of_rows(change), base.data(), delta.data(), merged.data());
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail

#include "../core/end.hpp"
