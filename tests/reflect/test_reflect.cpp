// SPDX-License-Identifier: Apache-2.0
// Names, order, sizes and binding of reflected weights.
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/core/memory.hpp"
#include "mobilediffusion/reflect/reflect.hpp"

namespace {

using namespace mobilediffusion;

template <std::size_t In, std::size_t Out, bool has_bias = true>
struct LinearWeights {
  Matrix<Out, In> weight;
  std::conditional_t<has_bias, Param<Out>, Absent> bias;
};

struct GateWeights {
  LinearWeights<4, 8> proj;
};

struct AttentionWeights {
  LinearWeights<4, 4, false> to_q;
  std::tuple<LinearWeights<4, 4>> to_out;  // one element: the hard case for counting fields
};

struct FeedForwardWeights {
  std::tuple<GateWeights, Absent, LinearWeights<4, 4>> net;
};

template <bool has_self>
struct BlockWeights {
  std::conditional_t<has_self, Param<4>, Absent> norm1;
  std::conditional_t<has_self, AttentionWeights, Absent> attn1;
  FeedForwardWeights ff;
};

struct ModelWeights {
  Absent first;
  std::array<BlockWeights<true>, 12> blocks;
  std::array<std::array<Param<3>, 1>, 2> nested;
  std::tuple<BlockWeights<false>, BlockWeights<true>> mixed;
  std::array<Absent, 3> none;
  std::array<Param<2>, 0> zero;
  Param<5> last_1;
  Absent end;
};

struct WideWeights {  // the widest that is promised
  Param<1> a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t;
};

struct OnlyAbsentWeights {
  Absent a, b;
};
struct NothingWeights {};

template <class W>
std::vector<std::string> paths(W& weights) {
  std::vector<std::string> out;
  reflect::visit(weights, [&](std::string_view path, auto&) { out.emplace_back(path); });
  return out;
}

// Everything from the type alone.
static_assert(reflect::leaf_count<LinearWeights<4, 8>>() == 2);
static_assert(reflect::leaf_count<LinearWeights<4, 8, false>>() == 1);
static_assert(reflect::parameters<LinearWeights<4, 8>>() == 4 * 8 + 8);
static_assert(reflect::storage_floats<LinearWeights<4, 8>>() == 4 * 8 + 16);
static_assert(reflect::packed_floats<LinearWeights<4, 8>>(Format::fp32) == 32 * 4 + 16);
static_assert(reflect::packed_floats<LinearWeights<4, 8>>(Format::bf16) == 32 * 2 + 16);
static_assert(reflect::packed_floats<LinearWeights<4, 8>>(Format::int8) == 32 * 2 + 16);  // too small for 8 bits
static_assert(reflect::packed_floats<LinearWeights<256, 33>>(Format::int8) == 64 * (1 + 1 + 256 / 4) + 48);
static_assert(reflect::packed_floats<LinearWeights<4096, 64>>(Format::int8) == 64 * (1 + 2 + 4096 / 4) + 64);
static_assert(reflect::parameters<FeedForwardWeights>() == 40 + 20);
static_assert(reflect::parameters<BlockWeights<false>>() == 60);
static_assert(reflect::parameters<BlockWeights<true>>() == 4 + 16 + 20 + 60);
static_assert(reflect::parameters<ModelWeights>() == 12 * 100 + 2 * 3 + 60 + 100 + 5);
static_assert(reflect::leaf_count<ModelWeights>() == 12 * 8 + 2 + 4 + 8 + 1);
static_assert(reflect::parameters<const ModelWeights>() == reflect::parameters<ModelWeights>());
static_assert(reflect::leaf_count<WideWeights>() == 20);
static_assert(reflect::leaf_count<OnlyAbsentWeights>() == 0 && reflect::leaf_count<NothingWeights>() == 0);
static_assert(reflect::parameters<Param<2, 3>>() == 6 && reflect::leaf_count<Absent>() == 0);

TEST_CASE("reflect: names follow fields and elements in order", "[reflect]") {
  BlockWeights<true> block;
  CHECK(paths(block) == std::vector<std::string>{"norm1", "attn1.to_q.weight", "attn1.to_out.0.weight", "attn1.to_out.0.bias",
                                                 "ff.net.0.proj.weight", "ff.net.0.proj.bias", "ff.net.2.weight",
                                                 "ff.net.2.bias"});
  BlockWeights<false> pruned;
  CHECK(paths(pruned) ==
        std::vector<std::string>{"ff.net.0.proj.weight", "ff.net.0.proj.bias", "ff.net.2.weight", "ff.net.2.bias"});
}

TEST_CASE("reflect: arrays, tuples and absent parts nest", "[reflect]") {
  const ModelWeights model;
  const std::vector<std::string> all = paths(model);
  CHECK(all.size() == reflect::leaf_count<ModelWeights>());
  CHECK(std::set<std::string>(all.begin(), all.end()).size() == all.size());
  CHECK(all.front() == "blocks.0.norm1");
  CHECK(all[8 * 11 + 1] == "blocks.11.attn1.to_q.weight");
  CHECK(all[8 * 12] == "nested.0.0");
  CHECK(all[8 * 12 + 1] == "nested.1.0");
  CHECK(all[8 * 12 + 2] == "mixed.0.ff.net.0.proj.weight");
  CHECK(all[8 * 12 + 6] == "mixed.1.norm1");
  CHECK(all.back() == "last_1");
}

TEST_CASE("reflect: wide, empty and bare types", "[reflect]") {
  WideWeights wide;
  std::string joined;
  for (const std::string& p : paths(wide)) joined += p;
  CHECK(joined == "abcdefghijklmnopqrst");
  OnlyAbsentWeights absent;
  CHECK(paths(absent).empty());
  NothingWeights nothing;
  CHECK(paths(nothing).empty());
  Param<3> leaf;
  CHECK(paths(leaf) == std::vector<std::string>{""});
}

TEST_CASE("reflect: binding lays leafs out one after another", "[reflect]") {
  const AlignedBuffer blob(reflect::storage_floats<ModelWeights>());
  const auto model = reflect::bind<ModelWeights>(blob.data());
  const float* expected = blob.data();
  reflect::visit(model, [&](std::string_view, const auto& leaf) {
    CHECK(leaf.data == expected);
    CHECK(reinterpret_cast<std::uintptr_t>(leaf.data) % 64 == 0);
    expected += leaf.storage;
  });
  CHECK(expected == blob.data() + blob.size());
  CHECK(model.last_1.data == blob.data() + blob.size() - 16);
}

TEST_CASE("reflect: packed weights lie one after another in every format", "[reflect]") {
  for (const Format format : {Format::fp32, Format::bf16, Format::int8}) {
    const AlignedBuffer blob(reflect::packed_floats<ModelWeights>(format));
    ModelWeights model{};
    reflect::bind_packed(model, blob.data(), format);
    const float* expected = blob.data();
    for (const reflect::LeafView& leaf : reflect::leafs(model)) {
      CHECK(leaf.data() == expected);
      expected += leaf.type->packed_floats[static_cast<std::size_t>(format)];
    }
    CHECK(expected == blob.data() + blob.size());
  }
}

TEST_CASE("reflect: the visitor sees the leaf itself", "[reflect]") {
  float there = 0;
  LinearWeights<4, 8> linear;
  std::size_t matrices = 0;
  reflect::visit(linear, [&](std::string_view path, auto& leaf) {
    if (leaf.is_matrix) ++matrices;
    if (path == "bias") leaf.data = &there;
  });
  CHECK(matrices == 1);
  CHECK(linear.bias.data == &there);
  CHECK(linear.weight.data == nullptr);
}

}  // namespace

TEST_CASE("leafs are the visitor's, as values") {
  struct Model {
    LinearWeights<4, 8> linear;
    std::tuple<Param<3>, Absent, DepthwiseFilter<6, 3>> rest;
    Filter<5, 2, 3> filter;
  };
  const AlignedBuffer blob(reflect::storage_floats<Model>());
  Model model{};
  reflect::bind(model, blob.data());
  const auto leafs = reflect::leafs(model);
  REQUIRE(leafs.size() == reflect::leaf_count<Model>());
  std::size_t i = 0;
  reflect::visit(model, [&]<class Leaf>(std::string_view path, Leaf& leaf) {
    const reflect::LeafView& view = leafs[i++];
    CHECK(view.path == path);
    CHECK(view.data() == leaf.data);
    CHECK(view.type->count == Leaf::count);
    CHECK(view.type->storage == Leaf::storage);
    CHECK(
        std::equal(view.type->file_shape.begin(), view.type->file_shape.end(), Leaf::file_shape.begin(), Leaf::file_shape.end()));
    CHECK(view.type->outer * view.type->inner * view.type->taps == Leaf::count);
    CHECK(view.type->is_matrix == Leaf::is_matrix);
    CHECK(view.type->rows * view.type->columns == (Leaf::is_matrix ? Leaf::count : 0));
  });
  // They follow the weights to another place.
  const AlignedBuffer other(reflect::storage_floats<Model>());
  reflect::bind(model, other.data());
  CHECK(leafs.front().data() == other.data());
}
