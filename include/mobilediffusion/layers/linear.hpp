// SPDX-License-Identifier: Apache-2.0
// torch.nn.Linear, also as a 1x1 convolution over channels-last pixels.
#pragma once

#include "../core/begin.hpp"

#include <type_traits>

#include "../kernels/kernels.hpp"
#include "context.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct LinearSpec {
  std::size_t in, out;
  bool bias = true;
  bool conv = false;  // stored as a 1x1 convolution: [out,in,1,1]
};

template <LinearSpec S>
struct Linear {
  struct Weights {
    std::conditional_t<S.conv, Filter<S.out, S.in, 1>, Matrix<S.out, S.in>> weight;
    std::conditional_t<S.bias, Param<S.out>, Absent> bias;
  };
  static constexpr std::size_t in = S.in, out = S.out;
  static constexpr std::size_t macs(std::size_t rows) { return rows * S.in * S.out; }

  // x [rows][in] -> y [rows][out]. An epilogue that brings its own bias replaces the layer's.
  static void forward(Context& c, const Weights& w, const float* x, float* y, std::size_t rows, kernels::Epilogue epilogue = {}) {
    forward(c, w, kernels::Operand::dense(x, rows, S.in, S.in), y, epilogue);
  }
  static void forward(Context& c, const Weights& w, const kernels::Operand& x, float* y, kernels::Epilogue epilogue = {}) {
    if constexpr (S.bias) {
      if (epilogue.bias == nullptr) epilogue.bias = w.bias.data;
    }
    const std::size_t rows = x.rows();
    const auto b = c.packed ? kernels::Operand::packed(w.weight.data, S.out, S.in, decltype(w.weight)::format(c.format))
                            : kernels::Operand::dense(w.weight.data, S.out, S.in, S.in);
    const Span span(c, {"linear", w.weight.data, macs(rows), 4 * (rows * (S.in + S.out) + S.in * S.out)});
    kernels::matmul_nt(c.executor, rows, S.out, S.in, x, b, y, S.out, epilogue);
  }

  // dx (nullable) is assigned, or added to; gradients of the weights are added to g.
  static void backward(Context& c, const Weights& w, const Weights& g, const float* x, const float* dy, float* dx,
                       std::size_t rows, bool accumulate = false) {
    const auto dy_rows = kernels::Operand::dense(dy, rows, S.out, S.out);
    if (dx != nullptr) {
      kernels::Epilogue epilogue;
      epilogue.accumulate = accumulate;
      kernels::matmul_nn(c.executor, rows, S.in, S.out, dy_rows, kernels::Operand::dense(w.weight.data, S.out, S.in, S.in), dx,
                         S.in, epilogue);
    }
    kernels::Epilogue add;
    add.accumulate = true;
    kernels::matmul_tn(c.executor, S.out, S.in, rows, dy_rows, kernels::Operand::dense(x, rows, S.in, S.in), g.weight.data, S.in,
                       add);
    if constexpr (S.bias) kernels::column_sums(c.executor, dy, rows, S.out, g.bias.data);
  }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
