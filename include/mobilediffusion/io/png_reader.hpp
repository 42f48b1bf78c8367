// SPDX-License-Identifier: Apache-2.0
// PNG: its chunks, the texts in them, and the picture by libpng.
#pragma once

#include "../core/begin.hpp"

#include <png.h>
#include <zlib.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>

#include "../core/error.hpp"
#include "decoder.hpp"
#include "image.hpp"
#include "message.hpp"
#include "utf8.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail {

inline constexpr std::string_view png_signature = "\x89PNG\r\n\x1a\n";

inline std::uint32_t from_big_endian(std::string_view b) {
  std::uint32_t v = 0;
  for (std::size_t i = 0; i < 4; ++i) v = v << 8 | static_cast<unsigned char>(b[i]);
  return v;
}

// The chunks of a PNG file one after the other, up to IEND. what: for messages, as everywhere here.
class PngChunks {
 public:
  std::string_view whole, type, body;  // of the current one; whole: with length and checksum

  // Throws Error where the signature lacks.
  PngChunks(std::string_view what, std::string_view file) : what_(what), size_(file.size()), rest_(file) {
    if (!file.starts_with(png_signature)) throw Error(join({what, ": not a PNG image"}));
    rest_.remove_prefix(png_signature.size());
  }
  // False after IEND. Throws Error for lengths and checksums that are wrong.
  bool next() {
    if (type == "IEND") return false;
    const auto fail = [&](const char* why) {
      throw Error(join({what_, ": PNG chunk at byte ", size_ - rest_.size(), ": ", why}));
    };
    if (rest_.size() < 12) fail("the file is cut short");
    const std::size_t length = from_big_endian(rest_);
    if (length > rest_.size() - 12) fail("longer than the file");
    whole = rest_.substr(0, 12 + length), type = whole.substr(4, 4), body = whole.substr(8, length);
    const auto* const named = reinterpret_cast<const Bytef*>(whole.data() + 4);
    if (::crc32_z(0, named, length + 4) != from_big_endian(whole.substr(8 + length))) fail("wrong checksum");
    rest_.remove_prefix(whole.size());
    return true;
  }

 private:
  std::string_view what_;
  std::size_t size_;
  std::string_view rest_;
};

// Inflates a text; budget: how many bytes all texts of a file may still become.
inline std::string inflate_png_text(std::string_view what, std::string_view keyword, std::string_view packed,
                                    std::size_t& budget) {
  const auto fail = [&](std::string_view why) { throw Error(join({what, ": PNG text ", printable(keyword), ": ", why})); };
  struct Stream : ::z_stream {
    Stream() : ::z_stream{} {}
    ~Stream() { ::inflateEnd(this); }
  } stream;
  if (::inflateInit(&stream) != Z_OK) fail("cannot be inflated");
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());  // a chunk is shorter than 4 GiB
  std::string text;
  std::array<char, 16384> piece;
  for (int status = Z_OK; status != Z_STREAM_END;) {
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(piece.size());
    status = ::inflate(&stream, Z_NO_FLUSH);
    const std::size_t n = piece.size() - stream.avail_out;
    if (n > budget) fail(join({"longer than ", max_png_text, " bytes with those before it"}));
    budget -= n;
    text.append(piece.data(), n);
    if (status != Z_OK && status != Z_STREAM_END) fail("its compressed data are damaged");
  }
  return text;
}

inline std::string utf8_from_latin1(std::string_view text) {
  std::string utf8;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) utf8 += c;
    else utf8 += {static_cast<char>(0xC0 | byte >> 6), static_cast<char>(0x80 | (byte & 0x3F))};
  }
  return utf8;
}

inline std::map<std::string, std::string> png_texts(std::string_view what, std::string_view file) {
  std::map<std::string, std::string> texts;
  std::size_t budget = max_png_text;
  for (PngChunks chunk(what, file); chunk.next();) {
    const std::size_t zero = chunk.body.find('\0');
    if (zero == std::string_view::npos) continue;
    const std::string keyword(chunk.body.substr(0, zero));
    std::string_view text = chunk.body.substr(zero + 1);
    if (chunk.type == "tEXt") {
      texts[keyword] = utf8_from_latin1(text);
    } else if (chunk.type == "zTXt" && text.starts_with('\0')) {  // method 0
      texts[keyword] = utf8_from_latin1(inflate_png_text(what, keyword, text.substr(1), budget));
    } else if (chunk.type == "iTXt" && text.size() >= 2) {
      const char compressed = text[0], method = text[1];
      text.remove_prefix(2);
      const std::size_t language = text.find('\0');
      const std::size_t translated = language == std::string_view::npos ? language : text.find('\0', language + 1);
      if (translated == std::string_view::npos || (compressed != 0 && (compressed != 1 || method != 0))) continue;
      text.remove_prefix(translated + 1);
      std::string utf8 = compressed == 0 ? std::string(text) : inflate_png_text(what, keyword, text, budget);
      if (find_invalid_utf8(utf8) != std::string_view::npos)
        throw Error(join({what, ": PNG text ", printable(keyword), " is not UTF-8"}));
      texts[keyword] = std::move(utf8);
    }
  }
  return texts;
}

// libpng over bytes in memory. Its functions return false where it fails; failure.message then says why.
class PngDecoder {
 public:
  DecoderFailure failure{};
  std::size_t width = 0, height = 0, channels = 0;

  explicit PngDecoder(std::string_view bytes) : bytes_(bytes) {}
  ~PngDecoder() { ::png_destroy_read_struct(&png_, &info_, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  // Fills width, height and channels: 3, or 4 where the file has alpha of any kind.
  bool read_header() {
    png_ = ::png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    info_ = png_ == nullptr ? nullptr : ::png_create_info_struct(png_);
    if (info_ == nullptr) return std::strcpy(failure.message, "out of memory"), false;
    if (setjmp(failure.jump) != 0) return false;
    ::png_set_read_fn(png_, this, on_read);
    ::png_read_info(png_, info_);
    ::png_set_expand(png_);  // palettes, 1, 2 and 4 bits, colours that tRNS makes transparent
    ::png_set_scale_16(png_);
    ::png_set_gray_to_rgb(png_);
    ::png_set_interlace_handling(png_);
    ::png_read_update_info(png_, info_);
    width = ::png_get_image_width(png_, info_);
    height = ::png_get_image_height(png_, info_);
    channels = ::png_get_channels(png_, info_);
    if (::png_get_bit_depth(png_, info_) != 8 || (channels != 3 && channels != 4)) failure.leave("unknown kind of pixels");
    return true;
  }
  // out: [height][width][channels].
  bool read_rows(std::uint8_t* out) {
    if (setjmp(failure.jump) != 0) return false;
    for (int passes = ::png_get_interlace_type(png_, info_) == PNG_INTERLACE_NONE ? 1 : 7; passes > 0; --passes)
      for (std::size_t y = 0; y < height; ++y) ::png_read_row(png_, out + y * width * channels, nullptr);
    return true;
  }

 private:
  static void on_error(png_structp png, png_const_charp text) {
    static_cast<PngDecoder*>(::png_get_error_ptr(png))->failure.leave(text);
  }
  static void on_warning(png_structp, png_const_charp) {}
  static void on_read(png_structp png, png_bytep out, std::size_t size) {
    auto* const self = static_cast<PngDecoder*>(::png_get_io_ptr(png));
    if (size > self->bytes_.size()) self->failure.leave("the file is cut short");
    std::memcpy(out, self->bytes_.data(), size);
    self->bytes_.remove_prefix(size);
  }

  std::string_view bytes_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

// libpng is given only what the picture is made of: an attacker has little to aim at, and gamma and colour profiles, which
// would change the values, are left out.
inline DecodedImage decode_png(std::string_view what, std::string_view file, std::size_t max_pixels) {
  DecodedImage image;
  std::string picture(png_signature);
  for (PngChunks chunk(what, file); chunk.next();) {
    if (chunk.type == "eXIf") image.orientation = exif_orientation(chunk.body);
    if (chunk.type == "IHDR" && chunk.body.size() >= 8) {
      const std::size_t width = from_big_endian(chunk.body), height = from_big_endian(chunk.body.substr(4));
      check_image_size(what, width, height, max_pixels);
    }
    for (const std::string_view needed : {"IHDR", "PLTE", "tRNS", "IDAT", "IEND"})
      if (chunk.type == needed) picture += chunk.whole;
  }
  PngDecoder decoder(picture);
  const auto fail = [&] { throw Error(join({what, ": cannot decode the PNG image: ", decoder.failure.message})); };
  if (!decoder.read_header()) fail();
  image.width = decoder.width, image.height = decoder.height, image.channels = decoder.channels;
  check_image_size(what, image.width, image.height, max_pixels);
  image.bytes.resize(image.width * image.height * image.channels);
  if (!decoder.read_rows(image.bytes.data())) fail();
  return image;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail

#include "../core/end.hpp"
