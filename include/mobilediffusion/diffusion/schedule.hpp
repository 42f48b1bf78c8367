// SPDX-License-Identifier: Apache-2.0
// Noise schedules over continuous time t in [0, 1] (0: picture, 1: noise), and what a network's output means.
// z = alpha x + sigma eps, alpha^2 + sigma^2 = 1.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "../core/prediction.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// How much of the picture and how much noise there is. What is done for every element is done in fp32.
struct NoiseLevel {
  double alpha = 1, sigma = 0;
};

// Time spent at noise grows with s > 1: t -> s t / (1 + (s - 1) t) (Esser et al., arXiv 2403.03206, section 5.3.2).
inline float shifted(float t, float s) { return s * t / (1.0f + (s - 1.0f) * t); }

namespace detail {
// Stable Diffusion's 1000 betas, 0.00085 to 0.012, are linear in their square roots.
inline double scaled_linear_beta(std::size_t i) {
  const double first = std::sqrt(0.00085), last = std::sqrt(0.012),
               root = first + (last - first) * static_cast<double>(i) / 999.0;
  return root * root;
}
// The product of 1 - beta over the first `count`.
inline double scaled_linear_product(std::size_t count) {
  double product = 1;
  for (std::size_t i = 0; i < count; ++i) product *= 1.0 - scaled_linear_beta(i);
  return product;
}
}  // namespace detail

// cosine: alpha = cos(pi t / 2) (Nichol and Dhariwal, arXiv 2102.09672, without the offset).
// scaled_linear: Stable Diffusion's, at its nearest discrete step; t = 0 is the clean picture.
inline NoiseLevel noise_level(Schedule schedule, float t) {
  switch (schedule) {
    case Schedule::cosine: {
      const double a = 0.5 * std::numbers::pi * static_cast<double>(t);
      return {std::cos(a), std::sin(a)};
    }
    case Schedule::scaled_linear: {
      const double product =
          detail::scaled_linear_product(static_cast<std::size_t>(std::lround(std::clamp(t, 0.0f, 1.0f) * 1000.0f)));
      return {std::sqrt(product), std::sqrt(1.0 - product)};
    }
  }
  throw Error("schedule: unknown kind");
}

// The number that the network's time embedding reads, in [0, 1000).
inline float timestep(Schedule schedule, float t) {
  switch (schedule) {
    case Schedule::cosine:
      return std::min(t * 1000.0f, 999.999f);
    case Schedule::scaled_linear:
      return std::max(0.0f, static_cast<float>(std::lround(t * 1000.0f)) - 1.0f);
  }
  throw Error("schedule: unknown kind");
}

// The time of sampling step i of n (i = n: the picture), in descending order from 1 to 0.
inline float step_time(std::size_t i, std::size_t n, float shift) {
  return i == 0 ? 1.0f : i >= n ? 0.0f : shifted(1.0f - static_cast<float>(i) / static_cast<float>(n), shift);
}

// Network output at (z, level) -> the picture x and the noise eps that it stands for (Salimans and Ho, arXiv 2202.00512, 4).
struct Denoised {
  float x, eps;
};
inline Denoised denoised(Prediction prediction, NoiseLevel l, float z, float output) {
  const auto alpha = static_cast<float>(l.alpha), sigma = static_cast<float>(l.sigma);
  switch (prediction) {
    case Prediction::v:
      return {alpha * z - sigma * output, sigma * z + alpha * output};
    case Prediction::sample:
      return {output, (z - alpha * output) / std::max(sigma, 1e-6f)};
    case Prediction::epsilon:
      return {(z - sigma * output) / std::max(alpha, 1e-6f), output};
  }
  throw Error("prediction: unknown kind");
}

// How fast denoised().x changes with the output.
inline float picture_slope(Prediction prediction, NoiseLevel l) {
  const auto alpha = static_cast<float>(l.alpha), sigma = static_cast<float>(l.sigma);
  switch (prediction) {
    case Prediction::v:
      return -sigma;
    case Prediction::sample:
      return 1.0f;
    case Prediction::epsilon:
      return -sigma / std::max(alpha, 1e-6f);
  }
  throw Error("prediction: unknown kind");
}

// What the network is trained to put out for (x, eps).
inline float target(Prediction prediction, NoiseLevel l, float x, float eps) {
  const auto alpha = static_cast<float>(l.alpha), sigma = static_cast<float>(l.sigma);
  switch (prediction) {
    case Prediction::v:
      return alpha * eps - sigma * x;
    case Prediction::sample:
      return x;
    case Prediction::epsilon:
      return eps;
  }
  throw Error("prediction: unknown kind");
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
