// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "begin.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

enum class Schedule { scaled_linear, cosine };
enum class Prediction { epsilon, v, sample };  // what the UNet puts out: the noise, alpha eps - sigma x, or the picture

// How a sampler goes from one time to the next: along the deterministic path (DDIM), or by putting new noise on the picture that
// the network sees (UFOGen).
enum class SamplerKind { ddim, renoise };

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
