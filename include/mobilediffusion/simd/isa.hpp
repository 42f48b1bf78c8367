// SPDX-License-Identifier: Apache-2.0
// Instruction sets by name: which one this translation unit was compiled for, and which ones this machine runs.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd {

// Worst first. Kernels are built for each of them where the dispatch is used (kernels/dispatch.hpp). baseline: what every
// processor of the architecture has.
enum class Isa { baseline, avx2, avx512, avx512_bf16_vnni };
inline constexpr const char* isa_names[] = {"baseline", "avx2", "avx512", "avx512_bf16_vnni"};

// What the compiler was allowed: the flags of cmake/MobileDiffusionDispatch.cmake lead here, as supported() asks for them.
#if defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && \
    defined(__AVX512VNNI__) && defined(__AVX512BF16__)
inline constexpr Isa compiled_isa = Isa::avx512_bf16_vnni;
#elif defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
inline constexpr Isa compiled_isa = Isa::avx512;
#elif defined(__AVX2__) && defined(__FMA__)
inline constexpr Isa compiled_isa = Isa::avx2;
#else
inline constexpr Isa compiled_isa = Isa::baseline;
#endif

// Whether the processor has it and the operating system keeps its registers: the compiler's function asks both (CPUID, XGETBV).
inline bool supported(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (isa == Isa::avx2) return avx2;
  if (isa == Isa::avx512) return avx512;
  if (isa == Isa::avx512_bf16_vnni) return avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
#endif
  return isa == Isa::baseline;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd

#include "../core/end.hpp"
