// SPDX-License-Identifier: Apache-2.0
// GFLOP/s of the matrix products and convolutions, forward and both gradients, as a share of the measured peak.
// Usage: kernels_matmul [threads] [name part]
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/kernels/conv2d.hpp"

using namespace mobilediffusion;
namespace kernels = mobilediffusion::kernels;
using kernels::ConvGeometry;
using kernels::Operand;

namespace {

double seconds(bool cpu) {
  timespec t{};
  clock_gettime(cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The best of many: one thread is timed by its own clock, so that other work on the machine does not count.
double best(const Executor& ex, double flops, const std::function<void()>& f) {
  const bool cpu = ex.threads() == 1;
  f();
  double least = 1e9, total = 0;
  for (int i = 0; i < 5 || (total < 0.25 && i < 2000); ++i) {
    const double start = seconds(cpu);
    f();
    const double took = seconds(cpu) - start;
    total += took;
    if (took < least) least = took;
  }
  return flops / least * 1e-9;
}

template <Format F>
double peak() {
  alignas(64) static float a[kernels::detail::tile_rows * 256], b[256 * kernels::detail::tile_columns], c[32 * 32];
  kernels::detail::Target t{};
  std::size_t offsets[kernels::detail::tile_rows] = {};
  t.c = c;
  t.c_offset = offsets;
  t.columns = kernels::detail::tile_columns;
  const std::size_t depth = 64;
  const auto f = [&] {
    for (int i = 0; i < 20000; ++i) kernels::detail::tile<F, kernels::detail::tile_rows, 2>(depth, a, b, t);
  };
  return best(Executor(1),
              20000.0 * 2 * depth * kernels::detail::pairing<F> * kernels::detail::tile_rows * kernels::detail::tile_columns, f);
}

struct Bench {
  int threads;
  const char* filter;
  double peaks[2];

  void row(const std::string& name, const std::function<double(const Executor&)>& f) const {
    if (filter != nullptr && name.find(filter) == std::string::npos) return;
    std::printf("%-44s", name.c_str());
    for (const Precision p : {Precision::fp32, Precision::bf16}) {
      const Executor ex(threads, p);
      const double g = f(ex);
      std::printf("  %6.1f %4.0f %%", g, 100 * g / (peaks[p == Precision::bf16] * threads));
    }
    std::printf("\n");
    std::fflush(stdout);
  }

  static std::vector<float> values(std::size_t n) {
    std::vector<float> v(n);
    Random(1, n).normals(v);
    return v;
  }

  void linear(std::size_t m, std::size_t n, std::size_t k) const {
    const auto x = values(m * k), w = values(n * k), dy = values(m * n);
    std::vector<float> y(m * n), dx(m * k), dw(n * k), panels(packed_floats(n, k, Format::fp32));
    kernels::pack_weights(w.data(), n, k, panels.data());
    const std::string name = "linear " + std::to_string(m) + " x " + std::to_string(k) + " -> " + std::to_string(n);
    const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    const Operand A = Operand::dense(x.data(), m, k), W = Operand::dense(w.data(), n, k), D = Operand::dense(dy.data(), m, n);
    row(name + " y",
        [&](const Executor& ex) { return best(ex, flops, [&] { kernels::matmul_nt(ex, m, n, k, A, W, y.data(), n); }); });
    row(name + " packed y", [&](const Executor& ex) {
      return best(ex, flops, [&] { kernels::matmul_nt(ex, m, n, k, A, Operand::packed(panels.data(), n, k), y.data(), n); });
    });
    row(name + " dx",
        [&](const Executor& ex) { return best(ex, flops, [&] { kernels::matmul_nn(ex, m, k, n, D, W, dx.data(), k); }); });
    kernels::Epilogue add;
    add.accumulate = true;
    row(name + " dw",
        [&](const Executor& ex) { return best(ex, flops, [&] { kernels::matmul_tn(ex, n, k, m, D, A, dw.data(), k, add); }); });
  }

  void conv(const char* what, ConvGeometry g, std::size_t outputs) const {
    const auto x = values(g.in_pixels() * g.channels), w = values(outputs * g.taps() * g.channels),
               dy = values(g.out_pixels() * outputs);
    std::vector<float> y(dy.size()), dx(x.size()), dw(w.size()), scratch(kernels::conv2d_backward_input_scratch(g, outputs));
    const std::string name = std::string(what) + " " + std::to_string(g.batch) + " x " + std::to_string(g.in_h) + "^2 " +
                             std::to_string(g.channels) + " -> " + std::to_string(outputs);
    const double flops = 2.0 * static_cast<double>(g.out_pixels() * outputs * g.taps() * g.channels);
    row(name + " y", [&](const Executor& ex) {
      return best(ex, flops, [&] { kernels::conv2d(ex, x.data(), w.data(), outputs, y.data(), g); });
    });
    row(name + " dx", [&](const Executor& ex) {
      return best(ex, flops,
                  [&] { kernels::conv2d_backward_input(ex, dy.data(), w.data(), outputs, dx.data(), g, false, scratch.data()); });
    });
    row(name + " dw", [&](const Executor& ex) {
      return best(ex, flops, [&] { kernels::conv2d_backward_filter(ex, x.data(), dy.data(), outputs, dw.data(), g); });
    });
  }
};

ConvGeometry same(std::size_t batch, std::size_t size, std::size_t channels) {
  ConvGeometry g;
  g.batch = batch;
  g.in_h = g.in_w = g.out_h = g.out_w = size;
  g.channels = channels;
  return g;
}

}  // namespace

int main(int argc, char** argv) {
  Bench b{argc > 1 ? std::atoi(argv[1]) : 1, argc > 2 ? argv[2] : nullptr, {}};
  b.peaks[0] = peak<Format::fp32>();
  b.peaks[1] = peak<Format::bf16>();
  std::printf("peak of one thread: fp32 %.1f, bf16 %.1f GFLOP/s; threads %d\n%-44s  %13s  %13s\n", b.peaks[0], b.peaks[1],
              b.threads, "", "fp32", "bf16");
  b.linear(1024, 1024, 1024);
  b.linear(256, 192, 192);
  b.linear(1024, 1536, 192);
  b.linear(4096, 192, 768);
  b.linear(256, 2304, 1024);
  b.linear(16, 1280, 320);
  b.linear(1, 1280, 1280);
  b.conv("conv", same(16, 16, 96), 96);
  b.conv("conv", same(16, 8, 192), 192);
  b.conv("conv", same(16, 4, 320), 320);
  b.conv("conv", same(4, 64, 32), 32);
  b.conv("conv", same(4, 64, 48), 48);
  b.conv("conv", same(16, 16, 4), 96);
  b.conv("conv", same(4, 64, 32), 3);
  ConvGeometry g = same(16, 16, 96);
  g.out_h = g.out_w = 8;
  g.stride = 2;
  b.conv("stride 2", g, 96);
  g = same(16, 8, 192);
  g.out_h = g.out_w = 16;
  g.upsample = true;
  b.conv("upsample", g, 192);
}
