// SPDX-License-Identifier: Apache-2.0
// Numbers in texts: both ways of conversion read and write the same.
#include <cmath>
#include <cstdint>
#include <limits>
#include <mobilediffusion/io/numbers.hpp>
#include <string>

#include "catch.hpp"

using namespace mobilediffusion;

TEST_CASE("numbers are read whole or not at all", "[io][numbers]") {
  for (const bool stream : {false, true}) {
    const auto reads = [&](const std::string& text, float& value) {
      return stream ? detail::stream_number(text, value) : detail::parse_number(text, value);
    };
    float value = 0.0f;
    for (const auto& [text, expected] : {std::pair{"0", 0.0f}, {"7.5", 7.5f}, {"-2e-3", -2e-3f}, {"1e30", 1e30f}, {".5", 0.5f}}) {
      INFO(text << (stream ? " by a stream" : ""));
      REQUIRE(reads(text, value));
      CHECK(value == expected);
    }
    for (const char* text : {"", " 1", "1 ", "+1", "1,5", "1.5x", "0x10", "e5", "-", "1e", "--1", "1e999"}) {
      INFO(text << (stream ? " by a stream" : ""));
      CHECK_FALSE(reads(text, value));
    }
  }
  std::uint32_t whole = 0;
  CHECK(detail::parse_number("4294967295", whole));
  CHECK(whole == 4294967295u);
  for (const char* text : {"", "-1", "4294967296", "1.0", "0x1"}) CHECK_FALSE(detail::parse_number(text, whole));
}

TEST_CASE("numbers that are written are read back exactly", "[io][numbers]") {
  float x = 1.0f / 3.0f;
  for (int i = 0; i < 200; ++i, x = std::fmod(x * 1.7e9f + 0.123f, 1e12f) * (i % 2 == 0 ? 1e-9f : 1.0f)) {
    for (const std::string& text : {detail::number_text(x), detail::stream_text(x)}) {
      float a = 0.0f, b = 0.0f;
      REQUIRE(detail::parse_number(text, a));
      REQUIRE(detail::stream_number(text, b));
      CHECK(a == x);
      CHECK(b == x);
    }
  }
  CHECK(detail::number_text(7.5f) == "7.5");
}
