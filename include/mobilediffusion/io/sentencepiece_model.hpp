// SPDX-License-Identifier: Apache-2.0
// What of a sentencepiece model is accepted. sentencepiece trusts its models: it follows the links of a normalization table
// unchecked, keeps what it finds in arrays of fixed size, builds tries out of pieces, and writes complaints to the terminal. A
// model arrives inside weight files, so only the kind that train_tokenizer makes is handed on: byte pairs of plain pieces, and
// a table whose every walk is known to end. Whatever else the format may hold is refused, not understood.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <string_view>
#include <vector>

#include "../core/error.hpp"
#include "../core/reinterpret_bits.hpp"
#include "message.hpp"
#include "utf8.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail {

// The fields of one protocol buffer message, in order (protobuf.dev/programming-guides/encoding). Numbers must be written as
// protobuf itself writes them, in no more bytes than they need: readers differ in what they make of longer ones. Groups are
// refused.
class ProtobufFields {
 public:
  enum class Wire { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

  explicit ProtobufFields(std::string_view message) : rest_(message) {}

  std::uint32_t number = 0;
  Wire wire{};
  std::uint64_t value = 0;  // of a varint or a fixed one
  std::string_view bytes;   // of a field with a length

  // False at the end. Throws Error for what is malformed.
  bool next();

 private:
  [[noreturn]] static void fail() { throw Error("not a sentencepiece model, or a damaged one"); }
  std::string_view take(std::size_t n);
  std::uint64_t fixed(std::size_t n);
  std::uint64_t varint();

  std::string_view rest_;
};

// A table: the trie's size in bytes, the trie (a darts-clone double array of 32-bit units), texts that end in a zero byte. A walk
// begins at the root's offset; a byte c leads from place p to unit p ^ c if that has the label c, and on to the unit's place xor
// its offset. A unit with a leaf puts a value there: where a text begins.
class NormalizationTable {
 public:
  // Limits that hold for every walk. sentencepiece makes room for 32 values; its own table needs 4 (of U+1F1E6 and the like) and
  // texts of 33 bytes (U+FDFA). The third bounds what a prompt can grow to.
  static constexpr std::size_t most_labels = 64, most_values = 32, longest_text = 64;

  // True where no walk, on any text, leaves the trie, goes on for more labels, or finds more values than the limits say, and
  // every value is the beginning of a text.
  static bool is_sound(std::string_view table);

 private:
  static constexpr std::uint32_t none = UINT32_MAX;
  struct Place {
    std::uint32_t first = none;  // the units that lead on from here: a list through next_
    std::uint8_t labels = 0, values = 0;
    bool known = false;  // the two above: the most of any walk from here
  };

  NormalizationTable(std::string_view trie, std::string_view texts)
      : trie_(trie), texts_(texts), places_(trie.size() / 4), next_(trie.size() / 4, none) {}

  static std::uint32_t word(std::string_view bytes, std::size_t at);
  std::uint32_t unit(std::size_t i) const { return word(trie_, 4 * i); }
  static std::size_t offset(std::uint32_t unit) { return std::size_t{unit >> 10} << ((unit & (1u << 9)) >> 6); }

  bool ends_of_texts() const;

  bool walks_end();

  // Every walk from a place that is reached by so many labels. Places may be shared and links may go round: what is known of a
  // place is not asked again, and a circle ends at the limit.
  bool walk(std::size_t at, std::size_t labels_before);

  std::string_view trie_, texts_;
  std::vector<Place> places_;
  std::vector<std::uint32_t> next_;
};

// The messages of sentencepiece_model.proto, each checked for the fields that decide what sentencepiece does.
class SentencepieceModel {
 public:
  static constexpr std::size_t most_pieces = 1'000'000, longest_piece = 1024;  // bytes

  // Throws Error, which says what is wrong, for a model that is not as train_tokenizer makes it, and for more than `most` pieces.
  static void check(std::string_view model, std::size_t most = most_pieces) { SentencepieceModel(most).check_model(model); }

 private:
  using Wire = ProtobufFields::Wire;
  // Field numbers, as the format gives them.
  static constexpr std::uint32_t pieces = 1, trainer = 2, normalizer = 3, denormalizer = 5;                     // of a model
  static constexpr std::uint32_t model_type = 3, suffix_space = 24, byte_fallback = 35, first_extension = 200;  // of trainer
  static constexpr std::uint32_t table = 2, last_normalizer = 6;                                                // of normalizer
  static constexpr std::uint32_t text = 1, score = 2, type = 3;                                                 // of a piece
  static constexpr std::uint64_t byte_pairs = 2, plain = 1, unknown = 2, control = 3;

  explicit SentencepieceModel(std::size_t most) : most_(most) {}

  void check_model(std::string_view model);

  // Of the ids 0 to 3 the second is the unknown piece, the others are control symbols; all further ones are plain.
  void check_piece(std::string_view piece);

  void check_trainer(std::string_view spec);

  void check_normalizer(std::string_view spec);

  static void expect(bool holds, std::string_view what, std::uint32_t number) {
    if (!holds) throw Error(join({what, number, ": not what a tokenizer of byte pairs has"}));
  }

  std::size_t most_;
  std::set<std::string_view> texts_;  // no table of hashes, which foreign texts can be made to collide in
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY bool ProtobufFields::next() {
  if (rest_.empty()) return false;
  const std::uint64_t tag = varint();
  if (tag > UINT32_MAX || (tag >> 3) == 0) fail();
  number = static_cast<std::uint32_t>(tag >> 3);
  wire = static_cast<Wire>(tag & 7);
  value = 0;
  bytes = {};
  switch (wire) {
    case Wire::varint:
      value = varint();
      return true;
    case Wire::fixed64:
      value = fixed(8);
      return true;
    case Wire::fixed32:
      value = fixed(4);
      return true;
    case Wire::bytes: {
      const std::uint64_t length = varint();
      if (length > rest_.size()) fail();
      bytes = take(static_cast<std::size_t>(length));
      return true;
    }
  }
  fail();
}

MOBILEDIFFUSION_BODY std::string_view ProtobufFields::take(std::size_t n) {
  if (rest_.size() < n) fail();
  const std::string_view taken = rest_.substr(0, n);
  rest_.remove_prefix(n);
  return taken;
}

MOBILEDIFFUSION_BODY std::uint64_t ProtobufFields::fixed(std::size_t n) {  // little-endian
  std::uint64_t out = 0;
  unsigned shift = 0;
  for (const char c : take(n)) {
    out |= std::uint64_t{static_cast<unsigned char>(c)} << shift;
    shift += 8;
  }
  return out;
}

MOBILEDIFFUSION_BODY std::uint64_t ProtobufFields::varint() {
  std::uint64_t out = 0;
  for (unsigned shift = 0; shift < 70; shift += 7) {
    const auto byte = static_cast<unsigned char>(take(1)[0]);
    out |= std::uint64_t{byte & 0x7Fu} << shift;
    if (byte >= 0x80) continue;
    if ((byte == 0 && shift > 0) || (byte > 1 && shift == 63)) fail();
    return out;
  }
  fail();
}

MOBILEDIFFUSION_BODY bool NormalizationTable::is_sound(std::string_view table) {
  std::uint32_t trie_bytes = 0;
  if (table.size() < 4) return false;
  trie_bytes = word(table, 0);
  if (trie_bytes > table.size() - 4 || trie_bytes % 4 != 0 || trie_bytes == 0) return false;
  NormalizationTable t(table.substr(4, trie_bytes), table.substr(4 + trie_bytes));
  return t.ends_of_texts() && t.walks_end();
}

MOBILEDIFFUSION_BODY std::uint32_t NormalizationTable::word(std::string_view bytes, std::size_t at) {
  std::uint32_t w = 0;
  std::memcpy(&w, bytes.data() + at, 4);
  if constexpr (std::endian::native == std::endian::big) w = (w >> 24) | (w >> 8 & 0xFF00u) | (w << 8 & 0xFF0000u) | (w << 24);
  return w;
}

MOBILEDIFFUSION_BODY bool NormalizationTable::ends_of_texts() const {
  if (texts_.empty() || texts_.back() != '\0') return false;
  for (std::size_t begin = 0; begin < texts_.size();) {
    const std::size_t end = texts_.find('\0', begin);
    if (end - begin > longest_text) return false;
    begin = end + 1;
  }
  return true;
}

MOBILEDIFFUSION_BODY bool NormalizationTable::walks_end() {
  for (std::uint32_t i = 0; i < places_.size(); ++i) {
    const std::uint32_t u = unit(i);
    if ((u >> 31) != 0) continue;  // a value: no label is equal to it
    const std::size_t from = i ^ (u & 0xFFu);
    if (from >= places_.size()) continue;  // would have to be reached from outside
    next_[i] = places_[from].first;
    places_[from].first = i;
  }
  return walk(offset(unit(0)), 0);
}

MOBILEDIFFUSION_BODY bool NormalizationTable::walk(std::size_t at, std::size_t labels_before) {
  if ((at | 0xFF) >= places_.size()) return false;  // each byte of a text is looked up
  Place& here = places_[at];
  if (!here.known) {
    std::size_t labels = 0, values = 0;
    if (here.first != none && labels_before == most_labels) return false;
    for (std::uint32_t i = here.first; i != none; i = next_[i]) {
      const std::uint32_t u = unit(i);
      const std::size_t to = i ^ offset(u);
      if (!walk(to, labels_before + 1)) return false;
      const bool leaf = (u & 0x100) != 0;
      if (leaf && (unit(to) & 0x7FFFFFFFu) >= texts_.size()) return false;
      labels = std::max(labels, std::size_t{places_[to].labels} + 1);
      values = std::max(values, std::size_t{places_[to].values} + (leaf ? 1 : 0));
    }
    if (values > most_values) return false;
    here.labels = static_cast<std::uint8_t>(labels);
    here.values = static_cast<std::uint8_t>(values);
    here.known = true;
  }
  return labels_before + here.labels <= most_labels;
}

MOBILEDIFFUSION_BODY void SentencepieceModel::check_model(std::string_view model) {
  ProtobufFields fields(model);
  std::size_t trainers = 0, normalizers = 0;
  while (fields.next()) {
    expect(fields.wire == Wire::bytes, "field ", fields.number);
    if (fields.number == pieces) check_piece(fields.bytes);
    else if (fields.number == trainer && ++trainers == 1) check_trainer(fields.bytes);
    else if (fields.number == normalizer && ++normalizers == 1) check_normalizer(fields.bytes);
    else expect(fields.number == denormalizer && fields.bytes.empty(), "field ", fields.number);
  }
  if (texts_.size() < 4 || trainers != 1 || normalizers != 1) throw Error("not a sentencepiece model, or a damaged one");
}

MOBILEDIFFUSION_BODY void SentencepieceModel::check_piece(std::string_view piece) {
  const std::size_t id = texts_.size();
  if (id == most_) throw Error(join({"expected at most ", most_, " pieces, found more"}));
  std::string_view name;
  std::uint64_t kind = plain;
  ProtobufFields fields(piece);
  std::uint32_t last = 0;
  while (fields.next()) {
    const bool known = fields.number == text    ? fields.wire == Wire::bytes
                       : fields.number == score ? fields.wire == Wire::fixed32
                                                : fields.number == type && fields.wire == Wire::varint;
    if (!known || fields.number <= last) throw Error(join({"piece ", id, ": expected text, score and type, once each"}));
    last = fields.number;
    if (fields.number == text) name = fields.bytes;
    if (fields.number == type) kind = fields.value;
    if (fields.number == score && !std::isfinite(reinterpret_bits<float>(static_cast<std::uint32_t>(fields.value))))
      throw Error(join({"piece ", id, ": expected a finite score"}));
  }
  if (name.empty() || name.size() > longest_piece || find_invalid_utf8(name) != std::string_view::npos)
    throw Error(join({"piece ", id, ": expected 1 to ", longest_piece, " bytes of UTF-8"}));
  if (const std::uint64_t wanted = id == 1 ? unknown : id < 4 ? control : plain; kind != wanted)
    throw Error(join({"piece ", id, ": expected type ", wanted, ", found ", kind}));
  if (!texts_.insert(name).second) throw Error(join({"piece ", id, ": the text ", printable(name), " is another's too"}));
}

MOBILEDIFFUSION_BODY void SentencepieceModel::check_trainer(std::string_view spec) {
  ProtobufFields fields(spec);
  std::uint64_t kind = 1;  // the format's default: a unigram model
  while (fields.next()) {
    if (fields.number == model_type) kind = fields.value;
    const bool must_be_off = fields.number == suffix_space || fields.number == byte_fallback;
    const bool is_number = fields.wire == Wire::varint;
    expect(fields.number < first_extension && (fields.number != model_type || is_number) && !(must_be_off && fields.value != 0),
           "trainer field ", fields.number);
  }
  if (kind != byte_pairs) throw Error(join({"expected model type ", byte_pairs, " (byte pairs), found ", kind}));
}

MOBILEDIFFUSION_BODY void SentencepieceModel::check_normalizer(std::string_view spec) {
  ProtobufFields fields(spec);
  std::size_t tables = 0;
  while (fields.next()) {
    expect(fields.number <= last_normalizer, "normalizer field ", fields.number);
    if (fields.number != table) continue;
    expect(fields.wire == Wire::bytes && ++tables == 1, "normalizer field ", fields.number);
    if (!NormalizationTable::is_sound(fields.bytes)) throw Error("damaged normalization table");
  }
  if (tables != 1) throw Error("expected a normalization table, found none");
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail

#include "../core/end.hpp"
