// SPDX-License-Identifier: Apache-2.0
// The fingerprint of a configuration changes with every single number in it.
#include <boost/pfr.hpp>
#include <cstdint>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/reflect/fingerprint.hpp>
#include <set>
#include <type_traits>
#include <vector>

#include "catch.hpp"

using namespace mobilediffusion;

namespace {
// Calls f with every number of a configuration, whatever it is nested in.
template <class T, class F>
void each_number(T& value, F& f) {
  if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
    f(value);
  } else if constexpr (requires { value.size(); }) {
    for (auto& element : value) each_number(element, f);
  } else {
    boost::pfr::for_each_field(value, [&](auto& field) { each_number(field, f); });
  }
}
}  // namespace

TEST_CASE("every field of a configuration changes its fingerprint", "[reflect]") {
  ModelConfig config = presets::tiny;
  const std::uint64_t whole = reflect::fingerprint(config);
  std::set<std::uint64_t> seen{whole};
  std::size_t fields = 0;
  const auto change = [&]<class T>(T& number) {
    const T kept = number;
    if constexpr (std::is_same_v<T, bool>) number = !number;
    else number = static_cast<T>(static_cast<std::size_t>(number) + 1);
    ++fields;
    seen.insert(reflect::fingerprint(config));
    number = kept;
  };
  each_number(config, change);
  CHECK(fields > 150);
  CHECK(seen.size() == fields + 1);
  CHECK(reflect::fingerprint(config) == whole);
  static_assert(reflect::fingerprint(presets::tiny) != reflect::fingerprint(presets::emoji));
}
