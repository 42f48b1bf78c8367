// SPDX-License-Identifier: Apache-2.0
// The header of a safetensors file: JSON, read as events.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "dtype.hpp"
#include "message.hpp"

#ifdef MOBILEDIFFUSION_BODIES
#include <nlohmann/json.hpp>
#endif

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Limits beyond the format's own: no model that this library describes comes near them, and a hostile header stops here.
struct SafetensorsLimits {
  static constexpr std::size_t header_bytes = 100'000'000;  // the format's own
  static constexpr std::size_t tensors = 65536;
  static constexpr std::size_t metadata = 65536;
  static constexpr std::size_t dimensions = 8;
};

using Metadata = std::map<std::string, std::string>;

namespace detail {

std::string to_text(std::span<const std::size_t> shape);

// Equal but for ones at the end of either.
bool same_shape(std::span<const std::size_t> a, std::span<const std::size_t> b);

// Bytes of a tensor, or nothing where the product of the non-zero dimensions overflows: also a tensor without elements
// must have strides that a reader can compute.
std::optional<std::size_t> byte_size(Dtype dtype, std::span<const std::size_t> shape);

// What the header says about one tensor, before the offsets are known to be true.
struct HeaderEntry {
  std::string name;
  Dtype dtype{};
  std::vector<std::size_t> shape;
  std::size_t begin = 0, end = 0;
};

// Receives the header's JSON as events (nlohmann's SAX interface), so that nothing is built that is not a tensor, and
// limits bite while the header is read. Methods return true, or throw.
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view file) : file_(file) {}

  std::vector<HeaderEntry> entries;
  Metadata metadata;

  bool null();
  bool boolean(bool) { unexpected("a boolean"); }
  bool number_integer(std::int64_t) { unexpected("a negative number"); }
  bool number_float(double, const std::string& text) { unexpected(join({"the number ", printable(text)})); }
  bool binary(std::vector<std::uint8_t>&) { unexpected("binary data"); }
  bool number_unsigned(std::uint64_t value);
  bool string(std::string& text);
  bool start_object(std::size_t);
  bool key(std::string& name);
  bool end_object();
  bool start_array(std::size_t);
  bool end_array();
  template <class Exception>
  bool parse_error(std::size_t position, const std::string& token, const Exception&) {
    throw Error(join({label(), "header: not JSON at byte ", 8 + position, ", near ", printable(token), after()}));
  }

 private:
  enum class Place { start, top, metadata, tensor, shape, offsets };

  HeaderEntry& entry() { return entries.back(); }
  std::string label() const { return join({"file ", printable(file_), ": "}); }
  std::string after() const;
  [[noreturn]] void fail(std::initializer_list<Piece> what) {
    throw Error(join({label(), "tensor ", printable(entry().name), ": ", join(what)}));
  }
  [[noreturn]] void unexpected(const std::string& found);

  std::string_view file_;
  std::string key_;
  Place place_ = Place::start;
  unsigned seen_ = 0;
  std::size_t offsets_ = 0;
  bool has_metadata_ = false;
};

}  // namespace detail

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY std::string to_text(std::span<const std::size_t> shape) {
  std::string out = "[";
  for (const std::size_t d : shape) out += join({out.size() > 1 ? ", " : "", d});
  out += ']';
  return out;
}

MOBILEDIFFUSION_BODY bool same_shape(std::span<const std::size_t> a, std::span<const std::size_t> b) {
  while (!a.empty() && a.back() == 1) a = a.first(a.size() - 1);
  while (!b.empty() && b.back() == 1) b = b.first(b.size() - 1);
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

MOBILEDIFFUSION_BODY std::optional<std::size_t> byte_size(Dtype dtype, std::span<const std::size_t> shape) {
  std::size_t product = size_of(dtype);
  bool empty = false;
  for (const std::size_t d : shape) {
    if (d == 0) {
      empty = true;
    } else {
      if (product > std::numeric_limits<std::size_t>::max() / d) return std::nullopt;
      product *= d;
    }
  }
  return empty ? 0 : product;
}

MOBILEDIFFUSION_BODY bool HeaderReader::null() {
  if (place_ != Place::top || key_ != "__metadata__") unexpected("null");
  return true;  // the format's own reader takes it for no metadata
}

MOBILEDIFFUSION_BODY bool HeaderReader::number_unsigned(std::uint64_t value) {
  if (place_ != Place::shape && place_ != Place::offsets) unexpected(join({"the number ", value}));
  if (value > std::numeric_limits<std::size_t>::max()) unexpected(join({"the number ", value}));
  const auto number = static_cast<std::size_t>(value);
  if (place_ == Place::shape) {
    if (entry().shape.size() == SafetensorsLimits::dimensions) fail({"more than ", SafetensorsLimits::dimensions, " dimensions"});
    entry().shape.push_back(number);
  } else {
    if (offsets_ == 2) fail({"data_offsets must be two numbers, found more"});
    (offsets_++ == 0 ? entry().begin : entry().end) = number;
  }
  return true;
}

MOBILEDIFFUSION_BODY bool HeaderReader::string(std::string& text) {
  if (place_ == Place::metadata) {
    metadata[key_] = std::move(text);
    return true;
  }
  if (place_ != Place::tensor || key_ != "dtype") unexpected(join({"the text ", printable(text)}));
  for (const DtypeName& known : dtype_names) {
    if (known.name == text) {
      entry().dtype = known.dtype;
      return true;
    }
  }
  for (const std::string_view known : {"F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64"})
    if (known == text) fail({"dtype ", known, ": cannot be read; convert the file to F32, F16 or BF16"});
  fail({"unknown dtype ", printable(text), ", known are BOOL, F8_*, F16, BF16, F32, F64 and the integers"});
}

MOBILEDIFFUSION_BODY bool HeaderReader::start_object(std::size_t) {
  if (place_ == Place::start) {
    place_ = Place::top;
  } else if (place_ == Place::top && key_ == "__metadata__") {
    place_ = Place::metadata;
  } else if (place_ == Place::top) {
    place_ = Place::tensor;
    seen_ = 0;
  } else {
    unexpected("an object");
  }
  return true;
}

MOBILEDIFFUSION_BODY bool HeaderReader::key(std::string& name) {
  key_ = std::move(name);
  if (place_ == Place::top) {
    if (key_ == "__metadata__") {
      if (has_metadata_) throw Error(join({label(), "header: the key \"__metadata__\" appears twice"}));
      has_metadata_ = true;
    } else {
      if (entries.size() == SafetensorsLimits::tensors)
        throw Error(join({label(), "header: more than ", SafetensorsLimits::tensors, " tensors, the next is ", printable(key_)}));
      entries.push_back({});
      entry().name = key_;
    }
  } else if (place_ == Place::metadata) {
    if (metadata.size() == SafetensorsLimits::metadata)
      throw Error(join({label(), "metadata: more than ", SafetensorsLimits::metadata, " entries"}));
    if (!metadata.try_emplace(key_).second) throw Error(join({label(), "metadata: the key ", printable(key_), " appears twice"}));
  } else {
    const unsigned bit = key_ == "dtype" ? 1 : key_ == "shape" ? 2 : key_ == "data_offsets" ? 4 : 0;
    if (bit == 0) fail({"unknown key ", printable(key_), ", expected dtype, shape and data_offsets"});
    if ((seen_ & bit) != 0) fail({"the key ", printable(key_), " appears twice"});
    seen_ |= bit;
  }
  return true;
}

MOBILEDIFFUSION_BODY bool HeaderReader::end_object() {
  if (place_ == Place::tensor && seen_ != 7) {
    fail({"the key ", ((seen_ & 1) == 0 ? "dtype" : (seen_ & 2) == 0 ? "shape" : "data_offsets"), " is missing"});
  }
  place_ = Place::top;
  return true;
}

MOBILEDIFFUSION_BODY bool HeaderReader::start_array(std::size_t) {
  if (place_ != Place::tensor || key_ == "dtype") unexpected("a list");
  place_ = key_ == "shape" ? Place::shape : Place::offsets;
  offsets_ = 0;
  return true;
}

MOBILEDIFFUSION_BODY bool HeaderReader::end_array() {
  if (place_ == Place::offsets && offsets_ != 2) fail({"data_offsets must be two numbers, found ", offsets_});
  place_ = Place::tensor;
  return true;
}

MOBILEDIFFUSION_BODY std::string HeaderReader::after() const {
  return entries.empty() ? "" : join({", after the start of tensor ", printable(entries.back().name)});
}

MOBILEDIFFUSION_BODY void HeaderReader::unexpected(const std::string& found) {
  switch (place_) {
    case Place::start:
      throw Error(join({label(), "header: expected an object, found ", found}));
    case Place::metadata:
      throw Error(join({label(), "metadata ", printable(key_), ": expected text, found ", found}));
    case Place::shape:
      fail({"shape: expected numbers that are whole and not negative, found ", found});
    case Place::offsets:
      fail({"data_offsets: expected numbers that are whole and not negative, found ", found});
    case Place::tensor:
      fail({key_, ": expected ", (key_ == "dtype" ? "text" : "a list of numbers"), ", found ", found});
    case Place::top:
      break;
  }
  if (key_ == "__metadata__") throw Error(join({label(), "metadata: expected an object of texts, found ", found}));
  fail({"expected an object with dtype, shape and data_offsets, found ", found});
}

}  // namespace detail

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
