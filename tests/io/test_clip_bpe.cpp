// SPDX-License-Identifier: Apache-2.0
// CLIP's byte pairs on a vocabulary of a few words. The expected ids are those of transformers' CLIPTokenizer on the same files.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "clip_files.hpp"
#include "mobilediffusion/io/tokenizer.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

TEST_CASE("CLIP's tokenizer cuts words and merges pairs by rank", "[io][tokenizer]") {
  const ClipBpe bpe(clip_files::vocab(), clip_files::merges());
  const auto text_of = [&](const char* text) {
    std::string out;
    for (const int id : bpe.encode(text)) out += (out.empty() ? "" : " ") + clip_files::tokens()[static_cast<std::size_t>(id)];
    return out;
  };
  CHECK(text_of("a red cat") == "a</w> red</w> cat</w>");
  CHECK(text_of("  A RED   cat\n") == "a</w> red</w> cat</w>");
  CHECK(text_of("cats") == "ca t s</w>");  // "t s</w>" is no pair, and "ca t" is none either
  CHECK(text_of("red,cat") == "red</w> ,</w> cat</w>");
  CHECK(text_of("cat's") == "cat</w> 's</w>");
  CHECK(text_of("c12") == "c</w> 1</w> 2</w>");
  CHECK(text_of("caf\xC3\xA9") == "ca f \xC3\x83 \xC2\xA9</w>");  // bytes C3 and A9 as printable letters
  CHECK(text_of("\xC3\x80") == "\xC3\x83 \xC5\x82</w>");          // in lower case; byte A0 has no letter of its own
  CHECK(text_of("aaa") == "aa a</w>");
  CHECK(text_of("<|endoftext|>") == "<|endoftext|>");
  CHECK(text_of(",<|endoftext|>cat") == ",</w> <|endoftext|> cat</w>");
  CHECK(text_of("") == "");
  CHECK(text_of("z") == "<|endoftext|>");  // what the vocabulary lacks
  CHECK_THROWS_AS(bpe.encode("\xFF"), Error);
}

TEST_CASE("a prompt in CLIP's tokens is framed by its own begin, end and padding", "[io][tokenizer]") {
  const ClipBpe bpe(clip_files::vocab(), clip_files::merges());
  const std::int32_t begin = bpe.begin(), end = bpe.end(), red = bpe.require("red</w>");
  const Tokenizer as_sd15(bpe, end), as_sd21(bpe, 0);
  CHECK(as_sd15.encode("red", 5) == std::vector<std::int32_t>{begin, red, end, end, end});
  CHECK(as_sd21.encode("red", 5) == std::vector<std::int32_t>{begin, red, end, 0, 0});
  CHECK(as_sd15.encode_unconditional(3) == std::vector<std::int32_t>{begin, end, end});
  CHECK(as_sd15.vocabulary() == clip_files::tokens().size());
  CHECK(as_sd15.encode("red red red cat", 5) == std::vector<std::int32_t>{begin, red, red, red, end});
  CHECK(as_sd15.encode_prompt("red red red cat", 5).tokens == 4);
  CHECK(as_sd15.encode(" ", 3) == std::vector<std::int32_t>{begin, end, end});
}

TEST_CASE("CLIP's tokenizer is the same from the one file that transformers 5 writes", "[io][tokenizer]") {
  const ClipBpe two(clip_files::vocab(), clip_files::merges()), one(clip_files::tokenizer_json());
  CHECK(one.vocabulary() == two.vocabulary());
  for (const char* text : {"a red cat", "cats", "cat's", "c12", "caf\xC3\xA9", "aaa", "<|endoftext|>"})
    CHECK(one.encode(text) == two.encode(text));
  const std::string vocab = R"({"a": 0, "a</w>": 1, "aa</w>": 2, "<|startoftext|>": 3, "<|endoftext|>": 4})";
  const auto with = [&](const std::string& merges) {
    return R"({"model": {"vocab": )" + vocab + R"(, "merges": )" + merges + "}}";
  };
  CHECK(ClipBpe(with(R"(["a a</w>"])")).encode("aa") == std::vector<int>{2});  // as it was written before 2024
  const auto refusal = [](const std::string& json) { return error_of([&] { ClipBpe{json}; }); };
  for (const char* json :
       {"", "{", "[1]", "{}", R"({"model": 1})", R"({"model": {"vocab": {}}})", R"({"model": {"merges": []}})"})
    expect(refusal(json), "tokenizer.json: expected a model with vocab and merges");
  const std::string deep = std::string(1 << 20, '[') + std::string(1 << 20, ']');  // no recursion over what a file nests
  expect(refusal(deep), "tokenizer.json: expected a model with vocab and merges");
  expect(refusal(R"({"model": )" + deep + "}"), "tokenizer.json: expected a model with vocab and merges");
  expect(refusal(R"({"model": {"vocab": [], "merges": []}})"), "tokenizer.json: expected an object");
  expect(refusal(with("[]")), "tokenizer.json: merges: empty");
  for (const char* merges : {"[1]", R"(["aa"])", R"([["a"]])", R"([["a", 1]])", R"([["a", ""]])"})
    expect(refusal(with(merges)), "tokenizer.json: expected merges of two parts");
}

TEST_CASE("a special token is itself wherever it stands", "[io][tokenizer]") {
  ClipBpe bpe(clip_files::vocab(), clip_files::merges());
  CHECK(bpe.encode("red!").back() == bpe.end());  // "!" as a word is "!</w>", which this vocabulary lacks
  CHECK(bpe.add_special("!") == 0);
  const int red = bpe.require("red</w>"), cat = bpe.require("cat</w>");
  CHECK(bpe.encode("red!cat !! red") == std::vector<int>{red, 0, cat, 0, 0, red});
  CHECK_THROWS_AS(bpe.add_special("?"), Error);
  CHECK_THROWS_AS(bpe.add_special(""), Error);

  // Looked for before or after lower case.
  const int begin = bpe.begin();
  CHECK(bpe.encode("red<|STARTOFTEXT|>cat").size() > 3);
  CHECK(bpe.add_special("<|startoftext|>", true) == begin);
  CHECK(bpe.encode("red<|STARTOFTEXT|>cat") == std::vector<int>{red, begin, cat});
  CHECK(bpe.add_special_entry({{"content", "<|endoftext|>"}, {"normalized", true}, {"lstrip", true}}, "here") == bpe.end());
  CHECK(bpe.encode("<|EndOfText|>") == std::vector<int>{bpe.end()});
  CHECK(bpe.add_special_entry("<|endoftext|>", "here", true) == bpe.end());
  CHECK(bpe.encode("<|EndOfText|>") == std::vector<int>{bpe.end()});
  expect(error_of([&] { bpe.add_special_entry({{"content", "!"}, {"single_word", true}}, "here"); }), "here: single_word");
  expect(error_of([&] { bpe.add_special_entry({{"id", 1}}, "here"); }), "here: expected a token");
  expect(error_of([&] { bpe.add_special_entry(7, "here"); }), "here: expected a token");
  expect(error_of([&] { bpe.add_special_entry("?", "here"); }), "\"?\": missing");
}

TEST_CASE("byte pairs that were moved from say so", "[io][tokenizer]") {
  ClipBpe bpe(clip_files::vocab(), clip_files::merges());
  const ClipBpe other = std::move(bpe);
  CHECK(other.encode("a red cat").size() == 3);
  expect(error_of([&] { bpe.encode("a red cat"); }), "moved from");  // NOLINT(bugprone-use-after-move)
}

TEST_CASE("damaged files of CLIP's tokenizer are refused", "[io][tokenizer]") {
  const auto refusal = [](const std::string& vocab, const std::string& merges) {
    return error_of([&] { ClipBpe(vocab, merges); });
  };
  const std::string vocab = clip_files::vocab(), merges = clip_files::merges();
  CHECK(refusal(vocab, merges).empty());
  expect(refusal("", merges), "vocab.json: expected an object");
  expect(refusal("{", merges), "vocab.json: expected an object");
  expect(refusal("[1]", merges), "vocab.json: expected an object");
  expect(refusal(R"({"a": 0})", merges), "\"<|startoftext|>\": missing");
  expect(refusal(R"({"a": 7})", merges), "expected an id below 1");
  expect(refusal(R"({"a": "b"})", merges), "expected an id below 1");
  expect(refusal(vocab, ""), "merges.txt: empty");
  expect(refusal(vocab, "#version: 0.2\nab\n"), "merges.txt: expected merges of two parts, found \"ab\"");
  expect(refusal(vocab, "r q\n"), "merges.txt: merge \"r q\": the vocabulary lacks \"q\"");
  expect(refusal(vocab, "r f\n"), "merges.txt: merge \"r f\": the vocabulary lacks \"rf\"");
  CHECK(ClipBpe(vocab, "#version: 0.2\r\nr e\r\nre d</w>\r\n").encode("red") == ClipBpe(vocab, merges).encode("red"));
  expect(refusal(std::string(17 << 20, ' '), merges), "vocab.json: expected at most 16777216 bytes, found 17825792");
  expect(refusal(vocab, std::string(17 << 20, ' ')), "merges.txt: expected at most 16777216 bytes");
  expect(refusal(R"({"a": )" + std::string(1 << 20, '[') + "}", merges), "vocab.json: expected an object");
}
