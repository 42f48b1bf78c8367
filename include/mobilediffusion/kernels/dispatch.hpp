// SPDX-License-Identifier: Apache-2.0
// Calls of kernels that were built once per instruction set (cmake/MobileDiffusionDispatch.cmake): the one place that chooses.
// The environment variable MOBILEDIFFUSION_ISA forces one of simd::isa_names, for tests.
#pragma once

#if !defined(MOBILEDIFFUSION_DISPATCH)
#define MOBILEDIFFUSION_DISPATCH 1  // how many of simd::Isa were built: 4 on x86-64, else the first
#endif

#include "../core/begin.hpp"

#include <cstddef>
#include <cstdlib>
#include <string>

#include "../core/error.hpp"
#include "../simd/isa.hpp"
#include "entries.hpp"

// Symbols of the libraries that mobilediffusion_dispatch() links: their only ones.
extern "C" {
extern const mobilediffusion::kernels::Table mobilediffusion_kernels_baseline;
#if MOBILEDIFFUSION_DISPATCH > 1
extern const mobilediffusion::kernels::Table mobilediffusion_kernels_avx2;
extern const mobilediffusion::kernels::Table mobilediffusion_kernels_avx512;
extern const mobilediffusion::kernels::Table mobilediffusion_kernels_avx512_bf16_vnni;
#endif
}

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

struct Built {
  const char* name;
  const Table* table;
};

// The best of what was built and runs here, or the forced one. Throws Error if that is not among them.
inline Built choose(const char* forced) {
  const Table* const tables[] = {
    &mobilediffusion_kernels_baseline,
#if MOBILEDIFFUSION_DISPATCH > 1
    &mobilediffusion_kernels_avx2,
    &mobilediffusion_kernels_avx512,
    &mobilediffusion_kernels_avx512_bf16_vnni
#endif
  };
  Built best{nullptr, nullptr};
  std::string choices;
  for (std::size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); ++i) {
    const char* const name = simd::isa_names[i];
    if (!simd::supported(static_cast<simd::Isa>(i))) continue;
    choices += choices.empty() ? name : std::string(", ") + name;
    if (forced == nullptr || *forced == '\0' || std::string(forced) == name) best = {name, tables[i]};
  }
  if (best.table == nullptr)
    throw Error("MOBILEDIFFUSION_ISA: expected one that this machine runs and this program has (" + choices + "), found " +
                forced);
  return best;
}

inline const Built& chosen() {
  static const Built once = choose(std::getenv("MOBILEDIFFUSION_ISA"));
  return once;
}

}  // namespace detail

// The instruction set whose kernels run: one of simd::isa_names. Like the first call of any kernel it throws Error if the
// environment forces one that cannot run.
inline const char* instruction_set() { return detail::chosen().name; }

#define MOBILEDIFFUSION_FORWARD(result, name, overload, parameters, arguments) \
  inline result name parameters { return detail::chosen().table->name##overload arguments; }
MOBILEDIFFUSION_KERNELS(MOBILEDIFFUSION_FORWARD)
#undef MOBILEDIFFUSION_FORWARD

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
