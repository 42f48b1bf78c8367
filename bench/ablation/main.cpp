// SPDX-License-Identifier: Apache-2.0
// The ablation: what each of MobileDiffusion's changes costs or saves, beside what is claimed of it.
//
//   bench_ablation [--repetitions 5] [--csv FILE] [--svg FILE]     Markdown on standard output
//   bench_ablation_train --train FOLDER [--repetitions 0] ...      also trains each variant at demo scale: what it does to
//   quality
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "mobilediffusion/io/atomic_file.hpp"
#include "table.hpp"

namespace {

using ablation::Row;
using ablation::variants;

static_assert(variants.size() == ABLATION_VARIANTS, "the build makes one translation unit for each line that begins a Variant");

template <std::size_t... I>
std::vector<Row> measure_all(std::index_sequence<I...>, int threads, std::size_t repetitions,
                             const std::vector<std::size_t>& timed) {
  std::vector<Row> rows;
  const auto add = [&](auto measure) {
    const bool wanted = timed.empty() || std::find(timed.begin(), timed.end(), rows.size()) != timed.end();
    rows.push_back(measure(threads, wanted ? repetitions : 0));
    if (repetitions > 0) std::fprintf(stderr, "%zu of %zu\r", rows.size(), sizeof...(I));
  };
  (add(&ablation::measure<I>), ...);
  return rows;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"MobileDiffusion's changes, one after another and one at a time", "bench_ablation"};
  int threads = 0;
  std::size_t repetitions = 5;
  std::string csv_path, svg_path;
  std::vector<std::size_t> timed;
  app.add_option("--threads", threads, "0: all")->capture_default_str();
  app.add_option("--repetitions", repetitions, "Timed passes of each; 0: sizes only")->capture_default_str();
  app.add_option("--timed", timed, "Time only these rows of the table, from 0; default: all")->delimiter(',');
  app.add_option("--csv", csv_path, "The numbers, plain")->type_name("FILE");
  app.add_option("--svg", svg_path, "A chart")->type_name("FILE");
#ifdef ABLATION_MODEL
  ablation::TrainingPlan plan;
  plan.model = ABLATION_MODEL;
  auto* const train =
      app.add_option("--train", plan.out,
                     "Train at demo scale: folder for logs, checkpoints and results, from which a killed run goes on")
          ->type_name("FOLDER");
  const auto training_option = [&](const char* name, auto& value, const char* help) {
    return app.add_option(name, value, help)->capture_default_str()->needs(train);
  };
  training_option("--steps", plan.steps, "Of each training")->check(CLI::Range(1, 1000000));
  training_option("--batch", plan.batch, "Samples of a step")->check(CLI::Range(1, 4096));
  training_option("--rate", plan.rate, "Peak learning rate")->check(CLI::PositiveNumber);
  training_option("--seeds", plan.seeds, "Of the trainings: every variant is trained with each")->delimiter(',');
  training_option("--rows", plan.rows, "Only these rows of the table, from 0; default: all that exist at demo scale")
      ->delimiter(',');
  training_option("--concepts", plan.concepts, "How many of the demo's 285, evenly spread")->check(CLI::Range(2, 285));
  training_option("--pictures", plan.pictures, "About how many for each figure")->check(CLI::Range(1, 10000));
  training_option("--model", plan.model, "Whose autoencoder and tokenizer are used")->type_name("FILE");
#else
  app.footer("bench_ablation_train does the same and, with --train, also trains each variant at demo scale.");
#endif
  CLI11_PARSE(app, argc, argv);
  try {
    std::vector<ablation::Trained> trained;
#ifdef ABLATION_MODEL
    plan.threads = threads;
    if (train->count() > 0) trained = ablation::train_variants(plan);
#endif
    const auto rows = measure_all(std::make_index_sequence<variants.size()>{}, threads, repetitions, timed);
    if (!csv_path.empty()) mobilediffusion::write_file(csv_path, ablation::csv(rows, trained));
    if (!svg_path.empty()) mobilediffusion::write_file(svg_path, ablation::svg(rows, trained));
    std::fputs(ablation::markdown(rows).c_str(), stdout);
#ifdef ABLATION_MODEL
    if (!trained.empty()) std::printf("\n%s", ablation::markdown(trained, plan).c_str());
#endif
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_ablation: %s\n", e.what());
    return 1;
  }
  return 0;
}
