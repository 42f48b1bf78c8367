// SPDX-License-Identifier: Apache-2.0
// DDIM where the perfect network is known: for one picture, and for a normal distribution of pictures.
#include <cmath>
#include <mobilediffusion/core/activation.hpp>
#include <mobilediffusion/diffusion/sampler.hpp>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace mobilediffusion;

namespace {
constexpr Schedule schedules[] = {Schedule::cosine, Schedule::scaled_linear};
constexpr Prediction predictions[] = {Prediction::v, Prediction::sample, Prediction::epsilon};

// n steps from z; picture(level, z) is the mean of all pictures that z can stand for.
template <class Picture>
float sample(Schedule schedule, Prediction prediction, std::size_t n, float shift, float z, Picture&& picture) {
  for (std::size_t i = 0; i < n; ++i) {
    const NoiseLevel from = noise_level(schedule, step_time(i, n, shift)), to = noise_level(schedule, step_time(i + 1, n, shift));
    const float x = picture(from, z), eps = (z - from.alpha * x) / from.sigma, output = target(prediction, from, x, eps);
    ddim_step(prediction, from, to, &output, &z, 1);
  }
  return z;
}
}  // namespace

TEST_CASE("a network that knows the picture reaches it in any number of steps", "[diffusion]") {
  for (const Schedule schedule : schedules)
    for (const Prediction prediction : predictions)
      for (const std::size_t n : {std::size_t{1}, std::size_t{3}, std::size_t{20}}) {
        if (prediction == Prediction::epsilon && schedule == Schedule::cosine) continue;  // no signal at t = 1: nothing to divide
        CHECK(sample(schedule, prediction, n, 3.0f, 0.7f, [](NoiseLevel, float) { return -1.25f; }) ==
              Approx(-1.25f).epsilon(1e-5));
      }
}

TEST_CASE("the exact denoiser of a normal distribution carries noise to that distribution", "[diffusion]") {
  // x ~ N(mean, s^2): E[x | z] = mean + s^2 alpha (z - alpha mean) / (alpha^2 s^2 + sigma^2), and the probability flow is the
  // linear map between the marginals, so every quantile must arrive at its own.
  const double mean = 0.4, s = 0.3;
  for (const Schedule schedule : schedules)
    for (const Prediction prediction : predictions) {
      if (prediction == Prediction::epsilon && schedule == Schedule::cosine) continue;
      for (const double quantile : {-2.0, 0.0, 0.5, 1.5}) {
        const NoiseLevel start = noise_level(schedule, 1.0f);
        const auto deviation = [&](NoiseLevel l) {
          return std::sqrt(static_cast<double>(l.alpha * l.alpha) * s * s + static_cast<double>(l.sigma * l.sigma));
        };
        const float z = static_cast<float>(static_cast<double>(start.alpha) * mean + deviation(start) * quantile);
        const float x = sample(schedule, prediction, 1000, 1.0f, z, [&](NoiseLevel l, float at) {
          const double a = static_cast<double>(l.alpha), d = deviation(l);
          return static_cast<float>(mean + s * s * a * (static_cast<double>(at) - a * mean) / (d * d));
        });
        CAPTURE(quantile);
        CHECK(static_cast<double>(x) == Approx(mean + s * quantile).margin(0.006));
      }
    }
}

TEST_CASE("guidance goes from the unconditional output through the conditional and beyond", "[diffusion]") {
  const std::vector<float> unconditional{1.0f, -2.0f, 0.5f}, conditional{3.0f, -1.0f, 0.5f};
  std::vector<float> out(3);
  guide(unconditional.data(), conditional.data(), 2.5f, out.data(), 3);
  CHECK(out == std::vector<float>{6.0f, 0.5f, 0.5f});
  guide(unconditional.data(), conditional.data(), 1.0f, out.data(), 3);
  CHECK(out == conditional);
  guide(unconditional.data(), conditional.data(), 0.0f, out.data(), 3);
  CHECK(out == unconditional);
  out = conditional;
  guide(unconditional.data(), out.data(), 2.5f, out.data(), 3);  // in place
  CHECK(out == std::vector<float>{6.0f, 0.5f, 0.5f});
}

TEST_CASE("one DDIM step in figures", "[diffusion]") {
  // z = 1, v = 0.5 at (0.6, 0.8): x = 0.6 - 0.4 = 0.2, eps = 0.8 + 0.3 = 1.1; at (0.8, 0.6): 0.16 + 0.66.
  float z = 1.0f;
  const float v = 0.5f;
  ddim_step(Prediction::v, {0.6f, 0.8f}, {0.8f, 0.6f}, &v, &z, 1);
  CHECK(z == Approx(0.82f));
}

TEST_CASE("the picture between two times is what one DDIM step needs to go from one to the other", "[diffusion]") {
  for (const Schedule schedule : schedules)
    for (const std::size_t n : {std::size_t{1}, std::size_t{4}, std::size_t{16}})
      for (std::size_t i = 0; i < n; ++i) {
        const NoiseLevel from = noise_level(schedule, step_time(i, n, 3.0f)),
                         to = noise_level(schedule, step_time(i + 1, n, 3.0f));
        float z = 0.7f;
        const float x = picture_between(from, to, z, -0.4f);
        ddim_step(Prediction::sample, from, to, &x, &z, 1);
        CAPTURE(n, i);
        CHECK(z == Approx(-0.4f).margin(1e-5));
      }
  CHECK(picture_between({0.6f, 0.8f}, {1.0f, 0.0f}, 0.7f, -0.4f) == -0.4f);  // at the end it is the result itself
}

TEST_CASE("the picture between two times is that of a network which is sure of it", "[diffusion]") {
  // Two steps with the same picture are one step with it: what distillation asks for when teacher and student know the picture.
  for (const Schedule schedule : schedules)
    for (const std::size_t i : {std::size_t{0}, std::size_t{3}, std::size_t{7}}) {
      const auto level = [&](std::size_t at) { return noise_level(schedule, step_time(at, 16, 3.0f)); };
      const float x = -1.25f, start = 0.7f;
      float z = start;
      ddim_step(Prediction::sample, level(2 * i), level(2 * i + 1), &x, &z, 1);
      ddim_step(Prediction::sample, level(2 * i + 1), level(2 * i + 2), &x, &z, 1);
      CHECK(picture_between(level(2 * i), level(2 * i + 2), start, z) == Approx(x).epsilon(1e-4));
    }
}

TEST_CASE("an enumerator that is none is an error", "[diffusion]") {
  CHECK_THROWS_AS(is_softmax(static_cast<AttentionKind>(99)), Error);
}
