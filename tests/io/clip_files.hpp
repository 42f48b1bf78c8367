// SPDX-License-Identifier: Apache-2.0
// A CLIP tokenizer of a few words, as the two files that transformers stores.
#pragma once

#include <string>
#include <vector>

namespace clip_files {

inline const std::vector<std::string>& tokens() {
  static const std::vector<std::string> all{"!",
                                            "a",
                                            "c",
                                            "d",
                                            "e",
                                            "f",
                                            "r",
                                            "s",
                                            "t",
                                            "'",
                                            "\xC3\x83",
                                            "a</w>",
                                            "c</w>",
                                            "d</w>",
                                            "s</w>",
                                            "t</w>",
                                            "1</w>",
                                            "2</w>",
                                            ",</w>",
                                            "\xC2\xA9</w>",
                                            "\xC5\x82</w>",
                                            "re",
                                            "red</w>",
                                            "ca",
                                            "cat</w>",
                                            "aa",
                                            "'s</w>",
                                            "<|startoftext|>",
                                            "<|endoftext|>"};
  return all;
}
inline std::string vocab() {
  std::string out;
  for (const std::string& t : tokens()) out += (out.empty() ? "{\"" : ", \"") + t + "\": " + std::to_string(&t - tokens().data());
  return out + "}";
}
inline std::string merges() { return "#version: 0.2\nr e\nre d</w>\nc a\nca t</w>\na a\n' s</w>\n"; }
// What transformers 5 stores instead of both, without what the library does not read.
inline std::string tokenizer_json() {
  return R"({"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": )" + vocab() +
         R"(, "merges": [["r", "e"], ["re", "d</w>"], ["c", "a"], ["ca", "t</w>"], ["a", "a"], ["'", "s</w>"]]}})";
}

}  // namespace clip_files
