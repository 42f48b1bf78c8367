// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace mobilediffusion {

enum class Schedule { scaled_linear, cosine };
enum class Prediction { epsilon, v, sample };  // what the UNet puts out: the noise, alpha eps - sigma x, or the picture

}  // namespace mobilediffusion
