// SPDX-License-Identifier: Apache-2.0
// What a model is made of, before or after its training.
//
//   inspect [--preset emoji] [--csv]    the static graph: every part with its sizes, all known to the compiler
//   inspect --preset full --svg FILE    its UNet as a drawing
//   inspect --json full                 its whole configuration and its tensors' shapes, for programs (examples/pytorch)
//   inspect FILE [--csv]                a weights file: what it is, metadata, tensors by group, and which preset it fits
//   inspect FOLDER [--csv]              the same of a model in the layout of diffusers
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/arguments.hpp"
#include "common/graph_svg.hpp"
#include "common/graph_table.hpp"
#include "common/model_json.hpp"
#include "mobilediffusion/mobilediffusion.hpp"

#ifndef MOBILEDIFFUSION_VERSION
#define MOBILEDIFFUSION_VERSION "unknown"
#endif

namespace md = mobilediffusion;
using md::detail::join;
using md::detail::printable;

namespace {

// Calls f.operator()<preset>(name) for all of them.
template <class F>
void for_each_preset(F&& f) {
  f.template operator()<md::presets::emoji>("emoji");
  f.template operator()<md::presets::tiny>("tiny");
  f.template operator()<md::presets::full>("full");
  f.template operator()<md::presets::full_light>("full_light");
  f.template operator()<md::presets::lite>("lite");
  f.template operator()<md::presets::sd15>("sd15");
  f.template operator()<md::presets::sd21_base>("sd21_base");
  f.template operator()<md::presets::sd21>("sd21");
  f.template operator()<md::presets::bk_sdm_base>("bk_sdm_base");
  f.template operator()<md::presets::bk_sdm_small>("bk_sdm_small");
  f.template operator()<md::presets::bk_sdm_tiny>("bk_sdm_tiny");
  f.template operator()<md::presets::bk_sdm_v2_base>("bk_sdm_v2_base");
  f.template operator()<md::presets::bk_sdm_v2_small>("bk_sdm_v2_small");
  f.template operator()<md::presets::bk_sdm_v2_tiny>("bk_sdm_v2_tiny");
  f.template operator()<md::presets::sd_turbo>("sd_turbo");
  f.template operator()<md::presets::sd15_inpainting>("sd15_inpainting");
  f.template operator()<md::presets::sd2_inpainting>("sd2_inpainting");
  f.template operator()<md::presets::lcm_dreamshaper>("lcm_dreamshaper");
  f.template operator()<md::presets::small_sd>("small_sd");
  f.template operator()<md::presets::tiny_sd>("tiny_sd");
  f.template operator()<md::presets::sdxs_512_dreamshaper>("sdxs_512_dreamshaper");
  f.template operator()<md::presets::sdxs_512_09>("sdxs_512_09");
  f.template operator()<md::presets::sdxl>("sdxl");
  f.template operator()<md::presets::sdxl_turbo>("sdxl_turbo");
  f.template operator()<md::presets::ssd_1b>("ssd_1b");
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for_each_preset([&]<md::ModelConfig M>(const char* name) { names.emplace_back(name); });
  return names;
}

std::string grouped(std::size_t n) {  // 1,234,567
  std::string text = std::to_string(n);
  for (std::size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, ",");
  return text;
}

void print_row(const std::string& name, const std::string& kind, const std::string& size, std::size_t layers,
               std::size_t parameters, std::size_t macs, std::size_t output, std::size_t activations) {
  std::printf("%-30s %-28s %-14s %6zu %12s %15s %11s %12s\n", name.c_str(), kind.c_str(), size.c_str(), layers,
              grouped(parameters).c_str(), grouped(macs).c_str(), output == 0 ? "" : grouped(output).c_str(),
              grouped(activations).c_str());
}

template <md::ModelConfig M>
void print_graph(const char* preset, bool csv) {
  using Model = md::TextToImage<M>;
  const auto parts = examples::graph_table<M>();
  if (csv) {
    std::printf("part,name,kind,height,width,channels,layers,parameters,macs,output_bytes,activation_bytes\n");
    for (const auto& part : parts)
      for (const auto& r : part.rows)
        std::printf("%s,%s,\"%s\",%zu,%zu,%zu,%zu,%zu,%zu,%zu,%zu\n", part.name.c_str(), r.name.c_str(), r.kind.c_str(), r.height,
                    r.width, r.channels, r.layers, r.parameters, r.macs, r.output_bytes, r.activation_bytes);
    return;
  }
  std::printf("preset %s: %zu x %zu pixels\n", preset, Model::width, Model::height);
  std::printf(
      "Bytes are of one image, fp32; activations: what a part takes beside its input and output, in a total: the peak.\n");
  for (const auto& part : parts) {
    std::printf("\n%-30s %-28s %-14s %6s %12s %15s %11s %12s\n", part.name.c_str(), "", "output", "layers", "parameters", "MACs",
                "output B", "activation B");
    std::size_t layers = 0;
    for (const auto& r : part.rows) {
      const std::string size =
          r.height == 1 ? join({r.width, " x ", r.channels}) : join({r.height, " x ", r.width, " x ", r.channels});
      print_row("  " + r.name, r.kind, size, r.layers, r.parameters, r.macs, r.output_bytes, r.activation_bytes);
      layers += r.layers;
    }
    print_row("  total", "", "", layers, part.parameters, part.macs, 0, part.activation_bytes);
  }
  const std::size_t passes = M.sampler.guidance_percent <= 100 ? 1 : 2, steps = M.sampler.steps;
  const std::size_t macs = passes * (md::Sampling<M>::text_macs + steps * md::Unet<M.unet>::macs) + md::Vae<M.vae>::decoder_macs;
  std::printf("\nwhole model: %s parameters, %s bytes of weights in memory, %s bytes of activations for one picture\n",
              grouped(Model::parameters).c_str(), grouped(Model::weight_bytes).c_str(), grouped(Model::activation_bytes).c_str());
  std::printf("one picture: %s MACs (%zu steps, %s)\n", grouped(macs).c_str(), steps,
              passes == 2 ? "guided: two passes each" : "unguided");
}

// The first two names of a tensor's path.
std::string group_of(const std::string& name) {
  const std::size_t first = name.find('.'), second = first == std::string::npos ? first : name.find('.', first + 1);
  return second == std::string::npos ? name : name.substr(0, second);
}

// tensors: anything that holds TensorViews.
template <class Tensors>
void print_csv(const Tensors& tensors, const std::string& prefix) {
  for (const md::TensorView& t : tensors) {
    std::string shape;
    for (const std::size_t d : t.shape) shape += join({shape.empty() ? "" : "x", d});
    const std::string name = printable(prefix + t.name), dtype(md::name_of(t.dtype));
    std::printf("%s,%s,%s,%zu,%zu\n", name.c_str(), dtype.c_str(), shape.c_str(), t.count(), t.size);
  }
}

template <class Tensors>
void print_groups(const Tensors& tensors) {
  struct Group {
    std::size_t tensors = 0, elements = 0, bytes = 0;
    std::set<std::string> dtypes;
  };
  std::map<std::string, Group> groups;
  Group all;
  for (const md::TensorView& t : tensors) {
    for (Group* g : {&groups[group_of(t.name)], &all}) {
      ++g->tensors;
      g->elements += t.count();
      g->bytes += t.size;
      g->dtypes.emplace(md::name_of(t.dtype));
    }
  }
  const auto print_group = [](const std::string& name, const Group& g) {
    std::string dtypes;
    for (const std::string& d : g.dtypes) dtypes += (dtypes.empty() ? "" : " ") + d;
    std::printf("%-32s %7zu %14s %14s  %s\n", name.c_str(), g.tensors, grouped(g.elements).c_str(), grouped(g.bytes).c_str(),
                dtypes.c_str());
  };
  std::printf("\n%-32s %7s %14s %14s  %s\n", "group", "tensors", "parameters", "bytes", "dtype");
  for (const auto& [name, group] : groups) {
    const std::string quoted = printable(name);
    print_group(quoted.substr(1, quoted.size() - 2), group);
  }
  print_group("total", all);
}

// What it is, as far as its tensors tell.
void print_kind(const md::ModelKind& kind) {
  const auto row = [](const char* name, const std::string& text) {
    if (!text.empty()) std::printf("%s: %s\n", name, text.c_str());
  };
  const auto joined = [](const std::vector<std::string>& words, const char* before, const char* between) {
    std::string text;
    for (const std::string& w : words) text += join({text.empty() ? "" : between, before, w});
    return text;
  };
  using Contents = md::ModelKind::Contents;
  const bool has_unet = kind.contents == Contents::model || kind.contents == Contents::unet;
  row("kind", kind.text());
  row("networks", joined(kind.parts, "", ", "));
  row("storage", kind.storage);
  for (const std::string& what : kind.ignored) row("not needed", what);
  if (!has_unet || kind.layout == md::ModelKind::Layout::library_file) return;
  const std::string why = kind.difference.empty() ? "" : join({": ", kind.difference});
  row("preset", !kind.presets.empty()  ? joined(kind.presets, "presets::", " or ")
                : kind.nearest.empty() ? "none" + why
                                       : join({"none; the nearest is presets::", kind.nearest, why}));
  row("the UNet puts out", kind.prediction ? md::name_of(*kind.prediction)
                           : kind.family == md::ModelKind::Family::sd2
                               ? "epsilon (presets::sd21_base) or v (presets::sd21); the file does not say which"
                               : "");
}

constexpr const char* csv_header = "tensor,dtype,shape,elements,bytes\n";

// Of a model in the layout of diffusers.
void print_folder(const std::filesystem::path& path, bool csv) {
  const md::ModelKind kind = md::identify(path);
  if (csv) std::printf("%s", csv_header);
  else print_kind(kind);
  for (const auto& [part, stem] : {std::pair{"unet", "diffusion_pytorch_model"},
                                   {"vae", "diffusion_pytorch_model"},
                                   {"text_encoder", "model"},
                                   {"text_encoder_2", "model"}}) {
    if (!md::path_exists(path / part)) continue;
    const md::WeightFiles files(path / part, stem);
    if (csv) {
      print_csv(files.tensors(), std::string(part) + ".");
      continue;
    }
    std::printf("\n%s: %s\n", part, printable(files.name()).c_str());
    print_groups(files.tensors());
  }
}

void print_file(const std::string& path, bool csv) {
  const md::SafetensorsFile file(path);
  if (csv) {
    std::printf("%s", csv_header);
    print_csv(file.tensors(), "");
    return;
  }
  std::printf("file %s\n", printable(path).c_str());
  print_kind(md::identify(path));
  std::printf("\nmetadata\n");
  for (const auto& [key, value] : file.metadata()) {
    const bool long_text = value.size() > 100;
    std::printf("  %s: %s\n", printable(key).c_str(),
                long_text ? join({value.size(), " characters"}).c_str() : printable(value).c_str());
  }
  print_groups(file.tensors());

  const auto& metadata = file.metadata();
  if (!metadata.contains(md::detail::configuration_key) && !metadata.contains(md::detail::former_key)) return;
  bool fits = false;
  const md::reflect::Fields found = md::read_configuration(file);
  for_each_preset([&]<md::ModelConfig M>(const char* name) {
    if (found != md::reflect::describe(md::meaning_of(M)) || fits) return;
    md::check_model<M>(file);
    const md::Tokenizer tokenizer = md::read_tokenizer(file, M.text.vocabulary);
    std::printf("\nconfiguration: preset %s; every tensor fits, the tokenizer has %zu pieces\n", name, tokenizer.vocabulary());
    fits = true;
  });
  if (!fits) std::printf("\nconfiguration: none of the presets\n");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"The static graph of a preset, or the contents of a weights file", "inspect"};
  std::string file, svg, json, preset = "emoji";
  bool csv = false;
  app.set_version_flag("--version", "inspect " MOBILEDIFFUSION_VERSION);
  app.add_option("file", file, "A safetensors file, or a folder as diffusers lays out a model")->type_name("PATH");
  auto* const preset_option = app.add_option("--preset", preset, "An architecture");
  preset_option->check(CLI::IsMember(preset_names()))->capture_default_str()->excludes("file");
  auto* const svg_option =
      app.add_option("--svg", svg, "Draw the UNet into this file instead")->type_name("FILE")->excludes("file");
  auto* const csv_option = app.add_flag("--csv", csv, "One line a row, all numbers plain");
  app.add_option("--json", json, "Every field of an architecture's configuration, and its tensors, as JSON")
      ->check(CLI::IsMember(preset_names()))
      ->type_name("PRESET")
      ->excludes("file")
      ->excludes(preset_option)
      ->excludes(svg_option)
      ->excludes(csv_option);
  if (const auto status = examples::parse(app, argc, argv)) return *status;
  try {
    if (!file.empty() && md::is_folder(file)) print_folder(file, csv);
    else if (!file.empty()) print_file(file, csv);
    else if (!json.empty())
      for_each_preset([&]<md::ModelConfig M>(const char* name) {
        if (json == name) std::printf("%s", examples::model_json<M>(name).c_str());
      });
    else
      for_each_preset([&]<md::ModelConfig M>(const char* name) {
        if (preset != name) return;
        if (svg.empty()) return print_graph<M>(name, csv);
        const auto parts = examples::graph_table<M>();
        const std::string title =
            join({"UNet of preset ", name, ": ", grouped(parts[1].parameters), " parameters, ", grouped(parts[1].macs), " MACs"});
        md::write_file(svg, examples::graph_svg(title, parts[1]));
      });
    if (std::fflush(stdout) != 0) throw md::Error("standard output: cannot write");
  } catch (const std::exception& e) {
    std::fflush(stdout);
    std::fprintf(stderr, "inspect: %s\n", e.what());
    return 1;
  }
  return 0;
}
