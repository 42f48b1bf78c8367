// SPDX-License-Identifier: Apache-2.0
// A one-file checkpoint of the LDM layout: its networks one by one under the names of diffusers, and what else it carries.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ldm_names.hpp"
#include "weight_files.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

class LdmCheckpoint {
 public:
  using Part = detail::LdmPart;

  // Whether a file is one, or a single network of one under the names of this layout. Models of this library have a "vae." too,
  // and more beside it.
  static bool is_one(const SafetensorsFile& file);

  explicit LdmCheckpoint(std::shared_ptr<const SafetensorsFile> file);

  bool has(Part part) const { return !of(part).empty(); }
  // Whether the text encoder comes from OpenCLIP, as in the second family: prompts are then filled up with the token 0.
  bool is_open_clip() const { return has(Part::text_encoder) && of(Part::text_encoder).front().parsed.open_clip; }

  // One network. Its tensors keep the file's names; they are found by those of diffusers. Throws Error where two tensors of the
  // file are the same one of the network.
  WeightFiles part(Part part) const;

  const SafetensorsFile& file() const { return *file_; }
  struct Ignored {
    const TensorView* tensor;
    const char* reason;
  };
  std::span<const Ignored> ignored() const { return ignored_; }
  std::span<const TensorView* const> unknown() const { return unknown_; }

 private:
  struct Entry {
    const TensorView* tensor;
    detail::LdmTensor parsed;  // views into the tensor's name
  };
  // Of names without a prefix: those that diffusers does not use.
  static bool is_own(std::string_view name);
  const std::vector<Entry>& of(Part part) const { return parts_[static_cast<std::size_t>(part)]; }

  std::shared_ptr<const SafetensorsFile> file_;
  std::array<std::vector<Entry>, 4> parts_;
  std::vector<Ignored> ignored_;
  std::vector<const TensorView*> unknown_;
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY bool LdmCheckpoint::is_one(const SafetensorsFile& file) {
  const std::span<const TensorView> tensors = file.tensors();
  const bool vae_alone =
      std::all_of(tensors.begin(), tensors.end(), [](const TensorView& t) { return t.name.starts_with("vae."); });
  return std::any_of(tensors.begin(), tensors.end(), [&](const TensorView& t) {
    const detail::LdmTensor parsed = detail::parse_ldm_name(t.name);
    return parsed.part != Part::unknown && parsed.part != Part::ignored &&
           (parsed.prefix.empty() ? is_own(parsed.name) : parsed.prefix != "vae." || vae_alone);
  });
}

MOBILEDIFFUSION_BODY LdmCheckpoint::LdmCheckpoint(std::shared_ptr<const SafetensorsFile> file) : file_(std::move(file)) {
  for (const TensorView& t : file_->tensors()) {
    const detail::LdmTensor parsed = detail::parse_ldm_name(t.name);
    if (parsed.part == Part::ignored) ignored_.push_back({&t, parsed.reason});
    else if (parsed.part == Part::unknown) unknown_.push_back(&t);
    else parts_[static_cast<std::size_t>(parsed.part)].push_back({&t, parsed});
  }
}

MOBILEDIFFUSION_BODY WeightFiles LdmCheckpoint::part(Part part) const {
  const std::vector<Entry>& entries = of(part);
  std::vector<std::string_view> names;
  for (const Entry& e : entries) names.push_back(e.parsed.name);
  const bool open_clip = !entries.empty() && entries.front().parsed.open_clip;
  detail::LdmNames translation = part == Part::unet  ? detail::ldm_unet_names(detail::ldm_blocks(names))
                                 : part == Part::vae ? detail::ldm_vae_names(names)
                                                     : detail::ldm_text_names(names, open_clip);
  std::vector<WeightFiles::Tensor> tensors;
  for (const Entry& e : entries) {
    std::string path = translation.to_diffusers(e.parsed.name);
    const auto thirds = open_clip ? detail::names_of_thirds(path) : std::nullopt;
    if (!thirds) {
      tensors.push_back({*e.tensor, std::move(path), 0});
      if (open_clip && e.parsed.name == "text_projection" && e.tensor->shape.size() == 2) {  // features times this matrix
        std::swap(tensors.back().shape[0], tensors.back().shape[1]);
        tensors.back().transposed = true;
      }
      continue;
    }
    TensorView third = *e.tensor;
    const std::size_t parts = third.shape.empty() || third.shape[0] % 3 != 0 ? 1 : 3;  // 1: of no shape that could be right
    if (parts == 3) third.shape[0] /= 3;
    third.size /= parts;
    for (const std::string& name : *thirds) {
      tensors.push_back({third, name, 0});
      if (parts == 3) third.begin += third.size;
    }
  }
  const std::string prefix(entries.empty() ? "" : entries.front().parsed.prefix);
  return {file_, std::move(tensors), [prefix, open_clip, translation = std::move(translation)](std::string_view path) {
            return prefix + translation.to_ldm(open_clip ? detail::name_of_whole(path) : std::string(path));
          }};
}

MOBILEDIFFUSION_BODY bool LdmCheckpoint::is_own(std::string_view name) {
  for (const char* front : {"input_blocks.", "output_blocks.", "middle_block.", "time_embed.", "encoder.down.", "decoder.up.",
                            "encoder.mid.", "decoder.mid."})
    if (name.starts_with(front)) return true;
  return false;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
