// SPDX-License-Identifier: Apache-2.0
// Arguments: nothing, or what MOBILEDIFFUSION_ISA must lead to: the name of an instruction set, or "error".
#include <cmath>
#include <cstring>
#include <mobilediffusion/kernels/kernels.hpp>

float run_layer();

int main(int argc, char** argv) {
  using namespace mobilediffusion;
  const char* expected = argc > 1 ? argv[1] : kernels::instruction_set();
  try {
    // 24 gated values, each 1.125 gelu(1.125), times 0.125 and the bias, eight outputs.
    const float gated = 1.125f * 0.5f * 1.125f * (1.0f + std::erf(1.125f / std::sqrt(2.0f)));
    const bool right = std::fabs(run_layer() - 8.0f * (24.0f * gated * 0.125f + 0.125f)) < 1e-3f;
    return right && std::strcmp(kernels::instruction_set(), expected) == 0 ? 0 : 1;
  } catch (const Error&) {
    return std::strcmp(expected, "error") == 0 ? 0 : 1;
  }
}
