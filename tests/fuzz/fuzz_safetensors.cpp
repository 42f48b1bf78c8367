// SPDX-License-Identifier: Apache-2.0
// The safetensors reader: header, metadata, placement of the data, conversion of numbers; and that what was accepted is covered,
// byte by byte, by the tensors that are given out.
#include <span>
#include <vector>

#include "fuzz.hpp"
#include "mobilediffusion/io/safetensors.hpp"

namespace md = mobilediffusion;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes = fuzz::safetensors_file(fuzz::text_of(data, size));
  return fuzz::read([&] {
    const md::SafetensorsFile file(std::as_bytes(std::span(bytes)), "input");
    std::size_t covered = 0;
    for (const md::TensorView& t : file.tensors()) {
      covered += t.size;
      fuzz::expect(file.find(t.name) != nullptr && &file.require(t.name, t.shape) == file.find(t.name),
                   "every tensor under its name");
      std::vector<float> values(t.count());
      try {
        file.read_floats(t, values.data());
      } catch (const md::Error&) {  // of other numbers than floats
      }
    }
    fuzz::expect(covered <= bytes.size(), "tensors inside the file");
  });
}
