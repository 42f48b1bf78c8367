// SPDX-License-Identifier: Apache-2.0
// Weight aggregates in and out of safetensors: names, shapes and order come from reflection, nothing is listed twice.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../reflect/reflect.hpp"
#include "int8_storage.hpp"
#include "safetensors.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {
// File order [outer][inner][taps] <-> memory order [outer][taps][inner] (core/param.hpp).
void to_memory_order(const reflect::LeafType& leaf, const float* file, float* memory);
void to_file_order(const reflect::LeafType& leaf, const float* memory, float* file);
// Whether a tensor is stored in 8 bits, with scales beside it, in a file that may have such ones.
template <class File>
bool is_int8([[maybe_unused]] const File& file, const TensorView& t) {
  if constexpr (requires { file.read_bytes(t); }) return t.dtype == Dtype::i8;
  else return false;
}
}  // namespace detail

// Throws Error unless every leaf of W is in the file under prefix + path with its shape and a float dtype, or in 8 bits with its
// scales (int8_storage.hpp; not in WeightFiles). Reads no data. File: a SafetensorsFile or WeightFiles.
template <class W, class File>
void check_weights(const File& file, std::string_view prefix) {
  W weights{};
  for (const reflect::LeafView& leaf : reflect::leafs(weights)) {
    const TensorView& t = file.require(std::string(prefix) + leaf.path, leaf.type->file_shape);
    if (detail::is_int8(file, t)) detail::require_scale(file, t, *leaf.type);
    else if (!is_float(t.dtype))
      throw Error(detail::join({"file ", detail::printable(file.name()), ": tensor ", detail::printable(t.name),
                                ": expected dtype ", float_dtypes, ", found ", name_of(t.dtype)}));
  }
}

// Reads every leaf of bound weights and checks that its numbers are finite. What kernels read as it is in the file goes where it
// is bound; the rest (matrices, and what has taps) goes to `take(const LeafView&, std::span<const float>)`, in the order of
// memory. Throws Error naming the tensor; call check_weights first to refuse a foreign file before anything is touched.
template <class W, class File, class F>
void read_weights(const File& file, std::string_view prefix, W& weights, F&& take) {
  const std::vector<reflect::LeafView> leafs = reflect::leafs(weights);
  std::size_t most = 0;  // at once: memory that grows bit by bit is not given back to the system
  for (const reflect::LeafView& leaf : leafs)
    if (leaf.type->is_matrix || leaf.type->taps > 1) most = std::max(most, leaf.type->count);
  std::vector<float> values(most), order(most);
  for (const reflect::LeafView& leaf : leafs) {
    const reflect::LeafType& type = *leaf.type;
    const TensorView& t = file.require(std::string(prefix) + leaf.path, type.file_shape);
    const bool as_it_is = !type.is_matrix && type.taps == 1;
    float* read = as_it_is ? leaf.data() : values.data();
    if constexpr (requires { file.read_bytes(t); }) {
      if (t.dtype == Dtype::i8) detail::read_int8(file, t, detail::require_scale(file, t, type), read);
      else file.read_floats(t, read);
    } else {
      file.read_floats(t, read);
    }
    if (!std::all_of(read, read + type.count, [](float x) { return std::isfinite(x); }))
      throw Error(detail::join({"file ", detail::printable(file.name()), ": tensor ", detail::printable(t.name),
                                ": expected finite numbers, found NaN or infinity"}));
    if (as_it_is) continue;
    if (type.taps > 1) {
      detail::to_memory_order(type, read, order.data());
      read = order.data();
    }
    take(leaf, std::span<const float>(read, type.count));
  }
}
// Into bound weights as they are.
template <class W, class File>
void read_weights(const File& file, std::string_view prefix, W& weights) {
  read_weights(file, prefix, weights, [](const reflect::LeafView& leaf, std::span<const float> values) {
    std::copy(values.begin(), values.end(), leaf.data());
  });
}

// check_weights, and that the file holds nothing besides but tensors whose name `ignores` accepts.
template <class W, class File, class Predicate = bool (*)(std::string_view)>
void check_exactly_weights(
    const File& file, Predicate ignores = [](std::string_view) { return false; }) {
  check_weights<W>(file, "");
  std::vector<const TensorView*> wanted;  // not their names, since they may go by an older one
  W weights{};
  for (const reflect::LeafView& leaf : reflect::leafs(weights)) {
    wanted.push_back(&file.require(leaf.path, leaf.type->file_shape));
    if (detail::is_int8(file, *wanted.back())) wanted.push_back(&detail::require_scale(file, *wanted.back(), *leaf.type));
  }
  std::sort(wanted.begin(), wanted.end());
  for (const auto& t : file.tensors())
    if (const TensorView* const tensor = &t; !std::binary_search(wanted.begin(), wanted.end(), tensor) && !ignores(t.name))
      throw Error(
          detail::join({"file ", detail::printable(file.name()), ": tensor ", detail::printable(t.name),
                        ": unknown to the model, expected its ", wanted.size(), " tensors, found ", file.tensors().size()}));
}

// Appends one tensor per leaf (not packed) under prefix + path. dtype: F32, F16 or BF16; or I8, which is that of matrices and
// filters, with a second tensor of scales, and F16 for the rest. The weights must outlive the list.
template <class W>
void list_weights(std::vector<TensorToWrite>& out, std::string_view prefix, const W& weights, Dtype dtype) {
  for (const reflect::LeafView& leaf : reflect::leafs(weights)) {
    const reflect::LeafType* const type = leaf.type;
    const bool int8 = dtype == Dtype::i8 && detail::written_as_int8(*type);
    TensorToWrite t;
    t.name = std::string(prefix) + leaf.path;
    t.dtype = dtype == Dtype::i8 && !int8 ? Dtype::f16 : dtype;
    t.shape.assign(type->file_shape.begin(), type->file_shape.end());
    const auto in_file_order = [data = leaf.data(), type] {
      std::vector<float> order(type->count);
      detail::to_file_order(*type, data, order.data());
      return order;
    };
    if (int8) {
      t.fill = [=](std::span<std::byte> bytes) { detail::to_int8(*type, in_file_order(), bytes); };
      TensorToWrite scale{.name = detail::scale_name(t.name), .dtype = Dtype::f32, .shape = {type->rows}};
      scale.fill = [=](std::span<std::byte> bytes) {
        convert_from_floats(Dtype::f32, detail::int8_scales(*type, in_file_order()), bytes);
      };
      out.push_back(std::move(t));
      out.push_back(std::move(scale));
      continue;
    }
    if (type->taps == 1) t.floats = {leaf.data(), type->count};
    else t.fill = [=, dtype = t.dtype](std::span<std::byte> bytes) { convert_from_floats(dtype, in_file_order(), bytes); };
    out.push_back(std::move(t));
  }
}

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY void to_memory_order(const reflect::LeafType& leaf, const float* file, float* memory) {
  for (std::size_t o = 0; o < leaf.outer; ++o)
    for (std::size_t i = 0; i < leaf.inner; ++i)
      for (std::size_t t = 0; t < leaf.taps; ++t)
        memory[(o * leaf.taps + t) * leaf.inner + i] = file[(o * leaf.inner + i) * leaf.taps + t];
}

MOBILEDIFFUSION_BODY void to_file_order(const reflect::LeafType& leaf, const float* memory, float* file) {
  for (std::size_t o = 0; o < leaf.outer; ++o)
    for (std::size_t i = 0; i < leaf.inner; ++i)
      for (std::size_t t = 0; t < leaf.taps; ++t)
        file[(o * leaf.inner + i) * leaf.taps + t] = memory[(o * leaf.taps + t) * leaf.inner + i];
}

}  // namespace detail

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
