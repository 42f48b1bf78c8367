// SPDX-License-Identifier: Apache-2.0
// The inspector's rows are the whole graph: they add up to the models' constants.
#include "catch.hpp"
#include "common/graph_table.hpp"
#include "mobilediffusion/config/presets.hpp"

using namespace mobilediffusion;

namespace {

template <ModelConfig M>
void check_table(const char* preset) {
  std::size_t parameters = 0;
  for (const examples::GraphPart& part : examples::graph_table<M>()) {
    INFO(preset << ", " << part.name);
    std::size_t row_parameters = 0, row_macs = 0;
    for (const examples::GraphRow& row : part.rows) {
      INFO(row.name);
      row_parameters += row.parameters;
      row_macs += row.macs;
      CHECK((row.layers > 0) == (row.parameters > 0));
      CHECK(row.output_bytes == 4 * row.height * row.width * row.channels);
      CHECK(row.activation_bytes <= part.activation_bytes);
    }
    CHECK(row_parameters == part.parameters);
    CHECK(row_macs == part.macs);
    parameters += part.parameters;
  }
  CHECK(parameters == TextToImage<M>::parameters);
}

// Untested at run time, so everything that the two presets leave out.
constexpr ModelConfig other = [] {
  ModelConfig c = presets::tiny;
  c.text.pooled = 0;
  c.unet.pooled_width = 0;
  c.unet.middle = {.resnets = 1, .transformer = {.depth = 2, .self_attention = false}};
  c.unet.attention.projections = false;
  c.vae.quant_conv = false;
  c.vae.middle_attention = false;
  return c;
}();
constexpr ModelConfig no_middle = [] {
  ModelConfig c = other;
  c.unet.middle = {.resnets = 0};
  c.vae.middle = false;
  return c;
}();

}  // namespace

TEST_CASE("the rows of the static graph add up to the models' constants") {
  check_table<presets::emoji>("emoji");
  check_table<presets::tiny>("tiny");
  check_table<other>("other");
  check_table<no_middle>("no middle");
}
