// SPDX-License-Identifier: Apache-2.0
// The only include of stb: the implementation of stb_image_write with internal linkage, inside a namespace of our own, so that
// any number of translation units, and users with an stb of their own before or after, compile and link.
#pragma once

#include "../core/begin.hpp"

// What stb includes, first: inside our namespace only stb itself may be left.
#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cstddef>
#include <new>

#include "../core/error.hpp"

// CMake's target defines it where it found zlib (with libpng and libjpeg): a PNG takes a third of the time that it takes with
// stb's own compression, and is smaller by a third.
#if defined(MOBILEDIFFUSION_ZLIB)
#include <zlib.h>
#endif

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail {

// Owns all that stb allocates on this thread during its lifetime: stb does not look at what its allocator returns, so the
// functions below throw where memory lacks, and what stb then leaves behind is freed here.
class StbMemory {
 public:
  StbMemory() : outer_(current()) { current() = this; }
  ~StbMemory() {
    current() = outer_;
    while (blocks_.next != &blocks_) release(blocks_.next + 1);
  }
  StbMemory(const StbMemory&) = delete;
  StbMemory& operator=(const StbMemory&) = delete;

  static void* allocate(std::size_t bytes) { return insert(::malloc(sizeof(Block) + bytes)); }
  static void* reallocate(void* old, std::size_t bytes) {
    if (old == nullptr) return allocate(bytes);
    Block* const block = static_cast<Block*>(old) - 1;
    Block* const moved = static_cast<Block*>(::realloc(block, sizeof(Block) + bytes));
    if (moved == nullptr) throw std::bad_alloc();
    moved->previous->next = moved->next->previous = moved;
    return moved + 1;
  }
  static void release(void* memory) {
    if (memory == nullptr) return;
    Block* const block = static_cast<Block*>(memory) - 1;
    block->previous->next = block->next;
    block->next->previous = block->previous;
    ::free(block);
  }

 private:
  struct alignas(std::max_align_t) Block {
    Block *previous, *next;
  };

  static StbMemory*& current() {
    thread_local StbMemory* memory = nullptr;  // stb hands no argument through to its allocator
    return memory;
  }
  static void* insert(void* memory) {
    if (memory == nullptr) throw std::bad_alloc();
    Block* const first = &current()->blocks_;
    Block* const block = new (memory) Block{first, first->next};
    first->next = block->next->previous = block;
    return block + 1;
  }

  Block blocks_{&blocks_, &blocks_};  // a ring
  StbMemory* outer_;
};

#if defined(MOBILEDIFFUSION_ZLIB)
// As stb_image_write.h wants STBIW_ZLIB_COMPRESS; its quality is another scale. nullptr: it failed.
inline unsigned char* compress_for_stb(unsigned char* data, int length, int* compressed_length, int) {
  constexpr int level = 2;  // the higher ones take two to four times as long for a few per cent
  uLongf size = ::compressBound(static_cast<uLong>(length));
  auto* const out = static_cast<unsigned char*>(StbMemory::allocate(size));
  if (::compress2(out, &size, data, static_cast<uLong>(length), level) != Z_OK) return nullptr;
  *compressed_length = static_cast<int>(size);
  return out;
}
#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wshadow"

// A user's own copy is configured by the same macros: theirs must not reach ours, nor ours theirs.
#pragma push_macro("INCLUDE_STB_IMAGE_WRITE_H")
#pragma push_macro("STB_IMAGE_WRITE_IMPLEMENTATION")
#pragma push_macro("STB_IMAGE_WRITE_STATIC")
#pragma push_macro("STBI_WRITE_NO_STDIO")
#pragma push_macro("STBIWDEF")
#pragma push_macro("STBIW_ASSERT")
#pragma push_macro("STBIW_MALLOC")
#pragma push_macro("STBIW_REALLOC")
#pragma push_macro("STBIW_REALLOC_SIZED")
#pragma push_macro("STBIW_FREE")
#pragma push_macro("STBIW_MEMMOVE")
#pragma push_macro("STBIW_ZLIB_COMPRESS")
#pragma push_macro("STBIW_CRC32")
#pragma push_macro("STBIW_WINDOWS_UTF8")
#undef INCLUDE_STB_IMAGE_WRITE_H
#undef STB_IMAGE_WRITE_IMPLEMENTATION
#undef STB_IMAGE_WRITE_STATIC
#undef STBI_WRITE_NO_STDIO
#undef STBIWDEF
#undef STBIW_ASSERT
#undef STBIW_MALLOC
#undef STBIW_REALLOC
#undef STBIW_REALLOC_SIZED
#undef STBIW_FREE
#undef STBIW_MEMMOVE
#undef STBIW_ZLIB_COMPRESS
#undef STBIW_CRC32
#undef STBIW_WINDOWS_UTF8

#define STBIWDEF [[maybe_unused]] static
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#define STBIW_MALLOC(bytes) ::mobilediffusion::detail::StbMemory::allocate(bytes)
#define STBIW_REALLOC(old, bytes) ::mobilediffusion::detail::StbMemory::reallocate(old, bytes)
#define STBIW_FREE(memory) ::mobilediffusion::detail::StbMemory::release(memory)
#if defined(MOBILEDIFFUSION_ZLIB)
#define STBIW_ZLIB_COMPRESS ::mobilediffusion::detail::compress_for_stb
#endif
// A library must not abort its host.
#define STBIW_ASSERT(x) ((x) ? static_cast<void>(0) : throw ::mobilediffusion::Error("stb_image_write: internal check failed"))

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail::stb {
#if __has_include(<stb/stb_image_write.h>)
#include <stb/stb_image_write.h>
#else  // where vcpkg and Conan have it
#include <stb_image_write.h>
#endif
}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail::stb

#pragma pop_macro("INCLUDE_STB_IMAGE_WRITE_H")
#pragma pop_macro("STB_IMAGE_WRITE_IMPLEMENTATION")
#pragma pop_macro("STB_IMAGE_WRITE_STATIC")
#pragma pop_macro("STBI_WRITE_NO_STDIO")
#pragma pop_macro("STBIWDEF")
#pragma pop_macro("STBIW_ASSERT")
#pragma pop_macro("STBIW_MALLOC")
#pragma pop_macro("STBIW_REALLOC")
#pragma pop_macro("STBIW_REALLOC_SIZED")
#pragma pop_macro("STBIW_FREE")
#pragma pop_macro("STBIW_MEMMOVE")
#pragma pop_macro("STBIW_ZLIB_COMPRESS")
#pragma pop_macro("STBIW_CRC32")
#pragma pop_macro("STBIW_WINDOWS_UTF8")
#pragma GCC diagnostic pop

#include "../core/end.hpp"
