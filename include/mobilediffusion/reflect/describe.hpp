// SPDX-License-Identifier: Apache-2.0
// A configuration as text: the fields that differ from their defaults, by their dotted paths; or all of them as JSON.
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

// indent: before a field of this value. What holds no array or struct stands on one line.
template <class T>
void write_json(const T& value, const std::string& indent, std::string& out) {
  if constexpr (std::is_enum_v<T>) {
    out.append("\"").append(name_of(value)).append("\"");
  } else if constexpr (std::is_same_v<T, bool>) {
    out += value ? "true" : "false";
  } else if constexpr (std::is_integral_v<T>) {
    out += std::to_string(value);
  } else {
    const std::string inner = indent + "  ";
    std::size_t n = 0;
    bool flat = true;
    const auto each = [&](auto&& f) {
      if constexpr (is_array<T>) {
        for (const auto& element : value) f(std::string_view{}, element);
      } else {
        const auto parts = tie(const_cast<T&>(value));
        [&]<std::size_t... I>(std::index_sequence<I...>) { (f(std::string_view(names<T>[I]), get<I>(parts)), ...); }
        (Indices<T>{});
      }
    };
    each([&](std::string_view, const auto& part) { flat = flat && std::is_scalar_v<std::remove_cvref_t<decltype(part)>>; });
    out += is_array<T> ? '[' : '{';
    each([&](std::string_view name, const auto& part) {
      out += n++ == 0 ? "" : flat ? ", " : ",";
      if (!flat) out.append("\n").append(inner);
      if (!name.empty()) out.append("\"").append(name).append("\": ");
      write_json(part, inner, out);
    });
    if (!flat) out.append("\n").append(indent);
    out += is_array<T> ? ']' : '}';
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

// Every field of a structural configuration by its name, in the order of declaration; enumerators by name_of, arrays as arrays.
// indent: of the lines behind the first.
template <class Config>
std::string json(const Config& config, const std::string& indent = "") {
  std::string text;
  detail::write_json(config, indent, text);
  return text;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::reflect

#include "../core/end.hpp"
