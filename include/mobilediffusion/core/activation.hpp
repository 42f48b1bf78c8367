// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "begin.hpp"

#include "error.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

enum class Activation { none, silu, gelu, quick_gelu, relu };  // gelu: the exact one (erf); quick_gelu: x * sigmoid(1.702 x)
enum class AttentionKind { softmax, relu };                    // relu: relu(QK^T / sqrt(d)) / N_keys, after finetuning

constexpr const char* name_of(Activation activation) {
  switch (activation) {
    case Activation::none:
      return "none";
    case Activation::silu:
      return "silu";
    case Activation::gelu:
      return "gelu";
    case Activation::quick_gelu:
      return "quick_gelu";
    case Activation::relu:
      return "relu";
  }
  throw Error("activation: unknown kind");
}
constexpr const char* name_of(AttentionKind kind) {
  switch (kind) {
    case AttentionKind::softmax:
      return "softmax";
    case AttentionKind::relu:
      return "relu";
  }
  throw Error("attention: unknown kind");
}

// Else the rows of attention are not normalized by their own sum.
constexpr bool is_softmax(AttentionKind kind) {
  switch (kind) {
    case AttentionKind::softmax:
      return true;
    case AttentionKind::relu:
      return false;
  }
  throw Error("attention: unknown kind");
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
