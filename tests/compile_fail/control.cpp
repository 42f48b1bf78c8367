// SPDX-License-Identifier: Apache-2.0
// The positive control: right weights compile, so the other files fail for their own reasons.
// expect: no error
#include <mobilediffusion/reflect/reflect.hpp>

struct LinearWeights {
  mobilediffusion::Param<4> weight;
  mobilediffusion::Absent bias;
};
static_assert(mobilediffusion::reflect::parameters<LinearWeights>() == 4);
