// SPDX-License-Identifier: Apache-2.0
// Seeded random weights, packed for inference.
#pragma once

#include <cstdint>

#include "mobilediffusion/layers/packed_weights.hpp"
#include "mobilediffusion/train/initialize.hpp"

namespace bench {

namespace md = mobilediffusion;

template <class W>
md::PackedWeights<W> random_weights(std::uint64_t seed, md::Format format) {
  const md::AlignedBuffer blob(md::reflect::storage_floats<W>());
  W plain = md::reflect::bind<W>(blob.data());
  md::train::initialize(plain, seed, {.zero_branches = false});
  return md::PackedWeights<W>(plain, format);
}

}  // namespace bench
