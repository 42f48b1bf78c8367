// SPDX-License-Identifier: Apache-2.0
// The shipped model in every number format: the pictures stay what they are in fp32, the weights take less memory.
#include <string>

#include "catch.hpp"
#include "io/temporary_folder.hpp"
#include "mobilediffusion/mobilediffusion.hpp"

using namespace mobilediffusion;

namespace {

constexpr const char* model = MOBILEDIFFUSION_TEST_DATA "/../../examples/emoji.safetensors";
constexpr const char* prompts[] = {"three strawberries on a light blue background",
                                   "a cat to the left of a mushroom on a green background"};

template <Format F>
Image draw(const char* prompt, int threads) {
  TextToImage<presets::emoji, F> m(model, threads);
  const Image image = m.generate({.prompt = prompt, .seed = 3, .steps = 4});
  CHECK(m.peak_activation_bytes() <= m.activation_bytes);
  return image;
}

}  // namespace

TEST_CASE("the shipped model draws the same pictures in bf16 and int8 as in fp32", "[pipeline][formats]") {
  static_assert(TextToImage<presets::emoji, Format::bf16>::weight_bytes < TextToImage<presets::emoji>::weight_bytes * 6 / 10);
  static_assert(TextToImage<presets::emoji, Format::int8>::weight_bytes < TextToImage<presets::emoji>::weight_bytes * 4 / 10);
  for (const char* prompt : prompts) {
    const Image fp32 = draw<Format::fp32>(prompt, 2), bf16 = draw<Format::bf16>(prompt, 2), int8 = draw<Format::int8>(prompt, 2);
    INFO(prompt);
    CHECK(psnr(bf16, fp32) > 40);
    CHECK(psnr(int8, fp32) > 30);
    CHECK(psnr(int8, fp32) < 90);  // it was another computation
    CHECK(bf16.rgb == draw<Format::bf16>(prompt, 1).rgb);
    CHECK(int8.rgb == draw<Format::int8>(prompt, 1).rgb);
  }
}

TEST_CASE("the shipped model stored in 8 bits is half the size and draws the same pictures", "[pipeline][formats]") {
  constexpr ModelConfig config = presets::emoji;
  const TemporaryFolder folder;
  const std::filesystem::path shipped = MOBILEDIFFUSION_TEST_DATA "/../../examples/emoji_one_step.safetensors";
  {
    const SafetensorsFile file(shipped);
    const AlignedBuffer memory(reflect::storage_floats<ModelWeights<config>>());
    ModelWeights<config> weights = reflect::bind<ModelWeights<config>>(memory.data());
    read_weights(file, "", weights);
    write_model<config>(folder / "int8", weights, base64_decode(file.require_metadata(detail::tokenizer_key)), Dtype::i8,
                        file.metadata());
  }
  CHECK(std::filesystem::file_size(folder / "int8") < 20'000'000);
  TextToImage<config> fp16(shipped, 2), int8(folder / "int8", 2);
  TextToImage<config, Format::int8> both(folder / "int8", 2);
  for (const char* prompt : prompts) {
    INFO(prompt);
    const Request request{.prompt = prompt, .seed = 3};
    const Image expected = fp16.generate(request), stored = int8.generate(request);
    CHECK(psnr(stored, expected) > 45);  // 48.8 at least, of the gallery's prompts
    CHECK(psnr(stored, expected) < 90);
    CHECK(psnr(both.generate(request), expected) > 40);  // products in 8 bits, too
  }
}
