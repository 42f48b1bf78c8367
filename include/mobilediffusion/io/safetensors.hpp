// SPDX-License-Identifier: Apache-2.0
// Reads and writes the safetensors format: a JSON header, then the raw tensors (github.com/huggingface/safetensors).
//
// A file is somebody else's: everything is checked before anything is used or allocated by its numbers, and a file that
// breaks any rule of the format is refused as a whole. What is not checked are the values: NaN and infinity are data.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <boost/interprocess/file_mapping.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "../core/number_formats.hpp"
#include "atomic_file.hpp"
#include "mapped_pages.hpp"
#include "message.hpp"
#include "utf8.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

static_assert(std::endian::native == std::endian::little,
              "mobilediffusion: safetensors holds little-endian numbers; port convert_*");

enum class Dtype : std::uint8_t { boolean, u8, i8, f8_e4m3, f8_e5m2, u16, i16, f16, bf16, u32, i32, f32, u64, i64, f64 };

namespace detail {
struct DtypeName {
  Dtype dtype;
  std::string_view name;
  std::size_t size;
};
inline constexpr std::array<DtypeName, 15> dtype_names{{{Dtype::boolean, "BOOL", 1},
                                                        {Dtype::u8, "U8", 1},
                                                        {Dtype::i8, "I8", 1},
                                                        {Dtype::f8_e4m3, "F8_E4M3", 1},
                                                        {Dtype::f8_e5m2, "F8_E5M2", 1},
                                                        {Dtype::u16, "U16", 2},
                                                        {Dtype::i16, "I16", 2},
                                                        {Dtype::f16, "F16", 2},
                                                        {Dtype::bf16, "BF16", 2},
                                                        {Dtype::u32, "U32", 4},
                                                        {Dtype::i32, "I32", 4},
                                                        {Dtype::f32, "F32", 4},
                                                        {Dtype::u64, "U64", 8},
                                                        {Dtype::i64, "I64", 8},
                                                        {Dtype::f64, "F64", 8}}};
}  // namespace detail

inline constexpr std::size_t size_of(Dtype dtype) { return detail::dtype_names[static_cast<std::size_t>(dtype)].size; }
inline constexpr std::string_view name_of(Dtype dtype) { return detail::dtype_names[static_cast<std::size_t>(dtype)].name; }

// Limits beyond the format's own: no model that this library describes comes near them, and a hostile header stops here.
struct SafetensorsLimits {
  static constexpr std::size_t header_bytes = 100'000'000;  // the format's own
  static constexpr std::size_t tensors = 65536;
  static constexpr std::size_t metadata = 65536;
  static constexpr std::size_t dimensions = 8;
};

using Metadata = std::map<std::string, std::string>;

// One tensor of an open file: valid as long as the file is. bytes need not be aligned.
struct TensorView {
  std::string name;
  Dtype dtype{};
  std::vector<std::size_t> shape;
  std::span<const std::byte> bytes;

  std::size_t count() const { return bytes.size() / size_of(dtype); }  // elements
};

namespace detail {

inline std::string to_text(std::span<const std::size_t> shape) {
  std::string out = "[";
  for (const std::size_t d : shape) out += join({out.size() > 1 ? ", " : "", d});
  out += ']';
  return out;
}

// Bytes of a tensor, or nothing where the product of the non-zero dimensions overflows: also a tensor without elements
// must have strides that a reader can compute.
inline std::optional<std::size_t> byte_size(Dtype dtype, std::span<const std::size_t> shape) {
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

// Same results as from_fp16, selected by masks instead of branches, so that compilers vectorise it.
inline constexpr float widen_fp16(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3FFu;
  const std::uint32_t is_subnormal = 0u - static_cast<std::uint32_t>(e == 0),
                      is_special = 0u - static_cast<std::uint32_t>(e == 31);
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(m)) * 0x1p-24f);
  const std::uint32_t normal = ((e + 112u) << 23) | (m << 13), special = 0x7F800000u | (m << 13);
  return std::bit_cast<float>(sign | (subnormal & is_subnormal) | (special & is_special) |
                              (normal & ~is_subnormal & ~is_special));
}

template <class T>
inline T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}
template <class T>
inline void store(std::byte* p, T value) {
  std::memcpy(p, &value, sizeof(T));
}

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

  bool null() { unexpected("null"); }
  bool boolean(bool) { unexpected("a boolean"); }
  bool number_integer(std::int64_t) { unexpected("a negative number"); }
  bool number_float(double, const std::string& text) { unexpected(join({"the number ", printable(text)})); }
  bool binary(std::vector<std::uint8_t>&) { unexpected("binary data"); }
  bool number_unsigned(std::uint64_t value) {
    if (place_ != Place::shape && place_ != Place::offsets) unexpected(join({"the number ", value}));
    if (value > std::numeric_limits<std::size_t>::max()) unexpected(join({"the number ", value}));
    const auto number = static_cast<std::size_t>(value);
    if (place_ == Place::shape) {
      if (entry().shape.size() == SafetensorsLimits::dimensions)
        fail({"more than ", SafetensorsLimits::dimensions, " dimensions"});
      entry().shape.push_back(number);
    } else {
      if (offsets_ == 2) fail({"data_offsets must be two numbers, found more"});
      (offsets_++ == 0 ? entry().begin : entry().end) = number;
    }
    return true;
  }
  bool string(std::string& text) {
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
    fail({"unknown dtype ", printable(text), ", known are BOOL, F8_*, F16, BF16, F32, F64 and the integers"});
  }
  bool start_object(std::size_t) {
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
  bool key(std::string& name) {
    key_ = std::move(name);
    if (place_ == Place::top) {
      if (key_ == "__metadata__") {
        if (has_metadata_) throw Error(join({label(), "header: the key \"__metadata__\" appears twice"}));
        has_metadata_ = true;
      } else {
        if (entries.size() == SafetensorsLimits::tensors)
          throw Error(
              join({label(), "header: more than ", SafetensorsLimits::tensors, " tensors, the next is ", printable(key_)}));
        entries.push_back({});
        entry().name = key_;
      }
    } else if (place_ == Place::metadata) {
      if (metadata.size() == SafetensorsLimits::metadata)
        throw Error(join({label(), "metadata: more than ", SafetensorsLimits::metadata, " entries"}));
      if (!metadata.try_emplace(key_).second)
        throw Error(join({label(), "metadata: the key ", printable(key_), " appears twice"}));
    } else {
      const unsigned bit = key_ == "dtype" ? 1 : key_ == "shape" ? 2 : key_ == "data_offsets" ? 4 : 0;
      if (bit == 0) fail({"unknown key ", printable(key_), ", expected dtype, shape and data_offsets"});
      if ((seen_ & bit) != 0) fail({"the key ", printable(key_), " appears twice"});
      seen_ |= bit;
    }
    return true;
  }
  bool end_object() {
    if (place_ == Place::tensor && seen_ != 7) {
      fail({"the key ", ((seen_ & 1) == 0 ? "dtype" : (seen_ & 2) == 0 ? "shape" : "data_offsets"), " is missing"});
    }
    place_ = Place::top;
    return true;
  }
  bool start_array(std::size_t) {
    if (place_ != Place::tensor || key_ == "dtype") unexpected("a list");
    place_ = key_ == "shape" ? Place::shape : Place::offsets;
    offsets_ = 0;
    return true;
  }
  bool end_array() {
    if (place_ == Place::offsets && offsets_ != 2) fail({"data_offsets must be two numbers, found ", offsets_});
    place_ = Place::tensor;
    return true;
  }
  template <class Exception>
  bool parse_error(std::size_t position, const std::string& token, const Exception&) {
    throw Error(join({label(), "header: not JSON at byte ", 8 + position, ", near ", printable(token), after()}));
  }

 private:
  enum class Place { start, top, metadata, tensor, shape, offsets };

  HeaderEntry& entry() { return entries.back(); }
  std::string label() const { return join({"file ", printable(file_), ": "}); }
  std::string after() const {
    return entries.empty() ? "" : join({", after the start of tensor ", printable(entries.back().name)});
  }
  [[noreturn]] void fail(std::initializer_list<Piece> what) {
    throw Error(join({label(), "tensor ", printable(entry().name), ": ", join(what)}));
  }
  [[noreturn]] void unexpected(const std::string& found) {
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

  std::string_view file_;
  std::string key_;
  Place place_ = Place::start;
  unsigned seen_ = 0;
  std::size_t offsets_ = 0;
  bool has_metadata_ = false;
};

}  // namespace detail

// Widens F32, F16 or BF16 values to out[bytes.size() / size_of(dtype)]; bytes need not be aligned.
// Throws Error for other dtypes, or bytes that are not whole elements.
inline void convert_to_floats(Dtype dtype, std::span<const std::byte> bytes, float* out) {
  const std::byte* in = bytes.data();
  const std::size_t n = bytes.size() / size_of(dtype);
  if (bytes.size() % size_of(dtype) != 0) throw Error("convert_to_floats: the bytes are not whole elements");
  if (dtype == Dtype::f32) {
    if (n != 0) std::memcpy(out, in, bytes.size());
  } else if (dtype == Dtype::bf16) {
    for (std::size_t i = 0; i < n; ++i) out[i] = from_bf16(detail::load<std::uint16_t>(in + 2 * i));
  } else if (dtype == Dtype::f16) {
    for (std::size_t i = 0; i < n; ++i) out[i] = detail::widen_fp16(detail::load<std::uint16_t>(in + 2 * i));
  } else {
    throw Error(detail::join({"dtype ", name_of(dtype), ": expected F32, F16 or BF16 to read as floats"}));
  }
}

// Rounds floats to F32, F16 or BF16; out.size() must be floats.size() * size_of(dtype). Throws Error.
inline void convert_from_floats(Dtype dtype, std::span<const float> floats, std::span<std::byte> out) {
  if (out.size() / size_of(dtype) != floats.size() || out.size() % size_of(dtype) != 0)
    throw Error(detail::join({"convert_from_floats: ", floats.size(), " floats do not fill ", out.size(), " bytes"}));
  if (dtype == Dtype::f32) {
    if (!floats.empty()) std::memcpy(out.data(), floats.data(), out.size());
  } else if (dtype == Dtype::bf16) {
    for (std::size_t i = 0; i < floats.size(); ++i) detail::store(out.data() + 2 * i, to_bf16(floats[i]));
  } else if (dtype == Dtype::f16) {
    for (std::size_t i = 0; i < floats.size(); ++i) detail::store(out.data() + 2 * i, to_fp16(floats[i]));
  } else {
    throw Error(detail::join({"dtype ", name_of(dtype), ": expected F32, F16 or BF16 to write floats"}));
  }
}

// A validated file, mapped read-only: pages are read when they are used. Nobody may shorten the file while it is open.
class SafetensorsFile {
 public:
  // Throws Error, naming the file, the tensor and the rule, for everything that is not a well-formed file.
  explicit SafetensorsFile(const std::filesystem::path& path) : name_(path.string()) {
    namespace ipc = boost::interprocess;
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) fail({"cannot open: ", (error ? error.message() : std::string("no such file"))});
    if (!std::filesystem::is_regular_file(status)) fail({"cannot open: it is not a regular file"});
    const std::uintmax_t size = std::filesystem::file_size(path, error);
    if (error) fail({"cannot open: ", error.message()});
    if (size < 8) fail({"expected at least 8 bytes, found ", size});
    try {
      const ipc::file_mapping mapping(name_.c_str(), ipc::read_only);
      region_ = ipc::mapped_region(mapping, ipc::read_only);
    } catch (const ipc::interprocess_exception& e) {
      fail({"cannot open: ", e.what()});
    }
    parse({static_cast<const std::byte*>(region_.get_address()), region_.get_size()});
  }
  // The same for a file that is already in memory, which the caller keeps alive; name: for messages.
  SafetensorsFile(std::span<const std::byte> contents, std::string name) : name_(std::move(name)) { parse(contents); }

  SafetensorsFile(SafetensorsFile&&) = default;
  SafetensorsFile& operator=(SafetensorsFile&&) = default;

  const std::string& name() const { return name_; }
  const Metadata& metadata() const { return metadata_; }
  std::span<const TensorView> tensors() const { return tensors_; }  // in the order of their data

  // The tensor of this name, or null.
  const TensorView* find(std::string_view name) const {
    const auto at = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                     [&](std::size_t i, std::string_view wanted) { return tensors_[i].name < wanted; });
    return at != by_name_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
  }
  // The tensor of this name and shape. Throws Error where it is missing or shaped otherwise.
  const TensorView& require(std::string_view name, std::span<const std::size_t> shape) const {
    const TensorView* const tensor = find(name);
    if (tensor == nullptr) fail({"tensor ", detail::printable(name), ": missing, expected shape ", detail::to_text(shape)});
    if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end()))
      fail(*tensor, {"expected shape ", detail::to_text(shape), ", found ", detail::to_text(tensor->shape)});
    return *tensor;
  }
  // Widens an F32, F16 or BF16 tensor of this file to out[tensor.count()]. Throws Error for other dtypes.
  void read_floats(const TensorView& tensor, float* out) const {
    if (tensor.dtype != Dtype::f32 && tensor.dtype != Dtype::f16 && tensor.dtype != Dtype::bf16)
      fail(tensor, {"expected dtype F32, F16 or BF16, found ", name_of(tensor.dtype)});
    convert_to_floats(tensor.dtype, tensor.bytes, out);
    if (owns(tensor)) detail::forget_pages(tensor.bytes);
  }
  // Whether the tensor lies in this file's mapped pages.
  bool owns(const TensorView& tensor) const {
    const auto* const begin = static_cast<const std::byte*>(region_.get_address());
    return !std::less<>{}(tensor.bytes.data(), begin) && std::less<>{}(tensor.bytes.data(), begin + region_.get_size());
  }
  // The metadata under this key. Throws Error where there is none.
  const std::string& require_metadata(const std::string& key) const {
    const auto at = metadata_.find(key);
    if (at == metadata_.end()) fail({"metadata ", detail::printable(key), ": missing"});
    return at->second;
  }

 private:
  [[noreturn]] void fail(std::initializer_list<detail::Piece> what) const {
    throw Error(detail::join({"file ", detail::printable(name_), ": ", detail::join(what)}));
  }
  template <class Tensor>
  [[noreturn]] void fail(const Tensor& tensor, std::initializer_list<detail::Piece> what) const {
    fail({"tensor ", detail::printable(tensor.name), ": ", detail::join(what)});
  }

  void parse(std::span<const std::byte> file) {
    if (file.size() < 8) fail({"expected at least 8 bytes, found ", file.size()});
    const auto header_size = detail::load<std::uint64_t>(file.data());
    if (header_size > SafetensorsLimits::header_bytes)
      fail({"header: ", header_size, " bytes, at most ", SafetensorsLimits::header_bytes, " are allowed"});
    if (header_size > file.size() - 8) fail({"header: ", header_size, " bytes announced, ", file.size() - 8, " follow"});
    const std::string_view header(reinterpret_cast<const char*>(file.data()) + 8, static_cast<std::size_t>(header_size));
    const std::span<const std::byte> data = file.subspan(8 + header.size());
    if (!header.starts_with('{')) fail({"header: must begin with '{', found ", detail::printable(header.substr(0, 1))});
    // The JSON reader takes a zero byte for the end of its input, and what follows would go unseen.
    if (header.find('\0') != std::string_view::npos) fail({"header: holds a zero byte"});

    detail::HeaderReader reader(name_);
    nlohmann::json::sax_parse(header.data(), header.data() + header.size(), &reader);
    metadata_ = std::move(reader.metadata);
    place(reader.entries, data);
  }

  // Cuts the data into tensors, which must cover it from begin to end, each byte once.
  void place(std::vector<detail::HeaderEntry>& entries, std::span<const std::byte> data) {
    for (const detail::HeaderEntry& e : entries) {
      const auto offsets = [&] { return detail::join({"data_offsets [", e.begin, ", ", e.end, "]"}); };
      const auto shape = [&] { return detail::join({"shape ", detail::to_text(e.shape), " of ", name_of(e.dtype)}); };
      if (e.begin > e.end) fail(e, {offsets(), " are out of order"});
      if (e.end > data.size()) fail(e, {offsets(), " leave the file, whose data has ", data.size(), " bytes"});
      const auto size = detail::byte_size(e.dtype, e.shape);
      if (!size) fail(e, {shape(), " is too large for this machine's sizes"});
      if (*size != e.end - e.begin) fail(e, {shape(), " takes ", *size, " bytes, but ", offsets(), " hold ", e.end - e.begin});
    }
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end != b.end ? a.end < b.end : a.name < b.name;
    });
    std::size_t position = 0;
    tensors_.reserve(entries.size());
    for (detail::HeaderEntry& e : entries) {
      if (e.begin < position)
        fail(e, {"its data begins at ", e.begin, " and overlaps tensor ", detail::printable(tensors_.back().name)});
      if (e.begin > position) fail(e, {"its data begins at ", e.begin, ", expected ", position, " (a hole)"});
      position = e.end;
      tensors_.push_back({std::move(e.name), e.dtype, std::move(e.shape), data.subspan(e.begin, e.end - e.begin)});
    }
    if (position != data.size()) {
      fail({"the data has ", data.size(), " bytes, the tensors cover ", position, tensors_.empty() ? "" : ", the last is tensor ",
            tensors_.empty() ? "" : detail::printable(tensors_.back().name)});
    }
    by_name_.resize(tensors_.size());
    for (std::size_t i = 0; i < by_name_.size(); ++i) by_name_[i] = i;
    std::sort(by_name_.begin(), by_name_.end(),
              [&](std::size_t a, std::size_t b) { return tensors_[a].name < tensors_[b].name; });
    const auto twice = std::adjacent_find(by_name_.begin(), by_name_.end(),
                                          [&](std::size_t a, std::size_t b) { return tensors_[a].name == tensors_[b].name; });
    if (twice != by_name_.end()) fail(tensors_[*twice], {"appears twice in the header"});
  }

  std::string name_;
  boost::interprocess::mapped_region region_;
  std::vector<TensorView> tensors_;
  std::vector<std::size_t> by_name_;
  Metadata metadata_;
};

// One tensor to write: either floats (rounded to F32, F16 or BF16), or any dtype with fill writing the raw bytes, which is
// called once, when the tensor's turn has come, with a buffer of exactly the tensor's size.
struct TensorToWrite {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::size_t> shape;
  std::span<const float> floats{};
  std::function<void(std::span<std::byte>)> fill{};
};

namespace detail {

inline std::string to_json(std::string_view text, const std::filesystem::path& path) {
  if (find_invalid_utf8(text) != std::string_view::npos)
    fail_file(path, {"cannot write ", printable(text), ": not UTF-8 (encode bytes with base64_encode)"});
  std::string out = "\"";
  for (const char c : text) {
    constexpr char hex[] = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') out += {'\\', c};
    else if (byte < 0x20) out += {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
    else out += c;
  }
  out += '"';
  return out;
}

// The header with its length in front, padded with spaces so that the data begins on a multiple of 8.
inline std::string safetensors_header(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                                      const Metadata& metadata) {
  const auto fail = [&](const TensorToWrite& t, std::initializer_list<Piece> what) {
    fail_file(path, {"cannot write tensor ", printable(t.name), ": ", join(what)});
  };
  if (tensors.size() > SafetensorsLimits::tensors || metadata.size() > SafetensorsLimits::metadata)
    fail_file(path, {"cannot write: more tensors or metadata than the reader accepts"});
  std::string header = "{";
  if (!metadata.empty()) {
    for (const auto& [key, value] : metadata)
      header += join({header.size() > 1 ? "," : "\"__metadata__\":{", to_json(key, path), ":", to_json(value, path)});
    header += "}";
  }
  std::vector<std::string_view> names;
  std::size_t position = 0;
  for (const TensorToWrite& t : tensors) {
    const auto size = byte_size(t.dtype, t.shape);
    if (!size || *size > std::numeric_limits<std::size_t>::max() - position)
      fail(t, {"shape ", to_text(t.shape), " is too large"});
    if (t.shape.size() > SafetensorsLimits::dimensions) fail(t, {"more than ", SafetensorsLimits::dimensions, " dimensions"});
    if (t.name == "__metadata__") fail(t, {"the name is reserved"});
    if (!t.fill) {
      if (t.dtype != Dtype::f32 && t.dtype != Dtype::f16 && t.dtype != Dtype::bf16)
        fail(t, {"floats become F32, F16 or BF16, not ", name_of(t.dtype), "; give fill"});
      if (t.floats.size() != *size / size_of(t.dtype))
        fail(t, {"shape ", to_text(t.shape), " does not hold the ", t.floats.size(), " floats given"});
    }
    header += join({header.size() > 1 ? "," : "", to_json(t.name, path), ":{\"dtype\":\"", name_of(t.dtype),
                    "\",\"shape\":", to_text(t.shape), ",\"data_offsets\":[", position, ", ", position + *size, "]}"});
    position += *size;
    names.push_back(t.name);
  }
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
    fail_file(path, {"cannot write tensor ", printable(*twice), ": two have this name"});
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > SafetensorsLimits::header_bytes)
    fail_file(path, {"cannot write: the header is larger than the format allows"});
  const auto length = std::bit_cast<std::array<char, 8>>(static_cast<std::uint64_t>(header.size()));
  return std::string(length.data(), length.size()) + header;
}

}  // namespace detail

// Writes the tensors in the order given: equal arguments, equal bytes. The file is replaced in one step, see AtomicFile.
// Throws Error before anything is written for names, shapes or floats that do not fit together, and for failing disks.
inline void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                              const Metadata& metadata = {}) {
  const std::string header = detail::safetensors_header(path, tensors, metadata);
  AtomicFile file(path);
  file.write(header);
  std::vector<std::byte> buffer;
  for (const TensorToWrite& t : tensors) {
    if (t.fill) {
      buffer.assign(*detail::byte_size(t.dtype, t.shape), std::byte{0});
      t.fill(buffer);
      file.write(buffer);
    } else if (t.dtype == Dtype::f32) {
      file.write(std::as_bytes(t.floats));
    } else {
      constexpr std::size_t chunk = 65536;
      for (std::size_t i = 0; i < t.floats.size(); i += chunk) {
        const auto part = t.floats.subspan(i, std::min(chunk, t.floats.size() - i));
        buffer.resize(part.size() * size_of(t.dtype));
        convert_from_floats(t.dtype, part, buffer);
        file.write(buffer);
      }
    }
  }
  file.commit();
}

// Base64 (RFC 4648, section 4, padded): metadata is JSON text, so bytes such as a tokenizer model travel in this form.
inline std::string base64_encode(std::string_view bytes) {
  constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto at = [&](std::size_t i) { return i < bytes.size() ? std::uint32_t{static_cast<unsigned char>(bytes[i])} : 0u; };
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::uint32_t w = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    out += {digits[w >> 18], digits[w >> 12 & 63], i + 1 < bytes.size() ? digits[w >> 6 & 63] : '=',
            i + 2 < bytes.size() ? digits[w & 63] : '='};
  }
  return out;
}

// The inverse, strict: throws Error for anything that base64_encode does not produce.
inline std::string base64_decode(std::string_view text) {
  const auto value = [](char c) -> std::uint32_t {
    if (c >= 'A' && c <= 'Z') return static_cast<std::uint32_t>(c - 'A');
    if (c >= 'a' && c <= 'z') return static_cast<std::uint32_t>(c - 'a' + 26);
    if (c >= '0' && c <= '9') return static_cast<std::uint32_t>(c - '0' + 52);
    return c == '+' ? 62 : c == '/' ? 63 : 64;
  };
  if (text.size() % 4 != 0) throw Error(detail::join({"base64: expected a multiple of 4 characters, found ", text.size()}));
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string out;
  out.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    std::uint32_t w = 0;
    for (std::size_t j = i; j < i + 4; ++j) {
      const std::uint32_t v = j >= text.size() - padding ? 0 : value(text[j]);
      if (v > 63) throw Error(detail::join({"base64: unexpected ", detail::printable(text.substr(j, 1)), " at position ", j}));
      w = w << 6 | v;
    }
    for (const int shift : {16, 8, 0}) out.push_back(static_cast<char>(w >> shift & 255));
  }
  for (std::size_t i = 0; i < padding; ++i) out.pop_back();
  if (base64_encode(std::string_view(out).substr(out.size() / 3 * 3)) != text.substr(out.size() / 3 * 4, padding == 0 ? 0 : 4))
    throw Error("base64: the bits after the last byte are not zero");
  return out;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
