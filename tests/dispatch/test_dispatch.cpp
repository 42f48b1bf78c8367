// SPDX-License-Identifier: Apache-2.0
// Which kernels a program runs that was built with mobilediffusion_dispatch(). The kernels' own tests run beside these, once for
// each instruction set (CMakeLists.txt).
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/kernels/kernels.hpp"

#if !defined(MOBILEDIFFUSION_DISPATCH) || defined(__AVX__)
#error "expected this program to have kernels of several instruction sets, and no other code than the baseline's"
#endif

using namespace mobilediffusion;
namespace kernels = mobilediffusion::kernels;

namespace {

constexpr std::size_t built = MOBILEDIFFUSION_DISPATCH;

std::vector<float> normals(std::size_t n, std::uint64_t stream) {
  std::vector<float> v(n);
  Random(7, stream).normals(v);
  return v;
}

}  // namespace

TEST_CASE("the best instruction set is chosen, or the one that the environment names", "[dispatch]") {
  const char* const forced = std::getenv("MOBILEDIFFUSION_ISA");
  if (forced != nullptr) CHECK(std::string(kernels::instruction_set()) == forced);
  if (const char* const expected = std::getenv("MOBILEDIFFUSION_EXPECTED_ISA"))  // of who knows the machine: an emulator's
    CHECK(std::string(kernels::instruction_set()) == expected);
  std::size_t best = 0;
  for (std::size_t i = 0; i < built; ++i)
    if (simd::supported(static_cast<simd::Isa>(i)) && simd::preferred(static_cast<simd::Isa>(i))) best = i;
  CHECK(std::string(kernels::detail::choose(nullptr).name) == simd::isa_names[best]);
  CHECK(std::string(kernels::detail::choose("").name) == simd::isa_names[best]);
  CHECK(std::string(kernels::detail::choose("baseline").name) == "baseline");
}

TEST_CASE("an instruction set that is not there is refused by name", "[dispatch]") {
  try {
    kernels::detail::choose("sse9");
    FAIL("expected an error");
  } catch (const Error& e) {
    CHECK(std::string(e.what()).find("sse9") != std::string::npos);
    CHECK(std::string(e.what()).find("baseline") != std::string::npos);
  }
  for (std::size_t i = 0; i < built; ++i)
    if (!simd::supported(static_cast<simd::Isa>(i))) CHECK_THROWS_AS(kernels::detail::choose(simd::isa_names[i]), Error);
}

// Were a function shared between the libraries, two of them would agree in a layout that their registers decide.
TEST_CASE("each instruction set packs for its own registers, and all compute the same", "[dispatch]") {
  const std::size_t m = 5, n = 64, k = 48;
  const Executor ex = Executor::oversubscribed(2);
  const auto a = normals(m * k, 1), b = normals(n * k, 2);
  std::vector<std::vector<float>> packed, products;
  std::vector<std::string> registers;  // avx512_vnni has those of avx512, and so has amx
  for (std::size_t i = 0; i < built; ++i) {
    if (!simd::supported(static_cast<simd::Isa>(i))) continue;
    const kernels::Table& table = *kernels::detail::choose(simd::isa_names[i]).table;
    std::vector<float> panels(n * k), back(n * k), c(m * n);
    table.pack_weights(b.data(), n, k, panels.data(), Format::fp32);
    table.unpack_weights(panels.data(), n, k, back.data(), Format::fp32);
    CHECK(back == b);
    table.matmul_nt(ex, m, n, k, kernels::Operand::dense(a.data(), m, k), kernels::Operand::packed(panels.data(), n, k), c.data(),
                    n, {});
    packed.push_back(panels);
    const std::string name = simd::isa_names[i];
    registers.push_back(name == "amx" ? "avx512" : name.compare(0, 3, "avx") == 0 ? name.substr(0, name.find('_')) : "baseline");
    products.push_back(c);
    CHECK_THROWS_AS(table.matmul_nt(ex, m, n, k, kernels::Operand::dense(a.data(), m, k + 1),
                                    kernels::Operand::dense(b.data(), n, k), c.data(), n, {}),
                    Error);
  }
  for (std::size_t i = 1; i < packed.size(); ++i) {
    CHECK((packed[i] == packed[i - 1]) == (registers[i] == registers[i - 1]));
    for (std::size_t j = 0; j < products[i].size(); ++j) CHECK(std::abs(products[i][j] - products[0][j]) < 1e-4f);
  }
}

// Sums of bytes are exact: the width of registers decides only where the rounding of the rows' ranges begins.
TEST_CASE("the instruction sets of 512 bits give the same bytes in int8, by vectors and by tiles", "[dispatch]") {
  const std::size_t m = 45, n = 70, k = 1100;
  const Executor ex = Executor::oversubscribed(2);
  const auto a = normals(m * k, 1), b = normals(n * k, 2), residual = normals(m * n, 3);
  std::vector<std::vector<float>> products;
  for (const char* const name : {"avx512_vnni", "avx512_bf16_vnni", "amx"}) {
    std::size_t i = 0;
    while (i < built && std::string(simd::isa_names[i]) != name) ++i;
    if (i == built || !simd::supported(static_cast<simd::Isa>(i))) continue;
    const kernels::Table& table = *kernels::detail::choose(name).table;
    std::vector<float> panels(packed_floats(n, k, Format::int8)), c(m * n);
    table.pack_weights(b.data(), n, k, panels.data(), Format::int8);
    kernels::Epilogue e;
    e.residual = residual.data();
    e.residual_ld = n;
    table.matmul_nt(ex, m, n, k, kernels::Operand::dense(a.data(), m, k),
                    kernels::Operand::packed(panels.data(), n, k, Format::int8), c.data(), n, e);
    products.push_back(c);
  }
  for (std::size_t i = 1; i < products.size(); ++i) CHECK(products[i] == products[0]);
}
