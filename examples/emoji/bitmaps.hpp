// SPDX-License-Identifier: Apache-2.0
// Emoji sequences to bitmaps: HarfBuzz joins the code points to one glyph, FreeType hands out its colour bitmap.
#pragma once

#include <ft2build.h>
#include FT_FREETYPE_H
#include <hb-ft.h>
#include <hb.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "mobilediffusion/core/error.hpp"
#include "picture.hpp"

namespace emoji {

// Where Debian's fonts-noto-color-emoji package puts the font.
inline constexpr const char* default_font_path = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf";

// A colour font with bitmaps of at least 128x128 (Noto Color Emoji: 136x128). One thread at a time.
class Font {
 public:
  explicit Font(const std::string& path = default_font_path) : path_(path) {
    FT_Library library = nullptr;
    if (FT_Init_FreeType(&library) != 0) throw mobilediffusion::Error("font: expected FreeType to start, found an error");
    library_.reset(library);
    FT_Face face = nullptr;
    if (FT_New_Face(library, path.c_str(), 0, &face) != 0)
      throw mobilediffusion::Error("font: expected a readable font file, found none at " + path);
    face_.reset(face);
    if (!FT_HAS_COLOR(face) || face->num_fixed_sizes < 1 || FT_Select_Size(face, 0) != 0)
      throw mobilediffusion::Error("font: expected colour bitmaps, found none in " + path);
    font_.reset(hb_ft_font_create_referenced(face));
    buffer_.reset(hb_buffer_create());
  }

  // Premultiplied RGBA [128][128][4], the middle of the glyph's bitmap. Throws mobilediffusion::Error if the sequence is
  // not one glyph of this font.
  std::vector<std::uint8_t> bitmap(const std::u32string& code_points, const std::string& name) {
    static_assert(sizeof(char32_t) == sizeof(std::uint32_t));
    std::vector<std::uint32_t> codes(code_points.begin(), code_points.end());
    hb_buffer_clear_contents(buffer_.get());
    hb_buffer_add_utf32(buffer_.get(), codes.data(), static_cast<int>(codes.size()), 0, static_cast<int>(codes.size()));
    hb_buffer_guess_segment_properties(buffer_.get());
    hb_shape(font_.get(), buffer_.get(), nullptr, 0);
    unsigned count = 0;
    const hb_glyph_info_t* glyphs = hb_buffer_get_glyph_infos(buffer_.get(), &count);
    if (count != 1 || glyphs[0].codepoint == 0)
      throw mobilediffusion::Error("emoji \"" + name + "\": expected one glyph, found " + std::to_string(count) + " in " + path_);
    const FT_GlyphSlot slot = face_->glyph;
    if (FT_Load_Glyph(face_.get(), glyphs[0].codepoint, FT_LOAD_COLOR) != 0 || slot->bitmap.pixel_mode != FT_PIXEL_MODE_BGRA ||
        slot->bitmap.width < picture_size || slot->bitmap.rows < picture_size || slot->bitmap.pitch < 0)
      throw mobilediffusion::Error("emoji \"" + name + "\": expected a colour bitmap of at least 128x128, found none in " +
                                   path_);
    const std::size_t left = (slot->bitmap.width - picture_size) / 2, top = (slot->bitmap.rows - picture_size) / 2;
    std::vector<std::uint8_t> out(bitmap_bytes);
    for (std::size_t y = 0; y < picture_size; ++y)
      for (std::size_t x = 0; x < picture_size; ++x) {
        const unsigned char* p = slot->bitmap.buffer + (y + top) * static_cast<std::size_t>(slot->bitmap.pitch) + (x + left) * 4;
        std::uint8_t* q = &out[(y * picture_size + x) * 4];
        q[0] = p[2];
        q[1] = p[1];
        q[2] = p[0];
        q[3] = p[3];  // BGRA, premultiplied already
      }
    return out;
  }

 private:
  template <auto F>
  struct Deleter {
    template <class T>
    void operator()(T* p) const {
      F(p);
    }
  };
  std::string path_;
  std::unique_ptr<std::remove_pointer_t<FT_Library>, Deleter<FT_Done_FreeType>> library_;
  std::unique_ptr<std::remove_pointer_t<FT_Face>, Deleter<FT_Done_Face>> face_;
  std::unique_ptr<hb_font_t, Deleter<hb_font_destroy>> font_;
  std::unique_ptr<hb_buffer_t, Deleter<hb_buffer_destroy>> buffer_;
};

// One bitmap for each concept of a vocabulary (anything with size() and [i].code_points and [i].name).
template <class Vocabulary>
Bitmaps load_bitmaps(const Vocabulary& vocabulary, const std::string& font_path = default_font_path) {
  Font font(font_path);
  std::vector<std::vector<std::uint8_t>> bitmaps;
  bitmaps.reserve(vocabulary.size());
  for (std::size_t i = 0; i < vocabulary.size(); ++i)
    bitmaps.push_back(font.bitmap(vocabulary[i].code_points, vocabulary[i].name));
  return Bitmaps(std::move(bitmaps));
}

}  // namespace emoji
