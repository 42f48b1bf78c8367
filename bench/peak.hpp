// SPDX-License-Identifier: Apache-2.0
// What the machine can do, measured: multiply-adds out of registers alone, and a stream read from memory.
#pragma once

#include <time.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/core/memory.hpp"
#include "mobilediffusion/simd/dot_bf16.hpp"
#include "mobilediffusion/simd/dot_int8.hpp"
#include "mobilediffusion/simd/tiles.hpp"

namespace bench {

namespace md = mobilediffusion;

// Seconds. One thread is timed by its own clock, so that other work on the machine counts less.
inline double now(const md::Executor& ex) {
  timespec t{};
  clock_gettime(ex.threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

namespace detail {
// Independent chains that hide the latency of every known unit: on 64-bit ARM four of up to five cycles.
#if defined(__aarch64__)
inline constexpr int chain_count = 24;
#else
inline constexpr int chain_count = 12;
#endif
template <class Vector, class Step, class Sum>
[[gnu::noinline]] float chains(std::size_t rounds, Vector start, Step step, Sum total) {
  Vector sum[chain_count];
  for (int i = 0; i < chain_count; ++i) sum[i] = start;
  const Vector a = start, b = start;
  for (std::size_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 24
    for (int i = 0; i < chain_count; ++i) sum[i] = step(a, b, sum[i]);
  }
  float result = 0.0f;
  for (int i = 0; i < chain_count; ++i) result += total(sum[i]);
  return result;
}
// The best of five runs of work() on each thread, of so many multiply-accumulates.
template <class Work>
double best_rate(const md::Executor& ex, double macs, Work work) {
  std::vector<double> rates;
  for (int repetition = 0; repetition < 5; ++repetition) {
    const double start = now(ex);
    ex.parallel_for(static_cast<std::size_t>(ex.threads()), 1, [&](std::size_t begin, std::size_t end, int) {
      for (std::size_t i = begin; i < end; ++i) work();
    });
    rates.push_back(macs * ex.threads() / (now(ex) - start));
  }
  return *std::max_element(rates.begin(), rates.end());
}
// load(p): operands from memory, so that nothing is known to the compiler.
template <class Load, class Step, class Sum>
double rate(const md::Executor& ex, double macs_per_step, Load load, Step step, Sum total) {
  constexpr std::size_t rounds = 1'000'000;
  return best_rate(ex, macs_per_step * chain_count * static_cast<double>(rounds), [&] {
    alignas(64) static volatile float source[md::simd::width] = {};
    volatile float sink = chains(rounds, load(const_cast<const float*>(source)), step, total);
    static_cast<void>(sink);
  });
}
// AMX's tiles, with the kernels' four sums; and with the loads of their inner loop, two tiles of either side, from the
// first-level cache.
template <bool Bytes, bool Loads>
double tile_rate(const md::Executor& ex) {
  namespace simd = md::simd;
  constexpr std::size_t rounds = 250'000, side = simd::tile_side;
  return best_rate(ex, 4.0 * side * side * side * (Bytes ? 4 : 2) * static_cast<double>(rounds), [] {
    alignas(64) static const float zeros[4 * side * side] = {};
    const simd::Tiles registers(true);
    for (std::size_t r = 0; r < rounds; ++r) {
      if constexpr (Loads) {
        simd::load_tile<4>(zeros, 4 * side);
        simd::load_tile<5>(zeros + side * side, 4 * side);
        simd::load_tile<6>(zeros + 2 * side * side, 8 * side);
        simd::load_tile<7>(zeros + 2 * side * side + side, 8 * side);
      }
      if constexpr (Bytes) {
        simd::dot_tiles_int8<0, 4, 6>();
        simd::dot_tiles_int8<1, 4, 7>();
        simd::dot_tiles_int8<2, 5, 6>();
        simd::dot_tiles_int8<3, 5, 7>();
      } else {
        simd::dot_tiles_bf16<0, 4, 6>();
        simd::dot_tiles_bf16<1, 4, 7>();
        simd::dot_tiles_bf16<2, 5, 6>();
        simd::dot_tiles_bf16<3, 5, 7>();
      }
    }
  });
}
}  // namespace detail

// Multiply-accumulates a second by all threads of the executor, out of registers. bf16 and int8 are 0 where the processor has no
// dot products of them.
struct Peak {
  double fp32 = 0, bf16 = 0, int8 = 0;

  // The most that products of this format can reach: without its instruction they are computed in fp32.
  double of(md::Format format) const {
    if (format == md::Format::bf16 && bf16 > 0) return bf16;
    if (format == md::Format::int8 && int8 > 0) return int8;
    return fp32;
  }
};

inline Peak measure_peak(const md::Executor& ex) {
  namespace simd = md::simd;
  Peak peak;
  const double lanes = static_cast<double>(simd::width);
  peak.fp32 = detail::rate(
      ex, lanes, simd::load, [](simd::Batch a, simd::Batch b, simd::Batch c) { return simd::fma(a, b, c); }, simd::sum);
  if constexpr (simd::has_tiles) {
    peak.bf16 = detail::tile_rate<false, false>(ex);
    peak.int8 = detail::tile_rate<true, false>(ex);
    return peak;
  }
#if defined(__aarch64__)
  if constexpr (simd::has_blocks) {
    peak.bf16 = detail::rate(
        ex, 4 * lanes, simd::load, [](simd::Batch a, simd::Batch b, simd::Batch c) { return simd::block(a, b, c); }, simd::sum);
    peak.int8 = detail::rate(
        ex, 8 * lanes, simd::load_words, [](simd::Words a, simd::Words b, simd::Words c) { return simd::block(a, b, c); },
        [](simd::Words x) { return simd::sum(simd::to_float(x)); });
    return peak;
  }
#endif
  if constexpr (simd::has_dot_bf16)
    peak.bf16 = detail::rate(
        ex, 2 * lanes, simd::load, [](simd::Batch a, simd::Batch b, simd::Batch c) { return simd::dot_bf16(a, b, c); },
        simd::sum);
  if constexpr (simd::has_dot_int8)
    peak.int8 = detail::rate(
        ex, 4 * lanes, simd::load_words, [](simd::Words a, simd::Words b, simd::Words c) { return simd::dot_int8(a, b, c); },
        [](simd::Words x) { return simd::sum(simd::to_float(x)); });
  return peak;
}

// Bytes a second that all threads read together from 256 MiB.
inline double measure_bandwidth(const md::Executor& ex) {
  const md::AlignedBuffer buffer(64 << 20);
  std::vector<double> rates;
  for (int repetition = 0; repetition < 5; ++repetition) {
    const double start = now(ex);
    ex.parallel_for(buffer.size() / 64, 1, [&](std::size_t begin, std::size_t end, int) {
      namespace simd = md::simd;
      simd::Batch sum[4] = {simd::splat(0.0f), simd::splat(0.0f), simd::splat(0.0f), simd::splat(0.0f)};
      for (const float *p = buffer.data() + 64 * begin, *stop = buffer.data() + 64 * end; p != stop; p += 64)
        for (std::size_t i = 0; i < 64; i += 4 * simd::width)
          for (std::size_t j = 0; j < 4; ++j)
            if (i + j * simd::width < 64) sum[j] = sum[j] + simd::load(p + i + j * simd::width);
      volatile float sink = simd::sum(sum[0] + sum[1] + sum[2] + sum[3]);
      static_cast<void>(sink);
    });
    rates.push_back(static_cast<double>(buffer.bytes()) / (now(ex) - start));
  }
  return *std::max_element(rates.begin(), rates.end());
}

}  // namespace bench
