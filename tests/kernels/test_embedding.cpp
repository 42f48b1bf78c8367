// SPDX-License-Identifier: Apache-2.0
// Token and timestep embeddings.
#include "catch.hpp"
#include "gradient_check.hpp"
#include "mobilediffusion/kernels/kernels.hpp"
#include "mobilediffusion/kernels/reference/embedding.hpp"

using namespace mobilediffusion;
using namespace kernel_tests;

TEST_CASE("embed_tokens looks up and adds positions; its gradient goes back to the same rows") {
  const Executor one(1), two = Executor::oversubscribed(2);
  for (const std::size_t width : {1u, 16u, 21u, 133u, 768u}) {
    const std::size_t batch = 5, length = 13, vocabulary = 11, n = batch * length * width;
    std::vector<std::int32_t> ids(batch * length);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 7 % vocabulary);
    const Floats table = normals(vocabulary * width, 1), positions = normals(length * width, 2), dy = normals(n, 3);
    for (const float* position : {positions.data(), static_cast<const float*>(nullptr)}) {
      Floats y(n), expected(n), again(n);
      kernels::embed_tokens(one, ids.data(), batch, length, table.data(), position, y.data(), width);
      kernels::embed_tokens(two, ids.data(), batch, length, table.data(), position, again.data(), width);
      kernels::reference::embed_tokens(ids.data(), batch, length, table.data(), position, expected.data(), width);
      CHECK(y == expected);
      CHECK(same_bytes(y, again));
    }
    Floats dtable(table.size(), 1.0f), dpositions(positions.size(), 2.0f);
    kernels::embed_tokens_backward(one, ids.data(), batch, length, dy.data(), dtable.data(), dpositions.data(), width);
    Doubles table_expected(table.size(), 1.0), positions_expected(positions.size(), 2.0);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t row = i / width, c = i % width;
      table_expected[static_cast<std::size_t>(ids[row]) * width + c] += static_cast<double>(dy[i]);
      positions_expected[row % length * width + c] += static_cast<double>(dy[i]);
    }
    CHECK(relative_error(dtable, table_expected) < 1e-6);
    CHECK(relative_error(dpositions, positions_expected) < 1e-6);
    Floats dtable2(table.size(), 1.0f);
    kernels::embed_tokens_backward(two, ids.data(), batch, length, dy.data(), dtable2.data(), nullptr, width);
    CHECK(same_bytes(dtable, dtable2));
  }
}

TEST_CASE("timestep_embedding has the cosine half first and equals known values") {
  const Floats t = {0.0f, 1.0f, 37.5f, 999.0f};
  Floats y(t.size() * 320), expected(t.size() * 320);
  kernels::timestep_embedding(t.data(), t.size(), 320, y.data());
  kernels::reference::timestep_embedding(t.data(), t.size(), 320, expected.data());
  CHECK(relative_error(y, expected) < 1e-6);
  CHECK(y[0] == 1.0f);  // t = 0: cosines one, sines zero
  CHECK(y[160] == 0.0f);
  CHECK(y[320] == Approx(0.5403023f));  // cos 1, sin 1
  CHECK(y[320 + 160] == Approx(0.8414710f));
  CHECK(y[320 + 80] == Approx(0.99995f));  // i = half / 2: frequency 1 / 100
  CHECK(y[320 + 240] == Approx(0.0099998333f));
  Floats odd(7, 5.0f);
  kernels::timestep_embedding(t.data() + 1, 1, 7, odd.data());
  CHECK(odd[6] == 0.0f);
  CHECK(odd[3] == Approx(0.8414710f));
}

TEST_CASE("guidance_embedding has the sine half first and equals known values") {
  const Floats guidance = {1.0f, 1.001953125f, 8.0f};
  Floats y(3 * 256), expected(3 * 256);
  kernels::guidance_embedding(guidance.data(), 3, 256, y.data());
  kernels::reference::guidance_embedding(guidance.data(), 3, 256, expected.data());
  CHECK(relative_error(y, expected) < 1e-6);
  CHECK(y[0] == 0.0f);  // guidance 1: sines zero, cosines one
  CHECK(y[128] == 1.0f);
  CHECK(y[256] == Approx(0.9277984f));           // sin 1.953125
  CHECK(y[256 + 128] == Approx(-0.3730820f));    // cos 1.953125
  CHECK(y[256 + 127] == Approx(0.0001953125f));  // the lowest frequency is 1 / 10000
}

TEST_CASE("embedding_bag sums the tokens with weights by place, padding left out") {
  constexpr std::size_t width = 5, length = 4, sums = 3, vocabulary = 6;
  constexpr std::int32_t padding = 0;
  const Floats table = normals(vocabulary * width, 1);
  const std::vector<std::int32_t> ids{3, 5, 2, 0, 2, 5, 3, 0};  // the same three words in two orders
  Floats weights(sums * length), y(2 * sums * width);
  kernels::cosine_weights(sums, length, weights.data());
  CHECK(weights[0] == 1.0f);
  CHECK(weights[length] == Approx(0.9238795f));           // cos(pi / 8)
  CHECK(weights[2 * length + 1] == Approx(-0.7071068f));  // cos(2 pi 1.5 / 4)
  kernels::embedding_bag(ids.data(), 2, length, table.data(), width, padding, weights.data(), sums, y.data());
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t k = 0; k < sums; ++k)
      for (std::size_t i = 0; i < width; ++i) {
        float expected = 0;
        for (std::size_t t = 0; t < 3; ++t)
          expected += weights[k * length + t] * table[static_cast<std::size_t>(ids[b * length + t]) * width + i];
        CHECK(y[(b * sums + k) * width + i] == Approx(expected).margin(1e-5));
      }
  // The first sum says which words there are; the others in which order.
  for (std::size_t i = 0; i < width; ++i) CHECK(y[i] == Approx(y[sums * width + i]).margin(1e-5));
  CHECK(y[width] != Approx(y[(sums + 1) * width]).margin(1e-3));

  const Floats dy = normals(y.size(), 2);
  Floats d(table.size());
  kernels::embedding_bag_backward(ids.data(), 2, length, dy.data(), width, padding, weights.data(), sums, d.data());
  double forward = 0, backward = 0;  // <dy, bag(table)> = <bag^T(dy), table>
  for (std::size_t i = 0; i < y.size(); ++i) forward += static_cast<double>(dy[i]) * static_cast<double>(y[i]);
  for (std::size_t i = 0; i < d.size(); ++i) backward += static_cast<double>(d[i]) * static_cast<double>(table[i]);
  CHECK(backward == Approx(forward).epsilon(1e-5));
  for (std::size_t i = 0; i < width; ++i) CHECK(d[static_cast<std::size_t>(padding) * width + i] == 0.0f);
}
