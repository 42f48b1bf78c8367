// SPDX-License-Identifier: Apache-2.0
// Objects that one caller uses at a time, and that say so where two do.
#pragma once

#include "begin.hpp"

#include <atomic>

#include "error.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// A member of such an object. A copy or what was moved from is in nobody's use.
class ExclusiveUse {
 public:
  ExclusiveUse() = default;
  ExclusiveUse(const ExclusiveUse&) noexcept {}
  ExclusiveUse& operator=(const ExclusiveUse&) noexcept { return *this; }

  // The object is in use while this lives. Throws Error with the message where it is already.
  class Guard {
   public:
    Guard(ExclusiveUse& use, const char* message) : use_(use) {
      if (use.taken_.exchange(true, std::memory_order_acquire)) throw Error(message);
    }
    ~Guard() { use_.taken_.store(false, std::memory_order_release); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    ExclusiveUse& use_;
  };

 private:
  std::atomic<bool> taken_{false};
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
