// SPDX-License-Identifier: Apache-2.0
// Group and layer normalization against the oracle, and their gradients against central differences.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include "catch.hpp"
#include "gradient_check.hpp"
#include "mobilediffusion/kernels/kernels.hpp"
#include "mobilediffusion/kernels/reference/norm.hpp"

using namespace mobilediffusion;
using namespace kernel_tests;

namespace {

struct GroupCase {
  std::size_t batch, pixels, channels, groups;
};

Floats gains(std::size_t channels, std::uint64_t stream) {
  Floats out = normals(channels, stream);
  for (float& v : out) v = 1.0f + 0.3f * v;
  return out;
}

struct GroupGradients {
  Floats dx, dgamma, dbeta;
};

GroupGradients group_gradients(const Executor& ex, const GroupCase& s, Activation activation, const Floats& x, const Floats& dy,
                               const Floats& gamma, const Floats& beta, float start, bool accumulate) {
  Floats y(x.size()), statistics(s.batch * s.groups * 2), partial(s.batch * 2 * s.channels);
  kernels::group_norm(ex, x.data(), y.data(), s.batch, s.pixels, s.channels, s.groups, 1e-5f, gamma.data(), beta.data(),
                      activation, statistics.data());
  GroupGradients g{Floats(x.size(), start), Floats(s.channels, start), Floats(s.channels, start)};
  kernels::group_norm_backward(ex, x.data(), dy.data(), g.dx.data(), accumulate, s.batch, s.pixels, s.channels, s.groups,
                               gamma.data(), beta.data(), activation, statistics.data(), g.dgamma.data(), g.dbeta.data(),
                               partial.data());
  return g;
}

}  // namespace

TEST_CASE("group_norm equals the oracle and does not depend on the threads") {
  const Executor one(1), two = Executor::oversubscribed(2), three = Executor::oversubscribed(3);
  for (const GroupCase s :
       {GroupCase{2, 16, 32, 8}, GroupCase{3, 49, 36, 9}, GroupCase{1, 1031, 96, 32}, GroupCase{5, 300, 40, 1},
        GroupCase{1, 3, 7, 7}, GroupCase{3, 600, 130, 26}, GroupCase{7, 1000, 48, 12}})
    for (const Activation activation : {Activation::none, Activation::silu}) {
      CAPTURE(s.batch, s.pixels, s.channels, s.groups, activation == Activation::silu);
      const std::size_t n = s.batch * s.pixels * s.channels;
      const Floats x = normals(n, 1), gamma = gains(s.channels, 2), beta = normals(s.channels, 3);
      Floats expected(n), statistics(s.batch * s.groups * 2);
      kernels::reference::group_norm(x.data(), expected.data(), s.batch, s.pixels, s.channels, s.groups,
                                     static_cast<double>(1e-5f), gamma.data(), beta.data(), activation, statistics.data());
      Floats first;
      for (const Executor* ex : {&one, &two, &three}) {
        Floats y(n), found(statistics.size());
        kernels::group_norm(*ex, x.data(), y.data(), s.batch, s.pixels, s.channels, s.groups, 1e-5f, gamma.data(), beta.data(),
                            activation, found.data());
        if (first.empty()) first = y;
        CHECK(same_bytes(y, first));
        CHECK(relative_error(y, expected) < 2e-6);
        CHECK(relative_error(found, statistics) < 2e-6);
        Floats in_place = x;
        kernels::group_norm(*ex, in_place.data(), in_place.data(), s.batch, s.pixels, s.channels, s.groups, 1e-5f, gamma.data(),
                            beta.data(), activation, found.data());
        CHECK(same_bytes(in_place, first));
      }
    }
}

#ifndef MOBILEDIFFUSION_NO_THREADS
#if defined(__x86_64__)  // elsewhere nothing passes the caches, and emulators would take minutes
TEST_CASE("group_norm of more than caches hold gives the bytes that it gives in place") {
  const Executor ex(2);
  constexpr std::size_t channels = 32, pixels = 131'101, floats = pixels * channels;
  static_assert(floats >= kernels::stream_floats);
  const AlignedBuffer x(floats), y(floats);
  Random(3, 1).normals({x.data(), floats});
  const std::vector<float> gamma(channels, 1.5f), beta(channels, -0.25f);
  std::vector<float> statistics(2 * channels);
  for (const Activation activation : {Activation::none, Activation::silu}) {
    kernels::group_norm(ex, x.data(), y.data(), 1, pixels, channels, 8, 1e-5f, gamma.data(), beta.data(), activation,
                        statistics.data());
    const AlignedBuffer in_place(floats);
    std::copy_n(x.data(), floats, in_place.data());
    kernels::group_norm(ex, in_place.data(), in_place.data(), 1, pixels, channels, 8, 1e-5f, gamma.data(), beta.data(),
                        activation, statistics.data());
    CHECK(std::memcmp(y.data(), in_place.data(), floats * sizeof(float)) == 0);
  }
}
#endif

TEST_CASE("group_norm in two threads with one executor is right or refused, between its loops too") {
  const Executor ex = Executor::oversubscribed(2);
  const std::size_t pixels = 64, channels = 2048, groups = 4;  // long between the loops
  const Floats gamma(channels, 1.0f), beta(channels, 0.0f);
  const auto normalized = [&](const Floats& x) {
    Floats y(x.size()), statistics(groups * 2);
    kernels::group_norm(ex, x.data(), y.data(), 1, pixels, channels, groups, 1e-5f, gamma.data(), beta.data(), Activation::none,
                        statistics.data());
    return y;
  };
  std::atomic<int> right{0}, wrong{0}, refused{0};
  const Floats inputs[] = {normals(pixels * channels, 60), normals(pixels * channels, 61)};
  const Floats expected[] = {normalized(inputs[0]), normalized(inputs[1])};
  const auto use = [&](int which) {
    for (int done = 0, tries = 0; done < 100 && tries < 1'000'000; ++tries) try {
        ++(same_bytes(normalized(inputs[which]), expected[which]) ? right : wrong);
        ++done;
      } catch (const Error&) {
        ++refused;  // and at once again, to come between two loops of the other
      }
  };
  std::thread other(use, 1);
  use(0);
  other.join();
  CHECK(wrong == 0);
  CHECK(right > 0);
}
#endif

TEST_CASE("group_norm keeps its digits under a large offset and an outlier") {
  const Executor ex(2);
  const std::size_t pixels = 4096, channels = 20, groups = 5;
  Floats x = normals(pixels * channels, 4);
  for (float& v : x) v = 1000.0f + v;
  x[0] = 1e4f;  // the pixel the sums are shifted by
  const Floats gamma(channels, 1.0f), beta(channels, 0.0f);
  Floats y(x.size()), expected(x.size()), found(groups * 2), statistics(groups * 2);
  kernels::group_norm(ex, x.data(), y.data(), 1, pixels, channels, groups, 1e-6f, gamma.data(), beta.data(), Activation::none,
                      found.data());
  kernels::reference::group_norm(x.data(), expected.data(), 1, pixels, channels, groups, static_cast<double>(1e-6f), gamma.data(),
                                 beta.data(), Activation::none, statistics.data());
  for (std::size_t g = 0; g < groups; ++g) {
    CHECK(found[2 * g] == Approx(statistics[2 * g]).epsilon(1e-6));
    CHECK(found[2 * g + 1] == Approx(statistics[2 * g + 1]).epsilon(1e-4));
  }
}

TEST_CASE("group_norm refuses what it cannot divide") {
  const Executor ex(1);
  Floats x(30), s(30);
  CHECK_THROWS_AS(kernels::group_norm(ex, x.data(), x.data(), 1, 1, 30, 4, 1e-5f, s.data(), s.data(), Activation::none, s.data()),
                  Error);
  CHECK_THROWS_AS(kernels::group_norm(ex, x.data(), x.data(), 1, 1, 30, 3, 1e-5f, s.data(), s.data(), Activation::relu, s.data()),
                  Error);
}

TEST_CASE("group_norm_backward equals central differences") {
  const Executor ex(1);
  for (const GroupCase s : {GroupCase{2, 5, 12, 4}, GroupCase{1, 9, 21, 3}, GroupCase{3, 4, 16, 16}})
    for (const Activation activation : {Activation::none, Activation::silu}) {
      const std::size_t n = s.batch * s.pixels * s.channels;
      const Floats x = normals(n, 5), dy = normals(n, 6), gamma = gains(s.channels, 7), beta = normals(s.channels, 8);
      Doubles xd = widened(x), gd = widened(gamma), bd = widened(beta), y(n), statistics(s.batch * s.groups * 2);
      const auto loss = [&] {
        kernels::reference::group_norm(xd.data(), y.data(), s.batch, s.pixels, s.channels, s.groups, 1e-5, gd.data(), bd.data(),
                                       activation, statistics.data());
        return dot(y, dy);
      };
      const GroupGradients g = group_gradients(ex, s, activation, x, dy, gamma, beta, 0.0f, false);
      CHECK(relative_error(g.dx, numerical_gradient(xd, loss)) < 1e-5);
      CHECK(relative_error(g.dgamma, numerical_gradient(gd, loss)) < 1e-5);
      CHECK(relative_error(g.dbeta, numerical_gradient(bd, loss)) < 1e-5);
    }
}

TEST_CASE("group_norm_backward accumulates and does not depend on the threads") {
  const Executor one(1), two = Executor::oversubscribed(2), three = Executor::oversubscribed(3);
  for (const GroupCase s : {GroupCase{1, 1031, 96, 32}, GroupCase{3, 600, 130, 26}, GroupCase{4, 64, 40, 8}})
    for (const Activation activation : {Activation::none, Activation::silu}) {
      const std::size_t n = s.batch * s.pixels * s.channels;
      const Floats x = normals(n, 9), dy = normals(n, 10), gamma = gains(s.channels, 11), beta = normals(s.channels, 12);
      const GroupGradients a = group_gradients(one, s, activation, x, dy, gamma, beta, 0.0f, false);
      const GroupGradients added = group_gradients(one, s, activation, x, dy, gamma, beta, 2.0f, true);
      for (const Executor* ex : {&two, &three}) {
        const GroupGradients b = group_gradients(*ex, s, activation, x, dy, gamma, beta, 0.0f, false);
        const GroupGradients c = group_gradients(*ex, s, activation, x, dy, gamma, beta, 2.0f, true);
        CHECK(same_bytes(a.dx, b.dx));
        CHECK(same_bytes(a.dgamma, b.dgamma));
        CHECK(same_bytes(a.dbeta, b.dbeta));
        CHECK(same_bytes(added.dx, c.dx));
        CHECK(same_bytes(added.dgamma, c.dgamma));
      }
      Floats expected = a.dx, gamma_expected = a.dgamma;
      for (float& v : expected) v += 2.0f;
      for (float& v : gamma_expected) v += 2.0f;
      CHECK(relative_error(added.dx, expected) < 1e-6);
      CHECK(relative_error(added.dgamma, gamma_expected) < 1e-6);
    }
}

TEST_CASE("layer_norm equals the oracle and does not depend on the threads") {
  const Executor one(1), two = Executor::oversubscribed(2);
  for (const std::size_t channels : {1u, 7u, 16u, 40u, 67u, 320u})
    for (const float offset : {0.0f, 1000.0f}) {
      const std::size_t rows = 131, n = rows * channels;
      Floats x = normals(n, 13);
      for (float& v : x) v += offset;
      const Floats gamma = gains(channels, 14), beta = normals(channels, 15);
      Floats expected(n), a(n), b(n), statistics(rows * 2), found(rows * 2);
      kernels::reference::layer_norm(x.data(), expected.data(), rows, channels, static_cast<double>(1e-5f), gamma.data(),
                                     beta.data(), statistics.data());
      kernels::layer_norm(one, x.data(), a.data(), rows, channels, 1e-5f, gamma.data(), beta.data(), found.data());
      kernels::layer_norm(two, x.data(), b.data(), rows, channels, 1e-5f, gamma.data(), beta.data(), found.data());
      CHECK(same_bytes(a, b));
      CHECK(relative_error(a, expected) < (offset == 0.0f ? 2e-6 : 2e-4));  // the rounding of the mean itself
      if (channels > 1) CHECK(relative_error(found, statistics) < 2e-6);
    }
}

TEST_CASE("layer_norm_backward equals central differences, accumulates, and does not depend on the threads") {
  const Executor one(1), two = Executor::oversubscribed(2);
  for (const std::size_t channels : {3u, 19u, 33u}) {
    const std::size_t rows = 21, n = rows * channels;
    const Floats x = normals(n, 16), dy = normals(n, 17), gamma = gains(channels, 18), beta = normals(channels, 19);
    Doubles xd = widened(x), gd = widened(gamma), bd = widened(beta), y(n), wide(rows * 2);
    const auto loss = [&] {
      kernels::reference::layer_norm(xd.data(), y.data(), rows, channels, 1e-5, gd.data(), bd.data(), wide.data());
      return dot(y, dy);
    };
    Floats out(n), statistics(rows * 2), partial(kernels::layer_norm_partial_floats(rows, channels));
    kernels::layer_norm(one, x.data(), out.data(), rows, channels, 1e-5f, gamma.data(), beta.data(), statistics.data());
    Floats dx(n), dgamma(channels), dbeta(channels);
    kernels::layer_norm_backward(one, x.data(), dy.data(), dx.data(), false, rows, channels, gamma.data(), statistics.data(),
                                 dgamma.data(), dbeta.data(), partial.data());
    CHECK(relative_error(dx, numerical_gradient(xd, loss, 1e-6)) < 3e-5);
    CHECK(relative_error(dgamma, numerical_gradient(gd, loss)) < 1e-5);
    CHECK(relative_error(dbeta, numerical_gradient(bd, loss)) < 1e-5);
    Floats added(n, 2.0f), dgamma2(channels, 2.0f), dbeta2(channels);
    kernels::layer_norm_backward(one, x.data(), dy.data(), added.data(), true, rows, channels, gamma.data(), statistics.data(),
                                 dgamma2.data(), dbeta2.data(), partial.data());
    for (float& v : added) v -= 2.0f;
    for (float& v : dgamma2) v -= 2.0f;
    CHECK(relative_error(added, dx) < 2e-6);
    CHECK(relative_error(dgamma2, dgamma) < 2e-6);
  }
  const std::size_t rows = 2000, channels = 67, n = rows * channels;
  const Floats x = normals(n, 20), dy = normals(n, 21), gamma = gains(channels, 22), beta(channels);
  Floats y(n), statistics(rows * 2), partial(kernels::layer_norm_partial_floats(rows, channels));
  kernels::layer_norm(one, x.data(), y.data(), rows, channels, 1e-5f, gamma.data(), beta.data(), statistics.data());
  Floats dx[2], dgamma[2], dbeta[2];
  for (int k = 0; k < 2; ++k) {
    dx[k].resize(n);
    dgamma[k].resize(channels);
    dbeta[k].resize(channels);
    kernels::layer_norm_backward(k == 0 ? one : two, x.data(), dy.data(), dx[k].data(), false, rows, channels, gamma.data(),
                                 statistics.data(), dgamma[k].data(), dbeta[k].data(), partial.data());
  }
  CHECK(same_bytes(dx[0], dx[1]));
  CHECK(same_bytes(dgamma[0], dgamma[1]));
  CHECK(same_bytes(dbeta[0], dbeta[1]));
}

TEST_CASE("group_norm of two tensors equals that of their concatenation, bit for bit", "[kernels][norm]") {
  const std::size_t batch = 2;
  for (const auto& [a_channels, b_channels, groups] :
       {std::array<std::size_t, 3>{32, 16, 4}, {5, 7, 3}, {24, 9, 11}, {64, 32, 32}})
    for (const std::size_t pixels : {1u, 5u, 700u}) {
      const std::size_t channels = a_channels + b_channels;
      std::vector<float> a(batch * pixels * a_channels), b(batch * pixels * b_channels), joined(batch * pixels * channels),
          gamma(channels), beta(channels);
      mobilediffusion::Random(1, 1).normals(a);
      mobilediffusion::Random(1, 2).normals(b);
      mobilediffusion::Random(1, 3).normals(gamma);
      mobilediffusion::Random(1, 4).normals(beta);
      for (std::size_t i = 0; i < batch * pixels; ++i) {
        std::copy_n(&a[i * a_channels], a_channels, &joined[i * channels]);
        std::copy_n(&b[i * b_channels], b_channels, &joined[i * channels + a_channels]);
      }
      std::vector<float> expected(joined.size()), found(joined.size()), statistics(batch * groups * 2), same = statistics;
      for (const int threads : {1, 2}) {
        const Executor ex = Executor::oversubscribed(threads);
        mobilediffusion::kernels::group_norm(ex, joined.data(), expected.data(), batch, pixels, channels, groups, 1e-5f,
                                             gamma.data(), beta.data(), mobilediffusion::Activation::silu, statistics.data());
        mobilediffusion::kernels::group_norm_joined(ex, a.data(), a_channels, b.data(), b_channels, found.data(), batch, pixels,
                                                    groups, 1e-5f, gamma.data(), beta.data(), mobilediffusion::Activation::silu,
                                                    same.data());
        INFO(a_channels << " + " << b_channels << ", pixels " << pixels << ", threads " << threads);
        CHECK(statistics == same);
        CHECK(expected == found);
      }
    }
}

TEST_CASE("norms do not hide sums of squares that overflow", "[kernels][norm]") {
  const Executor ex(1);
  Floats x = normals(4 * 32, 1), y(x.size()), statistics(2 * 4);
  const Floats gamma(32, 1.0f), beta(32, 0.0f);
  x[5] = 1e20f;  // of the first group of 8 channels, and of the first row
  kernels::group_norm(ex, x.data(), y.data(), 1, 4, 32, 4, 1e-5f, gamma.data(), beta.data(), Activation::none, statistics.data());
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y[i]) == (i % 32 < 8));
  kernels::layer_norm(ex, x.data(), y.data(), 4, 32, 1e-5f, gamma.data(), beta.data(), statistics.data());
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y[i]) == (i < 32));
}
