// SPDX-License-Identifier: Apache-2.0
// JSON from foreign files, as a tree whose size and depth are bounded.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include "../core/error.hpp"
#include "atomic_file.hpp"
#include "message.hpp"

#ifdef MOBILEDIFFUSION_BODIES
#include <nlohmann/json.hpp>
#else
#include <nlohmann/json_fwd.hpp>
#endif

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Beyond what any model's folder holds. A value takes 16 bytes and more, so text alone does not bound memory.
struct JsonLimits {
  static constexpr std::size_t config_bytes = std::size_t{1} << 20;  // config.json and its like
  static constexpr std::size_t index_bytes = std::size_t{64} << 20;  // of shards
  static constexpr std::size_t values = 4'000'000;
  static constexpr int depth = 64;
};

// Discarded (is_discarded()) where the text is not JSON. Throws Error for what passes the limits; name: for messages.
nlohmann::json parse_json(std::string_view text, std::string_view name);

namespace detail {}  // namespace detail

// A file of at most `limit` bytes that holds a JSON object. Throws Error with its name.
nlohmann::json read_json(const std::filesystem::path& path, std::size_t limit = JsonLimits::config_bytes);

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY nlohmann::json parse_json(std::string_view text, std::string_view name) {
  std::size_t values = 0;
  return nlohmann::json::parse(
      text.begin(), text.end(),
      [&](int depth, nlohmann::json::parse_event_t event, const nlohmann::json&) {
        using Event = nlohmann::json::parse_event_t;
        if (event == Event::object_end || event == Event::array_end || event == Event::key) return true;
        if (depth > JsonLimits::depth)
          throw Error(detail::join({name, ": expected at most ", JsonLimits::depth, " levels of JSON, found more"}));
        if (++values > JsonLimits::values)
          throw Error(detail::join({name, ": expected at most ", JsonLimits::values, " values of JSON, found more"}));
        return true;
      },
      false);
}

namespace detail {

// Python writes numbers that JSON does not have, as diffusers does in scheduler_config.json: they become null.
MOBILEDIFFUSION_BODY std::string without_python_numbers(const std::string& text) {
  std::string out;
  out.reserve(text.size());
  bool quoted = false;
  for (std::size_t i = 0; i < text.size();) {
    const std::string_view rest = std::string_view(text).substr(i);
    std::size_t length = 0;
    for (const std::string_view word : {"NaN", "Infinity", "-Infinity"})
      if (!quoted && rest.starts_with(word)) length = word.size();
    if (length > 0) {
      out += "null";
      i += length;
      continue;
    }
    if (quoted && rest.size() > 1 && rest[0] == '\\') out += text[i++];
    else if (rest[0] == '"') quoted = !quoted;
    out += text[i++];
  }
  return out;
}

}  // namespace detail

MOBILEDIFFUSION_BODY nlohmann::json read_json(const std::filesystem::path& path, std::size_t limit) {
  nlohmann::json json = parse_json(detail::without_python_numbers(read_file(path, limit)),
                                   detail::join({"file ", detail::printable(detail::path_text(path))}));
  if (!json.is_object()) detail::fail_file(path, {"expected a JSON object"});
  return json;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
