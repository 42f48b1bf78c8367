// SPDX-License-Identifier: Apache-2.0
// Matrices and filters in a file in 8 bits: NAME is I8 in the shape of the floats, and beside it NAME_scale holds a float for
// each output. A weight is its number times the scale of its output. (The names are those of the format compressed-tensors.)
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../reflect/reflect.hpp"
#include "safetensors.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {

inline std::string scale_name(std::string_view tensor) { return std::string(tensor) + "_scale"; }

// What may be stored so: weights with outputs, which kernels pack. Vocabularies, norms and biases are read as they are.
inline bool may_be_int8(const reflect::LeafType& leaf) { return leaf.is_matrix; }
// What is written so: rows that are long enough for a scale to weigh little.
inline bool written_as_int8(const reflect::LeafType& leaf) { return may_be_int8(leaf) && leaf.columns >= 64; }

// Of each row: its largest number becomes 127. 0: zeros, or what is below the least normal number. values: in the order of the
// file. (Scales that lose the least squares instead, by a search, make pictures 0.15 dB better.)
std::vector<float> int8_scales(const reflect::LeafType& leaf, std::span<const float> values);
void to_int8(const reflect::LeafType& leaf, std::span<const float> values, std::span<std::byte> out);

// The scales of an I8 tensor of this leaf. Throws Error where they are missing, shaped otherwise or no floats. A WeightFiles,
// which holds other people's files, has no 8-bit storage.
template <class File>
const TensorView& require_scale(const File& file, const TensorView& tensor, const reflect::LeafType& leaf) {
  const auto fail = [&](const TensorView& t, std::string_view expected) {
    throw Error(join({"file ", printable(file.name()), ": tensor ", printable(t.name), ": expected dtype ", expected, ", found ",
                      name_of(t.dtype)}));
  };
  if (!may_be_int8(leaf)) fail(tensor, float_dtypes);
  const std::size_t shape[] = {leaf.rows};
  const TensorView& scale = file.require(scale_name(tensor.name), shape);
  if (!is_float(scale.dtype)) fail(scale, float_dtypes);
  return scale;
}

// out[tensor.count()] = numbers times scales, which may be NaN or infinite.
template <class File>
void read_int8(const File& file, const TensorView& tensor, const TensorView& scale, float* out) {
  std::vector<float> scales(scale.count());
  file.read_floats(scale, scales.data());
  const std::vector<std::byte> bytes = file.read_bytes(tensor);
  const std::size_t row = tensor.count() / scales.size();
  for (std::size_t i = 0; i < bytes.size(); ++i)
    out[i] = scales[i / row] * static_cast<float>(std::to_integer<std::int8_t>(bytes[i]));
}

}  // namespace detail

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY std::vector<float> int8_scales(const reflect::LeafType& leaf, std::span<const float> values) {
  std::vector<float> scales(leaf.rows);
  for (std::size_t i = 0; i < leaf.rows; ++i) {
    float largest = 0.0f;
    for (const float x : values.subspan(i * leaf.columns, leaf.columns)) largest = std::max(largest, std::fabs(x));
    if (largest / 127.0f >= std::numeric_limits<float>::min()) scales[i] = largest / 127.0f;
  }
  return scales;
}

MOBILEDIFFUSION_BODY void to_int8(const reflect::LeafType& leaf, std::span<const float> values, std::span<std::byte> out) {
  const std::vector<float> scales = int8_scales(leaf, values);
  for (std::size_t i = 0; i < leaf.count; ++i) {
    const float scale = scales[i / leaf.columns], q = scale == 0.0f ? 0.0f : std::nearbyint(values[i] / scale);
    out[i] = static_cast<std::byte>(static_cast<std::int8_t>(std::clamp(q, -127.0f, 127.0f)));
  }
}

}  // namespace detail

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
