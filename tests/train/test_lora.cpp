// SPDX-License-Identifier: Apache-2.0
// Low-rank adapters at toy size: their gradients, what they change and what not, their files, and that a handful is learnt.
#include <array>
#include <cmath>
#include <limits>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/pipeline.hpp>
#include <mobilediffusion/train/lora_trainer.hpp>
#include <vector>

#include "../io/temporary_folder.hpp"
#include "../pipeline/model_files.hpp"
#include "train/toy_data.hpp"
#include "train/trainer_checks.hpp"

namespace test_lora_cpp {

using namespace mobilediffusion;

namespace {

using Trainer = train::LoraTrainer<presets::tiny>;
using Weights = train::DiffusionWeights<presets::tiny>;
using Whole = ModelWeights<presets::tiny>;
using Data = trainer_tests::ToyData<presets::tiny>;

struct Base {
  gradient_tests::Bound<Weights> weights;
  Base() { gradient_tests::randomize(*weights, 4); }
};

train::LoraTrainerOptions options(std::size_t batch, std::size_t micro_batch) {
  train::LoraTrainerOptions o;
  o.batch = batch;
  o.micro_batch = micro_batch;
  o.optimizer.schedule = {.peak = 2e-2f, .warmup_steps = 5};
  o.noise_share = 0.3f;
  return o;
}

// Every kind of matrix that can be adapted, in both parts.
bool everything(std::string_view) { return true; }

// B is not zero any more.
void fill(const Lora& lora, std::uint64_t seed, float scale = 0.3f) {
  for (const LoraPair& p : lora.pairs()) {
    const std::span<float> b(p.b, p.rank * p.type->rows);
    Random(seed++, 1).normals(b);
    for (float& x : b) x *= scale;
  }
}
bool equal(const Lora& a, const Lora& b) {
  if (a.pairs().size() != b.pairs().size()) return false;
  for (std::size_t i = 0; i < a.pairs().size(); ++i)
    if (a.pairs()[i].path != b.pairs()[i].path || a.pairs()[i].type != b.pairs()[i].type ||
        a.pairs()[i].rank != b.pairs()[i].rank || a.pairs()[i].alpha != b.pairs()[i].alpha)
      return false;
  return std::equal(a.memory().data(), a.memory().data() + a.memory().size(), b.memory().data());
}

}  // namespace

TEST_CASE("adapters are made for the projections of the UNet's attentions, or for what is asked", "[lora]") {
  const Lora lora = make_lora<Weights>({.rank = 4, .alpha = 2.0f});
  Weights weights{};
  std::size_t expected = 0, parameters = 0;
  for (const reflect::LeafView& leaf : reflect::leafs(weights))
    if (contains(leaf.path, "unet.") && contains(leaf.path, ".attn") && leaf.type->is_matrix) {
      ++expected;
      parameters += 4 * (leaf.type->rows + leaf.type->columns);
    }
  REQUIRE(expected > 10);
  CHECK(lora.pairs().size() == expected);
  CHECK(lora.parameters() == parameters);
  double sum = 0;
  for (const LoraPair& p : lora.pairs()) {
    CHECK(std::all_of(p.b, p.b + 4 * p.type->rows, [](float x) { return x == 0.0f; }));
    for (std::size_t i = 0; i < 4 * p.type->columns; ++i)
      sum += static_cast<double>(p.a[i]) * static_cast<double>(p.a[i]) * static_cast<double>(p.type->columns);
  }
  std::size_t values = 0;
  for (const LoraPair& p : lora.pairs()) values += 4 * p.type->columns;
  CHECK(sum / static_cast<double>(values) == Approx(1.0).epsilon(0.1));
  CHECK(equal(lora, make_lora<Weights>({.rank = 4, .alpha = 2.0f})));
  CHECK_FALSE(equal(lora, make_lora<Weights>({.rank = 4, .alpha = 2.0f, .seed = 2})));

  const Lora text = make_lora<Weights>({.rank = 2}, [](std::string_view path) { return path.ends_with("mlp.fc1.weight"); });
  CHECK(text.pairs().size() == presets::tiny.text.layers);
  const Lora all = make_lora<Weights>({.rank = 1}, everything);
  CHECK(all.pairs().size() > expected + 10);
  for (const LoraPair& p : all.pairs()) CHECK(p.type->taps == 1);

  expect(error_of([] { make_lora<Weights>({.rank = 0}); }), "rank: expected 1 to ");
  expect(error_of([] { make_lora<Weights>({.rank = 17}); }), "to_q.weight, found 17");
  expect(error_of([] { make_lora<Weights>({.alpha = 0.0f}); }), "alpha: expected a number above 0");
  expect(error_of([] { make_lora<Weights>({.alpha = std::numeric_limits<float>::infinity()}); }), "alpha: expected a number");
  expect(error_of([] { make_lora<Weights>({}, [](std::string_view) { return false; }); }), "expected at least one matrix");
}

TEST_CASE("the loss has its gradient in A and in B, of every kind of matrix, whatever the micro-batch", "[lora]") {
  const Executor ex(2);
  const Data data;
  const Base base;
  const auto pictures = data.batch(8);
  const auto ids = data.tokens(8);
  std::vector<float> whole;
  for (const std::size_t micro_batch : {std::size_t{8}, std::size_t{4}}) {
    Trainer trainer(ex, options(8, micro_batch), *base.weights, make_lora<Weights>({.rank = 1, .alpha = 2.0f}, everything));
    const Lora& lora = trainer.lora;
    fill(lora, 40);
    const auto loss = [&] { return static_cast<double>(trainer.gradients(pictures, ids.data(), data.unconditional.data())); };
    loss();
    const std::size_t n = lora.memory().size();
    const std::vector<float> g(trainer.gradient().data(), trainer.gradient().data() + n);
    if (micro_batch == 4) {
      for (std::size_t i = 0; i < n; ++i) CHECK(g[i] == Approx(whole[i]).epsilon(1e-3).margin(1e-5));
      continue;
    }
    whole = g;
    const std::vector<float> kept(lora.memory().data(), lora.memory().data() + n);
    // Along the gradient of all, of A alone, of B alone, and of each pair.
    const auto probe = [&](const std::string& name, auto&& includes) {
      std::vector<double> d(n);
      double norm2 = 0;
      for (std::size_t k = 0; k < lora.pairs().size(); ++k) {
        const LoraPair& p = lora.pairs()[k];
        for (const bool is_a : {true, false}) {
          const float* const from = is_a ? p.a : p.b;
          const std::size_t at = static_cast<std::size_t>(from - lora.memory().data()),
                            count = p.rank * (is_a ? p.type->columns : p.type->rows);
          for (std::size_t i = at; i < at + count && includes(k, is_a); ++i) {
            d[i] = static_cast<double>(g[i]);
            norm2 += d[i] * d[i];
          }
        }
      }
      INFO(name);
      CHECK(norm2 > 0.0);
      const double norm = std::sqrt(norm2), h = 0.005;
      const auto at = [&](double s) {
        for (std::size_t i = 0; i < n; ++i)
          lora.memory().data()[i] = static_cast<float>(static_cast<double>(kept[i]) + s * d[i] / norm);
        return loss();
      };
      const double numeric = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
      at(0.0);
      CHECK(std::fabs(numeric - norm) <= 0.01 * norm + 2e-5);
    };
    probe("all", [](std::size_t, bool) { return true; });
    probe("A", [](std::size_t, bool is_a) { return is_a; });
    probe("B", [](std::size_t, bool is_a) { return !is_a; });
    for (std::size_t k = 0; k < lora.pairs().size(); k += 3)
      probe(lora.pairs()[k].path, [=](std::size_t i, bool) { return i == k; });
  }
}

TEST_CASE("a new adapter changes no bit of what the model puts out, and training leaves the model as it is", "[lora]") {
  const Executor ex(2);
  const Data data;
  const Base base;
  const auto pictures = data.batch(8);
  const auto ids = data.tokens(8);
  const auto floats = (*base.weights).unet.conv_in.weight.data;
  const std::vector<float> before(base.weights.memory().data(), base.weights.memory().data() + base.weights.memory().size());
  Trainer trainer(ex, options(8, 4), *base.weights, make_lora<Weights>({.rank = 4}, everything));
  const auto with = reflect::leafs(trainer.weights());
  Weights plain = *base.weights;
  const auto without = reflect::leafs(plain);
  std::size_t own = 0;
  for (std::size_t i = 0; i < with.size(); ++i) {
    own += with[i].data() != without[i].data();
    CHECK(std::equal(with[i].data(), with[i].data() + with[i].type->count, without[i].data()));
  }
  CHECK(own == trainer.lora.pairs().size());
  CHECK(trainer.weights().unet.conv_in.weight.data == floats);  // only what is adapted is copied
  // dA is zero at B = 0, dB is not.
  trainer.gradients(pictures, ids.data(), data.unconditional.data());
  for (const LoraPair& p : trainer.lora.pairs()) {
    CAPTURE(p.path);
    const float *da = trainer.gradient().data() + (p.a - trainer.lora.memory().data()),
                *db = trainer.gradient().data() + (p.b - trainer.lora.memory().data());
    CHECK(std::all_of(da, da + 4 * p.type->columns, [](float x) { return x == 0.0f; }));
    CHECK(std::any_of(db, db + 4 * p.type->rows, [](float x) { return x != 0.0f; }));
  }
  trainer.step(pictures, ids.data(), data.unconditional.data());
  CHECK(std::equal(before.begin(), before.end(), base.weights.memory().data()));
  std::size_t changed = 0;
  for (std::size_t i = 0; i < with.size(); ++i)
    changed += !std::equal(with[i].data(), with[i].data() + with[i].type->count, without[i].data());
  CHECK(changed == trainer.lora.pairs().size());
}

TEST_CASE("a handful of pictures is learnt, the same on any number of threads", "[lora]") {
  const Data data;
  const Base base;
  const auto pictures = data.batch(8);
  const auto ids = data.tokens(8);
  const auto train = [&](int threads, std::size_t steps, float& first, float& last) {
    const Executor ex = Executor::oversubscribed(threads);
    Trainer trainer(ex, options(8, 4), *base.weights, make_lora<Weights>({.rank = 8}));
    const auto mean = [&](std::size_t n) {
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i)
        sum += static_cast<double>(trainer.step(pictures, ids.data(), data.unconditional.data()).loss);
      return static_cast<float>(sum / static_cast<double>(n));
    };
    first = mean(5);
    if (steps > 10) mean(steps - 10);
    last = mean(5);
    CHECK(trainer.step_count == std::max<std::size_t>(steps, 10));
    return std::move(trainer.lora);
  };
  float first = 0, last = 0, ignored = 0;
  train(2, 100, first, last);
  CHECK(last < 0.75f * first);
  const Lora one = train(1, 10, first, ignored), three = train(3, 10, last, ignored), two = train(2, 10, ignored, ignored);
  CHECK(equal(one, two));
  CHECK(equal(one, three));
}

TEST_CASE("merging adds scale alpha / rank B A, and takes it away again", "[lora]") {
  const Base base;
  const std::vector<float> before(base.weights.memory().data(), base.weights.memory().data() + base.weights.memory().size());
  gradient_tests::Bound<Weights> merged;
  std::copy(before.begin(), before.end(), merged.memory().data());
  const Lora lora = make_lora<Weights>({.rank = 2, .alpha = 3.0f}, everything);
  fill(lora, 50);
  merge_lora(*merged, lora, 0.5f);
  const auto leafs = reflect::leafs(*merged);
  Weights plain = *base.weights;
  const auto old = reflect::leafs(plain);
  std::size_t adapted = 0;
  double worst = 0;
  for (std::size_t k = 0; k < leafs.size(); ++k) {
    const auto pair =
        std::find_if(lora.pairs().begin(), lora.pairs().end(), [&](const LoraPair& p) { return p.path == leafs[k].path; });
    if (pair == lora.pairs().end()) {
      CHECK(std::equal(leafs[k].data(), leafs[k].data() + leafs[k].type->count, old[k].data()));
      continue;
    }
    ++adapted;
    for (std::size_t i = 0; i < pair->type->rows; ++i)
      for (std::size_t j = 0; j < pair->type->columns; ++j) {
        double expected = static_cast<double>(old[k].data()[i * pair->type->columns + j]);
        for (std::size_t r = 0; r < 2; ++r)
          expected += 0.75 * static_cast<double>(pair->b[i * 2 + r]) * static_cast<double>(pair->a[r * pair->type->columns + j]);
        worst = std::max(worst, std::fabs(expected - static_cast<double>(leafs[k].data()[i * pair->type->columns + j])));
      }
  }
  CHECK(adapted == lora.pairs().size());
  CHECK(worst < 1e-6);
  merge_lora(*merged, lora, -0.5f);
  CHECK(gradient_tests::relative_error(merged.memory().data(), before.data(), before.size()) < 1e-6);

  gradient_tests::Bound<Vae<presets::tiny.vae>::Weights> foreign;
  expect(error_of([&] { merge_lora(*foreign, lora); }), "no such matrix: text_encoder.");
}

TEST_CASE("a file of adapters comes back as it was, and drawing with it is drawing with merged weights", "[lora]") {
  const TemporaryFolder folder;
  const auto path = folder / "style.safetensors", model = folder / "tiny.safetensors";
  const Lora lora = make_lora<Weights>({.rank = 3, .alpha = 5.0f}, everything);
  fill(lora, 60);
  write_lora(path, lora, Dtype::f32, {{"note", "a test"}});
  CHECK(equal(read_lora<Weights>(path), lora));
  CHECK(equal(read_lora<Whole>(path), lora));
  const SafetensorsFile file(path);
  CHECK(file.metadata().at("rank") == "3");
  CHECK(file.metadata().at("alpha") == "5");
  CHECK(file.metadata().at("note") == "a test");
  const auto shape = [&](const char* name) {
    const TensorView* t = file.find(name);
    REQUIRE(t != nullptr);
    return std::vector<std::size_t>(t->shape.begin(), t->shape.end());
  };
  using Shape = std::vector<std::size_t>;
  CHECK(shape("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_kv.lora_A.weight") == Shape{3, 16});
  CHECK(shape("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_kv.lora_B.weight") == Shape{24, 3});
  CHECK(shape("unet.mid_block.attentions.0.proj_in.lora_A.weight") == Shape{3, 24, 1, 1});
  CHECK(shape("unet.mid_block.attentions.0.proj_in.lora_B.weight") == Shape{24, 3, 1, 1});

  model_files::RandomModel<presets::tiny> random;
  random.write(model);
  const Request cat{.prompt = "a blue cat", .seed = 3};
  const Image plain = TextToImage<presets::tiny>(model, 1).generate(cat);
  for (const float scale : {1.0f, -0.5f}) {
    model_files::RandomModel<presets::tiny> merged;
    merge_lora(merged.weights, lora, scale);
    merged.write(folder / "merged.safetensors");
    const Image expected = TextToImage<presets::tiny>(folder / "merged.safetensors", 1).generate(cat);
    CHECK(expected != plain);
    CHECK(TextToImage<presets::tiny>(model, {{path, scale}}, 1).generate(cat) == expected);
    CHECK(ImageToImage<presets::tiny>(model, {{path, scale}}, 1).generate(cat) == expected);
  }
  CHECK(TextToImage<presets::tiny>(model, {{path, 0.0f}}, 1).generate(cat) == plain);
  expect(error_of([&] { TextToImage<presets::tiny> unused(model, {{path, 3e38f}}, 1); }), "expected finite numbers once merged");
  // Two at once: the same one twice is once with twice the scale, up to rounding.
  const Image once = TextToImage<presets::tiny>(model, {{path, 0.5f}}, 1).generate(cat),
              twice = TextToImage<presets::tiny>(model, {{path, 0.25f}, {path, 0.25f}}, 1).generate(cat);
  CHECK(psnr(once, twice) > 40.0f);
  CHECK(psnr(once, plain) < 40.0f);

  write_lora(folder / "half.safetensors", lora, Dtype::f16);
  const Lora half = read_lora<Weights>(folder / "half.safetensors");
  CHECK(gradient_tests::relative_error(half.memory().data(), lora.memory().data(), lora.memory().size()) < 1e-3);
}

namespace {

// A file of adapters in any grammar, and what it must add to a matrix.
struct Grammar {
  TemporaryFolder folder;
  std::vector<std::vector<float>> memory;
  std::vector<TensorToWrite> tensors;
  Metadata metadata;
  std::filesystem::path path = folder / "adapter_model.safetensors";

  std::span<const float> add(const std::string& name, std::vector<std::size_t> shape) {
    std::size_t n = 1;
    for (const std::size_t d : shape) n *= d;
    memory.emplace_back(n);
    Random(memory.size(), 3).normals(memory.back());
    tensors.push_back({.name = name, .shape = std::move(shape), .floats = memory.back()});
    return memory.back();
  }
  void add_number(const std::string& name, float value) {
    memory.push_back({value});
    tensors.push_back({.name = name, .shape = {}, .floats = memory.back()});
  }
  Lora read() const {
    write_safetensors(path, tensors, metadata);
    return read_lora<Whole>(path);
  }
  std::string refusal() const {
    return error_of([&] { read(); });
  }
};
// The matrix that merging adds, against B A times a factor; a [rank][columns] and b [rows][rank] in the file's order.
bool adds(const Lora& lora, const std::string& path, std::size_t rank, float factor, std::span<const float> a,
          std::span<const float> b) {
  const auto p = std::find_if(lora.pairs().begin(), lora.pairs().end(), [&](const LoraPair& x) { return x.path == path; });
  if (p == lora.pairs().end() || p->rank != rank) return false;
  std::vector<float> found(p->type->count), expected(p->type->count);
  Lora::add_to(*p, 1.0f, found.data());
  const std::size_t columns = p->type->columns, taps = p->type->taps, inner = columns / taps;
  for (std::size_t o = 0; o < p->type->rows; ++o)
    for (std::size_t i = 0; i < inner; ++i)
      for (std::size_t t = 0; t < taps; ++t)
        for (std::size_t r = 0; r < rank; ++r)
          expected[(o * taps + t) * inner + i] += factor * b[o * rank + r] * a[(r * inner + i) * taps + t];
  return gradient_tests::relative_error(found.data(), expected.data(), found.size()) < 1e-5;
}

const std::string to_q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
                  to_out = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0",
                  q_proj = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
                  conv = "unet.down_blocks.0.resnets.0.conv1";
std::string kohya(std::string path) {  // as its networks/lora.py
  path.replace(0, path.find('.'), path.starts_with("unet") ? "lora_unet" : "lora_te");
  std::replace(path.begin(), path.end(), '.', '_');
  return path;
}

}  // namespace

TEST_CASE("adapters are read in every grammar, each matrix with a rank and a strength of its own", "[lora]") {
  struct Spelling {
    std::string q, out, text, down, up;  // names of the same three matrices, and endings
  };
  const std::string attention = to_q.substr(0, to_q.size() - 5);
  const auto bare = [](const std::string& path) { return path.substr(path.find('.') + 1); };
  const std::vector<Spelling> spellings{
      {to_q, to_out, q_proj, ".lora_A.weight", ".lora_B.weight"},
      {to_q, to_out, q_proj, ".lora.down.weight", ".lora.up.weight"},
      {to_q, to_out, q_proj, ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"},
      {bare(to_q), bare(to_out), bare(q_proj), ".lora_A.weight", ".lora_B.weight"},
      {to_q, to_out, "text_encoder.encoder.layers.0.self_attn.q_proj", ".lora_A.default.weight", ".lora_B.default.weight"},
      {attention + ".processor.to_q", attention + ".processor.to_out", "text_encoder.text_model.encoder.layers.0.self_attn.to_q",
       "_lora.down.weight", "_lora.up.weight"},
      {bare(attention) + ".processor.to_q", bare(attention) + ".processor.to_out", q_proj, "_lora.down.weight",
       "_lora.up.weight"},
      {kohya(to_q), kohya(to_out), kohya(q_proj), ".lora_down.weight", ".lora_up.weight"},
  };
  for (const Spelling& s : spellings) {
    INFO(s.q << s.down);
    Grammar file;
    file.memory.reserve(16);
    const auto qa = file.add(s.q + s.down, {2, 24}), qb = file.add(s.q + s.up, {24, 2});
    const auto oa = file.add(s.out + s.down, {1, 24}), ob = file.add(s.out + s.up, {24, 1});
    const auto ta = file.add(s.text + s.down, {5, 16}), tb = file.add(s.text + s.up, {16, 5});
    const Lora plain = file.read();
    CHECK(plain.pairs().size() == 3);
    CHECK(adds(plain, to_q + ".weight", 2, 1.0f, qa, qb));
    CHECK(adds(plain, to_out + ".weight", 1, 1.0f, oa, ob));
    CHECK(adds(plain, q_proj + ".weight", 5, 1.0f, ta, tb));
    // Each alpha counts for its own matrix.
    file.add_number(s.q + ".alpha", 0.5f);
    const Lora weaker = file.read();
    CHECK(adds(weaker, to_q + ".weight", 2, 0.25f, qa, qb));
    CHECK(adds(weaker, to_out + ".weight", 1, 1.0f, oa, ob));
    // What is written again is the same.
    write_lora(file.folder / "again", weaker);
    CHECK(equal(read_lora<Whole>(file.folder / "again"), weaker));
  }
}

TEST_CASE("adapters of convolutions are read and merged", "[lora]") {
  for (const bool by_kohya : {false, true}) {
    Grammar file;
    file.memory.reserve(8);
    const std::string name = by_kohya ? kohya(conv) : conv;
    const auto a = file.add(name + (by_kohya ? ".lora_down.weight" : ".lora_A.weight"), {2, 8, 3, 3});
    const auto b = file.add(name + (by_kohya ? ".lora_up.weight" : ".lora_B.weight"), {8, 2, 1, 1});
    file.add_number(name + ".alpha", 1.0f);
    const Lora lora = file.read();
    CHECK(adds(lora, conv + ".weight", 2, 0.5f, a, b));
    write_lora(file.folder / "again", lora);
    CHECK(equal(read_lora<Whole>(file.folder / "again"), lora));
  }
}

TEST_CASE("PEFT's configuration says how strong an adapter is, in the metadata or beside the file", "[lora]") {
  Grammar file;
  file.memory.reserve(8);
  const auto a = file.add(to_q + ".lora_A.weight", {4, 24}), b = file.add(to_q + ".lora_B.weight", {24, 4});
  const auto oa = file.add(to_out + ".lora_A.weight", {2, 24}), ob = file.add(to_out + ".lora_B.weight", {24, 2});
  const auto with = [&](const char* text) {
    file.metadata["lora_adapter_metadata"] = text;
    return file.read();
  };
  CHECK(adds(with(R"({"unet.r": 4, "unet.lora_alpha": 1})"), to_q + ".weight", 4, 0.25f, a, b));
  CHECK(adds(with(R"({"unet.r": 4, "unet.lora_alpha": 1})"), to_out + ".weight", 2, 0.5f, oa, ob));
  CHECK(adds(with(R"({"r": 4, "lora_alpha": 2})"), to_q + ".weight", 4, 0.5f, a, b));
  CHECK(adds(with(R"({"text_encoder.lora_alpha": 2})"), to_q + ".weight", 4, 1.0f, a, b));
  CHECK(adds(with(R"({"unet.lora_alpha": 2, "unet.use_rslora": true})"), to_q + ".weight", 4, 1.0f, a, b));
  const char* patterns = R"({"unet.lora_alpha": 4, "unet.alpha_pattern": {"attn1.to_q": 2, "to_k": 7}})";
  CHECK(adds(with(patterns), to_q + ".weight", 4, 0.5f, a, b));
  CHECK(adds(with(patterns), to_out + ".weight", 2, 2.0f, oa, ob));
  const auto refused = [&](const char* text) { return error_of([&] { with(text); }); };
  expect(refused(R"({"unet.lora_alpha": 4, "unet.use_dora": true})"),
         "lora_adapter_metadata: use_dora: there is no magnitude for unet.");
  expect(refused(R"({"unet.lora_alpha": 4, "unet.init_lora_weights": "pissa_niter_4"})"),
         "init_lora_weights: pissa changes the model's own weights");
  expect(refused(R"({"unet.peft_type": "LOHA"})"), "peft_type: expected LORA, found");
  expect(refused(R"({"unet.lora_alpha": "4"})"), "lora_alpha: expected a number, found");
  expect(refused(R"({"unet.lora_alpha": 0})"), "alpha: expected a number above 0");
  expect(refused(R"({"unet.lora_alpha": 4, "unet.alpha_pattern": {"attn.*": 2}})"), "alpha_pattern: expected names of layers");
  expect(refused("[]"), "lora_adapter_metadata: expected a JSON object");
  expect(refused(std::string(100'000, '[').c_str()), "lora_adapter_metadata: expected at most 64 levels of JSON");

  Grammar peft;
  peft.memory.reserve(8);
  const std::string module = "base_model.model." + to_q.substr(5);
  const auto pa = peft.add(module + ".lora_A.weight", {4, 24}), pb = peft.add(module + ".lora_B.weight", {24, 4});
  expect(peft.refusal(), "expected PEFT's adapter_config.json beside it");
  write_file(peft.folder / "adapter_config.json", R"({"peft_type": "LORA", "r": 4, "lora_alpha": 16})");
  CHECK(adds(peft.read(), to_q + ".weight", 4, 4.0f, pa, pb));
  write_file(peft.folder / "adapter_config.json", R"({"peft_type": "LOKR", "r": 4})");
  expect(peft.refusal(), "adapter_config.json\": peft_type: expected LORA, found");
}

TEST_CASE("files that are no adapters of the model are refused by name", "[lora]") {
  const TemporaryFolder folder;
  const auto path = folder / "wrong.safetensors", model = folder / "tiny.safetensors";
  model_files::RandomModel<presets::tiny>().write(model);
  const std::string a = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",
                    b = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight";
  std::vector<float> floats(24 * 24, 0.5f);
  struct File {
    std::vector<TensorToWrite> tensors;
    Metadata metadata{{"rank", "2"}, {"alpha", "2"}};
  };
  const auto tensor = [&](const std::string& name, std::vector<std::size_t> shape) {
    std::size_t n = 1;
    for (const std::size_t d : shape) n *= d;
    return TensorToWrite{.name = name, .shape = std::move(shape), .floats = std::span<const float>(floats).first(n)};
  };
  const auto refusal = [&](auto&& edit) {
    File file{{tensor(a, {2, 24}), tensor(b, {24, 2})}};
    edit(file);
    write_safetensors(path, file.tensors, file.metadata);
    const std::string message = error_of([&] { TextToImage<presets::tiny> unused(model, {{path}}, 1); });
    if (!message.empty()) expect(message, "wrong.safetensors");
    CHECK(message.find('\n') == std::string::npos);
    return message;
  };
  CHECK(refusal([](File&) {}) == "");
  CHECK(refusal([](File& f) { f.metadata.clear(); }) == "");  // alpha is then the rank
  CHECK(read_lora<Weights>(path).pairs()[0].alpha == 2.0f);
  expect(refusal([](File& f) { f.tensors.pop_back(); }), b + "\": missing beside its partner");
  expect(refusal([](File& f) { f.tensors.erase(f.tensors.begin()); }), a + "\": missing beside its partner");
  expect(refusal([](File& f) { f.tensors[0].shape = {24, 2}; }), "to_q.lora_A.weight\": expected shape [24, 24], found [24, 2]");
  expect(refusal([&](File& f) {
           f.tensors[0] = tensor(a, {2, 12});
         }),
         "to_q.lora_A.weight\": expected shape [2, 24], found [2, 12]");
  expect(refusal([&](File& f) {
           f.tensors[1] = tensor(b, {24, 3});
         }),
         "to_q.lora_B.weight\": expected shape [24, 2], found [24, 3]");
  CHECK(refusal([&](File& f) { f.tensors[1] = tensor(b, {24, 2, 1, 1}); }) == "");
  expect(refusal([&](File& f) { f.tensors[1] = tensor(b, {24, 1, 2}); }), "expected shape [24, 2], found [24, 1, 2]");
  expect(refusal([&](File& f) {
           f.tensors = {tensor(a, {0, 24}), tensor(b, {24, 0})};
           f.metadata.clear();
         }),
         "rank: expected at least 1");
  expect(refusal([&](File& f) {
           const std::string out = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_";
           f.tensors = {tensor(a, {0, 24}), tensor(b, {24, 0}), tensor(out + "A.weight", {2, 24}),
                        tensor(out + "B.weight", {24, 2})};
           f.metadata.clear();
         }),
         "rank: expected at least 1 for " + a.substr(0, a.size() - 13) + "weight, found 0");
  expect(refusal([&](File& f) {
           f.tensors.push_back(tensor("unet.conv_in.lora_A.weight", {2, 3}));
         }),
         "\"unet.conv_in.lora_B.weight\": missing beside its partner");
  expect(refusal([&](File& f) { f.tensors.push_back(tensor("unet.other.lora_B.weight", {2})); }), "\"unet.other.lora_B.weight\"");
  expect(refusal([&](File& f) {
           f.tensors.clear();
           f.metadata = {{"alpha", "1"}};
         }),
         "expected at least one matrix");
  expect(refusal([](File& f) { f.metadata["rank"] = "3"; }), "metadata rank: expected that of the tensors, 2, found 3");
  expect(refusal([](File& f) { f.metadata["rank"] = "two"; }), "metadata rank: expected a number, found \"two\"");
  expect(refusal([](File& f) { f.metadata["alpha"] = "1x"; }), "metadata alpha: expected a number, found \"1x\"");
  for (const char* alpha : {"0", "-1", "nan", "inf"})
    expect(refusal([&](File& f) { f.metadata["alpha"] = alpha; }), "alpha: expected a number above 0");
  floats[7] = std::numeric_limits<float>::quiet_NaN();
  expect(refusal([](File&) {}), "lora_A.weight\": expected finite numbers");
  expect(error_of([&] { TextToImage<presets::tiny> unused(model, {{model}}, 1); }), "expected lora_A.weight or lora_B.weight");
  floats[7] = 0;
  CHECK(refusal([](File&) {}) == "");
  expect(error_of([&] {
           TextToImage<presets::tiny> unused(model, {{path, std::numeric_limits<float>::infinity()}}, 1);
         }),
         "scale: expected a number");
}

TEST_CASE("options of the training that do not fit are refused", "[lora]") {
  const Executor ex(1);
  const Base base;
  const auto make = [&](train::LoraTrainerOptions o) { Trainer trainer(ex, o, *base.weights, make_lora<Weights>({})); };
  CHECK_THROWS_AS(make(options(4, 3)), Error);
  CHECK_THROWS_AS(make(options(0, 1)), Error);
  train::LoraTrainerOptions o = options(4, 2);
  o.noise_share = 1.5f;
  expect(error_of([&] { make(o); }), "shares, from 0 to 1");
  Trainer trainer(ex, options(4, 2), *base.weights, make_lora<Weights>({}));
  const Data data;
  expect(error_of([&] { trainer.step(data.batch(3), data.tokens(3).data(), data.unconditional.data()); }), "as many latents");
}

}  // namespace test_lora_cpp
