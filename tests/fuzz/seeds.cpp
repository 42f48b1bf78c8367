// SPDX-License-Identifier: Apache-2.0
// Writes the stored inputs that are made by the library's own writers: fuzz_seeds CORPUS. Built by name, to be run again when
// a format changes; the driver says when, because inputs named "valid" must be accepted.
#include <cstdio>
#include <unordered_map>
#include <vector>

#include "fuzz.hpp"
#include "io/clip_files.hpp"
#include "mobilediffusion/model_source.hpp"
#include "mobilediffusion/train/tokenizer.hpp"
#include "toy_model.hpp"

namespace md = mobilediffusion;
namespace fs = std::filesystem;
using namespace std::string_literals;

namespace {

fs::path corpus;

void seed(const std::string& harness, const std::string& name, std::string_view bytes) {
  fs::create_directories(corpus / harness);
  std::ofstream(corpus / harness / name, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// The header of a safetensors file, as the harnesses want it, and its data where asked for.
std::string header_of(const std::string& file) {
  std::uint64_t size = 0;
  for (std::size_t i = 8; i-- > 0;) size = size << 8 | static_cast<unsigned char>(file[i]);
  std::string header = file.substr(8, size);
  while (header.ends_with(' ')) header.pop_back();
  return header;
}
std::string file_of(std::span<const md::TensorToWrite> tensors, const md::Metadata& metadata) {
  const fuzz::Folder folder("seeds");
  md::write_safetensors(folder.path() / "file", tensors, metadata);
  return md::read_file(folder.path() / "file");
}
md::TensorToWrite zeros(std::string name, md::Dtype dtype, std::vector<std::size_t> shape) {
  return {.name = std::move(name), .dtype = dtype, .shape = std::move(shape), .fill = [](auto) {}};
}

// With a table of a few rules: the usual one has 240 KB.
std::string sentencepiece(std::unordered_map<std::string, std::string> options) {
  const std::vector<std::string> captions{"a red apple", "a blue apple", "a red cat", "a blue cat", "red cats", "two blue cats"};
  const fuzz::Folder folder("rules");
  folder.write("rules.tsv", "41\t61\n42\t62\nC3 84\t61\nFF21\t61\n66 69\tFB01\n");
  const std::unordered_map<std::string, std::string> usual{{"vocab_size", "36"},
                                                           {"character_coverage", "1.0"},
                                                           {"num_threads", "1"},
                                                           {"pad_id", "0"},
                                                           {"unk_id", "1"},
                                                           {"bos_id", "2"},
                                                           {"eos_id", "3"},
                                                           {"minloglevel", "3"},
                                                           {"normalization_rule_tsv", "rules.tsv"},
                                                           {"normalization_rule_name", "user_defined"}};
  options.insert(usual.begin(), usual.end());
  md::detail::CaptionIterator iterator(captions);
  std::string model;
  const fs::path here = fs::current_path();
  fs::current_path(folder.path());  // the name of the rules becomes part of the model
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &iterator, &model);
  fs::current_path(here);
  fuzz::expect(status.ok(), status.error_message());
  return model;
}

void safetensors_seeds() {
  const std::string file =
      file_of(std::vector{zeros("a", md::Dtype::f16, {2, 3}), zeros("b.weight", md::Dtype::bf16, {4}),
                          zeros("c", md::Dtype::f32, {}), zeros("d", md::Dtype::i64, {0}), zeros("e", md::Dtype::boolean, {3})},
              {{"format", "pt"}, {"note", "\x01 \"quoted\" \xE2\x98\x83"}});
  seed("safetensors", "valid", header_of(file));
  seed("safetensors", "valid-raw", file);
  seed("safetensors", "valid-empty", "{}");
  seed("safetensors", "overlap",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})");
  seed("safetensors", "overflow", R"({"a":{"dtype":"F64","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}})");
  seed("safetensors", "nested", "{\"a\":" + std::string(2000, '['));
}

void lora_seeds() {
  const std::string attention = "unet.attn1.";
  const auto pair = [](std::vector<md::TensorToWrite>& out, const std::string& a, const std::string& b, std::size_t in,
                       std::size_t rank, std::size_t outs, bool conv = false) {
    std::vector<std::size_t> down{rank, in}, up{outs, rank};
    if (conv) down.resize(4, 1), up.resize(4, 1);
    out.push_back(zeros(a, md::Dtype::f16, down));
    out.push_back(zeros(b, md::Dtype::f16, up));
  };
  std::vector<md::TensorToWrite> t;
  for (const char* name : {"to_q", "to_k", "to_out.0"})
    pair(t, attention + name + ".lora_A.weight", attention + name + ".lora_B.weight", 5, 2, 6);
  pair(t, "unet.proj_in.lora_A.weight", "unet.proj_in.lora_B.weight", 5, 2, 6, true);
  seed("lora", "valid-peft", header_of(file_of(t, {{"rank", "2"}, {"alpha", "1.5"}})));
  seed("lora", "peft-metadata",
       header_of(file_of(
           t, {{"lora_adapter_metadata",
                R"({"unet.r": 2, "unet.lora_alpha": 1, "unet.rank_pattern": {"attn1.to_k": 2}, "unet.alpha_pattern": {}})"}})));
  t.clear();
  for (const char* name : {"to_q", "to_k"})
    pair(t, attention + name + ".lora.down.weight", attention + name + ".lora.up.weight", 5, 2, 6);
  seed("lora", "diffusers-script", header_of(file_of(t, {})));
  t.clear();
  pair(t, "lora_unet_attn1_to_q.lora_down.weight", "lora_unet_attn1_to_q.lora_up.weight", 5, 2, 6);
  t.push_back(zeros("lora_unet_attn1_to_q.alpha", md::Dtype::f32, {}));
  seed("lora", "kohya", header_of(file_of(t, {{"ss_network_dim", "2"}, {"ss_network_alpha", "1"}})));
  t.clear();
  pair(t, "unet.attn1.processor.to_q_lora.down.weight", "unet.attn1.processor.to_q_lora.up.weight", 5, 1, 6);
  seed("lora", "processor", header_of(file_of(t, {})));
  const auto lora = [](const std::string& name, std::initializer_list<std::pair<std::string, std::vector<std::size_t>>> tensors) {
    std::vector<md::TensorToWrite> list;
    for (const auto& [tensor, shape] : tensors) list.push_back(zeros(tensor, md::Dtype::bf16, shape));
    seed("lora", name, header_of(file_of(list, {})));
  };
  const std::string conv = "lora_unet_down_blocks_0_resnets_0_conv1.", norm = "lora_unet_down_blocks_0_resnets_0_norm1.";
  lora("valid-ldm-names", {{"lora_unet_input_blocks_1_0_in_layers_2.lora_down.weight", {2, 4, 3, 3}},
                           {"lora_unet_input_blocks_1_0_in_layers_2.lora_up.weight", {6, 2, 1, 1}}});
  lora("valid-tucker", {{conv + "lora_down.weight", {2, 4, 1, 1}},
                        {conv + "lora_mid.weight", {2, 2, 3, 3}},
                        {conv + "lora_up.weight", {6, 2, 1, 1}},
                        {conv + "dora_scale", {6, 1, 1, 1}}});
  lora("valid-dora", {{"unet.attn1.to_q.lora_A.weight", {1, 5}},
                      {"unet.attn1.to_q.lora_B.weight", {6, 1}},
                      {"unet.attn1.to_q.lora_B.bias", {6}},
                      {"unet.attn1.to_q.lora_magnitude_vector", {6}}});
  lora("valid-loha", {{conv + "hada_w1_a", {2, 6}},
                      {conv + "hada_w1_b", {2, 4}},
                      {conv + "hada_w2_a", {2, 6}},
                      {conv + "hada_w2_b", {2, 4}},
                      {conv + "hada_t1", {2, 2, 3, 3}},
                      {conv + "hada_t2", {2, 2, 3, 3}}});
  lora("valid-lokr", {{conv + "lokr_w1_a", {2, 1}},
                      {conv + "lokr_w1_b", {1, 2}},
                      {conv + "lokr_w2_a", {1, 3}},
                      {conv + "lokr_w2_b", {1, 2}},
                      {conv + "lokr_t2", {1, 1, 3, 3}},
                      {"lora_te_q_proj.lokr_w1", {2, 5}},
                      {"lora_te_q_proj.lokr_w2", {3, 1}}});
  lora("valid-differences",
       {{conv + "diff", {6, 4, 3, 3}}, {conv + "diff_b", {6}}, {norm + "w_norm", {6}}, {norm + "b_norm", {6}}});
}

void embedding_seeds() {
  const auto file = [](const std::string& name, std::initializer_list<std::pair<std::string, std::vector<std::size_t>>> tensors) {
    std::vector<md::TensorToWrite> list;
    for (const auto& [tensor, shape] : tensors) list.push_back(zeros(tensor, md::Dtype::f16, shape));
    seed("embedding", name, header_of(file_of(list, {})));
  };
  file("valid", {{"<cat-toy>", {6}}});
  file("valid-vectors", {{"My Toy \xC3\x89", {3, 6}}});
  file("valid-automatic1111", {{"emb_params", {2, 6}}});
  file("of-two-text-encoders", {{"clip_l", {2, 6}}, {"clip_g", {2, 8}}});
  file("a-token-already", {{"cat</w>", {6}}});
  seed("embedding", "pickle", "\x80\x02}q\0.xxxxx"s);
}

void state_seeds() {
  std::vector<md::TensorToWrite> t;
  for (const char* array : {"weights.", "average.", "first_moment.", "second_moment."}) {
    t.push_back(zeros(array + "matrix"s, md::Dtype::f32, {2, 3}));
    t.push_back(zeros(array + "bias"s, md::Dtype::f32, {3}));
    t.push_back(zeros(array + "filter"s, md::Dtype::f32, {2, 1, 3, 3}));
  }
  const std::string file = file_of(t, {{"step", "7"}});
  seed("state", "valid", header_of(file));
  seed("state", "valid-raw", file);
  seed("state", "negative-moment", header_of(file) + std::string(1 + 4 * 4 * 27 - 4, '\0') + "\0\0\x80\xBF"s);
  seed("state", "largest-step", header_of(file_of(t, {{"step", "18446744073709551615"}})));
}

void tokenizer_seeds() {
  const std::string bpe = sentencepiece({{"model_type", "bpe"}});
  seed("sentencepiece", "valid", "a red apple\0"s + bpe);
  seed("sentencepiece", "valid-normalized", "A two \xEF\xBC\xA1 fi\0"s + bpe);
  seed("sentencepiece", "valid-long", "*a blue \0"s + bpe);
  seed("sentencepiece", "unigram", "two cats\0"s + sentencepiece({{"model_type", "unigram"}, {"vocab_size", "18"}}));
  seed("sentencepiece", "user-defined",
       "red_ red\0"s + sentencepiece({{"model_type", "bpe"}, {"user_defined_symbols", "re,red,red_"}, {"vocab_size", "38"}}));

  seed("clip", "valid", "a red cat's caf\xC3\xA9\0"s + clip_files::vocab() + '\0' + clip_files::merges());
  seed("clip", "valid-one-file", "a red cat\0"s + clip_files::tokenizer_json());
  seed("clip", "long-word", "*car\0"s + clip_files::vocab() + '\0' + clip_files::merges());
  seed("prompt", "valid", "a (((red:1.3)) [cat] a (cat:0.5), red, (((cat))).");
  std::string list;
  for (int i = 0; i < 50; ++i) list += "red cat, ";
  seed("prompt", "valid-chunks", "a BREAK (cat BREAK red:1.5) " + list);
  seed("prompt", "valid-nested", "*[a(b:1.0)");
  seed("prompt", "valid-crossing", "*(a[b)c]");
  seed("prompt", "deep", "*(");
  seed("prompt", "number", "(a:1.2.3)");
  seed("clip", "nested", "a\0{\"model\":"s + std::string(2000, '['));
}

void model_seeds() {
  std::vector<float> memory(md::reflect::storage_floats<md::ModelWeights<fuzz::toy>>());
  md::ModelWeights<fuzz::toy> weights{};
  md::reflect::bind(weights, memory.data());
  const fuzz::Folder folder("model");
  for (const auto& [name, dtype] : {std::pair{"valid", md::Dtype::f16}, std::pair{"int8", md::Dtype::i8}}) {
    md::write_model<fuzz::toy>(folder.path() / "file", weights, "placeholder", dtype,
                               {{"sampler.kind", "ddim"}, {"sampler.steps", "4"}, {"sampler.guidance", "1.5"}});
    std::string header = header_of(md::read_file(folder.path() / "file"));
    const std::string placeholder = md::base64_encode("placeholder");
    header.replace(header.find(placeholder), placeholder.size(), "@");
    std::printf("model header: %zu bytes\n", header.size());
    seed("model_file", name, header + '\0' + sentencepiece({{"model_type", "bpe"}}));
  }

  seed("model_folder", "valid", "");
  seed("model_folder", "valid-tokenizer-json",
       "=== tokenizer/vocab.json\n-\n=== tokenizer/tokenizer.json\n" + clip_files::tokenizer_json());
  seed("model_folder", "prediction", "=== scheduler/scheduler_config.json\n{\"prediction_type\":\"epsilon\"}");
  seed("model_folder", "outside",
       "=== unet/diffusion_pytorch_model.safetensors.index.json\n{\"weight_map\":{\"conv_in.bias\":\"../x\"}}");
  seed("model_folder", "pad", "=== tokenizer/special_tokens_map.json\n{\"pad_token\":{\"content\":\"cat</w>\"}}");
  seed("model_folder", "nested",
       "=== unet/config.json\n" + std::string(2000, '[') + "\n=== tokenizer/tokenizer_config.json\n" + std::string(2000, '['));
}

// The same model as a one-file checkpoint of the LDM layout, and other files that are known for what they are.
void checkpoint_seeds() {
  using namespace md::detail;
  std::vector<float> memory(md::reflect::storage_floats<md::ModelWeights<fuzz::toy>>());
  md::ModelWeights<fuzz::toy> weights{};
  md::reflect::bind(weights, memory.data());
  const std::vector<std::string_view> blocks{"encoder.down.0.block.0.x", "decoder.up.0.block.0.x"},
      layers{"transformer.resblocks.0.x"};
  const LdmNames unet = ldm_unet_names(ldm_blocks(1, 1, 2)), vae = ldm_vae_names(blocks), text = ldm_text_names(layers, true);
  const auto header = [&](bool open_clip) {
    std::vector<md::TensorToWrite> tensors, networks;
    md::list_weights(networks, "unet.", weights.unet, md::Dtype::f16);
    md::list_weights(networks, "vae.", weights.vae, md::Dtype::f16);
    md::list_weights(networks, "text.", weights.text_encoder, md::Dtype::f16);
    for (const md::TensorToWrite& t : networks) {
      const std::string name = t.name.substr(t.name.find('.') + 1), whole = name_of_whole(name);
      std::vector<std::size_t> shape = t.shape;
      std::string out;
      if (t.name.starts_with("unet.")) out = "model.diffusion_model." + unet.to_ldm(name);
      else if (t.name.starts_with("vae.")) out = "first_stage_model." + vae.to_ldm(name);
      else if (!open_clip) out = "cond_stage_model.transformer." + name;
      else out = "cond_stage_model.model." + text.to_ldm(whole);
      if (open_clip && t.name.starts_with("text.") && whole != name) {
        if (name.find(".q_proj.") == std::string::npos) continue;
        shape[0] *= 3;
      }
      tensors.push_back(zeros(out, md::Dtype::f16, shape));
    }
    tensors.push_back(zeros("model_ema.decay", md::Dtype::f32, {}));
    tensors.push_back(zeros("global_step", md::Dtype::i64, {}));
    return header_of(file_of(tensors, {}));
  };
  seed("checkpoint", "valid", header(false));
  seed("checkpoint", "valid-open-clip", header(true));
  const auto one = [&](const char* file, const char* name, std::vector<std::size_t> shape) {
    seed("checkpoint", file, header_of(file_of(std::vector{zeros(name, md::Dtype::f8_e4m3, std::move(shape))}, {})));
  };
  one("lora", "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight", {4, 768});
  one("embedding", "emb_params", {2, 768});
  one("controlnet", "control_model.input_hint_block.0.weight", {1});
  one("tiny-vae", "decoder.layers.0.weight", {1});
  one("numbers", "model.diffusion_model.output_blocks.999.2.conv.weight", {0});
  one("thirds", "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight", {4, 0});
}

void text_seeds() {
  seed("png_text", "valid",
       "IHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0\n--\ntEXtprompt\0a red apple\n--\niTXtprompt\0\0\0en\0\0caf\xC3\xA9\n--\nIEND"s);
  const std::string packed =
      "\170\332\113\124\050\112\115\121\110\054\050\310\111\005\000\026\116\003\357"s;  // "a red apple" by zlib
  seed("png_text", "valid-packed", "zTXtprompt\0\0"s + packed + "\n--\niTXtprompt\0\1\0\0\0"s + packed + "\n--\nIEND");
  seed("png_text", "damaged", "zTXtx\0\0\n--\nIEND"s);
  seed("png_text", "no-end", "IHDR\n--\ntEXtprompt\0x"s);
  seed("png_text", "not-utf8", "iTXtprompt\0\0\0\0\0\xFF\n--\nIEND"s);
  seed("arguments", "valid",
       "a red apple\n--steps\n4\n--guidance\n1.5\n-o\nx.png\n--count\n3\n-q\n--format\nint8\n--strength\n0.5\n0.75");
  seed("arguments", "help", "--help");
  seed("arguments", "wrong", "--steps=0x10\n--guidance=nan\n--count=-1\n--format=fp8\n--strength=1e9\n--\n--\n-\n--=\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_seeds CORPUS\n");
    return 2;
  }
  corpus = fs::absolute(argv[1]);
  safetensors_seeds();
  lora_seeds();
  embedding_seeds();
  state_seeds();
  tokenizer_seeds();
  model_seeds();
  checkpoint_seeds();
  text_seeds();
  return 0;
}
