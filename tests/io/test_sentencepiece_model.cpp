// SPDX-License-Identifier: Apache-2.0
// Tokenizer models that would lead sentencepiece astray: each is small, made here byte by byte, and refused.
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/io/tokenizer.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

namespace {

// Protocol buffers, as protobuf.dev/programming-guides/encoding has them.
std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string number(std::uint32_t field, std::uint64_t value) { return varint(field << 3) + varint(value); }
std::string bytes(std::uint32_t field, const std::string& value) { return varint(field << 3 | 2) + varint(value.size()) + value; }
std::string real(std::uint32_t field, float value) {
  std::string out = varint(field << 3 | 5) + "1234";
  std::memcpy(out.data() + out.size() - 4, &value, 4);
  return out;
}

enum Type { plain = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
std::string piece(const std::string& text, int type = plain, float score = 0.0f) {
  return bytes(1, bytes(1, text) + real(2, score) + (type == plain ? "" : number(3, static_cast<std::uint64_t>(type))));
}

// A double array of darts-clone: units of 32 bits.
class Trie {
 public:
  explicit Trie(std::size_t units) : units_(units, 0x80000000u) {}  // values: no byte leads to them
  std::uint32_t& operator[](std::size_t i) { return units_[i]; }
  // Every byte from place `from` leads to place `to`. Offsets below 2^21.
  void link(std::size_t from, std::uint8_t label, std::size_t to, bool leaf = false) {
    const std::size_t at = from ^ label;
    units_[at] = static_cast<std::uint32_t>((at ^ to) << 10) | (leaf ? 0x100u : 0u) | label;
  }
  std::string table(const std::string& texts) const {
    const auto size = static_cast<std::uint32_t>(4 * units_.size());
    std::string out(4 + size, '\0');
    std::memcpy(out.data(), &size, 4);
    std::memcpy(out.data() + 4, units_.data(), size);
    return out + texts;
  }

 private:
  std::vector<std::uint32_t> units_;
};
const std::string texts("b\0ab\0", 5);
constexpr std::uint32_t value_bit = 0x80000000u;

// From "a" to "ab": what is at place 512 stands for text 2.
Trie sound_trie() {
  Trie trie(1024);
  trie[0] = 256u << 10;
  trie.link(256, 'a', 512, true);
  trie[512] = value_bit | 2;
  return trie;
}
// A chain of n letters a, each with a value or not.
Trie chain(std::size_t n, bool leaf) {
  Trie trie(256 * (n + 2));
  trie[0] = 256u << 10;
  for (std::size_t i = 0; i < n; ++i) {
    trie.link(256 * (i + 1), 'a', 256 * (i + 2), leaf);
    if (leaf) trie[256 * (i + 2)] = value_bit | 0;
  }
  return trie;
}

std::string specials() {
  return piece("<pad>", control) + piece("<unk>", unknown) + piece("<s>", control) + piece("</s>", control);
}
std::string letters() { return piece("\xE2\x96\x81") + piece("a") + piece("b"); }
const std::string trainer = bytes(2, number(3, 2));
std::string normalizer(const std::string& table) { return bytes(3, bytes(2, table)); }
std::string sound_normalizer() { return normalizer(sound_trie().table(texts)); }
std::string with_pieces(const std::string& more) { return specials() + letters() + more + trainer + sound_normalizer(); }
std::string with_table(const std::string& table) { return specials() + letters() + trainer + normalizer(table); }
std::string with_trainer(const std::string& fields) { return specials() + letters() + bytes(2, fields) + sound_normalizer(); }

std::string refusal(const std::string& model) {
  return error_of([&] { Tokenizer(model).encode(std::string(200, 'a'), 16); });
}

}  // namespace

TEST_CASE("a small tokenizer model is accepted and used", "[io][tokenizer]") {
  const Tokenizer tokenizer(with_pieces(""));
  CHECK(tokenizer.vocabulary() == 7);
  CHECK(Tokenizer(with_pieces(""), 7).vocabulary() == 7);
  expect(error_of([] { Tokenizer(with_pieces(""), 6); }), "tokenizer model: expected at most 6 pieces, found more");
  CHECK(tokenizer.encode("ba", 8) == std::vector<std::int32_t>{2, 4, 6, 5, 6, 3, 0, 0});  // "a" is spelt "ab"
  // Fields that change nothing.
  CHECK(refusal(with_trainer(number(3, 2) + number(4, 7) + bytes(1, "captions.txt") + number(43, ~std::uint64_t{0}))).empty());
  CHECK(refusal(with_pieces(bytes(5, ""))).empty());
}

TEST_CASE("protocol buffers that readers may understand differently are refused", "[io][tokenizer]") {
  const std::string damaged = "tokenizer model: not a sentencepiece model, or a damaged one";
  expect(refusal("garbage"), damaged);
  const std::string model = with_pieces("");
  for (const std::size_t size : {1u, 7u, 60u, 500u, 4000u}) CHECK_FALSE(refusal(model.substr(0, size)).empty());
  // The tag of the normalizer in five bytes: field 3 once the bits over 32 are cut off, another one before.
  const std::string table = sound_normalizer().substr(1);
  expect(refusal(specials() + letters() + trainer + "\x9A\x80\x80\x80\x70" + table), damaged);
  expect(refusal(specials() + letters() + trainer + std::string("\x9A\x80\x80\x80\x00", 5) + table), damaged);  // overlong
  expect(refusal(model + bytes(9, "")), "field 9: not what a tokenizer of byte pairs has");
  expect(refusal(model + number(9, 1)), "field 9");
  expect(refusal(model + bytes(200, "")), "field 200");
  expect(refusal(model + std::string("\x03\x04")), damaged);  // a group of field 0
  expect(refusal(model + std::string("\x0B\x0C")), damaged);  // a group of field 1
  expect(refusal(model + std::string("\x0A\x7F")), damaged);  // a length behind the end
  expect(refusal(model + std::string(11, '\x80')), damaged);  // a number without an end
  expect(refusal(model + trainer), "field 2");                // messages that are there twice are merged by protobuf
  expect(refusal(model + sound_normalizer()), "field 3");
  expect(refusal(specials() + letters() + sound_normalizer()), damaged);  // no trainer: another kind of model
  expect(refusal(specials() + letters() + trainer), damaged);
  expect(refusal(trainer + sound_normalizer()), damaged);
  expect(refusal(model + bytes(4, bytes(1, bytes(1, "a") + bytes(2, "b")))), "field 4");  // a test that runs while loading
  expect(refusal(model + bytes(5, bytes(2, "table"))), "field 5");
}

TEST_CASE("kinds of tokenizer models that we do not make are refused", "[io][tokenizer]") {
  for (const std::uint64_t kind : {0, 1, 3, 4, 5, 99}) expect(refusal(with_trainer(number(3, kind))), "expected model type 2");
  expect(refusal(with_trainer("")), "expected model type 2 (byte pairs), found 1");
  expect(refusal(with_trainer(number(3, 2) + number(3, 1))), "expected model type 2 (byte pairs), found 1");
  expect(refusal(with_trainer(number(3, (std::uint64_t{1} << 32) + 2))), "expected model type 2");
  expect(refusal(with_trainer(real(3, 2.0f))), "trainer field 3");
  expect(refusal(with_trainer(number(3, 2) + number(35, 1))), "trainer field 35");  // unknown text as bytes
  expect(refusal(with_trainer(number(3, 2) + number(24, 1))), "trainer field 24");  // spaces after words
  expect(refusal(with_trainer(number(3, 2) + bytes(200, ""))), "trainer field 200");
  expect(refusal(with_trainer(number(3, 2) + "\x80")), "damaged");
  expect(refusal(with_trainer(number(3, 2) + bytes(48, "<s>"))), "expected pad id 0, found 2");
  const auto normalized = [](const std::string& fields) { return specials() + letters() + trainer + bytes(3, fields); };
  expect(refusal(normalized("")), "expected a normalization table, found none");
  const std::string table = bytes(2, sound_trie().table(texts));
  CHECK(refusal(normalized(bytes(1, "name") + table + number(3, 0) + number(4, 0) + number(5, 0))).empty());
  expect(refusal(normalized(table + table)), "normalizer field 2");
  expect(refusal(normalized(table + number(7, 1))), "normalizer field 7");
}

TEST_CASE("pieces that are not plain text with a score are refused", "[io][tokenizer]") {
  CHECK(refusal(with_pieces(piece("ab", plain, -1.0f))).empty());
  // 65 nested ones overrun an array of 64; a long one, or one with a zero byte, breaks the trie that is built out of them.
  std::string nested;
  for (std::size_t n = 1; n <= 65; ++n) nested += piece(std::string(n, 'x'), user_defined);
  expect(refusal(with_pieces(nested)), "piece 7: expected type 1, found 4");
  expect(refusal(with_pieces(piece(std::string(200'000, 'x'), user_defined))), "piece 7: expected 1 to 1024 bytes");
  expect(refusal(with_pieces(piece("<0x41>", byte))), "piece 7: expected type 1, found 6");
  expect(refusal(with_pieces(piece("ab", unused))), "piece 7: expected type 1, found 5");
  expect(refusal(with_pieces(piece("<unk2>", unknown))), "piece 7: expected type 1, found 2");
  expect(refusal(with_pieces(piece("<mask>", control))), "piece 7: expected type 1, found 3");
  expect(refusal(with_pieces(piece("ab", 77))), "piece 7: expected type 1, found 77");
  expect(refusal(with_pieces(piece(""))), "piece 7: expected 1 to 1024 bytes of UTF-8");
  expect(refusal(with_pieces(piece("a\xFF"))), "piece 7: expected 1 to 1024 bytes of UTF-8");
  expect(refusal(with_pieces(piece("a"))), "piece 7: the text \"a\" is another's too");
  expect(refusal(with_pieces(piece("<s>"))), "piece 7: the text \"<s>\" is another's too");
  for (const float score : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    expect(refusal(with_pieces(piece("ab", plain, score))), "piece 7: expected a finite score");
  for (const std::string& odd : {bytes(1, "ab") + bytes(1, "ac"), bytes(1, "ab") + number(2, 1), bytes(1, "ab") + number(4, 1),
                                 number(1, 1), real(2, 1.0f) + bytes(1, "ab")})
    expect(refusal(with_pieces(bytes(1, odd))), "piece 7: expected text, score and type, once each");
  const std::string swapped = piece("<unk>", unknown) + piece("<pad>", control) + piece("<s>", control) + piece("</s>", control);
  expect(refusal(swapped + letters() + trainer + sound_normalizer()), "piece 0: expected type 3, found 2");
  const std::string renamed = piece("<pa>", control) + piece("<unk>", unknown) + piece("<s>", control) + piece("</s>", control);
  expect(refusal(renamed + letters() + trainer + sound_normalizer()), "expected pad id 0, found -1");
}

TEST_CASE("normalization tables whose walks would leave them, or not end, are refused", "[io][tokenizer]") {
  const std::string damaged = "tokenizer model: damaged normalization table";
  const auto trie = [&](auto&& change) {
    Trie t = sound_trie();
    change(t);
    return with_table(t.table(texts));
  };
  CHECK(refusal(trie([](Trie&) {})).empty());
  expect(refusal(trie([](Trie& t) { t[512] = value_bit | 5; })), damaged);         // a text behind the texts
  expect(refusal(trie([](Trie& t) { t[512] = 5; })), damaged);                     // the same, without the bit of values
  expect(refusal(trie([](Trie& t) { t.link(256, 'a', 1024); })), damaged);         // a link behind the trie
  expect(refusal(trie([](Trie& t) { t[256 ^ 'a'] |= 1u << 9; })), damaged);        // the same, in the wide form
  expect(refusal(trie([](Trie& t) { t[0] = 1024u << 10; })), damaged);             // a root that leads out
  expect(refusal(trie([](Trie& t) { t[0] = value_bit | 256u << 10; })), damaged);  // and one that looks like a value
  expect(refusal(trie([](Trie& t) { t[0] = value_bit | 1; })), "");                // which only moves the walk: unit 0
  expect(refusal(trie([](Trie& t) { t.link(256, 'a', 256); })), damaged);          // a circle
  expect(refusal(trie([](Trie& t) {
           t.link(256, 'a', 512);
           t.link(512, 'b', 256);
         })),
         damaged);
  CHECK(refusal(with_table(chain(32, true).table(texts))).empty());  // 32 values on one walk: as many as sentencepiece takes
  expect(refusal(with_table(chain(33, true).table(texts))), damaged);
  CHECK(refusal(with_table(chain(64, false).table(texts))).empty());
  expect(refusal(with_table(chain(65, false).table(texts))), damaged);
  // Places that are shared: 2^30 walks, each looked at once.
  Trie shared(256 * 40);
  shared[0] = 256u << 10;
  for (std::size_t i = 0; i < 30; ++i)
    for (const char c : {'a', 'b'}) shared.link(256 * (i + 1), static_cast<std::uint8_t>(c), 256 * (i + 2));
  CHECK(refusal(with_table(shared.table(texts))).empty());
  // Texts.
  const Trie sound = sound_trie();
  expect(refusal(with_table(sound.table(""))), damaged);
  expect(refusal(with_table(sound.table("abc"))), damaged);  // without an end
  CHECK(refusal(with_table(sound.table(texts + std::string(64, 'a') + '\0'))).empty());
  expect(refusal(with_table(sound.table(texts + std::string(65, 'a') + '\0'))), damaged);
  // Sizes.
  const std::string table = sound.table(texts);
  for (const std::size_t size : {0u, 3u, 4u, 900u, 4100u}) expect(refusal(with_table(table.substr(0, size))), damaged);
  for (const std::uint32_t size : {0u, 4u, 1024u, 4094u, 4101u, 0xFFFFFFFFu}) {
    std::string other = table;
    std::memcpy(other.data(), &size, 4);
    expect(refusal(with_table(other)), damaged);
  }
}

TEST_CASE("small models damaged anywhere give an error or a tokenizer that works", "[io][tokenizer]") {
  const std::string model = with_pieces(piece("ab") + piece("\xE2\x96\x81"
                                                            "ab",
                                                            plain, -1.0f));
  Random random(7, 0);
  std::size_t refused = 0;
  constexpr int rounds = 2000;
  for (int round = 0; round < rounds; ++round) {
    std::string bytes = model;
    for (int edits = 0; edits < 3; ++edits)
      bytes[random.below(static_cast<std::uint32_t>(bytes.size()))] = static_cast<char>(random.next());
    refused += error_of([&] { Tokenizer(bytes).encode("abba aab\xC3\xA9", 64); }).empty() ? 0 : 1;
  }
  CHECK(refused > 0);
  CHECK(refused < rounds);
}
