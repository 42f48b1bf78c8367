// SPDX-License-Identifier: Apache-2.0
// Calls of kernels that stand in libraries (cmake/MobileDiffusionDispatch.cmake), one, or one for each instruction set: the one
// place that chooses.
// The environment variable MOBILEDIFFUSION_ISA forces one of simd::isa_names, for tests.
#pragma once

#if !defined(MOBILEDIFFUSION_DISPATCH)
#define MOBILEDIFFUSION_DISPATCH 1  // how many libraries there are: every simd::Isa, or the one that was compiled
#endif

#include "../core/begin.hpp"

#include <cstddef>
#include <cstdlib>
#include <string>

#include "../core/error.hpp"
#include "../simd/isa.hpp"
#include "entries.hpp"

// Symbols of the libraries that CMake's functions link: their only ones.
extern "C" {
#if MOBILEDIFFUSION_DISPATCH > 1
#define MOBILEDIFFUSION_ROW(isa) extern const mobilediffusion::kernels::Table mobilediffusion_kernels_##isa;
MOBILEDIFFUSION_ISAS(MOBILEDIFFUSION_ROW)
#undef MOBILEDIFFUSION_ROW
#else
extern const mobilediffusion::kernels::Table mobilediffusion_kernels_compiled;
#endif
}

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

struct Built {
  const char* name;
  const Table* table;
};

static_assert(MOBILEDIFFUSION_DISPATCH == 1 || MOBILEDIFFUSION_DISPATCH == simd::isa_count,
              "mobilediffusion: MOBILEDIFFUSION_DISPATCH is a number that mobilediffusion_dispatch() of CMake sets");

// The best of what was built and runs here, or the forced one. Throws Error if that is not among them.
inline Built choose(const char* forced) {
  const Table* const tables[] = {
#if MOBILEDIFFUSION_DISPATCH > 1
#define MOBILEDIFFUSION_ROW(isa) &mobilediffusion_kernels_##isa,
    MOBILEDIFFUSION_ISAS(MOBILEDIFFUSION_ROW)
#undef MOBILEDIFFUSION_ROW
#else
    &mobilediffusion_kernels_compiled
#endif
  };
  Built best{nullptr, nullptr};
  std::string choices;
  const bool free = forced == nullptr || *forced == '\0';
  for (const Table* const table : tables) {
    const char* const name = simd::isa_names[static_cast<std::size_t>(table->isa)];
    if (!simd::supported(table->isa)) continue;
    choices += choices.empty() ? name : std::string(", ") + name;
    if (free ? simd::preferred(table->isa) || best.table == nullptr : std::string(forced) == name) best = {name, table};
  }
  if (best.table == nullptr && free)
    throw Error(std::string("this program was compiled for the instruction set ") +
                simd::isa_names[static_cast<std::size_t>(tables[0]->isa)] + ", which this machine does not have");
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
