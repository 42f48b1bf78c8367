// SPDX-License-Identifier: Apache-2.0
// Activations and the gate against the oracle and central differences.
#include "catch.hpp"
#include "gradient_check.hpp"
#include "mobilediffusion/kernels/kernels.hpp"
#include "mobilediffusion/kernels/reference/activation.hpp"

using namespace mobilediffusion;
using namespace kernel_tests;

namespace {
constexpr Activation all[] = {Activation::none, Activation::silu, Activation::gelu, Activation::quick_gelu, Activation::relu};
}

TEST_CASE("activate equals the oracle, also far from zero, and does not depend on the threads") {
  const Executor one(1), two = Executor::oversubscribed(2);
  for (const Activation activation : all)
    for (const std::size_t n : {1u, 15u, 17u, 1000u, 50001u}) {
      CAPTURE(static_cast<int>(activation), n);
      Floats x = normals(n, 1);
      for (float& v : x) v *= 4.0f;
      if (n > 100) {
        x[3] = 0.0f;
        x[4] = -200.0f;
        x[5] = 200.0f;
        x[6] = -1e30f;
      }
      Floats expected(n), a(n), b = x;
      kernels::reference::activate(activation, x.data(), expected.data(), n);
      kernels::activate(one, activation, x.data(), a.data(), n);
      kernels::activate(two, activation, b.data(), b.data(), n);
      CHECK(same_bytes(a, b));
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < n; ++i)
        if (!(std::fabs(a[i] - expected[i]) <= 1e-6f + 2e-6f * std::fabs(expected[i]))) ++wrong;
      CHECK(wrong == 0);
    }
}

TEST_CASE("activate_backward equals central differences") {
  const Executor one(1), two = Executor::oversubscribed(2);
  for (const Activation activation : all)
    for (const std::size_t n : {5u, 16u, 133u}) {
      CAPTURE(static_cast<int>(activation), n);
      const Floats x = normals(n, 2), dy = normals(n, 3);
      Doubles xd = widened(x), y(n);
      const auto loss = [&] {
        kernels::reference::activate(activation, xd.data(), y.data(), n);
        return dot(y, dy);
      };
      Floats dx(n);
      kernels::activate_backward(one, activation, x.data(), dy.data(), dx.data(), n);
      CHECK(relative_error(dx, numerical_gradient(xd, loss)) < 2e-6);
    }
  const std::size_t n = 40001;
  const Floats x = normals(n, 4), dy = normals(n, 5);
  Floats a(n), b = dy;
  kernels::activate_backward(one, Activation::gelu, x.data(), dy.data(), a.data(), n);
  kernels::activate_backward(two, Activation::gelu, x.data(), b.data(), b.data(), n);
  CHECK(same_bytes(a, b));
}

TEST_CASE("gate takes the value first and the gate second") {
  const Executor ex(1);
  const Floats x = {2.0f, 3.0f, -1.0f, 4.0f};
  Floats y(2);
  kernels::gate(ex, Activation::relu, x.data(), y.data(), 1, 2);
  CHECK(y == Floats{0.0f, 12.0f});
}

TEST_CASE("gate and gate_backward equal the oracle and central differences") {
  const Executor one(1), two = Executor::oversubscribed(2);
  for (const Activation activation : all)
    for (const std::size_t hidden : {1u, 16u, 37u}) {
      CAPTURE(static_cast<int>(activation), hidden);
      const std::size_t rows = 3, n = rows * hidden;
      const Floats x = normals(2 * n, 6), dy = normals(n, 7);
      Floats y(n), expected(n), dx(2 * n);
      kernels::gate(one, activation, x.data(), y.data(), rows, hidden);
      kernels::reference::gate(activation, x.data(), expected.data(), rows, hidden);
      CHECK(relative_error(y, expected) < 2e-6);
      Doubles xd = widened(x), yd(n);
      const auto loss = [&] {
        kernels::reference::gate(activation, xd.data(), yd.data(), rows, hidden);
        return dot(yd, dy);
      };
      kernels::gate_backward(one, activation, x.data(), dy.data(), dx.data(), rows, hidden);
      CHECK(relative_error(dx, numerical_gradient(xd, loss)) < 2e-6);
    }
  const std::size_t rows = 201, hidden = 131, n = rows * hidden;
  const Floats x = normals(2 * n, 8), dy = normals(n, 9);
  Floats y1(n), y2(n), d1(2 * n), d2(2 * n);
  kernels::gate(one, Activation::silu, x.data(), y1.data(), rows, hidden);
  kernels::gate(two, Activation::silu, x.data(), y2.data(), rows, hidden);
  kernels::gate_backward(one, Activation::silu, x.data(), dy.data(), d1.data(), rows, hidden);
  kernels::gate_backward(two, Activation::silu, x.data(), dy.data(), d2.data(), rows, hidden);
  CHECK(same_bytes(y1, y2));
  CHECK(same_bytes(d1, d2));
}
