// SPDX-License-Identifier: Apache-2.0
// Weights by reflection: names, sizes and pointers of every leaf of an aggregate. The only include of Boost.PFR.
//
// Weights are made of leafs (Param, Matrix: anything with static `count` and `storage` and a pointer `data`), Absent parts,
// aggregates without base classes, std::array and std::tuple, nested in any way. The path of a leaf is its fields' names and
// its elements' numbers joined by dots, which is the grammar of diffusers' state dicts: "down_blocks.0.resnets.0.norm1.weight".
// The order of leafs is the order of declaration.
#pragma once

#include "../core/begin.hpp"

#include <array>
#include <boost/pfr/core.hpp>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "../core/param.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::reflect {

template <class W>
concept Leaf = requires(W& w) {
  { W::count } -> std::convertible_to<std::size_t>;
  { W::storage } -> std::convertible_to<std::size_t>;
  requires std::is_pointer_v<std::remove_cvref_t<decltype(w.data)>>;
};

// What the type alone tells.
struct Census {
  std::size_t leafs = 0;
  std::size_t parameters = 0;                  // numbers that a checkpoint holds
  std::size_t storage_floats = 0;              // with alignment
  std::array<std::size_t, 3> packed_floats{};  // in inference, by format

  friend constexpr Census operator+(Census a, const Census& b) {
    a.leafs += b.leafs;
    a.parameters += b.parameters;
    a.storage_floats += b.storage_floats;
    for (std::size_t i = 0; i < 3; ++i) a.packed_floats[i] += b.packed_floats[i];
    return a;
  }
  friend constexpr Census operator*(std::size_t n, Census a) {
    a.leafs *= n;
    a.parameters *= n;
    a.storage_floats *= n;
    for (std::size_t& floats : a.packed_floats) floats *= n;
    return a;
  }
};

namespace detail {

template <class T>
inline constexpr bool is_array = false;
template <class T, std::size_t N>
inline constexpr bool is_array<std::array<T, N>> = true;
template <class T>
inline constexpr bool is_tuple = false;
template <class... Ts>
inline constexpr bool is_tuple<std::tuple<Ts...>> = true;

// Boost.PFR counts fields by trying up to eight initializers for each byte of a type, which takes seconds for a model of
// pointers. Weights have few fields, so count from below.
template <class T>
inline constexpr T sample{};

struct Any {
  template <class T>
  constexpr operator T&() const&& noexcept {  // never called, but compilers insist on a body for std::tuple
    return const_cast<T&>(sample<std::remove_const_t<T>>);
  }
};
template <class T, std::size_t... I>
constexpr bool takes(std::index_sequence<I...>) {
  return requires { T{(static_cast<void>(I), Any{})...}; };
}
template <class T, std::size_t n = 0>
constexpr std::size_t count_fields() {
  static_assert(n <= 32, "mobilediffusion: a weights struct has at most 32 fields; nest some of them");
  if constexpr (takes<T>(std::make_index_sequence<n + 1>{})) return count_fields<T, n + 1>();
  else return n;
}
template <class T>
inline constexpr std::size_t fields = std::is_empty_v<T> ? 0 : count_fields<T>();
template <class T>
using Indices = std::make_index_sequence<fields<T>>;

// References to the fields, for get<I>. The first form spares Boost.PFR its count, where its inside still looks like this.
template <class T>
constexpr auto tie(T& weights) {
  if constexpr (requires { boost::pfr::detail::tie_as_tuple(weights, boost::pfr::detail::size_t_<fields<T>>{}); })
    return boost::pfr::detail::tie_as_tuple(weights, boost::pfr::detail::size_t_<fields<T>>{});
  else return boost::pfr::structure_tie(weights);
}

// Boost.PFR has field names from 1.84; before, the compiler's text of a pointer to the field ends in its name. Clang 14
// takes such a pointer as a template argument only inside a class.
template <class T>
struct Pointer {
  const T* to;
};
template <class T>
Pointer(const T*) -> Pointer<T>;

template <auto pointer>
constexpr auto signature() {  // auto: a named return type would follow the template argument in the text
#if defined(_MSC_VER) && !defined(__clang__)
  return std::string_view{__FUNCSIG__};
#else
  return std::string_view{__PRETTY_FUNCTION__};
#endif
}

constexpr std::string_view last_identifier(std::string_view text) {
  const auto is_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  while (!text.empty() && !is_word(text.back())) text.remove_suffix(1);
  std::size_t begin = text.size();
  while (begin != 0 && is_word(text[begin - 1])) --begin;
  return text.substr(begin);
}

// The names of one type's fields, copied: the signatures are long and would otherwise stay in the program.
template <std::size_t fields, std::size_t characters>
struct Names {
  std::array<char, characters + 1> text{};
  std::array<std::size_t, fields + 1> begin{};

  constexpr std::string_view operator[](std::size_t i) const { return {text.data() + begin[i], begin[i + 1] - begin[i]}; }
};

template <class T, std::size_t... I>
constexpr auto make_names(std::index_sequence<I...>) {
  constexpr std::array<std::string_view, sizeof...(I)> found{
      last_identifier(signature<Pointer{&get<I>(tie(const_cast<T&>(sample<T>)))}>())...};
  constexpr std::size_t characters = (std::size_t{0} + ... + found[I].size());
  Names<sizeof...(I), characters> names;
  for (std::size_t i = 0, n = 0; i < found.size(); ++i) {
    for (const char c : found[i]) names.text[n++] = c;
    names.begin[i + 1] = n;
  }
  return names;
}

template <class T>
inline constexpr auto names = make_names<T>(Indices<T>{});

// The dotted path of where the visitor is, in a fixed buffer.
class Path {
 public:
  std::string_view view() const { return {text_.data(), size_}; }
  std::size_t mark() const { return size_; }
  void back_to(std::size_t mark) { size_ = mark; }

  void push(std::string_view name) {
    if (size_ + name.size() + 1 > text_.size()) throw Error("weights: the name of a tensor is longer than 256 characters");
    if (size_ != 0) text_[size_++] = '.';
    for (const char c : name) text_[size_++] = c;
  }
  void push(std::size_t index) {
    std::array<char, 20> digits{};
    std::size_t begin = digits.size();
    do digits[--begin] = static_cast<char>('0' + index % 10);
    while ((index /= 10) != 0);
    push(std::string_view{digits.data() + begin, digits.size() - begin});
  }

 private:
  std::array<char, 256> text_;  // written before it is read
  std::size_t size_ = 0;
};

template <class W, class Part>
constexpr auto& as_const_like(Part& part) {
  if constexpr (std::is_const_v<W>) return std::as_const(part);
  else return part;
}

template <class W, class F>
void walk(W& weights, Path& path, F& f);

template <class Name, class W, class F>
void step(Name name, W& part, Path& path, F& f) {
  if constexpr (!std::is_same_v<std::remove_const_t<W>, Absent>) {
    const std::size_t mark = path.mark();
    path.push(name);
    walk(part, path, f);
    path.back_to(mark);
  }
}

template <class W, class F>
void walk(W& weights, Path& path, F& f) {
  using T = std::remove_const_t<W>;
  if constexpr (std::is_same_v<T, Absent>) {
  } else if constexpr (Leaf<T>) {
    f(path.view(), weights);
  } else if constexpr (is_array<T>) {
    for (std::size_t i = 0; i < weights.size(); ++i) step(i, weights[i], path, f);
  } else if constexpr (is_tuple<T>) {
    [&]<std::size_t... I>(std::index_sequence<I...>) { (step(I, std::get<I>(weights), path, f), ...); }
    (std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (std::is_aggregate_v<T>) {
    const auto parts = tie(const_cast<T&>(weights));  // one form of it for const and other weights
    [&]<std::size_t... I>(std::index_sequence<I...>) { (step(names<T>[I], as_const_like<W>(get<I>(parts)), path, f), ...); }
    (Indices<T>{});
  } else {
    static_assert(std::is_aggregate_v<T>,
                  "mobilediffusion: weights are aggregates; give this type no constructors, or make it a leaf");
  }
}

template <class T>
constexpr Census take_census();
template <class T>
inline constexpr Census census = take_census<T>();  // a variable: computed once a type

template <class T>
constexpr Census take_census() {
  if constexpr (std::is_same_v<T, Absent>) {
    return {};
  } else if constexpr (Leaf<T>) {
    return {1, T::count, T::storage, {T::packed(Format::fp32), T::packed(Format::bf16), T::packed(Format::int8)}};
  } else if constexpr (is_array<T>) {
    return std::tuple_size_v<T> * census<typename T::value_type>;
  } else if constexpr (is_tuple<T>) {
    return
        []<class... Ts>(std::type_identity<std::tuple<Ts...>>) { return (Census{} + ... + census<Ts>); }(std::type_identity<T>{});
  } else if constexpr (std::is_aggregate_v<T>) {
    return []<std::size_t... I>(std::index_sequence<I...>) {
      return (Census{} + ... + census<std::remove_cvref_t<decltype(get<I>(tie(std::declval<T&>())))>>);
    }
    (Indices<T>{});
  } else {
    static_assert(std::is_aggregate_v<T>,
                  "mobilediffusion: weights are aggregates; give this type no constructors, or make it a leaf");
    return {};
  }
}

}  // namespace detail

// Leafs, parameters and floats of storage of a weights type.
template <class W>
inline constexpr Census census = detail::census<std::remove_cv_t<W>>;

template <class W>
constexpr std::size_t leaf_count() {
  return census<W>.leafs;
}
template <class W>
constexpr std::size_t parameters() {
  return census<W>.parameters;
}
template <class W>
constexpr std::size_t storage_floats() {
  return census<W>.storage_floats;
}

// Floats that the weights take in inference.
template <class W>
constexpr std::size_t packed_floats(Format format) {
  return census<W>.packed_floats[static_cast<std::size_t>(format)];
}

// Calls f(std::string_view path, Leaf& leaf) for every leaf in order; f is instantiated once for each distinct type of leaf.
// The path is valid during the call only. Const weights give const leafs. Allocates nothing.
template <class W, class F>
void visit(W& weights, F&& f) {
  detail::Path path;
  detail::walk(weights, path, f);
}

// What a leaf's type says, as values.
struct LeafType {
  std::span<const std::size_t> file_shape;
  std::size_t count, storage, rows, columns, outer, inner, taps;  // rows, columns: 0 unless it is a matrix
  std::array<std::size_t, 3> packed_floats;                       // by format
  bool is_matrix;
  ConvMethod (*method)(Format);  // of a matrix in a model of this format
  Format (*format)(Format);      // likewise, its own
};
template <class L>
constexpr auto method_of() -> ConvMethod (*)(Format) {
  if constexpr (L::is_matrix) return &L::method;
  else return nullptr;
}
template <class L>
constexpr auto format_of() -> Format (*)(Format) {
  if constexpr (L::is_matrix) return &L::format;
  else return nullptr;
}
template <class L>
inline constexpr LeafType leaf_type{L::file_shape,
                                    L::count,
                                    L::storage,
                                    L::is_matrix ? L::file_shape[0] : 0,
                                    L::is_matrix ? L::count / L::file_shape[0] : 0,
                                    L::outer,
                                    L::inner,
                                    L::taps,
                                    {L::packed(Format::fp32), L::packed(Format::bf16), L::packed(Format::int8)},
                                    L::is_matrix,
                                    method_of<L>(),
                                    format_of<L>()};

// One leaf of some weights, as a value: loops over these compile once, a visitor once for each type of leaf.
struct LeafView {
  std::string path;
  const LeafType* type;
  float** slot;  // the leaf's pointer

  float* data() const { return *slot; }
};

namespace detail {
struct Collect {
  std::vector<LeafView>& out;
  template <class L>
  void operator()(std::string_view path, L& leaf) {
    add(path, leaf_type<std::remove_const_t<L>>, const_cast<float**>(&leaf.data));
  }
  void add(std::string_view path, const LeafType& type, float** slot) { out.push_back({std::string(path), &type, slot}); }
};
}  // namespace detail

// All leafs in order. The weights must outlive what is returned.
template <class W>
std::vector<LeafView> leafs(W& weights) {
  std::vector<LeafView> out;
  out.reserve(leaf_count<W>());
  visit(weights, detail::Collect{out});
  return out;
}

// Points the leafs at consecutive places of blob: storage_floats<W>() floats, on a 64-byte boundary.
template <class W>
void bind(W& weights, float* blob) {
  visit(weights, [&blob](std::string_view, auto& leaf) {
    leaf.data = blob;
    blob += leaf.storage;
  });
}
// Memory that follows a leaf's own, aligned.
struct Room {
  std::string_view path{};
  std::size_t floats = 0;
};
// The same for inference: packed_floats<W>(format) floats and those of the room, whose matrices are yet to be packed.
template <class W>
void bind_packed(W& weights, float* blob, Format format, const Room& room = {}) {
  for (const LeafView& leaf : leafs(weights)) {
    *leaf.slot = blob;
    blob += leaf.type->packed_floats[static_cast<std::size_t>(format)];
    if (leaf.path == room.path) blob += room.floats;
  }
}
template <class W>
W bind(float* blob) {
  W weights{};
  bind(weights, blob);
  return weights;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::reflect

#include "../core/end.hpp"
