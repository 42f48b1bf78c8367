// SPDX-License-Identifier: Apache-2.0
// CLIP's tokenizer with its real vocabulary: the ids of transformers for thousands of prompts, ordinary, odd and random, from
// the files that twin/clip_ids.py made; and long texts, which must not take long.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/io/clip_folder.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

namespace {

const std::filesystem::path data = MOBILEDIFFUSION_TEST_DATA;

struct ClipFolder : TemporaryFolder {
  ClipFolder() {
    const std::string merges = read_file(data / "../../examples/clip/merges.txt");
    write_file(*this / "merges.txt", merges);
    write_file(*this / "vocab.json", detail::vocabulary_of(merges));
  }
};

const ClipBpe& real_bpe() {
  static const ClipFolder folder;
  static const ClipBpe bpe(read_file(folder / "vocab.json"), read_file(folder / "merges.txt"));
  return bpe;
}

}  // namespace

TEST_CASE("CLIP's tokenizer gives transformers' ids", "[io][tokenizer]") {
  const ClipFolder folder;
  const auto json = nlohmann::json::parse(read_file(data / "clip_ids.json"));
  std::size_t prompts = 0, different = 0;
  for (const auto& [name, part] : json.items()) {
    std::filesystem::remove(folder / "special_tokens_map.json");
    if (part["specials"].is_object()) write_file(folder / "special_tokens_map.json", part["specials"].dump());
    const Tokenizer tokenizer = read_clip_tokenizer(folder / "");
    CHECK(tokenizer.vocabulary() == 49408);
    CHECK(tokenizer.encode("", 3) == std::vector<std::int32_t>{49406, 49407, name == "sd2" ? 0 : 49407});
    for (const auto& prompt : part["prompts"]) {
      const auto text = prompt[0].get<std::string>();
      const auto expected = prompt[1].get<std::vector<std::int32_t>>();
      ++prompts;
      const auto found = tokenizer.encode_prompt(text, expected.size() + 2);
      if (found.tokens == expected.size() && std::equal(expected.begin(), expected.end(), found.ids.begin() + 1)) continue;
      if (++different > 5) continue;
      UNSCOPED_INFO(name << ": " << nlohmann::json(text).dump(-1, ' ', true) << " expected " << prompt[1].dump() << " found "
                         << nlohmann::json(found.ids).dump());
    }
  }
  CHECK(prompts > 4000);
  // The merges alone say which tokens there are.
  const Tokenizer two = read_clip_tokenizer(folder / "");
  std::filesystem::remove(folder / "vocab.json");
  const Tokenizer alone = read_clip_tokenizer(folder / "");
  CHECK(alone.vocabulary() == 49408);
  for (const char* text : {"a lighthouse at dusk", "\xC5\x81\xC3\x93\x44\xC5\xB9, 3\xC2\xBD \xF0\x9F\xA6\x8A", ""})
    CHECK(alone.encode(text, 77) == two.encode(text, 77));
  CHECK(different == 0);
}

TEST_CASE("long and hostile texts take time in proportion", "[io][tokenizer]") {
  const ClipBpe& bpe = real_bpe();
  constexpr std::size_t size = 65536;
  const auto repeated = [](std::string_view part) {
    std::string out;
    while (out.size() + part.size() <= size) out += part;
    return out;
  };
  CHECK(bpe.encode(std::string(size, 'a')).size() < size / 2);  // one word
  CHECK(bpe.encode(repeated("abcdefghijklmnopqrstuvwxyz")).size() < size);
  CHECK(bpe.encode(repeated("<|startoftext|>")).size() == size / 15);
  CHECK(bpe.encode(repeated("<|startoftext|")).size() > 1000);
  CHECK(bpe.encode(repeated("\xF0\x9F\xA6\x8A")).size() >= size / 4);  // one word of foxes
  // Marks in the wrong order: swapping neighbours until all are in order would take the square of their number.
  std::string marks = "a";
  for (std::size_t i = 0; i < size / 4; ++i) marks += "\xCC\x81";
  for (std::size_t i = 0; i < size / 4; ++i) marks += "\xCC\xA3";
  CHECK(bpe.encode(marks).size() > 1000);
  CHECK(normalization_form_c(marks)[0] == 0x1EA1);  // a with the dot below, which came last

  // Merges of which each undoes the order of those before.
  std::string vocab = R"({"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "a</w>": 3)", merges, longest = "a";
  for (int i = 0; i < 12; ++i) {
    merges += longest + " " + longest + "\n";
    longest += longest;
    vocab += ", \"" + longest + "\": " + std::to_string(4 + i);
  }
  const ClipBpe doubling(vocab + "}", merges);
  CHECK(doubling.encode(std::string(size, 'a')).size() == 15 + 12 + 1);  // 65535 = 15 x 4096 + 2048 + ... + 1, and the last
}

TEST_CASE("tokens are spelt as text again", "[io][tokenizer]") {
  const ClipBpe& bpe = real_bpe();
  CHECK(bpe.decode(bpe.encode("A red  Apple, caf\xC3\xA9!")) == "a red apple , caf\xC3\xA9 !");
  CHECK(bpe.decode(bpe.encode("a \xF0\x9F\xA6\x8A")) == "a \xF0\x9F\xA6\x8A");
  CHECK(bpe.decode({}) == "");
  const Tokenizer tokenizer(bpe, 49407);
  const EncodedPrompt cut = tokenizer.encode_prompt("one two three four FIVE", 5);
  CHECK(cut.tokens == 5);
  CHECK(cut.cut == "four five");
  CHECK(cut.ids == std::vector<std::int32_t>{49406, 637, 1237, 2097, 49407});
}

TEST_CASE("Unicode's properties are those that tokenizers mean", "[io][unicode]") {
  using enum CharacterClass;
  for (const char32_t c : U"\t\n\v\f\r \u0085\u00a0\u1680\u2003\u2028\u202f\u205f\u3000")
    if (c != 0) CHECK(class_of(c) == space);
  for (const char32_t c : U"aZ\u00e9\u0416\u4e1c\u02b0\u01c5")
    if (c != 0) CHECK(class_of(c) == letter);
  for (const char32_t c : U"7\u0663\u00bd\u2167\u00b2")
    if (c != 0) CHECK(class_of(c) == number);
  for (const char32_t c : U"!\u200b\u180e\ufeff\u0301\u3002\ue000\ufdd0\U0010ffff\u0000x")
    if (c != U'x') CHECK(class_of(c) == other);
  std::string lower;
  for (const char32_t c : U"A\u0130\u03a3\u1e9e\u2126") append_lower(lower, c);
  CHECK(lower == std::string("ai\xCC\x87\xCF\x83\xC3\x9F\xCF\x89\0", 11));
  CHECK(normalization_form_c("e\xCC\x81") == U"\u00e9");
  CHECK(normalization_form_c("\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8") == U"\uac01");
  CHECK(normalization_form_c("\xF0\x9F\xA6\x8A \xE2\x84\xAB") == U"\U0001f98a \u00c5");
  CHECK(normalization_form_c("").empty());
}
