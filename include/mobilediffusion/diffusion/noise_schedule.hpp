// SPDX-License-Identifier: Apache-2.0
// A noise schedule as numbers of run time: 1000 discrete steps, index 0 (nearly the picture) to 999 (nearly noise), as diffusers
// has them, and the library's own continuous time beside them (schedule.hpp).
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <span>

#include "schedule.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// The names that diffusers' `beta_schedule` has.
enum class BetaSchedule { linear, scaled_linear, squaredcos_cap_v2 };

class NoiseSchedule {
 public:
  static constexpr std::size_t steps = 1000;

  // Index i is the continuous time (i + 1) / 1000.
  explicit NoiseSchedule(Schedule schedule) : cosine_(schedule == Schedule::cosine) {
    double product = 1;
    for (std::size_t i = 0; i < steps; ++i) {
      const double alpha = std::cos(0.5 * std::numbers::pi * static_cast<double>(i + 1) / static_cast<double>(steps));
      product *= 1.0 - detail::scaled_linear_beta(i);
      signal_[i] = cosine_ ? alpha * alpha : product;
    }
  }
  // The share of variance that each step replaces by noise. zero_terminal_snr: the last step becomes noise alone (Lin et al.,
  // arXiv 2305.08891, algorithm 1). Rounded to fp32 where diffusers rounds: samplers may take the nearest whole index to a level,
  // and this decides between two.
  explicit NoiseSchedule(std::span<const double, steps> betas, bool zero_terminal_snr = false) {
    Betas rounded;
    for (std::size_t i = 0; i < steps; ++i) rounded[i] = static_cast<float>(betas[i]);
    set(rounded, zero_terminal_snr);
  }
  // first, last: of the betas; not read for squaredcos_cap_v2.
  NoiseSchedule(BetaSchedule schedule, double first, double last, bool zero_terminal_snr = false)
      : squaredcos_(schedule == BetaSchedule::squaredcos_cap_v2) {
    set(betas_of(schedule, first, last), zero_terminal_snr);
  }

  // Indices behind the last step mean the last.
  NoiseLevel level(std::size_t index) const { return of_signal(signal_[std::min(index, steps - 1)]); }
  // The same in terms of sigma / alpha, which is what Karras et al. (arXiv 2206.00364) call sigma.
  static NoiseLevel level_of(double ratio) {
    const double alpha = 1.0 / std::sqrt(ratio * ratio + 1.0);
    return {alpha, ratio * alpha};
  }
  // Of a level, finite also where no signal is left: there alpha^2 counts as 2^-24, as in diffusers.
  static double ratio_of(NoiseLevel level) {
    const double a = level.alpha * level.alpha;
    return a < 1e-12 ? std::sqrt((1.0 - 0x1p-24) / 0x1p-24) : std::sqrt((1.0 - a) / a);
  }
  // sigma / alpha at an index, linear between two of them.
  double ratio(double index) const {
    const double at = std::clamp(index, 0.0, static_cast<double>(steps - 1));
    const auto below = std::min(static_cast<std::size_t>(at), steps - 2);
    const double low = table(below), high = table(below + 1), part = at - static_cast<double>(below);
    return part == 0.0 ? low : part == 1.0 ? high : low + part * (high - low);
  }
  // The index of a sigma / alpha, linear in its logarithm between two of them.
  double index_of(double ratio) const {
    const double goal = std::log(std::max(ratio, 1e-10));
    std::size_t below = 0, end = steps;  // log_table(below) <= goal < log_table(end)
    while (end - below > 1) {
      const std::size_t middle = below + (end - below) / 2;
      (log_table(middle) <= goal ? below : end) = middle;
    }
    below = std::min(below, steps - 2);
    const double low = log_table(below), high = log_table(below + 1);
    return static_cast<double>(below) + std::clamp((goal - low) / (high - low), 0.0, 1.0);
  }
  // The number that the network's time embedding reads at an index.
  float timestep(double index) const { return static_cast<float>(cosine_ ? std::min(index + 1.0, 999.999) : index); }

  // At a time in [0, 1]: noise_level() and timestep() of schedule.hpp.
  NoiseLevel level_at(float t) const {
    if (cosine_) return noise_level(Schedule::cosine, t);
    const auto count = static_cast<std::size_t>(std::lround(std::clamp(t, 0.0f, 1.0f) * static_cast<float>(steps)));
    return count == 0 ? NoiseLevel{} : level(count - 1);
  }
  float timestep_at(float t) const { return mobilediffusion::timestep(cosine_ ? Schedule::cosine : Schedule::scaled_linear, t); }

  // Made of BetaSchedule::squaredcos_cap_v2.
  bool is_squaredcos() const { return squaredcos_; }

 private:
  using Betas = std::array<float, steps>;

  // Rounded like the levels, and for the same reason.
  double table(std::size_t index) const {
    const double ratio = ratio_of(level(index));
    return cosine_ ? ratio : static_cast<float>(ratio);
  }
  double log_table(std::size_t index) const {
    const double log = std::log(table(index));
    return cosine_ ? log : static_cast<float>(log);
  }

  static NoiseLevel of_signal(double a) { return {std::sqrt(a), std::sqrt(1.0 - a)}; }

  // Equal steps from first to last, from whichever end is nearer.
  static float linear(double first, double last, std::size_t i) {
    const auto a = static_cast<float>(first), b = static_cast<float>(last), step = (b - a) / static_cast<float>(steps - 1);
    return i < steps / 2 ? a + step * static_cast<float>(i) : b - step * static_cast<float>(steps - 1 - i);
  }
  static Betas betas_of(BetaSchedule schedule, double first, double last) {
    // Nichol and Dhariwal, arXiv 2102.09672, equation 17, betas at most 0.999.
    const auto signal = [](std::size_t i) {
      const double t = static_cast<double>(i) / static_cast<double>(steps),
                   c = std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2);
      return c * c;
    };
    Betas betas;
    for (std::size_t i = 0; i < steps; ++i) {
      switch (schedule) {
        case BetaSchedule::linear:
          betas[i] = linear(first, last, i);
          break;
        case BetaSchedule::scaled_linear: {
          const float root = linear(std::sqrt(first), std::sqrt(last), i);
          betas[i] = root * root;
          break;
        }
        case BetaSchedule::squaredcos_cap_v2:
          betas[i] = static_cast<float>(std::min(1.0 - signal(i + 1) / signal(i), 0.999));
          break;
      }
    }
    return betas;
  }

  void set(const Betas& betas, bool zero_terminal_snr) {
    double product = 1;
    for (std::size_t i = 0; i < steps; ++i) signal_[i] = static_cast<float>(product *= static_cast<double>(1.0f - betas[i]));
    if (!zero_terminal_snr) return;
    Betas alphas;
    for (std::size_t i = 0; i < steps; ++i) alphas[i] = std::sqrt(static_cast<float>(signal_[i]));
    const float first = alphas.front(), last = alphas.back(), factor = first / (first - last);
    for (float& alpha : alphas) alpha = (alpha - last) * factor;
    Betas rescaled;
    for (std::size_t i = 0; i < steps; ++i) {
      const float signal = alphas[i] * alphas[i];
      rescaled[i] = 1.0f - (i == 0 ? signal : signal / (alphas[i - 1] * alphas[i - 1]));
    }
    set(rescaled, false);
  }

  std::array<double, steps> signal_{};  // alpha^2: diffusers' alphas_cumprod
  bool cosine_ = false, squaredcos_ = false;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
