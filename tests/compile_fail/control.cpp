// SPDX-License-Identifier: Apache-2.0
// The positive control: what the other files break compiles, so they fail for their own reasons.
// expect: no error
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>
#include <mobilediffusion/reflect/reflect.hpp>

static_assert(mobilediffusion::ValidModel<mobilediffusion::presets::tiny>::value);

struct LinearWeights {
  mobilediffusion::Param<4> weight;
  mobilediffusion::Absent bias;
};
static_assert(mobilediffusion::reflect::parameters<LinearWeights>() == 4);
