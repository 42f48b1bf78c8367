// SPDX-License-Identifier: Apache-2.0
// A configuration as text: the fields that differ from their defaults, by their dotted paths.
#pragma once

#include "../core/begin.hpp"

#include <map>
#include <string>
#include <string_view>
#include <type_traits>

#include "reflect.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::reflect {

// "unet.groups" -> "16". Enumerators by name_of.
using Fields = std::map<std::string, std::string, std::less<>>;

namespace detail {
template <class T>
void describe(const T& value, const T& otherwise, Path& path, Fields& fields) {
  const auto inside = [&](const auto& name, const auto& part, const auto& default_part) {
    const std::size_t mark = path.mark();
    path.push(name);
    describe(part, default_part, path, fields);
    path.back_to(mark);
  };
  if constexpr (std::is_enum_v<T>) {
    if (value != otherwise) fields.emplace(path.view(), name_of(value));
  } else if constexpr (std::is_same_v<T, bool>) {
    if (value != otherwise) fields.emplace(path.view(), value ? "true" : "false");
  } else if constexpr (std::is_integral_v<T>) {
    if (value != otherwise) fields.emplace(path.view(), std::to_string(value));
  } else if constexpr (is_array<T>) {
    for (std::size_t i = 0; i < value.size(); ++i) inside(i, value[i], otherwise[i]);
  } else {
    const auto parts = tie(const_cast<T&>(value)), defaults = tie(const_cast<T&>(otherwise));
    [&]<std::size_t... I>(std::index_sequence<I...>) { (inside(names<T>[I], get<I>(parts), get<I>(defaults)), ...); }
    (Indices<T>{});
  }
}
}  // namespace detail

// Of a structural configuration. Two of one type are equal where their descriptions are, and a field that is added later, with a
// default that changes nothing, does not change them.
template <class Config>
Fields describe(const Config& config) {
  Fields fields;
  detail::Path path;
  detail::describe(config, Config{}, path, fields);
  return fields;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::reflect

#include "../core/end.hpp"
