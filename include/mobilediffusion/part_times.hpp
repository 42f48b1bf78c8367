// SPDX-License-Identifier: Apache-2.0
// Where the time of drawing goes inside of the networks: an observer for a session, which costs two readings of a clock an
// operation, and nothing where there is none.
#pragma once

#include "core/begin.hpp"

#include <chrono>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "layers/context.hpp"
#include "reflect/reflect.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// A part of a network, named as its tensors begin: "unet.down_blocks.0", "vae.decoder.mid_block", "text_encoder.text_model".
struct PartTime {
  std::string name;
  std::size_t parameters = 0;
  double seconds = 0;    // since clear(), what runs between the operations of a part included
  std::size_t macs = 0;  // multiply-accumulates, likewise
};

// Of one session at a time: `md::PartTimes times(model.weights()); md::Session session(model, {.observer = &times});`
class PartTimes final : public Observer {
 public:
  // weights: bound ones, as Model has them. They must outlive it.
  template <class Weights>
  explicit PartTimes(const Weights& weights) : PartTimes(reflect::leafs(const_cast<Weights&>(weights))) {}
  explicit PartTimes(const std::vector<reflect::LeafView>& leafs);

  // In the order of the weights. What has no weights belongs to what ran before it.
  std::span<const PartTime> parts() const { return parts_; }
  void clear() {
    for (PartTime& p : parts_) p.seconds = 0, p.macs = 0;
    current_ = nullptr;
  }

  void begin(const Operation& operation) override;
  void end() override;

 private:
  using Clock = std::chrono::steady_clock;
  std::vector<PartTime> parts_;
  std::map<const float*, std::size_t> part_of_;  // by where a layer's weights begin
  PartTime* current_ = nullptr;
  Clock::time_point since_{};  // what of the current part's time is not added yet
};

namespace detail {
// Blocks each for themselves, of other parts the first field of the network.
inline std::string_view part_name(std::string_view path) {
  std::size_t end = path.find('.');  // the network
  const bool halves = path.substr(0, end) == "vae";
  for (std::size_t depth = 1; end < path.size(); ++depth) {
    const std::size_t next = path.find('.', end + 1);
    if (next == std::string_view::npos) break;  // a tensor
    const std::string_view field = path.substr(end + 1, next - end - 1);
    end = next;
    if (field.ends_with("_blocks")) end = path.find('.', end + 1);
    else if (halves && depth == 1 && (field == "encoder" || field == "decoder")) continue;
    break;
  }
  return path.substr(0, end);
}
}  // namespace detail

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY PartTimes::PartTimes(const std::vector<reflect::LeafView>& leafs) {
  for (const reflect::LeafView& leaf : leafs) {
    const std::string_view name = detail::part_name(leaf.path);
    std::size_t part = 0;
    while (part < parts_.size() && parts_[part].name != name) ++part;
    if (part == parts_.size()) parts_.push_back({std::string(name)});
    parts_[part].parameters += leaf.type->count;
    part_of_.emplace(leaf.data(), part);
  }
}

MOBILEDIFFUSION_BODY void PartTimes::begin(const Operation& operation) {
  const auto found = part_of_.find(operation.weights);
  PartTime* const part = found == part_of_.end() ? current_ : &parts_[found->second];
  if (part != current_ || part == nullptr) since_ = Clock::now();
  current_ = part;
  if (part != nullptr) part->macs += operation.macs;
}

MOBILEDIFFUSION_BODY void PartTimes::end() {
  if (current_ == nullptr) return;
  const Clock::time_point now = Clock::now();
  current_->seconds += std::chrono::duration<double>(now - since_).count();
  since_ = now;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
