// SPDX-License-Identifier: Apache-2.0
// AMX's tiles against their definition: in one program the stand-in, in another (TESTS_AMX_INSTRUCTIONS) the instructions, by the
// processor or by amx_emulator.cpp.
#if defined(TESTS_AMX_INSTRUCTIONS)
#define MOBILEDIFFUSION_AMX \
  1  // what -mamx-tile and the like lead to, without which the rest of this file needs no such processor
#else
#define MOBILEDIFFUSION_AMX_STAND_IN 1
#endif
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/core/number_formats.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/simd/tiles.hpp"

using namespace mobilediffusion;

#if defined(TESTS_AMX_INSTRUCTIONS)
void emulate_amx();
#endif

namespace {

void prepare() {
#if defined(TESTS_AMX_INSTRUCTIONS)
  if (!simd::tiles_permitted()) emulate_amx();
#endif
}

// C: 3 x 7, A: 3 x 5, B: 5 x 7 words; the registers of the other numbers are whole.
simd::TileShapes partial() {
  simd::TileShapes s = simd::TileShapes::whole();
  const std::array<std::array<std::uint8_t, 2>, 3> shapes{{{3, 7}, {3, 5}, {5, 7}}};
  for (std::size_t i = 0; i < 3; ++i) {
    s.rows[i] = shapes[i][0];
    s.row_bytes[i] = static_cast<std::uint16_t>(4 * shapes[i][1]);
  }
  return s;
}

struct Configured {
  explicit Configured(const simd::TileShapes& s) { simd::configure_tiles(s); }
  ~Configured() { simd::release_tiles(); }
};

// One product of whole tiles whose first row and column are given: c + the sum of a[k] b[k], k < 32.
float one_sum(float c, const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<std::uint16_t> left(16 * 32), right(16 * 32);
  for (std::size_t k = 0; k < a.size(); ++k) {
    left[k] = to_bf16(a[k]);
    right[k / 2 * 32 + k % 2] = to_bf16(b[k]);
  }
  std::vector<float> sums(16 * 16);
  sums[0] = c;
  const Configured shapes(simd::TileShapes::whole());
  simd::load_tile<0>(sums.data(), 64);
  simd::load_tile<4>(left.data(), 64);
  simd::load_tile_once<6>(right.data(), 64);
  simd::dot_tiles_bf16<0, 4, 6>();
  simd::store_tile<0>(sums.data(), 64);
  return sums[0];
}

}  // namespace

TEST_CASE("tiles of bf16 multiply whole numbers exactly, in any shape", "[tiles]") {
  prepare();
  Random random(3, 1);
  std::vector<float> a(3 * 10), b(10 * 7), c(3 * 9, 100.0f);
  for (auto* v : {&a, &b})
    for (float& x : *v) x = static_cast<float>(static_cast<int>(random.uniform() * 200.0f) - 100);
  // Pairs of k: A [3][5][2] with a row of 6 words, B [5][7][2].
  std::vector<std::uint16_t> left(3 * 12), right(5 * 14);
  for (std::size_t m = 0; m < 3; ++m)
    for (std::size_t k = 0; k < 10; ++k) left[m * 12 + k] = to_bf16(a[m * 10 + k]);
  for (std::size_t k = 0; k < 10; ++k)
    for (std::size_t n = 0; n < 7; ++n) right[k / 2 * 14 + 2 * n + k % 2] = to_bf16(b[k * 7 + n]);
  {
    const Configured shapes(partial());
    simd::zero_tile<0>();
    simd::load_tile<1>(left.data(), 24);
    simd::load_tile<2>(right.data(), 28);
    simd::dot_tiles_bf16<0, 1, 2>();
    simd::dot_tiles_bf16<0, 1, 2>();
    simd::store_tile<0>(c.data(), 36);
  }
  for (std::size_t m = 0; m < 3; ++m)
    for (std::size_t n = 0; n < 9; ++n) {
      float sum = 0.0f;
      for (std::size_t k = 0; k < 10; ++k) sum += n < 7 ? a[m * 10 + k] * b[k * 7 + n] : 0.0f;
      CHECK(c[m * 9 + n] == (n < 7 ? 2.0f * sum : 100.0f));  // beyond the shape nothing is written
    }
}

// Each expectation tells this order of additions from another.
TEST_CASE("tiles of bf16 add the even and the odd values apart, then both to C, without denormals", "[tiles]") {
  prepare();
  const float large = 0x1p30f, least = std::numeric_limits<float>::min();
  CHECK(one_sum(-large, {large, 1.0f}, {1.0f, 1.0f}) == 0.0f);                                      // C is not added first
  CHECK(one_sum(0.0f, {large, 1.0f, -large, 0.0f}, {1.0f, 1.0f, 1.0f, 0.0f}) == 1.0f);              // nor are neighbours
  CHECK(one_sum(0.0f, {large, 0.0f, 1.0f, 0.0f, -large}, {1.0f, 0.0f, 1.0f, 0.0f, 1.0f}) == 0.0f);  // one rounding a step
  CHECK(one_sum(0.0f, {least}, {0.5f}) == 0.0f);
  CHECK(one_sum(0.0f, {least / 2.0f}, {4.0f}) == 0.0f);
  CHECK(one_sum(least / 2.0f, {0.0f}, {0.0f}) == 0.0f);
  CHECK(one_sum(least, {0.0f}, {0.0f}) == least);
}

TEST_CASE("tiles of bytes multiply unsigned by signed and wrap around", "[tiles]") {
  prepare();
  std::vector<std::uint8_t> a(16 * 64);
  std::vector<std::int8_t> b(16 * 64);
  std::vector<std::int32_t> c(16 * 16), expected(16 * 16);
  Random random(3, 2);
  for (std::uint8_t& x : a) x = static_cast<std::uint8_t>(random.uniform() * 256.0f);
  for (std::int8_t& x : b) x = static_cast<std::int8_t>(static_cast<int>(random.uniform() * 256.0f) - 128);
  for (std::size_t i = 0; i < 64; ++i) {  // the extremes
    a[i] = 255;
    b[i / 4 * 64 + i % 4] = -128;
  }
  c[0] = std::numeric_limits<std::int32_t>::min() + 10;
  for (std::size_t m = 0; m < 16; ++m)
    for (std::size_t n = 0; n < 16; ++n) {
      std::int64_t sum = c[m * 16 + n];
      for (std::size_t k = 0; k < 64; ++k) sum += a[m * 64 + k] * b[k / 4 * 64 + 4 * n + k % 4];
      expected[m * 16 + n] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum));
    }
  const Configured shapes(simd::TileShapes::whole());
  simd::load_tile<3>(c.data(), 64);
  simd::load_tile<5>(a.data(), 64);
  simd::load_tile<7>(b.data(), 64);
  simd::dot_tiles_int8<3, 5, 7>();
  simd::store_tile<3>(c.data(), 64);
  CHECK(c == expected);
}

#if defined(MOBILEDIFFUSION_AMX_STAND_IN)
TEST_CASE("the tiles' stand-in refuses what the processor refuses", "[tiles]") {
  std::vector<float> p(16 * 16);
  CHECK_THROWS_AS(simd::zero_tile<0>(), Error);  // nothing is configured
  CHECK_THROWS_AS(simd::load_tile<0>(p.data(), 64), Error);
  CHECK_THROWS_AS(simd::store_tile<0>(p.data(), 64), Error);
  simd::TileShapes s = partial();
  {
    const Configured shapes(s);
    CHECK_THROWS_AS((simd::dot_tiles_bf16<0, 1, 1>()), Error);
    CHECK_THROWS_AS((simd::dot_tiles_int8<0, 2, 1>()), Error);  // 3 x 7 += 5 x 7, 3 x 5
  }
  CHECK_THROWS_AS(simd::zero_tile<0>(), Error);  // released
  const auto refused = [](const simd::TileShapes& bad) { CHECK_THROWS_AS(simd::configure_tiles(bad), Error); };
  s.rows[0] = 17;
  refused(s);
  s.rows[0] = 0;  // but bytes
  refused(s);
  s = partial();
  s.row_bytes[0] = 65;
  refused(s);
  s = partial();
  s.palette = 2;
  refused(s);
  s.palette = 1;
  s.reserved[3] = 1;
  refused(s);
  s.reserved[3] = 0;
  s.rows[2] = 0;
  s.row_bytes[2] = 0;
  const Configured shapes(s);
  CHECK_THROWS_AS((simd::dot_tiles_bf16<0, 1, 2>()), Error);  // one without rows
  CHECK_NOTHROW(simd::zero_tile<0>());
}
#endif
