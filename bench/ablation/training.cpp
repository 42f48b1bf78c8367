// SPDX-License-Identifier: Apache-2.0
// Trains one variant after another. Finished ones are read from their results, so a killed run goes on with the next.
#include "training.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "data.hpp"

namespace ablation {

namespace {

// "+ shared keys and values" -> shared_keys_and_values
std::string folder_name(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) out += c;
    else if (!out.empty() && out.back() != '_') out += '_';
  }
  return out;
}

std::optional<Outcome> read_results(const std::filesystem::path& path, const md::Metadata& identity) {
  if (!md::path_exists(path)) return std::nullopt;
  try {
    const auto json = nlohmann::ordered_json::parse(md::read_file(path));
    for (const auto& [key, value] : identity)
      if (const std::string found = json.at("plan").at(key); found != value)
        throw md::Error("began with " + key + " " + found + ", found " + value + "; give what it began with, or another folder");
    Outcome out{json.at("validation_loss").get<double>(), {}};
    for (const auto& [name, value] : json.at("figures").items()) out.figures.emplace_back(name, value.get<double>());
    return out;
  } catch (const std::exception& e) {
    throw md::Error("file " + path.string() + ": " + e.what());
  }
}

void write_results(const std::filesystem::path& path, const md::Metadata& identity, std::string_view name, const Outcome& o) {
  nlohmann::ordered_json json;
  json["variant"] = name;
  for (const auto& [key, value] : identity) json["plan"][key] = value;
  json["validation_loss"] = o.validation_loss;
  for (const auto& [figure, value] : o.figures) json["figures"][figure] = value;
  md::write_file(path, json.dump(2) + "\n");
}

using TrainFunction = Outcome (*)(const TrainingPlan&, std::uint64_t, Data&, const std::filesystem::path&, const md::Metadata&);

struct DemoVariant {
  std::size_t parameters = 0, macs = 0;
  std::uint64_t fingerprint = 0;
  TrainFunction train = nullptr;
};

template <std::size_t I>
constexpr DemoVariant demo_variant() {
  if constexpr (variants[I].unet.demo) {
    using Net = md::Unet<*variants[I].unet.demo>;
    return {Net::parameters, Net::macs, md::reflect::fingerprint(*variants[I].unet.demo), &train<trained_as(I)>};
  } else {
    return {};
  }
}

template <std::size_t... I>
constexpr std::array<DemoVariant, sizeof...(I)> demo_variants(std::index_sequence<I...>) {
  return {demo_variant<I>()...};
}

}  // namespace

std::vector<Trained> train_variants(const TrainingPlan& plan) {
  constexpr auto demos = demo_variants(std::make_index_sequence<variants.size()>{});
  for (const std::size_t row : plan.rows)
    if (row >= demos.size() || demos[row].train == nullptr)
      throw md::Error("rows: expected variants that exist at demo scale, found " + std::to_string(row));
  std::vector<Trained> out;
  for (const DemoVariant& v : demos) out.push_back({v.parameters, v.macs, {}});

  const std::string model = emoji::file_checksum(plan.model);
  for (const std::uint64_t seed : plan.seeds) {
    std::optional<Data> data;  // made when something is to be trained
    for (std::size_t i = 0; i < demos.size(); ++i) {
      if (trained_as(i) != i) continue;
      const auto folder = plan.out / ("seed_" + std::to_string(seed)) / folder_name(variants[i].name);
      const md::Metadata identity{{"unet", md::detail::hexadecimal(demos[i].fingerprint)},
                                  {"seed", std::to_string(seed)},
                                  {"steps", std::to_string(plan.steps)},
                                  {"batch", std::to_string(plan.batch)},
                                  {"rate", std::to_string(plan.rate)},
                                  {"concepts", std::to_string(plan.concepts)},
                                  {"model", model}};
      md::Metadata measured = identity;
      measured["pictures"] = std::to_string(plan.pictures);
      std::optional<Outcome> outcome = read_results(folder / "results.json", measured);
      const bool wanted = plan.rows.empty() ||
                          std::any_of(plan.rows.begin(), plan.rows.end(), [&](std::size_t row) { return trained_as(row) == i; });
      if (!outcome && wanted) {
        if (!data) data.emplace(plan, seed);
        std::fprintf(stderr, "seed %zu, row %zu: %s\n", static_cast<std::size_t>(seed), i, std::string(variants[i].name).c_str());
        md::create_folders(folder);
        outcome = demos[i].train(plan, seed, *data, folder, identity);
        write_results(folder / "results.json", measured, variants[i].name, *outcome);
      }
      if (!outcome) continue;
      for (std::size_t k = i; k < demos.size(); ++k)
        if (trained_as(k) == i) out[k].outcomes.push_back(*outcome);
    }
  }
  for (Trained& t : out)
    if (t.outcomes.size() < plan.seeds.size()) t.outcomes.clear();  // means of other seeds would not compare
  return out;
}

}  // namespace ablation
