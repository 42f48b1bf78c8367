// SPDX-License-Identifier: Apache-2.0
// Attention and its gradients against the scalar oracle and against differences of the forward pass.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mobilediffusion/core/random.hpp>
#include <mobilediffusion/kernels/kernels.hpp>
#include <mobilediffusion/kernels/reference/attention.hpp>
#include <vector>

#include "catch.hpp"

using namespace mobilediffusion;
using namespace mobilediffusion::kernels;

namespace {

constexpr float untouched = 12345.0f;  // fills outputs and the gaps between rows

std::vector<float> normals(std::size_t n, std::uint64_t stream) {
  std::vector<float> x(n);
  Random(7, stream).normals(x);
  return x;
}

// Every tensor of one attention, with rows longer than they need to be.
struct Problem {
  AttentionShape shape;
  std::size_t row, ld;
  std::vector<float> q, k, v, dy, y, lse, dq, dk, dv;

  explicit Problem(AttentionShape s, float amplitude = 1.0f)
      : shape(s),
        row(s.heads * s.head_dim),
        ld(row + 5),
        q(normals(s.batch * s.queries * ld, 1)),
        k(normals(s.batch * s.keys * ld, 2)),
        v(normals(s.batch * s.keys * ld, 3)),
        dy(normals(q.size(), 4)),
        y(q.size(), untouched),
        lse(s.batch * s.heads * s.queries),
        dq(q.size(), untouched),
        dk(normals(k.size(), 5)),
        dv(normals(k.size(), 6)) {
    shape.scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
    for (float& x : q) x *= amplitude;
  }
  void forward(const Executor& ex) { attention(ex, shape, q.data(), ld, k.data(), ld, v.data(), ld, y.data(), ld, lse.data()); }
  void backward(const Executor& ex) {
    attention_backward(ex, shape, q.data(), ld, k.data(), ld, v.data(), ld, y.data(), ld, dy.data(), ld, lse.data(), dq.data(),
                       ld, dk.data(), ld, dv.data(), ld);
  }
  void forward_reference(const Executor& ex) {
    reference::attention(ex, shape, q.data(), ld, k.data(), ld, v.data(), ld, y.data(), ld, lse.data());
  }
  void backward_reference(const Executor& ex) {
    reference::attention_backward(ex, shape, q.data(), ld, k.data(), ld, v.data(), ld, nullptr, 0, dy.data(), ld, nullptr,
                                  dq.data(), ld, dk.data(), ld, dv.data(), ld);
  }
};

// Largest difference, over the largest magnitude (at least `least`: a gradient may be zero). Infinite where the result is not
// finite.
double distance(const std::vector<float>& a, const std::vector<float>& expected, double least = 0.1) {
  REQUIRE(a.size() == expected.size());
  double largest = least, difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) return std::numeric_limits<double>::infinity();
    if (expected[i] == untouched) {
      if (a[i] != untouched) return std::numeric_limits<double>::infinity();
      continue;
    }
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - static_cast<double>(expected[i])));
  }
  return difference / largest;
}

bool same_bytes(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Sizes on both sides of the blocks (64 queries, 128 keys) and of every vector width.
const AttentionShape shapes[] = {
    {2, 16, 16, 2, 32}, {3, 64, 24, 2, 64},  {2, 17, 13, 3, 24}, {1, 70, 77, 2, 40},   {1, 65, 129, 1, 80},
    {2, 5, 1, 1, 8},    {1, 33, 300, 2, 48}, {1, 1, 9, 2, 160},  {1, 66, 130, 1, 512}, {1, 130, 260, 1, 12},
};

void compare(AttentionShape shape, float amplitude, double tolerance) {
  const Executor ex(2);
  Problem p(shape, amplitude), r(shape, amplitude);
  CAPTURE(shape.batch, shape.queries, shape.keys, shape.heads, shape.head_dim, shape.causal, static_cast<int>(shape.kind));
  p.forward(ex);
  r.forward_reference(ex);
  CHECK(distance(p.y, r.y) < tolerance);
  CHECK(distance(p.lse, r.lse) < tolerance);
  p.backward(ex);
  r.backward_reference(ex);
  // With a single visible key the softmax is constant: this gradient is a difference of equal terms of about 1.
  const bool one_key = shape.kind == AttentionKind::softmax && (shape.keys == 1 || (shape.causal && shape.queries == 1));
  CHECK(distance(p.dq, r.dq, one_key ? 1.0 : 0.1) < tolerance);
  CHECK(distance(p.dk, r.dk) < tolerance);
  CHECK(distance(p.dv, r.dv) < tolerance);
}

}  // namespace

TEST_CASE("attention equals the scalar oracle on odd sizes, forward and backward", "[kernels][attention]") {
  for (AttentionShape shape : shapes)
    for (const bool causal : {false, true})
      for (const AttentionKind kind : {AttentionKind::softmax, AttentionKind::relu}) {
        shape.causal = causal;
        shape.kind = kind;
        compare(shape, 1.0f, 5e-6);
      }
}

TEST_CASE("attention survives logits far beyond exp's range", "[kernels][attention]") {
  // Scores of some thousands: one key takes all. fp32 scores carry an absolute error of their size times 2^-24, and so do
  // the exponents.
  for (AttentionShape shape : {AttentionShape{1, 40, 200, 2, 32}, AttentionShape{1, 77, 77, 1, 64, true}})
    compare(shape, 2000.0f, 5e-3);
}

TEST_CASE("attention averages the values when all scores are equal, and copies the only visible one", "[kernels][attention]") {
  const Executor ex(1);
  Problem p({1, 130, 150, 1, 16});
  std::fill(p.q.begin(), p.q.end(), 0.0f);
  p.forward(ex);
  double mean = 0;
  for (std::size_t j = 0; j < 150; ++j) mean += static_cast<double>(p.v[j * p.ld + 3]) / 150;
  CHECK(p.y[129 * p.ld + 3] == Approx(mean).margin(1e-6));
  CHECK(p.lse[129] == Approx(std::log(150.0)));
  p.shape.causal = true;
  p.forward(ex);
  CHECK(p.y[3] == p.v[3]);
  CHECK(p.lse[0] == 0.0f);
}

TEST_CASE("attention takes one projection for keys and values, and one gradient for both", "[kernels][attention]") {
  const Executor ex(1);
  for (const AttentionShape shape : {AttentionShape{2, 20, 24, 2, 24}, AttentionShape{1, 70, 140, 2, 64}}) {
    Problem apart(shape), shared(shape);
    apart.v = apart.k;
    apart.forward(ex);
    apart.backward(ex);
    attention(ex, shared.shape, shared.q.data(), shared.ld, shared.k.data(), shared.ld, shared.k.data(), shared.ld,
              shared.y.data(), shared.ld, nullptr);
    CHECK(same_bytes(shared.y, apart.y));
    std::vector<float> both = shared.dk;
    attention_backward(ex, shared.shape, shared.q.data(), shared.ld, shared.k.data(), shared.ld, shared.k.data(), shared.ld,
                       shared.y.data(), shared.ld, shared.dy.data(), shared.ld, apart.lse.data(), shared.dq.data(), shared.ld,
                       both.data(), shared.ld, both.data(), shared.ld);
    CHECK(same_bytes(shared.dq, apart.dq));
    std::vector<float> expected = apart.dk;
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += apart.dv[i] - shared.dv[i];  // dv started from shared.dv
    CHECK(distance(both, expected) < 2e-6);
  }
}

TEST_CASE("attention gradients are the differences of the forward pass", "[kernels][attention]") {
  const Executor ex(1);
  for (const AttentionKind kind : {AttentionKind::softmax, AttentionKind::relu}) {
    Problem p({1, 9, 7, 2, 8, true, kind});
    const auto loss = [&] {
      p.forward(ex);
      double sum = 0;
      for (std::size_t i = 0; i < 9; ++i)
        for (std::size_t c = 0; c < p.row; ++c)
          sum += static_cast<double>(p.y[i * p.ld + c]) * static_cast<double>(p.dy[i * p.ld + c]);
      return sum;
    };
    std::fill(p.dk.begin(), p.dk.end(), 0.0f);
    std::fill(p.dv.begin(), p.dv.end(), 0.0f);
    loss();
    p.backward(ex);
    const auto check = [&](std::vector<float>& x, const std::vector<float>& gradient, std::size_t i) {
      const float at = x[i], h = 0.01f;
      x[i] = at + h;
      const double up = loss();
      x[i] = at - h;
      const double down = loss();
      x[i] = at;
      CAPTURE(i, static_cast<int>(kind));
      CHECK((up - down) / (2 * static_cast<double>(h)) == Approx(gradient[i]).margin(2e-3));
    };
    for (std::size_t row = 0; row < 7; row += 2)
      for (std::size_t c = 0; c < p.row; c += 3) {
        check(p.q, p.dq, row * p.ld + c);
        check(p.k, p.dk, row * p.ld + c);
        check(p.v, p.dv, row * p.ld + c);
      }
  }
}

TEST_CASE("attention gives the same bytes on any number of threads", "[kernels][attention]") {
  // Of the second as many queries pass together on one thread as may, on seven the fewest.
  for (const AttentionShape& shape :
       {AttentionShape{3, 200, 150, 5, 40}, AttentionShape{1, 700, 150, 1, 40}, AttentionShape{1, 700, 700, 1, 40, true}}) {
    Problem one(shape);
    one.forward(Executor(1));
    one.backward(Executor(1));
    for (const int threads : {2, 3, 7}) {
      Problem p(one.shape);
      const Executor ex = Executor::oversubscribed(threads);
      p.forward(ex);
      p.backward(ex);
      CAPTURE(threads, shape.queries);
      CHECK(same_bytes(p.y, one.y));
      CHECK(same_bytes(p.lse, one.lse));
      CHECK(same_bytes(p.dq, one.dq));
      CHECK(same_bytes(p.dk, one.dk));
      CHECK(same_bytes(p.dv, one.dv));
    }
  }
}

TEST_CASE("attention refuses what it cannot compute", "[kernels][attention]") {
  const Executor ex(1);
  Problem p({1, 4, 4, 2, 8});
  const auto with = [&](AttentionShape s, std::size_t ld) {
    attention(ex, s, p.q.data(), ld, p.k.data(), ld, p.v.data(), ld, p.y.data(), ld, nullptr);
  };
  CHECK_NOTHROW(with({1, 4, 4, 2, 8}, 16));
  CHECK_NOTHROW(with({0, 4, 4, 2, 8}, 16));
  CHECK_THROWS_AS(with({1, 4, 4, 2, 8}, 15), Error);
  CHECK_THROWS_AS(with({1, 4, 4, 2, 0}, 16), Error);
  CHECK_THROWS_AS(with({1, 4, 0, 2, 8}, 16), Error);
  CHECK_THROWS_AS(with({1, 4, 4, 1, 513}, 513), Error);
  p.forward(ex);
  CHECK_THROWS_AS(attention_backward(ex, p.shape, p.q.data(), p.ld, p.k.data(), p.ld, p.v.data(), p.ld, p.y.data(), p.ld,
                                     p.dy.data(), p.ld, nullptr, p.dq.data(), p.ld, p.dk.data(), p.ld, p.dv.data(), p.ld),
                  Error);
}

TEST_CASE("attention of values rounded to bf16 is close to the scalar oracle", "[kernels][attention]") {
  const Executor ex = Executor::oversubscribed(2), alone(1);
  for (AttentionShape shape : shapes)
    for (const bool causal : {false, true})
      for (const AttentionKind kind : {AttentionKind::softmax, AttentionKind::relu}) {
        shape.causal = causal;
        shape.kind = kind;
        Problem exact(shape);
        exact.forward_reference(ex);
        shape.bf16 = true;
        Problem p(shape), q(shape);
        p.forward(ex);
        q.forward(alone);
        CAPTURE(shape.queries, shape.keys, shape.heads, shape.head_dim, causal, static_cast<int>(kind));
        CHECK(distance(p.y, exact.y) < 0.02);
        CHECK(same_bytes(p.y, q.y));
      }
}
