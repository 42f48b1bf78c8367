// SPDX-License-Identifier: Apache-2.0
// The library as one of the engines that peers.py times: a network that answers commands, one a line.
//
//   bench_peers NETWORK --weights FILE --inputs FILE [--threads N] [--format fp32]
//
//   (start)        ready {"executes": "fp32", ...}
//   time N         the seconds of N runs
//   output FILE    done; the file holds the tensor "output" of the last run, channels last
//   quit, or the end of the input
// A command that fails is answered with "error" and the reason.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>

#include "mobilediffusion/core/executor.hpp"
#include "network.hpp"

namespace {

namespace md = mobilediffusion;

void write_output(const std::filesystem::path& path, const peers::Network& network) {
  md::TensorToWrite tensor{.name = "output", .dtype = md::Dtype::f32, .shape = network.shape, .floats = network.output};
  md::write_safetensors(path, {&tensor, 1}, {});
}

std::string answer(peers::Network& network, const std::string& line) {
  std::istringstream words(line);
  std::string command;
  words >> command;
  if (command == "time") {
    std::size_t runs = 0;
    if (!(words >> runs)) throw md::Error("time: expected the number of runs");
    std::string seconds;
    for (std::size_t i = 0; i < runs; ++i) {
      const auto start = std::chrono::steady_clock::now();
      network.run();
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
      seconds += (i > 0 ? " " : "") + std::to_string(passed.count());
    }
    return seconds;
  }
  if (command == "output") {
    std::string path;
    std::getline(words >> std::ws, path);
    write_output(path, network);
    return "done";
  }
  throw md::Error("expected time, output or quit");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"A network of the library that answers commands, one a line", "bench_peers"};
  std::string name, weights, inputs, format = "fp32";
  int threads = 0;
  app.add_option("network", name)->required()->check(CLI::IsMember({"unet", "decoder"}));
  app.add_option("--weights", weights, "Tensors by the library's names (safetensors)")->required();
  app.add_option("--inputs", inputs, "What the network reads, channels last (safetensors)")->required();
  app.add_option("--threads", threads, "0: all")->capture_default_str();
  app.add_option("--format", format)->check(CLI::IsMember({"fp32", "bf16", "int8"}))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    const md::Format kept = format == "int8" ? md::Format::int8 : format == "bf16" ? md::Format::bf16 : md::Format::fp32;
    const auto network = (name == "unet" ? peers::make_unet : peers::make_decoder)(weights, inputs, threads, kept);
    std::cout << "ready {\"executes\": \"" << format << "\"}" << std::endl;
    for (std::string line; std::getline(std::cin, line) && line != "quit";) {
      try {
        std::cout << answer(*network, line) << std::endl;
      } catch (const md::Error& e) {
        std::cout << "error " << e.what() << std::endl;
      }
    }
  } catch (const std::exception& e) {
    std::cout << "error " << e.what() << std::endl;
    return 1;
  }
  return 0;
}
