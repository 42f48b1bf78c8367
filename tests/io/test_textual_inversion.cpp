// SPDX-License-Identifier: Apache-2.0
// Files of textual inversion, every way in which one can be wrong, and their tokens in prompts.
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "clip_files.hpp"
#include "mobilediffusion/io/textual_inversion.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

namespace {

struct File {
  TemporaryFolder folder;
  std::string name = "my-style.safetensors";
  std::vector<float> floats = std::vector<float>(1 << 17, 0.5f);
  std::vector<TensorToWrite> tensors;

  File& add(const std::string& tensor, std::vector<std::size_t> shape) {
    std::size_t n = 1;
    for (const std::size_t d : shape) n *= d;
    tensors.push_back({.name = tensor, .shape = std::move(shape), .floats = std::span<const float>(floats).first(n)});
    return *this;
  }
  TextualInversion read(std::size_t width, const std::string& trigger = {}) const {
    write_safetensors(folder / name, tensors, {});
    return read_textual_inversion({folder / name, trigger}, width);
  }
  std::string refusal(std::size_t width) const {
    const std::string message = error_of([&] { read(width); });
    expect(message, name);
    CHECK(message.find('\n') == std::string::npos);
    return message;
  }
};

std::vector<int> ids(const ClipBpe& bpe, const char* text) { return bpe.encode(text); }

}  // namespace

TEST_CASE("files of textual inversion give vectors and the word that stands for them", "[textual_inversion]") {
  const TextualInversion one = File().add("<cat-toy>", {768}).read(768);
  CHECK(one.trigger == "<cat-toy>");
  CHECK(one.vectors == 1);
  CHECK_FALSE(one.token().whole_word);
  CHECK(one.rows == std::vector<float>(768, 0.5f));
  const TextualInversion three = File().add("<cat-toy>", {3, 1024}).read(1024);
  CHECK(three.vectors == 3);
  CHECK(three.rows.size() == 3 * 1024);
  // As AUTOMATIC1111 converts them, the file's name is the word; and a user may say another.
  for (const char* general : {"emb_params", "clip_l", "*", "string_to_param.*"}) {
    CHECK(File().add(general, {2, 768}).read(768).trigger == "my-style");
    CHECK(File().add(general, {2, 768}).read(768).token().whole_word);
    CHECK(File().add(general, {2, 768}).read(768, "moss").trigger == "moss");
  }
  CHECK(File().add("<cat-toy>", {768}).read(768, "moss").trigger == "moss");
}

TEST_CASE("files that hold no textual inversion of the model are refused by name", "[textual_inversion]") {
  expect(File().add("emb_params", {2, 1024}).refusal(768),
         "tensor \"emb_params\": expected vectors of 768 numbers (Stable Diffusion 1.x), found 1024 (Stable Diffusion 2.x)");
  expect(File().add("<toy>", {768}).refusal(1024), "expected vectors of 1024 numbers (Stable Diffusion 2.x), found 768 (Stable");
  expect(File().add("<toy>", {1280}).refusal(768), "found 1280 (the second text encoder of Stable Diffusion XL)");
  expect(File().add("clip_l", {2, 768}).add("clip_g", {2, 1280}).refusal(768), "found those of Stable Diffusion XL's two");
  expect(File().add("<a>", {768}).add("<b>", {768}).refusal(768), "expected one tensor, found 2");
  expect(File().refusal(768), "expected one tensor, found 0");
  expect(File().add("<a>", {}).refusal(768), "expected shape [768] or [vectors, 768], found []");
  expect(File().add("<a>", {1, 1, 768}).refusal(768), "expected shape [768] or [vectors, 768], found [1, 1, 768]");
  expect(File().add("<a>", {2, 0}).refusal(768), "expected shape [768] or [vectors, 768], found [2, 0]");
  expect(File().add("<a>", {0, 768}).refusal(768), "expected 1 to 75 vectors, found 0");
  expect(File().add("<a>", {76, 768}).refusal(768), "expected 1 to 75 vectors, found 76");
  File nan;
  nan.floats[7] = std::numeric_limits<float>::quiet_NaN();
  expect(nan.add("<a>", {768}).refusal(768), "tensor \"<a>\": expected finite numbers");
  File whole;
  whole.add("<a>", {768}).tensors[0].dtype = Dtype::i32;
  whole.tensors[0].floats = {};
  whole.tensors[0].fill = [](std::span<std::byte>) {};
  expect(whole.refusal(768), "expected dtype F32");

  const TemporaryFolder folder;
  const auto path = folder / "old.pt";
  for (const auto& [begin, kind] : {std::pair<std::string, std::string>{"PK\x03\x04", "a PyTorch archive"},
                                    {"\x80\x02}", "a Python pickle"},
                                    {"\x89PNG\r\n\x1A\n", "a picture"}}) {
    write_file(path, begin + std::string(20, 'x'));
    expect(error_of([&] { read_textual_inversion({path}, 768); }), "old.pt\": expected a safetensors file, found " + kind);
  }
  const File a, b;
  write_safetensors(a.folder / a.name, File().add("<x>", {768}).tensors, {});
  write_safetensors(b.folder / b.name, File().add("<x>", {768}).tensors, {});
  const std::vector<EmbeddingFile> two{{a.folder / a.name}, {b.folder / b.name}};
  expect(error_of([&] { read_textual_inversions(two, 768); }), "trigger \"<x>\": is that of file ");
}

TEST_CASE("added tokens are found as transformers finds them, and stand for several ids", "[textual_inversion]") {
  // Ids by transformers 5.24, CLIPTokenizer.add_tokens(["<Toy>", "<Toy>_1", "<Toy>_2", "my cat", "\u00C9sa"]); of several vectors
  // diffusers puts all tokens into the prompt.
  ClipBpe bpe(clip_files::vocab(), clip_files::merges());
  bpe.add_token("<Toy>", 29);
  bpe.add_token("<Toy>_1", 30);
  bpe.add_token("<Toy>_2", 31);
  bpe.add_token("my cat", 32);
  bpe.add_token("\u00C9sa", 33);
  using Ids = std::vector<int>;
  CHECK(ids(bpe, "a <Toy> cat") == Ids{11, 29, 24});
  CHECK(ids(bpe, "a <toy>cat") == Ids{11, 29, 24});
  CHECK(ids(bpe, "a<TOY>_1cat") == Ids{11, 30, 24});
  CHECK(ids(bpe, "red my  cat") == Ids{22, 32});
  CHECK(ids(bpe, "MY CAT") == Ids{32});
  CHECK(ids(bpe, "<Toy>_2<Toy>") == Ids{31, 29});
  CHECK(ids(bpe, "a <Toy>_3") == Ids{11, 29, 28, 28});
  CHECK(ids(bpe, "\u00C9sa \u00E9sa") == Ids{33, 33});
  CHECK(ids(bpe, "amy cats") == Ids{11, 32, 14});
  CHECK(bpe.decode({11, 29, 32, 33, 24}) == "a <Toy> my cat \u00C9sa cat");

  const Tokenizer plain(ClipBpe(clip_files::vocab(), clip_files::merges()), 28);
  const std::vector<AddedToken> added{{"<toy>", 3}, {"moss", 1}};
  const Tokenizer tokenizer = plain.with_tokens(added, 40);
  CHECK(tokenizer.vocabulary() == 44);
  CHECK(tokenizer.encode("a <toy> moss", 8) == std::vector<std::int32_t>{27, 11, 40, 41, 42, 43, 28, 28});
  CHECK(tokenizer.encode("<toy>_2 <TOY>_1", 5) == std::vector<std::int32_t>{27, 42, 41, 28, 28});
  CHECK(tokenizer.encode_prompt("red <toy>", 5).cut == "<toy>_2");
  CHECK(plain.encode("a cat", 5) == tokenizer.encode("a cat", 5));
  CHECK(plain.vocabulary() == 29);  // stays as it was

  // A file's name may be a word of the vocabulary; it is none inside others.
  CHECK_FALSE(error_of([&] { plain.with_tokens(std::vector<AddedToken>{{"a"}}, 40); }).empty());
  const Tokenizer with_words = plain.with_tokens(std::vector<AddedToken>{{"a", 1, true}, {"cat", 2, true}}, 40);
  CHECK(with_words.encode("A cat, cats", 8) == std::vector<std::int32_t>{27, 40, 41, 42, 18, 23, 8, 28});
  CHECK(with_words.encode("\u00E9a aa a", 9)[6] == 40);
  CHECK(with_words.encode("a_a a1 1a", 9) == plain.encode("a_a a1 1a", 9));
  CHECK(with_words.encode("cat_1 cat", 6) == std::vector<std::int32_t>{27, 42, 41, 42, 28, 28});

  const auto refused = [&](std::vector<AddedToken> list) { return error_of([&] { plain.with_tokens(list, 40); }); };
  expect(refused({{"cat</w>", 1}}), "token \"cat</w>\": is one of the vocabulary already, expected another name");
  expect(refused({{"moss", 2}, {"moss_1", 1}}), "token \"moss_1\": is one of the vocabulary already");
  expect(refused({{"Moss", 1}, {"moss", 1}}), "token \"moss\": is one of the vocabulary already");
  expect(refused({{"<|endoftext|>", 1}}), "is one of the vocabulary already");
  expect(refused({{"x<|endoftext|>", 1}}), "token \"x<|endoftext|>\": holds the special token \"<|endoftext|>\"");
  expect(refused({{"  ", 1}}), "expected a text in UTF-8");
  expect(refused({{"\xFF", 1}}), "expected a text in UTF-8");
  std::vector<AddedToken> many;
  for (int i = 0; i < 2001; ++i) many.push_back({"<t" + std::to_string(i) + ">", 1});
  expect(refused(many), "added tokens: expected at most 2000");
}
