// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace mobilediffusion {

enum class Activation { none, silu, gelu, quick_gelu, relu };  // gelu: the exact one (erf); quick_gelu: x * sigmoid(1.702 x)
enum class AttentionKind { softmax, relu };                    // relu: relu(QK^T / sqrt(d)) / N_keys, after finetuning

}  // namespace mobilediffusion
