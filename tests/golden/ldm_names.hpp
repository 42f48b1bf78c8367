// SPDX-License-Identifier: Apache-2.0
// The lists of tensors that twin/ldm_names.py wrote.
#pragma once

#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "mobilediffusion/core/error.hpp"

namespace ldm_names {

struct Line {
  std::string ldm, diffusers;
  std::vector<std::size_t> shape;
};

// See twin/ldm_names.py for the form.
inline std::map<std::string, std::vector<Line>> read_lists() {
  std::ifstream file(MOBILEDIFFUSION_TEST_DATA "/ldm_names.txt");
  std::map<std::string, std::vector<Line>> out;
  std::vector<Line>* section = nullptr;
  Line last;
  for (std::string text; std::getline(file, text);) {
    if (text.starts_with("= ")) {
      section = &out[text.substr(2)];
      last = {};
      continue;
    }
    std::istringstream words(text);
    Line line;
    for (const auto& [to, from] : {std::pair{&line.ldm, &last.ldm}, {&line.diffusers, &last.diffusers}}) {
      std::size_t shared = 0;
      words >> shared;
      if (words.get() != ' ') throw mobilediffusion::Error("golden: expected a space");
      if (words.peek() != ' ') words >> *to;  // else nothing follows
      *to = from->substr(0, shared) + *to;
    }
    for (std::size_t d = 0; words >> d;) line.shape.push_back(d);
    section->push_back(line);
    last = line;
  }
  return out;
}
inline const std::vector<Line>& list(const std::string& section) {
  static const auto lists = read_lists();
  return lists.at(section);
}

}  // namespace ldm_names
