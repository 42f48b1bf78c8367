// SPDX-License-Identifier: Apache-2.0
// The kernels of one instruction set, MOBILEDIFFUSION_ISA, or of the flags where there is one library, as two tables: see
// MobileDiffusionDispatch.cmake.
#undef MOBILEDIFFUSION_DISPATCH
#include <mobilediffusion/kernels/entries.hpp>
#include <mobilediffusion/kernels/kernels.hpp>

using namespace mobilediffusion;
#if MOBILEDIFFUSION_LIBRARIES > 1
static_assert(simd::compiled_isa == simd::Isa::MOBILEDIFFUSION_ISA,
              "mobilediffusion: flags of the directory chose another instruction set; remove those like -mavx2");
#endif

#define MOBILEDIFFUSION_JOINED(prefix, isa) prefix##isa
#define MOBILEDIFFUSION_SYMBOL(prefix, isa) MOBILEDIFFUSION_JOINED(prefix, isa)
#define MOBILEDIFFUSION_POINTER(result, name, overload, parameters, arguments) .name##overload = &kernels::name,
// Each pointer picks the kernel of exactly its type: an entry that says another one does not compile.
#define MOBILEDIFFUSION_TABLE(type, name, entries)                                                             \
  extern "C" {                                                                                                 \
  extern const type MOBILEDIFFUSION_SYMBOL(name, MOBILEDIFFUSION_ISA);                                         \
  constinit const type MOBILEDIFFUSION_SYMBOL(name, MOBILEDIFFUSION_ISA) = {.isa = simd::compiled_isa,         \
                                                                            entries(MOBILEDIFFUSION_POINTER)}; \
  }
MOBILEDIFFUSION_TABLE(kernels::Table, mobilediffusion_kernels_, MOBILEDIFFUSION_DRAWING_KERNELS)
MOBILEDIFFUSION_TABLE(kernels::TrainingTable, mobilediffusion_training_kernels_, MOBILEDIFFUSION_TRAINING_KERNELS)
