// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "begin.hpp"

#include "error.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

enum class Schedule { scaled_linear, cosine };
enum class Prediction { epsilon, v, sample };  // what the UNet puts out: the noise, alpha eps - sigma x, or the picture

// Switches over enumerations have no default: where one forgets an enumerator, our own build fails (-Werror=switch).
constexpr const char* name_of(Schedule schedule) {
  switch (schedule) {
    case Schedule::scaled_linear:
      return "scaled_linear";
    case Schedule::cosine:
      return "cosine";
  }
  throw Error("schedule: unknown kind");
}
constexpr const char* name_of(Prediction prediction) {
  switch (prediction) {
    case Prediction::epsilon:
      return "epsilon";
    case Prediction::v:
      return "v";
    case Prediction::sample:
      return "sample";
  }
  throw Error("prediction: unknown kind");
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
