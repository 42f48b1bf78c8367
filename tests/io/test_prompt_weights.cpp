// SPDX-License-Identifier: Apache-2.0
// Weights in prompts: the examples that AUTOMATIC1111's program documents, and what its grammar says besides.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/io/prompt_weights.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

namespace {

using Pieces = std::vector<std::pair<std::string, double>>;

// BREAK stands as a piece of its own, with the weight -1.
void check(const char* prompt, const Pieces& expected) {
  CAPTURE(prompt);
  Pieces found;
  for (const PromptPiece& piece : parse_prompt_weights(prompt)) {
    if (piece.new_chunk) found.emplace_back("BREAK", -1);
    if (!piece.text.empty() || !piece.new_chunk) found.emplace_back(piece.text, static_cast<double>(piece.weight));
  }
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].first == expected[i].first);
    CHECK(found[i].second == Approx(expected[i].second).epsilon(1e-6));
  }
}

}  // namespace

TEST_CASE("weights of prompts as they are documented", "[io][prompt]") {
  check("normal text", {{"normal text", 1}});
  check("an (important) word", {{"an ", 1}, {"important", 1.1}, {" word", 1}});
  check("(unbalanced", {{"unbalanced", 1.1}});
  check("\\(literal\\]", {{"(literal]", 1}});
  check("(unnecessary)(parens)", {{"unnecessaryparens", 1.1}});
  check("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", {{"a ", 1},
                                                                {"house", 1.573},
                                                                {" ", 1.1},
                                                                {"on", 1},
                                                                {" a ", 1.1},
                                                                {"hill", 0.55},
                                                                {", sun, ", 1.1},
                                                                {"sky", 1.4641},
                                                                {".", 1.1}});
}

TEST_CASE("weights of prompts at the edges of their grammar", "[io][prompt]") {
  check("", {{"", 1}});
  check("()[]", {{"", 1}});
  check("[x]", {{"x", 1 / 1.1}});
  check("[[x", {{"x", 1 / 1.21}});
  check("(a[b)c]", {{"a", 1.1}, {"b", 1}, {"c", 1 / 1.1}});  // brackets of two kinds may cross
  check("a)b]c", {{"a)b]c", 1}});
  check("(x: +.5 )", {{"x", 0.5}});
  check("(x:-2)", {{"x", -2}});
  check("(x:0)y", {{"x", 0}, {"y", 1}});
  check("(a:b:1.5)", {{"a:b", 1.5}});
  check("x:1.3) y", {{"x:1.3) y", 1}});
  check("(x:1.3 y)", {{"x:1.3 y", 1.1}});
  check("(x:)", {{"x:", 1.1}});
  check("[x:1.3]", {{"x:1.3", 1 / 1.1}});
  check("((a)b:2)c", {{"a", 2.2}, {"b", 2}, {"c", 1}});
  check("\\\\ \\a\\", {{"\\ a", 1}});
  check(
      "(\xC3\xA9t\xC3\xA9\xE3\x80\x80:\xE3\x80\x80"
      "1.2)",
      {{"\xC3\xA9t\xC3\xA9\xE3\x80\x80", 1.2}});
  check("a AND b", {{"a AND b", 1}});
  check("[a:b:0.5]", {{"a:b:0.5", 1 / 1.1}});
}

TEST_CASE("BREAK begins a chunk where it is a word", "[io][prompt]") {
  check("a BREAK b", {{"a", 1}, {"BREAK", -1}, {"b", 1}});
  check(
      "a\xE3\x80\x80"
      "BREAK\nBREAK  b",
      {{"a", 1}, {"BREAK", -1}, {"BREAK", -1}, {"b", 1}});
  check("BREAK", {{"BREAK", -1}});
  check("a,BREAK,b", {{"a,", 1}, {"BREAK", -1}, {",b", 1}});
  check(
      "BREAKFAST _BREAK \xC3\xA9"
      "BREAK BREAK2 break",
      {{"BREAKFAST _BREAK \xC3\xA9"
        "BREAK BREAK2 break",
        1}});
  check("(a BREAK b)c", {{"a", 1.1}, {"BREAK", -1}, {"b", 1.1}, {"c", 1}});
  check("(a)BREAK(b)", {{"a", 1.1}, {"BREAK", -1}, {"b", 1.1}});
}

TEST_CASE("weights that are refused", "[io][prompt]") {
  const auto refusal = [](const std::string& prompt) { return error_of([&] { parse_prompt_weights(prompt); }); };
  expect(refusal("(x:1.2.3)"), "prompt: expected a number for a weight, found \"1.2.3\"");
  expect(refusal("(x:.)"), "found \".\"");
  expect(refusal("(x:1" + std::string(400, '0') + ")"), "prompt: expected a number for a weight, found \"1000");
  expect(refusal("(sky:1001)"), "prompt: weight of \"sky\": expected -1000 to 1000, found 1001");
  expect(refusal("(sky:-1001)"), "found -1001");
  expect(refusal(std::string(10'000, '(') + "x"), "prompt: weight of \"x\": expected -1000 to 1000, found");
}

TEST_CASE("nested brackets take linear time", "[io][prompt]") {
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += "[a(b";
  for (int i = 0; i < 10'000; ++i) text += ":1.0)c]";
  const auto pieces = parse_prompt_weights(text);
  CHECK(pieces.front().weight == Approx(1 / 1.1));
  CHECK(pieces.back().weight == Approx(1 / 1.1));
  CHECK(pieces[pieces.size() / 2].weight == 0.0f);
  CHECK(parse_prompt_weights(std::string(30'000, '(') + std::string(30'000, ')')).size() == 1);
}
