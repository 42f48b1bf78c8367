// SPDX-License-Identifier: Apache-2.0
// What sentencepiece does not check in a model before it trusts it: its normalization table is a trie whose links are
// followed without bounds, so that a damaged or hostile model reads outside of it. A model arrives inside weight files.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail {

// The fields of one protocol buffer message, in order (protobuf.dev/programming-guides/encoding).
class ProtobufFields {
 public:
  explicit ProtobufFields(std::string_view message) : rest_(message) {}

  std::uint64_t number = 0;
  std::string_view bytes;  // of a length-delimited field, else empty

  // False at the end, and at the first thing that is malformed: then ok() is false too.
  bool next() {
    bytes = {};
    if (rest_.empty()) return false;
    const auto tag = varint();
    if (!tag) return ok_ = false;
    number = *tag >> 3;
    switch (*tag & 7) {
      case 0:
        return ok_ = varint().has_value();
      case 1:
        return take(8);
      case 2: {
        const auto length = varint();
        if (!length || *length > rest_.size()) return ok_ = false;
        bytes = rest_.substr(0, static_cast<std::size_t>(*length));
        rest_.remove_prefix(bytes.size());
        return true;
      }
      case 5:
        return take(4);
      default:
        return ok_ = false;  // groups: no such field in these messages
    }
  }
  bool ok() const { return ok_; }

 private:
  bool take(std::size_t n) {
    if (rest_.size() < n) return ok_ = false;
    rest_.remove_prefix(n);
    return true;
  }
  std::optional<std::uint64_t> varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    return std::nullopt;
  }

  std::string_view rest_;
  bool ok_ = true;
};

// A table is: the trie's size in bytes, the trie (a darts-clone double array of 32-bit units), texts that end in a zero
// byte. True where no walk through the trie, on any text, leaves it, and every value found lies inside the texts.
inline bool is_sound_normalization_table(std::string_view table) {
  if (table.empty()) return true;
  std::uint32_t trie_bytes = 0;
  if (table.size() < 4) return false;
  std::memcpy(&trie_bytes, table.data(), 4);
  if (trie_bytes > table.size() - 4 || trie_bytes % 4 != 0 || trie_bytes == 0) return false;
  const std::string_view texts = table.substr(4 + trie_bytes);
  if (texts.empty() || texts.back() != '\0') return false;
  const std::size_t n = trie_bytes / 4;
  const auto unit = [&](std::size_t i) {
    std::uint32_t u = 0;
    std::memcpy(&u, table.data() + 4 + 4 * i, 4);
    return u;
  };
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t u = unit(i);
    if ((u >> 31) != 0) continue;  // holds a value: no label matches it, no link leads on
    const std::size_t children = i ^ (std::size_t{u >> 10} << ((u & (1u << 9)) >> 6));
    if ((children | 0xFF) >= n) return false;
    if ((u & 0x100) != 0 && (unit(children) & 0x7FFFFFFFu) >= texts.size()) return false;
  }
  return true;
}

// True where the tables of a serialized ModelProto (normalizer_spec = 3 and denormalizer_spec = 5, in each
// precompiled_charsmap = 2; sentencepiece_model.proto) are sound.
inline bool is_sound_sentencepiece_model(std::string_view model) {
  ProtobufFields fields(model);
  while (fields.next()) {
    if (fields.number != 3 && fields.number != 5) continue;
    ProtobufFields spec(fields.bytes);
    while (spec.next())
      if (spec.number == 2 && !is_sound_normalization_table(spec.bytes)) return false;
    if (!spec.ok()) return false;
  }
  return fields.ok();
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail

#include "../core/end.hpp"
