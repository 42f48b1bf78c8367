// SPDX-License-Identifier: Apache-2.0
// What a file of adapters changes in a model, module by module, checked against the model's weights and not read yet. Besides
// low-rank factors (LoRA, arXiv 2106.09685) the methods of LyCORIS (Yeh et al., arXiv 2309.14859) and DoRA (arXiv 2402.09353).
// With D the change of a module's weight W, scale s, strength alpha / r of factors of rank r:
//   low rank            D = alpha / r  up down                          down [r][in](k, k), up [out][r]
//   with a core         D = alpha / r  up mid down, at each tap         down [r][in], mid [r][r](k, k), up [out][r]
//   LoHa                D = alpha / r  (w1_a w1_b) * (w2_a w2_b)        element by element; hada_t1 and hada_t2 are cores
//   LoKr                D = alpha / r  w1 (x) w2                        Kronecker's product; each whole, or _a _b, or _a t2 _b;
//                                                                       both whole: without alpha
//   .diff, .w_norm      D as it is; of norms too
//   without magnitudes  W <- W + s D
//   with them (DoRA)    W <- m / |W0 + s D| (W + s D)                   |..| of each output's row, or of each input's column; W0
//                                                                       is the model's own weight, W may have other adapters
// Biases: .diff_b and .b_norm as they are, lora_B.bias with alpha / r.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json.hpp"
#include "lora.hpp"
#include "lora_names.hpp"
#include "numbers.hpp"
#include "peft_config.hpp"
#include "weights.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail {

enum class LoraMethod { low_rank, hadamard, kronecker, difference };

struct LoraTensors {
  std::array<const TensorView*, lora_roles> of{};
  LoraName name{};  // of one of them, a factor where there is one

  const TensorView* operator[](LoraRole role) const { return of[static_cast<std::size_t>(role)]; }
  const TensorView*& operator[](LoraRole role) { return of[static_cast<std::size_t>(role)]; }
};
// Of a module's weight.
struct LoraChange {
  std::size_t leaf;  // which of the model's
  std::string path;
  const reflect::LeafType* type;
  LoraMethod method;
  std::size_t rank = 0;  // of the factors
  float alpha = 1.0f, factor = 1.0f;
  LoraTensors tensors{};

  bool has_magnitudes() const { return tensors[LoraRole::magnitude] != nullptr; }
};
// PEFT's magnitudes are the outputs', [out], of convolutions [1][out][1][1]; LyCORIS' [out][1] or, of older ones, the inputs',
// [1][in].
inline bool is_of_peft(const TensorView& magnitude) {
  return magnitude.name.find(".lora_magnitude_vector") != magnitude.name.npos;
}
bool has_magnitudes_of_rows(const LoraChange& change);

// Of a bias.
struct LoraBiasChange {
  std::size_t leaf;
  std::string path;
  const TensorView* tensor;
  float factor = 1.0f;
};

class LoraChanges {
 public:
  // Throws Error naming file and tensor for one that the model has no place for, that lacks its partner, is of another shape or
  // of a dtype that is no float; and naming the method for one that is not read. leafs: of the model's weights.
  LoraChanges(const std::filesystem::path& path, std::span<const reflect::LeafView> leafs);

  const SafetensorsFile& file() const { return file_; }
  std::span<const LoraChange> weights() const { return weights_; }
  std::span<const LoraBiasChange> biases() const { return biases_; }

  // A tensor's numbers. Throws Error where one is not finite.
  std::vector<float> read(const TensorView& tensor) const;

 private:
  using Role = LoraRole;

  [[noreturn]] void fail(std::initializer_list<Piece> what) const {
    throw Error(join({"file ", printable(file_.name()), ": ", join(what)}));
  }
  [[noreturn]] void fail(const TensorView& tensor, std::initializer_list<Piece> what) const {
    fail({"tensor ", printable(tensor.name), ": ", join(what)});
  }
  static std::string_view family_of(std::size_t width);
  // What the file was made for, where that is no model like this one; by the width of the text that it reads.
  std::string hint() const;

  using Found = std::map<std::string_view, std::pair<LoraModules::Module, LoraTensors>>;  // by the path of one of their leafs
  // Throws Error for tensors of other modules and other methods.
  Found find_tensors() const;

  void read_config(const std::filesystem::path& path, const Found& found);

  void check(const TensorView& t, std::span<const std::size_t> shape) const;
  void check(const TensorView& t, std::initializer_list<std::size_t> shape) const {
    check(t, std::span(shape.begin(), shape.size()));
  }
  static std::size_t size_of_axis(const TensorView& t, std::size_t axis) { return t.shape.size() > axis ? t.shape[axis] : 1; }

  // The strength of factors that are there, and their rank.
  void set_strength(LoraChange& change, std::size_t rank) const;
  [[noreturn]] void throw_for(const LoraChange&, std::initializer_list<Piece> what) const { fail({"lora: ", join(what)}); }

  // One number of any usual dtype.
  float read_alpha(const TensorView& tensor) const;

  void add(const LoraModules::Module& place, const LoraTensors& tensors);
  void add_bias(const LoraModules::Module& place, const TensorView& tensor, float factor);

  // The weight's shape in files, with another number of outputs; columns: its taps and inputs are one axis.
  static std::vector<std::size_t> shape_with(const LoraChange& change, std::size_t outputs);
  static std::vector<std::size_t> core_shape(const LoraChange& change, std::size_t outputs, std::size_t inputs);
  static std::size_t inputs_of(const LoraChange& change) { return change.type->columns / change.type->taps; }

  void check_low_rank(LoraChange& change) const;

  const TensorView& require(const LoraChange& change, Role role) const;
  // Two factors, perhaps with a core: a b, or a^T core b.
  void check_factors(const LoraChange& change, Role role_a, Role role_b, Role role_core, std::size_t rows, std::size_t inputs,
                     std::size_t taps) const;
  static std::vector<std::size_t> shape_of_part(const LoraChange& change, std::size_t outputs, std::size_t inputs,
                                                std::size_t taps);
  void check_hadamard(LoraChange& change) const;
  void check_kronecker(LoraChange& change) const;
  void check_magnitudes(const LoraChange& change) const;

  SafetensorsFile file_;
  std::span<const reflect::LeafView> leafs_;  // while this is made
  std::optional<PeftConfig> peft_;
  std::optional<std::size_t> rank_said_;
  std::optional<float> alpha_said_;
  std::vector<LoraChange> weights_;
  std::vector<LoraBiasChange> biases_;
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY bool has_magnitudes_of_rows(const LoraChange& change) {
  const TensorView& m = *change.tensors[LoraRole::magnitude];
  return is_of_peft(m) || m.shape.size() < 2 || m.shape[0] != 1 || change.type->rows == 1;
}

MOBILEDIFFUSION_BODY LoraChanges::LoraChanges(const std::filesystem::path& path, std::span<const reflect::LeafView> leafs)
    : file_(path), leafs_(leafs) {
  read_config(path, find_tensors());
  leafs_ = {};
}

MOBILEDIFFUSION_BODY std::vector<float> LoraChanges::read(const TensorView& tensor) const {
  std::vector<float> values(tensor.count());
  file_.read_floats(tensor, values.data());
  if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
    fail(tensor, {"expected finite numbers, found NaN or infinity"});
  return values;
}

MOBILEDIFFUSION_BODY std::string_view LoraChanges::family_of(std::size_t width) {
  return width == 768    ? " (Stable Diffusion 1.x)"
         : width == 1024 ? " (Stable Diffusion 2.x)"
         : width == 2048 ? " (Stable Diffusion XL)"
                         : "";
}

MOBILEDIFFUSION_BODY std::string LoraChanges::hint() const {
  struct Names {
    std::string_view block, one, other;
  };
  for (const Names& names : {Names{"attn2", "to_k", "to_v"}, Names{"self_attn", "q_proj", "k_proj"}}) {
    const auto speaks = [&](std::string_view name) {
      return name.find(names.block) != name.npos && (name.find(names.one) != name.npos || name.find(names.other) != name.npos);
    };
    std::size_t expected = 0, found = 0;
    for (const reflect::LeafView& leaf : leafs_)
      if (leaf.type->is_matrix && speaks(leaf.path)) expected = leaf.type->columns;
    for (const TensorView& t : file_.tensors()) {
      const auto name = parse_lora_name(t.name);
      if (name && (name->role() == Role::down || name->role() == Role::hada_w1_b) && t.shape.size() >= 2 && speaks(t.name))
        found = t.shape[1];
    }
    if (expected != 0 && found != 0 && expected != found)
      return join({"; it was made for a model that reads text of width ", found, family_of(found), ", this one's is ", expected,
                   family_of(expected)});
  }
  return "";
}

MOBILEDIFFUSION_BODY LoraChanges::Found LoraChanges::find_tensors() const {
  const LoraModules modules(leafs_, file_.tensors());
  Found found;
  for (const TensorView& t : file_.tensors()) {
    if (const char* const method = other_method(t.name); method != nullptr) fail(t, {method, ": not supported"});
    if (!modules.has_second_text_encoder())
      for (const char* front : {"lora_te1_", "lora_te2_", "text_encoder_2."})
        if (t.name.starts_with(front))
          fail(t, {"belongs to Stable Diffusion XL, which has two text encoders; this model has one"});
    const auto name = parse_lora_name(t.name);
    const LoraModules::Module* const module = name ? modules.find(name->module) : nullptr;
    if (module == nullptr)
      fail(t, {"expected lora_A.weight or lora_B.weight, or what other grammars call them, of a matrix of the model", hint()});
    const bool of_bias = name->role() == Role::bias || name->role() == Role::bias_difference;
    if ((of_bias ? module->bias : module->weight) == LoraModules::none)
      fail(t, {"the model has no ", of_bias ? "bias" : "weight", " there"});
    auto& [place, tensors] = found[leafs_[module->weight != LoraModules::none ? module->weight : module->bias].path];
    place = *module;
    if (tensors[name->role()] != nullptr) fail(t, {"stands for the same as tensor ", printable(tensors[name->role()]->name)});
    tensors[name->role()] = &t;
    if (name->role() != Role::alpha && (!tensors.name.ending || name->role() <= Role::up)) tensors.name = *name;
  }
  return found;
}

MOBILEDIFFUSION_BODY void LoraChanges::read_config(const std::filesystem::path& path, const Found& found) {
  const auto said = [&](const char* key) -> const std::string* {
    const auto at = file_.metadata().find(key);
    return at == file_.metadata().end() ? nullptr : &at->second;
  };
  const auto number = [&](const char* key, auto value) {
    const std::string* const text = said(key);
    if (text == nullptr) return std::optional<decltype(value)>{};
    if (!parse_number(*text, value)) fail({"metadata ", key, ": expected a number, found ", printable(*text)});
    return std::optional(value);
  };
  rank_said_ = number("rank", std::size_t{});
  alpha_said_ = number("alpha", float{});
  if (const std::string* const text = said("lora_adapter_metadata"); text != nullptr) {
    const std::string place = join({"file ", printable(file_.name()), ": metadata lora_adapter_metadata"});
    peft_.emplace(parse_json(*text, place), place);
  } else if (std::any_of(found.begin(), found.end(),
                         [](const auto& f) { return f.second.second.name.module.starts_with("base_model.model."); })) {
    const std::filesystem::path config = path.parent_path() / "adapter_config.json";
    if (!path_exists(config)) fail({"expected PEFT's adapter_config.json beside it, which says how strong the adapter is"});
    peft_.emplace(read_json(config), join({"file ", printable(path_text(config))}));
  }
  for (const auto& [name, place_and_tensors] : found) add(place_and_tensors.first, place_and_tensors.second);
  if (weights_.empty() && biases_.empty()) fail({"lora: expected at least one matrix to adapt, found none"});
  const auto in_order = [](const auto& a, const auto& b) { return a.leaf < b.leaf; };
  std::sort(weights_.begin(), weights_.end(), in_order);
  std::sort(biases_.begin(), biases_.end(), in_order);
}

MOBILEDIFFUSION_BODY void LoraChanges::check(const TensorView& t, std::span<const std::size_t> shape) const {
  if (!same_shape(shape, t.shape)) fail(t, {"expected shape ", to_text(shape), ", found ", to_text(t.shape), hint()});
  if (!is_float(t.dtype)) fail(t, {"expected dtype ", float_dtypes, ", found ", name_of(t.dtype)});
}

MOBILEDIFFUSION_BODY void LoraChanges::set_strength(LoraChange& change, std::size_t rank) const {
  const LoraTensors& tensors = change.tensors;
  change.rank = rank;
  if (rank < 1) throw_for(change, {"rank: expected at least 1 for ", change.path, ", found 0"});
  if (rank_said_ && *rank_said_ != rank) fail({"metadata rank: expected that of the tensors, ", rank, ", found ", *rank_said_});
  std::optional<float> alpha;
  if (tensors[Role::alpha] != nullptr) alpha = read_alpha(*tensors[Role::alpha]);
  const std::string part = change.path.substr(0, change.path.find('.'));
  if (peft_) {
    const auto configured = peft_->alpha(part, tensors.name.module, rank);
    if (!alpha) alpha = configured;
    if (peft_->is_dora(part) && !change.has_magnitudes())
      throw Error(join({peft_->place(), ": use_dora: there is no magnitude for ", change.path}));
  }
  if (!alpha) alpha = alpha_said_;
  change.alpha = alpha.value_or(static_cast<float>(rank));
  if (!(change.alpha > 0.0f) || !std::isfinite(change.alpha))
    throw_for(change, {"alpha: expected a number above 0 for ", change.path, ", found ", std::to_string(change.alpha)});
  change.factor = change.alpha / static_cast<float>(rank);
}

MOBILEDIFFUSION_BODY float LoraChanges::read_alpha(const TensorView& tensor) const {
  if (tensor.count() != 1) fail(tensor, {"expected one number, found shape ", to_text(tensor.shape)});
  float value = 0;
  if (is_float(tensor.dtype)) {
    file_.read_floats(tensor, &value);
    return value;
  }
  const std::vector<std::byte> bytes = file_.read_bytes(tensor);
  if (tensor.dtype == Dtype::f64) return static_cast<float>(load<double>(bytes.data()));
  if (tensor.dtype == Dtype::i64) return static_cast<float>(load<std::int64_t>(bytes.data()));
  if (tensor.dtype == Dtype::i32) return static_cast<float>(load<std::int32_t>(bytes.data()));
  fail(tensor, {"expected a number, found dtype ", name_of(tensor.dtype)});
}

MOBILEDIFFUSION_BODY void LoraChanges::add(const LoraModules::Module& place, const LoraTensors& tensors) {
  const auto has = [&](Role first, Role last) {
    return std::any_of(tensors.of.begin() + static_cast<std::ptrdiff_t>(first),
                       tensors.of.begin() + static_cast<std::ptrdiff_t>(last) + 1, [](const TensorView* t) { return t; });
  };
  std::optional<LoraMethod> method;
  for (const auto& [candidate, there] : {std::pair{LoraMethod::low_rank, has(Role::down, Role::bias)},
                                         {LoraMethod::hadamard, has(Role::hada_w1_a, Role::hada_t2)},
                                         {LoraMethod::kronecker, has(Role::lokr_w1, Role::lokr_t2)},
                                         {LoraMethod::difference, has(Role::difference, Role::difference)}}) {
    if (there && method)
      fail({"tensor ", printable(std::string(tensors.name.module) + std::string(tensors.name.ending->text)),
            ": its module is changed in two ways at once"});
    if (there) method = candidate;
  }
  if (!method)
    for (const Role alone : {Role::alpha, Role::magnitude})
      if (tensors[alone] != nullptr) fail(*tensors[alone], {"there are no factors beside it"});
  if (method) {
    const reflect::LeafView& leaf = leafs_[place.weight];
    LoraChange change{place.weight, leaf.path, leaf.type, *method};
    change.tensors = tensors;
    if (!leaf.type->is_matrix && *method != LoraMethod::difference)
      fail({"tensor ", printable(std::string(tensors.name.module) + std::string(tensors.name.ending->text)),
            ": expected the weight of a linear layer or convolution to be adapted, found ", leaf.path});
    if (*method == LoraMethod::low_rank) check_low_rank(change);
    if (*method == LoraMethod::hadamard) check_hadamard(change);
    if (*method == LoraMethod::kronecker) check_kronecker(change);
    if (*method == LoraMethod::difference) check(*tensors[Role::difference], leaf.type->file_shape);
    if (change.has_magnitudes()) check_magnitudes(change);
    if (const TensorView* const bias = tensors[Role::bias]; bias != nullptr) add_bias(place, *bias, change.factor);
    weights_.push_back(std::move(change));
  }
  if (const TensorView* const bias = tensors[Role::bias_difference]; bias != nullptr) add_bias(place, *bias, 1.0f);
}

MOBILEDIFFUSION_BODY void LoraChanges::add_bias(const LoraModules::Module& place, const TensorView& tensor, float factor) {
  const reflect::LeafView& leaf = leafs_[place.bias];
  check(tensor, leaf.type->file_shape);
  biases_.push_back({place.bias, leaf.path, &tensor, factor});
}

MOBILEDIFFUSION_BODY std::vector<std::size_t> LoraChanges::shape_with(const LoraChange& change, std::size_t outputs) {
  std::vector<std::size_t> shape(change.type->file_shape.begin(), change.type->file_shape.end());
  shape[0] = outputs;
  return shape;
}

MOBILEDIFFUSION_BODY std::vector<std::size_t> LoraChanges::core_shape(const LoraChange& change, std::size_t outputs,
                                                                      std::size_t inputs) {
  std::vector<std::size_t> shape = shape_with(change, outputs);
  shape[1] = inputs;
  return shape;
}

MOBILEDIFFUSION_BODY void LoraChanges::check_low_rank(LoraChange& change) const {
  const TensorView *down = change.tensors[Role::down], *up = change.tensors[Role::up], *mid = change.tensors[Role::mid];
  if (down == nullptr && up == nullptr) {
    const TensorView* const alone = mid != nullptr ? mid : change.tensors[Role::bias];
    fail(*alone, {"there are no factors beside it"});
  }
  if (down == nullptr || up == nullptr)
    fail({"tensor ", printable(change.tensors.name.partner()), ": missing beside its partner"});
  const std::size_t rank = down->shape.empty() ? 0 : down->shape[0];
  if (mid == nullptr) {
    check(*down, shape_with(change, rank));
    check(*up, {change.type->rows, rank});
    return set_strength(change, rank);
  }
  check(*down, {rank, inputs_of(change)});
  const std::size_t outer = size_of_axis(*mid, 0);
  check(*mid, core_shape(change, outer, rank));
  check(*up, {change.type->rows, outer});
  if (outer < 1) set_strength(change, 0);
  set_strength(change, rank);
}

MOBILEDIFFUSION_BODY const TensorView& LoraChanges::require(const LoraChange& change, Role role) const {
  if (change.tensors[role] != nullptr) return *change.tensors[role];
  const auto ending = std::find_if(lora_endings.begin(), lora_endings.end(), [&](const LoraEnding& e) { return e.role == role; });
  fail({"tensor ", printable(std::string(change.tensors.name.module) + std::string(ending->text)),
        ": missing beside its partners"});
}

MOBILEDIFFUSION_BODY void LoraChanges::check_factors(const LoraChange& change, Role role_a, Role role_b, Role role_core,
                                                     std::size_t rows, std::size_t inputs, std::size_t taps) const {
  const TensorView &a = require(change, role_a), &b = require(change, role_b);
  const std::size_t inner = size_of_axis(b, 0);
  const TensorView* const core = change.tensors[role_core];
  if (core == nullptr) {
    if (b.shape.size() > 2) check(b, shape_of_part(change, inner, inputs, taps));
    else check(b, {inner, inputs * taps});
    return check(a, {rows, inner});
  }
  check(b, {inner, inputs});
  const std::size_t outer = size_of_axis(a, 0);
  check(a, {outer, rows});
  check(*core, core_shape(change, outer, inner));
}

MOBILEDIFFUSION_BODY std::vector<std::size_t> LoraChanges::shape_of_part(const LoraChange& change, std::size_t outputs,
                                                                         std::size_t inputs, std::size_t taps) {
  if (taps == 1) return {outputs, inputs};
  return core_shape(change, outputs, inputs);
}

MOBILEDIFFUSION_BODY void LoraChanges::check_hadamard(LoraChange& change) const {
  const reflect::LeafType& type = *change.type;
  if ((change.tensors[Role::hada_t1] != nullptr) != (change.tensors[Role::hada_t2] != nullptr))
    require(change, change.tensors[Role::hada_t1] == nullptr ? Role::hada_t1 : Role::hada_t2);
  check_factors(change, Role::hada_w1_a, Role::hada_w1_b, Role::hada_t1, type.rows, inputs_of(change), type.taps);
  check_factors(change, Role::hada_w2_a, Role::hada_w2_b, Role::hada_t2, type.rows, inputs_of(change), type.taps);
  set_strength(change, size_of_axis(*change.tensors[Role::hada_w1_b], 0));
}

MOBILEDIFFUSION_BODY void LoraChanges::check_kronecker(LoraChange& change) const {
  const reflect::LeafType& type = *change.type;
  const LoraTensors& t = change.tensors;
  std::size_t rows = 0, inputs = 0, rank = 0;  // of w1
  if (const TensorView* const w1 = t[Role::lokr_w1]; w1 != nullptr) {
    rows = size_of_axis(*w1, 0);
    inputs = size_of_axis(*w1, 1);
    check(*w1, {rows, inputs});
  } else {
    const TensorView &a = require(change, Role::lokr_w1_a), &b = require(change, Role::lokr_w1_b);
    rank = size_of_axis(b, 0);
    rows = size_of_axis(a, 0);
    inputs = size_of_axis(b, 1);
    check(a, {rows, rank});
    check(b, {rank, inputs});
    if (rank < 1) set_strength(change, 0);
  }
  if (rows == 0 || inputs == 0 || type.rows % rows != 0 || inputs_of(change) % inputs != 0)
    fail({"tensor ", printable(std::string(t.name.module) + ".lokr_w1"), ": expected a shape that divides ", type.rows, " x ",
          inputs_of(change), ", found ", rows, " x ", inputs, hint()});
  if (const TensorView* const w2 = t[Role::lokr_w2]; w2 != nullptr) {
    check(*w2, shape_of_part(change, type.rows / rows, inputs_of(change) / inputs, type.taps));
  } else {
    check_factors(change, Role::lokr_w2_a, Role::lokr_w2_b, Role::lokr_t2, type.rows / rows, inputs_of(change) / inputs,
                  type.taps);
    rank = size_of_axis(*t[Role::lokr_w2_b], 0);
    if (rank < 1) set_strength(change, 0);
  }
  if (rank != 0) set_strength(change, rank);
}

MOBILEDIFFUSION_BODY void LoraChanges::check_magnitudes(const LoraChange& change) const {
  const TensorView& m = *change.tensors[Role::magnitude];
  const std::size_t rows = change.type->rows;
  if (!has_magnitudes_of_rows(change)) check(m, {1, inputs_of(change)});
  else if (m.shape.size() > 1 && m.shape[0] == 1 && is_of_peft(m)) check(m, {1, rows});
  else check(m, {rows});
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail

#include "../core/end.hpp"
