// SPDX-License-Identifier: Apache-2.0
// The entry points of the kernels, each once: what the rest of the library may call (kernels/kernels.hpp).
//
// ENTRY(result, name, overload, (parameters with defaults), (arguments)). To add a kernel, write its line here and its header
// into kernels.hpp; a test compiles the list against the headers, so a wrong line does not compile. overload: nothing, or what
// tells this overload of the name from the others. Types of parameters come from arguments.hpp; what must be constexpr for a
// caller (sizes of scratch) is no entry but stands there, too, since it must not depend on the instruction set.
#pragma once

#include "../core/begin.hpp"

#include "../simd/isa.hpp"
#include "arguments.hpp"

// clang-format off
#define MOBILEDIFFUSION_DRAWING_KERNELS(ENTRY)                                                                                 \
  /* products */                                                                                                               \
  ENTRY(void, matmul_nt, , (const Executor& ex, std::size_t m, std::size_t n, std::size_t k, const Operand& a, const Operand& b,\
        float* c, std::size_t ldc, const Epilogue& epilogue = {}), (ex, m, n, k, a, b, c, ldc, epilogue))                      \
  ENTRY(void, pack_weights, , (const float* w, std::size_t rows, std::size_t columns, float* packed,                           \
        Format format = Format::fp32), (w, rows, columns, packed, format))                                                     \
  ENTRY(void, unpack_weights, , (const float* packed, std::size_t rows, std::size_t columns, float* w,                         \
        Format format = Format::fp32), (packed, rows, columns, w, format))                                                     \
  /* convolutions */                                                                                                           \
  ENTRY(void, conv2d, , (const Executor& ex, const float* x, const Operand& w, float* y, const ConvGeometry& g,                \
        const Epilogue& epilogue = {}), (ex, x, w, y, g, epilogue))                                                            \
  ENTRY(void, conv2d, _plain, (const Executor& ex, const float* x, const float* w, std::size_t outputs, float* y,              \
        const ConvGeometry& g, const Epilogue& epilogue = {}), (ex, x, w, outputs, y, g, epilogue))                            \
  ENTRY(void, conv2d, _packed, (const Executor& ex, const float* x, const PackedFilters& w, float* y, const ConvGeometry& g,   \
        Epilogue epilogue, float* scratch), (ex, x, w, y, g, epilogue, scratch))                                               \
  ENTRY(void, pack_filters, , (const float* w, std::size_t outputs, std::size_t channels, ConvMethod method, Format format,    \
        float* packed, float* scratch), (w, outputs, channels, method, format, packed, scratch))                               \
  ENTRY(std::size_t, conv3x3_output, , (std::size_t size, std::size_t stride), (size, stride))                                 \
  ENTRY(void, depthwise_conv3x3, , (const Executor& ex, const float* x, const float* w, const float* bias, float* y,           \
        std::size_t batch, std::size_t height, std::size_t width, std::size_t channels, std::size_t stride),                   \
        (ex, x, w, bias, y, batch, height, width, channels, stride))                                                           \
  /* attention */                                                                                                              \
  ENTRY(void, attention, , (const Executor& ex, const AttentionShape& shape, const float* q, std::size_t q_ld, const float* k, \
        std::size_t k_ld, const float* v, std::size_t v_ld, float* y, std::size_t y_ld, float* log_sum_exp),                   \
        (ex, shape, q, q_ld, k, k_ld, v, v_ld, y, y_ld, log_sum_exp))                                                          \
  /* norms */                                                                                                                  \
  ENTRY(void, group_norm, , (const Executor& ex, const float* x, float* y, std::size_t batch, std::size_t pixels,              \
        std::size_t channels, std::size_t groups, float eps, const float* gamma, const float* beta, Activation activation,     \
        float* statistics), (ex, x, y, batch, pixels, channels, groups, eps, gamma, beta, activation, statistics))             \
  ENTRY(void, group_norm_joined, , (const Executor& ex, const float* a, std::size_t a_channels, const float* b,                \
        std::size_t b_channels, float* y, std::size_t batch, std::size_t pixels, std::size_t groups, float eps,                \
        const float* gamma, const float* beta, Activation activation, float* statistics), (ex, a, a_channels, b, b_channels, y,\
        batch, pixels, groups, eps, gamma, beta, activation, statistics))                                                      \
  ENTRY(void, layer_norm, , (const Executor& ex, const float* x, float* y, std::size_t rows, std::size_t channels, float eps,  \
        const float* gamma, const float* beta, float* statistics), (ex, x, y, rows, channels, eps, gamma, beta, statistics))   \
  /* element by element */                                                                                                     \
  ENTRY(void, activate, , (const Executor& ex, Activation activation, const float* x, float* y, std::size_t n),                \
        (ex, activation, x, y, n))                                                                                             \
  ENTRY(void, gate, , (const Executor& ex, Activation activation, const float* x, float* y, std::size_t rows,                  \
        std::size_t hidden), (ex, activation, x, y, rows, hidden))                                                             \
  ENTRY(void, add, , (const Executor& ex, const float* a, const float* b, float* y, std::size_t n), (ex, a, b, y, n))          \
  ENTRY(void, add_to, , (const Executor& ex, const float* x, float* y, std::size_t n), (ex, x, y, n))                          \
  ENTRY(void, scale, , (const Executor& ex, const float* x, float factor, float* y, std::size_t n), (ex, x, factor, y, n))     \
  ENTRY(void, scale_add, , (const Executor& ex, const float* a, float fa, const float* b, float fb, float* y, std::size_t n),  \
        (ex, a, fa, b, fb, y, n))                                                                                              \
  ENTRY(void, add_row_vector, , (const Executor& ex, const float* x, const float* v, float* y, std::size_t batch,              \
        std::size_t pixels, std::size_t channels), (ex, x, v, y, batch, pixels, channels))                                     \
  ENTRY(void, copy, , (const Executor& ex, const float* x, float* y, std::size_t n), (ex, x, y, n))                            \
  ENTRY(void, add_per_batch, , (const Executor& ex, const float* v, float* x, std::size_t batch, std::size_t n),               \
        (ex, v, x, batch, n))                                                                                                  \
  /* embeddings */                                                                                                             \
  ENTRY(void, embed_tokens, , (const Executor& ex, const std::int32_t* ids, std::size_t batch, std::size_t length,             \
        const float* table, const float* positions, float* y, std::size_t width),                                              \
        (ex, ids, batch, length, table, positions, y, width))                                                                  \
  ENTRY(void, timestep_embedding, , (const float* t, std::size_t batch, std::size_t dim, float* y), (t, batch, dim, y))        \
  ENTRY(void, guidance_embedding, , (const float* guidance, std::size_t batch, std::size_t dim, float* y),                     \
        (guidance, batch, dim, y))                                                                                             \
  ENTRY(void, cosine_weights, , (std::size_t count, std::size_t length, float* weights), (count, length, weights))             \
  ENTRY(void, embedding_bag, , (const std::int32_t* ids, std::size_t batch, std::size_t length, const float* table,            \
        std::size_t width, std::int32_t padding, const float* weights, std::size_t sums, float* y),                            \
        (ids, batch, length, table, width, padding, weights, sums, y))                                                         \
  /* rearrangements */                                                                                                         \
  ENTRY(void, concat_channels, , (const Executor& ex, const float* a, std::size_t ca, const float* b, std::size_t cb, float* y,\
        std::size_t rows), (ex, a, ca, b, cb, y, rows))                                                                        \
  ENTRY(void, upsample_nearest2x, , (const Executor& ex, const float* x, float* y, std::size_t batch, std::size_t height,      \
        std::size_t width, std::size_t channels), (ex, x, y, batch, height, width, channels))                                  \
  ENTRY(void, pixel_unshuffle, , (const Executor& ex, const float* x, float* y, std::size_t batch, std::size_t height,         \
        std::size_t width, std::size_t channels, std::size_t r), (ex, x, y, batch, height, width, channels, r))                \
  ENTRY(void, pixel_shuffle, , (const Executor& ex, const float* x, float* y, std::size_t batch, std::size_t height,           \
        std::size_t width, std::size_t channels, std::size_t r), (ex, x, y, batch, height, width, channels, r))

// What only training calls.
#define MOBILEDIFFUSION_TRAINING_KERNELS(ENTRY)                                                                                \
  /* products */                                                                                                               \
  ENTRY(void, matmul_nn, , (const Executor& ex, std::size_t m, std::size_t n, std::size_t k, const Operand& a, const Operand& b,\
        float* c, std::size_t ldc, const Epilogue& epilogue = {}), (ex, m, n, k, a, b, c, ldc, epilogue))                      \
  ENTRY(void, matmul_tn, , (const Executor& ex, std::size_t m, std::size_t n, std::size_t k, const Operand& a, const Operand& b,\
        float* c, std::size_t ldc, const Epilogue& epilogue = {}), (ex, m, n, k, a, b, c, ldc, epilogue))                      \
  ENTRY(void, column_sums, , (const Executor& ex, const float* dy, std::size_t rows, std::size_t n, float* db,                 \
        std::size_t rows_per_sum = SIZE_MAX), (ex, dy, rows, n, db, rows_per_sum))                                             \
  /* convolutions */                                                                                                           \
  ENTRY(void, conv2d_backward_input, , (const Executor& ex, const float* dy, const float* w, std::size_t outputs, float* dx,   \
        const ConvGeometry& g, bool accumulate = false, float* scratch = nullptr),                                             \
        (ex, dy, w, outputs, dx, g, accumulate, scratch))                                                                      \
  ENTRY(void, conv2d_backward_filter, , (const Executor& ex, const float* x, const float* dy, std::size_t outputs, float* dw,  \
        const ConvGeometry& g), (ex, x, dy, outputs, dw, g))                                                                   \
  ENTRY(void, depthwise_conv3x3_backward_input, , (const Executor& ex, const float* dy, const float* w, float* dx,             \
        std::size_t batch, std::size_t height, std::size_t width, std::size_t channels, std::size_t stride),                   \
        (ex, dy, w, dx, batch, height, width, channels, stride))                                                               \
  ENTRY(void, depthwise_conv3x3_backward_filter, , (const Executor& ex, const float* x, const float* dy, float* dw, float* db, \
        std::size_t batch, std::size_t height, std::size_t width, std::size_t channels, std::size_t stride, float* partial),   \
        (ex, x, dy, dw, db, batch, height, width, channels, stride, partial))                                                  \
  /* attention */                                                                                                              \
  ENTRY(void, attention_backward, , (const Executor& ex, const AttentionShape& shape, const float* q, std::size_t q_ld,        \
        const float* k, std::size_t k_ld, const float* v, std::size_t v_ld, const float* y, std::size_t y_ld, const float* dy, \
        std::size_t dy_ld, const float* log_sum_exp, float* dq, std::size_t dq_ld, float* dk, std::size_t dk_ld, float* dv,    \
        std::size_t dv_ld), (ex, shape, q, q_ld, k, k_ld, v, v_ld, y, y_ld, dy, dy_ld, log_sum_exp, dq, dq_ld, dk, dk_ld, dv,  \
        dv_ld))                                                                                                                \
  /* norms */                                                                                                                  \
  ENTRY(void, group_norm_backward, , (const Executor& ex, const float* x, const float* dy, float* dx, bool accumulate,         \
        std::size_t batch, std::size_t pixels, std::size_t channels, std::size_t groups, const float* gamma, const float* beta,\
        Activation activation, const float* statistics, float* dgamma, float* dbeta, float* partial),                          \
        (ex, x, dy, dx, accumulate, batch, pixels, channels, groups, gamma, beta, activation, statistics, dgamma, dbeta,       \
        partial))                                                                                                              \
  ENTRY(void, layer_norm_backward, , (const Executor& ex, const float* x, const float* dy, float* dx, bool accumulate,         \
        std::size_t rows, std::size_t channels, const float* gamma, const float* statistics, float* dgamma, float* dbeta,      \
        float* partial), (ex, x, dy, dx, accumulate, rows, channels, gamma, statistics, dgamma, dbeta, partial))               \
  /* element by element */                                                                                                     \
  ENTRY(void, activate_backward, , (const Executor& ex, Activation activation, const float* x, const float* dy, float* dx,     \
        std::size_t n), (ex, activation, x, dy, dx, n))                                                                        \
  ENTRY(void, gate_backward, , (const Executor& ex, Activation activation, const float* x, const float* dy, float* dx,         \
        std::size_t rows, std::size_t hidden), (ex, activation, x, dy, dx, rows, hidden))                                      \
  ENTRY(void, sum_pixels, , (const Executor& ex, const float* dy, std::size_t batch, std::size_t pixels, std::size_t channels, \
        float* out), (ex, dy, batch, pixels, channels, out))                                                                   \
  ENTRY(void, sum_batch, , (const Executor& ex, const float* d, std::size_t batch, std::size_t n, float* v),                   \
        (ex, d, batch, n, v))                                                                                                  \
  /* embeddings */                                                                                                             \
  ENTRY(void, embed_tokens_backward, , (const Executor& ex, const std::int32_t* ids, std::size_t batch, std::size_t length,    \
        const float* dy, float* dtable, float* dpositions, std::size_t width),                                                 \
        (ex, ids, batch, length, dy, dtable, dpositions, width))                                                               \
  ENTRY(void, embedding_bag_backward, , (const std::int32_t* ids, std::size_t batch, std::size_t length, const float* dy,      \
        std::size_t width, std::int32_t padding, const float* weights, std::size_t sums, float* d_table),                      \
        (ids, batch, length, dy, width, padding, weights, sums, d_table))                                                      \
  /* rearrangements */                                                                                                         \
  ENTRY(void, split_channels_backward, , (const Executor& ex, const float* dy, float* da, std::size_t ca, float* db,           \
        std::size_t cb, std::size_t rows), (ex, dy, da, ca, db, cb, rows))                                                     \
  ENTRY(void, upsample_nearest2x_backward, , (const Executor& ex, const float* dy, float* dx, std::size_t batch,               \
        std::size_t height, std::size_t width, std::size_t channels), (ex, dy, dx, batch, height, width, channels))
// clang-format on

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// What the kernels were compiled for, and one pointer an entry, of the entry's type. Two tables, since a linker that drops what
// nobody refers to (--gc-sections, -dead_strip) leaves out training's kernels by that where nothing trains.
#define MOBILEDIFFUSION_SLOT(result, name, overload, parameters, arguments) \
  struct name##overload##_signature {                                       \
    static result call parameters;                                          \
  };                                                                        \
  decltype(&name##overload##_signature::call) name##overload;
struct Table {
  simd::Isa isa;
  MOBILEDIFFUSION_DRAWING_KERNELS(MOBILEDIFFUSION_SLOT)
};
struct TrainingTable {
  simd::Isa isa;
  MOBILEDIFFUSION_TRAINING_KERNELS(MOBILEDIFFUSION_SLOT)
};
#undef MOBILEDIFFUSION_SLOT

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
