// SPDX-License-Identifier: Apache-2.0
// Images: PNG files with text as they are written, sheets and comparisons. Reading: test_read_image.cpp.
#include <sys/stat.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/io/image.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

namespace {

Image noise(std::size_t width, std::size_t height, std::uint64_t seed = 1) {
  Image image(width, height);
  Random random(seed, 0);
  for (auto& v : image.rgb) v = static_cast<std::uint8_t>(random.below(256));
  return image;
}

struct Chunk {
  std::string type, body;
  std::uint32_t crc;
};
// Cuts a PNG into chunks with its own arithmetic, and the checksum bit by bit.
std::vector<Chunk> chunks_of(const std::string& png) {
  const auto u32 = [&](std::size_t i) {
    std::uint32_t v = 0;
    for (std::size_t k = 0; k < 4; ++k) v = v * 256 + static_cast<unsigned char>(png.at(i + k));
    return v;
  };
  std::vector<Chunk> chunks;
  for (std::size_t i = 8; i < png.size();) {
    const std::size_t n = u32(i);
    chunks.push_back({png.substr(i + 4, 4), png.substr(i + 8, n), u32(i + 8 + n)});
    i += 12 + n;
  }
  return chunks;
}
std::uint32_t slow_crc(const std::string& bytes) {
  std::uint32_t c = ~0u;
  for (const char b : bytes) {
    c ^= static_cast<unsigned char>(b);
    for (int k = 0; k < 8; ++k) c = c / 2 ^ (c % 2 * 0xEDB88320u);
  }
  return ~c;
}

}  // namespace

TEST_CASE("PNG texts: right chunks at the right place with right checksums", "[io][image]") {
  const TemporaryFolder folder;
  const Image image = noise(5, 4);
  const std::vector<std::pair<std::string, std::string>> text{
      {"parameters", "a red circle\nSteps: 1, Seed: 42"},
      {"Prompt", "ein gr\xC3\xBCner W\xC3\xBCrfel \xE2\x98\x83 \xF0\x9F\x8E\xA8"},
      {"Empty", ""}};
  write_png(folder / "t.png", image, text);
  const auto chunks = chunks_of(read_file(folder / "t.png"));
  REQUIRE(chunks.size() >= 6);
  CHECK(chunks[0].type == "IHDR");
  CHECK(chunks[1].type == "tEXt");
  CHECK(chunks[1].body == std::string("parameters") + '\0' + text[0].second);
  CHECK(chunks[2].type == "iTXt");
  CHECK(chunks[2].body == std::string("Prompt") + std::string(5, '\0') + text[1].second);
  CHECK(chunks[3].type == "tEXt");
  CHECK(chunks.back().type == "IEND");
  for (const Chunk& c : chunks) CHECK(c.crc == slow_crc(c.type + c.body));
  CHECK(encode_png(image, text) == read_file(folder / "t.png"));
}

TEST_CASE("PNG texts and images that cannot be written", "[io][image]") {
  const TemporaryFolder folder;
  const auto path = folder / "x.png";
  const auto text = [&](std::string keyword, std::string value) {
    const std::vector<std::pair<std::string, std::string>> texts{{std::move(keyword), std::move(value)}};
    return error_of([&] { write_png(path, Image(1, 1), texts); });
  };
  for (const std::string& keyword : {std::string(), std::string(80, 'k'), std::string(" k"), std::string("k "),
                                     std::string("a  b"), std::string("a\nb"), std::string("k\xC3\xA4"), std::string("a\0b", 3)})
    expect(text(keyword, "v"), "x.png\": cannot write: the text keyword");
  expect(text("k", "\xFF"), "the text \"k\" is not UTF-8");
  expect(text("k", std::string("a\0b", 3)), "holds a zero byte");
  expect(error_of([&] { write_png(path, Image()); }), "cannot write an image of 0 x 0 pixels");
  Image wrong(4, 4);
  wrong.rgb.pop_back();
  expect(error_of([&] { write_png(path, wrong); }), "an image of 4 x 4 pixels with 47 bytes");
  wrong.width = std::size_t{1} << 40;
  expect(error_of([&] { write_png(path, wrong); }), "cannot write an image of");
  expect(error_of([&] { write_png(folder / "none/x.png", Image(1, 1)); }), "No such file or directory");
  CHECK(folder.files() == 0);
}

TEST_CASE("a PNG goes into pipes and devices as it comes", "[io][image]") {
  const TemporaryFolder folder;
  const Image image = noise(30, 20);
  const auto pipe = folder / "pipe.png";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  std::string received;
  std::thread reader([&] {
    std::ifstream in(pipe, std::ios::binary);
    received.assign(std::istreambuf_iterator<char>(in), {});
  });
  write_png(pipe, image);
  reader.join();
  CHECK(received == encode_png(image));
  CHECK(folder.files() == 1);
  write_png("/dev/null", image);
  expect(error_of([&] { write_png("/dev/full", image); }), "\"/dev/full\": cannot write into this pipe or device");
}

TEST_CASE("signed floats and bytes", "[io][image]") {
  Image image(256, 1);
  for (std::size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = static_cast<std::uint8_t>(i % 256);
  std::vector<float> values(image.rgb.size());
  signed_from_image(image, values);
  CHECK(values[0] == -1.0f);
  CHECK(values[255] == 1.0f);
  CHECK(image_from_signed(values, 256, 1) == image);
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> odd{-inf, inf, nan, -1.5f, 1.5f, 0.0f};
  CHECK(image_from_signed(odd, 1, 2).rgb == std::vector<std::uint8_t>{0, 255, 0, 0, 255, 128});
  CHECK_THROWS_AS(image_from_signed(odd, 2, 2), Error);
  CHECK_THROWS_AS(signed_from_image(image, std::span(values).first(3)), Error);
}

TEST_CASE("contact sheets", "[io][image]") {
  const std::vector<Image> images{Image(3, 2, 10), Image(2, 2, 20), Image(3, 1, 30)};
  const Image sheet = contact_sheet(images, 2, 1);
  CHECK(sheet.width == 1 + 2 * 4);
  CHECK(sheet.height == 1 + 2 * 3);
  CHECK(sheet.at(0, 0, 0) == 255);
  CHECK(sheet.at(1, 1, 0) == 10);
  CHECK(sheet.at(3, 2, 2) == 10);
  CHECK(sheet.at(5, 1, 1) == 20);
  CHECK(sheet.at(7, 1, 1) == 255);  // the second is narrower than its cell
  CHECK(sheet.at(1, 4, 0) == 30);
  CHECK(sheet.at(5, 4, 0) == 255);
  CHECK(contact_sheet(images, 100, 0).width == 9);
  CHECK_THROWS_AS(contact_sheet({}, 2), Error);
  CHECK_THROWS_AS(contact_sheet(images, 0), Error);
  CHECK_THROWS_AS(contact_sheet(images, 2, std::size_t{1} << 60), Error);
  CHECK_THROWS_AS(contact_sheet(std::vector<Image>(3), 2, 0), Error);
}

TEST_CASE("psnr", "[io][image]") {
  const Image a(4, 4, 100), b(4, 4, 110);
  CHECK(psnr(a, b) == Approx(20.0 * std::log10(255.0 / 10.0)));
  CHECK(std::isinf(psnr(a, a)));
  CHECK(psnr(Image(2, 2, 0), Image(2, 2, 255)) == Approx(0.0).margin(1e-6));
  expect(error_of([&] { psnr(a, Image(4, 5)); }), "found 4 x 4 and 4 x 5");
}
