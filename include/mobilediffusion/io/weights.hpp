// SPDX-License-Identifier: Apache-2.0
// Weight aggregates in and out of safetensors: names, shapes and order come from reflection, nothing is listed twice.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "../reflect/reflect.hpp"
#include "safetensors.hpp"

namespace mobilediffusion {

namespace detail {
// File order [outer][inner][taps] <-> memory order [outer][taps][inner] (core/param.hpp).
template <class Leaf>
void to_memory_order(const float* file, float* memory) {
  for (std::size_t o = 0; o < Leaf::outer; ++o)
    for (std::size_t i = 0; i < Leaf::inner; ++i)
      for (std::size_t t = 0; t < Leaf::taps; ++t)
        memory[(o * Leaf::taps + t) * Leaf::inner + i] = file[(o * Leaf::inner + i) * Leaf::taps + t];
}
template <class Leaf>
void to_file_order(const float* memory, float* file) {
  for (std::size_t o = 0; o < Leaf::outer; ++o)
    for (std::size_t i = 0; i < Leaf::inner; ++i)
      for (std::size_t t = 0; t < Leaf::taps; ++t)
        file[(o * Leaf::inner + i) * Leaf::taps + t] = memory[(o * Leaf::taps + t) * Leaf::inner + i];
}
}  // namespace detail

// Throws Error unless every leaf of W is in the file under prefix + path with its shape, as F32, F16 or BF16. Reads no data.
// File: a SafetensorsFile or WeightFiles.
template <class W, class File>
void check_weights(const File& file, std::string_view prefix) {
  W weights{};
  reflect::visit(weights, [&]<class Leaf>(std::string_view path, Leaf&) {
    const TensorView& t = file.require(std::string(prefix) + std::string(path), Leaf::file_shape);
    if (t.dtype != Dtype::f32 && t.dtype != Dtype::f16 && t.dtype != Dtype::bf16)
      throw Error(detail::join({"file ", detail::printable(file.name()), ": tensor ", t.name,
                                ": expected dtype F32, F16 or BF16, found ", name_of(t.dtype)}));
  });
}

// Reads every leaf of the bound weights, checks that its numbers are finite and hands it to `loaded(leaf)`, which may pack it.
// Throws Error naming the tensor; call check_weights first to refuse a foreign file before anything is touched.
template <class W, class File, class F>
void read_weights(const File& file, std::string_view prefix, W& weights, F&& loaded) {
  std::vector<float> order;
  reflect::visit(weights, [&]<class Leaf>(std::string_view path, Leaf& leaf) {
    const TensorView& t = file.require(std::string(prefix) + std::string(path), Leaf::file_shape);
    if constexpr (Leaf::taps == 1) {
      file.read_floats(t, leaf.data);
    } else {
      order.resize(Leaf::count);
      file.read_floats(t, order.data());
      detail::to_memory_order<Leaf>(order.data(), leaf.data);
    }
    for (std::size_t i = 0; i < Leaf::count; ++i)
      if (!std::isfinite(leaf.data[i]))
        throw Error(detail::join(
            {"file ", detail::printable(file.name()), ": tensor ", t.name, ": expected finite numbers, found NaN or infinity"}));
    loaded(leaf);
  });
}
template <class W, class File>
void read_weights(const File& file, std::string_view prefix, W& weights) {
  read_weights(file, prefix, weights, [](auto&) {});
}

// check_weights, and that the file holds nothing besides. A constant that old text encoders stored does not count.
template <class W, class File>
void check_exactly_weights(const File& file) {
  check_weights<W>(file, "");
  std::vector<const std::byte*> wanted;  // where the tensors lie, since they may go by an older name
  W weights{};
  reflect::visit(weights, [&]<class Leaf>(std::string_view path, Leaf&) {
    wanted.push_back(file.require(path, Leaf::file_shape).bytes.data());
  });
  std::sort(wanted.begin(), wanted.end());
  for (const TensorView& t : file.tensors())
    if (!t.name.ends_with(".position_ids") && !std::binary_search(wanted.begin(), wanted.end(), t.bytes.data()))
      throw Error(
          detail::join({"file ", detail::printable(file.name()), ": tensor ", detail::printable(t.name),
                        ": unknown to the model, expected its ", wanted.size(), " tensors, found ", file.tensors().size()}));
}

// Appends one tensor per leaf (not packed) under prefix + path. The weights must outlive the list.
template <class W>
void list_weights(std::vector<TensorToWrite>& out, std::string_view prefix, const W& weights, Dtype dtype) {
  reflect::visit(weights, [&]<class Leaf>(std::string_view path, Leaf& leaf) {
    using L = std::remove_const_t<Leaf>;
    TensorToWrite t;
    t.name = std::string(prefix) + std::string(path);
    t.dtype = dtype;
    t.shape.assign(L::file_shape.begin(), L::file_shape.end());
    const float* data = leaf.data;
    if constexpr (L::taps == 1) {
      t.floats = {data, L::count};
    } else {
      t.fill = [data, dtype](std::span<std::byte> bytes) {
        std::vector<float> order(L::count);
        detail::to_file_order<L>(data, order.data());
        convert_from_floats(dtype, order, bytes);
      };
    }
    out.push_back(std::move(t));
  });
}

}  // namespace mobilediffusion
