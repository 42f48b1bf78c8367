// SPDX-License-Identifier: Apache-2.0
// Generates pictures from words.
//
//   generate "a red apple" "two cats" --count 4 -o pictures
//
// Everything is checked before the first picture is begun, so that a long run does not fail half-way for a wrong last line.
// How a picture came to be is written into it (PNG text), and is enough to get the same bytes again.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/arguments.hpp"
#include "common/known_words.hpp"
#include "common/progress.hpp"
#include "common/write_picture.hpp"
#include "mobilediffusion/mobilediffusion.hpp"

#ifndef MOBILEDIFFUSION_DEMO_FOLDER
#define MOBILEDIFFUSION_DEMO_FOLDER "."
#endif
#ifndef MOBILEDIFFUSION_VERSION
#define MOBILEDIFFUSION_VERSION "unknown"
#endif

namespace fs = std::filesystem;
namespace md = mobilediffusion;
using md::detail::join;
using md::detail::printable;

namespace {

// errno says why not.
bool may_write_into(const fs::path& folder) {
#ifdef _WIN32
  return ::_waccess(folder.c_str(), 2) == 0;
#else
  return ::access(folder.c_str(), W_OK | X_OK) == 0;
#endif
}

constexpr md::ModelConfig preset = md::presets::emoji;
constexpr std::size_t largest_sheet = 1024;  // pictures

struct Options {
  std::vector<std::string> prompts;
  std::string prompts_file, output, negative, model;
  std::uint64_t seed = 0;
  std::size_t count = 1;
  std::optional<std::size_t> steps;  // default: what the model was made for
  std::optional<float> guidance;
  std::optional<md::Sampler> sampler;
  md::Format format = md::Format::fp32;
  int threads = 0;
  bool quiet = false, words = false;
};

struct Prompt {
  std::string text, place;  // place: where it was found, for messages
};

std::string read_standard_input() {
  constexpr std::size_t most = std::size_t{64} << 20;  // bytes
  std::string text;
  char buffer[65536];
  while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, stdin)) {
    if (text.size() + n > most) throw md::Error(join({"standard input: expected at most ", most, " bytes, found more"}));
    text.append(buffer, n);
  }
  if (std::ferror(stdin) != 0) throw md::Error(join({"standard input: cannot read: ", std::generic_category().message(errno)}));
  return text;
}

std::vector<Prompt> read_prompts(const Options& o) {
  std::vector<Prompt> prompts;
  for (const std::string& text : o.prompts)
    prompts.push_back({text, o.prompts.size() > 1 ? join({"argument ", prompts.size() + 1, ": "}) : ""});
  if (o.prompts_file.empty()) return prompts;
  const bool piped = o.prompts_file == "-";
  std::string rest = piped ? read_standard_input() : md::read_file(o.prompts_file);
  const std::string source = piped ? "standard input" : "file " + printable(o.prompts_file);
  if (rest.starts_with("\xEF\xBB\xBF")) rest.erase(0, 3);  // a byte order mark is no part of the first prompt
  std::size_t line = 0;
  for (std::size_t begin = 0; begin < rest.size();) {
    const std::size_t end = std::min(rest.find('\n', begin), rest.size());
    std::string text = rest.substr(begin, end - begin);
    if (text.ends_with('\r')) text.pop_back();
    begin = end + 1;
    ++line;
    const std::string place = join({source, ": line ", line, ": "});
    if (text.find('\0') != std::string::npos) throw md::Error(place + "prompt: expected text, found a zero byte");
    if (!md::detail::is_blank(text)) prompts.push_back({text, place});
  }
  if (prompts.empty()) throw md::Error(source + ": expected a prompt a line, found none");
  return prompts;
}

// A program insists on words, where the library takes an empty prompt for none.
void check_prompt(const md::Tokenizer& tokenizer, const examples::KnownWords& known, const Prompt& p, bool quiet) {
  if (md::detail::is_blank(p.text)) throw md::Error(p.place + "prompt: expected words, found none");
  examples::check_prompt("generate", p.place, p.text, tokenizer, preset.text.length, known, quiet);
}

// A prompt as a file name: lower case, other than letters and digits a dash; UTF-8 beyond ASCII stays.
std::string slug(std::string_view prompt) {
  std::string name;
  for (char c : prompt) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const bool keep = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80;
    if (keep) name += c;
    else if (!name.empty() && name.back() != '-') name += '-';
  }
  constexpr std::size_t longest = 60;
  if (name.size() > longest) {
    std::size_t end = longest;
    while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0) == 0x80) --end;  // whole characters
    name.resize(end);
  }
  while (name.ends_with('-')) name.pop_back();
  return name.empty() ? "picture" : name;
}

// Where pictures go: into one named file, which may be replaced, or under new names into a folder.
class Outputs {
 public:
  // Throws for a place that cannot be written, before any work is done.
  Outputs(const std::string& output, std::size_t pictures) {
    std::error_code ignored;
    if (output.empty()) {
      folder_ = "";
    } else if (fs::is_directory(output, ignored)) {
      folder_ = output;
    } else if (pictures > 1) {
      throw md::Error(join({"output ", printable(output), ": expected an existing folder for ", pictures, " pictures, found ",
                            fs::exists(output, ignored) ? "a file" : "none"}));
    } else if (examples::is_stream(output)) {
      examples::check_output(output);
      file_ = output;
      return;
    } else if (examples::extension_of(output) != "png") {
      throw md::Error(
          join({"output ", printable(output), ": expected an existing folder, the name of a .png file, or - for a pipe"}));
    } else {
      file_ = output;
      folder_ = file_.parent_path();
      if (!folder().empty() && !fs::is_directory(folder_, ignored))
        throw md::Error(
            join({"output ", printable(output), ": expected an existing folder ", printable(folder_.string()), ", found none"}));
    }
    const fs::path place = folder_.empty() ? fs::path(".") : folder_;
    if (!may_write_into(place))
      throw md::Error(join(
          {"output ", printable(place.string()), ": cannot write into this folder: ", std::generic_category().message(errno)}));
  }
  fs::path next(const std::string& stem) {
    if (!file_.empty()) return file_;
    for (std::size_t n = 1;; ++n) {
      const fs::path path = folder_ / (n == 1 ? stem + ".png" : join({stem, "-", n, ".png"}));
      std::error_code ignored;
      if (!fs::exists(fs::symlink_status(path, ignored))) return path;
    }
  }

 private:
  std::string folder() const { return folder_.string(); }
  fs::path folder_, file_;
};

// File names may hold any bytes, PNG texts may not.
std::string as_text(std::string name) {
  if (md::find_invalid_utf8(name) != std::string_view::npos)
    for (char& c : name)
      if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  return name;
}

void say(const Options& o, const fs::path& path, const std::string& what) {
  if (o.quiet) return;
  std::FILE* const stream = examples::is_standard_output(path.string()) ? stderr : stdout;
  if (std::fprintf(stream, "%s  %s\n", path.c_str(), what.c_str()) < 0 || std::fflush(stream) != 0)
    throw md::Error(join({"standard output: cannot write: ", std::generic_category().message(errno)}));
}

void list_words(const Options& o) {
  const std::string model = o.model.empty() ? examples::shipped_model(o.steps, o.guidance, !o.negative.empty()) : o.model;
  const md::SafetensorsFile file(model);
  md::check_model<preset>(file);
  const examples::KnownWords known(file.metadata());
  if (known.empty())
    throw md::Error(
        join({"file ", printable(model), ": metadata ", md::KnownWords::pairs_key, ": missing: it does not say what it knows"}));
  if (std::fputs(known.list().c_str(), stdout) < 0 || std::fflush(stdout) != 0)
    throw md::Error(join({"standard output: cannot write: ", std::generic_category().message(errno)}));
}

template <md::Format F>
void generate(const Options& o) {
  const std::vector<Prompt> prompts = read_prompts(o);
  const std::size_t pictures = prompts.size() * o.count;
  Outputs outputs(o.output, pictures);
  const std::string model_file = o.model.empty() ? examples::shipped_model(o.steps, o.guidance, !o.negative.empty()) : o.model;
  const md::Model<preset, F> model(model_file);
  // A batch of 8 takes a fifth to a quarter less time for each picture, and 20 MB more.
  md::Session<preset, F> session(model, {.threads = o.threads, .batch = std::min<std::size_t>(pictures, 8)});
  const examples::KnownWords known(model.metadata());
  for (const Prompt& p : prompts) check_prompt(model.tokenizer(), known, p, o.quiet);
  if (!o.negative.empty()) check_prompt(model.tokenizer(), known, {o.negative, "negative "}, o.quiet);

  const md::Sampler sampler = o.sampler.value_or(model.sampling().sampler);
  const std::size_t steps = o.steps.value_or(model.sampling().steps);
  const float guidance = o.guidance.value_or(model.sampling().guidance);
  const std::string model_name = as_text(fs::path(model_file).filename().string());
  const auto stem = [&](std::size_t k) {
    const std::string words = slug(prompts[k / o.count].text);
    return pictures == 1 ? words : join({words, "-", o.seed + k % o.count});
  };
  std::vector<md::Image> sheet;
  for (std::size_t first = 0; first < pictures; first += session.batch()) {
    std::vector<md::Request> requests;
    for (std::size_t k = first; k < std::min(first + session.batch(), pictures); ++k)
      requests.push_back({.prompt = prompts[k / o.count].text,
                          .negative = o.negative,
                          .seed = o.seed + k % o.count,
                          .steps = steps,
                          .guidance = guidance,
                          .sampler = sampler});
    const auto start = std::chrono::steady_clock::now();
    std::vector<md::Image> images;
    {
      examples::Progress progress(stem(first), steps, 0, !o.quiet);
      images = session.generate(requests, [&](md::Progress p) { progress.update(p.step); });
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (std::size_t i = 0; i < images.size(); ++i) {
      const md::Request& r = requests[i];
      std::vector<std::pair<std::string, std::string>> text{{"prompt", r.prompt},
                                                            {"seed", std::to_string(r.seed)},
                                                            {"steps", std::to_string(steps)},
                                                            {"guidance", md::detail::number_text(guidance)},
                                                            {"sampler", std::string(md::name_of(sampler))}};
      if (!o.negative.empty()) text.emplace_back("negative", o.negative);
      if (F != md::Format::fp32) text.emplace_back("format", md::name_of(F));
      text.emplace_back("model", model_name);
      const fs::path path = outputs.next(stem(first + i));
      examples::write_picture(path.string(), images[i], text);
      char took[32];
      std::snprintf(took, sizeof took, "%.3f s", seconds / static_cast<double>(images.size()));
      say(o, path, join({"seed ", r.seed, "  ", took}));
      if (pictures > 1 && pictures <= largest_sheet) sheet.push_back(std::move(images[i]));
    }
  }
  if (sheet.empty()) return;
  const auto square = static_cast<std::size_t>(std::ceil(std::sqrt(static_cast<double>(pictures))));
  const std::size_t columns = o.count > 1 && prompts.size() > 1 ? o.count : square;  // a row for each prompt
  const fs::path path = outputs.next(prompts.size() == 1 ? slug(prompts[0].text) + "-sheet" : "sheet");
  md::write_png(path, md::contact_sheet(sheet, columns));
  say(o, path, join({pictures, " pictures"}));
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app{"Pictures of emoji from words, by a model of this repository", "generate"};
  app.set_version_flag("--version", "generate " MOBILEDIFFUSION_VERSION);
  app.add_option("prompt", o.prompts, "What to draw; several prompts give several pictures")->type_name("PROMPT");
  app.add_option("--prompts", o.prompts_file, "More prompts from a UTF-8 file, one a line; -: from standard input")
      ->type_name("FILE");
  app.add_option("-o,--output", o.output,
                 "A .png file, which is replaced, a folder that exists, a pipe, or - for standard output; default: a new file in "
                 "the current folder, named by "
                 "the prompt")
      ->type_name("PATH");
  app.add_option("--negative", o.negative, "What to stay away from")->type_name("PROMPT");
  examples::add_whole(app, "--seed", 0, UINT64_MAX, "Of the first picture; default 0", [&](auto n) { o.seed = n; });
  examples::add_whole(app, "--steps", 1, 1000, "Of the sampler; default: what the model was made for",
                      [&](auto n) { o.steps = static_cast<std::size_t>(n); });
  examples::add_number(
      app, "--guidance",
      "How strictly to follow the prompt; at most 1: without guidance, the prompt alone; default: what the model was made for",
      [&](float x) { o.guidance = x; });
  examples::add_whole(app, "--count", 1, 10000, "Pictures of each prompt, with the seeds that follow; default 1",
                      [&](auto n) { o.count = static_cast<std::size_t>(n); });
  examples::add_whole(app, "--threads", 0, 1024, "Default 0: all that the machine has",
                      [&](auto n) { o.threads = static_cast<int>(n); });
  examples::add_sampler(app, [&](const md::Sampler& sampler) { o.sampler = sampler; });
  examples::add_format(app, [&](md::Format f) { o.format = f; });
  app.add_option("--model", o.model, examples::shipped_model_help)->type_name("FILE");
  app.add_flag("--words", o.words, "List what the model was taught: the things it draws, then other words");
  app.add_flag("-q,--quiet", o.quiet, "Print nothing but errors");
  app.footer(
      "Words that the model was never shown are named on stderr: it draws something all the same.\n"
      "More than one picture also gives a contact sheet (up to 1024 pictures). Nothing is overwritten but a file that -o names.\n"
      "Exit status: 1 for files and prompts that cannot be used, 2 for wrong arguments.");
  app.callback([&] {
    if (o.prompts.empty() && o.prompts_file.empty() && !o.words) throw CLI::RequiredError("a prompt, or --prompts FILE");
  });
  if (const auto status = examples::parse(app, argc, argv)) return *status;
#ifdef SIGPIPE
  std::signal(SIGPIPE, SIG_IGN);  // a reader that goes away is an error of the write that meets it
#endif
#ifdef SIGXFSZ
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is then an error of the write that meets it, and leaves no partial file
#endif
  try {
    if (o.words) list_words(o);
    else if (o.format == md::Format::bf16) generate<md::Format::bf16>(o);
    else if (o.format == md::Format::int8) generate<md::Format::int8>(o);
    else generate<md::Format::fp32>(o);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "generate: expected enough memory, found too little\n");
    return 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "generate: %s\n", e.what());
    return 1;
  }
  return 0;
}
