// SPDX-License-Identifier: Apache-2.0
// The whole library but training (train/*.hpp).
#pragma once

#include "config/config.hpp"
#include "config/presets.hpp"
#include "config/validate.hpp"
#include "models/text_encoder.hpp"
#include "models/unet.hpp"
#include "models/vae.hpp"
#include "pipeline.hpp"
