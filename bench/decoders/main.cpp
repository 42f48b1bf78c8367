// SPDX-License-Identifier: Apache-2.0
// Decoders beside each other: what each costs at 512x512, and how well its twin at the demo's scale learns to decode.
//
//   bench_ablation_decoder [--repetitions 5] [--csv FILE]     Markdown on standard output
//   bench_ablation_decoder --train FILE [--steps 400] ...     also trains each variant with each seed, a row of FILE for each
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "decoders.hpp"
#include "mobilediffusion/io/atomic_file.hpp"

namespace {

using namespace decoders;

static_assert(variants.size() == DECODER_VARIANTS, "the build makes one translation unit for each line that begins a variant");

std::string formatted(const char* format, auto... values) {
  char text[512];
  std::snprintf(text, sizeof(text), format, values...);
  return text;
}

template <std::size_t... I>
auto every(std::index_sequence<I...>) {
  struct Functions {
    Row (*measure)(int, std::size_t);
    Outcome (*train)(const Plan&, std::uint64_t, Data&);
  };
  return std::vector<Functions>{{&measure<I>, &train<I>}...};
}

// The trainings' results: variant (by name, quoted), seed, plan and outcome in a row. A killed run goes on behind the last row.
class Results {
 public:
  Results(std::string path, const Plan& plan)
      : path_(std::move(path)), plan_(formatted("%zu,%zu,%g,%zu", plan.steps, plan.batch, plan.rate, plan.pictures)) {
    if (!md::path_exists(path_)) md::write_file(path_, "variant,seed,steps,batch,rate,pictures,psnr,loss,seconds\n");
    std::ifstream file(path_);
    for (std::string line; std::getline(file, line);)
      for (const Variant& v : variants) {
        const std::string key = '"' + std::string(v.name) + "\",";
        if (!line.starts_with(key)) continue;
        std::size_t seed = 0;
        int at = 0;
        if (std::sscanf(line.c_str() + key.size(), "%zu,%n", &seed, &at) != 1) continue;
        const std::string rest = line.substr(key.size() + static_cast<std::size_t>(at));
        Outcome o;
        if (!rest.starts_with(plan_ + ',') ||
            std::sscanf(rest.c_str() + plan_.size(), ",%lf,%lf,%lf", &o.psnr, &o.loss, &o.seconds) != 3)
          throw md::Error("file " + path_ + ": expected steps, batch, rate and pictures " + plan_ + ", found " + rest);
        outcomes_[{v.name, seed}] = o;
      }
  }
  const Outcome* find(const Variant& v, std::uint64_t seed) const {
    const auto at = outcomes_.find({v.name, seed});
    return at == outcomes_.end() ? nullptr : &at->second;
  }
  void add(const Variant& v, std::uint64_t seed, const Outcome& o) {
    std::ofstream file(path_, std::ios::app);
    file << '"' << v.name << "\"," << seed << ',' << plan_ << formatted(",%.4f,%.5f,%.1f\n", o.psnr, o.loss, o.seconds)
         << std::flush;
    if (!file) throw md::Error("cannot write " + path_);
    outcomes_[{v.name, seed}] = o;
  }
  std::vector<double> psnr(const Variant& v) const {
    std::vector<double> out;
    for (const auto& [key, o] : outcomes_)
      if (key.first == v.name) out.push_back(o.psnr);
    std::sort(out.begin(), out.end());
    return out;
  }

 private:
  std::string path_, plan_;
  std::map<std::pair<std::string_view, std::uint64_t>, Outcome> outcomes_;
};

double median(const std::vector<double>& sorted) { return sorted[sorted.size() / 2]; }
double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}
// Of single seeds, around their mean.
double deviation(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += (v - mean(values)) * (v - mean(values));
  return values.size() < 2 ? 0.0 : std::sqrt(sum / static_cast<double>(values.size() - 1));
}

std::string markdown(const std::vector<Row>& rows, const std::optional<Results>& results) {
  std::string out =
      "| decoder | parameters | MACs | bf16 (fastest) | int8 (fastest) | at the demo's scale | PSNR "
      "|\n|---|---|---|---|---|---|---|\n";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& r = rows[i];
    out += "| " + std::string(variants[i].name) +
           formatted(" | %.2f M | %.1f G |", static_cast<double>(r.parameters) * 1e-6, static_cast<double>(r.macs) * 1e-9);
    for (const auto* times : {&r.times.bf16, &r.times.int8})
      out += times->empty() ? " |" : formatted(" %.0f ms (%.0f) |", 1e3 * median(*times), 1e3 * times->front());
    out += formatted(" %.3f M, %.0f M |", static_cast<double>(r.demo_parameters) * 1e-6, static_cast<double>(r.demo_macs) * 1e-6);
    const std::vector<double> psnr = results ? results->psnr(variants[i]) : std::vector<double>{};
    out += psnr.empty() ? " |\n" : formatted(" %.2f +- %.2f dB |\n", mean(psnr), deviation(psnr));
  }
  return out;
}

std::string csv(const std::vector<Row>& rows, const std::optional<Results>& results) {
  std::string out =
      "decoder,parameters,macs,bf16_seconds,bf16_fastest,int8_seconds,int8_fastest,demo_parameters,demo_macs,seeds,psnr,psnr_"
      "deviation,psnr_least,psnr_"
      "most\n";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& r = rows[i];
    out += '"' + std::string(variants[i].name) + '"' + formatted(",%zu,%zu", r.parameters, r.macs);
    for (const auto* times : {&r.times.bf16, &r.times.int8})
      out += times->empty() ? ",," : formatted(",%.6f,%.6f", median(*times), times->front());
    const std::vector<double> psnr = results ? results->psnr(variants[i]) : std::vector<double>{};
    out += formatted(",%zu,%zu,%zu", r.demo_parameters, r.demo_macs, psnr.size());
    out += psnr.empty() ? ",,,,\n" : formatted(",%.4f,%.4f,%.4f,%.4f\n", mean(psnr), deviation(psnr), psnr.front(), psnr.back());
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Decoders: cost at 512x512, and quality at the demo's scale", "bench_ablation_decoder"};
  int threads = 0;
  std::size_t repetitions = 5;
  std::string csv_path, results_path, model = DECODER_MODEL;
  std::vector<std::uint64_t> seeds{1};
  std::vector<std::size_t> wanted;
  Plan plan;
  app.add_option("--threads", threads, "0: all")->capture_default_str();
  app.add_option("--repetitions", repetitions, "Timed pictures of each, in bf16 and int8; 0: sizes only")->capture_default_str();
  app.add_option("--csv", csv_path, "The table, plain")->type_name("FILE");
  app.add_option("--rows", wanted, "Time and train only these rows of the table, from 0; default: all")
      ->delimiter(',')
      ->check(CLI::Range(std::size_t{0}, variants.size() - 1));
  auto* const training =
      app.add_option("--train", results_path, "Train at the demo's scale what this file has no row of, and add one")
          ->type_name("FILE");
  const auto training_option = [&](const char* name, auto& value, const char* help) {
    return app.add_option(name, value, help)->capture_default_str()->needs(training);
  };
  training_option("--steps", plan.steps, "Of each training")->check(CLI::Range(1, 1000000));
  training_option("--batch", plan.batch, "Pictures of a step")->check(CLI::Range(1, 4096));
  training_option("--rate", plan.rate, "Peak learning rate")->check(CLI::PositiveNumber);
  training_option("--pictures", plan.pictures, "Held out, for the PSNR")->check(CLI::Range(1, 10000));
  training_option("--seeds", seeds, "Every variant is trained with each")->delimiter(',');
  training_option("--model", model, "Whose encoder makes the latents")->type_name("FILE");
  CLI11_PARSE(app, argc, argv);
  try {
    const auto functions = every(std::make_index_sequence<variants.size()>{});
    const auto is_wanted = [&](std::size_t i) {
      return wanted.empty() || std::find(wanted.begin(), wanted.end(), i) != wanted.end();
    };
    std::optional<Results> results;
    if (training->count() > 0) {
      results.emplace(results_path, plan);
      std::optional<Data> data;
      for (const std::uint64_t seed : seeds)
        for (std::size_t i = 0; i < variants.size(); ++i) {
          if (!is_wanted(i) || results->find(variants[i], seed) != nullptr) continue;
          if (!data) data.emplace(threads, model);
          const Outcome o = functions[i].train(plan, seed, *data);
          results->add(variants[i], seed, o);
          std::fprintf(stderr, "seed %zu, row %zu: %.2f dB, %.0f s\n", static_cast<std::size_t>(seed), i, o.psnr, o.seconds);
        }
    }
    std::vector<Row> rows;
    for (std::size_t i = 0; i < variants.size(); ++i)
      rows.push_back(functions[i].measure(threads, is_wanted(i) ? repetitions : 0));
    if (!csv_path.empty()) md::write_file(csv_path, csv(rows, results));
    std::fputs(markdown(rows, results).c_str(), stdout);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_ablation_decoder: %s\n", e.what());
    return 1;
  }
  return 0;
}
