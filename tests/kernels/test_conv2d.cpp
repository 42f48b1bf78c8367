// SPDX-License-Identifier: Apache-2.0
// Convolutions and their gradients against the definition: strides, paddings, upsampling, odd channels, bf16, threads.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/kernels/kernels.hpp"
#include "mobilediffusion/kernels/reference/conv2d.hpp"

using namespace mobilediffusion;
namespace kernels = mobilediffusion::kernels;
using kernels::ConvGeometry;
using kernels::Epilogue;
using kernels::Operand;

namespace {

std::vector<float> normals(std::size_t n, std::uint64_t stream) {
  std::vector<float> v(n);
  Random(11, stream).normals(v);
  return v;
}

double difference(const std::vector<float>& a, const std::vector<float>& b, std::size_t k) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= worst)) worst = d;
  }
  return worst / std::sqrt(static_cast<double>(k) + 1);
}

struct Shape {
  const char* name;
  ConvGeometry g;
};

std::vector<Shape> shapes(std::size_t channels) {
  std::vector<Shape> all;
  const auto add = [&](const char* name, std::size_t h, std::size_t w, std::size_t oh, std::size_t ow, std::size_t kernel,
                       std::size_t stride, std::size_t pad, bool up) {
    ConvGeometry g;
    g.batch = 3;
    g.in_h = h;
    g.in_w = w;
    g.channels = channels;
    g.out_h = oh;
    g.out_w = ow;
    g.kernel = kernel;
    g.stride = stride;
    g.pad = pad;
    g.upsample = up;
    all.push_back({name, g});
  };
  add("3x3", 5, 7, 5, 7, 3, 1, 1, false);
  add("3x3, one pixel", 1, 1, 1, 1, 3, 1, 1, false);
  add("1x1", 4, 3, 4, 3, 1, 1, 0, false);
  add("1x1 stride 2", 5, 4, 3, 2, 1, 2, 0, false);
  add("stride 2, even", 8, 6, 4, 3, 3, 2, 1, false);
  add("stride 2, odd", 7, 5, 4, 3, 3, 2, 1, false);
  add("stride 2, padded right and bottom only", 8, 6, 4, 3, 3, 2, 0, false);
  add("upsample", 4, 3, 8, 6, 3, 1, 1, true);
  add("upsample 1x1", 3, 2, 6, 4, 1, 1, 0, true);
  add("valid 3x3", 5, 6, 3, 4, 3, 1, 0, false);
  return all;
}

struct Results {
  std::vector<float> y, y_packed, dx, dw;
};

Results run(const Executor& ex, const ConvGeometry& g, std::size_t outputs) {
  const auto x = normals(g.in_pixels() * g.channels, 1), w = normals(outputs * g.taps() * g.channels, 2),
             dy = normals(g.out_pixels() * outputs, 3), bias = normals(g.batch * outputs, 4),
             residual = normals(g.out_pixels() * outputs, 5);
  Results r;
  Epilogue e;
  e.bias = bias.data();
  e.rows_per_bias = g.out_h * g.out_w;
  e.residual = residual.data();
  e.residual_ld = outputs;
  r.y.resize(g.out_pixels() * outputs);
  r.y_packed = r.y;
  kernels::conv2d(ex, x.data(), w.data(), outputs, r.y.data(), g, e);
  std::vector<float> panels(packed_floats(outputs, g.taps() * g.channels, Format::fp32));
  kernels::pack_weights(w.data(), outputs, g.taps() * g.channels, panels.data());
  kernels::conv2d(ex, x.data(), Operand::packed(panels.data(), outputs, g.taps() * g.channels), r.y_packed.data(), g, e);
  r.dx = normals(x.size(), 6);
  std::vector<float> scratch(kernels::conv2d_backward_input_scratch(g, outputs));
  kernels::conv2d_backward_input(ex, dy.data(), w.data(), outputs, r.dx.data(), g, g.in_h % 2 == 1, scratch.data());
  r.dw = normals(w.size(), 7);
  kernels::conv2d_backward_filter(ex, x.data(), dy.data(), outputs, r.dw.data(), g);
  return r;
}

Results run_reference(const ConvGeometry& g, std::size_t outputs) {
  const auto x = normals(g.in_pixels() * g.channels, 1), w = normals(outputs * g.taps() * g.channels, 2),
             dy = normals(g.out_pixels() * outputs, 3), bias = normals(g.batch * outputs, 4),
             residual = normals(g.out_pixels() * outputs, 5);
  Results r;
  Epilogue e;
  e.bias = bias.data();
  e.rows_per_bias = g.out_h * g.out_w;
  e.residual = residual.data();
  e.residual_ld = outputs;
  r.y.resize(g.out_pixels() * outputs);
  kernels::reference::conv2d(x.data(), w.data(), outputs, r.y.data(), g, e);
  r.y_packed = r.y;
  r.dx = normals(x.size(), 6);
  kernels::reference::conv2d_backward_input(dy.data(), w.data(), outputs, r.dx.data(), g, g.in_h % 2 == 1);
  r.dw = normals(w.size(), 7);
  kernels::reference::conv2d_backward_filter(x.data(), dy.data(), outputs, r.dw.data(), g);
  return r;
}

// Of sums of fp32, relative to the root of their length. Without fused products, four to a vector, 432 of them are off by 4e-6.
constexpr double rounding = 8e-6;

void check(const Executor& ex, const Shape& shape, std::size_t outputs, double tolerance) {
  const ConvGeometry& g = shape.g;
  const Results found = run(ex, g, outputs), expected = run_reference(g, outputs);
  INFO(shape.name << ", channels " << g.channels << ", outputs " << outputs);
  CHECK(difference(found.y, expected.y, g.taps() * g.channels) < tolerance);
  CHECK(difference(found.y_packed, expected.y_packed, g.taps() * g.channels) < rounding);
  const std::size_t seen = (g.upsample ? 4 : 1) * g.taps() * outputs;  // a pixel of a doubled image is four
  CHECK(difference(found.dx, expected.dx, seen) < tolerance);
  CHECK(difference(found.dw, expected.dw, g.out_pixels()) < tolerance);
}

}  // namespace

TEST_CASE("conv2d and its gradients equal the definition", "[conv2d]") {
  const Executor ex(2);
  for (const std::size_t channels : {1u, 3u, 5u, 12u, 16u, 32u, 40u})
    for (const Shape& shape : shapes(channels))
      for (const std::size_t outputs : {1u, 6u, 32u, 35u}) check(ex, shape, outputs, rounding);
}

namespace {

// As inference computes a 3x3 convolution; the epilogue adds a bias for each image and to what is there, and a residual where it
// may.
std::vector<float> packed_conv(const Executor& ex, const ConvGeometry& g, std::size_t outputs, ConvMethod method, Format format) {
  const auto x = normals(g.in_pixels() * g.channels, 1), w = normals(outputs * 9 * g.channels, 2),
             bias = normals(g.batch * outputs, 4), residual = normals(g.out_pixels() * outputs, 5);
  Epilogue e;
  e.bias = bias.data();
  e.rows_per_bias = g.out_h * g.out_w;
  e.accumulate = true;
  if (!g.upsample) {
    e.residual = residual.data();
    e.residual_ld = outputs;
  }
  auto y = normals(g.out_pixels() * outputs, 8);
  if (method == ConvMethod::patches && format == Format::fp32) {
    kernels::reference::conv2d(x.data(), w.data(), outputs, y.data(), g, e);
    return y;
  }
  const bool points = method == ConvMethod::winograd || method == ConvMethod::direct;  // what direct falls back on takes most
  const std::size_t floats = points                         ? winograd_points(format) * packed_floats(outputs, g.channels, format)
                             : method == ConvMethod::phases ? 4 * packed_floats(outputs, 4 * g.channels, format)
                                                            : packed_floats(outputs, 9 * g.channels, format);
  std::vector<float> packed(floats), scratch(kernels::pack_filters_scratch(outputs, g.channels, method)),
      work(kernels::conv2d_scratch(g, outputs, method, format));
  kernels::pack_filters(w.data(), outputs, g.channels, method, format, packed.data(), scratch.data());
  kernels::conv2d(ex, x.data(), kernels::PackedFilters{packed.data(), outputs, method, format}, y.data(), g, e, work.data());
  return y;
}

}  // namespace

TEST_CASE("Winograd's filters and the phases of a doubled image equal the definition", "[conv2d]") {
  const Executor ex = Executor::oversubscribed(2), alone(1), many = Executor::oversubscribed(5);
  for (const std::size_t channels : {1u, 5u, 16u, 40u})
    for (const std::size_t outputs : {1u, 6u, 35u})
      for (const std::size_t h : {1u, 4u, 5u, 9u})
        for (const std::size_t w : {3u, 8u}) {
          ConvGeometry g;
          g.batch = 2;
          g.in_h = g.out_h = h;
          g.in_w = g.out_w = w;
          g.channels = channels;
          INFO(h << " x " << w << ", channels " << channels << ", outputs " << outputs);
          const std::size_t k = 9 * channels;
          auto found = packed_conv(ex, g, outputs, ConvMethod::winograd, Format::fp32);
          CHECK(difference(found, packed_conv(ex, g, outputs, ConvMethod::patches, Format::fp32), k) < 5e-5);
          CHECK(found == packed_conv(alone, g, outputs, ConvMethod::winograd, Format::fp32));
          CHECK(found == packed_conv(many, g, outputs, ConvMethod::winograd, Format::fp32));
          const auto exact = packed_conv(ex, g, outputs, ConvMethod::patches, Format::fp32);
          for (const Format format : {Format::bf16, Format::int8}) {
            found = packed_conv(ex, g, outputs, ConvMethod::winograd, format);
            CHECK(difference(found, exact, k) < (format == Format::bf16 ? 0.04 : 0.15));
            CHECK(found == packed_conv(alone, g, outputs, ConvMethod::winograd, format));
          }
          g.upsample = true;
          g.out_h = 2 * h;
          g.out_w = 2 * w;
          const auto expected = packed_conv(ex, g, outputs, ConvMethod::patches, Format::fp32);
          found = packed_conv(ex, g, outputs, ConvMethod::phases, Format::fp32);
          CHECK(difference(found, expected, k) < rounding);
          CHECK(found == packed_conv(alone, g, outputs, ConvMethod::phases, Format::fp32));
          CHECK(difference(packed_conv(ex, g, outputs, ConvMethod::winograd, Format::fp32), expected, k) < 5e-5);
          CHECK(difference(packed_conv(ex, g, outputs, ConvMethod::phases, Format::bf16), expected, k) < 0.03);
          CHECK(difference(packed_conv(ex, g, outputs, ConvMethod::phases, Format::int8), expected, k) < 0.1);
        }
}

TEST_CASE("a direct convolution equals the definition, on any number of threads", "[conv2d]") {
  const Executor ex = Executor::oversubscribed(2), alone(1), many = Executor::oversubscribed(5);
  for (const std::size_t channels : {32u, 64u})
    for (const std::size_t outputs : {3u, 35u})
      for (const std::size_t h : {1u, 4u, 19u})  // one region, and several with a rest of any height and width
        for (const std::size_t w : {3u, 16u, 35u}) {
          ConvGeometry g;
          g.batch = 2;
          g.in_h = g.out_h = h;
          g.in_w = g.out_w = w;
          g.channels = channels;
          INFO(h << " x " << w << ", channels " << channels << ", outputs " << outputs);
          const auto exact = packed_conv(ex, g, outputs, ConvMethod::patches, Format::fp32);
          for (const Format format : {Format::bf16, Format::int8}) {
            const auto found = packed_conv(ex, g, outputs, ConvMethod::direct, format);
            CHECK(difference(found, exact, 9 * channels) < (format == Format::bf16 ? 0.04 : 0.15));
            CHECK(found == packed_conv(alone, g, outputs, ConvMethod::direct, format));
            CHECK(found == packed_conv(many, g, outputs, ConvMethod::direct, format));
          }
          g.upsample = true;
          g.out_h = 2 * h;
          g.out_w = 2 * w;
          const auto doubled = packed_conv(ex, g, outputs, ConvMethod::patches, Format::fp32);
          for (const Format format : {Format::bf16, Format::int8}) {
            const auto found = packed_conv(ex, g, outputs, ConvMethod::phases, format);
            CHECK(difference(found, doubled, 9 * channels) < (format == Format::bf16 ? 0.03 : 0.1));
            CHECK(found == packed_conv(many, g, outputs, ConvMethod::phases, format));
          }
        }
}

// But for NaN in 8 bits, which has no range.
TEST_CASE("a direct convolution of a picture that is not finite is not finite", "[conv2d]") {
  const Executor ex(1);
  ConvGeometry g;
  g.in_h = g.out_h = g.in_w = g.out_w = 8;
  g.channels = 32;
  for (const Format format : {Format::bf16, Format::int8})
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      std::vector<float> x(64 * 32, 1.0f), w(32 * 9 * 32, 1.0f), y(64 * 32), packed(16 * packed_floats(32, 32, format)),
          scratch(kernels::pack_filters_scratch(32, 32, ConvMethod::direct)),
          work(kernels::conv2d_scratch(g, 32, ConvMethod::direct, format));
      x[20 * 32 + 5] = bad;
      if (format == Format::int8 && std::isnan(bad)) continue;
      kernels::pack_filters(w.data(), 32, 32, ConvMethod::direct, format, packed.data(), scratch.data());
      kernels::conv2d(ex, x.data(), kernels::PackedFilters{packed.data(), 32, ConvMethod::direct, format}, y.data(), g, {},
                      work.data());
      CHECK_FALSE(std::isfinite(y[20 * 32]));
    }
}

TEST_CASE("a Winograd convolution whose tiles do not pass at once equals the definition", "[conv2d]") {
  const Executor ex(2);
  ConvGeometry g;
  g.in_h = g.out_h = 96;
  g.in_w = g.out_w = 100;
  g.channels = 150;
  const kernels::detail::WinogradPlan plan(g, 170, Format::fp32);
  REQUIRE(plan.chunk < plan.tiles);
  CHECK(difference(packed_conv(ex, g, 170, ConvMethod::winograd, Format::fp32),
                   packed_conv(ex, g, 170, ConvMethod::patches, Format::fp32), 9 * 150) < 1e-4);

  // Narrow formats: threads share panels of several heights, and the last chunk is not whole.
  g.in_h = g.out_h = g.in_w = g.out_w = 50;
  g.channels = 760;
  constexpr std::size_t outputs = 40;
  const auto exact = packed_conv(ex, g, outputs, ConvMethod::patches, Format::fp32);
  for (const Format format : {Format::bf16, Format::int8}) {
    const kernels::detail::WinogradPlan narrow(g, outputs, format);
    REQUIRE_FALSE(narrow.own);
    REQUIRE(narrow.chunk < narrow.tiles);
    REQUIRE(narrow.tiles % narrow.chunk != 0);
    const auto found = packed_conv(ex, g, outputs, ConvMethod::winograd, format);
    CHECK(difference(found, exact, 9 * g.channels) < (format == Format::bf16 ? 0.04 : 0.15));
    CHECK(found == packed_conv(Executor(1), g, outputs, ConvMethod::winograd, format));
    CHECK(found == packed_conv(Executor::oversubscribed(5), g, outputs, ConvMethod::winograd, format));
  }
}

#if defined(__x86_64__)  // elsewhere nothing passes the caches, and emulators would take minutes
TEST_CASE("outputs that are larger than caches have the values of outputs that are not written past them", "[conv2d]") {
  const Executor ex(2);
  ConvGeometry g;
  g.in_h = g.out_h = 368;
  g.in_w = g.out_w = 364;  // a rest of every tile
  g.channels = 32;
  constexpr std::size_t outputs = 32;
  const std::size_t floats = g.out_pixels() * outputs;
  REQUIRE(floats >= kernels::stream_floats);
  const auto x = normals(g.in_pixels() * g.channels, 1), w = normals(outputs * 9 * g.channels, 2), bias = normals(outputs, 3);
  const AlignedBuffer streamed(floats), plain(floats);  // one begins where a line of the cache does, the other is added to zeros
  for (const auto& [method, format] : {std::pair{ConvMethod::patches, Format::fp32},
                                       {ConvMethod::winograd, Format::fp32},
                                       {ConvMethod::winograd, Format::bf16},
                                       {ConvMethod::direct, Format::bf16},
                                       {ConvMethod::direct, Format::int8}}) {
    CAPTURE(static_cast<int>(method), name_of(format));
    const AlignedBuffer packed(36 * packed_floats(outputs, 9 * g.channels, format));
    const AlignedBuffer scratch(kernels::conv2d_scratch(g, outputs, method, format) +
                                kernels::pack_filters_scratch(outputs, 9 * g.channels, method));
    kernels::pack_filters(w.data(), outputs, g.channels, method, format, packed.data(), scratch.data());
    Epilogue e;
    e.bias = bias.data();
    kernels::conv2d(ex, x.data(), {packed.data(), outputs, method, format}, streamed.data(), g, e, scratch.data());
    std::fill_n(plain.data(), floats, 0.0f);
    e.accumulate = true;
    kernels::conv2d(ex, x.data(), {packed.data(), outputs, method, format}, plain.data(), g, e, scratch.data());
    CHECK(difference({streamed.data(), streamed.data() + floats}, {plain.data(), plain.data() + floats}, 1) < 1e-5);
  }
}
#endif

TEST_CASE("conv2d refuses filters packed for another kind of convolution", "[conv2d]") {
  const Executor ex(1);
  std::vector<float> x(4096);
  ConvGeometry g;
  g.in_h = g.in_w = 4;
  g.out_h = g.out_w = 2;
  g.channels = 1;
  g.stride = 2;
  kernels::PackedFilters w{x.data(), 1, ConvMethod::winograd, Format::fp32};
  CHECK_THROWS_AS(kernels::conv2d(ex, x.data(), w, x.data(), g, {}, x.data()), Error);
  w.method = ConvMethod::phases;
  CHECK_THROWS_AS(kernels::conv2d(ex, x.data(), w, x.data(), g, {}, x.data()), Error);
}

TEST_CASE("conv2d in bf16 is close to the definition", "[conv2d]") {
  const Executor ex(2, Precision::bf16);
  for (const std::size_t channels : {3u, 5u, 16u, 32u, 48u})
    for (const Shape& shape : shapes(channels))
      for (const std::size_t outputs : {5u, 32u}) check(ex, shape, outputs, 3e-2);
}

TEST_CASE("conv2d across blocks of channels and pixels", "[conv2d]") {
  ConvGeometry g;
  g.batch = 2;
  g.in_h = g.in_w = g.out_h = g.out_w = 13;
  for (const std::size_t channels : {96u, 100u}) {
    g.channels = channels;
    check(Executor(2), {"large", g}, 72, rounding);
    check(Executor(2, Precision::bf16), {"large", g}, 72, 3e-2);
  }
}

TEST_CASE("conv2d gives the same bytes on any number of threads", "[conv2d]") {
  for (const Precision precision : {Precision::fp32, Precision::bf16})
    for (const std::size_t channels : {24u, 32u})
      for (const Shape& shape : shapes(channels)) {
        ConvGeometry g = shape.g;
        g.batch = 16;
        const Results one = run(Executor(1, precision), g, 64), two = run(Executor::oversubscribed(2, precision), g, 64);
        CHECK(one.y == two.y);
        CHECK(one.dx == two.dx);
        CHECK(one.dw == two.dw);
      }
}

TEST_CASE("conv2d refuses what it cannot do", "[conv2d]") {
  const Executor ex(1);
  std::vector<float> x(64);
  ConvGeometry g;
  g.in_h = g.in_w = g.channels = 1;
  g.out_h = g.out_w = 2;
  g.upsample = true;
  CHECK_THROWS_AS(kernels::conv2d_backward_input(ex, x.data(), x.data(), 1, x.data(), g), Error);
  g.stride = 2;
  CHECK_THROWS_AS(kernels::conv2d(ex, x.data(), x.data(), 1, x.data(), g), Error);
}
