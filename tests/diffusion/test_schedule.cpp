// SPDX-License-Identifier: Apache-2.0
// Noise schedules against published numbers, and what a network's output means: every conversion undoes another.
#include <cmath>
#include <mobilediffusion/diffusion/schedule.hpp>

#include "catch.hpp"

using namespace mobilediffusion;

namespace {
constexpr Schedule schedules[] = {Schedule::cosine, Schedule::scaled_linear};
constexpr Prediction predictions[] = {Prediction::v, Prediction::sample, Prediction::epsilon};
}  // namespace

TEST_CASE("signal and noise share unit variance, and noise grows with time", "[diffusion]") {
  for (const Schedule schedule : schedules) {
    float before = 1.0f;
    for (int i = 0; i <= 100; ++i) {
      const NoiseLevel l = noise_level(schedule, 0.01f * static_cast<float>(i));
      CHECK(l.alpha * l.alpha + l.sigma * l.sigma == Approx(1.0f));
      CHECK((i == 0 || l.alpha < before));
      CHECK(l.alpha >= 0.0f);
      before = l.alpha;
    }
    CHECK(noise_level(schedule, 0.0f).alpha == 1.0f);
    CHECK(noise_level(schedule, 0.0f).sigma == 0.0f);
  }
}

TEST_CASE("the scaled linear schedule is Stable Diffusion's", "[diffusion]") {
  // alphas_cumprod of diffusers' DDPMScheduler(beta_schedule="scaled_linear", 0.00085, 0.012): its step k is our (k + 1) / 1000.
  const auto alphas_cumprod = [](int k) {
    const float alpha = noise_level(Schedule::scaled_linear, static_cast<float>(k + 1) / 1000.0f).alpha;
    return alpha * alpha;
  };
  CHECK(alphas_cumprod(0) == Approx(0.99915).epsilon(1e-6));
  CHECK(alphas_cumprod(499) == Approx(0.2777).epsilon(2e-3));
  CHECK(alphas_cumprod(999) == Approx(0.0046601).epsilon(1e-4));
  CHECK(timestep(Schedule::scaled_linear, 0.001f) == 0.0f);
  CHECK(timestep(Schedule::scaled_linear, 0.5f) == 499.0f);
  CHECK(timestep(Schedule::scaled_linear, 1.0f) == 999.0f);
  CHECK(timestep(Schedule::scaled_linear, 0.0f) == 0.0f);
}

TEST_CASE("the cosine schedule ends in pure noise", "[diffusion]") {
  CHECK(noise_level(Schedule::cosine, 1.0f / 3.0f).alpha == Approx(std::sqrt(0.75)));
  CHECK(noise_level(Schedule::cosine, 0.5f).alpha == Approx(std::sqrt(0.5)));
  CHECK(noise_level(Schedule::cosine, 1.0f).alpha == Approx(0.0f).margin(1e-7));
  CHECK(timestep(Schedule::cosine, 0.25f) == 250.0f);
  CHECK(timestep(Schedule::cosine, 1.0f) < 1000.0f);
}

TEST_CASE("shifting time keeps its ends, is known in the middle and undone by the inverse", "[diffusion]") {
  CHECK(shifted(0.5f, 3.0f) == 0.75f);
  CHECK(shifted(0.25f, 3.0f) == 0.5f);
  for (const float s : {0.5f, 1.0f, 3.0f}) {
    CHECK(shifted(0.0f, s) == 0.0f);
    CHECK(shifted(1.0f, s) == 1.0f);
    for (const float t : {0.1f, 0.5f, 0.9f}) CHECK(shifted(shifted(t, s), 1.0f / s) == Approx(t));
  }
  CHECK(shifted(0.3f, 1.0f) == 0.3f);
}

TEST_CASE("sampling times fall from noise to the picture", "[diffusion]") {
  for (const std::size_t n : {std::size_t{1}, std::size_t{4}, std::size_t{20}}) {
    CHECK(step_time(0, n, 3.0f) == 1.0f);
    CHECK(step_time(n, n, 3.0f) == 0.0f);
    for (std::size_t i = 0; i < n; ++i) CHECK(step_time(i, n, 3.0f) > step_time(i + 1, n, 3.0f));
  }
  CHECK(step_time(1, 4, 1.0f) == 0.75f);
  CHECK(step_time(2, 4, 3.0f) == 0.75f);
}

TEST_CASE("from the target of every prediction the picture and the noise come back", "[diffusion]") {
  for (const Schedule schedule : schedules)
    for (const Prediction prediction : predictions)
      for (const float t : {0.1f, 0.5f, 0.9f})
        for (const float x : {-1.5f, 0.25f}) {
          const float eps = 0.75f;
          const NoiseLevel l = noise_level(schedule, t);
          const float z = l.alpha * x + l.sigma * eps;
          const Denoised d = denoised(prediction, l, z, target(prediction, l, x, eps));
          CHECK(d.x == Approx(x).margin(1e-5));
          CHECK(d.eps == Approx(eps).margin(1e-5));
          CHECK(l.alpha * d.x + l.sigma * d.eps == Approx(z).margin(1e-5));
        }
}

TEST_CASE("what each prediction is", "[diffusion]") {
  const NoiseLevel l{0.8f, 0.6f};
  CHECK(target(Prediction::v, l, 2.0f, 3.0f) == Approx(0.8 * 3 - 0.6 * 2));
  CHECK(target(Prediction::sample, l, 2.0f, 3.0f) == 2.0f);
  CHECK(target(Prediction::epsilon, l, 2.0f, 3.0f) == 3.0f);
  // Nothing divides by zero where there is no signal or no noise.
  CHECK(std::isfinite(denoised(Prediction::epsilon, {0.0f, 1.0f}, 0.5f, 0.25f).x));
  CHECK(std::isfinite(denoised(Prediction::sample, {1.0f, 0.0f}, 0.5f, 0.25f).eps));
  CHECK(denoised(Prediction::v, {0.0f, 1.0f}, 0.5f, 0.25f).x == -0.25f);
}

TEST_CASE("the picture moves with the output as its slope says", "[diffusion]") {
  for (const Schedule schedule : schedules)
    for (const Prediction prediction : predictions)
      for (const float t : {0.2f, 0.6f, 0.95f}) {
        const NoiseLevel l = noise_level(schedule, t);
        const float moved = denoised(prediction, l, 0.7f, 1.5f).x - denoised(prediction, l, 0.7f, 0.5f).x;
        CHECK(moved == Approx(picture_slope(prediction, l)).epsilon(1e-4));
      }
}
