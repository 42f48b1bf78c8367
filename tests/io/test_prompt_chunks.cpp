// SPDX-License-Identifier: Apache-2.0
// Prompts of more tokens than a text encoder reads at once, and weights beside their tokens.
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "clip_files.hpp"
#include "mobilediffusion/io/tokenizer.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

namespace {

using Ids = std::vector<std::int32_t>;
using Weights = std::vector<float>;

const ClipBpe& bpe() {
  static const ClipBpe all(clip_files::vocab(), clip_files::merges());
  return all;
}
const std::int32_t begin = bpe().begin(), end = bpe().end(), red = bpe().require("red</w>"), cat = bpe().require("cat</w>"),
                   a = bpe().require("a</w>"), comma = bpe().require(",</w>"), pad = 0;

}  // namespace

TEST_CASE("where a long prompt is cut", "[io][prompt]") {
  using Chunks = std::vector<std::pair<std::size_t, std::size_t>>;
  const auto cut = [](std::vector<int> tokens, std::vector<std::size_t> breaks, std::size_t room, std::size_t most) {
    return prompt_chunks(tokens, breaks, 9, room, most);
  };
  CHECK(cut({}, {}, 3, 4) == Chunks{{0, 0}});
  CHECK(cut({1, 2, 3}, {}, 3, 4) == Chunks{{0, 3}});
  CHECK(cut({1, 2, 3, 4}, {}, 3, 4) == Chunks{{0, 3}, {3, 4}});
  CHECK(cut({1, 2, 3, 4}, {}, 3, 1) == Chunks{{0, 3}});  // as diffusers: the rest is not read
  CHECK(cut({1, 2, 3, 4, 5, 6, 7}, {}, 3, 2) == Chunks{{0, 3}, {3, 6}});
  // What follows the last comma goes into the next chunk with what follows.
  CHECK(cut({1, 9, 3, 4}, {}, 3, 4) == Chunks{{0, 2}, {2, 4}});
  CHECK(cut({1, 2, 9, 4}, {}, 3, 4) == Chunks{{0, 3}, {3, 4}});
  CHECK(cut({1, 9, 3, 9}, {}, 3, 4) == Chunks{{0, 3}, {3, 4}});  // but not in front of a comma
  CHECK(cut({1, 9, 3, 4}, {}, 3, 1) == Chunks{{0, 3}});          // nor into a chunk that there is not
  CHECK(cut({1, 9, 3, 9, 5, 6, 7}, {}, 3, 2) == Chunks{{0, 3}, {3, 6}});
  std::vector<int> far(80, 1);
  far[55] = 9;
  CHECK(cut(far, {}, 75, 2) == Chunks{{0, 56}, {56, 80}});
  far[55] = 1, far[54] = 9;  // more than 20 from the end
  CHECK(cut(far, {}, 75, 2) == Chunks{{0, 75}, {75, 80}});
  // BREAK
  CHECK(cut({1, 2}, {1}, 3, 4) == Chunks{{0, 1}, {1, 2}});
  CHECK(cut({1, 2}, {0, 0, 2}, 3, 4) == Chunks{{0, 0}, {0, 0}, {0, 2}});
  CHECK(cut({1, 2, 3}, {3}, 3, 4) == Chunks{{0, 3}});
  CHECK(cut({1, 2, 3, 4}, {1}, 3, 1) == Chunks{{0, 1}});
  CHECK(cut({1, 2}, {}, 0, 3) == Chunks{{0, 0}, {0, 0}, {0, 0}});
}

TEST_CASE("every chunk of a long prompt has its begin, end and padding", "[io][prompt]") {
  const Tokenizer tokenizer(bpe(), pad);
  const std::string text = "red cat, a red cat a";
  const EncodedPrompt two = tokenizer.encode_prompt(text, 6, {.most_chunks = 3});
  CHECK(two.ids == Ids{begin, red, cat, comma, end, pad, begin, a, red, cat, a, end});
  CHECK(two.tokens == 7);
  CHECK(two.cut.empty());
  CHECK(two.weights.empty());
  const EncodedPrompt one = tokenizer.encode_prompt(text, 6);
  CHECK(one.ids == Ids{begin, red, cat, comma, a, end});
  CHECK(one.cut == "red cat a");
  const EncodedPrompt cut = tokenizer.encode_prompt(text + " red", 6, {.most_chunks = 2});
  CHECK(cut.ids == two.ids);
  CHECK(cut.cut == "red");
  CHECK(tokenizer.encode_prompt("a", 6, {.most_chunks = 3}).ids == tokenizer.encode("a", 6));
}

TEST_CASE("weights stand beside the tokens of their pieces", "[io][prompt]") {
  const Tokenizer tokenizer(bpe(), pad);
  const auto read = [&](const char* text, std::size_t chunks = 1) {
    return tokenizer.encode_prompt(text, 6, {.most_chunks = chunks, .weights = true});
  };
  const EncodedPrompt weighted = read("a (red cat:1.5)");
  CHECK(weighted.ids == Ids{begin, a, red, cat, end, pad});
  CHECK(weighted.weights == Weights{1, 1, 1.5f, 1.5f, 1, 1});
  CHECK(read("a red cat").weights.empty());
  CHECK(read("a (red:1)").weights.empty());
  CHECK(read("c(at)").ids ==
        Ids{begin, bpe().require("c</w>"), bpe().require("a"), bpe().require("t</w>"), end, pad});  // pieces are words apart
  CHECK(tokenizer.encode_prompt("a (red:1.5)", 20).ids.size() == 20);
  CHECK(tokenizer.encode_prompt("a (red:1.5)", 20).weights.empty());  // plain text unless it is asked for
  const EncodedPrompt broken = read("(a) BREAK [red]", 2);
  CHECK(broken.ids == Ids{begin, a, end, pad, pad, pad, begin, red, end, pad, pad, pad});
  CHECK(broken.weights == Weights{1, 1.1f, 1, 1, 1, 1, 1, static_cast<float>(1 / 1.1), 1, 1, 1, 1});
  CHECK(read("(a) BREAK [red]").cut == "red");
  expect(error_of([&] { read("(a:1.2.3)"); }), "prompt: expected a number");
}
