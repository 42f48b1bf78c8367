// SPDX-License-Identifier: Apache-2.0
// Pictures read: every kind of PNG and JPEG gives the pixels that Pillow sees (golden/make_pictures.py); what is damaged, cut,
// hostile or of another format is refused with a reason.
#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/io/read_image.hpp"
#include "mobilediffusion/io/safetensors.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

namespace {

class Pictures {
 public:
  std::set<std::string> names() const {
    std::set<std::string> names;
    for (const TensorView& t : file_.tensors())
      if (t.name.ends_with("/file")) names.insert(std::string(t.name.substr(0, t.name.size() - 5)));
    return names;
  }
  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  std::string file(const std::string& name) const {
    const TensorView* const t = file_.find(name + "/file");
    REQUIRE(t != nullptr);
    std::string bytes(t->size, '\0');
    file_.read_bytes(*t, std::as_writable_bytes(std::span(bytes)));
    return bytes;
  }
  Image image(const std::string& name) const {
    const TensorView* const t = file_.find(name);
    REQUIRE(t != nullptr);
    Image image(t->shape[1], t->shape[0]);
    file_.read_bytes(*t, std::as_writable_bytes(std::span(image.rgb)));
    return image;
  }

 private:
  SafetensorsFile file_{MOBILEDIFFUSION_TEST_DATA "/pictures.safetensors"};
};

int largest_difference(const Image& a, const Image& b) {
  REQUIRE(a.width == b.width);
  REQUIRE(a.height == b.height);
  int most = 0;
  for (std::size_t i = 0; i < a.rgb.size(); ++i) most = std::max(most, std::abs(int{a.rgb[i]} - int{b.rgb[i]}));
  return most;
}

Image noise(std::size_t width, std::size_t height) {
  Image image(width, height);
  Random random(1, 0);
  for (auto& v : image.rgb) v = static_cast<std::uint8_t>(random.below(256));
  return image;
}

std::string chunk(const std::string& type, const std::string& body) {
  return detail::big_endian(static_cast<std::uint32_t>(body.size())) + type + body +
         detail::big_endian(detail::crc32(type + body));
}
std::string big16(unsigned v) { return {static_cast<char>(v >> 8), static_cast<char>(v & 255)}; }
std::string little16(unsigned v) { return {static_cast<char>(v & 255), static_cast<char>(v >> 8)}; }
// Exif data with one entry, the orientation.
std::string exif(unsigned orientation, bool little = true) {
  const auto u16 = little ? little16 : big16;
  const std::string zero(2, '\0'), offset = little ? little16(8) + zero : zero + big16(8),
                                   one = little ? little16(1) + zero : zero + big16(1);
  return (little ? "II" : "MM") + u16(42) + offset + u16(1) + u16(0x0112) + u16(3) + one + u16(orientation) + zero + zero + zero;
}
std::string jpeg_segment(int marker, const std::string& body) {
  return std::string("\xFF") + static_cast<char>(marker) + big16(static_cast<unsigned>(body.size() + 2)) + body;
}
// A grey picture of 8 x 8 whose Huffman tables have one code, 0: no difference, end of block. frame: 0xC0 baseline, 0xC2
// progressive.
std::string grey_jpeg(int frame, const std::string& scans) {
  const std::string one_code = std::string("\1", 1) + std::string(15, '\0') + std::string(1, '\0');
  return "\xFF\xD8" + jpeg_segment(0xDB, std::string(1, '\0') + std::string(64, '\1')) +
         jpeg_segment(frame, std::string("\x08\0\x08\0\x08\1\1\x11\0", 9)) + jpeg_segment(0xC4, std::string(1, '\0') + one_code) +
         jpeg_segment(0xC4, std::string(1, '\x10') + one_code) + scans + "\xFF\xD9";
}
// first to last: coefficients; bits: high and low half of a byte; data: of the one block.
std::string scan(int first, int last, int bits, int data) {
  return jpeg_segment(0xDA, {1, 1, 0, static_cast<char>(first), static_cast<char>(last), static_cast<char>(bits)}) +
         static_cast<char>(data);
}
std::string deflate(const std::string& bytes) {
  std::string packed(::compressBound(static_cast<uLong>(bytes.size())), '\0');
  uLongf size = static_cast<uLongf>(packed.size());
  REQUIRE(::compress2(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()),
                      static_cast<uLong>(bytes.size()), 9) == Z_OK);
  packed.resize(size);
  return packed;
}
std::string png(std::uint32_t width, std::uint32_t height, const std::string& format, const std::string& rows) {
  return std::string(detail::png_signature) + chunk("IHDR", detail::big_endian(width) + detail::big_endian(height) + format) +
         chunk("IDAT", deflate(rows)) + chunk("IEND", "");
}
const std::string rgb8("\x08\x02\0\0\0", 5);

std::string refusal(std::string_view bytes) {
  return error_of([&] { decode_image(bytes); });
}

}  // namespace

TEST_CASE("every kind of PNG and JPEG is read as Pillow reads it", "[io][image]") {
  const Pictures pictures;
  CHECK(pictures.names().size() >= 40);
  for (const std::string& name : pictures.names()) {
    INFO(name);
    const std::string file = pictures.file(name);
    const Image expected = pictures.image(name + "/white");
    if (name.starts_with("jpeg")) {  // decoders round differently by a grey level
      CHECK(largest_difference(decode_image(file), expected) <= 2);
      continue;
    }
    CHECK(decode_image(file) == expected);
    CHECK(decode_image(file, {.background = {0, 0, 0}}) == pictures.image(name + "/black"));
  }
  // Between the two, each channel by itself.
  const std::string file = pictures.file("rgba8");
  const Image white = pictures.image("rgba8/white"), black = pictures.image("rgba8/black");
  const Image mixed = decode_image(file, {.background = {255, 0, 255}});
  for (std::size_t i = 0; i < mixed.rgb.size(); ++i) CHECK(mixed.rgb[i] == (i % 3 == 1 ? black : white).rgb[i]);
}

TEST_CASE("a mask is painted where it is white and opaque", "[io][image]") {
  const TemporaryFolder folder;
  const Pictures pictures;
  write_file(folder / "m.png", pictures.file("grey_alpha8"));
  CHECK(read_mask(folder / "m.png") == pictures.image("grey_alpha8/black"));
  // White and black, each transparent and opaque.
  const std::string rows = {0, '\xFF', 0, '\xFF', '\xFF', 0, 0, 0, '\xFF'};
  write_file(folder / "m.png", png(4, 1, std::string("\x08\x04\0\0\0", 5), rows));
  CHECK(read_mask(folder / "m.png").rgb == std::vector<std::uint8_t>{0, 0, 0, 255, 255, 255, 0, 0, 0, 0, 0, 0});
  CHECK(read_image(folder / "m.png").rgb == std::vector<std::uint8_t>{255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0});
}

TEST_CASE("a picture is turned upright as Exif says", "[io][image]") {
  const Image image = noise(5, 3);
  const std::string plain = encode_png(image);
  const auto turned = [&](const std::string& exif_data) {
    std::string file = plain;
    return decode_image(file.insert(detail::png_after_header, chunk("eXIf", exif_data)));
  };
  // What orientation n means, by the definition: where the file's first row and first column are seen.
  for (unsigned orientation = 1; orientation <= 8; ++orientation) {
    INFO(orientation);
    for (const bool little : {true, false}) {
      const Image got = turned(exif(orientation, little));
      REQUIRE(got.width == (orientation < 5 ? 5 : 3));
      REQUIRE(got.height == (orientation < 5 ? 3 : 5));
      for (std::size_t y = 0; y < 3; ++y)
        for (std::size_t x = 0; x < 5; ++x) {
          const std::size_t right = 4 - x, low = 2 - y;
          const std::pair<std::size_t, std::size_t> seen[] = {{x, y}, {right, y}, {right, low}, {x, low},
                                                              {y, x}, {low, x},   {low, right}, {y, right}};
          const auto [to_x, to_y] = seen[orientation - 1];
          for (std::size_t c = 0; c < 3; ++c) CHECK(got.at(to_x, to_y, c) == image.at(x, y, c));
        }
    }
  }
  for (const unsigned odd : {0u, 9u, 65535u}) CHECK(turned(exif(odd)) == image);
  // Damaged Exif data turn nothing and are no reason to refuse a picture.
  const std::string six = exif(6);
  for (std::size_t n = 0; n < 22; ++n) CHECK(turned(six.substr(0, n)) == image);
  for (std::size_t at = 4; at < 8; ++at) {
    std::string far = six;
    far[at] = '\xFF';
    CHECK(turned(far) == image);
  }
  // JPEG: the first Exif segment, and no other APP1.
  const Pictures pictures;
  const std::string upright = pictures.file("jpeg444");
  const Image seen = decode_image(upright);
  const auto jpeg = [&](const std::string& segments) { return decode_image(std::string(upright).insert(2, segments)); };
  const std::string name("Exif\0\0", 6);
  CHECK(jpeg(jpeg_segment(0xE1, "http://ns.adobe.com/xap/1.0/")) == seen);
  CHECK(jpeg(jpeg_segment(0xE1, name + exif(1)) + jpeg_segment(0xE1, name + exif(6))) == seen);
  CHECK(jpeg(jpeg_segment(0xE1, name)) == seen);
  CHECK(jpeg(jpeg_segment(0xE1, name + exif(6, false))).width == seen.height);
}

TEST_CASE("other formats are named", "[io][image]") {
  const TemporaryFolder folder;
  const std::pair<std::string, std::string> formats[] = {{"GIF89a", "a GIF"},
                                                         {"BM6\4", "a BMP"},
                                                         {"RIFF\1\2\3\4WEBPVP8 ", "a WebP"},
                                                         {std::string("II*\0\x08", 5), "a TIFF or raw"},
                                                         {std::string("\0\0\0\x1C"
                                                                      "ftypavif",
                                                                      12),
                                                          "an AVIF"},
                                                         {std::string("\0\0\0\x1C"
                                                                      "ftypheic",
                                                                      12),
                                                          "a HEIC"},
                                                         {"<svg>", "an SVG"}};
  for (const auto& [bytes, name] : formats)
    expect(refusal(bytes), "image: expected a PNG or JPEG image, found " + name + " image: save it as PNG first");
  write_file(folder / "x.png", "not an image");
  expect(error_of([&] { read_image(folder / "x.png"); }), "x.png\": expected a PNG or JPEG image, found something else");
  expect(error_of([&] { read_image(folder / "none.png"); }), "none.png\": cannot open");
  expect(refusal(""), "expected a PNG or JPEG image");
}

TEST_CASE("damaged and cut files are refused", "[io][image]") {
  const Pictures pictures;
  const std::string whole = encode_png(noise(20, 20));
  for (std::size_t n = 8; n < whole.size(); n += 7)
    expect(refusal(std::string_view(whole).substr(0, n)), "image: PNG chunk at byte ");
  std::string damaged = whole;
  damaged[60] = static_cast<char>(damaged[60] ^ 1);
  expect(refusal(damaged), "PNG chunk at byte 33: wrong checksum");
  expect(error_of([&] { decode_image(whole, {.max_pixels = 399}); }), "image of 20 x 20 pixels, at most 399 are accepted");
  expect(refusal(png(60000, 60000, rgb8, "")), "image of 60000 x 60000 pixels, at most 67108864 are accepted");
  expect(refusal(png(2000000, 1, rgb8, "")), "cannot decode the PNG image: ");  // rows of many MB
  expect(refusal(png(0, 3, rgb8, "")), "cannot decode the PNG image: ");
  expect(refusal(png(3, 3, rgb8, std::string(29, '\0'))), "Not enough image data");
  expect(refusal(png(3, 3, std::string("\x07\x02\0\0\0", 5), std::string(30, '\0'))), "cannot decode the PNG image: ");
  expect(refusal(png(3, 3, std::string("\x08\x03\0\0\0", 5), std::string(12, '\0'))),
         "cannot decode the PNG image: ");  // no palette
  CHECK(decode_image(png(3, 3, rgb8, std::string(30, '\0'))) == Image(3, 3));
  CHECK(decode_image(png(3, 3, rgb8, std::string(30, '\0')) + "more") == Image(3, 3));

  for (const std::string name : {"jpeg420", "jpeg_progressive", "jpeg_grey", "jpeg_cmyk"}) {
    INFO(name);
    const std::string jpeg = pictures.file(name);
    for (std::size_t n = 3; n < jpeg.size(); n += 5)
      expect(refusal(std::string_view(jpeg).substr(0, n)), "cannot decode the JPEG image: ");
    CHECK(decode_image(jpeg + "more") == decode_image(jpeg));
    CHECK_FALSE(error_of([&] { decode_image(jpeg, {.max_pixels = 19 * 29 - 1}); }).empty());
  }
  // A Huffman code that does not exist.
  CHECK(decode_image(grey_jpeg(0xC0, scan(0, 63, 0, 0x3F))) == Image(8, 8, 128));
  expect(refusal(grey_jpeg(0xC0, scan(0, 63, 0, 0xBF) + std::string("\xFF\0\xFF\0", 4))), "Corrupt JPEG data: bad Huffman code");

  // Any damage: an image or an Error.
  Random random(3, 0);
  for (const std::string name : {"palette4", "rgba16_interlaced", "jpeg_progressive", "jpeg_ycck", "jpeg_turned6"}) {
    const std::string file = pictures.file(name);
    for (int round = 0; round < 300; ++round) {
      std::string bytes = file;
      for (int edits = 0; edits < 3; ++edits)
        bytes[random.below(static_cast<std::uint32_t>(bytes.size()))] = static_cast<char>(random.next());
      refusal(bytes);
    }
  }
}

TEST_CASE("small files that ask for much are refused", "[io][image]") {
  // A pixel, and a gigabyte behind it would be the same: what is not the picture's is not inflated.
  CHECK(decode_image(png(1, 1, rgb8, std::string(std::size_t{1} << 24, '\0'))) == Image(1, 1));
  // Progressive pictures: a scan of 11 bytes for each bit of each coefficient.
  const auto progressive = [](int last, int bits) {
    std::string scans = scan(0, 0, 0, 0x7F);
    for (int bit = bits; bit >= 0; --bit)
      for (int k = 1; k <= last; ++k) scans += scan(k, k, (bit == bits ? 0 : (bit + 1) << 4) | bit, 0x7F);
    return grey_jpeg(0xC2, scans);
  };
  CHECK(decode_image(progressive(30, 2)) == Image(8, 8, 128));
  expect(refusal(progressive(63, 1)), "cannot decode the JPEG image: too many scans");
  std::string again;
  for (int i = 0; i < 1000; ++i) again += scan(0, 0, 0, 0x7F);
  expect(refusal(grey_jpeg(0xC2, again)), "cannot decode the JPEG image: too many scans");
  // A Huffman table of more codes than there are.
  const std::string table = std::string("\xFF\xD8", 2) + jpeg_segment(0xC4, std::string("\0", 1) + std::string(16, '\xFF'));
  expect(refusal(table), "cannot decode the JPEG image: ");
}

TEST_CASE("PNG texts of other tools are read", "[io][image]") {
  const TemporaryFolder folder;
  const std::string plain = encode_png(Image(2, 2), std::vector<std::pair<std::string, std::string>>{{"a", "b"}});
  const auto texts = [&](const std::string& chunks) {
    write_file(folder / "t.png", std::string(plain).insert(detail::png_after_header, chunks));
    return read_png_text(folder / "t.png");
  };
  const std::string zero(1, '\0'), parameters = "a caf\xC3\xA9, masterpiece\nSteps: 20, Sampler: Euler a";
  CHECK(texts("").at("a") == "b");
  CHECK(texts(chunk("tEXt", "parameters" + zero + "a caf\xE9, masterpiece\nSteps: 20, Sampler: Euler a")).at("parameters") ==
        parameters);
  CHECK(texts(chunk("zTXt", "parameters" + zero + zero + deflate("a caf\xE9"))).at("parameters") == "a caf\xC3\xA9");
  CHECK(texts(chunk("iTXt", "parameters" + zero + zero + zero + "en" + zero + "p" + zero + parameters)).at("parameters") ==
        parameters);
  CHECK(texts(chunk("iTXt", "parameters" + zero + "\1" + zero + zero + zero + deflate(parameters))).at("parameters") ==
        parameters);
  // Unknown methods are passed over; damage is not.
  CHECK(texts(chunk("zTXt", "p" + zero + "\1" + deflate("x"))).count("p") == 0);
  CHECK(texts(chunk("iTXt", "p" + zero + "\2" + zero + zero + zero + "x")).count("p") == 0);
  const auto bad = [&](const std::string& chunks) { return error_of([&] { texts(chunks); }); };
  expect(bad(chunk("zTXt", "p" + zero + zero + deflate("abc").substr(0, 6))), "PNG text \"p\": its compressed data are damaged");
  expect(bad(chunk("zTXt", "p" + zero + zero + "garbage")), "PNG text \"p\": its compressed data are damaged");
  expect(bad(chunk("iTXt", "p" + zero + zero + zero + zero + zero + "\xFF")), "PNG text \"p\" is not UTF-8");
  // Two of 9 MiB in 18 KB are more than 16 MiB.
  const std::string large = deflate(std::string(std::size_t{9} << 20, ' '));
  CHECK(texts(chunk("zTXt", "p" + zero + zero + large)).at("p").size() == std::size_t{9} << 20);
  expect(bad(chunk("zTXt", "p" + zero + zero + large) + chunk("zTXt", "q" + zero + zero + large)),
         "PNG text \"q\": longer than 16777216 bytes");
  std::string huge = chunk("tEXt", "k" + zero + "v");
  huge.replace(0, 4, "\xFF\xFF\xFF\xFF");
  expect(bad(huge), "PNG chunk at byte 33: longer than the file");
}
