// SPDX-License-Identifier: Apache-2.0
// Weights that are no aggregate cannot be reflected.
// expect: mobilediffusion: weights are aggregates; give this type no constructors
#include <mobilediffusion/reflect/reflect.hpp>

struct LinearWeights {
  explicit LinearWeights(int) {}
  mobilediffusion::Param<4> weight;
};
inline constexpr auto parameters = mobilediffusion::reflect::parameters<LinearWeights>();
