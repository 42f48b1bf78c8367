// SPDX-License-Identifier: Apache-2.0
// The depthwise convolution against the oracle and central differences.
#include "catch.hpp"
#include "gradient_check.hpp"
#include "mobilediffusion/kernels/kernels.hpp"
#include "mobilediffusion/kernels/reference/depthwise.hpp"

using namespace mobilediffusion;
using namespace kernel_tests;

namespace {

struct Shape {
  std::size_t batch, height, width, channels, stride;
  std::size_t in() const { return batch * height * width * channels; }
  std::size_t out() const {
    return batch * kernels::conv3x3_output(height, stride) * kernels::conv3x3_output(width, stride) * channels;
  }
};

struct Results {
  Floats y, dx, dw, db;
};

Results run(const Executor& ex, const Shape& s, const Floats& x, const Floats& w, const float* bias, const Floats& dy,
            float start) {
  Results r{Floats(s.out()), Floats(s.in(), 7.0f), Floats(9 * s.channels, start), Floats(s.channels, start)};
  Floats partial(s.batch * 10 * s.channels);
  kernels::depthwise_conv3x3(ex, x.data(), w.data(), bias, r.y.data(), s.batch, s.height, s.width, s.channels, s.stride);
  kernels::depthwise_conv3x3_backward_input(ex, dy.data(), w.data(), r.dx.data(), s.batch, s.height, s.width, s.channels,
                                            s.stride);
  kernels::depthwise_conv3x3_backward_filter(ex, x.data(), dy.data(), r.dw.data(), r.db.data(), s.batch, s.height, s.width,
                                             s.channels, s.stride, partial.data());
  return r;
}

}  // namespace

TEST_CASE("depthwise_conv3x3 equals the oracle, its gradients central differences") {
  const Executor ex(1);
  for (const Shape s : {Shape{1, 1, 1, 3, 1}, Shape{2, 4, 5, 17, 1}, Shape{1, 7, 3, 5, 1}, Shape{1, 1, 1, 3, 2},
                        Shape{2, 4, 6, 17, 2}, Shape{1, 5, 9, 4, 2}, Shape{1, 2, 11, 16, 1}, Shape{1, 3, 12, 2, 2}}) {
    CAPTURE(s.batch, s.height, s.width, s.channels, s.stride);
    const Floats x = normals(s.in(), 1), w = normals(9 * s.channels, 2), bias = normals(s.channels, 3), dy = normals(s.out(), 4);
    const Results r = run(ex, s, x, w, bias.data(), dy, 0.0f);
    Floats expected(s.out());
    kernels::reference::depthwise_conv3x3(x.data(), w.data(), bias.data(), expected.data(), s.batch, s.height, s.width,
                                          s.channels, s.stride);
    CHECK(relative_error(r.y, expected) < 1e-6);
    Doubles xd = widened(x), wd = widened(w), bd = widened(bias), y(s.out());
    const auto loss = [&] {
      kernels::reference::depthwise_conv3x3(xd.data(), wd.data(), bd.data(), y.data(), s.batch, s.height, s.width, s.channels,
                                            s.stride);
      return dot(y, dy);
    };
    CHECK(relative_error(r.dx, numerical_gradient(xd, loss)) < 2e-6);
    CHECK(relative_error(r.dw, numerical_gradient(wd, loss)) < 2e-6);
    CHECK(relative_error(r.db, numerical_gradient(bd, loss)) < 2e-6);
  }
}

TEST_CASE("depthwise_conv3x3 does not depend on the threads; bias and its gradient may be absent") {
  const Executor one(1), two = Executor::oversubscribed(2), three = Executor::oversubscribed(3);
  for (const Shape s : {Shape{2, 16, 16, 96, 1}, Shape{1, 15, 17, 130, 2}, Shape{1, 20, 20, 200, 1}, Shape{3, 9, 14, 67, 2}}) {
    const Floats x = normals(s.in(), 5), w = normals(9 * s.channels, 6), dy = normals(s.out(), 7);
    const Results a = run(one, s, x, w, nullptr, dy, 3.0f);
    Floats expected(s.out());
    kernels::reference::depthwise_conv3x3(x.data(), w.data(), static_cast<const float*>(nullptr), expected.data(), s.batch,
                                          s.height, s.width, s.channels, s.stride);
    CHECK(relative_error(a.y, expected) < 1e-6);
    for (const Executor* ex : {&two, &three}) {
      const Results b = run(*ex, s, x, w, nullptr, dy, 3.0f);
      CHECK(same_bytes(a.y, b.y));
      CHECK(same_bytes(a.dx, b.dx));
      CHECK(same_bytes(a.dw, b.dw));
      CHECK(same_bytes(a.db, b.db));
    }
    Floats dw(9 * s.channels), partial(s.batch * 10 * s.channels);
    kernels::depthwise_conv3x3_backward_filter(one, x.data(), dy.data(), dw.data(), nullptr, s.batch, s.height, s.width,
                                               s.channels, s.stride, partial.data());
    for (float& v : dw) v += 3.0f;
    CHECK(relative_error(a.dw, dw) < 1e-6);  // added to, not assigned
  }
  Floats x(9), w(9), y(9);
  CHECK_THROWS_AS(kernels::depthwise_conv3x3(one, x.data(), w.data(), nullptr, y.data(), 1, 3, 3, 1, 3), Error);
}
