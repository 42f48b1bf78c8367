// SPDX-License-Identifier: Apache-2.0
// Files of adapters in every form over a toy model: whose modules their names are, how strong they are, and every refusal.
// What merging gives: golden/test_golden_lora.cpp.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golden/ldm_names.hpp"
#include "mobilediffusion/core/memory.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/io/lora_file.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

namespace {

template <std::size_t Out, std::size_t In>
struct Linear {
  Matrix<Out, In> weight;
  Param<Out> bias;
};
template <std::size_t Out, std::size_t In, std::size_t K>
struct Convolution {
  Filter<Out, In, K> weight;
  Param<Out> bias;
};
struct Norm {
  Param<4> weight, bias;
};
struct Projection {
  Matrix<4, 6> weight;
};
struct Resnet {
  Norm norm1;
  Convolution<4, 4, 3> conv1;
  Linear<4, 8> time_emb_proj;
  Convolution<4, 4, 1> conv_shortcut;
};
struct CrossAttention {
  Projection to_k;
  std::array<Linear<4, 4>, 1> to_out;
};
struct Transformer {
  CrossAttention attn2;
};
struct Attention {
  Convolution<4, 4, 1> proj_in;
  std::array<Transformer, 1> transformer_blocks;
};
struct Sampler {
  Convolution<4, 4, 3> conv;
};
struct Level {
  std::array<Resnet, 2> resnets;
  std::array<Attention, 2> attentions;
  std::array<Sampler, 1> downsamplers;
};
struct Bottom {
  std::array<Resnet, 2> resnets;
};
struct TimeEmbedding {
  Linear<8, 4> linear_1, linear_2;
};
struct Depthwise {
  DepthwiseFilter<4, 3> weight;
};
struct Unet {
  TimeEmbedding time_embedding;
  std::tuple<Level, Bottom> down_blocks;
  Depthwise depthwise;
};
struct SelfAttention {
  Linear<4, 4> q_proj;
};
struct Layer {
  SelfAttention self_attn;
};
struct Layers {
  std::array<Layer, 1> layers;
};
struct TextModel {
  Layers encoder;
};
struct Text {
  TextModel text_model;
};
struct Toy {
  Text text_encoder;
  Unet unet;
};

// A file of adapters with random numbers.
struct File {
  TemporaryFolder folder;
  std::vector<std::vector<float>> memory;
  std::vector<TensorToWrite> tensors;
  std::filesystem::path path = folder / "adapter.safetensors";

  File& add(const std::string& name, std::vector<std::size_t> shape) {
    std::size_t n = 1;
    for (const std::size_t d : shape) n *= d;
    memory.emplace_back(n);
    Random(memory.size(), 3).normals(memory.back());
    tensors.push_back({.name = name, .shape = std::move(shape)});
    return *this;
  }
  File& add_number(const std::string& name, float value) {
    memory.push_back({value});
    tensors.push_back({.name = name, .shape = {}});
    return *this;
  }
  void write() {
    for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i].floats = memory[i];
    write_safetensors(path, tensors, {});
  }
  // The paths of the leafs that it changes, from zeros, and by how much.
  std::map<std::string, std::vector<float>> changes(float scale = 1.0f, std::optional<float> text_scale = {}) {
    write();
    const AlignedBuffer blob(reflect::storage_floats<Toy>());
    Toy weights = reflect::bind<Toy>(blob.data());
    const LoraFile file{path, scale, text_scale};
    const Executor ex(1);
    LoraMerge<Toy> merge(weights, std::span(&file, 1), ex);
    for (const reflect::LeafView& leaf : reflect::leafs(weights))
      if (leaf.type->is_matrix || leaf.type->taps > 1) {
        const std::vector<float> zeros(leaf.type->count);
        const auto merged = merge(leaf, zeros);
        std::copy(merged.begin(), merged.end(), leaf.data());
      }
    merge.finish();
    std::map<std::string, std::vector<float>> out;
    for (const reflect::LeafView& leaf : reflect::leafs(weights)) {
      const std::span<const float> values(leaf.data(), leaf.type->count);
      if (std::any_of(values.begin(), values.end(), [](float x) { return x != 0.0f; }))
        out.emplace(leaf.path, std::vector<float>(values.begin(), values.end()));
    }
    return out;
  }
  std::string refusal() {
    const std::string message = error_of([&] { changes(); });
    CHECK(message.find('\n') == std::string::npos);
    if (!message.empty()) expect(message, "adapter.safetensors");
    return message;
  }
};
std::string underscored(std::string path) {
  std::replace(path.begin(), path.end(), '.', '_');
  return path;
}

}  // namespace

TEST_CASE("an adapter's product is the sum of its factors, the same bytes on any number of threads") {
  constexpr std::size_t n = 37, m = 8333;  // enough for several threads
  for (const std::size_t k : {1, 6, 64}) {
    CAPTURE(k);
    std::vector<float> a(n * k), b(k * m), c(n * m);
    Random(1, k).normals(a);
    Random(2, k).normals(b);
    Random(3, k).normals(c);
    std::vector<float> alone = c;
    mobilediffusion::detail::add_product(0.5f, a.data(), b.data(), n, k, m, alone.data());
    double worst = 0;
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < m; ++j) {
        double sum = 0;
        for (std::size_t r = 0; r < k; ++r) sum += static_cast<double>(a[i * k + r]) * static_cast<double>(b[r * m + j]);
        worst = std::max(worst, std::fabs(static_cast<double>(c[i * m + j]) + 0.5 * sum - static_cast<double>(alone[i * m + j])));
      }
    CHECK(worst < 2e-5);
    for (const int threads : {1, 2, 5}) {
      std::vector<float> shared = c;
      mobilediffusion::detail::add_product(Executor::oversubscribed(threads), 0.5f, a.data(), b.data(), n, k, m, shared.data());
      CHECK(shared == alone);
    }
  }
}

TEST_CASE("adapters find each kind of module, under the names of diffusers and of the LDM layout", "[lora]") {
  struct Place {
    std::string path, ldm;
    std::vector<std::size_t> down, up;
  };
  const std::vector<Place> places{
      {"down_blocks.0.resnets.0.conv1", "input_blocks.1.0.in_layers.2", {2, 4, 3, 3}, {4, 2, 1, 1}},
      {"down_blocks.0.resnets.1.conv_shortcut", "input_blocks.2.0.skip_connection", {1, 4, 1, 1}, {4, 1, 1, 1}},
      {"down_blocks.1.resnets.1.time_emb_proj", "input_blocks.5.0.emb_layers.1", {2, 8}, {4, 2}},
      {"down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op", {1, 4, 3, 3}, {4, 1, 1, 1}},
      {"down_blocks.0.attentions.1.proj_in", "input_blocks.2.1.proj_in", {3, 4}, {4, 3}},
      {"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
       "input_blocks.1.1.transformer_blocks.0.attn2.to_k",
       {1, 6},
       {4, 1}},
      {"time_embedding.linear_1", "time_embed.0", {2, 4}, {8, 2}},
  };
  for (const Place& p : places) {
    INFO(p.path);
    std::vector<std::map<std::string, std::vector<float>>> all;
    for (const auto& [name, down, up] : {std::array<std::string, 3>{"unet." + p.path, ".lora_A.weight", ".lora_B.weight"},
                                         {p.path, ".lora.down.weight", ".lora.up.weight"},
                                         {"lora_unet_" + underscored(p.path), ".lora_down.weight", ".lora_up.weight"},
                                         {"lora_unet_" + underscored(p.ldm), ".lora_down.weight", ".lora_up.weight"}})
      all.push_back(File().add(name + down, p.down).add(name + up, p.up).changes());
    REQUIRE(all[0].size() == 1);
    CHECK(all[0].begin()->first == "unet." + p.path + ".weight");
    for (const auto& other : all) CHECK(other == all[0]);
  }
}

TEST_CASE("every module of the published UNets is found under kohya's names over those of the LDM layout", "[lora]") {
  struct Named {
    std::string name;
  };
  constexpr std::string_view front = "model.diffusion_model.", end = ".weight";
  for (const std::string section :
       {"sd15", "bk_sdm_base", "bk_sdm_tiny", "bk_sdm_base by script", "bk_sdm_tiny by script", "sdxl"}) {
    INFO(section);
    std::vector<reflect::LeafView> leafs;
    std::vector<Named> names;
    std::vector<std::string> expected;
    for (const ldm_names::Line& line : ldm_names::list(section)) {
      if (!line.ldm.starts_with(front)) continue;
      leafs.push_back({"unet." + line.diffusers, nullptr, nullptr});
      if (!line.ldm.ends_with(end)) continue;
      const std::string module = line.ldm.substr(front.size(), line.ldm.size() - front.size() - end.size());
      names.push_back({"lora_unet_" + underscored(module) + ".lora_down.weight"});
      expected.push_back("unet." + line.diffusers);
    }
    REQUIRE(names.size() > 100);
    const detail::LoraModules modules(leafs, names);
    std::size_t found = 0;
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto* const m = modules.find(detail::parse_lora_name(names[i].name)->module);
      found += m != nullptr && leafs[m->weight].path == expected[i];
    }
    CHECK(found == names.size());
  }
}

TEST_CASE("the text encoder may have a scale of its own", "[lora]") {
  File file;
  file.add("lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", {2, 4});
  file.add("lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight", {4, 2});
  const std::string path = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.weight";
  const auto whole = file.changes();
  REQUIRE(whole.size() == 1);  // a file for the text encoder alone
  REQUIRE(whole.contains(path));
  file.add("lora_unet_time_embedding_linear_1.lora_down.weight", {1, 4});
  file.add("lora_unet_time_embedding_linear_1.lora_up.weight", {8, 1});
  const auto both = file.changes(1.0f, 0.5f);
  REQUIRE(both.size() == 2);
  for (std::size_t i = 0; i < 16; ++i) CHECK(both.at(path)[i] == Approx(0.5f * whole.at(path)[i]));
  CHECK(file.changes(0.5f).at(path) == both.at(path));
  CHECK_FALSE(file.changes(1.0f, 0.0f).contains(path));
  CHECK(file.changes(0.0f, 0.5f).size() == 1);
}

TEST_CASE("differences are added to weights of every kind and to biases", "[lora]") {
  File file;
  file.add("lora_unet_down_blocks_0_resnets_0_norm1.w_norm", {4}).add("lora_unet_down_blocks_0_resnets_0_norm1.b_norm", {4});
  file.add("lora_unet_down_blocks_0_resnets_0_conv1.diff_b", {4});
  file.add("unet.depthwise.diff", {4, 1, 3, 3});
  const auto changes = file.changes(2.0f);
  REQUIRE(changes.size() == 4);
  const auto twice = [&](std::size_t i) {
    std::vector<float> out = file.memory[i];
    for (float& x : out) x *= 2.0f;
    return out;
  };
  CHECK(changes.at("unet.down_blocks.0.resnets.0.norm1.weight") == twice(0));
  CHECK(changes.at("unet.down_blocks.0.resnets.0.norm1.bias") == twice(1));
  CHECK(changes.at("unet.down_blocks.0.resnets.0.conv1.bias") == twice(2));
  const auto depthwise = changes.at("unet.depthwise.weight"), in_file = twice(3);
  for (std::size_t c = 0; c < 4; ++c)
    for (std::size_t t = 0; t < 9; ++t) CHECK(depthwise[t * 4 + c] == in_file[c * 9 + t]);
}

TEST_CASE("what files of adapters hold besides is refused by its name", "[lora]") {
  const std::string conv = "lora_unet_down_blocks_0_resnets_0_conv1", key = "lora_unet_time_embedding_linear_1",
                    norm = "lora_unet_down_blocks_0_resnets_0_norm1";
  const auto with = [&](const std::string& name, std::vector<std::size_t> shape) {
    return File()
        .add(conv + ".lora_down.weight", {2, 4, 3, 3})
        .add(conv + ".lora_up.weight", {4, 2, 1, 1})
        .add(name, std::move(shape))
        .refusal();
  };
  CHECK(with(conv + ".diff_b", {4}) == "");
  // Other methods.
  expect(with(key + ".oft_blocks", {2, 2}), ".oft_blocks\": OFT: not supported");
  expect(with(key + ".boft_R", {2, 2}), "BOFT: not supported");
  expect(with("unet.time_embedding.linear_1.ia3_l.weight", {8}), "(IA)^3: not supported");
  expect(with("bundle_emb.cat.string_to_param.*", {1, 4}), "textual inversion inside an adapter: not supported");
  expect(with("text_encoder.embeddings.lora_embedding_A", {1, 4}), "adapters of embeddings: not supported");
  // Other models.
  for (const char* front : {"lora_te1_", "lora_te2_"})
    expect(with(front + std::string("text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight"), {2, 4}),
           "belongs to Stable Diffusion XL, which has two text encoders; this model has one");
  expect(with("text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight", {2, 4}), "Stable Diffusion XL");
  const std::string to_k = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";
  expect(with(to_k + ".lora_down.weight", {1, 2048}) + with(to_k + ".lora_up.weight", {4, 1}), "missing beside its partner");
  expect(File().add(to_k + ".lora_down.weight", {1, 2048}).add(to_k + ".lora_up.weight", {4, 1}).refusal(),
         "expected shape [1, 6], found [1, 2048]; it was made for a model that reads text of width 2048 (Stable Diffusion XL), "
         "this one's is 6");
  expect(
      File().add("lora_unet_input_blocks_7_1_transformer_blocks_9_attn2_to_k.lora_down.weight", {1, 768}).refusal(),
      "of a matrix of the model; it was made for a model that reads text of width 768 (Stable Diffusion 1.x), this one's is 6");
  expect(with("lora_transformer_single_blocks_0.lora_down.weight", {1, 4}), "of a matrix of the model");
  // Places.
  expect(with(to_k + ".diff_b", {4}), "the model has no bias there");
  expect(File().add(norm + ".lora_down.weight", {1, 4}).add(norm + ".lora_up.weight", {4, 1}).refusal(),
         "expected the weight of a linear layer or convolution to be adapted, found unet.down_blocks.0.resnets.0.norm1.weight");
  expect(with("unet.down_blocks.0.resnets.0.conv1.lora_A.weight", {2, 4, 3, 3}), "stands for the same as tensor");
  expect(with(conv + ".diff", {4, 4, 3, 3}), "its module is changed in two ways at once");
  expect(with(conv + ".hada_w1_a", {4, 2}), "its module is changed in two ways at once");
  // Incomplete ones.
  expect(with(key + ".lora_up.weight", {8, 2}), key + ".lora_down.weight\": missing beside its partner");
  expect(with(key + ".lora_mid.weight", {2, 2, 3, 3}), "there are no factors beside it");
  expect(with("unet.time_embedding.linear_1.lora_B.bias", {8}), "there are no factors beside it");
  expect(with(key + ".alpha", {}), "there are no factors beside it");
  expect(with(key + ".dora_scale", {8, 1}), "there are no factors beside it");
  expect(with(key + ".hada_w1_a", {8, 2}), key + ".hada_w1_b\": missing beside its partners");
  expect(with(key + ".lokr_w1", {2, 2}), key + ".lokr_w2_a\": missing beside its partners");
  expect(with(key + ".lokr_w2", {4, 2}), key + ".lokr_w1_a\": missing beside its partners");
  // Shapes.
  expect(with(conv + ".alpha", {2}), "expected one number, found shape [2]");
  expect(with(conv + ".dora_scale", {4, 2}), "expected shape [4], found [4, 2]");
  expect(with(conv + ".dora_scale", {1, 3}), "expected shape [1, 4], found [1, 3]");
  expect(with(conv + ".lora_mid.weight", {2, 2, 3, 3}), "lora_down.weight\": expected shape [2, 4], found [2, 4, 3, 3]");
  expect(with(conv + ".lora_up.bias", {3}), "expected shape [4], found [3]");
  expect(with(key + ".diff", {4, 8}), "expected shape [8, 4], found [4, 8]");
  expect(File().add(conv + ".lora_down.weight", {2, 4}).add(conv + ".lora_up.weight", {4, 2}).refusal(),
         "expected shape [2, 4, 3, 3], found [2, 4]");
  const auto hada = [&](std::vector<std::size_t> b) {
    return File()
        .add(conv + ".hada_w1_a", {4, 2})
        .add(conv + ".hada_w1_b", {2, 36})
        .add(conv + ".hada_w2_a", {4, 2})
        .add(conv + ".hada_w2_b", std::move(b))
        .refusal();
  };
  CHECK(hada({2, 36}) == "");
  CHECK(hada({2, 4, 3, 3}) == "");
  expect(hada({2, 35}), "hada_w2_b\": expected shape [2, 36], found [2, 35]");
  expect(hada({0, 36}), "hada_w2_a\": expected shape [4, 0], found [4, 2]");
  const auto kron = [&](std::vector<std::size_t> w1, std::vector<std::size_t> w2) {
    return File().add(conv + ".lokr_w1", std::move(w1)).add(conv + ".lokr_w2", std::move(w2)).refusal();
  };
  CHECK(kron({2, 2}, {2, 2, 3, 3}) == "");
  expect(kron({3, 2}, {2, 2, 3, 3}), "lokr_w1\": expected a shape that divides 4 x 4, found 3 x 2");
  expect(kron({0, 2}, {2, 2, 3, 3}), "expected a shape that divides");
  expect(kron({2, 2}, {2, 2}), "lokr_w2\": expected shape [2, 2, 3, 3], found [2, 2]");
  // Numbers.
  for (const float alpha : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN()})
    expect(File()
               .add(conv + ".lora_down.weight", {2, 4, 3, 3})
               .add(conv + ".lora_up.weight", {4, 2, 1, 1})
               .add_number(conv + ".alpha", alpha)
               .refusal(),
           "alpha: expected a number above 0 for unet.down_blocks.0.resnets.0.conv1.weight");
  File nan;
  nan.add(conv + ".diff_b", {4});
  nan.memory[0][2] = std::numeric_limits<float>::infinity();
  expect(nan.refusal(), "diff_b\": expected finite numbers");
  // What can be merged, but not trained on.
  File merged;
  merged.add(conv + ".diff_b", {4}).write();
  expect(error_of([&] { read_lora<Toy>(merged.path); }), "expected low-rank factors alone, found another change");
}
