// SPDX-License-Identifier: Apache-2.0
// Command lines whose mistakes are one line on stderr, with exit status 2; --help and --version are status 0.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mobilediffusion/core/number_formats.hpp"
#include "mobilediffusion/diffusion/samplers.hpp"
#include "mobilediffusion/io/message.hpp"

namespace examples {

// An exit status, or nothing where the program goes on.
inline std::optional<int> parse(CLI::App& app, int argc, const char* const* argv) {
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    std::string text = e.what();
    std::replace_if(
        text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
    std::fprintf(stderr, "%s: %s (%s --help lists the options)\n", app.get_name().c_str(), text.c_str(), app.get_name().c_str());
    return 2;
  }
}

// A whole number, decimal. (CLI11's own conversion reads 010 as eight.)
inline void add_whole(CLI::App& app, const std::string& name, std::uint64_t least, std::uint64_t most, const std::string& help,
                      std::function<void(std::uint64_t)> use) {
  app.add_option_function<std::string>(
         name,
         [=](const std::string& text) {
           std::uint64_t value = 0;
           const auto r = std::from_chars(text.data(), text.data() + text.size(), value);
           if (text.empty() || r.ec != std::errc() || r.ptr != text.data() + text.size() || value < least || value > most)
             throw CLI::ValidationError(
                 name, mobilediffusion::detail::join({"expected a whole number of ", least, " to ", most, ", found ",
                                                      mobilediffusion::detail::printable(text)}));
           use(value);
         },
         help)
      ->type_name("N");
}

// The same into a variable, whose value is the default; at least 1, at most a million.
inline void add_count(CLI::App& app, const std::string& name, std::size_t& value, const std::string& help) {
  add_whole(app, name, 1, 1'000'000, help + (help.empty() ? "" : "; ") + "default " + std::to_string(value),
            [&](auto n) { value = static_cast<std::size_t>(n); });
}

// --format: of the weights in inference.
inline void add_format(CLI::App& app, std::function<void(mobilediffusion::Format)> use) {
  app.add_option_function<std::string>(
         "--format",
         [=](const std::string& name) {
           using mobilediffusion::Format;
           use(name == "int8" ? Format::int8 : name == "bf16" ? Format::bf16 : Format::fp32);
         },
         "What weights are kept and multiplied in: fp32, bf16 or int8; default fp32")
      ->type_name("NAME")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}));
}

// --sampler: with the options that it usually has.
inline void add_sampler(CLI::App& app, std::function<void(const mobilediffusion::Sampler&)> use) {
  std::vector<std::string> names;
  mobilediffusion::for_each_sampler([&]<class S>() { names.emplace_back(S::name); });
  app.add_option_function<std::string>(
         "--sampler", [=](const std::string& name) { use(*mobilediffusion::sampler_named(name)); },
         "How to go from noise to a picture: " + mobilediffusion::sampler_names() + "; default: what the model was made for")
      ->type_name("NAME")
      ->check(CLI::IsMember(names));
}

// Which of the shipped models a request needs: the one-step model knows no guidance, and of more than four steps the base model
// makes more.
inline std::string shipped_model(std::optional<std::size_t> steps, std::optional<float> guidance, bool negative_prompt = false) {
  const bool base = steps.value_or(1) > 4 || mobilediffusion::is_guided(guidance.value_or(1.0f)) || negative_prompt;
  return std::string(MOBILEDIFFUSION_DEMO_FOLDER) + (base ? "/emoji.safetensors" : "/emoji_one_step.safetensors");
}
inline constexpr const char* shipped_model_help =
    "Weights; default: the one-step model of this repository, or, for more than 4 steps, guidance or a negative prompt, the base "
    "model";

// A finite number that is not negative, as plain decimals: neither nan nor spaces nor hexadecimal.
inline std::optional<float> number_from(const std::string& text) {
  char* end = nullptr;
  const float value = std::strtof(text.c_str(), &end);
  const bool plain = text.find_first_not_of("+-.0123456789eE") == std::string::npos;
  if (text.empty() || !plain || end != text.c_str() + text.size() || !std::isfinite(value) || value < 0.0f) return std::nullopt;
  return value;
}
inline float checked_number(const std::string& name, const std::string& text, const std::string& expected, auto&& fits) {
  const auto value = number_from(text);
  if (!value || !fits(*value))
    throw CLI::ValidationError(name, "expected " + expected + ", found " + mobilediffusion::detail::printable(text));
  return *value;
}
inline void add_number(CLI::App& app, const std::string& name, const std::string& help, std::function<void(float)> use) {
  app.add_option_function<std::string>(
         name,
         [=](const std::string& text) { use(checked_number(name, text, "a number of at least 0", [](float) { return true; })); },
         help)
      ->type_name("X");
}

// --strength: how much of a picture may change. use is called for each value that is given.
inline CLI::Option* add_strength(CLI::App& app, const std::string& help, std::function<void(float)> use) {
  return app
      .add_option_function<std::vector<std::string>>(
          "--strength",
          [=](const std::vector<std::string>& texts) {
            for (const std::string& text : texts)
              use(checked_number("--strength", text, "a number above 0, at most 1",
                                 [](float x) { return x > 0.0f && x <= 1.0f; }));
          },
          help)
      ->type_name("X");
}

}  // namespace examples
