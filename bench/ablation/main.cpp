// SPDX-License-Identifier: Apache-2.0
// The ablation: what each of MobileDiffusion's changes costs or saves, beside what is claimed of it.
//
//   bench_ablation [--repetitions 5] [--csv FILE] [--svg FILE]     Markdown on standard output
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "mobilediffusion/io/atomic_file.hpp"
#include "row.hpp"

namespace {

using ablation::Row;
using ablation::variants;

static_assert(variants.size() == ABLATION_VARIANTS, "the build makes one translation unit for each line that begins a Variant");

template <std::size_t... I>
std::vector<Row> measure_all(std::index_sequence<I...>, int threads, std::size_t repetitions) {
  std::vector<Row> rows;
  const auto add = [&](Row row) {
    rows.push_back(std::move(row));
    if (repetitions > 0) std::fprintf(stderr, "%zu of %zu\r", rows.size(), sizeof...(I));
  };
  (add(ablation::measure<I>(threads, repetitions)), ...);
  return rows;
}

std::string formatted(const char* format, auto... values) {
  char text[256];
  std::snprintf(text, sizeof(text), format, values...);
  return text;
}

double median(const Row& r) { return r.seconds[r.seconds.size() / 2]; }
double change(double now, double before) { return 100.0 * (now / before - 1.0); }
double change(std::size_t now, std::size_t before) { return change(static_cast<double>(now), static_cast<double>(before)); }

std::string markdown(const std::vector<Row>& rows) {
  const bool timed = !rows.front().seconds.empty();
  std::string out = "| variant | parameters | MACs | activations | change: parameters, MACs |";
  out += timed ? " one pass (fastest to slowest) | change: time |" : "";
  out += " claimed |\n|---|---|---|---|---|";
  out += timed ? "---|---|" : "";
  out += "---|\n";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row &r = rows[i], &b = rows[variants[i].before];
    out += "| " + std::string(variants[i].name) +
           formatted(" | %.1f M | %.1f G | %.1f MiB |", static_cast<double>(r.parameters) * 1e-6,
                     static_cast<double>(r.macs) * 1e-9, static_cast<double>(r.activation_bytes) / (1 << 20));
    out += i == 0 ? " |" : formatted(" %+.1f %%, %+.1f %% |", change(r.parameters, b.parameters), change(r.macs, b.macs));
    if (timed) {
      out += formatted(" %.0f ms (%.0f to %.0f) |", 1e3 * median(r), 1e3 * r.seconds.front(), 1e3 * r.seconds.back());
      out += i == 0 ? " |" : formatted(" %+.1f %% |", change(median(r), median(b)));
    }
    out += " " + std::string(variants[i].claim) + " |\n";
  }
  return out;
}

std::string csv(const std::vector<Row>& rows) {
  std::string out =
      "variant,before,parameters,macs,weight_bytes,activation_bytes,median_seconds,fastest_seconds,slowest_seconds,claim\n";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& r = rows[i];
    out += "\"" + std::string(variants[i].name) + "\"" +
           formatted(",%zu,%zu,%zu,%zu,%zu,", variants[i].before, r.parameters, r.macs, r.weight_bytes, r.activation_bytes);
    out += r.seconds.empty() ? ",," : formatted("%.6f,%.6f,%.6f", median(r), r.seconds.front(), r.seconds.back());
    out += ",\"" + std::string(variants[i].claim) + "\"\n";
  }
  return out;
}

// Two bars a variant: parameters and multiply-accumulates (or time), relative to the first.
std::string svg(const std::vector<Row>& rows) {
  const bool timed = !rows.front().seconds.empty();
  constexpr double left = 330, full = 420, line = 34;
  std::string out = formatted(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"%.0f\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
      60 + line * static_cast<double>(rows.size()));
  out += formatted(
      "<text x=\"12\" y=\"24\" font-weight=\"bold\">Of Stable Diffusion 1.5: parameters (blue) and %s (orange)</text>\n",
      timed ? "time of a pass" : "multiply-accumulates");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double y = 44 + line * static_cast<double>(i);
    const double parameters = static_cast<double>(rows[i].parameters) / static_cast<double>(rows[0].parameters);
    const double work =
        timed ? median(rows[i]) / median(rows[0]) : static_cast<double>(rows[i].macs) / static_cast<double>(rows[0].macs);
    out += formatted("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">%s</text>\n", left - 8, y + 16,
                     std::string(variants[i].name).c_str());
    for (const auto& [share, at, fill] : {std::tuple{parameters, y, "#00798c"}, std::tuple{work, y + 13, "#edae49"}}) {
      out += formatted("<rect x=\"%.0f\" y=\"%.1f\" width=\"%.1f\" height=\"12\" fill=\"%s\"/>\n", left, at, full * share, fill);
      out += formatted("<text x=\"%.1f\" y=\"%.1f\">%.0f %%</text>\n", left + full * share + 6, at + 10, 100 * share);
    }
  }
  return out + "</svg>\n";
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"MobileDiffusion's changes, one after another and one at a time", "bench_ablation"};
  int threads = 0;
  std::size_t repetitions = 5;
  std::string csv_path, svg_path;
  app.add_option("--threads", threads, "0: all")->capture_default_str();
  app.add_option("--repetitions", repetitions, "Timed passes of each; 0: sizes only")->capture_default_str();
  app.add_option("--csv", csv_path, "The numbers, plain")->type_name("FILE");
  app.add_option("--svg", svg_path, "A chart")->type_name("FILE");
  CLI11_PARSE(app, argc, argv);
  try {
    const auto rows = measure_all(std::make_index_sequence<variants.size()>{}, threads, repetitions);
    if (!csv_path.empty()) mobilediffusion::write_file(csv_path, csv(rows));
    if (!svg_path.empty()) mobilediffusion::write_file(svg_path, svg(rows));
    std::fputs(markdown(rows).c_str(), stdout);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_ablation: %s\n", e.what());
    return 1;
  }
  return 0;
}
