// SPDX-License-Identifier: Apache-2.0
// PNG and JPEG files. The checksums of a PNG's chunks, which no blind change would get right, are put right first.
// By hand: clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -DMOBILEDIFFUSION_FUZZ -Iinclude -Itests
// tests/fuzz/fuzz_image.cpp -lpng -lz -ljpeg -o fuzz_image && ./fuzz_image tests/fuzz/corpus/image
#include "fuzz.hpp"
#include "mobilediffusion/io/read_image.hpp"
#include "mobilediffusion/io/resize.hpp"

namespace md = mobilediffusion;

namespace {

std::string with_checksums(std::string_view input) {
  std::string file(input);
  if (!input.starts_with(md::detail::png_signature)) return file;
  for (std::size_t at = md::detail::png_signature.size(); at + 12 <= file.size();) {
    const std::size_t length = md::detail::from_big_endian(input.substr(at));
    if (length > file.size() - at - 12) break;
    file.replace(at + 8 + length, 4, md::detail::big_endian(md::detail::crc32(input.substr(at + 4, 4 + length))));
    at += 12 + length;
  }
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string file = with_checksums(fuzz::text_of(data, size));
  const int result = fuzz::read([&] {
    const md::Image image = md::decode_image(file, {.max_pixels = std::size_t{1} << 21, .background = {0, 128, 255}});
    fuzz::expect(image.width > 0 && image.height > 0 && image.rgb.size() == image.width * image.height * 3, "pixels of the size");
    for (const md::Fit fit : {md::Fit::cover, md::Fit::contain, md::Fit::stretch})
      fuzz::expect(md::fitted(image, 9, 7, fit).rgb.size() == 9 * 7 * 3, "a picture in another size");
    if (image.rgb.size() < 10000) fuzz::expect(md::decode_image(md::encode_png(image)) == image, "the same picture read again");
  });
  const bool accepted = fuzz::accepted;
  fuzz::read([&] { md::detail::png_texts("image", file); });
  fuzz::accepted = accepted;
  return result;
}
