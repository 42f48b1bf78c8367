// SPDX-License-Identifier: Apache-2.0
// Euler steps over sigma / alpha (Karras et al., arXiv 2206.00364, algorithm 1; k-diffusion). Their x is z / alpha, so that one
// is the step of DDIM between the same two levels.
#pragma once

#include "../../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string_view>

#include "../sampler.hpp"
#include "grid.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {

struct Place {
  float time = 0;
  double ratio = 0;  // sigma / alpha
};

// Point k of the grid; what it has between two indices is interpolated.
Place place(const Grid& grid, const NoiseSchedule& s, const Course& c, std::size_t k);

// What noise alone is multiplied by in the beginning: the highest sigma / alpha, not with the picture's share as under leading.
inline double noise_scale(const Grid& grid, NoiseLevel start) {
  return grid.spacing == Spacing::trailing || grid.spacing == Spacing::linspace ? start.sigma : 1.0;
}

}  // namespace detail

struct Euler {
  static constexpr std::string_view name = "euler";
  static constexpr std::size_t remembers = 0;

  Spacing spacing = Spacing::linspace;
  std::size_t offset = 0;
  bool karras = false;                 // the grid's first and last sigma / alpha, and between them as Karras et al. space them
  bool sigma_min_at_final = false;     // what stands behind the last step: the schedule's lowest sigma / alpha, else the picture
  float sigma_min = 0, sigma_max = 0;  // of Karras' spacing; 0: the grid's

  bool renews_noise() const { return false; }
  std::size_t most_steps(const Course&) const { return NoiseSchedule::steps; }
  std::size_t passes(const Course& c) const { return grid().taken(c); }
  SamplingStep at(const NoiseSchedule& s, const Course& c, std::size_t pass) const;
  double noise_scale(const NoiseSchedule& s, const Course& c) const { return detail::noise_scale(grid(), at(s, c, 0).from); }
  template <class Noise>
  void step(const NoiseSchedule& s, const Course& c, Prediction prediction, std::size_t pass, const float* output, float* z,
            float*, float*, Noise&&, std::size_t n) const {
    const auto [time, from, to] = at(s, c, pass);
    ddim_step(prediction, from, to, output, z, n);
  }

  friend bool operator==(const Euler&, const Euler&) = default;

 private:
  detail::Grid grid() const { return {spacing, offset}; }
  detail::Place place(const NoiseSchedule& s, const Course& c, std::size_t k) const;
};

// k-diffusion's ancestral steps: a part of the noise is taken away further than needed, and new noise makes up for it.
struct EulerAncestral {
  static constexpr std::string_view name = "euler_a";
  static constexpr std::size_t remembers = 0;

  Spacing spacing = Spacing::linspace;
  std::size_t offset = 0;

  bool renews_noise() const { return true; }
  std::size_t most_steps(const Course&) const { return NoiseSchedule::steps; }
  std::size_t passes(const Course& c) const { return grid().taken(c); }
  SamplingStep at(const NoiseSchedule& s, const Course& c, std::size_t pass) const { return euler().at(s, c, pass); }
  double noise_scale(const NoiseSchedule& s, const Course& c) const { return euler().noise_scale(s, c); }
  template <class Noise>
  void step(const NoiseSchedule& s, const Course& c, Prediction prediction, std::size_t pass, const float* output, float* z,
            float*, float* scratch, Noise&& noise, std::size_t n) const {
    const auto [time, from, to] = at(s, c, pass);
    const double before = from.sigma / from.alpha, after = to.sigma / to.alpha, part = after / before,
                 up = after * std::sqrt(std::max(0.0, 1.0 - part * part)),
                 down = std::sqrt(std::max(0.0, after * after - up * up));
    noise(scratch);
    detail::renew(prediction, from, to, to.alpha * down, to.alpha * up, output, z, scratch, n);
  }

  friend bool operator==(const EulerAncestral&, const EulerAncestral&) = default;

 private:
  detail::Grid grid() const { return {spacing, offset}; }
  Euler euler() const { return {.spacing = spacing, .offset = offset}; }
};

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY Place place(const Grid& grid, const NoiseSchedule& s, const Course& c, std::size_t k) {
  if (grid.continuous()) {
    const float t = grid.time(c, k);
    return {s.timestep_at(t), NoiseSchedule::ratio_of(s.level_at(t))};
  }
  const double index = static_cast<double>(static_cast<float>(grid.index(c, k)));
  return {s.timestep(index), s.ratio(index)};
}

}  // namespace detail

MOBILEDIFFUSION_BODY SamplingStep Euler::at(const NoiseSchedule& s, const Course& c, std::size_t pass) const {
  const std::size_t k = grid().first(c) + pass;
  const detail::Place from = place(s, c, k);
  const NoiseLevel to = k + 1 < grid().points(c) ? NoiseSchedule::level_of(place(s, c, k + 1).ratio)
                                                 : NoiseLevel{1.0, sigma_min_at_final ? s.ratio(0) : 0.0};  // x itself
  return {from.time, NoiseSchedule::level_of(from.ratio), to};
}

MOBILEDIFFUSION_BODY detail::Place Euler::place(const NoiseSchedule& s, const Course& c, std::size_t k) const {
  if (!karras) return detail::place(grid(), s, c, k);
  const std::size_t n = grid().points(c);
  const double first = sigma_max > 0 ? static_cast<double>(sigma_max) : detail::place(grid(), s, c, 0).ratio,
               last = sigma_min > 0 ? static_cast<double>(sigma_min) : detail::place(grid(), s, c, n - 1).ratio,
               ratio = detail::karras_ratio(first, last, k, n);
  return {s.timestep(s.index_of(ratio)), ratio};
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../../core/end.hpp"
