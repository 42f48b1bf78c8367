// SPDX-License-Identifier: Apache-2.0
// The optimizer against the plain formulas in double.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <mobilediffusion/core/random.hpp>
#include <mobilediffusion/train/adamw.hpp>
#include <utility>
#include <vector>

#include "catch.hpp"

using namespace mobilediffusion;
using namespace mobilediffusion::train;

namespace {

std::vector<float> normals(std::size_t n, std::uint64_t stream) {
  std::vector<float> x(n);
  Random(11, stream).normals(x);
  return x;
}

bool same_bytes(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

const std::size_t sizes[] = {0, 1, 15, 64, 4095, 4097, 50001};

}  // namespace

TEST_CASE("AdamW follows the published formulas", "[train][adamw]") {
  const Executor ex(2);
  for (const std::size_t n : sizes)
    for (const bool decay : {false, true})
      for (const float beta1 : {0.9f, 0.0f}) {
        const AdamWConfig config{0.01f, beta1, 0.99f, 1e-8f, 0.1f};
        std::vector<float> p = normals(n, 1), m(n), v(n), average = p;
        std::vector<double> dp(p.begin(), p.end()), dm(n), dv(n), da(p.begin(), p.end());
        const double b1 = static_cast<double>(beta1), b2 = static_cast<double>(config.beta2),
                     lr = static_cast<double>(config.learning_rate);
        for (std::size_t step = 1; step <= 5; ++step) {
          const std::vector<float> g = normals(n, 10 + step);
          adamw_step(ex, config, step, p.data(), g.data(), m.data(), v.data(), n, 0.5f, decay, average.data(), 0.9f);
          for (std::size_t i = 0; i < n; ++i) {
            const double x = 0.5 * static_cast<double>(g[i]);
            if (decay) dp[i] -= lr * static_cast<double>(config.weight_decay) * dp[i];
            dm[i] = b1 * dm[i] + (1 - b1) * x;
            dv[i] = b2 * dv[i] + (1 - b2) * x * x;
            const double s = static_cast<double>(step);
            dp[i] -= lr * (dm[i] / (1 - std::pow(b1, s))) /
                     (std::sqrt(dv[i] / (1 - std::pow(b2, s))) + static_cast<double>(config.eps));
            da[i] = static_cast<double>(0.9f) * da[i] + (1 - static_cast<double>(0.9f)) * dp[i];
          }
        }
        double p_error = 0, m_error = 0, v_error = 0, average_error = 0;
        for (std::size_t i = 0; i < n; ++i) {
          p_error = std::max(p_error, std::abs(static_cast<double>(p[i]) - dp[i]));
          m_error = std::max(m_error, std::abs(static_cast<double>(m[i]) - dm[i]));
          v_error = std::max(v_error, std::abs(static_cast<double>(v[i]) - dv[i]));
          average_error = std::max(average_error, std::abs(static_cast<double>(average[i]) - da[i]));
        }
        CAPTURE(n, decay, beta1);
        CHECK(p_error < 2e-6);
        CHECK(m_error < 1e-6);
        CHECK(v_error < 1e-6);
        CHECK(average_error < 2e-6);
      }
}

TEST_CASE("the first AdamW step has the size of the learning rate, whatever the gradient's", "[train][adamw]") {
  const Executor ex(1);
  for (const float size : {1e-3f, 1.0f, 1e3f}) {
    float p[3] = {1, 1, 1}, m[3] = {}, v[3] = {};
    const float g[3] = {size, -size, 0};
    adamw_step(ex, {.learning_rate = 0.125f}, 1, p, g, m, v, 3, 1.0f, false);
    CHECK(p[0] == Approx(0.875));
    CHECK(p[1] == Approx(1.125));
    CHECK(p[2] == 1.0f);
  }
  float x = 0;
  CHECK_THROWS_AS(adamw_step(ex, {}, 0, &x, &x, &x, &x, 1, 1.0f, false), Error);
}

TEST_CASE("the fused moving average is the separate one", "[train][adamw]") {
  const Executor ex(2);
  const std::size_t n = 9001;
  const std::vector<float> g = normals(n, 1);
  std::vector<float> p = normals(n, 2), m(n), v(n), q = p, qm(n), qv(n), fused = normals(n, 3), apart = fused;
  adamw_step(ex, {}, 1, p.data(), g.data(), m.data(), v.data(), n, 1.0f, true, fused.data(), 0.75f);
  adamw_step(ex, {}, 1, q.data(), g.data(), qm.data(), qv.data(), n, 1.0f, true);
  const float before = apart[9000];
  ema_update(ex, apart.data(), q.data(), n, 0.75f);
  CHECK(same_bytes(p, q));
  CHECK(same_bytes(fused, apart));
  CHECK(apart[9000] == Approx(0.75f * before + 0.25f * q[9000]));
}

TEST_CASE("squared norm and clipping", "[train][adamw]") {
  const Executor ex(2);
  for (const std::size_t n : sizes) {
    const std::vector<float> g = normals(n, 4);
    double expected = 0;
    for (const float x : g) expected += static_cast<double>(x) * static_cast<double>(x);
    CHECK(squared_norm(ex, g.data(), n) == Approx(expected).epsilon(1e-6));
  }
  CHECK(clip_scale(16.0, 1.0f) == 0.25f);
  CHECK(clip_scale(0.25, 1.0f) == 1.0f);
  CHECK(clip_scale(1e12, std::numeric_limits<float>::infinity()) == 1.0f);
}

TEST_CASE("one value that is not finite is found wherever it is", "[train][adamw]") {
  const Executor ex(2);
  std::vector<float> x = normals(40003, 5);
  x[7] = std::numeric_limits<float>::max();
  CHECK(all_finite(ex, x.data(), x.size()));
  for (const std::size_t at : {std::size_t{0}, std::size_t{17}, std::size_t{4096}, std::size_t{20000}, std::size_t{40002}})
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
      const float kept = std::exchange(x[at], bad);
      CHECK_FALSE(all_finite(ex, x.data(), x.size()));
      CHECK(all_finite(ex, x.data(), at));
      x[at] = kept;
    }
}

TEST_CASE("the optimizer gives the same bytes on any number of threads", "[train][adamw]") {
  const std::size_t n = 100003;
  const std::vector<float> g = normals(n, 6), start = normals(n, 7);
  const auto run = [&](int threads, std::vector<float>& p) {
    const Executor ex = Executor::oversubscribed(threads);
    std::vector<float> m(n), v(n);
    p = start;
    for (std::size_t step = 1; step <= 3; ++step) adamw_step(ex, {}, step, p.data(), g.data(), m.data(), v.data(), n, 0.3f, true);
    return squared_norm(ex, g.data(), n);
  };
  std::vector<float> one, many;
  const double norm = run(1, one);
  for (const int threads : {2, 3, 5}) {
    CHECK(run(threads, many) == norm);
    CHECK(same_bytes(one, many));
  }
}

TEST_CASE("learning rate: warm-up, plateau, cosine, floor", "[train][adamw]") {
  const LearningRateSchedule s{1.0f, 0.1f, 10, 100, 200};
  CHECK(learning_rate(s, 1) == Approx(0.1));
  CHECK(learning_rate(s, 5) == Approx(0.5));
  CHECK(learning_rate(s, 10) == 1.0f);
  CHECK(learning_rate(s, 100) == 1.0f);
  CHECK(learning_rate(s, 125) == Approx(0.1 + 0.9 * 0.5 * (1 + std::sqrt(0.5))));
  CHECK(learning_rate(s, 150) == Approx(0.55));
  CHECK(learning_rate(s, 200) == 0.1f);
  CHECK(learning_rate(s, 1000) == 0.1f);
  CHECK(learning_rate({.peak = 3.0f}, 1) == 3.0f);
  CHECK(learning_rate({.peak = 3.0f, .warmup_steps = 4}, 1000000) == 3.0f);
}
