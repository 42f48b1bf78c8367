// SPDX-License-Identifier: Apache-2.0
// Samplers of models that were distilled to be consistent along a path: LCM and TCD. Their grids are parts of the one that the
// models were distilled on, so that they have no spacing of their own.
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

struct DistilledGrid {
  std::size_t original_steps;
  // A picture to start from cuts the grid of distillation, and all steps are taken on what is left.
  std::size_t size(const Course& c) const { return share_of(original_steps, c.strength); }
  std::size_t index(const Course& c, std::size_t k) const;
};

}  // namespace detail

// Luo et al., arXiv 2310.04378, algorithm 3; c_skip and c_out as in appendix C with sigma_data = 0.5.
struct Lcm {
  static constexpr std::string_view name = "lcm";
  static constexpr std::size_t remembers = 0;

  std::size_t original_steps = 50;  // 1 to 1000: of the grid of distillation
  float timestep_scaling = 10;

  bool renews_noise() const { return true; }
  std::size_t most_steps(const Course& c) const { return grid().size(c); }
  std::size_t passes(const Course& c) const { return c.steps; }
  SamplingStep at(const NoiseSchedule& s, const Course& c, std::size_t pass) const;
  template <class Noise>
  void step(const NoiseSchedule& s, const Course& c, Prediction prediction, std::size_t pass, const float* output, float* z,
            float*, float* scratch, Noise&& noise, std::size_t n) const {
    const auto [time, from, to] = at(s, c, pass);
    const bool last = pass + 1 == passes(c);
    const double scaled = static_cast<double>(grid().index(c, pass)) * static_cast<double>(timestep_scaling);
    const auto skip = static_cast<float>(0.25 / (scaled * scaled + 0.25)),
               out = static_cast<float>(scaled / std::sqrt(scaled * scaled + 0.25)), alpha = static_cast<float>(to.alpha),
               sigma = static_cast<float>(to.sigma);
    if (!last) noise(scratch);
    for (std::size_t i = 0; i < n; ++i) {
      const float x = out * denoised(prediction, from, z[i], output[i]).x + skip * z[i];
      z[i] = last ? x : alpha * x + sigma * scratch[i];
    }
  }

  friend bool operator==(const Lcm&, const Lcm&) = default;

 private:
  detail::DistilledGrid grid() const { return {original_steps}; }
};

// Zheng et al., arXiv 2402.19159, algorithm 2 (strategic stochastic sampling).
struct Tcd {
  static constexpr std::string_view name = "tcd";
  static constexpr std::size_t remembers = 0;

  std::size_t original_steps = 50;
  float eta = 0.3f;  // the paper's gamma, 0 to 1: how much noise is new

  bool renews_noise() const { return eta > 0; }
  std::size_t most_steps(const Course& c) const { return grid().size(c); }
  std::size_t passes(const Course& c) const { return c.steps; }
  SamplingStep at(const NoiseSchedule& s, const Course& c, std::size_t pass) const;
  template <class Noise>
  void step(const NoiseSchedule& s, const Course& c, Prediction prediction, std::size_t pass, const float* output, float* z,
            float*, float* scratch, Noise&& noise, std::size_t n) const {
    const auto [time, from, to] = at(s, c, pass);
    const NoiseLevel inner =
        s.level(static_cast<std::size_t>((1.0 - detail::as_written(eta)) * static_cast<double>(next(c, pass))));
    if (!renews_noise() || pass + 1 == passes(c)) return ddim_step(prediction, from, inner, output, z, n);
    const double ratio = to.alpha / inner.alpha;
    noise(scratch);
    detail::renew(prediction, from, to, ratio * inner.sigma, std::sqrt(std::max(0.0, 1.0 - ratio * ratio)), output, z, scratch,
                  n);
  }

  friend bool operator==(const Tcd&, const Tcd&) = default;

 private:
  detail::DistilledGrid grid() const { return {original_steps}; }
  std::size_t next(const Course& c, std::size_t pass) const { return pass + 1 < passes(c) ? grid().index(c, pass + 1) : 0; }
};

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY std::size_t DistilledGrid::index(const Course& c, std::size_t k) const {
  const auto jump = static_cast<double>(size(c)) / static_cast<double>(c.steps);
  const std::size_t place = size(c) - std::min(size(c), static_cast<std::size_t>(static_cast<double>(k) * jump));
  return NoiseSchedule::steps / original_steps * std::max<std::size_t>(place, 1) - 1;
}

}  // namespace detail

MOBILEDIFFUSION_BODY SamplingStep Lcm::at(const NoiseSchedule& s, const Course& c, std::size_t pass) const {
  const std::size_t i = grid().index(c, pass);
  return {s.timestep(static_cast<double>(i)), s.level(i),
          pass + 1 < passes(c) ? s.level(grid().index(c, pass + 1)) : NoiseLevel{}};
}

MOBILEDIFFUSION_BODY SamplingStep Tcd::at(const NoiseSchedule& s, const Course& c, std::size_t pass) const {
  const std::size_t i = grid().index(c, pass);
  return {s.timestep(static_cast<double>(i)), s.level(i), s.level(next(c, pass))};
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../../core/end.hpp"
