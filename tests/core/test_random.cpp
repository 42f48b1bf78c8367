// SPDX-License-Identifier: Apache-2.0
// Reproducible random numbers: the published vectors of Philox, streams that do not meet, moments of the normals.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <mobilediffusion/core/random.hpp>
#include <set>
#include <vector>

#include "catch.hpp"

using namespace mobilediffusion;

namespace {
using Words = std::array<std::uint32_t, 4>;
}  // namespace

TEST_CASE("Philox gives the known answers of Random123", "[core][random]") {
  // kat_vectors, philox4x32 with 10 rounds.
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t f = 0xffffffff;
  CHECK(philox({f, f, f, f}, {f, f}) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  static_assert(philox({0, 0, 0, 0}, {0, 0})[0] == 0x6627e8d5);
}

TEST_CASE("seed and stream both tell sequences apart, over all their bits", "[core][random]") {
  std::set<std::uint32_t> first;
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 40})
    for (const std::uint64_t stream : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 40})
      first.insert(Random(seed, stream).next());
  CHECK(first.size() == 9);
  Random a(5, 6), b(5, 6);
  for (int i = 0; i < 9; ++i) CHECK(a.next() == b.next());
}

TEST_CASE("an element of the normals depends on its index only", "[core][random]") {
  const Random random(3, 4);
  std::vector<float> whole(1003), part(61);
  random.normals(whole);
  random.normals(part, 400);
  CHECK(std::equal(part.begin(), part.end(), whole.begin() + 400));
}

TEST_CASE("normals have the moments of a standard normal distribution, neighbours are independent", "[core][random]") {
  std::vector<float> x(400000);
  Random(1, 2).normals(x);
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, next = 0, pair = 0, outside = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = static_cast<double>(x[i]), n = static_cast<double>(x[(i + 1) % x.size()]), p = static_cast<double>(x[i ^ 1]);
    m1 += v;
    m2 += v * v;
    m3 += v * v * v;
    m4 += v * v * v * v;
    next += v * n;
    pair += v * v * p * p;
    outside += std::fabs(v) > 3.0;
  }
  const double n = static_cast<double>(x.size());
  CHECK(std::fabs(m1 / n) < 0.008);  // five standard errors each
  CHECK(std::fabs(m2 / n - 1) < 0.011);
  CHECK(std::fabs(m3 / n) < 0.03);
  CHECK(std::fabs(m4 / n - 3) < 0.08);
  CHECK(std::fabs(next / n) < 0.008);
  CHECK(std::fabs(pair / n - 1) < 0.03);
  CHECK(outside / n == Approx(0.0027).epsilon(0.2));
}

TEST_CASE("uniform numbers stay below one and below() below its bound", "[core][random]") {
  Random random(8, 8);
  double sum = 0;
  std::array<int, 7> seen{};
  for (int i = 0; i < 70000; ++i) {
    const float u = random.uniform();
    REQUIRE((u >= 0.0f && u < 1.0f));
    sum += static_cast<double>(u);
    ++seen.at(random.below(7));
  }
  CHECK(sum / 70000 == Approx(0.5).margin(0.006));
  for (const int count : seen) CHECK(count == Approx(10000).epsilon(0.05));
  CHECK(random.below(1) == 0);
}
