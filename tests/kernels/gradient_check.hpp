// SPDX-License-Identifier: Apache-2.0
// Random arrays, comparisons, and central differences for the tests of the kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "mobilediffusion/core/random.hpp"

namespace kernel_tests {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

inline Floats normals(std::size_t n, std::uint64_t stream) {
  Floats out((n + 3) / 4 * 4);
  mobilediffusion::Random(1, stream).normals(out);
  out.resize(n);
  return out;
}
inline Doubles widened(const Floats& x) { return Doubles(x.begin(), x.end()); }
inline bool same_bytes(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The largest |a - b| relative to the largest |b|: errors of sums scale with the whole, not with the element.
template <class A, class B>
double relative_error(const std::vector<A>& a, const std::vector<B>& b) {
  if (a.size() != b.size()) return INFINITY;
  double most = 0.0, size = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (std::isnan(d)) return INFINITY;
    most = std::max(most, d);
    size = std::max(size, std::fabs(static_cast<double>(b[i])));
  }
  return most / size;
}

inline double dot(const Doubles& a, const Floats& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * static_cast<double>(b[i]);
  return sum;
}

// d(loss)/d(x) by central differences in double; loss() reads x.
template <class Loss>
Doubles numerical_gradient(Doubles& x, Loss&& loss, double step = 1e-5) {
  Doubles out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double kept = x[i];
    x[i] = kept + step;
    const double up = loss();
    x[i] = kept - step;
    out[i] = (up - loss()) / (2.0 * step);
    x[i] = kept;
  }
  return out;
}

}  // namespace kernel_tests
