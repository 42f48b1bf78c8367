// SPDX-License-Identifier: Apache-2.0
// The kernels of one instruction set, MOBILEDIFFUSION_ISA, or of the flags where there is one library, as a table: see MobileDiffusionDispatch.cmake.
#undef MOBILEDIFFUSION_DISPATCH
#include <mobilediffusion/kernels/entries.hpp>
#include <mobilediffusion/kernels/kernels.hpp>

using namespace mobilediffusion;
#if MOBILEDIFFUSION_LIBRARIES > 1
static_assert(simd::compiled_isa == simd::Isa::MOBILEDIFFUSION_ISA,
              "mobilediffusion: flags of the directory chose another instruction set; remove those like -mavx2");
#endif

#define MOBILEDIFFUSION_JOINED(prefix, isa) prefix##isa
#define MOBILEDIFFUSION_SYMBOL(isa) MOBILEDIFFUSION_JOINED(mobilediffusion_kernels_, isa)
#define MOBILEDIFFUSION_POINTER(result, name, overload, parameters, arguments) .name##overload = &kernels::name,
extern "C" {
extern const kernels::Table MOBILEDIFFUSION_SYMBOL(MOBILEDIFFUSION_ISA);
// Each pointer picks the kernel of exactly its type: an entry that says another one does not compile.
constinit const kernels::Table MOBILEDIFFUSION_SYMBOL(MOBILEDIFFUSION_ISA) = {.isa = simd::compiled_isa,
                                                                                MOBILEDIFFUSION_KERNELS(MOBILEDIFFUSION_POINTER)};
}
