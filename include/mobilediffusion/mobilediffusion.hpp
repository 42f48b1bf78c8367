// SPDX-License-Identifier: Apache-2.0
// The whole library but training (train/*.hpp).
#pragma once

#include "config/config.hpp"
#include "config/presets.hpp"
#include "config/validate.hpp"
#include "core/torch_random.hpp"
#include "io/known_words.hpp"
#include "io/resize.hpp"
#include "models/text_encoder.hpp"
#include "models/unet.hpp"
#include "models/vae.hpp"
#include "part_times.hpp"
#include "pipeline.hpp"
// Where libpng and libjpeg are installed.
#if __has_include(<png.h>) && __has_include(<zlib.h>) && __has_include(<jpeglib.h>)
#include "io/read_image.hpp"
#endif
