// SPDX-License-Identifier: Apache-2.0
// What the app promises to take, known before anything is loaded: a preset or a number format that takes more does not compile.
#define MOBILEDIFFUSION_DISPATCH 1  // declarations alone: no kernel is compiled here
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/session.hpp>

namespace {

using namespace mobilediffusion;
constexpr std::size_t mebi = std::size_t{1} << 20;

// Weights, activations, and scratch of four threads.
template <ModelConfig M, Format F>
constexpr std::size_t bytes = Model<M, F>::weight_bytes + Session<M, F>::activation_bytes + 4 * 4 * Executor::scratch_floats;

static_assert(bytes<presets::emoji, Format::fp32> < 96 * mebi);
static_assert(bytes<presets::emoji, Format::int8> < 40 * mebi);
static_assert(bytes<presets::full, Format::int8> < 1024 * mebi);
static_assert(bytes<presets::lite, Format::int8> < 800 * mebi);

}  // namespace
