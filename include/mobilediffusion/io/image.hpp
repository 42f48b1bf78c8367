// SPDX-License-Identifier: Apache-2.0
// 8-bit RGB images: read PNG and JPEG, write PNG with the text of how the image came to be, compare, arrange.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
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

// The largest image that is read or written: 64 million pixels, which also keeps stb's int arithmetic from overflowing.
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
inline std::uint32_t from_big_endian(std::string_view b) {
  std::uint32_t v = 0;
  for (std::size_t i = 0; i < 4; ++i) v = v << 8 | static_cast<unsigned char>(b[i]);
  return v;
}

inline constexpr std::string_view png_signature = "\x89PNG\r\n\x1a\n";
inline constexpr std::size_t png_after_header = 8 + 25;  // the signature, and IHDR with its length, name and CRC

inline bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// tEXt for ASCII, iTXt (uncompressed) for any other UTF-8. Source: PNG specification, 11.3.4.
inline std::string png_text_chunk(const std::filesystem::path& path, std::string_view keyword, std::string_view text) {
  const bool visible = std::all_of(keyword.begin(), keyword.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
  if (keyword.empty() || keyword.size() > 79 || !visible || keyword.front() == ' ' || keyword.back() == ' ' ||
      keyword.find("  ") != std::string_view::npos)
    fail_file(path, {"cannot write: the text keyword ", printable(keyword),
                     " must be 1 to 79 ASCII characters without outer or double spaces"});
  if (find_invalid_utf8(text) != std::string_view::npos)
    fail_file(path, {"cannot write: the text ", printable(keyword), " is not UTF-8"});
  if (text.find('\0') != std::string_view::npos)
    fail_file(path, {"cannot write: the text ", printable(keyword), " holds a zero byte"});
  if (text.size() > (std::size_t{1} << 24))
    fail_file(path, {"cannot write: the text ", printable(keyword), " is longer than 16 MiB"});
  std::string body = is_ascii(text) ? "tEXt" : "iTXt";
  body += keyword;
  body += '\0';
  if (!is_ascii(text)) body.append(4, '\0');  // not compressed, method 0, no language, no translated keyword
  body += text;
  return big_endian(static_cast<std::uint32_t>(body.size() - 4)) + body + big_endian(crc32(body));
}

}  // namespace detail

// Encodes as PNG; text: pairs of keyword (ASCII, such as "parameters") and UTF-8 text, kept in the order given.
// Throws Error for an empty, inconsistent or too large image, unusable text, and whatever the disk reports; the file is
// replaced in one step.
inline void write_png(const std::filesystem::path& path, const Image& image,
                      std::span<const std::pair<std::string, std::string>> text = {}) {
  const std::string size = detail::join({image.width, " x ", image.height});
  if (image.width == 0 || image.height == 0 || image.width > max_image_pixels / image.height)
    detail::fail_file(path, {"cannot write an image of ", size, " pixels, expected 1 to ", max_image_pixels, " in all"});
  if (image.rgb.size() != image.width * image.height * 3)
    detail::fail_file(path, {"cannot write: an image of ", size, " pixels with ", image.rgb.size(), " bytes"});
  std::string chunks;
  for (const auto& [keyword, value] : text) chunks += detail::png_text_chunk(path, keyword, value);

  struct Free {
    void operator()(unsigned char* p) const { ::free(p); }
  };
  int length = 0;
  const std::unique_ptr<unsigned char, Free> png(
      detail::stb::stbi_write_png_to_mem(image.rgb.data(), static_cast<int>(image.width * 3), static_cast<int>(image.width),
                                         static_cast<int>(image.height), 3, &length));
  if (png == nullptr || length < static_cast<int>(detail::png_after_header))
    detail::fail_file(path, {"cannot encode: out of memory"});
  const std::string_view bytes(reinterpret_cast<const char*>(png.get()), static_cast<std::size_t>(length));
  AtomicFile file(path);
  file.write(bytes.substr(0, detail::png_after_header));
  file.write(chunks);
  file.write(bytes.substr(detail::png_after_header));
  file.commit();
}

// The texts of a PNG file as UTF-8: tEXt (from Latin-1) and uncompressed iTXt; of equal keywords the last one.
// Throws Error for a file that is no PNG or is damaged (lengths, checksums).
inline std::map<std::string, std::string> read_png_text(const std::filesystem::path& path) {
  const std::string file = read_file(path);
  std::string_view rest = file;
  if (!rest.starts_with(detail::png_signature)) detail::fail_file(path, {"not a PNG image"});
  rest.remove_prefix(detail::png_signature.size());
  std::map<std::string, std::string> texts;
  for (bool end = false; !end;) {
    const std::size_t position = file.size() - rest.size();
    if (rest.size() < 12) detail::fail_file(path, {"PNG cut short at byte ", position});
    const std::size_t length = detail::from_big_endian(rest);
    if (length > rest.size() - 12) detail::fail_file(path, {"PNG chunk at byte ", position, " is longer than the file"});
    const std::string_view named = rest.substr(4, 4 + length), type = named.substr(0, 4), body = named.substr(4);
    if (detail::crc32(named) != detail::from_big_endian(rest.substr(8 + length)))
      detail::fail_file(path, {"PNG chunk at byte ", position, ": wrong checksum"});
    rest.remove_prefix(12 + length);
    end = type == "IEND";
    const std::size_t zero = body.find('\0');
    if (zero == std::string_view::npos) continue;
    const std::string keyword(body.substr(0, zero));
    std::string_view text = body.substr(zero + 1);
    if (type == "tEXt") {
      std::string& utf8 = texts[keyword];
      utf8.clear();
      for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x80) utf8 += c;
        else utf8 += {static_cast<char>(0xC0 | byte >> 6), static_cast<char>(0x80 | (byte & 0x3F))};
      }
    } else if (type == "iTXt" && text.size() >= 2 && text[0] == 0) {
      text.remove_prefix(2);
      const std::size_t language = text.find('\0');
      const std::size_t translated = language == std::string_view::npos ? language : text.find('\0', language + 1);
      if (translated == std::string_view::npos) continue;
      text.remove_prefix(translated + 1);
      if (find_invalid_utf8(text) != std::string_view::npos)
        detail::fail_file(path, {"PNG text ", detail::printable(keyword), " is not UTF-8"});
      texts[keyword] = std::string(text);
    }
  }
  return texts;
}

// Decodes PNG or JPEG to RGB: grey is repeated, alpha is dropped. Throws Error with the decoder's reason, or for more
// than max_pixels, which is checked before anything of that size is allocated.
inline Image read_image(const std::filesystem::path& path, std::size_t max_pixels = max_image_pixels) {
  const std::string file = read_file(path);
  const auto* bytes = reinterpret_cast<const unsigned char*>(file.data());
  if (file.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    detail::fail_file(path, {"too large for an image"});
  const int length = static_cast<int>(file.size());
  const auto reason = [] {
    const char* const text = detail::stb::stbi_failure_reason();
    return std::string(text == nullptr ? "unknown reason" : text);
  };
  int width = 0, height = 0, channels = 0;
  if (detail::stb::stbi_info_from_memory(bytes, length, &width, &height, &channels) == 0 || width <= 0 || height <= 0)
    detail::fail_file(path, {"expected a PNG or JPEG image: ", reason()});
  const auto w = static_cast<std::size_t>(width), h = static_cast<std::size_t>(height);
  const std::size_t most = std::min(max_pixels, max_image_pixels);
  if (w > most / h) detail::fail_file(path, {"image of ", w, " x ", h, " pixels, at most ", most, " are accepted"});
  struct Free {
    void operator()(unsigned char* p) const { ::free(p); }
  };
  const std::unique_ptr<unsigned char, Free> rgb(
      detail::stb::stbi_load_from_memory(bytes, length, &width, &height, &channels, 3));
  if (rgb == nullptr) detail::fail_file(path, {"cannot decode the image: ", reason()});
  if (static_cast<std::size_t>(width) != w || static_cast<std::size_t>(height) != h)
    detail::fail_file(path, {"contradicts itself in its size"});
  Image image(w, h);
  std::copy_n(rgb.get(), image.rgb.size(), image.rgb.begin());
  return image;
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
