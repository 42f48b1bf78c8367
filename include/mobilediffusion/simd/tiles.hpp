// SPDX-License-Identifier: Apache-2.0
// Raw instructions of AMX: eight registers of rows of bytes, tiles, and the product of two of them added to a third. The
// registers are numbered, in the instructions too, so their numbers are template arguments.
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18, and the instructions' pages.
//
// A portable stand-in of the same semantics takes the place of the instructions where MOBILEDIFFUSION_AMX_STAND_IN is defined:
// with it packing and loops are tested on any processor. It refuses what the processor refuses.
#pragma once

#include "../core/begin.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "../core/error.hpp"
#include "../core/reinterpret_bits.hpp"
#include "isa.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd {

#if defined(MOBILEDIFFUSION_AMX_STAND_IN) || defined(MOBILEDIFFUSION_AMX)
inline constexpr bool has_tiles = true;
#else
inline constexpr bool has_tiles = false;
#endif

// A whole tile: 16 rows of 16 words, a word being an fp32, an int32, two bf16 or four bytes.
inline constexpr std::size_t tile_side = 16, tile_registers = 8;

// What each register is to hold, as LDTILECFG reads it. A register without rows may not be used.
struct TileShapes {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};

  static constexpr TileShapes whole() {
    TileShapes s;
    for (std::size_t i = 0; i < tile_registers; ++i) {
      s.row_bytes[i] = 4 * tile_side;
      s.rows[i] = tile_side;
    }
    return s;
  }
};
static_assert(sizeof(TileShapes) == 64);

#if defined(MOBILEDIFFUSION_AMX_STAND_IN)

// A thread's registers.
struct StandInTiles {
  TileShapes shapes{.palette = 0};
  std::uint32_t words[tile_registers][tile_side][tile_side] = {};

  std::size_t rows(int t) const { return shapes.rows[t]; }
  std::size_t columns(int t) const { return shapes.row_bytes[t] / 4; }
  void expect(int t) const {
    if (shapes.palette == 0 || rows(t) == 0 || shapes.row_bytes[t] % 4 != 0)
      throw Error("tiles: expected register " + std::to_string(t) + " configured with rows of whole words, found it without");
  }
  void expect_product(int c, int a, int b) const {
    for (const int t : {c, a, b}) expect(t);
    if (c == a || c == b || a == b) throw Error("tiles: a product expects three different registers, found one twice");
    if (rows(c) != rows(a) || columns(c) != columns(b) || columns(a) != rows(b))
      throw Error("tiles: a product expects the shapes m x n += m x k, k x n, found " + shape(c) + " += " + shape(a) + ", " +
                  shape(b));
  }
  std::string shape(int t) const { return std::to_string(rows(t)) + " x " + std::to_string(columns(t)); }
};
inline constinit thread_local StandInTiles stand_in_tiles;

inline void configure_tiles(const TileShapes& s) {
  bool fits = s.palette <= 1;
  for (const std::uint8_t r : s.reserved) fits = fits && r == 0;
  for (std::size_t i = 0; i < 16; ++i) {
    const bool none = s.rows[i] == 0 && s.row_bytes[i] == 0;
    fits = fits && (none || (i < tile_registers && s.rows[i] != 0 && s.rows[i] <= tile_side && s.row_bytes[i] != 0 &&
                             s.row_bytes[i] <= 4 * tile_side));
  }
  if (!fits && s.palette != 0) throw Error("tiles: expected a configuration of palette 1, found another");
  stand_in_tiles = {};
  if (s.palette != 0) stand_in_tiles.shapes = s;
}
inline void release_tiles() { stand_in_tiles = {}; }

template <int T>
void load_tile(const void* p, std::size_t stride) {
  StandInTiles& s = stand_in_tiles;
  s.expect(T);
  std::memset(s.words[T], 0, sizeof(s.words[T]));
  for (std::size_t r = 0; r < s.rows(T); ++r)
    std::memcpy(s.words[T][r], static_cast<const unsigned char*>(p) + r * stride, s.shapes.row_bytes[T]);
}
template <int T>
void load_tile_once(const void* p, std::size_t stride) {
  load_tile<T>(p, stride);
}
template <int T>
void zero_tile() {
  stand_in_tiles.expect(T);
  std::memset(stand_in_tiles.words[T], 0, sizeof(stand_in_tiles.words[T]));
}
template <int T>
void store_tile(void* p, std::size_t stride) {
  const StandInTiles& s = stand_in_tiles;
  s.expect(T);
  for (std::size_t r = 0; r < s.rows(T); ++r)
    std::memcpy(static_cast<unsigned char*>(p) + r * stride, s.words[T][r], s.shapes.row_bytes[T]);
}

namespace detail {

inline float without_denormals(float x) {
  const auto bits = reinterpret_bits<std::uint32_t>(x);
  return (bits & 0x7f800000u) == 0 ? reinterpret_bits<float>(bits & 0x80000000u) : x;
}
// The bf16 in the lower or upper half of a word.
inline float lower_half(std::uint32_t word) { return without_denormals(reinterpret_bits<float>(word << 16)); }
inline float upper_half(std::uint32_t word) { return without_denormals(reinterpret_bits<float>(word & 0xffff0000u)); }

}  // namespace detail

// C += A B of bf16 into fp32. The even and the odd values of k are two sums of fused steps, which begin at zero for each
// instruction; they are added to each other, and that to C. Rounding is to nearest even, denormals count as zero and become
// zero, whatever the thread's control register says.
template <int C, int A, int B>
void dot_tiles_bf16() {
  using detail::lower_half, detail::upper_half, detail::without_denormals;
  StandInTiles& s = stand_in_tiles;
  s.expect_product(C, A, B);
  for (std::size_t m = 0; m < s.rows(C); ++m) {
    float even[tile_side] = {}, odd[tile_side] = {};
    for (std::size_t k = 0; k < s.rows(B); ++k) {
      const std::uint32_t a = s.words[A][m][k];
      const float a_even = lower_half(a), a_odd = upper_half(a);
      for (std::size_t n = 0; n < tile_side; ++n) {
        even[n] = without_denormals(std::fma(a_even, lower_half(s.words[B][k][n]), even[n]));
        odd[n] = without_denormals(std::fma(a_odd, upper_half(s.words[B][k][n]), odd[n]));
      }
    }
    for (std::size_t n = 0; n < s.columns(C); ++n) {
      const float c = without_denormals(reinterpret_bits<float>(s.words[C][m][n]));
      s.words[C][m][n] = reinterpret_bits<std::uint32_t>(without_denormals(c + without_denormals(even[n] + odd[n])));
    }
  }
}

// C += A B of bytes, those of A unsigned, those of B signed, into int32 that wraps around.
template <int C, int A, int B>
void dot_tiles_int8() {
  StandInTiles& s = stand_in_tiles;
  s.expect_product(C, A, B);
  for (std::size_t m = 0; m < s.rows(C); ++m)
    for (std::size_t k = 0; k < s.rows(B); ++k) {
      const auto a = reinterpret_bits<std::array<std::uint8_t, 4>>(s.words[A][m][k]);
      for (std::size_t n = 0; n < tile_side; ++n) {
        const auto b = reinterpret_bits<std::array<std::int8_t, 4>>(s.words[B][k][n]);
        s.words[C][m][n] += static_cast<std::uint32_t>(a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]);
      }
    }
}

inline bool tiles_permitted() { return true; }

#elif defined(MOBILEDIFFUSION_AMX)

// Not the compilers' functions: g++'s are macros that paste the number's text, and take no template argument.
inline void configure_tiles(const TileShapes& s) { asm volatile("ldtilecfg %0" : : "m"(s)); }
inline void release_tiles() { asm volatile("tilerelease" : : : "memory"); }

// Rows that are `stride` bytes apart; words beyond the shape become zero.
template <int T>
[[gnu::always_inline]] inline void load_tile(const void* p, std::size_t stride) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(T), "r"(p), "r"(stride) : "memory");
}
// The same for what is not read again soon: it leaves the first-level cache to what is.
template <int T>
[[gnu::always_inline]] inline void load_tile_once(const void* p, std::size_t stride) {
  asm volatile("tileloaddt1 (%1,%2,1), %%tmm%c0" : : "i"(T), "r"(p), "r"(stride) : "memory");
}
template <int T>
[[gnu::always_inline]] inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(T));
}
template <int T>
[[gnu::always_inline]] inline void store_tile(void* p, std::size_t stride) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(T), "r"(p), "r"(stride) : "memory");
}
// As the stand-in's, above.
template <int C, int A, int B>
[[gnu::always_inline]] inline void dot_tiles_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}
template <int C, int A, int B>
[[gnu::always_inline]] inline void dot_tiles_int8() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

inline bool tiles_permitted() { return supported(Isa::amx); }

#else

// Named by code that has_tiles discards; never defined.
bool tiles_permitted();
void configure_tiles(const TileShapes& s);
void release_tiles();
template <int T>
void load_tile(const void* p, std::size_t stride);
template <int T>
void load_tile_once(const void* p, std::size_t stride);
template <int T>
void zero_tile();
template <int T>
void store_tile(void* p, std::size_t stride);
template <int C, int A, int B>
void dot_tiles_bf16();
template <int C, int A, int B>
void dot_tiles_int8();

#endif

// A thread's registers, all of them whole tiles, for as long as this lives. Then they are empty again, so that the system has
// nothing to save of a thread that does other work.
class Tiles {
 public:
  // used: whether there will be products of tiles. Throws Error where the system refuses the registers.
  explicit Tiles([[maybe_unused]] bool used) {
    if constexpr (has_tiles) {
      used_ = used;
      if (!used) return;
      static constexpr TileShapes whole = TileShapes::whole();
      static const bool permitted = tiles_permitted();
      if (!permitted)
        throw Error(
            "AMX: expected registers that the processor has and the system grants, as this unit was compiled for them; "
            "found none. Without -mamx-tile, or with mobilediffusion_dispatch() of CMake, it does without");
      configure_tiles(whole);
    }
  }
  ~Tiles() {
    if constexpr (has_tiles)
      if (used_) release_tiles();
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  bool used_ = false;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd

#include "../core/end.hpp"
