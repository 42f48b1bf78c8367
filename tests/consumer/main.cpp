// SPDX-License-Identifier: Apache-2.0
// A user of the library who sets no flags: each kind of dependency is included, and linked where it has a library.
#include <mobilediffusion/core/memory.hpp>
#include <mobilediffusion/core/executor.hpp>
#include <mobilediffusion/io/image.hpp>
#include <mobilediffusion/reflect/reflect.hpp>
#include <mobilediffusion/simd/simd.hpp>
#include <nlohmann/json_fwd.hpp>
#include <sentencepiece_processor.h>
#if __has_include(<png.h>) && __has_include(<jpeglib.h>)
#include <mobilediffusion/io/read_image.hpp>
#endif

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
  const Image image(3, 2, 128);
  const std::string png = encode_png(image);
#if __has_include(<png.h>) && __has_include(<jpeglib.h>)
  if (decode_image(png) != image) return 2;
#endif
  const bool bound = weights.bias.data == blob.data() + weights.weight.storage;
  return bound && !tokenizer.status().ok() && Executor().threads() >= 1 && simd::sum(simd::splat(1.0f)) == static_cast<float>(simd::width) ? 0 : 1;
}
