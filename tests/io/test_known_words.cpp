// SPDX-License-Identifier: Apache-2.0
// What is said of prompts that a model was never taught: words, their order, their beginning.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/io/atomic_file.hpp"
#include "mobilediffusion/io/known_words.hpp"
#include "temporary_folder.hpp"

using mobilediffusion::KnownWords;
using Words = std::vector<std::string>;

namespace {
KnownWords taught() {
  KnownWords words;
  words.add_thing("a fox / foxes");
  words.add_thing("a red apple / red apples");
  for (const char* caption : {"a fox on a light blue background", "a red apple", "two foxes on a red background", "a t-rex",
                              "a fox to the left of a fox", "a big fox and a small fox on a white background"})
    words.add_caption(caption);
  return words;
}
}  // namespace

TEST_CASE("a prompt's words are told apart", "[known_words]") {
  CHECK(mobilediffusion::words_of("A red  Apple!") == Words{"a", "red", "apple"});
  CHECK(mobilediffusion::words_of("o'clock, O\xE2\x80\x99"
                                  "CLOCK; t-rex (T-Rex) - 'x'") == Words{"o'clock", "o'clock", "t-rex", "t-rex", "'x'"});
  CHECK(mobilediffusion::words_of("\xF0\x9F\xA6\x8A \xE6\x9D\xB1\xE4\xBA\xAC\xE3\x80\x80Z") ==
        Words{"\xF0\x9F\xA6\x8A", "\xE6\x9D\xB1\xE4\xBA\xAC", "z"});
  CHECK(mobilediffusion::words_of(" ... ").empty());
}

TEST_CASE("what a model was never taught is told, and what it was is not", "[known_words]") {
  const KnownWords known = taught();
  for (const char* prompt : {"a fox on a light blue background", "A FOX, on a red background!", "a red apple", "two foxes",
                             "a fox to the left of a red apple", "", "!?"})
    CHECK(known.strange_in(prompt) == "");
  CHECK(known.strange_in("a helicopter") == "never seen in training: \"helicopter\"");
  CHECK(known.strange_in("a foxs") == "never seen in training: \"foxs\" (fox?)");
  CHECK(known.strange_in("a light blue backgruond") == "never seen in training: \"backgruond\" (background?)");
  CHECK(known.strange_in("\xF0\x9F\xA6\x8A") == "never seen in training: \"\xF0\x9F\xA6\x8A\"");
  CHECK(known.strange_in("a photo of a photo") == "never seen in training: \"photo\"");
  CHECK(known.strange_in("a red fox on a blue background") ==
        "never seen in this order: \"red fox\", \"a blue\"");  // "blue background" is there, of the light one
  CHECK(known.strange_in("fox") == "never seen at the beginning: \"fox\"");
  CHECK(known.strange_in("fox cat apple fox") ==
        "never seen in training: \"cat\"; never seen in this order: \"apple fox\"; never seen at the beginning: \"fox\"");
  CHECK(known.strange_in("q1 q2 q3 q4 q5 q6 q7 q8 q9 q10").ends_with("\"q8\" and 2 more"));
  CHECK(KnownWords{}.strange_in("a helicopter") == "");
  CHECK(KnownWords(mobilediffusion::Metadata{{"training.pairs", "nonsense"}}).strange_in("a helicopter") == "");
}

TEST_CASE("words travel as metadata, and are listed", "[known_words]") {
  mobilediffusion::Metadata metadata{{"other", "stays"}};
  taught().write(metadata);
  CHECK(metadata["other"] == "stays");
  CHECK(metadata["training.things"] == "a fox / foxes; a red apple / red apples");
  CHECK(metadata["training.pairs"].starts_with("^: a two; a: big fox light red small t-rex white; and: a; big: fox; "));
  const KnownWords again(metadata);
  CHECK(again.list() == taught().list());
  CHECK(again.list().starts_with("a fox / foxes\na red apple / red apples\n\na and background big "));
  CHECK(again.strange_in("a helicopter") != "");
}

TEST_CASE("the shipped models know their words", "[known_words]") {
  for (const char* name : {"emoji.safetensors", "emoji_one_step.safetensors"}) {
    const mobilediffusion::SafetensorsFile file(std::filesystem::path(MOBILEDIFFUSION_TEST_DATA) / "../../examples" / name);
    const KnownWords known(file.metadata());
    for (const char* prompt :
         {"a red apple", "a fox on a light blue background", "three penguins on a light blue background",
          "a cat to the left of a mushroom on a green background", "a big elephant and a small mouse on a green background"})
      CHECK(known.strange_in(prompt) == "");
    for (const char* prompt : {"\xF0\x9F\xA6\x8A", "\xE6\x9D\xB1\xE4\xBA\xAC", "a helicopter", "fox", "a photo of a cat",
                               "a red fox on a blue background"})
      CHECK(known.strange_in(prompt) != "");
    const std::string list = known.list();
    CHECK(std::count(list.begin(), list.end(), '\n') == 285 + 2);  // a thing a line, a blank one and the other words
  }
}
