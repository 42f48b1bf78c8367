// SPDX-License-Identifier: Apache-2.0
// Where a pass of the UNet, or of the VAE's decoder, spends its time: operation by operation, against the measured peak.
//
//   profile PRESET [--part unet|decoder] [--format fp32|bf16|int8] [--threads N] [--repetitions N] [--svg FILE] [--csv FILE]
//
// PRESET: full, lite or emoji; weights are random, with a fixed seed. The last line is `percent_of_peak: N` of the whole pass.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "mobilediffusion/mobilediffusion.hpp"
#include "peak.hpp"
#include "random_weights.hpp"

namespace {

namespace md = mobilediffusion;

struct Entry {
  std::string name, kind;
  std::size_t macs = 0, bytes = 0;
  std::vector<double> seconds;
};

// Times operations in the order in which they come; the same in every pass.
class Clock : public md::Observer {
 public:
  explicit Clock(const md::Executor& ex) : ex_(ex) {}
  // From where the weights of a layer lie to the layer's name.
  void name(const std::vector<md::reflect::LeafView>& leafs) {
    for (const md::reflect::LeafView& leaf : leafs) names_[leaf.data()] = leaf.path.substr(0, leaf.path.rfind('.'));
  }
  void next_pass() { at_ = 0; }
  void begin(const md::Operation& o) override {
    if (at_ == entries_.size()) {
      const auto found = names_.find(o.weights);
      std::string name = found == names_.end() ? "" : found->second;
      // What has no weights of its own goes by a neighbour's: the projection before it.
      if (std::string_view(o.kind) == "attention" || std::string_view(o.kind) == "gate") name.resize(name.rfind('.'));
      entries_.push_back({name, o.kind, o.macs, o.bytes, {}});
    }
    start_ = bench::now(ex_);
  }
  void end() override { entries_[at_++].seconds.push_back(bench::now(ex_) - start_); }
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  const md::Executor& ex_;
  std::map<const float*, std::string> names_;
  std::vector<Entry> entries_;
  std::size_t at_ = 0;
  double start_ = 0;
};

struct Options {
  std::string preset, part = "unet", svg, csv;
  md::Format format = md::Format::fp32;
  int threads = 0;
  std::size_t repetitions = 5;
};

double percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

// The operations that take most, as bars: the whole bar is the time, the filled part what it would take at peak.
void write_svg(const std::string& path, const std::string& title, const std::vector<Entry>& entries, double peak) {
  std::vector<const Entry*> order;
  double longest = 0;
  for (const Entry& e : entries) {
    order.push_back(&e);
    longest = std::max(longest, bench::median(e.seconds));
  }
  std::sort(order.begin(), order.end(),
            [](const Entry* a, const Entry* b) { return bench::median(a->seconds) > bench::median(b->seconds); });
  if (order.size() > 40) order.resize(40);
  const double scale = 420 / longest;
  std::ofstream out(path);
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"" << 50 + 18 * order.size()
      << "\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
      << "<text x=\"10\" y=\"20\" font-size=\"14\">" << title << "</text>\n"
      << "<text x=\"10\" y=\"38\" fill=\"#555555\">bar: time; dark: the time at measured peak; the longest operations</text>\n";
  double y = 48;
  for (const Entry* e : order) {
    const double seconds = bench::median(e->seconds), at_peak = static_cast<double>(e->macs) / peak;
    const double ideal = std::min(seconds, at_peak);  // Winograd's products are fewer than the layer's
    char text[160];
    std::snprintf(text, sizeof(text), "%.2f ms, %.0f %%", 1e3 * seconds, percent(at_peak, seconds));
    out << "<text x=\"395\" y=\"" << y + 11 << "\" text-anchor=\"end\">" << e->name << ' ' << e->kind
        << "</text>\n<rect x=\"400\" y=\"" << y << "\" width=\"" << seconds * scale
        << "\" height=\"14\" fill=\"#a8c8dc\"/>\n<rect x=\"400\" y=\"" << y << "\" width=\"" << ideal * scale
        << "\" height=\"14\" fill=\"#00798c\"/>\n<text x=\"" << 406 + seconds * scale << "\" y=\"" << y + 11 << "\">" << text
        << "</text>\n";
    y += 18;
  }
  out << "</svg>\n";
  if (!out.flush()) throw md::Error("file " + path + ": cannot be written");
}

void report(const Options& o, const std::vector<Entry>& entries, const std::vector<double>& passes, std::size_t macs,
            const bench::Peak& peak, double bandwidth) {
  const double whole = bench::median(passes), best = peak.of(o.format);
  std::printf("peak, %d threads: fp32 %.1f, bf16 %.1f, int8 %.1f GMAC/s; memory %.1f GB/s\n", md::Executor(o.threads).threads(),
              1e-9 * peak.fp32, 1e-9 * peak.bf16, 1e-9 * peak.int8, 1e-9 * bandwidth);
  std::printf("%-58s %-10s %9s %6s %9s %9s %6s\n", "layer", "operation", "ms", "time", "GMAC", "MB", "peak");
  std::map<std::string, Entry> kinds;
  double known = 0;
  for (const Entry& e : entries) {
    const double seconds = bench::median(e.seconds);
    known += seconds;
    std::printf("%-58s %-10s %9.3f %5.1f%% %9.3f %9.2f %5.0f%%\n", e.name.c_str(), e.kind.c_str(), 1e3 * seconds,
                percent(seconds, whole), 1e-9 * static_cast<double>(e.macs), 1e-6 * static_cast<double>(e.bytes),
                percent(static_cast<double>(e.macs) / best, seconds));
    Entry& k = kinds[e.kind];
    k.macs += e.macs;
    k.bytes += e.bytes;
    if (k.seconds.empty()) k.seconds.push_back(0);
    k.seconds[0] += seconds;
  }
  std::printf("\n%-69s %9s %6s %9s %9s %6s\n", "all of a kind", "ms", "time", "GMAC", "MB", "peak");
  for (const auto& [kind, e] : kinds)
    std::printf("%-69s %9.3f %5.1f%% %9.3f %9.2f %5.0f%%\n", kind.c_str(), 1e3 * e.seconds[0], percent(e.seconds[0], whole),
                1e-9 * static_cast<double>(e.macs), 1e-6 * static_cast<double>(e.bytes),
                percent(static_cast<double>(e.macs) / best, e.seconds[0]));
  std::printf("%-69s %9.3f %5.1f%%\n", "between operations", 1e3 * (whole - known), percent(whole - known, whole));
  if (!o.csv.empty()) {
    std::ofstream out(o.csv);
    out << "layer,operation,milliseconds,macs,bytes,percent_of_peak\n";
    for (const Entry& e : entries)
      out << e.name << ',' << e.kind << ',' << 1e3 * bench::median(e.seconds) << ',' << e.macs << ',' << e.bytes << ','
          << percent(static_cast<double>(e.macs) / best, bench::median(e.seconds)) << '\n';
    if (!out.flush()) throw md::Error("file " + o.csv + ": cannot be written");
  }
  char title[200];
  std::snprintf(title, sizeof(title), "%s %s, %s, %d threads: %.1f ms for %.1f GMAC, %.0f %% of peak", o.preset.c_str(),
                o.part.c_str(), md::name_of(o.format), md::Executor(o.threads).threads(), 1e3 * whole,
                1e-9 * static_cast<double>(macs), percent(static_cast<double>(macs) / best, whole));
  if (!o.svg.empty()) write_svg(o.svg, title, entries, best);
  std::printf("%s (fastest %.1f, slowest %.1f ms of %zu)\n", title, 1e3 * *std::min_element(passes.begin(), passes.end()),
              1e3 * *std::max_element(passes.begin(), passes.end()), passes.size());
  std::printf("percent_of_peak: %.1f\n", percent(static_cast<double>(macs) / best, whole));
}

template <class Net, class Pass>
void profile(const Options& o, std::size_t macs, std::size_t stack_floats, Pass&& pass) {
  const md::Executor ex(o.threads);
  auto weights = bench::random_weights<typename Net::Weights>(1, o.format);
  const md::AlignedBuffer activations(stack_floats);
  Clock clock(ex);
  clock.name(md::reflect::leafs(weights.weights()));
  bench::Peak peak = bench::measure_peak(ex);
  const double bandwidth = bench::measure_bandwidth(ex);
  std::vector<double> passes;
  for (std::size_t i = 0; i <= 2 * o.repetitions; ++i) {  // the first warms up; then by turns with and without the clock
    md::Stack stack(activations);
    md::Context c{.executor = ex, .stack = stack, .batch = 1, .packed = true, .format = o.format};
    if (i % 2 == 1) c.observer = &clock;
    clock.next_pass();
    const double start = bench::now(ex);
    pass(c, weights.weights());
    if (i > 0 && i % 2 == 0) passes.push_back(bench::now(ex) - start);
  }
  const bench::Peak again = bench::measure_peak(ex);  // other work may have disturbed the first; the better one is the limit
  peak = {std::max(peak.fp32, again.fp32), std::max(peak.bf16, again.bf16), std::max(peak.int8, again.int8)};
  report(o, clock.entries(), passes, macs, peak, bandwidth);
}

template <md::ModelConfig M>
void run(const Options& o) {
  if (o.part == "unet") {
    using Net = md::Unet<M.unet>;
    std::vector<float> z(Net::latent_floats), y(Net::latent_floats), context(Net::context_floats), pooled(M.unet.pooled_width);
    md::Random(1, 1).normals(z);
    md::Random(1, 2).normals(context);
    profile<Net>(o, Net::macs, Net::stack_floats(md::Plan::inference, 1), [&](md::Context& c, const typename Net::Weights& w) {
      const float timestep = 500.0f;
      typename Net::Saved saved{};
      Net::forward(c, w, z.data(), &timestep, {context.data(), pooled.data()}, y.data(), saved);
    });
  } else {
    using Net = md::Vae<M.vae>;
    std::vector<float> z(Net::latent_floats), y(Net::picture_floats);
    md::Random(1, 1).normals(z);
    profile<Net>(o, Net::Decoder::macs, Net::Decoder::stack_floats(md::Plan::inference, 1),
                 [&](md::Context& c, const typename Net::Weights& w) {
                   typename Net::Decoder::Saved saved{};
                   Net::decode(c, w, z.data(), y.data(), saved);
                 });
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times every operation of a pass", "profile"};
  Options o;
  app.add_option("preset", o.preset, "full, lite or emoji")->required()->check(CLI::IsMember({"full", "lite", "emoji"}));
  app.add_option("--part", o.part)->capture_default_str()->check(CLI::IsMember({"unet", "decoder"}));
  app.add_option("--format", o.format, "Of the weights")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, md::Format>{{"fp32", md::Format::fp32}, {"bf16", md::Format::bf16}, {"int8", md::Format::int8}}));
  app.add_option("--threads", o.threads, "0: all")->capture_default_str();
  app.add_option("--repetitions", o.repetitions)->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_option("--svg", o.svg, "Write a bar chart");
  app.add_option("--csv", o.csv, "Write the table");
  CLI11_PARSE(app, argc, argv);
  try {
    if (o.preset == "full") run<md::presets::full>(o);
    else if (o.preset == "lite") run<md::presets::lite>(o);
    else run<md::presets::emoji>(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "profile: %s\n", e.what());
    return 1;
  }
  return 0;
}
