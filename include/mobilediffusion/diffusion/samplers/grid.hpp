// SPDX-License-Identifier: Apache-2.0
// Which times a run visits. Discrete grids are those of diffusers, `timestep_spacing` (Lin et al., arXiv 2305.08891, table 2).
#pragma once

#include "../../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "../noise_schedule.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// continuous: the library's own, step_time() of schedule.hpp, which heeds Course::shift; the others do not.
enum class Spacing { continuous, leading, trailing, linspace };

// What a request asks of a sampler.
struct Course {
  std::size_t steps = 20;  // 1 to what the sampler's most_steps() says
  float strength = 1;      // in (0, 1]; below 1: a picture is the start, and only the last of the steps are taken
  float shift = 1;
};

// One evaluation of the network.
struct SamplingStep {
  float time = 0;       // what the network reads
  NoiseLevel from, to;  // where z is before and after it
};

namespace detail {

// The decimal fraction of up to seven digits that a float stands for, so that products with it are cut as they are in Python.
inline double as_written(float x) { return std::round(static_cast<double>(x) * 1e7) / 1e7; }

// floor(n * strength).
inline std::size_t share_of(std::size_t n, float strength) {
  return static_cast<std::size_t>(static_cast<double>(n) * std::clamp(as_written(strength), 0.0, 1.0));
}

// A grid of `Course::steps` points, falling. With `open` a discrete one has a point more at its end, which is not visited.
struct Grid {
  Spacing spacing = Spacing::leading;
  std::size_t offset = 0;
  bool open = false;

  bool continuous() const { return spacing == Spacing::continuous; }

  // How many of the points are visited, and the first of these. Continuous grids shrink (Meng et al., arXiv 2108.01073), discrete
  // ones start later.
  std::size_t taken(const Course& c) const;
  std::size_t first(const Course& c) const { return continuous() ? 0 : c.steps - taken(c); }
  // How many points there are from the first that could be visited on.
  std::size_t points(const Course& c) const { return first(c) + taken(c); }

  // The time of point k, or where k is behind the last, of the picture.
  float time(const Course& c, std::size_t k) const;

  // The index of point k of a discrete grid, with a fraction under linspace; arithmetic as numpy does it, for the sake of ties.
  double index(const Course& c, std::size_t k) const;
  std::size_t whole_index(const Course& c, std::size_t k) const { return static_cast<std::size_t>(std::nearbyint(index(c, k))); }

  // The step from point k of a continuous grid to the next.
  SamplingStep step(const NoiseSchedule& s, const Course& c, std::size_t k) const {
    return {s.timestep_at(time(c, k)), s.level_at(time(c, k)), s.level_at(time(c, k + 1))};
  }
};

// How far a step of DDIM and PNDM goes in discrete grids, whatever the spacing.
inline std::size_t stride(const Course& c) { return NoiseSchedule::steps / c.steps; }

// `by` steps before an index; what stands before the first: the picture, or with its noise.
NoiseLevel level_before(const NoiseSchedule& s, std::size_t index, std::size_t by, bool alpha_to_one);

// Karras et al., arXiv 2206.00364, equation 5, rho = 7: point k of n between two values of sigma / alpha.
double karras_ratio(double first, double last, std::size_t k, std::size_t n);

// z = x picture + eps (noise of before) + fresh (new noise), in place; noise receives the sum of both noises in the units that
// `to` has. `noise` holds new normals.
void renew(Prediction prediction, NoiseLevel from, NoiseLevel to, double eps, double fresh, const float* output, float* z,
           float* noise, std::size_t n);

}  // namespace detail

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY std::size_t Grid::taken(const Course& c) const {
  if (continuous())
    return std::max<std::size_t>(1, static_cast<std::size_t>(std::lround(c.strength * static_cast<float>(c.steps))));
  return std::clamp<std::size_t>(share_of(c.steps, c.strength), 1, c.steps);
}

MOBILEDIFFUSION_BODY float Grid::time(const Course& c, std::size_t k) const {
  const std::size_t n = taken(c);
  if (c.strength == 1.0f) return step_time(k, n, c.shift);
  return shifted(c.strength * (1.0f - static_cast<float>(k) / static_cast<float>(n)), c.shift);
}

MOBILEDIFFUSION_BODY double Grid::index(const Course& c, std::size_t k) const {
  constexpr auto all = static_cast<double>(NoiseSchedule::steps);
  const auto steps = static_cast<double>(c.steps);
  const std::size_t n = c.steps + (open ? 1 : 0), from_end = n - 1 - k;
  switch (spacing) {
    case Spacing::continuous:
      break;
    case Spacing::leading:
      return std::min(static_cast<double>(NoiseSchedule::steps / n * from_end + offset), all - 1.0);
    case Spacing::trailing:
      return std::nearbyint(all + static_cast<double>(k) * (all - all / steps - all)) - 1.0;
    case Spacing::linspace:
      if (n == 1) return 0.0;
      return from_end + 1 == n ? all - 1.0 : static_cast<double>(from_end) * ((all - 1.0) / static_cast<double>(n - 1));
  }
  throw Error("spacing: unknown kind");
}

MOBILEDIFFUSION_BODY NoiseLevel level_before(const NoiseSchedule& s, std::size_t index, std::size_t by, bool alpha_to_one) {
  if (index >= by) return s.level(index - by);
  return alpha_to_one ? NoiseLevel{} : s.level(0);
}

MOBILEDIFFUSION_BODY double karras_ratio(double first, double last, std::size_t k, std::size_t n) {
  const double a = std::pow(first, 1.0 / 7.0), b = std::pow(last, 1.0 / 7.0);
  return std::pow(a + (n > 1 ? static_cast<double>(k) / static_cast<double>(n - 1) : 0.0) * (b - a), 7.0);
}

MOBILEDIFFUSION_BODY void renew(Prediction prediction, NoiseLevel from, NoiseLevel to, double eps, double fresh,
                                const float* output, float* z, float* noise, std::size_t n) {
  const double unit = to.sigma > 0.0 ? 1.0 / to.sigma : 0.0;
  const auto alpha = static_cast<float>(to.alpha), sigma = static_cast<float>(to.sigma), a = static_cast<float>(eps * unit),
             b = static_cast<float>(fresh * unit);
  for (std::size_t i = 0; i < n; ++i) {
    const Denoised d = denoised(prediction, from, z[i], output[i]);
    noise[i] = a * d.eps + b * noise[i];
    z[i] = alpha * d.x + sigma * noise[i];
  }
}

}  // namespace detail

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../../core/end.hpp"
