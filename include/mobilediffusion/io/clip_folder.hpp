// SPDX-License-Identifier: Apache-2.0
// CLIP's tokenizer out of the folder in which transformers stores it.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "atomic_file.hpp"
#include "clip_bpe.hpp"
#include "json.hpp"
#include "message.hpp"
#include "tokenizer.hpp"
#include "unicode.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {

// The vocab.json that belongs to CLIP's merges.txt (openai/CLIP, simple_tokenizer.py): the bytes as printable letters, first
// those that print, the same as ends of words, what each merge makes, begin and end.
std::string vocabulary_of(std::string_view merges);

}  // namespace detail

// Whether read_clip_tokenizer finds something to read.
bool holds_clip_tokenizer(const std::filesystem::path& folder);

// vocab.json and merges.txt, or tokenizer.json, or merges.txt alone where it is CLIP's own; and special_tokens_map.json and
// tokenizer_config.json, where they are. filler: the token that fills prompts up; empty: what these files say. Throws Error,
// which names the folder, for anything else.
Tokenizer read_clip_tokenizer(const std::filesystem::path& folder, std::string_view filler = {});

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

// Which special tokens a text may hold, and how they are looked for, as transformers 5 decides it: what tokenizer.json or
// added_tokens_decoder say holds; else, of each key, the entry in special_tokens_map.json goes before that in
// tokenizer_config.json, and a later key before an earlier one of the same token. A plain text is looked for as it stands.
// filler: unless empty, the padding token, whatever the files say.
MOBILEDIFFUSION_BODY Tokenizer read_specials(ClipBpe bpe, const std::filesystem::path& folder, bool keep,
                                             std::string_view filler) {
  std::array<std::pair<std::string, nlohmann::json>, 2> files{{{"special_tokens_map.json", {}}, {"tokenizer_config.json", {}}}};
  for (auto& [name, json] : files)
    if (path_exists(folder / name)) {
      json = parse_json(read_file(folder / name, JsonLimits::config_bytes), name);
      if (!json.is_object()) throw Error(join({name, ": expected a JSON object"}));
    }
  std::int32_t pad = bpe.end();
  for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token"})
    for (const auto& [name, json] : files) {
      if (!filler.empty() && std::string_view(key) == "pad_token") {
        pad = bpe.add_special(std::string(filler));
        break;
      }
      const auto at = json.find(key);
      if (at == json.end() || at->is_null()) continue;
      const std::int32_t id = bpe.add_special_entry(*at, join({name, ": ", key}), keep);
      if (std::string_view(key) == "pad_token") pad = id;
      break;
    }
  const nlohmann::json& config = files[1].second;
  if (const auto decoder = config.find("added_tokens_decoder"); decoder != config.end())
    for (const auto& token : *decoder) bpe.add_special_entry(token, "tokenizer_config.json: added_tokens_decoder");
  return Tokenizer(std::move(bpe), pad);
}

MOBILEDIFFUSION_BODY std::string vocabulary_of(std::string_view merges) {
  std::vector<std::string> tokens;
  for (const auto& [first, last] : {std::pair{33u, 126u}, {161u, 172u}, {174u, 323u}})  // from 256 on: bytes that do not print
    for (unsigned c = first; c <= last; ++c) append_utf8(tokens.emplace_back(), c);
  for (std::size_t i = 0; i < 256; ++i) tokens.push_back(tokens[i] + "</w>");
  while (!merges.empty()) {
    std::string line(merges.substr(0, merges.find('\n')));
    merges.remove_prefix(std::min(merges.size(), line.size() + 1));
    if (line.ends_with('\r')) line.pop_back();
    const std::size_t space = line.find(' ');
    if (space == std::string::npos || line.starts_with("#version")) continue;
    tokens.push_back(line.erase(space, 1));
  }
  tokens.insert(tokens.end(), {"<|startoftext|>", "<|endoftext|>"});
  nlohmann::json out = nlohmann::json::object();
  for (std::size_t i = 0; i < tokens.size(); ++i) out[tokens[i]] = i;
  return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace detail

MOBILEDIFFUSION_BODY bool holds_clip_tokenizer(const std::filesystem::path& folder) {
  return path_exists(folder / "vocab.json") || path_exists(folder / "tokenizer.json") || path_exists(folder / "merges.txt");
}

MOBILEDIFFUSION_BODY Tokenizer read_clip_tokenizer(const std::filesystem::path& folder, std::string_view filler) {
  try {
    const auto there = [&](const char* name) { return path_exists(folder / name); };
    const auto text = [&](const char* name) { return read_file(folder / name, ClipBpe::longest_file); };
    const bool one_file = !there("vocab.json") && there("tokenizer.json");
    if (one_file) return detail::read_specials(ClipBpe(text("tokenizer.json")), folder, true, filler);
    const bool alone = !there("vocab.json") && there("merges.txt");
    const std::string merges = alone ? text("merges.txt") : "";
    const std::string vocabulary = alone ? detail::vocabulary_of(merges) : text("vocab.json");
    return detail::read_specials(ClipBpe(vocabulary, alone ? merges : text("merges.txt")), folder, false, filler);
  } catch (const Error& e) {
    throw Error(detail::join({"folder ", detail::printable(detail::path_text(folder)), ": ", e.what()}));
  }
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
