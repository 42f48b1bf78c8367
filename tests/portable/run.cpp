// SPDX-License-Identifier: Apache-2.0
// What tests/compilers runs where it can: products and attention against the scalar reference, equal bytes on one and on three
// threads, an error caught, a file written and read. It links nothing but the standard library.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <mobilediffusion/core/random.hpp>
#include <mobilediffusion/io/numbers.hpp>
#include <mobilediffusion/io/safetensors.hpp>
#include <mobilediffusion/kernels/kernels.hpp>
#include <mobilediffusion/kernels/reference/attention.hpp>
#include <mobilediffusion/kernels/reference/matmul.hpp>
#include <vector>

using namespace mobilediffusion;

namespace {

int failures = 0;
void expect(bool right, const char* what) {
  if (right) return;
  std::printf("wrong: %s\n", what);
  ++failures;
}

std::vector<float> normals(std::size_t n, std::uint64_t seed) {
  std::vector<float> x(n);
  Random(seed, 0).normals(x);
  return x;
}

bool close(const std::vector<float>& a, const std::vector<float>& b, float tolerance) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](float x, float y) { return std::abs(x - y) <= tolerance * (1.0f + std::abs(y)); });
}

void products(const Executor& one, const Executor& three) {
  constexpr std::size_t m = 37, n = 70, k = 129;
  const auto a = normals(m * k, 1), b = normals(n * k, 2);
  std::vector<float> expected(m * n), found(m * n), again(m * n);
  kernels::reference::matmul_nt(m, n, k, a.data(), b.data(), expected.data(), n);
  const auto left = kernels::Operand::dense(a.data(), m, k), right = kernels::Operand::dense(b.data(), n, k);
  kernels::matmul_nt(one, m, n, k, left, right, found.data(), n);
  kernels::matmul_nt(three, m, n, k, left, right, again.data(), n);
  expect(close(found, expected, 1e-4f), "product");
  expect(found == again, "product on three threads");

  for (const Format format : {Format::bf16, Format::int8}) {
    std::vector<float> packed(packed_floats(n, k, format));
    kernels::pack_weights(b.data(), n, k, packed.data(), format);
    kernels::matmul_nt(one, m, n, k, left, kernels::Operand::packed(packed.data(), n, k, format), found.data(), n);
    expect(close(found, expected, format == Format::bf16 ? 0.1f : 0.5f), name_of(format));
  }
}

void attention(const Executor& one, const Executor& three) {
  for (const AttentionKind kind : {AttentionKind::softmax, AttentionKind::relu}) {
    kernels::AttentionShape shape;
    shape.batch = 2, shape.heads = 3, shape.queries = 19, shape.keys = 23, shape.head_dim = 8, shape.scale = 0.35f,
    shape.kind = kind;
    constexpr std::size_t width = 24;
    const auto q = normals(2 * 19 * width, 3), k = normals(2 * 23 * width, 4), v = normals(2 * 23 * width, 5);
    std::vector<float> expected(q.size()), found(q.size()), again(q.size());
    kernels::reference::attention(one, shape, q.data(), width, k.data(), width, v.data(), width, expected.data(), width, nullptr);
    kernels::attention(one, shape, q.data(), width, k.data(), width, v.data(), width, found.data(), width, nullptr);
    kernels::attention(three, shape, q.data(), width, k.data(), width, v.data(), width, again.data(), width, nullptr);
    expect(close(found, expected, 1e-4f), "attention");
    expect(found == again, "attention on three threads");
  }
}

void files() {
  const auto path = std::filesystem::temp_directory_path() / "mobilediffusion_\u00fc.safetensors";
  const auto values = normals(1000, 6);
  const std::vector<std::size_t> shape{10, 100};
  const std::vector<TensorToWrite> tensors{{.name = "weight", .shape = shape, .floats = values}};
  write_safetensors(path, tensors, {{"number", detail::number_text(0.1f)}});
  {
    const SafetensorsFile file(path);
    std::vector<float> read(values.size());
    file.read_floats(file.require("weight", shape), read.data());
    float number = 0.0f;
    expect(read == values, "tensor of a file");
    expect(detail::parse_number(file.require_metadata("number"), number) && number == 0.1f, "number of a file");
    bool caught = false;
    try {
      static_cast<void>(file.require("bias", shape));
    } catch (const Error& e) {
      caught = std::string_view(e.what()).find("bias") != std::string_view::npos;
    }
    expect(caught, "error that names the tensor");
  }
  std::filesystem::remove(path);
}

}  // namespace

int main() {
  try {
    const Executor one(1), three = Executor::oversubscribed(3);
    products(one, three);
    attention(one, three);
    files();
  } catch (const std::exception& e) {
    std::printf("wrong: %s\n", e.what());
    ++failures;
  }
  std::printf("%s: %d failures\n", kernels::instruction_set(), failures);
  return failures == 0 ? 0 : 1;
}
