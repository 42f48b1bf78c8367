// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: any element of any stream by index, so results do not depend on threads or order.
#pragma once

#include "begin.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011): counter, key -> 4 words.
inline constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c[0], p1 = std::uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(p0)};
    k = {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
  }
  return c;
}

// An independent sequence for each (seed, stream); stream tells uses of one seed apart (initial noise, data, dropout).
class Random {
 public:
  constexpr Random(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

  constexpr std::array<std::uint32_t, 4> block(std::uint64_t index) const {
    return philox({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                   static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)},
                  {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
  }

  // Sequential draws.
  constexpr std::uint32_t next() {
    if (have_ == 0) {
      words_ = block(index_++);
      have_ = 4;
    }
    return words_[static_cast<std::size_t>(4 - have_--)];
  }
  constexpr float uniform() { return static_cast<float>(next() >> 8) * 0x1p-24f; }  // [0, 1)
  constexpr std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>((std::uint64_t{next()} * n) >> 32); }

  // Standard normals (Box and Muller), element i depending on seed, stream and first + i only; first: a multiple of 4.
  void normals(std::span<float> out, std::uint64_t first = 0) const {
    for (std::size_t i = 0; i < out.size(); i += 4) {
      const auto w = block((std::uint64_t{1} << 63) | ((first + i) / 4));
      for (std::size_t pair = 0; pair < 2; ++pair) {
        const double u = (static_cast<double>(w[2 * pair]) + 0.5) * 0x1p-32, v = static_cast<double>(w[2 * pair + 1]) * 0x1p-32;
        const double r = std::sqrt(-2.0 * std::log(u)), a = 2.0 * std::numbers::pi * v;
        if (i + 2 * pair < out.size()) out[i + 2 * pair] = static_cast<float>(r * std::cos(a));
        if (i + 2 * pair + 1 < out.size()) out[i + 2 * pair + 1] = static_cast<float>(r * std::sin(a));
      }
    }
  }

 private:
  std::uint64_t seed_, stream_, index_ = 0;
  std::array<std::uint32_t, 4> words_{};
  int have_ = 0;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
