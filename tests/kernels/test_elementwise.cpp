// SPDX-License-Identifier: Apache-2.0
// Element-wise sums and broadcasts.
#include "catch.hpp"
#include "gradient_check.hpp"
#include "mobilediffusion/kernels/kernels.hpp"
#include "mobilediffusion/kernels/reference/elementwise.hpp"

using namespace mobilediffusion;
using namespace kernel_tests;

TEST_CASE("add, add_to, scale and scale_add equal the oracle on any number of threads") {
  const Executor one(1), three = Executor::oversubscribed(3);
  for (const std::size_t n : {1u, 15u, 16u, 33u, 4099u, 70001u}) {
    const Floats a = normals(n, 1), b = normals(n, 2);
    Floats expected(n);
    for (const Executor* ex : {&one, &three}) {
      Floats y(n + 1, 9.0f);
      kernels::add(*ex, a.data(), b.data(), y.data(), n);
      kernels::reference::scale_add(a.data(), 1.0, b.data(), 1.0, expected.data(), n);
      CHECK(std::equal(expected.begin(), expected.end(), y.begin()));
      CHECK(y[n] == 9.0f);  // the tail stays inside
      Floats sum = b;
      kernels::add_to(*ex, a.data(), sum.data(), n);
      CHECK(sum == expected);
      kernels::scale(*ex, a.data(), 0.3f, sum.data(), n);
      kernels::reference::scale_add(a.data(), static_cast<double>(0.3f), b.data(), 0.0, expected.data(), n);
      CHECK(sum == expected);
    }
    Floats first(n), second = b;
    kernels::scale_add(one, a.data(), 0.3f, b.data(), -1.7f, first.data(), n);
    kernels::scale_add(three, a.data(), 0.3f, second.data(), -1.7f, second.data(), n);
    kernels::reference::scale_add(a.data(), static_cast<double>(0.3f), b.data(), static_cast<double>(-1.7f), expected.data(), n);
    CHECK(relative_error(first, expected) < 1e-6);
    CHECK(same_bytes(first, second));
  }
}

TEST_CASE("add_row_vector and sum_pixels equal the oracle on any number of threads") {
  const Executor one(1), two = Executor::oversubscribed(2);
  for (const std::size_t channels : {1u, 16u, 37u, 67u, 200u})
    for (const std::size_t pixels : {1u, 6u, 500u}) {
      const std::size_t batch = 3, n = batch * pixels * channels;
      const Floats x = normals(n, 3), v = normals(batch * channels, 4);
      Floats a(n), b = x, expected(n);
      kernels::add_row_vector(one, x.data(), v.data(), a.data(), batch, pixels, channels);
      kernels::add_row_vector(two, b.data(), v.data(), b.data(), batch, pixels, channels);
      kernels::reference::add_row_vector(x.data(), v.data(), expected.data(), batch, pixels, channels);
      CHECK(a == expected);
      CHECK(same_bytes(a, b));
      Floats sums(batch * channels, 5.0f), again(batch * channels), sums_expected(batch * channels);
      kernels::sum_pixels(one, x.data(), batch, pixels, channels, sums.data());
      kernels::sum_pixels(two, x.data(), batch, pixels, channels, again.data());
      kernels::reference::sum_pixels(x.data(), batch, pixels, channels, sums_expected.data());
      CHECK(relative_error(sums, sums_expected) < 1e-6);
      CHECK(same_bytes(sums, again));
    }
}
