// SPDX-License-Identifier: Apache-2.0
// Samplers that remember what the network said before: DPM-Solver++ and PNDM.
#pragma once

#include "../../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string_view>

#include "../sampler.hpp"
#include "grid.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// DPM-Solver++, multistep, of the picture (Lu et al., arXiv 2211.01095, algorithm 2 and appendix), as diffusers runs it.
struct DpmSolver {
  static constexpr std::string_view name = "dpm++2m";
  static constexpr std::size_t remembers = 2;  // pictures of the steps before

  Spacing spacing = Spacing::linspace;
  std::size_t offset = 0;
  bool karras = false;    // from the schedule's highest to its lowest sigma / alpha, at the nearest whole indices
  std::size_t order = 2;  // 1 to 3
  bool heun = false;      // the second order's kind, else midpoint
  bool lower_order_final = true, euler_at_final = false;  // lower order at the end of runs of less than 15 steps; in any case
  bool sigma_min_at_final = false;                        // what stands behind the last step: index 0, else the picture

  bool renews_noise() const { return false; }
  std::size_t most_steps(const Course&) const { return NoiseSchedule::steps; }
  std::size_t passes(const Course& c) const { return grid().taken(c); }
  SamplingStep at(const NoiseSchedule& s, const Course& c, std::size_t pass) const;
  template <class Noise>
  void step(const NoiseSchedule& s, const Course& c, Prediction prediction, std::size_t pass, const float* output, float* z,
            float* memory, float*, Noise&&, std::size_t n) const {
    const std::size_t k = grid().first(c) + pass, left = grid().points(c) - k;
    const double before = ratio(s, c, k), after = ratio(s, c, k + 1);
    const NoiseLevel from = NoiseSchedule::level_of(before), to = NoiseSchedule::level_of(after);
    std::size_t now = std::min(order, pass + 1);
    const bool ends_low = lower_order_final && grid().points(c) < 15;
    if (left == 1 && (euler_at_final || ends_low || !sigma_min_at_final)) now = 1;
    if (left == 2 && ends_low) now = std::min<std::size_t>(now, 2);

    // z -> a z + b[0] m0 + b[1] m1 + b[2] m2, with pictures m, the newest first, and lambda = -ln(sigma / alpha).
    const double a = to.sigma / from.sigma, e = after / before - 1.0;  // exp(-h) - 1
    double b[3] = {-to.alpha * e, 0.0, 0.0};
    const double h = std::log(before / after), h0 = now > 1 ? std::log(ratio(s, c, k - 1) / before) : 0.0;
    if (now > 1 && h > 0.0 && h0 > 0.0) {
      const double second = now == 3 || heun ? to.alpha * (e / h + 1.0) : -0.5 * to.alpha * e, r0 = h0 / h;
      const double h1 = now == 3 ? std::log(ratio(s, c, k - 2) / ratio(s, c, k - 1)) : 0.0, r1 = h1 / h;
      // D1 = (m0 - m1) / r0; the third order's has a part of the difference of two of these, and so has D2.
      double d0 = second / r0, d1 = 0.0;
      if (h1 > 0.0) {
        const double third = (second * r0 - to.alpha * ((e + h) / (h * h) - 0.5)) / (r0 + r1);
        d0 += third / r0;
        d1 = -third / r1;
      }
      b[0] += d0;
      b[1] = d1 - d0;
      b[2] = -d1;
    }
    const auto za = static_cast<float>(a), b0 = static_cast<float>(b[0]), b1 = static_cast<float>(b[1]),
               b2 = static_cast<float>(b[2]);
    for (std::size_t i = 0; i < n; ++i) {
      const float m0 = denoised(prediction, from, z[i], output[i]).x, m1 = now > 1 ? memory[i] : 0.0f,
                  m2 = now > 2 ? memory[n + i] : 0.0f;
      z[i] = za * z[i] + b0 * m0 + b1 * m1 + b2 * m2;
      if (pass > 0) memory[n + i] = memory[i];
      memory[i] = m0;
    }
  }

  friend bool operator==(const DpmSolver&, const DpmSolver&) = default;

 private:
  detail::Grid grid() const { return {spacing, offset, spacing == Spacing::leading || spacing == Spacing::linspace}; }
  double karras_ratio(const NoiseSchedule& s, const Course& c, std::size_t k) const;
  double ratio(const NoiseSchedule& s, const Course& c, std::size_t k) const;
  float time(const NoiseSchedule& s, const Course& c, std::size_t k) const;
};

// Liu et al., arXiv 2202.09778, with linear multisteps from the start (diffusers' skip_prk_steps; PLMS): the first step is made
// twice, the second time with the mean of what the network says at its two ends.
struct Pndm {
  static constexpr std::string_view name = "pndm";
  static constexpr std::size_t remembers = 3;  // outputs before, the newest first; after the first pass also its z

  Spacing spacing = Spacing::leading;
  std::size_t offset = 0;
  bool alpha_to_one = false;  // as in Ddim

  bool renews_noise() const { return false; }
  std::size_t most_steps(const Course&) const { return NoiseSchedule::steps; }
  std::size_t passes(const Course& c) const { return list_size(c) - grid().first(c); }
  SamplingStep at(const NoiseSchedule& s, const Course& c, std::size_t pass) const;
  template <class Noise>
  void step(const NoiseSchedule& s, const Course& c, Prediction prediction, std::size_t pass, const float* output, float* z,
            float* memory, float* scratch, Noise&&, std::size_t n) const {
    const auto [time, from, to] = at(s, c, pass);
    float *newest = memory, *second = memory + n, *third = memory + 2 * n;
    if (pass == 1) {
      for (std::size_t i = 0; i < n; ++i) scratch[i] = 0.5f * (output[i] + newest[i]);
      std::copy_n(second, n, z);
      return ddim_step(prediction, from, to, scratch, z, n);
    }
    // Adams and Bashforth, of as many outputs as there are.
    static constexpr float weights[4][4] = {
        {1.0f}, {3.0f / 2, -1.0f / 2}, {23.0f / 12, -16.0f / 12, 5.0f / 12}, {55.0f / 24, -59.0f / 24, 37.0f / 24, -9.0f / 24}};
    const std::size_t known = pass == 0 ? 0 : std::min<std::size_t>(pass - 1, 3);
    const float* w = weights[known];
    for (std::size_t i = 0; i < n; ++i) {
      float mean = w[0] * output[i];
      if (known > 0) mean += w[1] * newest[i];
      if (known > 1) mean += w[2] * second[i];
      if (known > 2) mean += w[3] * third[i];
      scratch[i] = mean;
      if (known > 1) third[i] = second[i];
      if (known > 0) second[i] = newest[i];
      else second[i] = z[i];
      newest[i] = output[i];
    }
    ddim_step(prediction, from, to, scratch, z, n);
  }

  friend bool operator==(const Pndm&, const Pndm&) = default;

 private:
  detail::Grid grid() const { return {spacing, offset}; }
  std::size_t list_size(const Course& c) const;
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY SamplingStep DpmSolver::at(const NoiseSchedule& s, const Course& c, std::size_t pass) const {
  const std::size_t k = grid().first(c) + pass;
  return {time(s, c, k), NoiseSchedule::level_of(ratio(s, c, k)), NoiseSchedule::level_of(ratio(s, c, k + 1))};
}

MOBILEDIFFUSION_BODY double DpmSolver::karras_ratio(const NoiseSchedule& s, const Course& c, std::size_t k) const {
  return detail::karras_ratio(s.ratio(static_cast<double>(NoiseSchedule::steps - 1)), s.ratio(0), k, grid().points(c));
}

MOBILEDIFFUSION_BODY double DpmSolver::ratio(const NoiseSchedule& s, const Course& c, std::size_t k) const {
  if (k == grid().points(c)) return sigma_min_at_final ? s.ratio(0) : 0.0;
  if (karras) return karras_ratio(s, c, k);
  if (grid().continuous()) return NoiseSchedule::ratio_of(s.level_at(grid().time(c, k)));
  return s.ratio(static_cast<double>(grid().whole_index(c, k)));
}

MOBILEDIFFUSION_BODY float DpmSolver::time(const NoiseSchedule& s, const Course& c, std::size_t k) const {
  if (karras) {
    const double index = s.index_of(karras_ratio(s, c, k));
    return s.timestep(s.is_squaredcos() ? std::floor(index) : std::nearbyint(index));
  }
  if (grid().continuous()) return s.timestep_at(grid().time(c, k));
  return s.timestep(static_cast<double>(grid().whole_index(c, k)));
}

MOBILEDIFFUSION_BODY SamplingStep Pndm::at(const NoiseSchedule& s, const Course& c, std::size_t pass) const {
  // The list of points has the second one twice; a start inside of it goes on with what stands there.
  const std::size_t place = grid().first(c) + pass, k = place < 2 ? place : place - 1;
  if (grid().continuous()) {
    const SamplingStep back = grid().step(s, c, k - (pass == 1 ? 1 : 0));
    return {s.timestep_at(grid().time(c, k)), back.from, back.to};
  }
  const std::size_t i = grid().whole_index(c, k), stride = detail::stride(c);
  const float time = s.timestep(static_cast<double>(i));
  if (pass == 1) return {time, s.level(i + stride), s.level(i)};
  return {time, s.level(i), detail::level_before(s, i, stride, alpha_to_one)};
}

MOBILEDIFFUSION_BODY std::size_t Pndm::list_size(const Course& c) const {
  const std::size_t n = grid().points(c);
  return n + (n > 1 ? 1 : 0);
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../../core/end.hpp"
