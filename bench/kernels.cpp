// SPDX-License-Identifier: Apache-2.0
// Kernels against what the machine can do, measured in the same run: multiply-adds out of registers, or for kernels that hardly
// compute, a stream from memory.
//
//   bench_kernels [--threads N] [options of Google Benchmark: --benchmark_filter=conv2d/.*/bf16, --benchmark_out=FILE, ...]
//
// One thread (the default; 0: all) is timed by its CPU time, more by real time. GFLOP/s: two for each multiply-accumulate of the
// plain definition, so a method that multiplies less may pass 100 % of peak, and two methods compare as their times do. What fits
// the caches stays there from one repetition to the next, which weights in a model do not; GB/s may pass 100 % likewise.
#include "mobilediffusion/kernels/kernels.hpp"

#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "against_peak.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/core/unroll.hpp"
#include "mobilediffusion/layers/convolution.hpp"

namespace {

namespace md = mobilediffusion;
namespace kernels = mobilediffusion::kernels;
using kernels::ConvGeometry;
using kernels::Operand;
using md::AlignedBuffer;
using md::ConvMethod;
using md::Executor;
using md::Format;

constexpr Format all_formats[] = {Format::fp32, Format::bf16, Format::int8};
constexpr Format training_formats[] = {Format::fp32, Format::bf16};

using bench::Bench;
using bench::Work;

// Normal numbers, the same few again and again: to draw them all would take longer than the kernels.
AlignedBuffer values(std::size_t floats) {
  static const std::vector<float> some = [] {
    std::vector<float> v(10007);
    md::Random(1, 1).normals(v);
    return v;
  }();
  AlignedBuffer b(floats);
  for (std::size_t i = 0; i < floats; ++i) b.data()[i] = some[i % some.size()];
  return b;
}

template <class... Sizes>
std::string shape(std::size_t first, Sizes... rest) {
  return (std::to_string(first) + ... + ("x" + std::to_string(rest)));
}

// Linear layers: y [m][n] = x [m][k] w [n][k]^T.
struct Linear {
  std::size_t m, n, k;
};
constexpr Linear linears[] = {
    {4096, 320, 320},   {1024, 640, 640},  {1024, 3840, 640}, {1024, 640, 1920},  // full, rows of the picture
    {256, 1024, 1024},  {256, 6144, 1024}, {256, 1024, 3072}, {77, 1024, 768},    // ... and of the caption
    {1, 1280, 1280},                                                              // ... and the time
    {1024, 1024, 1024}, {256, 192, 192},   {1024, 1536, 192}, {4096, 192, 768},   // emoji, in training
    {256, 2304, 1024},  {16, 1280, 320},
};

// packed: as inference does it; nt, nn and tn: as training does y, dx = dy w and dw += dy^T x.
void add_products(const Bench& b) {
  for (const auto& [m, n, k] : linears) {
    const std::string size = shape(m, n, k);
    for (const Format format : all_formats)
      b.add("matmul/packed/" + std::string(md::name_of(format)) + "/" + size, {format, m * n * k},
            [=](const Executor& ex, auto&& loop) {
              const AlignedBuffer x = values(m * k), w = values(n * k), y(m * n), packed(md::packed_floats(n, k, format));
              kernels::pack_weights(w.data(), n, k, packed.data(), format);
              loop([&] {
                kernels::matmul_nt(ex, m, n, k, Operand::dense(x.data(), m, k), Operand::packed(packed.data(), n, k, format),
                                   y.data(), n);
              });
            });
    for (const Format format : training_formats)
      for (const std::string kind : {"nt", "nn", "tn"})
        b.add("matmul/" + kind + "/" + md::name_of(format) + "/" + size, {format, m * n * k},
              [=](const Executor& ex, auto&& loop) {
                const AlignedBuffer x = values(m * k), w = values(n * k), y = values(m * n);
                const Operand rows_x = Operand::dense(x.data(), m, k), rows_w = Operand::dense(w.data(), n, k),
                              rows_y = Operand::dense(y.data(), m, n);
                kernels::Epilogue add;
                add.accumulate = true;
                loop([&] {
                  if (kind == "nt") kernels::matmul_nt(ex, m, n, k, rows_x, rows_w, y.data(), n);
                  else if (kind == "nn") kernels::matmul_nn(ex, m, k, n, rows_y, rows_w, x.data(), k);
                  else kernels::matmul_tn(ex, n, k, m, rows_y, rows_x, w.data(), k, add);
                });
              });
  }
}

// 3x3 convolutions of inference.
constexpr md::ConvolutionSpec same(std::size_t size, std::size_t in, std::size_t out) {
  return {.in = in, .out = out, .height = size, .width = size};
}
constexpr md::ConvolutionSpec up(std::size_t size, std::size_t in, std::size_t out) {
  return {.in = in, .out = out, .height = size, .width = size, .upsample = true};
}
constexpr md::ConvolutionSpec down(std::size_t size, std::size_t in, std::size_t out) {
  return {.in = in, .out = out, .height = size, .width = size, .stride = 2};
}
constexpr md::ConvolutionSpec convolutions[] = {
    // full's UNet
    same(64, 8, 320), same(64, 320, 320), same(64, 960, 320), same(32, 320, 640), same(32, 640, 640), same(16, 1024, 1024),
    same(64, 320, 8), down(64, 320, 320), down(32, 640, 640), up(32, 640, 640), up(16, 1024, 1024),
    // the tapered decoder, whose conv_in is the UNet's
    up(64, 320, 320), same(128, 320, 160), same(128, 160, 160), up(128, 160, 160), same(256, 160, 64), same(256, 64, 64),
    up(256, 64, 64), same(512, 64, 32), same(512, 32, 32), same(512, 32, 3)};

constexpr const char* method_names[] = {"patches", "phases", "winograd", "direct"};

// By every method that can. The label tells which models' layers choose it.
template <md::ConvolutionSpec S>
void add_convolution(const Bench& b) {
  using Layer = md::Convolution<S>;
  constexpr ConvGeometry g = Layer::geometry(1);
  const std::string size = (S.upsample      ? "up_"
                            : S.stride == 2 ? "down_"
                                            : "") +
                           shape(S.height, S.width, S.in) + "->" + std::to_string(S.out);
  for (const ConvMethod method : {ConvMethod::patches, ConvMethod::phases, ConvMethod::winograd, ConvMethod::direct})
    for (const Format format : all_formats) {
      if ((method == ConvMethod::phases && !S.upsample) || (method == ConvMethod::winograd && S.stride != 1) ||
          (method == ConvMethod::direct &&
           (S.stride != 1 || S.upsample || S.pad_end || S.in % 32 != 0 || format == Format::fp32)))
        continue;
      const bool points = method == ConvMethod::winograd || method == ConvMethod::direct;  // what direct falls back on takes most
      const std::size_t products = points ? md::winograd_points(format) : method == ConvMethod::phases ? 4 : 1;
      const std::size_t k = (method == ConvMethod::winograd ? 1 : method == ConvMethod::phases ? 4 : 9) * S.in;
      if (md::format_of_matrix(S.out, k, format) != format) continue;
      std::string label;
      for (const Format model : all_formats)
        if (Layer::method(model) == method && decltype(Layer::StandardWeights::weight)::format(model) == format)
          label += (label.empty() ? "chosen by " : ", ") + std::string(md::name_of(model));
      b.add(
          "conv2d/" + std::string(method_names[static_cast<int>(method)]) + "/" + md::name_of(format) + "/" + size,
          {format, Layer::macs},
          [=](const Executor& ex, auto&& loop) {
            const AlignedBuffer x = values(g.in_pixels() * S.in), w = values(9 * S.in * S.out), y(g.out_pixels() * S.out),
                                packed(products * md::packed_floats(S.out, k, format)),
                                scratch(kernels::pack_filters_scratch(S.out, S.in, method) +
                                        kernels::conv2d_scratch(g, S.out, method, format));
            kernels::pack_filters(w.data(), S.out, S.in, method, format, packed.data(), scratch.data());
            const kernels::PackedFilters filters{packed.data(), S.out, method, format};
            loop([&] { kernels::conv2d(ex, x.data(), filters, y.data(), g, {}, scratch.data()); });
          },
          label);
    }
}

// Convolutions of training, at emoji's sizes: not packed.
struct TrainingConvolution {
  const char* name;
  std::size_t batch, size, in, out, out_size;
};
constexpr TrainingConvolution training_convolutions[] = {
    {"16x16x16x96->96", 16, 16, 96, 96, 16},    {"16x8x8x192->192", 16, 8, 192, 192, 8},
    {"16x4x4x320->320", 16, 4, 320, 320, 4},    {"4x64x64x32->32", 4, 64, 32, 32, 64},
    {"4x64x64x48->48", 4, 64, 48, 48, 64},      {"16x16x16x4->96", 16, 16, 4, 96, 16},
    {"4x64x64x32->3", 4, 64, 32, 3, 64},        {"down_16x16x16x96->96", 16, 16, 96, 96, 8},
    {"up_16x8x8x192->192", 16, 8, 192, 192, 16}};

void add_training_convolutions(const Bench& b) {
  for (const TrainingConvolution& c : training_convolutions) {
    ConvGeometry g{.batch = c.batch, .in_h = c.size, .in_w = c.size, .channels = c.in, .out_h = c.out_size, .out_w = c.out_size};
    g.stride = c.out_size < c.size ? 2 : 1;
    g.upsample = c.out_size > c.size;
    for (const Format format : training_formats)
      for (const std::string kind : {"forward", "backward_input", "backward_filter"})
        b.add("conv2d/" + kind + "/" + md::name_of(format) + "/" + c.name, {format, g.out_pixels() * 9 * c.in * c.out},
              [=, out = c.out](const Executor& ex, auto&& loop) {
                const AlignedBuffer x = values(g.in_pixels() * g.channels), w = values(9 * g.channels * out),
                                    y = values(g.out_pixels() * out), scratch(kernels::conv2d_backward_input_scratch(g, out));
                loop([&] {
                  if (kind == "forward") kernels::conv2d(ex, x.data(), w.data(), out, y.data(), g);
                  else if (kind == "backward_filter") kernels::conv2d_backward_filter(ex, x.data(), y.data(), out, w.data(), g);
                  else kernels::conv2d_backward_input(ex, y.data(), w.data(), out, x.data(), g, false, scratch.data());
                });
              });
  }
}

struct AttentionSize {
  std::size_t queries, keys, heads, head_dim;
};
constexpr AttentionSize attentions[] = {{64, 64, 16, 64},     {256, 256, 16, 64}, {1024, 1024, 10, 64}, {4096, 4096, 5, 64},
                                        {4096, 4096, 1, 320}, {256, 77, 16, 64},  {1024, 77, 10, 64},   {4096, 77, 5, 64}};

void add_attention(const Bench& b) {
  for (const auto& [queries, keys, heads, head_dim] : attentions)
    for (const Format format : training_formats) {
      const kernels::AttentionShape s{.batch = 1,
                                      .queries = queries,
                                      .keys = keys,
                                      .heads = heads,
                                      .head_dim = head_dim,
                                      .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
                                      .bf16 = format == Format::bf16};
      const std::size_t width = heads * head_dim;
      b.add("attention/" + std::string(md::name_of(format)) + "/" + shape(queries, keys) + "/" + shape(heads, head_dim),
            {format, 2 * queries * keys * width}, [=](const Executor& ex, auto&& loop) {
              const AlignedBuffer q = values(s.queries * width), k = values(s.keys * width), v = values(s.keys * width),
                                  y(s.queries * width), log_sum_exp(s.heads * s.queries);
              loop([&] {
                kernels::attention(ex, s, q.data(), width, k.data(), width, v.data(), width, y.data(), width, log_sum_exp.data());
              });
            });
    }
}

// f(executor, x, weights, y): y of as many floats as said, and behind it room for statistics.
template <class F>
void add_stream(const Bench& b, const std::string& name, std::size_t reads, std::size_t writes, F f) {
  b.add(name, {.bytes = 4 * (reads + writes)}, [=](const Executor& ex, auto&& loop) {
    const AlignedBuffer x = values(reads), weights = values(64 * 1024), y(writes + 16 * 1024);
    loop([&] { f(ex, x.data(), weights.data(), y.data()); });
  });
}

using Sizes = std::vector<std::pair<std::size_t, std::size_t>>;

void add_streams(const Bench& b) {
  for (const auto& [pixels, channels] :
       Sizes{{4096, 320}, {4096, 960}, {1024, 640}, {256, 1024}, {16384, 160}, {65536, 64}, {262144, 32}})
    add_stream(b, "group_norm_silu/" + shape(pixels, channels), pixels * channels, pixels * channels,
               [=](const Executor& ex, const float* x, const float* w, float* y) {
                 kernels::group_norm(ex, x, y, 1, pixels, channels, 32, 1e-5f, w, w + channels, md::Activation::silu,
                                     y + pixels * channels);
               });
  for (const auto& [rows, channels] : Sizes{{4096, 320}, {1024, 640}, {256, 1024}, {77, 768}})
    add_stream(b, "layer_norm/" + shape(rows, channels), rows * channels, rows * channels,
               [=](const Executor& ex, const float* x, const float* w, float* y) {
                 kernels::layer_norm(ex, x, y, rows, channels, 1e-5f, w, w + channels, y + rows * channels);
               });
  const std::pair<const char*, md::Activation> activations[] = {{"silu", md::Activation::silu},
                                                                {"gelu", md::Activation::gelu},
                                                                {"quick_gelu", md::Activation::quick_gelu},
                                                                {"relu", md::Activation::relu}};
  for (const auto& [name, activation] : activations)
    for (const auto& [rows, hidden] : Sizes{{1024, 1920}, {256, 3072}}) {
      add_stream(b, "gate/" + std::string(name) + "/" + shape(rows, hidden), 2 * rows * hidden, rows * hidden,
                 [=, activation = activation](const Executor& ex, const float* x, const float*, float* y) {
                   kernels::gate(ex, activation, x, y, rows, hidden);
                 });
      add_stream(b, "activation/" + std::string(name) + "/" + shape(rows, hidden), rows * hidden, rows * hidden,
                 [=, activation = activation](const Executor& ex, const float* x, const float*, float* y) {
                   kernels::activate(ex, activation, x, y, rows * hidden);
                 });
    }
  for (const std::size_t stride : {1, 2})
    for (const auto& [size, channels] : Sizes{{64, 320}, {32, 640}, {16, 1024}})
      add_stream(b, "depthwise3x3/stride" + std::to_string(stride) + "/" + shape(size, size, channels), size * size * channels,
                 size * size * channels / stride / stride, [=](const Executor& ex, const float* x, const float* w, float* y) {
                   kernels::depthwise_conv3x3(ex, x, w, w + 9 * channels, y, 1, size, size, channels, stride);
                 });
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run_against_peak("bench_kernels", argc, argv, [](const Bench& b) {
    add_products(b);
    md::unroll<std::size(convolutions)>([&]<std::size_t I>(md::Index<I>) { add_convolution<convolutions[I]>(b); });
    add_training_convolutions(b);
    add_attention(b);
    add_streams(b);
  });
}
