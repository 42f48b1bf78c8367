// SPDX-License-Identifier: Apache-2.0
// One variant's row. Instantiated in a translation unit for each variant.
#pragma once

#include <algorithm>
#include <chrono>

#include "../random_weights.hpp"
#include "row.hpp"

namespace ablation {

template <std::size_t I>
Row measure(int threads, std::size_t repetitions) {
  using Net = md::Unet<variants[I].unet.full>;
  Row row{Net::parameters, Net::macs, Net::weight_bytes, Net::activation_bytes, {}};
  if (repetitions == 0) return row;
  const md::Executor ex(threads);
  const md::PackedWeights<typename Net::Weights> weights = bench::random_weights<typename Net::Weights>(1, md::Format::fp32);
  const md::AlignedBuffer activations(Net::stack_floats(md::Plan::inference, 1));
  std::vector<float> z(Net::latent_floats), y(Net::latent_floats), context(Net::context_floats);
  md::Random(1, 1).normals(z);
  md::Random(1, 2).normals(context);
  const float timestep = 500.0f;
  for (std::size_t i = 0; i <= repetitions; ++i) {
    md::Stack stack(activations);
    md::Context c{ex, stack, 1, true};
    typename Net::Saved saved{};
    const auto start = std::chrono::steady_clock::now();
    Net::forward(c, weights.weights(), z.data(), &timestep, {context.data()}, y.data(), saved);
    if (i > 0) row.seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(row.seconds.begin(), row.seconds.end());
  return row;
}

}  // namespace ablation
