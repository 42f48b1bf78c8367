// SPDX-License-Identifier: Apache-2.0
// A folder of the diffusers layout. It is written once, whole and right; an input replaces some of its texts: a line
// "=== NAME" and the text up to the next such line. A text of "-" removes the file.
#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "fuzz.hpp"
#include "io/clip_files.hpp"
#include "mobilediffusion/model_source.hpp"
#include "toy_model.hpp"

namespace md = mobilediffusion;
namespace fs = std::filesystem;

namespace {

const std::string stem = "unet/diffusion_pytorch_model", index_name = stem + ".safetensors.index.json";

class ModelFolder {
 public:
  ModelFolder() {
    for (const char* name : {"unet", "vae", "text_encoder", "tokenizer", "scheduler"})
      fs::create_directory(folder_.path() / name);
    std::vector<float> memory(md::reflect::storage_floats<md::ModelWeights<fuzz::toy>>());
    md::ModelWeights<fuzz::toy> weights{};
    md::reflect::bind(weights, memory.data());
    std::vector<md::TensorToWrite> unet, vae, text;
    md::list_weights(unet, "", weights.unet, md::Dtype::f16);
    md::list_weights(vae, "", weights.vae, md::Dtype::f16);
    md::list_weights(text, "", weights.text_encoder, md::Dtype::f16);
    write("vae/diffusion_pytorch_model.safetensors", vae);
    write("text_encoder/model.safetensors", text);
    const std::size_t half = unet.size() / 2;
    const std::array shards{stem + "-00001-of-00002.safetensors", stem + "-00002-of-00002.safetensors"};
    write(shards[0], std::span(unet).first(half));
    write(shards[1], std::span(unet).subspan(half));
    std::string map;
    for (std::size_t i = 0; i < unet.size(); ++i)
      map += (i == 0 ? "\"" : ",\"") + unet[i].name + "\":\"" + shards[i < half ? 0 : 1].substr(5) + "\"";
    texts_ = {{"model_index.json", ""},
              {index_name, R"({"metadata":{},"weight_map":{)" + map + "}}"},
              {"unet/config.json", ""},
              {"vae/config.json", ""},
              {"text_encoder/config.json", ""},
              {"text_encoder/model.safetensors.index.json", ""},
              {"scheduler/scheduler_config.json",
               R"({"_class_name":"DDIMScheduler","beta_schedule":"scaled_linear","beta_start":0.00085,"beta_end":0.012,)"
               R"("clip_sample":false,"prediction_type":"v_prediction"})"},
              {"tokenizer/vocab.json", clip_files::vocab()},
              {"tokenizer/merges.txt", clip_files::merges()},
              {"tokenizer/tokenizer.json", ""},
              {"tokenizer/special_tokens_map.json", R"({"pad_token":"!"})"},
              {"tokenizer/tokenizer_config.json", ""},
              {"tokenizer/added_tokens.json", ""}};
    for (const auto& [name, text] : texts_) restore(name, text);
  }

  // A text of a name that the folder does not have is left out.
  void replace(std::string_view name, std::string_view text) {
    const auto at = texts_.find(std::string(name));
    if (at == texts_.end()) return;
    changed_.push_back(at->first);
    restore(name, text == "-" ? "" : text);
  }
  void restore() {
    for (const std::string& name : changed_) restore(name, texts_[name]);
    changed_.clear();
  }
  const fs::path& path() const { return folder_.path(); }

 private:
  void write(const std::string& name, std::span<const md::TensorToWrite> tensors) {
    md::write_safetensors(folder_.path() / name, tensors, {{"format", "pt"}});
  }
  void restore(std::string_view name, std::string_view text) {
    if (text.empty()) fs::remove(folder_.path() / name);
    else folder_.write(name, text);
  }

  fuzz::Folder folder_{"model_folder"};
  std::map<std::string, std::string> texts_;  // empty: no such file
  std::vector<std::string> changed_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static ModelFolder folder;
  std::string input = "\n";
  input += fuzz::text_of(data, size);
  constexpr std::string_view mark = "\n=== ";
  for (std::size_t at = input.find(mark); at != input.npos;) {
    const std::size_t next = input.find(mark, at + 1);
    std::string_view section = std::string_view(input).substr(0, next).substr(at + mark.size());
    const std::string_view name = fuzz::cut(section, '\n');
    folder.replace(name, section);
    at = next;
  }
  const int status = fuzz::read([&] {
    const md::ModelSource<fuzz::toy> source(folder.path());
    md::sampling_of(source.metadata(), {}, "input");
    const md::Tokenizer tokenizer = source.tokenizer();
    fuzz::expect(tokenizer.vocabulary() <= fuzz::toy.text.vocabulary, "a vocabulary that the text encoder knows");
    tokenizer.encode("a red cat", fuzz::toy.text.length);
  });
  folder.restore();
  return status;
}
