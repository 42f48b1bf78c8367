// SPDX-License-Identifier: Apache-2.0
// Rearrangements against the oracle; their adjoints by <A x, y> = <x, A' y>.
#include "catch.hpp"
#include "gradient_check.hpp"
#include "mobilediffusion/kernels/kernels.hpp"
#include "mobilediffusion/kernels/reference/resample.hpp"

using namespace mobilediffusion;
using namespace kernel_tests;

TEST_CASE("concat_channels and split_channels_backward are inverses") {
  const Executor one(1), two = Executor::oversubscribed(2);
  for (const std::size_t ca : {1u, 16u, 35u}) {
    const std::size_t cb = 19, rows = 1003;
    const Floats a = normals(rows * ca, 1), b = normals(rows * cb, 2);
    for (const Executor* ex : {&one, &two}) {
      Floats y(rows * (ca + cb)), expected(y.size()), da(a.size()), db(b.size());
      kernels::concat_channels(*ex, a.data(), ca, b.data(), cb, y.data(), rows);
      kernels::reference::concat_channels(a.data(), ca, b.data(), cb, expected.data(), rows);
      CHECK(y == expected);
      kernels::split_channels_backward(*ex, y.data(), da.data(), ca, db.data(), cb, rows);
      CHECK(da == a);
      CHECK(db == b);
    }
  }
}

TEST_CASE("upsample_nearest2x equals the oracle and its backward is the adjoint") {
  const Executor one(1), two = Executor::oversubscribed(2);
  for (const std::size_t channels : {1u, 16u, 23u, 70u}) {
    const std::size_t batch = 2, height = 5, width = 7, n = batch * height * width * channels;
    const Floats x = normals(n, 3), dy = normals(4 * n, 4);
    Floats y(4 * n), again(4 * n), expected(4 * n), dx(n), dx_again(n);
    kernels::upsample_nearest2x(one, x.data(), y.data(), batch, height, width, channels);
    kernels::upsample_nearest2x(two, x.data(), again.data(), batch, height, width, channels);
    kernels::reference::upsample_nearest2x(x.data(), expected.data(), batch, height, width, channels);
    CHECK(y == expected);
    CHECK(same_bytes(y, again));
    kernels::upsample_nearest2x_backward(one, dy.data(), dx.data(), batch, height, width, channels);
    kernels::upsample_nearest2x_backward(two, dy.data(), dx_again.data(), batch, height, width, channels);
    CHECK(same_bytes(dx, dx_again));
    Doubles xd = widened(x), up(4 * n);
    if (channels == 1)
      CHECK(relative_error(dx, numerical_gradient(xd, [&] {
                             kernels::reference::upsample_nearest2x(xd.data(), up.data(), batch, height, width, channels);
                             return dot(up, dy);
                           })) < 1e-6);
    CHECK(dot(widened(y), dy) == Approx(dot(xd, dx)).epsilon(1e-5));
  }
}

TEST_CASE("pixel_unshuffle has PyTorch's channel order and pixel_shuffle undoes it") {
  const Executor one(1), two = Executor::oversubscribed(2);
  {
    const Floats x = {0, 10, 1, 11, 2, 12, 3, 13};  // one 2x2 image of 2 channels: channel c of pixel p is 10 c + p
    Floats y(8);
    kernels::pixel_unshuffle(one, x.data(), y.data(), 1, 2, 2, 2, 2);
    CHECK(y == Floats{0, 1, 2, 3, 10, 11, 12, 13});
  }
  for (const std::size_t r : {1u, 2u, 3u, 8u}) {
    const std::size_t batch = 2, height = 3 * r, width = 2 * r, channels = 3, n = batch * height * width * channels;
    const Floats x = normals(n, 5);
    Floats expected(n);
    kernels::reference::pixel_unshuffle(x.data(), expected.data(), batch, height, width, channels, r);
    for (const Executor* ex : {&one, &two}) {
      Floats y(n), back(n);
      kernels::pixel_unshuffle(*ex, x.data(), y.data(), batch, height, width, channels, r);
      kernels::pixel_shuffle(*ex, y.data(), back.data(), batch, height, width, channels, r);
      CHECK(y == expected);
      CHECK(back == x);
    }
  }
  Floats x(9), y(9);
  CHECK_THROWS_AS(kernels::pixel_unshuffle(one, x.data(), y.data(), 1, 3, 3, 1, 2), Error);
}
