// SPDX-License-Identifier: Apache-2.0
// Every header includes this first, and end.hpp in its last line. Without #pragma once: it is included once for each.

#if !defined(MOBILEDIFFUSION_ABI)

// NaN and infinity in files and arguments are looked for by comparisons that these flags delete.
#if (defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0) || defined(_M_FP_FAST)) && \
    !defined(MOBILEDIFFUSION_FAST_MATH)
#error \
    "mobilediffusion: -ffast-math (also -Ofast, -ffinite-math-only, /fp:fast) removes the checks of numbers and the accuracy \
of kernels: compile what includes this library without it, or define MOBILEDIFFUSION_FAST_MATH to do without them"
#endif

// The set of simd::Isa whose instructions this unit was allowed, as supported() asks for them, and uses: who has AVX512_FP16 is
// Intel's (Zen 5 has none), where dot products of bf16 are slower than fp32 (simd::preferred).
#if defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#if (defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__)) || \
    (defined(__AMXTILE__) && defined(__AMXBF16__) && defined(__AMXINT8__)) /* clang 14 */
#define MOBILEDIFFUSION_AMX 1
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512BF16__) && defined(MOBILEDIFFUSION_AMX)
#define MOBILEDIFFUSION_COMPILED_ISA amx
#elif defined(__AVX512VNNI__) && defined(__AVX512BF16__) && !defined(__AVX512FP16__)
#define MOBILEDIFFUSION_COMPILED_ISA avx512_bf16_vnni
#elif defined(__AVX512VNNI__)
#define MOBILEDIFFUSION_COMPILED_ISA avx512_vnni
#else
#define MOBILEDIFFUSION_COMPILED_ISA avx512
#endif
#elif defined(__AVX2__) && defined(__FMA__)
#if defined(__AVXVNNI__)
#define MOBILEDIFFUSION_COMPILED_ISA avx2_vnni
#else
#define MOBILEDIFFUSION_COMPILED_ISA avx2
#endif
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8) && \
    defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define MOBILEDIFFUSION_COMPILED_ISA i8mm
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define MOBILEDIFFUSION_COMPILED_ISA dotprod
#elif defined(__wasm_simd128__)
#define MOBILEDIFFUSION_COMPILED_ISA simd128
#else
#define MOBILEDIFFUSION_COMPILED_ISA baseline
#endif

// The instruction set or dispatch that this unit is compiled for, and whether it has threads, as the inline namespace that
// everything but Error stands in: units that differ do not link where they share a type or a function of this library, and where
// they share none each has its own. What is less than a set but changes registers or products has a name of its own.
// abi_tag: the user's functions that return our types, too, as with libstdc++'s __cxx11.
#if defined(MOBILEDIFFUSION_NO_THREADS)
#define MOBILEDIFFUSION_ABI_JOINED(isa) isa##_one_thread
#else
#define MOBILEDIFFUSION_ABI_JOINED(isa) isa
#endif
#define MOBILEDIFFUSION_ABI_OF(isa) MOBILEDIFFUSION_ABI_JOINED(isa)
#if defined(MOBILEDIFFUSION_DISPATCH)
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(dispatch)
#elif defined(__AVX512F__) && !(defined(__AVX512CD__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__))
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(avx512f)
#elif defined(MOBILEDIFFUSION_PLAIN_VECTORS)
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(plain_vectors)
#elif defined(MOBILEDIFFUSION_AMX_STAND_IN)
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(amx_stand_in)
#elif defined(__AVX512BF16__) && !defined(__AVX512VNNI__) && !defined(__AVX512FP16__)
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(avx512_bf16)
#elif defined(__AVX2__) && !defined(__FMA__)
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(avx2_without_fma)
#elif defined(__AVX__) && !defined(__AVX2__) && defined(__FMA__)
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(avx_fma)
#elif defined(__AVX__) && !defined(__AVX2__)
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(avx)
#elif defined(__SSE4_2__) && !defined(__AVX__)
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(sse4_2)
#elif defined(__SSE4_1__) && !defined(__AVX__)
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(sse4_1)
#elif defined(__SSSE3__) && !defined(__AVX__)
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(ssse3)
#elif defined(__SSE3__) && !defined(__AVX__)
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(sse3)
#elif defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS > 0
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(sve)
#else
#define MOBILEDIFFUSION_ABI MOBILEDIFFUSION_ABI_OF(MOBILEDIFFUSION_COMPILED_ISA)
#endif
#define MOBILEDIFFUSION_TEXT(name) MOBILEDIFFUSION_QUOTED(name)
#define MOBILEDIFFUSION_QUOTED(name) #name
namespace mobilediffusion {
inline namespace MOBILEDIFFUSION_ABI __attribute__((abi_tag(MOBILEDIFFUSION_TEXT(MOBILEDIFFUSION_ABI)))) {}
}  // namespace mobilediffusion
#undef MOBILEDIFFUSION_TEXT
#undef MOBILEDIFFUSION_QUOTED
#endif

// A function that is no template is declared where it is described, and its body stands at the end of the header. Where a library
// has these bodies compiled, as kernels are (cmake/MobileDiffusionDispatch.cmake), units see the declarations only, unless they
// define MOBILEDIFFUSION_BODIES.
#if !defined(MOBILEDIFFUSION_BODY)
#if defined(MOBILEDIFFUSION_COMPILES_BODIES)  // the unit of that library
#define MOBILEDIFFUSION_BODY
#else
#define MOBILEDIFFUSION_BODY inline
#endif
#if !defined(MOBILEDIFFUSION_BODIES) && (defined(MOBILEDIFFUSION_COMPILES_BODIES) || !defined(MOBILEDIFFUSION_DISPATCH))
#define MOBILEDIFFUSION_BODIES
#endif
#endif

// Macros of windows.h, macOS's AssertMacros.h and X11 that are names here and in what is included here; end.hpp gives them back.
#pragma push_macro("min")
#pragma push_macro("max")
#pragma push_macro("check")
#pragma push_macro("require")
#pragma push_macro("verify")
#pragma push_macro("Status")
#undef min
#undef max
#undef check
#undef require
#undef verify
#undef Status
