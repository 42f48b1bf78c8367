// SPDX-License-Identifier: Apache-2.0
// Gradients of the text encoder against differences of its outputs.
#include "catch.hpp"
#include "gradient_check.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/models/text_encoder.hpp"

using namespace mobilediffusion;
using namespace gradient_tests;

namespace {

template <TextEncoderConfig C>
std::string faults() {
  using Model = TextEncoder<C>;
  using W = typename Model::Weights;
  typename Model::Saved saved;
  constexpr std::size_t batch = 2;
  std::vector<std::int32_t> ids(batch * C.length);  // repeated tokens and padding
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * i % 11 % C.vocabulary);
  std::vector<std::size_t> outputs{batch * Model::context_floats};
  if (Model::pooled_floats > 0) outputs.push_back(batch * Model::pooled_floats);
  return check_gradients<W>(
      {}, outputs,
      [&](Context& c, const W& w, const Pointers&, const Pointers& y) {
        Model::forward(c, w, ids.data(), y[0], Model::pooled_floats > 0 ? y[1] : nullptr, saved);
      },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers&) {
        Model::backward(c, w, g, saved, dy[0], Model::pooled_floats > 0 ? dy[1] : nullptr);
      },
      {.batch = batch});
}

constexpr TextEncoderConfig other{.vocabulary = 12,
                                  .length = 5,
                                  .width = 8,
                                  .layers = 1,
                                  .heads = 1,
                                  .mlp_ratio = 3,
                                  .activation = Activation::gelu,
                                  .causal = false,
                                  .pooled = 3};
constexpr TextEncoderConfig projected{
    .vocabulary = 12, .length = 5, .width = 8, .layers = 1, .heads = 1, .mlp_ratio = 2, .projection = 6};

}  // namespace

TEST_CASE("every gradient of the text encoder is that of its output") {
  CHECK(faults<presets::tiny.text>() == "");
  CHECK(faults<other>() == "");
  CHECK(faults<projected>() == "");
}
