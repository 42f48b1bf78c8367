// SPDX-License-Identifier: Apache-2.0
// The optimizer over flat arrays: AdamW, moving average of the weights, gradient norm, learning-rate schedule.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <numbers>
#include <type_traits>
#include <utility>

#include "../core/error.hpp"
#include "../core/executor.hpp"
#include "../simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train {

struct AdamWConfig {
  float learning_rate = 1e-4f;
  float beta1 = 0.9f, beta2 = 0.99f;
  float eps = 1e-8f;
  float weight_decay = 0.01f;
};

namespace detail {

// Threads get whole blocks and every block is computed in the same order: results do not depend on where ranges are cut.
inline constexpr std::size_t flat_block = 4096;
inline constexpr std::size_t flat_grain = 4;  // blocks: 64 KiB of floats are worth a thread
static_assert(flat_block % simd::width == 0);

inline std::size_t flat_blocks(std::size_t n) { return n / flat_block + (n % flat_block != 0); }

// Calls f(batch&...) on the elements first..last of all arrays, one vector at a time, and stores what f leaves in the first
// Written of them. The last, partial vector goes through a padded copy: it rounds like all others.
template <std::size_t Written, class F, class... Float>
inline void update(std::size_t first, std::size_t last, F&& f, Float*... arrays) {
  constexpr std::size_t width = simd::width;
  const auto at = [&]<std::size_t... I>(std::index_sequence<I...>, auto*... p) {
    simd::Batch x[] = {simd::load(p)...};
    f(x[I]...);
    const auto put = [](auto* to, simd::Batch value) {
      if constexpr (!std::is_const_v<std::remove_pointer_t<decltype(to)>>) simd::store(to, value);
    };
    ((I < Written ? put(p, x[I]) : void()), ...);
  };
  constexpr auto indices = std::index_sequence_for<Float...>{};
  std::size_t i = first;
  for (; i + width <= last; i += width) at(indices, arrays + i...);
  if (i == last) return;
  float tail[sizeof...(Float)][width] = {};
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (std::copy(arrays + i, arrays + last, tail[I]), ...);
    at(indices, tail[I]...);
    const auto put = [&](auto* to, const float* from) {
      if constexpr (!std::is_const_v<std::remove_pointer_t<decltype(to)>>) std::copy_n(from, last - i, to + i);
    };
    ((I < Written ? put(arrays, tail[I]) : void()), ...);
  }
  (indices);
}

}  // namespace detail

// One step of AdamW over n values; g is first multiplied by gradient_scale (clipping, averaging over micro-batches):
//   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
//   p = (1 - learning_rate weight_decay) p - learning_rate (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps),
// and, where ema is not null, ema += (1 - ema_decay) (p - ema) in the same pass: the step is bound by memory.
// step counts from 1; m and v start at zero; decay: false for biases and norm scales. Throws Error for step 0.
// Source: Loshchilov and Hutter 2019 (Decoupled Weight Decay Regularization), algorithm 2.
inline void adamw_step(const Executor& ex, const AdamWConfig& config, std::size_t step, float* p, const float* g, float* m,
                       float* v, std::size_t n, float gradient_scale, bool decay, float* ema = nullptr, float ema_decay = 0.0f) {
  using simd::Batch;
  if (step == 0) throw Error("adamw_step: steps count from 1, found 0");
  const double correction1 = 1.0 - std::pow(static_cast<double>(config.beta1), static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(static_cast<double>(config.beta2), static_cast<double>(step));
  const double shrink = decay ? static_cast<double>(config.learning_rate) * static_cast<double>(config.weight_decay) : 0.0;
  const Batch scale = simd::splat(gradient_scale), eps = simd::splat(config.eps),
              keep = simd::splat(static_cast<float>(1.0 - shrink));
  const Batch beta1 = simd::splat(config.beta1), rest1 = simd::splat(1.0f - config.beta1);
  const Batch beta2 = simd::splat(config.beta2), rest2 = simd::splat(1.0f - config.beta2);
  const Batch rate = simd::splat(static_cast<float>(-static_cast<double>(config.learning_rate) / correction1));
  const Batch to_rms = simd::splat(static_cast<float>(1.0 / std::sqrt(correction2))), ema_rest = simd::splat(1.0f - ema_decay);
  const auto move = [=](Batch& pi, Batch& mi, Batch& vi, Batch gi) {
    gi = gi * scale;
    mi = simd::fma(beta1, mi, rest1 * gi);
    vi = simd::fma(beta2, vi, rest2 * gi * gi);
    pi = simd::fma(rate, mi / simd::fma(simd::sqrt(vi), to_rms, eps), keep * pi);
  };
  ex.parallel_for(detail::flat_blocks(n), detail::flat_grain, [&](std::size_t begin, std::size_t end, int) {
    const std::size_t first = begin * detail::flat_block, last = std::min(n, end * detail::flat_block);
    if (ema == nullptr) {
      detail::update<3>(first, last, move, p, m, v, g);
    } else {
      const auto move_both = [=](Batch& pi, Batch& mi, Batch& vi, Batch& ei, Batch gi) {
        move(pi, mi, vi, gi);
        ei = simd::fma(ema_rest, pi - ei, ei);
      };
      detail::update<4>(first, last, move_both, p, m, v, ema, g);
    }
  });
}

// ema += (1 - decay) (p - ema) over n values.
inline void ema_update(const Executor& ex, float* ema, const float* p, std::size_t n, float decay) {
  const simd::Batch rest = simd::splat(1.0f - decay);
  ex.parallel_for(detail::flat_blocks(n), detail::flat_grain, [&](std::size_t begin, std::size_t end, int) {
    const auto move = [=](simd::Batch& e, simd::Batch x) { e = simd::fma(rest, x - e, e); };
    detail::update<1>(begin * detail::flat_block, std::min(n, end * detail::flat_block), move, ema, p);
  });
}

// x += y over n values.
inline void add(const Executor& ex, float* x, const float* y, std::size_t n) {
  ex.parallel_for(detail::flat_blocks(n), detail::flat_grain, [&](std::size_t begin, std::size_t end, int) {
    const auto move = [](simd::Batch& a, simd::Batch b) { a = a + b; };
    detail::update<1>(begin * detail::flat_block, std::min(n, end * detail::flat_block), move, x, y);
  });
}

// Sum of squares of n values. Each block of 4096 is summed in fp32 by vector lanes, the blocks in double and in order: the
// same bits on any number of threads. Infinite or NaN where a value is, or where squares leave the range of fp32.
inline double squared_norm(const Executor& ex, const float* g, std::size_t n) {
  using simd::Batch;
  // Partial sums of all threads go to the scratch of the first: no two write the same place.
  constexpr std::size_t round = Executor::scratch_floats / (sizeof(double) / sizeof(float));
  const Executor::Exclusive use(ex);
  float* partial = ex.scratch(0);
  const std::size_t blocks = detail::flat_blocks(n);
  double total = 0;
  for (std::size_t done = 0; done < blocks; done += round) {
    const std::size_t count = std::min(round, blocks - done);
    use.parallel_for(count, 2 * detail::flat_grain, [&](std::size_t begin, std::size_t end, int) {
      for (std::size_t block = begin; block < end; ++block) {
        const std::size_t first = (done + block) * detail::flat_block, last = std::min(n, first + detail::flat_block);
        Batch sum[4] = {simd::splat(0.0f), simd::splat(0.0f), simd::splat(0.0f), simd::splat(0.0f)};
        std::size_t i = first;
        for (; i + 4 * simd::width <= last; i += 4 * simd::width)
          for (std::size_t j = 0; j < 4; ++j) {
            const Batch x = simd::load(g + i + j * simd::width);
            sum[j] = simd::fma(x, x, sum[j]);
          }
        float lanes[4 * simd::width];
        for (std::size_t j = 0; j < 4; ++j) simd::store(lanes + j * simd::width, sum[j]);
        double block_sum = 0;
        for (const float lane : lanes) block_sum += static_cast<double>(lane);
        for (; i < last; ++i) block_sum += static_cast<double>(g[i]) * static_cast<double>(g[i]);
        std::memcpy(partial + 2 * block, &block_sum, sizeof(double));
      }
    });
    for (std::size_t block = 0; block < count; ++block) {
      double block_sum;
      std::memcpy(&block_sum, partial + 2 * block, sizeof(double));
      total += block_sum;
    }
  }
  return total;
}

// What to multiply gradients by so that their norm is at most max_norm (infinite: never clip).
inline float clip_scale(double squared_norm, float max_norm) {
  const double norm = std::sqrt(squared_norm), limit = static_cast<double>(max_norm);
  return norm > limit ? static_cast<float>(limit / norm) : 1.0f;
}

// Whether no value is infinite or NaN.
inline bool all_finite(const Executor& ex, const float* x, std::size_t n) {
  std::atomic<bool> finite{true};
  ex.parallel_for(detail::flat_blocks(n), 2 * detail::flat_grain, [&](std::size_t begin, std::size_t end, int) {
    const std::size_t first = begin * detail::flat_block, last = std::min(n, end * detail::flat_block);
    const simd::Batch zero = simd::splat(0.0f);
    simd::Batch sum = zero;  // 0 * x is zero only where x is finite, and NaN stays
    std::size_t i = first;
    for (; i + simd::width <= last; i += simd::width) sum = simd::fma(simd::load(x + i), zero, sum);
    float rest = simd::sum(sum);
    for (; i < last; ++i) rest += 0.0f * x[i];
    if (rest != 0.0f) finite.store(false, std::memory_order_relaxed);
  });
  return finite.load();
}

// Linear from zero to peak over the first warmup_steps, peak until decay_start, then half a cosine that reaches floor at
// total_steps and stays (Loshchilov and Hutter 2017, SGDR, without restarts). decay_start = 0: right after the warm-up.
struct LearningRateSchedule {
  float peak = 1e-4f, floor = 0.0f;
  std::size_t warmup_steps = 0, decay_start = 0, total_steps = 0;  // total_steps <= decay_start: never decays
};

// Of step 1, 2, ...: the first one already moves.
inline float learning_rate(const LearningRateSchedule& s, std::size_t step) {
  if (step < s.warmup_steps)
    return static_cast<float>(static_cast<double>(s.peak) * static_cast<double>(step) / static_cast<double>(s.warmup_steps));
  const std::size_t start = std::max(s.decay_start, s.warmup_steps);
  if (step <= start || s.total_steps <= start) return s.peak;
  if (step >= s.total_steps) return s.floor;
  const double way = static_cast<double>(step - start) / static_cast<double>(s.total_steps - start);
  const double peak = static_cast<double>(s.peak), floor = static_cast<double>(s.floor);
  return static_cast<float>(floor + (peak - floor) * 0.5 * (1.0 + std::cos(std::numbers::pi * way)));
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train

#include "../core/end.hpp"
