// SPDX-License-Identifier: Apache-2.0
// Vectors of four lanes in what GCC and clang make of them on any processor, under the names of xsimd that simd.hpp uses: for
// processors that xsimd does not know.
#pragma once

#include "../core/begin.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../core/reinterpret_bits.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd::plain {

typedef float FourFloats __attribute__((vector_size(16)));
typedef std::int32_t FourIntegers __attribute__((vector_size(16)));

template <class T>
struct batch {
  using Vector = std::conditional_t<std::is_same_v<T, float>, FourFloats, FourIntegers>;
  static constexpr std::size_t size = 4;

  Vector v;

  batch() = default;
  batch(T x) : v(Vector{x, x, x, x}) {}
  explicit batch(Vector x) : v(x) {}
  static batch load_unaligned(const T* p) {
    batch x;
    std::memcpy(&x.v, p, sizeof(x.v));
    return x;
  }
  void store_unaligned(T* p) const { std::memcpy(p, &v, sizeof(v)); }

  friend batch operator+(batch a, batch b) { return batch(a.v + b.v); }
  friend batch operator-(batch a, batch b) { return batch(a.v - b.v); }
  friend batch operator*(batch a, batch b) { return batch(a.v * b.v); }
  friend batch operator/(batch a, batch b) { return batch(a.v / b.v); }
  friend batch operator&(batch a, batch b) { return batch(a.v & b.v); }
  friend batch operator|(batch a, batch b) { return batch(a.v | b.v); }
  friend batch operator<<(batch a, int n) { return batch(a.v << n); }
  friend batch operator>>(batch a, int n) { return batch(a.v >> n); }
  batch& operator+=(batch b) { return *this = *this + b; }
  batch& operator-=(batch b) { return *this = *this - b; }
  batch& operator*=(batch b) { return *this = *this * b; }
  // All ones where it is true.
  friend batch<std::int32_t> operator>(batch a, batch b) { return batch<std::int32_t>(a.v > b.v); }
  friend batch<std::int32_t> operator<(batch a, batch b) { return batch<std::int32_t>(a.v < b.v); }
  friend batch<std::int32_t> operator==(batch a, batch b) { return batch<std::int32_t>(a.v == b.v); }
};

template <class To, class From>
batch<To> bitwise_cast(batch<From> x) {
  return reinterpret_bits<batch<To>>(x);
}
// Templates, as xsimd's are: what simd.hpp calls by the same name comes before them.
template <class T>
batch<float> to_float(batch<T> x) {
  return batch<float>(__builtin_convertvector(x.v, FourFloats));
}
template <class T>
batch<T> select(batch<std::int32_t> where, batch<T> a, batch<T> b) {
  const auto bits = [](batch<T> x) { return bitwise_cast<std::int32_t>(x).v; };
  return bitwise_cast<T>(batch<std::int32_t>((bits(a) & where.v) | (bits(b) & ~where.v)));
}
template <class T>
batch<T> max(batch<T> a, batch<T> b) {
  return select(a > b, a, b);
}
template <class T>
batch<T> min(batch<T> a, batch<T> b) {
  return select(a < b, a, b);
}
template <class T>
batch<T> fma(batch<T> a, batch<T> b, batch<T> c) {  // in one rounding where the compiler has such an instruction
  return a * b + c;
}
template <class T>
T reduce_add(batch<T> x) {
  return (x.v[0] + x.v[2]) + (x.v[1] + x.v[3]);
}

template <class T, class F>
batch<T> lane_by_lane(batch<T> x, F&& f) {
  for (int i = 0; i < 4; ++i) x.v[i] = f(x.v[i]);
  return x;
}
template <class T>
batch<T> sqrt(batch<T> x) {
  return lane_by_lane(x, [](T a) { return std::sqrt(a); });
}
template <class T>
batch<T> erf(batch<T> x) {
  return lane_by_lane(x, [](T a) { return std::erf(a); });
}
template <class T>
batch<T> exp(batch<T> x) {
  return lane_by_lane(x, [](T a) { return std::exp(a); });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd::plain

#include "../core/end.hpp"
