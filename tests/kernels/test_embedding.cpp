// SPDX-License-Identifier: Apache-2.0
// Token and timestep embeddings.
#include "catch.hpp"
#include "gradient_check.hpp"
#include "mobilediffusion/kernels/backward/embedding.hpp"
#include "mobilediffusion/kernels/embedding.hpp"
#include "mobilediffusion/kernels/reference/embedding.hpp"

using namespace mobilediffusion;
using namespace kernel_tests;

TEST_CASE("embed_tokens looks up and adds positions; its gradient goes back to the same rows") {
  const Executor one(1), two(2);
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
