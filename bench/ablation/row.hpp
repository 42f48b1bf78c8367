// SPDX-License-Identifier: Apache-2.0
// What is known of a variant: sizes from the compiler, times from the clock.
#pragma once

#include <cstddef>
#include <vector>

#include "variants.hpp"

namespace ablation {

struct Row {
  std::size_t parameters, macs, weight_bytes, activation_bytes;
  std::vector<double> seconds;  // of a pass, sorted; empty where none was wanted
};

// Random weights, packed as for generating; one pass to warm up, then `repetitions`.
template <std::size_t I>
Row measure(int threads, std::size_t repetitions);

}  // namespace ablation
