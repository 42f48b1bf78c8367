// SPDX-License-Identifier: Apache-2.0
// Normals as PyTorch's generator on CPUs gives them, so that a seed means the noise that it means elsewhere. As of
// ATen/core/DistributionsHelper.h and ATen/native/cpu/DistributionTemplates.h of PyTorch 1.3 and later.
#pragma once

#include "begin.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <optional>
#include <random>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// torch.Generator("cpu").manual_seed(seed). Its uniform numbers are exact. Normals are within 5e-7 of PyTorch's with
// AVX2 or more, and within 2e-6 of PyTorch's without, which differ among themselves by as much.
class TorchNormals {
 public:
  // Like PyTorch's, it heeds the lower 32 bits.
  explicit TorchNormals(std::uint64_t seed) : engine_(static_cast<std::uint32_t>(seed)) {}

  // The next torch.randn of channels * pixels elements, of which [channels][pixels] is the order, stored as [pixels][channels].
  // For an order that stays: channels 1.
  void normals(float* into, std::size_t channels, std::size_t pixels);

 private:
  static constexpr std::size_t block = 16;

  // Box and Muller over 16 uniform numbers of 24 bits.
  template <class Put>
  void fill(std::size_t first, Put& put) {
    std::array<float, block> u;
    for (float& x : u) x = static_cast<float>(engine_() & 0xffffffu) * 0x1p-24f;
    for (std::size_t j = 0; j < block / 2; ++j) {
      const double radius = std::sqrt(-2.0 * std::log(static_cast<double>(1.0f - u[j]))),
                   angle = static_cast<double>(2.0f * std::numbers::pi_v<float> * u[j + block / 2]);
      put(first + j, radius * std::cos(angle));
      put(first + j + block / 2, radius * std::sin(angle));
    }
  }
  // Fewer than 16 are drawn one by one in fp64; the second of a pair is kept for the next call.
  double next();
  double uniform();

  std::mt19937 engine_;
  std::optional<double> second_;
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY void TorchNormals::normals(float* into, std::size_t channels, std::size_t pixels) {
  const auto put = [&](std::size_t i, double value) { into[i % pixels * channels + i / pixels] = static_cast<float>(value); };
  const std::size_t n = channels * pixels;
  if (n < block) {
    for (std::size_t i = 0; i < n; ++i) put(i, next());
    return;
  }
  for (std::size_t i = 0; i + block <= n; i += block) fill(i, put);
  if (n % block == 0) return;
  engine_.discard(n % block);  // PyTorch draws for all, then anew for the last 16
  fill(n - block, put);
}

MOBILEDIFFUSION_BODY double TorchNormals::next() {
  if (second_) {
    const double value = *second_;
    second_.reset();
    return value;
  }
  const double u = uniform(), v = uniform();
  const double radius = std::sqrt(-2.0 * std::log1p(-v)), angle = 2.0 * std::numbers::pi * u;
  second_ = radius * std::sin(angle);
  return radius * std::cos(angle);
}

MOBILEDIFFUSION_BODY double TorchNormals::uniform() {
  const std::uint64_t high = engine_(), low = engine_();
  return static_cast<double>((high << 32 | low) & 0x1fffffffffffffu) * 0x1p-53;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
