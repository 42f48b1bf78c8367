// SPDX-License-Identifier: Apache-2.0
// PEFT's configuration of an adapter: how strong it is.
#pragma once

#include "../core/begin.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "json.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail {

// Of the library itself beside its file (adapter_config.json), or in the metadata of diffusers (lora_adapter_metadata), with the
// part ("unet.") in front of each key.
class PeftConfig {
 public:
  PeftConfig(const nlohmann::json& json, std::string place);

  // What multiplies B A of this module, times the rank; nothing where the configuration does not say. part: "unet".
  // module: its name in the file. Throws Error for other methods than LoRA and DoRA, and for what would need other weights of the
  // model.
  std::optional<float> alpha(const std::string& part, std::string_view module, std::size_t rank) const;
  // Whether its modules have magnitudes.
  bool is_dora(const std::string& part) const { return is_on(part, "use_dora"); }
  const std::string& place() const { return place_; }

 private:
  const nlohmann::json* field(const std::string& part, const char* name) const;
  bool is_on(const std::string& part, const char* name) const;

  std::shared_ptr<const nlohmann::json> json_;
  std::string place_;  // for messages
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY PeftConfig::PeftConfig(const nlohmann::json& json, std::string place)
    : json_(std::make_shared<const nlohmann::json>(json)), place_(std::move(place)) {
  if (!json.is_object()) throw Error(place_ + ": expected a JSON object");
}

MOBILEDIFFUSION_BODY std::optional<float> PeftConfig::alpha(const std::string& part, std::string_view module,
                                                            std::size_t rank) const {
  if (const nlohmann::json* const type = field(part, "peft_type"); type != nullptr && *type != nlohmann::json("LORA"))
    throw Error(join({place_, ": peft_type: expected LORA, found ", printable(type->dump())}));
  if (is_on(part, "fan_in_fan_out")) throw Error(place_ + ": fan_in_fan_out: not supported");
  if (const nlohmann::json* const start = field(part, "init_lora_weights"); start != nullptr && start->is_string())
    for (const char* method : {"pissa", "olora", "corda", "loftq", "lora_ga"})
      if (start->get<std::string>().starts_with(method))
        throw Error(join({place_, ": init_lora_weights: ", method, " changes the model's own weights, which is not supported"}));
  const nlohmann::json* found = field(part, "lora_alpha");
  if (const nlohmann::json* const patterns = field(part, "alpha_pattern"); patterns != nullptr && patterns->is_object())
    for (auto at = patterns->begin(); at != patterns->end(); ++at) {
      const std::string& name = at.key();
      if (name.find_first_of("^$*+?()[]{}|\\") != name.npos)
        throw Error(join({place_, ": alpha_pattern: expected names of layers, found the expression ", printable(name)}));
      if (module == name || module.ends_with("." + name)) found = &*at;
    }
  if (found == nullptr) return std::nullopt;
  if (!found->is_number()) throw Error(join({place_, ": lora_alpha: expected a number, found ", printable(found->dump())}));
  return found->get<float>() * (is_on(part, "use_rslora") ? std::sqrt(static_cast<float>(rank)) : 1.0f);
}

MOBILEDIFFUSION_BODY const nlohmann::json* PeftConfig::field(const std::string& part, const char* name) const {
  auto at = json_->find(part + "." + name);
  if (at == json_->end()) at = json_->find(name);
  return at == json_->end() || at->is_null() ? nullptr : &*at;
}

MOBILEDIFFUSION_BODY bool PeftConfig::is_on(const std::string& part, const char* name) const {
  const nlohmann::json* const value = field(part, name);
  return value != nullptr && *value != nlohmann::json(false);
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail

#include "../core/end.hpp"
