// SPDX-License-Identifier: Apache-2.0
// Matrix products against the scalar reference: odd sizes, every transpose, epilogues, packed weights, bf16, threads.
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/core/number_formats.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/kernels/kernels.hpp"
#include "mobilediffusion/kernels/reference/matmul.hpp"

using namespace mobilediffusion;
namespace kernels = mobilediffusion::kernels;
using kernels::Epilogue;
using kernels::Operand;

namespace {

std::vector<float> normals(std::size_t n, std::uint64_t stream) {
  std::vector<float> v(n);
  Random(7, stream).normals(v);
  return v;
}

// The largest difference, relative to the standard deviation of a sum of k products of normals.
double difference(const std::vector<float>& a, const std::vector<float>& b, std::size_t k) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= worst)) worst = d;  // keeps a NaN
  }
  return worst / std::sqrt(static_cast<double>(k) + 1);
}

enum class Kind { nt, nn, tn, packed };

void product(const Executor& ex, Kind kind, std::size_t m, std::size_t n, std::size_t k, const float* a, const float* b, float* c,
             std::size_t ldc, const Epilogue& e) {
  switch (kind) {
    case Kind::nt:
      kernels::matmul_nt(ex, m, n, k, Operand::dense(a, m, k), Operand::dense(b, n, k), c, ldc, e);
      break;
    case Kind::nn:
      kernels::matmul_nn(ex, m, n, k, Operand::dense(a, m, k), Operand::dense(b, k, n), c, ldc, e);
      break;
    case Kind::tn:
      kernels::matmul_tn(ex, m, n, k, Operand::dense(a, k, m), Operand::dense(b, k, n), c, ldc, e);
      break;
    case Kind::packed: {
      std::vector<float> panels(packed_floats(n, k, Format::fp32));
      kernels::pack_weights(b, n, k, panels.data());
      kernels::matmul_nt(ex, m, n, k, Operand::dense(a, m, k), Operand::packed(panels.data(), n, k), c, ldc, e);
    }
  }
}

void check(const Executor& ex, Kind kind, std::size_t m, std::size_t n, std::size_t k, double tolerance, bool epilogue = false) {
  const auto a = normals(m * k, 1), b = normals(n * k, 2);
  const std::size_t ldc = n + (epilogue ? 5 : 0);
  std::vector<float> c = normals(m * ldc, 3), expected = c;
  Epilogue e;
  const std::size_t rows_per_bias = (m + 2) / 3;
  const auto bias = normals((m + rows_per_bias - 1) / rows_per_bias * n, 4), residual = normals(m * (n + 3), 5);
  if (epilogue) {
    e.bias = bias.data();
    e.rows_per_bias = rows_per_bias;
    e.residual = residual.data();
    e.residual_ld = n + 3;
    e.accumulate = true;
  }
  product(ex, kind, m, n, k, a.data(), b.data(), c.data(), ldc, e);
  if (kind == Kind::nn) kernels::reference::matmul_nn(m, n, k, a.data(), b.data(), expected.data(), ldc, e);
  else if (kind == Kind::tn) kernels::reference::matmul_tn(m, n, k, a.data(), b.data(), expected.data(), ldc, e);
  else kernels::reference::matmul_nt(m, n, k, a.data(), b.data(), expected.data(), ldc, e);
  INFO("kind " << static_cast<int>(kind) << " m " << m << " n " << n << " k " << k << " epilogue " << epilogue);
  CHECK(difference(c, expected, k) < tolerance);
}

constexpr Kind kinds[] = {Kind::nt, Kind::nn, Kind::tn, Kind::packed};

}  // namespace

TEST_CASE("matmul equals the reference on odd sizes", "[matmul]") {
  const Executor ex(2);
  const std::size_t sizes[] = {1, 3, 7, 17, 31, 33, 65, 129};
  for (const Kind kind : kinds)
    for (const std::size_t m : sizes)
      for (const std::size_t n : sizes)
        for (const std::size_t k : {std::size_t{1}, std::size_t{7}, std::size_t{33}, std::size_t{129}})
          check(ex, kind, m, n, k, 4e-6, (m + n + k) % 4 == 3);
}

TEST_CASE("matmul equals the reference across blocks", "[matmul]") {
  const Executor ex(2);
  for (const Kind kind : kinds)
    for (const bool epilogue : {false, true}) {
      check(ex, kind, 301, 75, 610, 4e-6, epilogue);
      check(ex, kind, 31, 1100, 260, 4e-6, epilogue);
      check(ex, kind, 560, 32, 1030, 4e-6, epilogue);
    }
}

TEST_CASE("matmul rounds operands to bf16 and accumulates in fp32", "[matmul]") {
  const Executor ex(2, Precision::bf16);
  for (const Kind kind : {Kind::nt, Kind::nn, Kind::tn})
    for (const std::size_t m : {1u, 17u, 300u})
      for (const std::size_t n : {5u, 48u, 129u})
        for (const std::size_t k : {1u, 2u, 31u, 33u, 64u, 1300u}) {
          check(ex, kind, m, n, k, 3e-2, (m + n + k) % 2 == 1);
          // Exact operands: only the order of additions differs.
          auto a = normals(m * k, 1), b = normals(n * k, 2);
          for (auto* v : {&a, &b})
            for (float& x : *v) x = from_bf16(to_bf16(x));
          std::vector<float> half(m * n), full(m * n);
          product(ex, kind, m, n, k, a.data(), b.data(), half.data(), n, {});
          product(Executor(1), kind, m, n, k, a.data(), b.data(), full.data(), n, {});
          CHECK(difference(half, full, k) < 4e-6);
        }
}

TEST_CASE("matmul gives the same bytes on any number of threads", "[matmul]") {
  for (const Precision precision : {Precision::fp32, Precision::bf16})
    for (const Kind kind : kinds)
      for (const auto [m, n, k] : {std::array<std::size_t, 3>{611, 97, 530}, std::array<std::size_t, 3>{40, 1300, 77},
                                   std::array<std::size_t, 3>{130, 320, 1000}}) {
        const auto a = normals(m * k, 1), b = normals(n * k, 2), bias = normals(n, 3);
        Epilogue e;
        e.bias = bias.data();
        std::vector<float> one(m * n);
        product(Executor(1, precision), kind, m, n, k, a.data(), b.data(), one.data(), n, e);
        for (const int threads : {2, 3, 4}) {
          std::vector<float> many(m * n);
          product(Executor::oversubscribed(threads, precision), kind, m, n, k, a.data(), b.data(), many.data(), n, e);
          CHECK(std::memcmp(one.data(), many.data(), one.size() * sizeof(float)) == 0);
        }
      }
}

TEST_CASE("matmul reads operands with a leading dimension and adds a residual in place", "[matmul]") {
  const Executor ex(1);
  const std::size_t m = 19, n = 37, k = 21, lda = 30, ldb = 25;
  const auto a = normals(m * lda, 1), b = normals(n * ldb, 2);
  std::vector<float> tight_a(m * k), tight_b(n * k), c = normals(m * n, 3), expected = c;
  for (std::size_t i = 0; i < m * k; ++i) tight_a[i] = a[i / k * lda + i % k];
  for (std::size_t i = 0; i < n * k; ++i) tight_b[i] = b[i / k * ldb + i % k];
  Epilogue e;
  e.residual = c.data();
  e.residual_ld = n;
  kernels::matmul_nt(ex, m, n, k, Operand::dense(a.data(), m, k, lda), Operand::dense(b.data(), n, k, ldb), c.data(), n, e);
  e.residual = expected.data();
  kernels::reference::matmul_nt(m, n, k, tight_a.data(), tight_b.data(), expected.data(), n, e);
  CHECK(difference(c, expected, k) < 2e-6);
}

TEST_CASE("an empty sum is zero, or the bias", "[matmul]") {
  const Executor ex(1);
  const std::vector<float> bias{1, 2, 3};
  std::vector<float> c(6, 9.0f);
  Epilogue e;
  e.bias = bias.data();
  kernels::matmul_nt(ex, 2, 3, 0, Operand::dense(nullptr, 2, 0), Operand::dense(nullptr, 3, 0), c.data(), 3, e);
  CHECK(c == std::vector<float>{1, 2, 3, 1, 2, 3});
}

TEST_CASE("packed weights come back", "[matmul]") {
  for (const std::size_t rows : {1u, 31u, 32u, 70u})
    for (const std::size_t columns : {1u, 15u, 64u, 77u}) {
      const auto w = normals(rows * columns, 1);
      std::vector<float> back(rows * columns);
      for (const Format format : {Format::fp32, Format::bf16, Format::int8}) {
        std::vector<float> panels(packed_floats(rows, columns, format));
        kernels::pack_weights(w.data(), rows, columns, panels.data(), format);
        kernels::unpack_weights(panels.data(), rows, columns, back.data(), format);
        for (std::size_t i = 0; i < rows; ++i) {
          float largest = 0.0f;
          for (std::size_t j = 0; j < columns; ++j) largest = std::max(largest, std::abs(w[i * columns + j]));
          for (std::size_t j = 0; j < columns; ++j) {
            const float x = w[i * columns + j], y = back[i * columns + j];
            if (format == Format::fp32) REQUIRE(y == x);
            else if (format == Format::bf16) REQUIRE(y == from_bf16(to_bf16(x)));
            else REQUIRE(std::abs(y - x) <= largest / 254.0f * 1.0001f);
          }
        }
      }
    }
}

namespace {

// The product with packed weights of a format, with every part of the epilogue.
std::vector<float> packed_product(const Executor& ex, Format format, std::size_t m, std::size_t n, std::size_t k,
                                  const std::vector<float>& a, const std::vector<float>& b, bool epilogue) {
  std::vector<float> panels(packed_floats(n, k, format)), c = normals(m * n, 3);
  kernels::pack_weights(b.data(), n, k, panels.data(), format);
  const auto bias = normals(n, 4), residual = normals(m * n, 5);
  Epilogue e;
  if (epilogue) {
    e.bias = bias.data();
    e.residual = residual.data();
    e.residual_ld = n;
    e.accumulate = true;
  }
  kernels::matmul_nt(ex, m, n, k, Operand::dense(a.data(), m, k), Operand::packed(panels.data(), n, k, format), c.data(), n, e);
  return c;
}

}  // namespace

// Whole numbers that 8 bits hold: a range of 0 to 255 in every block of K, weights up to 127. Nothing is rounded.
TEST_CASE("int8 products of small whole numbers are exact", "[matmul]") {
  const Executor ex(2);
  for (const std::size_t m : {1u, 13u, 40u})
    for (const std::size_t n : {1u, 31u, 70u})
      for (const std::size_t k : {2u, 63u, 130u, 300u}) {
        std::vector<float> a(m * k), b(n * k);
        Random random(5, m + n + k);
        for (std::size_t i = 0; i < m; ++i)
          for (std::size_t j = 0; j < k; ++j)
            a[i * k + j] = j == 0 ? 0.0f : j == k - 1 ? 255.0f : std::floor(random.uniform() * 256.0f);
        for (std::size_t i = 0; i < n; ++i)
          for (std::size_t j = 0; j < k; ++j)
            b[i * k + j] = j == i % k ? -127.0f : std::floor(random.uniform() * 255.0f) - 127.0f;
        const auto found = packed_product(ex, Format::int8, m, n, k, a, b, false);
        for (std::size_t i = 0; i < m; ++i)
          for (std::size_t j = 0; j < n; ++j) {
            float expected = 0.0f;
            for (std::size_t t = 0; t < k; ++t) expected += a[i * k + t] * b[j * k + t];
            INFO(m << " x " << k << " -> " << n << " at " << i << ", " << j);
            REQUIRE(found[i * n + j] == Approx(expected).epsilon(2e-6).margin(0.02));
          }
      }
}

TEST_CASE("products with packed bf16 and int8 weights are close to the reference", "[matmul]") {
  const Executor ex = Executor::oversubscribed(2), alone(1);
  for (const std::size_t m : {1u, 14u, 100u})
    for (const std::size_t n : {3u, 32u, 97u})
      for (const std::size_t k : {1u, 50u, 576u, 2500u})
        for (const bool epilogue : {false, true}) {
          const auto a = normals(m * k, 1), b = normals(n * k, 2);
          const auto exact = packed_product(ex, Format::fp32, m, n, k, a, b, epilogue);
          const auto bf16 = packed_product(ex, Format::bf16, m, n, k, a, b, epilogue);
          const auto int8 = packed_product(ex, Format::int8, m, n, k, a, b, epilogue);
          INFO(m << " x " << k << " -> " << n);
          CHECK(difference(bf16, exact, k) < 0.03);
          CHECK(difference(int8, exact, k) < 0.1);
          CHECK(bf16 == packed_product(alone, Format::bf16, m, n, k, a, b, epilogue));
          CHECK(int8 == packed_product(alone, Format::int8, m, n, k, a, b, epilogue));
        }
}

TEST_CASE("matmul refuses operands of the wrong size or kind", "[matmul]") {
  const Executor ex(1);
  std::vector<float> x(64);
  const Operand a = Operand::dense(x.data(), 4, 8);
  CHECK_THROWS_AS(kernels::matmul_nt(ex, 4, 4, 8, a, Operand::dense(x.data(), 4, 7), x.data(), 4), Error);
  CHECK_THROWS_AS(kernels::matmul_nn(ex, 4, 8, 8, a, Operand::packed(x.data(), 8, 8), x.data(), 8), Error);
  CHECK_THROWS_AS(kernels::matmul_tn(ex, 4, 8, 8, a, Operand::dense(x.data(), 8, 8), x.data(), 8), Error);
}

TEST_CASE("column sums equal the reference", "[matmul]") {
  for (const std::size_t rows : {1u, 7u, 300u})
    for (const std::size_t n : {1u, 33u, 64u, 200u})
      for (const std::size_t per_sum : {SIZE_MAX, std::size_t{1}, std::size_t{64}}) {
        const auto dy = normals(rows * n, 1);
        const std::size_t sums = per_sum == SIZE_MAX ? 1 : (rows + per_sum - 1) / per_sum;
        std::vector<float> one = normals(sums * n, 2), two = one, expected = one;
        kernels::column_sums(Executor(1), dy.data(), rows, n, one.data(), per_sum);
        kernels::column_sums(Executor::oversubscribed(2), dy.data(), rows, n, two.data(), per_sum);
        kernels::reference::column_sums(dy.data(), rows, n, expected.data(), per_sum);
        CHECK(one == two);
        CHECK(difference(one, expected, rows) < 2e-6);
      }
}

TEST_CASE("a product with two joined left sides equals that with their concatenation, bit for bit", "[matmul]") {
  const Executor ex(2);
  for (const auto& [ka, kb] : {std::pair<std::size_t, std::size_t>{64, 128}, {5, 3}, {320, 192}, {16, 8}})
    for (const Format format : {Format::fp32, Format::bf16, Format::int8}) {
      const std::size_t m = 37, n = 70, k = ka + kb;
      const auto a = normals(m * ka, 1), b = normals(m * kb, 2), w = normals(n * k, 3);
      std::vector<float> joined(m * k), panels(packed_floats(n, k, format)), expected(m * n), found(m * n);
      for (std::size_t i = 0; i < m; ++i) {
        std::copy_n(&a[i * ka], ka, &joined[i * k]);
        std::copy_n(&b[i * kb], kb, &joined[i * k + ka]);
      }
      kernels::pack_weights(w.data(), n, k, panels.data(), format);
      const Operand packed = Operand::packed(panels.data(), n, k, format);
      kernels::matmul_nt(ex, m, n, k, Operand::dense(joined.data(), m, k), packed, expected.data(), n);
      kernels::matmul_nt(ex, m, n, k, Operand::joined(a.data(), ka, b.data(), kb, m), packed, found.data(), n);
      INFO(ka << " + " << kb << ", " << name_of(format));
      CHECK(found == expected);
      const Operand dense = Operand::dense(w.data(), n, k);
      kernels::matmul_nt(ex, m, n, k, Operand::dense(joined.data(), m, k), dense, expected.data(), n);
      kernels::matmul_nt(ex, m, n, k, Operand::joined(a.data(), ka, b.data(), kb, m), dense, found.data(), n);
      CHECK(found == expected);
    }
}
