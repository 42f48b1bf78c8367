// SPDX-License-Identifier: Apache-2.0
// Four captions, each with its picture: what trainers of diffusion models learn in tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mobilediffusion/config/config.hpp>
#include <vector>

namespace trainer_tests {

template <mobilediffusion::ModelConfig M>
struct ToyData {
  static constexpr std::size_t channels = M.unet.latent_channels, latents = M.unet.height * M.unet.width * channels,
                               length = M.text.length;

  std::vector<float> pictures = std::vector<float>(4 * latents);
  std::vector<std::int32_t> ids, unconditional{2, 3};
  ToyData() {
    unconditional.resize(length);
    for (std::size_t k = 0; k < 4; ++k)
      for (std::size_t i = 0; i < latents; ++i)
        pictures[k * latents + i] = ((i / channels / (k + 1)) % 2 == 0 ? 1.0f : -1.0f) * (k % 2 == 0 ? 1.0f : 0.9f);
    for (std::int32_t k = 0; k < 4; ++k)
      for (std::int32_t i = 0; i < static_cast<std::int32_t>(length); ++i) ids.push_back(i < 4 ? 5 + 7 * k + i : 0);
  }
  // Sample i of any batch is picture i % 4 with its caption.
  std::vector<const float*> batch(std::size_t n) const {
    std::vector<const float*> out;
    for (std::size_t i = 0; i < n; ++i) out.push_back(&pictures[i % 4 * latents]);
    return out;
  }
  std::vector<std::int32_t> tokens(std::size_t n) const {
    std::vector<std::int32_t> out;
    for (std::size_t i = 0; i < n; ++i)
      out.insert(out.end(), ids.begin() + static_cast<std::ptrdiff_t>(i % 4 * length),
                 ids.begin() + static_cast<std::ptrdiff_t>((i % 4 + 1) * length));
    return out;
  }
};

}  // namespace trainer_tests
