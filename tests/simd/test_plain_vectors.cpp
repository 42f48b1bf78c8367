// SPDX-License-Identifier: Apache-2.0
// The vectors for processors that xsimd does not know, lane by lane against the definitions.
#include <cmath>
#include <cstdint>
#include <limits>
#include <mobilediffusion/simd/plain_vectors.hpp>

#include "catch.hpp"

namespace test_plain_vectors_cpp {

namespace plain = mobilediffusion::simd::plain;
using Floats = plain::batch<float>;
using Integers = plain::batch<std::int32_t>;

TEST_CASE("plain vectors compute what their lanes say", "[simd]") {
  const float a[4] = {-2.5f, 0.0f, 3.25f, 1e-3f}, b[4] = {1.5f, -4.0f, 3.25f, 7.0f};
  const Floats x = Floats::load_unaligned(a), y = Floats::load_unaligned(b);
  const auto check = [&](Floats found, auto&& expected) {
    float lanes[4];
    found.store_unaligned(lanes);
    for (int i = 0; i < 4; ++i) CHECK(lanes[i] == expected(a[i], b[i]));
  };
  check(x + y, [](float p, float q) { return p + q; });
  check(x - y, [](float p, float q) { return p - q; });
  check(x * y, [](float p, float q) { return p * q; });
  check(x / y, [](float p, float q) { return p / q; });
  check(plain::max(x, y), [](float p, float q) { return p > q ? p : q; });
  check(plain::min(x, y), [](float p, float q) { return p < q ? p : q; });
  check(plain::select(x > y, x, Floats(9.0f)), [](float p, float q) { return p > q ? p : 9.0f; });
  check(plain::select(x == y, x, Floats(9.0f)), [](float p, float q) { return p == q ? p : 9.0f; });
  check(plain::select(x < y, x, Floats(9.0f)), [](float p, float q) { return p < q ? p : 9.0f; });
  check(plain::exp(x), [](float p, float) { return std::exp(p); });
  check(plain::erf(x), [](float p, float) { return std::erf(p); });
  check(plain::sqrt(x * x), [](float p, float) { return std::sqrt(p * p); });
  CHECK(plain::reduce_add(y) == 7.75f);

  const Floats nan(std::numeric_limits<float>::quiet_NaN());
  check(plain::select(nan == nan, x, y), [](float, float q) { return q; });
  check(plain::to_float(plain::bitwise_cast<std::int32_t>(Floats(1.0f)) >> 23), [](float, float) { return 127.0f; });
  check(plain::to_float((Integers(-7) >> 1) + (Integers(5) & Integers(4)) + (Integers(1) | Integers(2) << 1)),
        [](float, float) { return -4.0f + 4.0f + 5.0f; });
}

}  // namespace test_plain_vectors_cpp
