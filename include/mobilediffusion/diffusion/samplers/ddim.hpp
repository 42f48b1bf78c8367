// SPDX-License-Identifier: Apache-2.0
// Samplers that take z to a picture and from there to the next time: DDIM and UFOGen's.
#pragma once

#include "../../core/begin.hpp"

#include <cmath>
#include <cstddef>
#include <string_view>

#include "../sampler.hpp"
#include "grid.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Song et al., arXiv 2010.02502, equations 12 and 16.
struct Ddim {
  static constexpr std::string_view name = "ddim";
  static constexpr std::size_t remembers = 0;

  Spacing spacing = Spacing::continuous;
  std::size_t offset = 0;
  bool alpha_to_one = true;  // discrete grids: whether the picture, else the first step's level, stands behind the last step
  float eta = 0;             // 0: deterministic; 1: as much new noise as DDPM

  bool renews_noise() const { return eta > 0; }
  std::size_t most_steps(const Course&) const { return NoiseSchedule::steps; }
  std::size_t passes(const Course& c) const { return grid().taken(c); }
  SamplingStep at(const NoiseSchedule& s, const Course& c, std::size_t pass) const;
  template <class Noise>
  void step(const NoiseSchedule& s, const Course& c, Prediction prediction, std::size_t pass, const float* output, float* z,
            float*, float* scratch, Noise&& noise, std::size_t n) const {
    const auto [time, from, to] = at(s, c, pass);
    if (!renews_noise()) return ddim_step(prediction, from, to, output, z, n);
    const double ratio = from.alpha / to.alpha,
                 fresh = static_cast<double>(eta) * to.sigma / from.sigma * std::sqrt(1.0 - ratio * ratio);
    noise(scratch);
    detail::renew(prediction, from, to, std::sqrt(to.sigma * to.sigma - fresh * fresh), fresh, output, z, scratch, n);
  }

  friend bool operator==(const Ddim&, const Ddim&) = default;

 private:
  detail::Grid grid() const { return {spacing, offset}; }
};

// Xu et al., arXiv 2311.09257 (UFOGen), section 4: new noise on the picture that the network sees.
struct Renoise {
  static constexpr std::string_view name = "renoise";
  static constexpr std::size_t remembers = 0;

  Spacing spacing = Spacing::continuous;
  std::size_t offset = 0;

  bool renews_noise() const { return true; }
  std::size_t most_steps(const Course&) const { return NoiseSchedule::steps; }
  std::size_t passes(const Course& c) const { return grid().taken(c); }
  SamplingStep at(const NoiseSchedule& s, const Course& c, std::size_t pass) const;
  template <class Noise>
  void step(const NoiseSchedule& s, const Course& c, Prediction prediction, std::size_t pass, const float* output, float* z,
            float*, float* scratch, Noise&& noise, std::size_t n) const {
    const auto [time, from, to] = at(s, c, pass);
    const bool last = pass + 1 == passes(c);
    if (!last) noise(scratch);
    const auto alpha = static_cast<float>(to.alpha), sigma = static_cast<float>(to.sigma);
    for (std::size_t i = 0; i < n; ++i) {
      const float x = denoised(prediction, from, z[i], output[i]).x;
      z[i] = last ? x : alpha * x + sigma * scratch[i];
    }
  }

  friend bool operator==(const Renoise&, const Renoise&) = default;

 private:
  detail::Grid grid() const { return {spacing, offset}; }
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY SamplingStep Ddim::at(const NoiseSchedule& s, const Course& c, std::size_t pass) const {
  if (grid().continuous()) return grid().step(s, c, pass);
  const std::size_t i = grid().whole_index(c, grid().first(c) + pass);
  return {s.timestep(static_cast<double>(i)), s.level(i), detail::level_before(s, i, detail::stride(c), alpha_to_one)};
}

MOBILEDIFFUSION_BODY SamplingStep Renoise::at(const NoiseSchedule& s, const Course& c, std::size_t pass) const {
  if (grid().continuous()) return grid().step(s, c, pass);
  const std::size_t k = grid().first(c) + pass, i = grid().whole_index(c, k);
  return {s.timestep(static_cast<double>(i)), s.level(i),
          k + 1 < grid().points(c) ? s.level(grid().whole_index(c, k + 1)) : NoiseLevel{}};
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../../core/end.hpp"
