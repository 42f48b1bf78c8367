// SPDX-License-Identifier: Apache-2.0
// Pictures in other sizes: as Pillow's BICUBIC makes them, and cut or bordered to another shape.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/io/resize.hpp"
#include "mobilediffusion/io/safetensors.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

namespace {

Image image_of(const SafetensorsFile& file, const TensorView& t) {
  Image image(t.shape[1], t.shape[0]);
  file.read_bytes(t, std::as_writable_bytes(std::span(image.rgb)));
  return image;
}

// Columns of grey: 0, 10, 20, ...
Image columns(std::size_t width, std::size_t height) {
  Image image(width, height);
  for (std::size_t y = 0; y < height; ++y)
    for (std::size_t x = 0; x < width; ++x)
      for (std::size_t c = 0; c < 3; ++c) image.at(x, y, c) = static_cast<std::uint8_t>(10 * x);
  return image;
}

}  // namespace

TEST_CASE("resized pictures are Pillow's within a grey level", "[io][image]") {
  const SafetensorsFile file(MOBILEDIFFUSION_TEST_DATA "/pictures.safetensors");
  const Image input = image_of(file, *file.find("resize/input"));
  int sizes = 0;
  for (const TensorView& t : file.tensors()) {
    if (!t.name.starts_with("resize/") || t.name == "resize/input") continue;
    INFO(t.name);
    const Image expected = image_of(file, t), got = resized(input, expected.width, expected.height);
    int most = 0;
    for (std::size_t i = 0; i < got.rgb.size(); ++i) most = std::max(most, std::abs(int{got.rgb[i]} - int{expected.rgb[i]}));
    CHECK(most <= 1);
    ++sizes;
  }
  CHECK(sizes == 5);
  CHECK(resized(input, input.width, input.height) == input);
  CHECK(resized(Image(7, 5, 200), 3, 11) == Image(3, 11, 200));
  expect(error_of([&] { resized(Image(), 1, 1); }), "resize: expected a picture, found 0 x 0 pixels with 0 bytes");
  expect(error_of([&] { resized(input, 0, 1); }), "resize: expected 1 to 67108864 pixels, found 0 x 1");
  expect(error_of([&] { resized(input, std::size_t{1} << 40, 2); }), "resize: expected 1 to 67108864 pixels");
}

TEST_CASE("pictures of another shape are cut, bordered or stretched", "[io][image]") {
  const Image wide = columns(12, 4), cut = fitted(wide, 4, 4);
  for (std::size_t x = 0; x < 4; ++x) CHECK(cut.at(x, 2, 1) == 10 * (x + 4));  // the middle third
  const Image tall = fitted(columns(4, 12), 4, 4);
  CHECK(tall == columns(4, 4));
  const Image whole = fitted(columns(4, 2), 4, 4, Fit::contain, 77);
  for (std::size_t x = 0; x < 4; ++x) {
    CHECK(whole.at(x, 0, 0) == 77);
    CHECK(whole.at(x, 1, 0) == 10 * x);
    CHECK(whole.at(x, 2, 0) == 10 * x);
    CHECK(whole.at(x, 3, 0) == 77);
  }
  CHECK(fitted(wide, 4, 4, Fit::stretch) == resized(wide, 4, 4));
  CHECK(fitted(wide, 24, 8) == resized(wide, 24, 8));
  CHECK(fitted(wide, 12, 4, Fit::contain) == wide);
  CHECK(fitted(Image(1000, 1, 9), 8, 8) == Image(8, 8, 9));
  CHECK(fitted(Image(1000, 1, 9), 8, 8, Fit::contain).at(3, 3, 0) == 9);
  CHECK_THROWS_AS(fitted(Image(), 8, 8), Error);
}
