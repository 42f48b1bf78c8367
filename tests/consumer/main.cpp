// SPDX-License-Identifier: Apache-2.0
// A user of the library who sets no flags: each kind of dependency is included, and linked where it has a library.
#include <mobilediffusion/core/memory.hpp>
#include <mobilediffusion/core/executor.hpp>
#include <mobilediffusion/reflect/reflect.hpp>
#include <mobilediffusion/simd/simd.hpp>
#include <nlohmann/json_fwd.hpp>
#include <sentencepiece_processor.h>
#include <stb/stb_image.h>

struct LinearWeights {
  mobilediffusion::Matrix<4, 3> weight;
  mobilediffusion::Param<4> bias;
};

int main() {
  using namespace mobilediffusion;
  static_assert(reflect::parameters<LinearWeights>() == 16);
  const AlignedBuffer blob(reflect::storage_floats<LinearWeights>());
  const auto weights = reflect::bind<LinearWeights>(blob.data());
  const sentencepiece::SentencePieceProcessor tokenizer;
  const bool bound = weights.bias.data == blob.data() + weights.weight.storage;
  return bound && !tokenizer.status().ok() && Executor().threads() >= 1 && simd::sum(simd::splat(1.0f)) == static_cast<float>(simd::width) ? 0 : 1;
}
