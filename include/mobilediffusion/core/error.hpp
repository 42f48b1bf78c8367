// SPDX-License-Identifier: Apache-2.0
// The one exception type of the library.
#pragma once

#include "begin.hpp"

#include <stdexcept>
#include <string>

namespace mobilediffusion {

// Thrown for files and arguments that cannot be used: the text names the thing (file, tensor, argument), what was
// expected and what was found, in one line. Configuration errors never reach run time: they do not compile.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

}  // namespace mobilediffusion

#include "end.hpp"
