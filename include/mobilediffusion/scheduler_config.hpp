// SPDX-License-Identifier: Apache-2.0
// scheduler_config.json of a folder of the diffusers layout -> which sampler draws, over which noise schedule. Every field that
// changes what diffusers draws is honoured, or refused by its name.
#pragma once

#include "core/begin.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "config/config.hpp"
#include "diffusion/samplers.hpp"
#include "folder_config.hpp"
#include "io/message.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct SchedulerConfig {
  Sampler sampler;
  NoiseSchedule schedule;
  std::string note;  // not empty: how this differs from what diffusers would do, for people
};

// c: the model's; what the network puts out must be the same, and the file's betas count where the model's are of diffusers'
// kind. A class that is not one of the samplers is drawn with the nearest of them, on its own grid. Throws Error.
SchedulerConfig read_scheduler_config(const std::filesystem::path& path, const SamplerConfig& c);

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

// What a class of diffusers is here, and what fields mean that its file leaves out.
struct SchedulerClass {
  std::string_view name;  // between an optional Flax and Scheduler
  Sampler sampler;
  bool same = true;  // the class itself, else what comes nearest
  double first_beta = 0.0001, last_beta = 0.02;
  std::string_view betas = "linear", spacing = "linspace";
  bool rescales = false;                      // looks at rescale_betas_zero_snr
  bool picture_behind = true, clips = false;  // set_alpha_to_one, clip_sample
  bool operator==(std::string_view n) const { return name == n; }
};

MOBILEDIFFUSION_BODY const auto& scheduler_classes() {
  static const std::array classes{
      SchedulerClass{.name = "DDIM", .sampler = Ddim{}, .spacing = "leading", .rescales = true, .clips = true},
      SchedulerClass{.name = "PNDM", .sampler = Pndm{}, .spacing = "leading", .picture_behind = false},
      SchedulerClass{.name = "EulerDiscrete", .sampler = Euler{}, .rescales = true},
      SchedulerClass{.name = "EulerAncestralDiscrete", .sampler = EulerAncestral{}, .rescales = true},
      SchedulerClass{.name = "DPMSolverMultistep", .sampler = DpmSolver{}, .rescales = true},
      SchedulerClass{"LCM", Lcm{}, true, 0.00085, 0.012, "scaled_linear", "leading", true},
      SchedulerClass{"TCD", Tcd{}, true, 0.00085, 0.012, "scaled_linear", "leading", true},
      SchedulerClass{"DDPM", Ddim{}, false, 0.0001, 0.02, "linear", "leading", true, true, true},
      SchedulerClass{"DPMSolverSinglestep", DpmSolver{}, false},
      SchedulerClass{"UniPCMultistep", DpmSolver{}, false, 0.0001, 0.02, "linear", "linspace", true},
      SchedulerClass{"DEISMultistep", DpmSolver{}, false},
      SchedulerClass{"LMSDiscrete", Euler{}, false},
      SchedulerClass{"HeunDiscrete", Euler{}, false, 0.00085, 0.012},
      SchedulerClass{"KDPM2Discrete", Euler{}, false, 0.00085, 0.012},
      SchedulerClass{"KDPM2AncestralDiscrete", EulerAncestral{}, false, 0.00085, 0.012},
      SchedulerClass{"DPMSolverSDE", EulerAncestral{}, false, 0.00085, 0.012}};
  return classes;
}

class SchedulerFile : public ConfigFile {
 public:
  using ConfigFile::ConfigFile;

  bool flag(std::string_view name, bool otherwise) {
    const Json found = value(name, otherwise);
    if (!found.is_boolean() && !found.is_null()) refuse(name, "true or false", found);
    return found.is_boolean() && found.get<bool>();
  }
  double number(std::string_view name, double otherwise, double least, double most) {
    const Json found = value(name, otherwise);
    if (!found.is_number() || !(found.get<double>() >= least && found.get<double>() <= most))
      refuse(name, join({"a number from ", Json(least).dump(), " to ", Json(most).dump()}), found);
    return found.get<double>();
  }
  std::size_t whole(std::string_view name, std::size_t otherwise, std::size_t least, std::size_t most) {
    const Json found = value(name, otherwise);
    if (!found.is_number_integer() || found < least || found > most)
      refuse(name, join({"a whole number from ", least, " to ", most}), found);
    return found.get<std::size_t>();
  }
  // The value that goes with one of the names.
  template <class T>
  T one_of(std::string_view name, std::string_view otherwise, std::initializer_list<std::pair<std::string_view, T>> values) {
    const Json found = value(name, otherwise);
    for (const auto& [text, value] : values)
      if (found == text) return value;
    std::string names;
    for (const auto& [text, value] : values) names += join({names.empty() ? "" : " or ", Json(text).dump()});
    refuse(name, names, found);
  }
};

MOBILEDIFFUSION_BODY const SchedulerClass& read_class(SchedulerFile& file) {
  static const SchedulerClass nameless{.name = "", .sampler = Ddim{}};
  const nlohmann::json name = file.value("_class_name", nullptr);
  if (name.is_null()) return nameless;
  std::string_view kind = name.is_string() ? std::string_view(name.get_ref<const std::string&>()) : std::string_view();
  if (kind.starts_with("Flax")) kind.remove_prefix(4);
  if (kind.ends_with("Scheduler")) kind.remove_suffix(std::string_view("Scheduler").size());
  const auto& classes = scheduler_classes();
  const auto found = std::find(classes.begin(), classes.end(), kind);
  if (found == classes.end())
    file.refuse("_class_name", "a scheduler of diffusion in discrete steps, such as DDIMScheduler", name);
  return *found;
}

MOBILEDIFFUSION_BODY NoiseSchedule read_noise_schedule(SchedulerFile& file, const SchedulerClass& kind, const SamplerConfig& c) {
  file.expect("num_train_timesteps", 1000);
  const bool rescales = kind.rescales && file.flag("rescale_betas_zero_snr", false);
  file.ignore({"rescale_betas_zero_snr"});
  if (c.schedule != Schedule::scaled_linear) {  // diffusers has no name for the others
    for (const char* field : {"beta_schedule", "beta_start", "beta_end", "trained_betas"}) file.expect(field, nullptr);
    if (rescales) file.refuse("rescale_betas_zero_snr", "false", true);
    return NoiseSchedule(c.schedule);
  }
  // Euler and DPM-Solver++ leave a little of the signal; the others cannot tell a picture from its noise.
  const bool needs_signal = c.prediction == Prediction::epsilon && !std::holds_alternative<Euler>(kind.sampler) &&
                            !std::holds_alternative<EulerAncestral>(kind.sampler) &&
                            !std::holds_alternative<DpmSolver>(kind.sampler);
  if (rescales && needs_signal)
    file.refuse("rescale_betas_zero_snr", "false with prediction_type epsilon (nothing is left of the picture to divide by)",
                true);
  const nlohmann::json trained = file.value("trained_betas", nullptr);
  const auto betas = file.one_of<BetaSchedule>("beta_schedule", kind.betas,
                                               {{"linear", BetaSchedule::linear},
                                                {"scaled_linear", BetaSchedule::scaled_linear},
                                                {"squaredcos_cap_v2", BetaSchedule::squaredcos_cap_v2}});
  const double first = file.number("beta_start", kind.first_beta, 1e-7, 0.999),
               last = file.number("beta_end", kind.last_beta, 1e-7, 0.999);
  if (trained.is_null()) return NoiseSchedule(betas, first, last, rescales);
  std::array<double, NoiseSchedule::steps> values;
  const auto is_beta = [](const nlohmann::json& b) { return b.is_number() && b.get<double>() >= 1e-7 && b.get<double>() <= 1.0; };
  if (!trained.is_array() || trained.size() != values.size() || !std::all_of(trained.begin(), trained.end(), is_beta))
    file.refuse("trained_betas", "null or 1000 numbers between 0 and 1", trained);
  std::transform(trained.begin(), trained.end(), values.begin(), [](const nlohmann::json& b) { return b.get<double>(); });
  return NoiseSchedule(values, rescales);
}

// Options of each kind of sampler; same: the file's class is this sampler.
MOBILEDIFFUSION_BODY void read_grid(SchedulerFile& file, const SchedulerClass& kind, Spacing& spacing, std::size_t& offset) {
  spacing =
      file.one_of<Spacing>("timestep_spacing", kind.spacing,
                           {{"leading", Spacing::leading}, {"trailing", Spacing::trailing}, {"linspace", Spacing::linspace}});
  offset = file.whole("steps_offset", 0, 0, NoiseSchedule::steps - 1);
}
MOBILEDIFFUSION_BODY void read_sigmas(SchedulerFile& file, bool& karras, bool& sigma_min_at_final) {
  karras = file.flag("use_karras_sigmas", false);
  sigma_min_at_final = file.one_of<bool>("final_sigmas_type", "zero", {{"zero", false}, {"sigma_min", true}});
  for (const char* off : {"use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas"})
    file.expect(off, {false, nullptr}, false);
}
MOBILEDIFFUSION_BODY void read_options(SchedulerFile& file, const SchedulerClass& kind, const NoiseSchedule&, Ddim& s) {
  read_grid(file, kind, s.spacing, s.offset);
  s.alpha_to_one = file.flag("set_alpha_to_one", kind.picture_behind);
}
MOBILEDIFFUSION_BODY void read_options(SchedulerFile& file, const SchedulerClass& kind, const NoiseSchedule&, Pndm& s) {
  read_grid(file, kind, s.spacing, s.offset);
  s.alpha_to_one = file.flag("set_alpha_to_one", kind.picture_behind);
  file.expect("skip_prk_steps", {true}, false);
}
MOBILEDIFFUSION_BODY void read_options(SchedulerFile& file, const SchedulerClass& kind, const NoiseSchedule&, Euler& s) {
  read_grid(file, kind, s.spacing, s.offset);
  read_sigmas(file, s.karras, s.sigma_min_at_final);
  file.expect("interpolation_type", "linear");
  for (auto [name, option] : {std::pair("sigma_min", &s.sigma_min), std::pair("sigma_max", &s.sigma_max)})
    if (!file.value(name, nullptr).is_null()) *option = static_cast<float>(file.number(name, 0.0, 1e-4, 1e4));
}
MOBILEDIFFUSION_BODY void read_options(SchedulerFile& file, const SchedulerClass& kind, const NoiseSchedule&, EulerAncestral& s) {
  read_grid(file, kind, s.spacing, s.offset);
}
MOBILEDIFFUSION_BODY void read_options(SchedulerFile& file, const SchedulerClass& kind, const NoiseSchedule& schedule,
                                       DpmSolver& s) {
  read_grid(file, kind, s.spacing, s.offset);
  read_sigmas(file, s.karras, s.sigma_min_at_final);
  // Lambdas below are cut off the grid.
  const nlohmann::json cut = file.value("lambda_min_clipped", nullptr);
  const double lowest = -std::log(schedule.ratio(static_cast<double>(NoiseSchedule::steps - 1)));
  if (!cut.is_null() && !(cut.is_number() && cut.get<double>() <= lowest))
    file.refuse("lambda_min_clipped", join({"null or at most ", nlohmann::json(lowest).dump(), ", which cuts nothing"}), cut);
  s.lower_order_final = file.flag("lower_order_final", true);
  if (!kind.same) return;
  s.order = file.whole("solver_order", 2, 1, 3);
  s.euler_at_final = file.flag("euler_at_final", false);
  file.expect("algorithm_type", {"dpmsolver++", "deis"}, "dpmsolver++");  // as diffusers takes deis here
  s.heun = file.one_of<bool>("solver_type", "midpoint",
                             {{"midpoint", false}, {"heun", true}, {"logrho", false}, {"bh1", false}, {"bh2", false}});
}
MOBILEDIFFUSION_BODY void read_options(SchedulerFile& file, const SchedulerClass&, const NoiseSchedule&, Lcm& s) {
  s.original_steps = file.whole("original_inference_steps", 50, 1, NoiseSchedule::steps);
  s.timestep_scaling = static_cast<float>(file.number("timestep_scaling", 10.0, 0.0, 1e6));
}
MOBILEDIFFUSION_BODY void read_options(SchedulerFile& file, const SchedulerClass&, const NoiseSchedule&, Tcd& s) {
  s.original_steps = file.whole("original_inference_steps", 50, 1, NoiseSchedule::steps);
}
MOBILEDIFFUSION_BODY void read_options(SchedulerFile&, const SchedulerClass&, const NoiseSchedule&, Renoise&) {
}  // no class of diffusers

}  // namespace detail

MOBILEDIFFUSION_BODY SchedulerConfig read_scheduler_config(const std::filesystem::path& path, const SamplerConfig& c) {
  detail::SchedulerFile file(path);
  const detail::SchedulerClass& kind = detail::read_class(file);
  const char* const prediction = c.prediction == Prediction::v         ? "v_prediction"
                                 : c.prediction == Prediction::epsilon ? "epsilon"
                                                                       : "sample";
  if (const nlohmann::json found = file.value("prediction_type", "epsilon"); found != prediction)
    file.refuse("prediction_type", detail::join({prediction, " (the configuration's `sampler.prediction`)"}), found);
  SchedulerConfig config{kind.sampler, detail::read_noise_schedule(file, kind, c), {}};
  if (!kind.name.empty()) std::visit([&](auto& s) { detail::read_options(file, kind, config.schedule, s); }, config.sampler);
  if (!kind.same)
    config.note = detail::join({kind.name, "Scheduler is not one of the samplers; drawn with ", name_of(config.sampler)});

  file.expect("thresholding", {false, nullptr}, false);
  file.expect("clip_sample", {false, nullptr}, kind.clips);
  file.expect("timestep_type", "discrete");
  file.expect("variance_type", {nullptr, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"}, nullptr);
  for (const char* off : {"use_flow_sigmas", "use_dynamic_shifting"}) file.expect(off, {false, nullptr}, false);
  // Of other classes, or without effect where the fields above are as expected.
  file.ignore({"timestep_spacing",
               "steps_offset",
               "set_alpha_to_one",
               "skip_prk_steps",
               "use_karras_sigmas",
               "use_exponential_sigmas",
               "use_beta_sigmas",
               "use_lu_lambdas",
               "final_sigmas_type",
               "interpolation_type",
               "sigma_min",
               "sigma_max",
               "solver_order",
               "solver_type",
               "solver_p",
               "algorithm_type",
               "lower_order_final",
               "euler_at_final",
               "lambda_min_clipped",
               "predict_x0",
               "predict_epsilon",
               "disable_corrector",
               "clip_sample_range",
               "dynamic_thresholding_ratio",
               "sample_max_value",
               "noise_sampler_seed",
               "flow_shift",
               "time_shift_type",
               "original_inference_steps",
               "timestep_scaling"});
  file.finish();
  return config;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
