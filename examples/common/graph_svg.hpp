// SPDX-License-Identifier: Apache-2.0
// A UNet as a drawing: left to right in the order of work, one line a resolution, every block's area its share of the MACs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "graph_table.hpp"

namespace examples {

// title: one line above the drawing. unet: the part of that name.
inline std::string graph_svg(const std::string& title, const GraphPart& unet) {
  struct Style {
    const char *fill, *label;
  };
  const auto style_of = [](const GraphRow& r) -> Style {
    if (r.kind.find(" self,") != std::string::npos) return {"#d1495b", "self- and cross-attention, feed-forward"};
    if (r.kind.find(" cross,") != std::string::npos) return {"#edae49", "cross-attention, feed-forward"};
    if (r.kind.starts_with("residual") && r.kind.find("separable") != std::string::npos)
      return {"#00798c", "residual block, separable convolutions"};
    if (r.kind.starts_with("residual")) return {"#66a5ad", "residual block"};
    return {"#8d96a3", "convolution"};
  };
  const auto text = [](double x, double y, const char* more, const std::string& words) {
    char at[96];
    std::snprintf(at, sizeof(at), "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, more);
    return at + words + "</text>\n";
  };
  const auto giga = [](std::size_t n) {
    char number[32];
    std::snprintf(number, sizeof(number), n >= 100'000'000 ? "%.1f G" : "%.1f M",
                  static_cast<double>(n) * (n >= 100'000'000 ? 1e-9 : 1e-6));
    return std::string(number);
  };

  std::vector<GraphRow> blocks;  // what has a place in the picture
  std::size_t largest = 1;
  std::vector<std::size_t> heights;  // of the resolutions, the highest first
  std::map<std::size_t, std::size_t> width_of;
  for (const GraphRow& r : unet.rows) {
    if (r.name.find("embedding") != std::string::npos || r.name == "conv_norm_out") continue;
    blocks.push_back(r);
    largest = std::max(largest, r.macs);
    heights.push_back(r.height);
    width_of[r.height] = r.width;
  }
  std::sort(heights.begin(), heights.end(), std::greater<>());
  heights.erase(std::unique(heights.begin(), heights.end()), heights.end());

  constexpr double side = 96, gap = 14, line = side + 62, left = 110, top = 66;
  struct Box {
    double x, y, size;
  };
  std::vector<Box> boxes;
  double x = left;
  for (const GraphRow& r : blocks) {
    const double size = std::max(8.0, side * std::sqrt(static_cast<double>(r.macs) / static_cast<double>(largest)));
    const auto level = std::find(heights.begin(), heights.end(), r.height) - heights.begin();
    boxes.push_back({x, top + static_cast<double>(level) * line + (side - size) / 2, size});
    x += size + gap;
  }
  const double width = x + 20, bottom = top + static_cast<double>(heights.size()) * line;

  std::string lines, shapes;
  char buffer[512];
  // The way of the picture, and the skips: what a residual block, a transformer behind it or a sampler puts out on the way down
  // is joined by one residual block on the way up, the last first.
  std::vector<std::size_t> open;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const Box& b = boxes[i];
    const GraphRow& r = blocks[i];
    const double middle = b.y + b.size / 2;
    if (i > 0) {
      const Box& a = boxes[i - 1];
      std::snprintf(buffer, sizeof(buffer), "<path d=\"M%.1f %.1f L%.1f %.1f\" stroke=\"#444\"/>\n", a.x + a.size,
                    a.y + a.size / 2, b.x, middle);
      lines += buffer;
    }
    const bool down = r.name.starts_with("down_blocks.") || r.name == "conv_in";
    const bool transformed = i + 1 < blocks.size() && blocks[i + 1].name.find(".attentions.") != std::string::npos;
    if (down && !(transformed && r.name.find(".resnets.") != std::string::npos)) open.push_back(i);
    if (r.name.starts_with("up_blocks.") && r.name.find(".resnets.") != std::string::npos && !open.empty()) {
      const Box& a = boxes[open.back()];
      open.pop_back();
      const double high = std::min(a.y, b.y) - 20;
      std::snprintf(
          buffer, sizeof(buffer),
          "<path d=\"M%.1f %.1f C%.1f %.1f %.1f %.1f %.1f %.1f\" stroke=\"#b8bec6\" stroke-dasharray=\"4 3\" fill=\"none\"/>\n",
          a.x + a.size / 2, a.y, a.x + a.size / 2, high, b.x + b.size / 2, high, b.x + b.size / 2, b.y);
      lines += buffer;
    }
    std::snprintf(buffer, sizeof(buffer),
                  "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\" fill=\"%s\"><title>%s: %s, %zu x %zu x "
                  "%zu, %zu parameters, "
                  "%zu MACs</title></rect>\n",
                  b.x, b.y, b.size, b.size, style_of(r).fill, r.name.c_str(), r.kind.c_str(), r.height, r.width, r.channels,
                  r.parameters, r.macs);
    shapes += buffer;
    if (b.size >= 34) {
      shapes += text(b.x + b.size / 2, middle + 4, "text-anchor=\"middle\" fill=\"#fff\"", giga(r.macs));
      if (r.kind.find(" x ") != std::string::npos)
        shapes += text(b.x + b.size / 2, middle + 18, "text-anchor=\"middle\" fill=\"#fff\"",
                       r.kind.substr(0, r.kind.find(' ')) + " deep");
    }
    if (i == 0 || blocks[i - 1].channels != r.channels || blocks[i - 1].height != r.height)
      shapes += text(b.x + b.size / 2, b.y + b.size + 14, "text-anchor=\"middle\"", std::to_string(r.channels));
  }
  for (std::size_t l = 0; l < heights.size(); ++l)
    shapes += text(12, top + static_cast<double>(l) * line + side / 2 + 4, "font-weight=\"bold\"",
                   std::to_string(heights[l]) + " x " + std::to_string(width_of[heights[l]]));
  std::map<std::string, const char*> legend;
  for (const GraphRow& r : blocks) legend[style_of(r).label] = style_of(r).fill;
  double at = 12;
  for (const auto& [label, fill] : legend) {
    std::snprintf(buffer, sizeof(buffer), "<rect x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"12\" rx=\"2\" fill=\"%s\"/>\n", at,
                  bottom - 10, fill);
    shapes += buffer;
    shapes += text(at + 17, bottom, "", label);
    at += 34 + 6.6 * static_cast<double>(label.size());
  }

  std::snprintf(
      buffer, sizeof(buffer),
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
      std::max(width, at), bottom + 16);
  return buffer + text(12, 24, "font-size=\"16\" font-weight=\"bold\"", title) +
         text(12, 42, "fill=\"#666\"", "area: multiply-accumulates of one pass; number below: channels; dashed: skips") + lines +
         shapes + "</svg>\n";
}

}  // namespace examples
