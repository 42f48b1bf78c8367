// SPDX-License-Identifier: Apache-2.0
// std::bit_cast by another name: the standard library of emscripten 3.1.6 lacks it, and beside one that has it, an argument of a
// type of std would make the call ambiguous.
#pragma once

#include "begin.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

template <class To, class From>
constexpr To reinterpret_bits(const From& from) noexcept {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, from);
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
