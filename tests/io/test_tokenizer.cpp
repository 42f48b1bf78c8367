// SPDX-License-Identifier: Apache-2.0
// The tokenizer: trained, loaded, used; what it refuses; and that it never writes to the terminal.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/io/image.hpp"  // a second unit with stb inside: the test program must still link
#include "mobilediffusion/io/safetensors.hpp"
#include "mobilediffusion/train/tokenizer.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

namespace {

std::vector<std::string> captions() {
  std::vector<std::string> all;
  for (const char* color : {"red", "green", "blue", "dark skin", "yellow"})
    for (const char* shape : {"circle", "square", "triangle", "mountain", "caf\xC3\xA9"})
      for (const char* place : {"on the left", "on the right", "below a tree", "at night"})
        all.push_back(std::string("a ") + color + " " + shape + " " + place);
  return all;
}

// What a call writes to stdout and stderr, by descriptor, whoever writes it.
template <class F>
std::string output_of(F&& f) {
  const TemporaryFolder folder;
  const int file = ::open((folder / "out").c_str(), O_RDWR | O_CREAT, 0600);
  REQUIRE(file >= 0);
  ::fflush(nullptr);
  const int out = ::dup(1), err = ::dup(2);
  ::dup2(file, 1);
  ::dup2(file, 2);
  f();
  ::fflush(nullptr);
  ::dup2(out, 1);
  ::dup2(err, 2);
  ::close(out);
  ::close(err);
  ::close(file);
  return read_file(folder / "out");
}

}  // namespace

TEST_CASE("a tokenizer is learnt, travels as metadata, and frames prompts", "[io][tokenizer]") {
  const auto learnt = captions();
  const std::string model = train_tokenizer(learnt, 128);
  CHECK(train_tokenizer(learnt, 128) == model);
  const Tokenizer tokenizer(base64_decode(base64_encode(model)));
  CHECK(tokenizer.vocabulary() == 128);

  const auto ids = tokenizer.encode("a red circle on the left", 16);
  REQUIRE(ids.size() == 16);
  CHECK(ids[0] == Tokenizer::begin);
  const auto end = std::find(ids.begin(), ids.end(), Tokenizer::end);
  REQUIRE(end != ids.end());
  CHECK(end - ids.begin() == 7);  // six words of the captions, each whole
  CHECK(std::all_of(end + 1, ids.end(), [](std::int32_t id) { return id == Tokenizer::pad; }));
  CHECK(std::all_of(ids.begin() + 1, end, [](std::int32_t id) { return id > 3 && id < 128; }));
  CHECK(tokenizer.encode("  A  RED Circle\ton the LEFT \n", 16) == ids);
  CHECK(tokenizer.encode("\xEF\xBC\xA1 red circle on the left", 16) == ids);  // a full-width A is an A
  CHECK(tokenizer.encode("a red circle on the right", 16) != ids);
  CHECK(tokenizer.encode_unconditional(5) == std::vector<std::int32_t>{2, 3, 0, 0, 0});
  const auto unknown = tokenizer.encode("a \xE2\x98\x83", 8);
  CHECK(std::count(unknown.begin(), unknown.end(), Tokenizer::unknown) == 1);
  const auto special = tokenizer.encode("a <s> </s> <pad>", 32);  // text is never a control symbol
  CHECK(std::count(special.begin(), special.end(), Tokenizer::begin) == 1);
  CHECK(std::count(special.begin(), special.end(), Tokenizer::end) == 1);
}

TEST_CASE("prompts that are refused", "[io][tokenizer]") {
  const Tokenizer tokenizer(train_tokenizer(captions(), 128));
  const auto refusal = [&](std::string_view prompt, std::size_t length = 16) {
    return error_of([&] { tokenizer.encode(prompt, length); });
  };
  expect(refusal("a \xC0\xAF"), "prompt: not UTF-8 at byte 2");
  expect(refusal("a\xED\xA0\x80"), "prompt: not UTF-8 at byte 1");
  expect(refusal("abc\xE2\x82"), "prompt: not UTF-8 at byte 3");
  expect(refusal(std::string(100'000, 'a')), "prompt: 100000 bytes, at most 65536");
  expect(refusal("a", 1), "context_length: expected at least 2, found 1");
  expect(error_of([&] { tokenizer.encode_unconditional(1); }), "context_length: expected at least 2");
}

TEST_CASE("an empty prompt is what an absent one means", "[io][tokenizer]") {
  const Tokenizer tokenizer(train_tokenizer(captions(), 128));
  const std::vector<std::int32_t> none{2, 3, 0, 0, 0};
  CHECK(tokenizer.encode_unconditional(5) == none);
  for (const char* prompt : {"", " \t\n", "\xE2\x80\x8B"}) {  // the last: a zero-width space
    CHECK(tokenizer.encode(prompt, 5) == none);
    CHECK(tokenizer.encode_prompt(prompt, 5).tokens == 0);
  }
}

TEST_CASE("a prompt that is too long is cut, and what was cut is told", "[io][tokenizer]") {
  const Tokenizer tokenizer(train_tokenizer(captions(), 128));
  const EncodedPrompt whole = tokenizer.encode_prompt("A red circle on the LEFT", 8);
  CHECK(whole.tokens == 6);
  CHECK(whole.ids.back() == Tokenizer::end);
  CHECK(whole.cut.empty());
  const EncodedPrompt cut = tokenizer.encode_prompt("A red circle on the LEFT", 6);
  CHECK(cut.tokens == 6);
  CHECK(cut.cut == "the left");
  CHECK(std::vector(cut.ids.begin(), cut.ids.begin() + 5) == std::vector(whole.ids.begin(), whole.ids.begin() + 5));
  CHECK(cut.ids.back() == Tokenizer::end);
  CHECK(tokenizer.encode_prompt("a red circle", 2).ids == std::vector<std::int32_t>{2, 3});
  CHECK(tokenizer.encode_prompt("a red circle", 2).cut == "a red circle");
  CHECK(tokenizer.encode(std::string(65536, 'a'), 77).size() == 77);
}

TEST_CASE("what the vocabulary has no token for is told", "[io][tokenizer]") {
  const Tokenizer tokenizer(train_tokenizer(captions(), 128));
  using Texts = std::vector<std::string>;
  CHECK(tokenizer.encode_prompt("a red circle", 16).unknown == Texts{});
  CHECK(tokenizer.encode_prompt("a \xE2\x98\x83 red \xE6\x9D\xB1\xE4\xBA\xAC", 16).unknown ==
        Texts{"\xE2\x98\x83", "\xE6\x9D\xB1\xE4\xBA\xAC"});
}

TEST_CASE("vocabularies that the captions do not yield", "[io][tokenizer]") {
  const auto learnt = captions();
  expect(error_of([&] { train_tokenizer(learnt, 5000); }),
         "a vocabulary of 5000 pieces cannot be learnt from 100 captions: Vocabulary size too high");
  expect(error_of([&] { train_tokenizer(learnt, 10); }), "Vocabulary size is smaller than");
  expect(error_of([&] { train_tokenizer({}, 100); }), "no captions");
  expect(error_of([&] { train_tokenizer(learnt, 0); }), "expected a vocabulary of 8");
  expect(error_of([&] { train_tokenizer(std::vector<std::string>{"a", " "}, 100); }), "caption 1: empty");
  expect(error_of([&] { train_tokenizer(std::vector<std::string>{"a\xFF"}, 100); }), "caption 0: not UTF-8 at byte 1");
  expect(error_of([&] { train_tokenizer(std::vector<std::string>{"\xE2\x80\x8B"}, 100); }), "tokenizer: a vocabulary of 100");
}

TEST_CASE("bytes that are no such model", "[io][tokenizer]") {
  expect(error_of([] { Tokenizer(""); }), "tokenizer model: empty");
  expect(error_of([] { Tokenizer("garbage"); }), "tokenizer model: not a sentencepiece model");
  const std::string model = train_tokenizer(captions(), 64);
  expect(error_of([&] { Tokenizer(std::string_view(model).substr(0, model.size() / 2)); }), "tokenizer model: ");
  const auto other = [](const char* pad, const char* unk) {
    const auto learnt = captions();
    detail::CaptionIterator iterator(learnt);
    std::string out;
    const detail::QuietSentencepiece quiet;
    const auto status = sentencepiece::SentencePieceTrainer::Train({{"model_type", "bpe"},
                                                                    {"vocab_size", "64"},
                                                                    {"pad_id", pad},
                                                                    {"unk_id", unk},
                                                                    {"bos_id", "2"},
                                                                    {"eos_id", "3"},
                                                                    {"minloglevel", "3"}},
                                                                   &iterator, &out);
    REQUIRE(status.ok());
    return out;
  };
  expect(error_of([&] { Tokenizer{other("1", "0")}; }), "tokenizer model: piece 0: expected type 3, found 2");
  expect(error_of([&] { Tokenizer{other("-1", "0")}; }), "tokenizer model: piece 0: expected type 3, found 2");
}

TEST_CASE("a tokenizer that was moved from or copied is the same tokenizer", "[io][tokenizer]") {
  Tokenizer first(train_tokenizer(captions(), 128));
  const auto ids = first.encode("a red circle", 8);
  Tokenizer second(std::move(first)), third = second;
  for (const Tokenizer* t : {&first, &second, &third}) {  // NOLINT(bugprone-use-after-move): that is what is promised
    CHECK(t->encode("a red circle", 8) == ids);
    CHECK(t->vocabulary() == 128);
  }
}

TEST_CASE("learnt models damaged anywhere give an error or a tokenizer that works", "[io][tokenizer]") {
  const std::string model = train_tokenizer(captions(), 64);
  Random random(5, 0);
  std::size_t refused = 0;
  for (int round = 0; round < 60; ++round) {
    std::string bytes = model;
    for (int edits = 0; edits < 100; ++edits)
      bytes[random.below(static_cast<std::uint32_t>(bytes.size()))] = static_cast<char>(random.next());
    refused += error_of([&] { Tokenizer(bytes).encode("a red caf\xC3\xA9 \xEF\xBC\xA1 \xE2\x98\x83", 64); }).empty() ? 0 : 1;
  }
  CHECK(refused > 30);
}

TEST_CASE("nothing is ever written to the terminal", "[io][tokenizer]") {
  const std::string output = output_of([] {
    const auto learnt = captions();
    const std::string model = train_tokenizer(learnt, 100);
    const Tokenizer tokenizer(model);
    error_of([&] { tokenizer.encode("\xFF", 8); });
    error_of([&] { tokenizer.encode("a \xE2\x98\x83 \xF0\x9F\x8E\xA8", 3); });
    error_of([&] { train_tokenizer(learnt, 5000); });
    error_of([&] { train_tokenizer(learnt, 10); });
    error_of([&] { Tokenizer("garbage"); });
    error_of([&] { Tokenizer(std::string_view(model).substr(0, 1000)); });
  });
  CHECK(output.empty());
}

TEST_CASE("sentencepiece's log level is the process's own again", "[io][tokenizer]") {
  const int before = sentencepiece::logging::GetMinLogLevel();
  sentencepiece::logging::SetMinLogLevel(1);
  const Tokenizer tokenizer(train_tokenizer(captions(), 100));
  CHECK(sentencepiece::logging::GetMinLogLevel() == 1);
  error_of([] { train_tokenizer({}, 10); });
  CHECK(sentencepiece::logging::GetMinLogLevel() == 1);
  sentencepiece::logging::SetMinLogLevel(before);
}

TEST_CASE("two units share the image functions", "[io][image]") {
  CHECK(encode_png(Image(2, 2, 9)).size() > 33);
}
