// SPDX-License-Identifier: Apache-2.0
// Loops over vectors: one body for full vectors and for the tail, and a parallel partition that never cuts a vector.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/kernels/arguments.hpp"
#include "mobilediffusion/simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

struct FullVector {
  simd::Batch load(const float* p) const { return simd::load(p); }
  void store(float* p, simd::Batch v) const { simd::store(p, v); }
  simd::Batch only(simd::Batch v) const { return v; }
};

// Whether rows of an output that are `ld` floats apart are better written past the caches: what reads so much next finds it in
// memory either way.
inline bool streams(const float* y, std::size_t ld, std::size_t floats) {
  return simd::can_stream && floats >= stream_floats && ld % 16 == 0 && reinterpret_cast<std::uintptr_t>(y) % 64 == 0;
}

struct TailVector {
  std::size_t count;  // 0 < count < simd::width
  simd::Batch load(const float* p) const { return simd::load_partial(p, count); }
  void store(float* p, simd::Batch v) const { simd::store_partial(p, v, count); }
  simd::Batch only(simd::Batch v) const { return simd::first_lanes(v, count); }
};

// body(lanes, i) for i = begin, begin + width, ... < end; lanes.load and lanes.store reach the elements from i that
// exist, lanes.only(v) zeroes the lanes behind them: for sums across lanes.
template <class Body>
inline void for_vectors(std::size_t begin, std::size_t end, Body&& body) {
  std::size_t i = begin;
  for (; i + simd::width <= end; i += simd::width) body(FullVector{}, i);
  if (i < end) body(TailVector{end - i}, i);
}

// f(begin, end, thread) on a partition of [0, n) at multiples of 1024: whether an element meets the vector body or the tail
// depends on n alone. grain: fewer elements a thread are not worth a thread.
template <class F>
inline void parallel_elements(const Executor& ex, std::size_t n, std::size_t grain, F&& f) {
  constexpr std::size_t block = 1024;
  ex.parallel_for((n + block - 1) / block, (grain + block - 1) / block,
                  [&](std::size_t begin, std::size_t end, int thread) { f(begin * block, std::min(n, end * block), thread); });
}

// How many items of `floats` floats each make a thread worth its start: about 16Ki floats.
inline std::size_t grain_for(std::size_t floats) { return std::max<std::size_t>(1, 16384 / std::max<std::size_t>(1, floats)); }

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
