// SPDX-License-Identifier: Apache-2.0
// A number that changes with any field of a configuration: what a weights file is checked against.
#pragma once

#include "../core/begin.hpp"

#include <cstdint>
#include <type_traits>
#include <utility>

#include "reflect.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::reflect {

namespace detail {
template <class T>
constexpr void mix(std::uint64_t& h, const T& value) {
  if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
    auto bits = static_cast<std::uint64_t>(value);
    for (int i = 0; i < 8; ++i, bits >>= 8) h = (h ^ (bits & 0xFF)) * 0x100000001b3u;  // FNV-1a
  } else if constexpr (is_array<T>) {
    for (const auto& element : value) mix(h, element);
  } else {
    [&]<std::size_t... I>(std::index_sequence<I...>) { (mix(h, boost::pfr::get<I>(value)), ...); }
    (Indices<T>{});
  }
}
}  // namespace detail

// Of a structural configuration: numbers, enumerators, arrays and aggregates of them.
template <class Config>
constexpr std::uint64_t fingerprint(const Config& config) {
  std::uint64_t h = 0xcbf29ce484222325u;
  detail::mix(h, config);
  return h;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::reflect

#include "../core/end.hpp"
