// SPDX-License-Identifier: Apache-2.0
// Gradients of the token embedding.
#pragma once

#include "../../core/begin.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/kernels/loops.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// dtable[ids[b][i]] += dy[b][i], dpositions[i] += dy[b][i]. dy: [batch][length][width]; dtable: [vocabulary][width];
// dpositions: [length][width]; either may be null. Threads share the width, so each sum is taken in token order.
inline void embed_tokens_backward(const Executor& ex, const std::int32_t* ids, std::size_t batch, std::size_t length,
                                  const float* dy, float* dtable, float* dpositions, std::size_t width) {
  constexpr std::size_t block = 64;
  ex.parallel_for((width + block - 1) / block, grain_for(batch * length * block), [=](std::size_t begin, std::size_t end, int) {
    const std::size_t first = begin * block, last = std::min(width, end * block);
    for (std::size_t row = 0; row < batch * length; ++row) {
      const float* in = dy + row * width;
      const auto add = [=](float* to) {
        for_vectors(first, last,
                    [=](auto lanes, std::size_t c) { lanes.store(to + c, lanes.load(to + c) + lanes.load(in + c)); });
      };
      if (dtable != nullptr) add(dtable + static_cast<std::size_t>(ids[row]) * width);
      if (dpositions != nullptr) add(dpositions + row % length * width);
    }
  });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../../core/end.hpp"
