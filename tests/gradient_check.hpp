// SPDX-License-Identifier: Apache-2.0
// A numerical check of the gradients of any layer, block or model, that names the tensor whose gradient is wrong.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/core/memory.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/layers/context.hpp"
#include "mobilediffusion/layers/packed_weights.hpp"
#include "mobilediffusion/reflect/reflect.hpp"

namespace gradient_tests {

using Floats = std::vector<float>;
using Pointers = std::vector<float*>;

inline Floats normals(std::size_t n, std::uint64_t stream, float scale = 1.0f) {
  Floats out((n + 3) / 4 * 4);
  mobilediffusion::Random(7, stream).normals(out);
  out.resize(n);
  for (float& x : out) x *= scale;
  return out;
}

// Weights with memory of their own.
template <class W>
class Bound {
 public:
  Bound() : memory_(mobilediffusion::reflect::storage_floats<W>()), weights_(mobilediffusion::reflect::bind<W>(memory_.data())) {}
  const W& operator*() const { return weights_; }
  W& operator*() { return weights_; }
  const mobilediffusion::AlignedBuffer& memory() const { return memory_; }

 private:
  mobilediffusion::AlignedBuffer memory_;
  W weights_;
};

// Values at which activations neither vanish nor explode, every bias and scale its own.
template <class W>
void randomize(W& weights, std::uint64_t seed) {
  std::uint64_t stream = seed << 32;
  mobilediffusion::reflect::visit(weights, [&](std::string_view path, auto& leaf) {
    using Leaf = std::remove_cvref_t<decltype(leaf)>;
    float scale = 0.2f, offset = 0.0f;
    if constexpr (Leaf::is_matrix) scale = 1.0f / std::sqrt(static_cast<float>(leaf.columns));
    else if (path.ends_with("weight") && leaf.file_shape.size() == 1) offset = 1.0f;
    const Floats values = normals(leaf.count, ++stream, scale);
    for (std::size_t i = 0; i < leaf.count; ++i) leaf.data[i] = values[i] + offset;
  });
}

// The largest |a - b| relative to the largest |b|.
inline double relative_error(const float* a, const float* b, std::size_t n) {
  double most = 0.0, size = 1e-30;
  for (std::size_t i = 0; i < n; ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (std::isnan(d)) return std::numeric_limits<double>::infinity();
    most = std::max(most, d);
    size = std::max(size, std::fabs(static_cast<double>(b[i])));
  }
  return most / size;
}
inline double relative_error(const Floats& a, const Floats& b) {
  return a.size() == b.size() ? relative_error(a.data(), b.data(), a.size()) : std::numeric_limits<double>::infinity();
}

enum class Adjoint { assigned, added, none };  // what backward does to the memory it is given for an input

struct Input {
  std::string name;
  std::size_t floats;  // of the whole batch
  Adjoint adjoint = Adjoint::assigned;
  float scale = 1.0f;
};

struct Options {
  std::size_t batch = 2;
  std::size_t coordinates = 3;  // probed singly in each tensor, besides whole directions
  double tolerance = 1e-2;      // relative
  double step = 0.01;           // of a unit direction; smaller where the function has kinks
  int threads = 2;
  std::size_t backward_floats = SIZE_MAX;  // that backward must take of the stack; SIZE_MAX: not looked at
};

// What can be probed: a leaf of the weights or an input, with its gradient.
struct Tensor {
  std::string name;
  float* value;
  const float* gradient;
  std::size_t count;
};

// Compares <gradient, d> with central differences of loss() along directions d of each tensor: one that leans towards the
// gradient, one random, and single coordinates. Returns a line per disagreement. noise: the rounding error of a loss.
inline std::string probe(const std::vector<Tensor>& tensors, const std::function<double()>& loss, double noise,
                         const Options& o) {
  std::ostringstream report;
  mobilediffusion::Random random(11, 1);
  for (const Tensor& t : tensors) {
    const Floats kept(t.value, t.value + t.count);
    double norm = 0.0, size = 0.0;
    bool finite = true;
    for (std::size_t i = 0; i < t.count; ++i) {
      norm += static_cast<double>(t.gradient[i]) * static_cast<double>(t.gradient[i]);
      size += static_cast<double>(kept[i]) * static_cast<double>(kept[i]);
      finite = finite && std::isfinite(t.gradient[i]);
    }
    if (!finite) {
      report << t.name << ": the gradient is not finite\n";
      continue;
    }
    norm = std::sqrt(norm);
    const auto compare = [&](const Floats& d, double length, const std::string& what) {
      double analytic = 0.0;
      for (std::size_t i = 0; i < t.count; ++i) analytic += static_cast<double>(t.gradient[i]) * static_cast<double>(d[i]);
      // Far enough for the loss to move beyond its noise, near enough for the fourth-order difference.
      const double h = o.step * length;
      const auto at = [&](double s) {
        for (std::size_t i = 0; i < t.count; ++i)
          t.value[i] = static_cast<float>(static_cast<double>(kept[i]) + s * static_cast<double>(d[i]));
        return loss();
      };
      const double numeric = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
      std::copy(kept.begin(), kept.end(), t.value);
      const double allowed =
          o.tolerance * std::max(std::fabs(analytic), norm / std::sqrt(static_cast<double>(t.count))) + noise / h;
      if (!(std::fabs(analytic - numeric) <= allowed))
        report << t.name << " " << what << ": analytic " << analytic << ", numeric " << numeric << ", allowed " << allowed
               << "\n";
    };
    Floats d = normals(t.count, 1000 + random.next());
    double length = 0.0;
    for (const float x : d) length += static_cast<double>(x) * static_cast<double>(x);
    length = std::sqrt(length);
    for (float& x : d) x = static_cast<float>(static_cast<double>(x) / length);
    const double reach = std::clamp(std::sqrt(size), 0.5, 2.0);
    compare(d, reach, "along a random direction");
    if (norm > 0.0) {
      for (std::size_t i = 0; i < t.count; ++i)
        d[i] = static_cast<float>(0.5 * static_cast<double>(d[i]) + static_cast<double>(t.gradient[i]) / norm);
      compare(d, reach, "along its gradient");
    }
    const std::size_t coordinates = std::min(o.coordinates, t.count);
    for (std::size_t k = 0; k < coordinates; ++k) {
      const std::size_t i = coordinates == t.count ? k : random.below(static_cast<std::uint32_t>(t.count));
      std::fill(d.begin(), d.end(), 0.0f);
      d[i] = 1.0f;
      compare(d, 1.0, "at " + std::to_string(i));
    }
  }
  return report.str();
}

// Checks backward against forward. forward(context, weights, inputs, outputs); backward(context, weights, gradients,
// d_outputs, d_inputs), which may keep what forward saved in its closure. Returns a line per fault, empty if there is none.
template <class W>
std::string check_gradients(
    const std::vector<Input>& inputs, const std::vector<std::size_t>& outputs,
    const std::function<void(mobilediffusion::Context&, const W&, const Pointers&, const Pointers&)>& forward,
    const std::function<void(mobilediffusion::Context&, const W&, const W&, const Pointers&, const Pointers&)>& backward,
    const Options& o = {}) {
  using namespace mobilediffusion;
  Executor executor = Executor::oversubscribed(o.threads);
  AlignedBuffer memory(4 * 1024 * 1024);
  const auto undefined = [&] { std::fill(memory.span().begin(), memory.span().end(), std::numeric_limits<float>::quiet_NaN()); };
  Bound<W> weights, gradients;
  randomize(*weights, 1);
  const Floats signs = normals(8, 90);

  std::vector<Floats> x, dx, y, dy;
  Pointers xp, dxp, yp, dyp;
  for (const Input& in : inputs) {
    x.push_back(normals(in.floats, 100 + x.size(), in.scale));
    dx.emplace_back(in.floats, in.adjoint == Adjoint::assigned ? std::numeric_limits<float>::quiet_NaN() : 0.0f);
  }
  for (const std::size_t n : outputs) {
    y.emplace_back(n, std::numeric_limits<float>::quiet_NaN());
    dy.push_back(normals(n, 200 + dy.size()));
  }
  const std::vector<Floats> cotangents = dy;
  for (Floats& v : x) xp.push_back(v.data());
  for (std::size_t i = 0; i < dx.size(); ++i) dxp.push_back(inputs[i].adjoint == Adjoint::none ? nullptr : dx[i].data());
  for (Floats& v : y) yp.push_back(v.data());
  for (Floats& v : dy) dyp.push_back(v.data());

  // Twice: gradients of weights and of added inputs double, those of assigned ones stay.
  std::vector<Floats> first_dx;
  Floats first_g;
  for (int pass = 0; pass < 2; ++pass) {
    undefined();
    Stack stack(memory);
    Context c{executor, stack, o.batch, false};
    dy = cotangents;
    for (std::size_t i = 0; i < dy.size(); ++i) dyp[i] = dy[i].data();
    stack.keep(true);
    forward(c, *weights, xp, yp);
    stack.keep(false);
    const std::size_t kept = stack.peak();
    backward(c, *weights, *gradients, dyp, dxp);
    if (o.backward_floats != SIZE_MAX && stack.peak() - kept != o.backward_floats)
      return "backward: expected to take " + std::to_string(o.backward_floats) + " floats, found " +
             std::to_string(stack.peak() - kept) + "\n";
    if (pass == 0) {
      first_dx = dx;
      first_g.assign(gradients.memory().span().begin(), gradients.memory().span().end());
    }
  }
  std::ostringstream report;
  std::vector<Tensor> tensors;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].adjoint == Adjoint::none) continue;
    tensors.push_back({"input " + inputs[i].name, x[i].data(), first_dx[i].data(), inputs[i].floats});
    Floats expected = first_dx[i];
    if (inputs[i].adjoint == Adjoint::added)
      for (float& v : expected) v *= 2.0f;
    if (!(relative_error(dx[i], expected) < 1e-4))
      report << "input " << inputs[i].name << ": a second pass does not "
             << (inputs[i].adjoint == Adjoint::added ? "add" : "assign") << "\n";
  }
  std::vector<float*> values;
  reflect::visit(*weights, [&](std::string_view, auto& leaf) { values.push_back(leaf.data); });
  std::size_t n = 0;
  reflect::visit(*gradients, [&](std::string_view path, auto& leaf) {
    const float* g = first_g.data() + (leaf.data - gradients.memory().data());
    tensors.push_back({std::string(path), values[n++], g, leaf.count});
    Floats expected(g, g + leaf.count);
    double largest = 0.0;
    for (float& v : expected) {
      v *= 2.0f;
      largest = std::max(largest, std::fabs(static_cast<double>(v)));
    }
    if (largest > 1e-4 && !(relative_error(leaf.data, expected.data(), leaf.count) < 1e-3))
      report << path << ": a second pass does not add\n";
    if (!(largest > 0.0)) report << path << ": the gradient is zero\n";
  });

  double noise = 0.0;
  for (std::size_t i = 0; i < y.size(); ++i)
    for (std::size_t k = 0; k < y[i].size(); ++k) {
      const double term = static_cast<double>(y[i][k]) * static_cast<double>(cotangents[i][k]);
      noise += term * term;
    }
  noise = 1e-6 * std::sqrt(noise);
  const Executor alone(1);
  const auto loss = [&] {
    Stack stack(memory);
    Context c{alone, stack, o.batch, false};
    forward(c, *weights, xp, yp);
    double sum = 0.0;
    for (std::size_t i = 0; i < y.size(); ++i)
      for (std::size_t k = 0; k < y[i].size(); ++k) sum += static_cast<double>(y[i][k]) * static_cast<double>(cotangents[i][k]);
    return sum;
  };
  return report.str() + probe(tensors, loss, noise, o);
}

}  // namespace gradient_tests
