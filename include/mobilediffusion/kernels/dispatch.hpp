// SPDX-License-Identifier: Apache-2.0
// Calls of kernels that stand in libraries (cmake/MobileDiffusionDispatch.cmake), one, or one for each instruction set: the one
// place that chooses.
// The environment variable MOBILEDIFFUSION_ISA forces one of simd::isa_names, for tests.
// MOBILEDIFFUSION_DISPATCH: how many libraries there are. MOBILEDIFFUSION_BUILT_ISAS: which, each as MOBILEDIFFUSION_ROW(name),
// where they are not those of every simd::Isa.
#pragma once

#if !defined(MOBILEDIFFUSION_DISPATCH)
#define MOBILEDIFFUSION_DISPATCH 1
#endif

#include "../core/begin.hpp"

#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <string>

#include "../core/error.hpp"
#include "../simd/isa.hpp"
#include "entries.hpp"

#if MOBILEDIFFUSION_DISPATCH == 1 && !defined(MOBILEDIFFUSION_BUILT_ISAS)
#define MOBILEDIFFUSION_BUILT_ISAS MOBILEDIFFUSION_ROW(compiled)
#elif !defined(MOBILEDIFFUSION_BUILT_ISAS)
#define MOBILEDIFFUSION_BUILT_ISAS MOBILEDIFFUSION_ISAS(MOBILEDIFFUSION_ROW)
#endif

// Symbols of the libraries that CMake's functions link: their only ones.
extern "C" {
#define MOBILEDIFFUSION_ROW(isa)                                              \
  extern const mobilediffusion::kernels::Table mobilediffusion_kernels_##isa; \
  extern const mobilediffusion::kernels::TrainingTable mobilediffusion_training_kernels_##isa;
MOBILEDIFFUSION_BUILT_ISAS
#undef MOBILEDIFFUSION_ROW
}

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

struct Built {
  const char* name;
  const Table* table;
};

// The best of what was built and runs here, or the forced one. Throws Error if that is not among them.
inline Built choose(const char* forced) {
#define MOBILEDIFFUSION_ROW(isa) &mobilediffusion_kernels_##isa,
  const Table* const tables[] = {MOBILEDIFFUSION_BUILT_ISAS};
#undef MOBILEDIFFUSION_ROW
  static_assert(std::size(tables) == MOBILEDIFFUSION_DISPATCH,
                "mobilediffusion: MOBILEDIFFUSION_DISPATCH is a number that mobilediffusion_dispatch() of CMake sets");
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

// Referred to by programs that train, alone: see Table.
inline const TrainingTable& training(simd::Isa isa) {
#define MOBILEDIFFUSION_ROW(isa) &mobilediffusion_training_kernels_##isa,
  for (const TrainingTable* const table : {MOBILEDIFFUSION_BUILT_ISAS})
#undef MOBILEDIFFUSION_ROW
    if (table->isa == isa) return *table;
  throw Error("kernels: expected those of training beside the others, found none");
}
inline const TrainingTable& chosen_training() {
  static const TrainingTable& once = training(chosen().table->isa);
  return once;
}

}  // namespace detail

// The instruction set whose kernels run: one of simd::isa_names. Like the first call of any kernel it throws Error if the
// environment forces one that cannot run.
inline const char* instruction_set() { return detail::chosen().name; }

#define MOBILEDIFFUSION_FORWARD(result, name, overload, parameters, arguments) \
  inline result name parameters { return detail::chosen().table->name##overload arguments; }
MOBILEDIFFUSION_DRAWING_KERNELS(MOBILEDIFFUSION_FORWARD)
#undef MOBILEDIFFUSION_FORWARD
#define MOBILEDIFFUSION_FORWARD(result, name, overload, parameters, arguments) \
  inline result name parameters { return detail::chosen_training().name##overload arguments; }
MOBILEDIFFUSION_TRAINING_KERNELS(MOBILEDIFFUSION_FORWARD)
#undef MOBILEDIFFUSION_FORWARD

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
