// SPDX-License-Identifier: Apache-2.0
// Where a prompt that is longer than a text encoder's context is cut into chunks, each of which is encoded alone.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// [begin, end) of the tokens for each of at most `most` chunks of at most `room` tokens, as AUTOMATIC1111's web interface cuts
// them: a chunk ends where it is full, and, if a comma is among its last 20 tokens, behind that one; also at each of `breaks`
// (places among the tokens, ascending). The last chunk that there may be is filled up, whatever follows. At least one chunk.
std::vector<std::pair<std::size_t, std::size_t>> prompt_chunks(std::span<const int> tokens, std::span<const std::size_t> breaks,
                                                               int comma, std::size_t room, std::size_t most);

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY std::vector<std::pair<std::size_t, std::size_t>> prompt_chunks(std::span<const int> tokens,
                                                                                    std::span<const std::size_t> breaks,
                                                                                    int comma, std::size_t room,
                                                                                    std::size_t most) {
  constexpr std::size_t most_moved = 20;
  std::vector<std::pair<std::size_t, std::size_t>> chunks;
  std::size_t begin = 0;
  for (auto next = breaks.begin(); chunks.size() < most;) {
    const std::size_t stop = next != breaks.end() ? *next : tokens.size();
    if (stop - begin <= room) {
      if (next == breaks.end() && begin == stop && !chunks.empty()) break;
      chunks.emplace_back(begin, stop);
      if (next == breaks.end()) break;
      begin = stop;
      ++next;
      continue;
    }
    std::size_t end = begin + room;
    if (chunks.size() + 1 < most && tokens[end] != comma)
      for (std::size_t at = end; at > begin && end - at < most_moved; --at)
        if (tokens[at - 1] == comma) {
          end = at;
          break;
        }
    chunks.emplace_back(begin, end);
    begin = end;
  }
  return chunks;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
