// SPDX-License-Identifier: Apache-2.0
// A loop whose index is a constant: for walking over tuples of differently typed parts.
#pragma once

#include "begin.hpp"

#include <cstddef>
#include <type_traits>
#include <utility>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

template <std::size_t I>
using Index = std::integral_constant<std::size_t, I>;

// f(Index<0>{}), f(Index<1>{}), ...
template <std::size_t N, class F>
constexpr void unroll(F&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) { (f(Index<I>{}), ...); }
  (std::make_index_sequence<N>{});
}

// The same for loops over registers: g++ unrolls plain loops over accumulators too late to keep them there.
template <std::size_t N, class F>
[[gnu::always_inline]] constexpr void unroll_inlined(F&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline)) { (f(Index<I>{}), ...); }
  (std::make_index_sequence<N>{});
}

// f(Index<N-1>{}), ..., f(Index<0>{})
template <std::size_t N, class F>
constexpr void unroll_reversed(F&& f) {
  unroll<N>([&]<std::size_t I>(Index<I>) { f(Index<N - 1 - I>{}); });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
