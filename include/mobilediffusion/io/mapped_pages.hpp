// SPDX-License-Identifier: Apache-2.0
// Pages of a mapped file that need not stay in memory.
#pragma once

#include "../core/begin.hpp"

#include <sys/mman.h>

#include <boost/interprocess/mapped_region.hpp>
#include <cstddef>
#include <cstdint>
#include <span>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail {

// The whole pages of what was read from a mapped file leave this process, if they are many: else a model is in memory twice while
// it loads. They may be read again. Never for other memory: its contents would be lost.
inline void forget_pages(std::span<const std::byte> mapped) {
  constexpr std::size_t many = 1 << 20;
  if (mapped.size() < many) return;
  const std::size_t page = boost::interprocess::mapped_region::get_page_size();
  const auto begin = (reinterpret_cast<std::uintptr_t>(mapped.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(mapped.data() + mapped.size()) / page * page;
  static_cast<void>(::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED));
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail

#include "../core/end.hpp"
