// SPDX-License-Identifier: Apache-2.0
// The ablation's rows as Markdown, CSV and SVG. Where variants were trained, the demo's sizes and its quality join what is known
// at full size.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "row.hpp"
#include "training.hpp"

namespace ablation {

inline std::string formatted(const char* format, auto... values) {
  char text[512];
  std::snprintf(text, sizeof(text), format, values...);
  return text;
}

inline bool any_timed(const std::vector<Row>& rows) {
  return std::any_of(rows.begin(), rows.end(), [](const Row& r) { return !r.seconds.empty(); });
}
inline double median(const Row& r) { return r.seconds[r.seconds.size() / 2]; }
inline double change(double now, double before) { return 100.0 * (now / before - 1.0); }
inline double change(std::size_t now, std::size_t before) {
  return change(static_cast<double>(now), static_cast<double>(before));
}

// Over the seeds: their mean, and the least and the greatest.
struct Spread {
  double mean = 0, least = 0, most = 0;
};
template <class F>
Spread spread(const Trained& t, F&& value_of) {
  std::vector<double> values;
  for (const Outcome& o : t.outcomes) values.push_back(value_of(o));
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return {std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size()), *least, *most};
}
inline Spread validation_loss(const Trained& t) {
  return spread(t, [](const Outcome& o) { return o.validation_loss; });
}
inline double figure(const Trained& t, const char* name) {
  return spread(t, [&](const Outcome& o) { return o.figure(name); }).mean;
}

inline constexpr std::array<const char*, 6> figure_names{"seen_object_top1",    "heldout_object_top1", "seen_object_psnr",
                                                         "heldout_object_psnr", "seen_background",     "heldout_background"};

// Sizes at full scale; times where there are any.
inline std::string markdown(const std::vector<Row>& rows) {
  const bool timed = any_timed(rows);
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
      out += r.seconds.empty()
                 ? " |"
                 : formatted(" %.0f ms (%.0f to %.0f) |", 1e3 * median(r), 1e3 * r.seconds.front(), 1e3 * r.seconds.back());
      out += i == 0 || r.seconds.empty() || b.seconds.empty() ? " |" : formatted(" %+.1f %% |", change(median(r), median(b)));
    }
    out += " " + std::string(variants[i].claim) + " |\n";
  }
  return out;
}

// What the same changes do to the quality of the demo.
inline std::string markdown(const std::vector<Trained>& trained, const TrainingPlan& plan) {
  std::string out =
      "| variant, at demo scale | parameters | MACs | change: parameters, MACs | validation loss | change | objects, seen and "
      "held "
      "out | PSNR of them | backgrounds |\n|---|---|---|---|---|---|---|---|---|\n";
  for (std::size_t i = 0; i < trained.size(); ++i) {
    const Trained &t = trained[i], &b = trained[variants[i].before];
    if (t.parameters == 0) continue;
    out += "| " + std::string(variants[i].name) +
           formatted(" | %.2f M | %.0f M |", static_cast<double>(t.parameters) * 1e-6, static_cast<double>(t.macs) * 1e-6);
    out += i == 0 ? " |" : formatted(" %+.1f %%, %+.1f %% |", change(t.parameters, b.parameters), change(t.macs, b.macs));
    if (t.outcomes.empty()) {
      out += " | | | | |\n";
      continue;
    }
    const Spread loss = validation_loss(t);
    out += formatted(" %.4f", loss.mean);
    if (t.outcomes.size() > 1) out += formatted(" (%.4f to %.4f)", loss.least, loss.most);
    out += i == 0 || b.outcomes.empty() ? " | |" : formatted(" | %+.1f %% |", change(loss.mean, validation_loss(b).mean));
    out += formatted(" %.1f %%, %.1f %% | %.1f dB, %.1f dB | %.1f %%, %.1f %% |\n", 100 * figure(t, figure_names[0]),
                     100 * figure(t, figure_names[1]), figure(t, figure_names[2]), figure(t, figure_names[3]),
                     100 * figure(t, figure_names[4]), 100 * figure(t, figure_names[5]));
  }
  out += formatted(
      "\n%zu steps of %zu samples, %zu concepts, %zu seed%s. At demo scale the first row has a transformer behind every residual "
      "block\nof the second's network, and full is the preset `emoji`. The loss is that of the averaged weights on held-out "
      "pairs "
      "of\nobject and background; times and noise are the same for all. Objects: nearest of the concepts, about %zu pictures a "
      "figure.\nOther numbers of latent channels are not trained: each would need an autoencoder of its own.\n",
      plan.steps, plan.batch, plan.concepts, plan.seeds.size(), plan.seeds.size() == 1 ? "" : "s", plan.pictures);
  return out;
}

// trained: empty or of every variant.
inline std::string csv(const std::vector<Row>& rows, const std::vector<Trained>& trained) {
  std::string out = "variant,before,parameters,macs,weight_bytes,activation_bytes,median_seconds,fastest_seconds,slowest_seconds";
  if (!trained.empty()) {
    out += ",demo_parameters,demo_macs,seeds,validation_loss,validation_loss_least,validation_loss_most";
    for (const char* name : figure_names) out += std::string(",") + name;
  }
  out += ",claim\n";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& r = rows[i];
    out += "\"" + std::string(variants[i].name) + "\"" +
           formatted(",%zu,%zu,%zu,%zu,%zu,", variants[i].before, r.parameters, r.macs, r.weight_bytes, r.activation_bytes);
    out += r.seconds.empty() ? ",," : formatted("%.6f,%.6f,%.6f", median(r), r.seconds.front(), r.seconds.back());
    if (!trained.empty()) {
      const Trained& t = trained[i];
      out += t.parameters == 0 ? ",,," : formatted(",%zu,%zu,%zu", t.parameters, t.macs, t.outcomes.size());
      if (t.outcomes.empty()) {
        out += ",,,";
      } else {
        const Spread loss = validation_loss(t);
        out += formatted(",%.6f,%.6f,%.6f", loss.mean, loss.least, loss.most);
      }
      for (const char* name : figure_names) out += t.outcomes.empty() ? "," : formatted(",%.6g", figure(t, name));
    }
    out += ",\"" + std::string(variants[i].claim) + "\"\n";
  }
  return out;
}

// Bars for each variant, relative to the first: parameters, multiply-accumulates (or time), and what training ended in.
inline std::string svg(const std::vector<Row>& rows, const std::vector<Trained>& trained) {
  const bool timed = std::all_of(rows.begin(), rows.end(), [](const Row&r) { return !r.seconds.empty(); }),
             has_loss = !trained.empty() && !trained.front().outcomes.empty();
  const double left = 330, full = 420, line = has_loss ? 50 : 34;
  std::string out = formatted(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"%.0f\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
      60 + line * static_cast<double>(rows.size()));
  out += formatted(
      "<text x=\"12\" y=\"24\" font-weight=\"bold\">Of Stable Diffusion 1.5: parameters (blue) and %s (orange)%s</text>\n",
      timed ? "time of a pass" : "multiply-accumulates", has_loss ? "; of the first row: validation loss of the demo (red)" : "");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double y = 44 + line * static_cast<double>(i);
    const auto bar = [&](double share, double at, const char* fill) {
      out += formatted("<rect x=\"%.0f\" y=\"%.1f\" width=\"%.1f\" height=\"12\" fill=\"%s\"/>\n", left, at, full * share, fill);
      out += formatted("<text x=\"%.1f\" y=\"%.1f\">%.0f %%</text>\n", left + full * share + 6, at + 10, 100 * share);
    };
    out += formatted("<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", left - 8, y + 16,
                     std::string(variants[i].name).c_str());
    bar(static_cast<double>(rows[i].parameters) / static_cast<double>(rows[0].parameters), y, "#00798c");
    bar(timed ? median(rows[i]) / median(rows[0]) : static_cast<double>(rows[i].macs) / static_cast<double>(rows[0].macs), y + 13,
        "#edae49");
    if (has_loss && !trained[i].outcomes.empty())
      bar(validation_loss(trained[i]).mean / validation_loss(trained[0]).mean, y + 26, "#d1495b");
  }
  return out + "</svg>\n";
}

}  // namespace ablation
