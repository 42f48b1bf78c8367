// SPDX-License-Identifier: Apache-2.0
// torch.nn.Conv2d 3x3 over channels-last images: standard or separable (depthwise then pointwise), optionally strided or
// after a nearest-neighbour doubling.
#pragma once

#include "../core/begin.hpp"

#include <type_traits>

#include "../kernels/kernels.hpp"
#include "context.hpp"
#include "linear.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct ConvolutionSpec {
  std::size_t in, out;
  std::size_t height, width;  // of the input
  std::size_t stride = 1;     // 2: halves the picture
  bool upsample = false;      // doubles the picture first
  bool pad_end = false;       // zeros right and below only (the SD VAE's down-sampling)
  bool separable = false;
  bool bias = true;
};

template <ConvolutionSpec S>
struct Convolution {
  static_assert(S.bias || !S.separable, "mobilediffusion: a separable convolution has biases; set `bias`");
  static constexpr std::size_t full_height = S.upsample ? 2 * S.height : S.height,
                               full_width = S.upsample ? 2 * S.width : S.width;
  static constexpr std::size_t out_height = full_height / S.stride, out_width = full_width / S.stride;
  static constexpr std::size_t in_pixels = S.height * S.width, out_pixels = out_height * out_width;
  static constexpr std::size_t full = full_height * full_width * S.in;  // input floats after doubling, per image
  static constexpr std::size_t middle = out_pixels * S.in;              // between depthwise and pointwise, per image
  using Pointwise = Linear<LinearSpec{.in = S.in, .out = S.out, .conv = true}>;

  // By shape, from measurements (bench/kernels, bench/profile): Winograd's transforms pay from 16 channels and 64 tiles on, and
  // where dot products are quick only when there are many channels to multiply for each that is transformed; a doubled image's
  // phases cost none and multiply as little as F(2x2).
  static constexpr ConvMethod method(Format format) {
    const std::size_t tile = winograd_tile(format) * winograd_tile(format);
    const bool winograd = S.stride == 1 && !S.pad_end && S.in >= 16 && out_pixels >= 64 * tile;
    if (S.upsample) return winograd && format == Format::fp32 ? ConvMethod::winograd : ConvMethod::phases;
    const std::size_t few = format == Format::int8 ? 64 : format == Format::bf16 ? 16 : 0;
    if (winograd && S.in % 32 == 0 && S.in * S.out <= few * (S.in + S.out)) return ConvMethod::direct;
    return winograd ? ConvMethod::winograd : ConvMethod::patches;
  }
  struct StandardWeights {
    Filter<S.out, S.in, 3, method(Format::fp32), method(Format::bf16), method(Format::int8)> weight;
    std::conditional_t<S.bias, Param<S.out>, Absent> bias;
  };
  struct DepthwiseWeights {
    DepthwiseFilter<S.in, 3> weight;
    Param<S.in> bias;
  };
  struct SeparableWeights {
    DepthwiseWeights depthwise;
    typename Pointwise::Weights pointwise;
  };
  using Weights = std::conditional_t<S.separable, SeparableWeights, StandardWeights>;
  struct Saved {
    const float* x = nullptr;          // input of the filters
    const float* depthwise = nullptr;  // output of the depthwise filter
  };

  static constexpr std::size_t macs =
      S.separable ? out_pixels * S.in * 9 + Pointwise::macs(out_pixels) : out_pixels * S.in * S.out * 9;
  static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
    if (S.separable) return (S.upsample ? aligned(batch * full) : 0) + aligned(batch * middle);
    std::size_t floats = 0;  // the most of any format
    if (plan == Plan::inference)
      for (const Format f : {Format::fp32, Format::bf16, Format::int8})
        floats = std::max(floats, kernels::conv2d_scratch(geometry(batch), S.out, method(f), f));
    return aligned(floats);
  }

  // What backward takes of the stack, with dx.
  static constexpr std::size_t backward_floats(std::size_t batch) {
    if (S.separable) return aligned(batch * middle) + aligned(batch * 10 * S.in) + (S.upsample ? aligned(batch * full) : 0);
    return aligned(kernels::conv2d_backward_input_scratch(geometry(batch), S.out));
  }

  static constexpr kernels::ConvGeometry geometry(std::size_t batch) {
    return {.batch = batch,
            .in_h = S.height,
            .in_w = S.width,
            .channels = S.in,
            .out_h = out_height,
            .out_w = out_width,
            .kernel = 3,
            .stride = S.stride,
            .pad = S.pad_end ? std::size_t{0} : std::size_t{1},
            .upsample = S.upsample};
  }

  // x [batch][height][width][in] -> y [batch][out_height][out_width][out]. An epilogue that brings its own bias replaces
  // the layer's.
  static void forward(Context& c, const Weights& w, const float* x, float* y, Saved& saved, kernels::Epilogue epilogue = {}) {
    if constexpr (S.separable) {
      static_assert(!S.pad_end, "mobilediffusion: a separable convolution pads on all sides; make this down-sampling standard");
      Scope scope(c.stack);
      if constexpr (S.upsample) {
        float* doubled = c.stack.take(c.batch * full);
        const Span span(c, {"upsample", w.depthwise.weight.data, 0, 5 * c.batch * full});
        kernels::upsample_nearest2x(c.executor, x, doubled, c.batch, S.height, S.width, S.in);
        x = doubled;
      }
      float* h = c.stack.take(c.batch * middle);
      {
        const Span span(c,
                        {"depthwise", w.depthwise.weight.data, c.batch * out_pixels * S.in * 9, 4 * c.batch * (full + middle)});
        kernels::depthwise_conv3x3(c.executor, x, w.depthwise.weight.data, w.depthwise.bias.data, h, c.batch, full_height,
                                   full_width, S.in, S.stride);
      }
      Pointwise::forward(c, w.pointwise, h, y, c.batch * out_pixels, epilogue);
      saved = {x, h};
    } else {
      if constexpr (S.bias) {
        if (epilogue.bias == nullptr) epilogue.bias = w.bias.data;
      }
      saved = {x, nullptr};
      const Span span(c, {"conv2d", w.weight.data, c.batch * macs,
                          4 * (c.batch * (in_pixels * S.in + out_pixels * S.out) + 9 * S.in * S.out)});
      if (!c.packed) {
        kernels::conv2d(c.executor, x, w.weight.data, S.out, y, geometry(c.batch), epilogue);
        return;
      }
      Scope scope(c.stack);
      const Format format = decltype(w.weight)::format(c.format);
      const kernels::PackedFilters filters{w.weight.data, S.out, method(c.format), format};
      float* scratch = c.stack.take(kernels::conv2d_scratch(geometry(c.batch), S.out, filters.method, format));
      kernels::conv2d(c.executor, x, filters, y, geometry(c.batch), epilogue, scratch);
    }
  }

  // The bias that an epilogue which brings its own must include.
  static const float* bias(const Weights& w) {
    if constexpr (S.separable) return w.pointwise.bias.data;
    else return w.bias.data;
  }

  // dx (nullable) is assigned; gradients of the weights are added to g.
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& saved, const float* dy, float* dx) {
    Scope scope(c.stack);
    const std::size_t rows = c.batch * out_pixels;
    if constexpr (S.separable) {
      float* dh = c.stack.take(c.batch * middle);
      Pointwise::backward(c, w.pointwise, g.pointwise, saved.depthwise, dy, dh, rows);
      float* partial = c.stack.take(c.batch * 10 * S.in);
      kernels::depthwise_conv3x3_backward_filter(c.executor, saved.x, dh, g.depthwise.weight.data, g.depthwise.bias.data, c.batch,
                                                 full_height, full_width, S.in, S.stride, partial);
      if (dx == nullptr) return;
      if constexpr (S.upsample) {
        float* doubled = c.stack.take(c.batch * full);
        kernels::depthwise_conv3x3_backward_input(c.executor, dh, w.depthwise.weight.data, doubled, c.batch, full_height,
                                                  full_width, S.in, S.stride);
        kernels::upsample_nearest2x_backward(c.executor, doubled, dx, c.batch, S.height, S.width, S.in);
      } else {
        kernels::depthwise_conv3x3_backward_input(c.executor, dh, w.depthwise.weight.data, dx, c.batch, full_height, full_width,
                                                  S.in, S.stride);
      }
    } else {
      kernels::conv2d_backward_filter(c.executor, saved.x, dy, S.out, g.weight.data, geometry(c.batch));
      if constexpr (S.bias) kernels::column_sums(c.executor, dy, rows, S.out, g.bias.data);
      if (dx != nullptr) {
        float* scratch = c.stack.take(kernels::conv2d_backward_input_scratch(geometry(c.batch), S.out));
        kernels::conv2d_backward_input(c.executor, dy, w.weight.data, S.out, dx, geometry(c.batch), false, scratch);
      }
    }
  }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
