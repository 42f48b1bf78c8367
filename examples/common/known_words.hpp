// SPDX-License-Identifier: Apache-2.0
// What programs say of a prompt that a model does not read, or was never taught.
#pragma once

#include <cstdio>
#include <string>

#include "mobilediffusion/io/known_words.hpp"
#include "mobilediffusion/io/tokenizer.hpp"

namespace examples {

namespace md = mobilediffusion;
using md::KnownWords;

// Says on stderr, in a line each, what of a prompt a model does not read and what it never saw. place: "argument 2: " or nothing.
// Throws Error, with the place before it, for a prompt that cannot be read.
inline void check_prompt(const char* program, const std::string& place, const std::string& prompt, const md::Tokenizer& tokenizer,
                         std::size_t context_length, const KnownWords& known, bool quiet = false) {
  try {
    const md::EncodedPrompt read = tokenizer.encode_prompt(prompt, context_length);
    if (quiet) return;
    if (!read.cut.empty())
      std::fprintf(stderr, "%s: %sprompt: %zu tokens, the model reads %zu; not read: %s\n", program, place.c_str(), read.tokens,
                   context_length - 2, md::detail::printable(read.cut).c_str());
    if (const std::string strange = known.strange_in(prompt); !strange.empty())
      std::fprintf(stderr, "%s: %sprompt: %s\n", program, place.c_str(), strange.c_str());
  } catch (const md::Error& e) {
    throw md::Error(place + e.what());
  }
}

}  // namespace examples
