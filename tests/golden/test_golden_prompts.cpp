// SPDX-License-Identifier: Apache-2.0
// Prompts in chunks, with weights and skipped layers, against transformers' text encoder and the formulas of other programs.
#include "golden/golden_models.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/sampling.hpp"

using namespace mobilediffusion;

namespace {

constexpr ModelConfig model = [] {
  ModelConfig m = presets::with_long_prompts(presets::tiny, 3);
  m.text = {.vocabulary = 40, .length = 7, .width = 16, .layers = 3, .heads = 2};
  m.unet.pooled_width = 0;
  return m;
}();
constexpr ModelConfig penultimate = [] {
  ModelConfig m = model;
  m.text.penultimate = true;
  return m;
}();

template <ModelConfig M>
std::vector<float> context(golden::Case<typename TextEncoder<M.text>::Weights>& g, std::size_t clip_skip, bool weighted) {
  std::vector<float> result;
  const std::size_t floats = Sampling<M>::conditioning_floats(golden::batch) +
                             TextEncoder<M.text>::stack_floats(Plan::inference, golden::batch * Sampling<M>::most_chunks);
  g.attempt(floats, [&](Context& c, const auto& w) {
    const Conditioning found = Sampling<M>::encode(
        c, w, {.ids = g.ids("ids"), .weights = weighted ? g.input("weights") : nullptr, .chunks = 2, .clip_skip = clip_skip});
    CHECK(found.context_tokens == 2 * M.text.length);
    result.assign(found.context, found.context + golden::batch * found.context_tokens * M.text.width);
  });
  return result;
}

}  // namespace

TEST_CASE("golden: prompts in chunks, without the last layers") {
  golden::Case<TextEncoder<model.text>::Weights> g("prompts", "text");
  for (const std::size_t skip : {0, 1, 2}) g.check("outputs/context_" + std::to_string(skip), context<model>(g, skip, false));
  std::string refusal;
  try {
    context<model>(g, 3, false);
  } catch (const Error& e) {
    refusal = e.what();
  }
  CHECK(refusal == "clip_skip: expected 0 to 2, found 3");
}

TEST_CASE("golden: layers are skipped from the one that the context is before") {
  golden::Case<TextEncoder<penultimate.text>::Weights> g("prompts", "text");
  g.check("outputs/penultimate_1", context<penultimate>(g, 1, false));
}

TEST_CASE("golden: weights of tokens, and the mean that stays") {
  golden::Case<TextEncoder<model.text>::Weights> g("prompts", "text");
  for (const std::size_t skip : {0, 1}) g.check("outputs/weighted_" + std::to_string(skip), context<model>(g, skip, true));
}
