// SPDX-License-Identifier: Apache-2.0
// Instruction sets by name: which one this translation unit was compiled for, which ones this machine runs, and which of them it
// runs best.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

// The sets of this architecture, each with all that stands before it in its line of descent. A new one is a row here, its flags
// in cmake/MobileDiffusionDispatch.cmake, its macros in core/begin.hpp, and what simd/ does with it. baseline: what every
// processor of the architecture has.
#if defined(__x86_64__) || defined(__i386__)
#define MOBILEDIFFUSION_ISAS(ROW)                                                                         \
  ROW(baseline)                                                                                           \
  ROW(avx2)             /* and FMA: Intel since 2013, AMD since 2015 */                                   \
  ROW(avx2_vnni)        /* 8-bit dot products of 256 bits: Intel's clients since Alder Lake, AMD Zen 5 */ \
  ROW(avx512)           /* F, CD, BW, DQ, VL: Skylake-X */                                                \
  ROW(avx512_vnni)      /* 8-bit dot products: Ice Lake */                                                \
  ROW(avx512_bf16_vnni) /* dot products of bf16, too: AMD Zen 4 */                                        \
  ROW(amx)              /* products of tiles of bf16 and of 8 bits: Sapphire Rapids */
#elif defined(__aarch64__)
#define MOBILEDIFFUSION_ISAS(ROW)                              \
  ROW(baseline)                                                \
  ROW(dotprod) /* 8-bit dot products: Cortex-A75, Apple A13 */ \
  ROW(i8mm)    /* matrix products of 8 bits and of bf16: Cortex-A510, A710 and X2, Neoverse V1, Apple A15 and M2 */
#elif defined(__wasm__)
#define MOBILEDIFFUSION_ISAS(ROW) \
  ROW(baseline)                   \
  ROW(simd128) /* Chrome 91, Firefox 89, Safari 16.4, node 16.4 */
#else
#define MOBILEDIFFUSION_ISAS(ROW) ROW(baseline)
#endif

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd {

// Worst first.
#define MOBILEDIFFUSION_ROW(name) name,
enum class Isa { MOBILEDIFFUSION_ISAS(MOBILEDIFFUSION_ROW) };
#undef MOBILEDIFFUSION_ROW
#define MOBILEDIFFUSION_ROW(name) #name,
inline constexpr const char* isa_names[] = {MOBILEDIFFUSION_ISAS(MOBILEDIFFUSION_ROW)};
#undef MOBILEDIFFUSION_ROW
inline constexpr std::size_t isa_count = sizeof(isa_names) / sizeof(isa_names[0]);

inline constexpr Isa compiled_isa = Isa::MOBILEDIFFUSION_COMPILED_ISA;

namespace detail {

#if defined(__x86_64__) && defined(__linux__)
// Whether the system lets this process have AMX's registers: asked for once, since who has them saves 8 KiB more of each thread.
// It refuses, too, where it does not know them, and where a thread's stack for signals is too small for them.
inline bool amx_granted() {
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA: Linux 5.16
  static const bool granted = ::syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return granted;
}
#elif defined(__x86_64__) || defined(__i386__)
inline bool amx_granted() { return false; }
#endif

#if defined(__aarch64__)
// Whether the operating system tells of a feature: `capability` and `capability2` as Linux's HWCAP and HWCAP2 (and Android's)
// have them, `name` as Apple has it.
inline bool has([[maybe_unused]] unsigned long capability, [[maybe_unused]] unsigned long capability2,
                [[maybe_unused]] const char* name) {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & capability) == capability && (getauxval(AT_HWCAP2) & capability2) == capability2;
#elif defined(__APPLE__)
  int value = 0;
  std::size_t size = sizeof(value);
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
#else
  return false;
#endif
}
#endif

}  // namespace detail

// Whether the processor has it and the operating system keeps its registers: on x86-64 the compiler's function asks both (CPUID,
// XGETBV).
inline bool supported(Isa isa) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  const bool avx512_vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  switch (isa) {
    case Isa::baseline:
      return true;
    case Isa::avx2:
      return avx2;
    case Isa::avx2_vnni: {  // by number, since clang 14's function does not know the name
      unsigned a = 0, b = 0, c = 0, d = 0;
      return avx2 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1u) != 0;
    }
    case Isa::avx512:
      return avx512;
    case Isa::avx512_vnni:
      return avx512_vnni;
    case Isa::avx512_bf16_vnni:
      return avx512_vnni && __builtin_cpu_supports("avx512bf16");
    case Isa::amx: {  // by number as above: AMX-BF16, AMX-TILE, AMX-INT8
      constexpr unsigned bits = 1u << 22 | 1u << 24 | 1u << 25;
      unsigned a = 0, b = 0, c = 0, d = 0;
      return avx512_vnni && __builtin_cpu_supports("avx512bf16") && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 &&
             (d & bits) == bits && detail::amx_granted();
    }
  }
  return false;
#elif defined(__aarch64__)
  const bool dotprod = detail::has(1ul << 20, 0, "hw.optional.arm.FEAT_DotProd");  // HWCAP_ASIMDDP
  switch (isa) {
    case Isa::baseline:
      return true;
    case Isa::dotprod:
      return dotprod;
    case Isa::i8mm:  // HWCAP2_I8MM, HWCAP2_BF16
      return dotprod && detail::has(0, 1ul << 13, "hw.optional.arm.FEAT_I8MM") &&
             detail::has(0, 1ul << 14, "hw.optional.arm.FEAT_BF16");
  }
  return false;
#else  // WebAssembly, too, has nothing to ask: a module with instructions that an engine lacks is not loaded
  return isa <= compiled_isa;
#endif
}

// Whether a supported set is worth to be chosen: that an instruction is there does not make it quick.
inline bool preferred([[maybe_unused]] Isa isa) {
#if defined(__x86_64__) || defined(__i386__)
  // Intel: measured on Emerald Rapids, a thread's VDPBF16PS make 23 to 44 GMAC/s where FMA in fp32 make 75 to 89, so bf16 is
  // widened there. Zen 4 and 5 make twice fp32's.
  if (isa == Isa::avx512_bf16_vnni) return __builtin_cpu_is("intel") == 0;
#endif
  return true;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd

#include "../core/end.hpp"
