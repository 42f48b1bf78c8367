// SPDX-License-Identifier: Apache-2.0
// 8-bit RGB images: write PNG with the text of how the image came to be, compare, arrange. Reading: io/read_image.hpp.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <ios>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "atomic_file.hpp"
#include "message.hpp"
#include "stb.hpp"
#include "utf8.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// rgb: [height][width][3], row-major, the first row on top.
struct Image {
  std::size_t width = 0, height = 0;
  std::vector<std::uint8_t> rgb;

  Image() = default;
  Image(std::size_t w, std::size_t h, std::uint8_t value = 0) : width(w), height(h), rgb(w * h * 3, value) {}

  std::uint8_t& at(std::size_t x, std::size_t y, std::size_t channel) { return rgb[(y * width + x) * 3 + channel]; }
  std::uint8_t at(std::size_t x, std::size_t y, std::size_t channel) const { return rgb[(y * width + x) * 3 + channel]; }
  bool operator==(const Image&) const = default;
};

// The largest image that is read or written, in pixels; it also keeps stb's int arithmetic from overflowing.
inline constexpr std::size_t max_image_pixels = std::size_t{1} << 26;

namespace detail {

inline constexpr std::array<std::uint32_t, 256> crc_table = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  return table;
}();

// CRC-32 as PNG wants it (ISO 3309).
inline constexpr std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t c = 0xFFFFFFFFu;
  for (const char b : bytes) c = crc_table[(c ^ static_cast<unsigned char>(b)) & 0xFF] ^ (c >> 8);
  return ~c;
}

inline std::string big_endian(std::uint32_t v) {
  return {static_cast<char>(v >> 24), static_cast<char>(v >> 16 & 255), static_cast<char>(v >> 8 & 255),
          static_cast<char>(v & 255)};
}
inline constexpr std::size_t max_png_text = std::size_t{1} << 24;  // bytes
inline constexpr std::size_t png_after_header = 8 + 25;            // the signature, and IHDR with its length, name and CRC

inline bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// tEXt for ASCII, iTXt (uncompressed) for any other UTF-8. Source: PNG specification, 11.3.4. what: for messages.
inline std::string png_text_chunk(std::string_view what, std::string_view keyword, std::string_view text) {
  const auto fail = [&](std::initializer_list<Piece> why) { throw Error(join({what, ": cannot write: the text ", join(why)})); };
  const bool visible = std::all_of(keyword.begin(), keyword.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
  if (keyword.empty() || keyword.size() > 79 || !visible || keyword.front() == ' ' || keyword.back() == ' ' ||
      keyword.find("  ") != std::string_view::npos)
    fail({"keyword ", printable(keyword), " must be 1 to 79 ASCII characters without outer or double spaces"});
  if (find_invalid_utf8(text) != std::string_view::npos) fail({printable(keyword), " is not UTF-8"});
  if (text.find('\0') != std::string_view::npos) fail({printable(keyword), " holds a zero byte"});
  if (text.size() > max_png_text) fail({printable(keyword), " is longer than 16 MiB"});
  std::string body = is_ascii(text) ? "tEXt" : "iTXt";
  body += keyword;
  body += '\0';
  if (!is_ascii(text)) body.append(4, '\0');  // not compressed, method 0, no language, no translated keyword
  body += text;
  return big_endian(static_cast<std::uint32_t>(body.size() - 4)) + body + big_endian(crc32(body));
}

inline std::string encode_png(std::string_view what, const Image& image,
                              std::span<const std::pair<std::string, std::string>> text) {
  const std::string size = join({image.width, " x ", image.height});
  if (image.width == 0 || image.height == 0 || image.width > max_image_pixels / image.height)
    throw Error(join({what, ": cannot write an image of ", size, " pixels, expected 1 to ", max_image_pixels, " in all"}));
  if (image.rgb.size() != image.width * image.height * 3)
    throw Error(join({what, ": cannot write: an image of ", size, " pixels with ", image.rgb.size(), " bytes"}));
  std::string chunks;
  for (const auto& [keyword, value] : text) chunks += png_text_chunk(what, keyword, value);

  const StbMemory memory;
  int length = 0;
  const unsigned char* const png =
      stb::stbi_write_png_to_mem(image.rgb.data(), static_cast<int>(image.width * 3), static_cast<int>(image.width),
                                 static_cast<int>(image.height), 3, &length);
  if (png == nullptr || length < static_cast<int>(png_after_header)) throw Error(join({what, ": cannot encode"}));
  std::string bytes(reinterpret_cast<const char*>(png), static_cast<std::size_t>(length));
  return bytes.insert(png_after_header, chunks);
}

}  // namespace detail

// The bytes of a PNG file; text: pairs of keyword (ASCII, such as "parameters") and UTF-8 text, kept in the order given.
// Throws Error for an empty, inconsistent or too large image and for unusable text.
inline std::string encode_png(const Image& image, std::span<const std::pair<std::string, std::string>> text = {}) {
  return detail::encode_png("PNG", image, text);
}

// The same into a file, which is replaced in one step, or into a pipe or device that exists, as it comes. Throws Error also for
// whatever the system reports.
inline void write_png(const std::filesystem::path& path, const Image& image,
                      std::span<const std::pair<std::string, std::string>> text = {}) {
  const std::string bytes = detail::encode_png(detail::join({"file ", detail::printable(path.string())}), image, text);
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  if (!std::filesystem::is_fifo(status) && !std::filesystem::is_character_file(status)) return write_file(path, bytes);
  std::ofstream stream(path, std::ios::binary);  // opening waits for the pipe's reader
  if (!stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush())
    detail::fail_file(path, {"cannot write into this pipe or device"});
}

// From and to what the models compute with: [height][width][3] in [-1, 1]. Values outside are clamped, NaN becomes black.
// Throws Error where the sizes do not fit.
inline Image image_from_signed(std::span<const float> values, std::size_t width, std::size_t height) {
  if (values.size() != width * height * 3)
    throw Error(detail::join({"image: ", values.size(), " values for ", width, " x ", height, " x 3"}));
  Image image(width, height);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float v = values[i] * 127.5f + 127.5f;
    image.rgb[i] = static_cast<std::uint8_t>(v > 0.0f ? std::min(v, 255.0f) + 0.5f : 0.0f);
  }
  return image;
}
inline void signed_from_image(const Image& image, std::span<float> values) {
  if (values.size() != image.rgb.size())
    throw Error(detail::join({"image: ", values.size(), " values for an image of ", image.rgb.size(), " bytes"}));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(image.rgb[i]) / 127.5f - 1.0f;
}

// Images in reading order on a white sheet, gap pixels between and around them; cells are as large as the largest image.
// Throws Error for no images, no columns, or a sheet larger than max_image_pixels.
inline Image contact_sheet(std::span<const Image> images, std::size_t columns, std::size_t gap = 4) {
  if (images.empty() || columns == 0) throw Error("contact sheet: expected at least one image and one column");
  columns = std::min(columns, images.size());
  const std::size_t rows = (images.size() + columns - 1) / columns;
  std::size_t cell_width = 0, cell_height = 0;
  for (const Image& image : images) {
    if (image.rgb.size() != image.width * image.height * 3) throw Error("contact sheet: an image's bytes do not fit its size");
    cell_width = std::max(cell_width, image.width);
    cell_height = std::max(cell_height, image.height);
  }
  const auto side = [&](std::size_t cell, std::size_t n) {
    if (cell > max_image_pixels || gap > max_image_pixels || n > max_image_pixels) throw Error("contact sheet: too large");
    return (cell + gap) * n + gap;
  };
  const std::size_t width = side(cell_width, columns), height = side(cell_height, rows);
  if (width == 0 || height == 0 || width > max_image_pixels / height)
    throw Error(detail::join({"contact sheet: ", width, " x ", height, " pixels, expected 1 to ", max_image_pixels}));
  Image sheet(width, height, 255);
  for (std::size_t i = 0; i < images.size(); ++i) {
    const Image& image = images[i];
    const std::size_t left = gap + (i % columns) * (cell_width + gap), top = gap + (i / columns) * (cell_height + gap);
    for (std::size_t y = 0; y < image.height; ++y)
      std::copy_n(image.rgb.data() + y * image.width * 3, image.width * 3, sheet.rgb.data() + ((top + y) * width + left) * 3);
  }
  return sheet;
}

// Peak signal-to-noise ratio in dB over all channels, infinity for equal images. Throws Error for unequal or no sizes.
inline float psnr(const Image& a, const Image& b) {
  if (a.width != b.width || a.height != b.height || a.rgb.size() != b.rgb.size() || a.rgb.empty())
    throw Error(detail::join(
        {"psnr: expected two images of one size, found ", a.width, " x ", a.height, " and ", b.width, " x ", b.height}));
  double sum = 0;
  for (std::size_t i = 0; i < a.rgb.size(); ++i) {
    const double d = static_cast<double>(a.rgb[i]) - static_cast<double>(b.rgb[i]);
    sum += d * d;
  }
  if (sum == 0) return std::numeric_limits<float>::infinity();
  return static_cast<float>(10.0 * std::log10(255.0 * 255.0 * static_cast<double>(a.rgb.size()) / sum));
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
