// SPDX-License-Identifier: Apache-2.0
// Reads and writes the safetensors format: a JSON header, then the raw tensors (github.com/huggingface/safetensors).
//
// A file is somebody else's: everything is checked before anything is used or allocated by its numbers, and a file that
// breaks any rule of the format is refused as a whole. What is not checked are the values: NaN and infinity are data.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "../core/reinterpret_bits.hpp"
#include "atomic_file.hpp"
#include "base64.hpp"
#include "dtype.hpp"
#include "message.hpp"
#include "safetensors_header.hpp"
#include "system_file.hpp"
#include "utf8.hpp"

#ifdef MOBILEDIFFUSION_BODIES
#include <nlohmann/json.hpp>
#endif

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// One tensor of an open file: valid as long as the file is.
struct TensorView {
  std::string name;
  Dtype dtype{};
  std::vector<std::size_t> shape;
  std::size_t begin = 0, size = 0;  // bytes, from the beginning of the file

  std::size_t count() const { return size / size_of(dtype); }  // elements
};

// A validated file. Its tensors are read when they are asked for, never mapped: a file that shrinks meanwhile, or a disk that
// fails, is then an Error and no signal. Reading is const: any number of threads may do it at once.
class SafetensorsFile {
 public:
  // Throws Error, naming the file, the tensor and the rule, for everything that is not a well-formed file.
  explicit SafetensorsFile(const std::filesystem::path& path, const FilePart& part = {});
  // The same for a file that is already in memory, which the caller keeps alive; name: for messages.
  SafetensorsFile(std::span<const std::byte> contents, std::string name) : name_(std::move(name)), memory_(contents) {
    parse(contents.size());
  }

  SafetensorsFile(SafetensorsFile&&) = default;
  SafetensorsFile& operator=(SafetensorsFile&&) = default;

  const std::string& name() const { return name_; }
  const Metadata& metadata() const { return metadata_; }
  std::span<const TensorView> tensors() const { return tensors_; }  // in the order of their data

  // The tensor of this name, or null.
  const TensorView* find(std::string_view name) const;
  // The tensor of this name and shape. Throws Error where it is missing or shaped otherwise.
  const TensorView& require(std::string_view name, std::span<const std::size_t> shape) const;
  // Widens a tensor of this file to out[tensor.count()]. Throws Error for dtypes that are no floats (is_float), and where the
  // file cannot be read any more.
  void read_floats(const TensorView& tensor, float* out) const;
  // The tensor's bytes as they are, of any dtype: out has tensor.size of them. Throws Error.
  void read_bytes(const TensorView& tensor, std::span<std::byte> out) const;
  std::vector<std::byte> read_bytes(const TensorView& tensor) const;
  // The metadata under this key. Throws Error where there is none.
  const std::string& require_metadata(const std::string& key) const;

 private:
  [[noreturn]] void fail(std::initializer_list<detail::Piece> what) const {
    throw Error(detail::join({"file ", detail::printable(name_), ": ", detail::join(what)}));
  }
  template <class Tensor>
  [[noreturn]] void fail(const Tensor& tensor, std::initializer_list<detail::Piece> what) const {
    fail({"tensor ", detail::printable(tensor.name), ": ", detail::join(what)});
  }

  void read(std::size_t at, std::span<std::byte> out) const;

  // size: of the whole file.
  void parse(std::size_t size);
  // What else people keep weights in, by how it begins; null: something else.
  static const char* kind_of_other(const std::array<std::byte, 8>& begin);

  // Cuts the data into tensors, which must cover it from begin to end, each byte once.
  void place(std::vector<detail::HeaderEntry>& entries, std::size_t data_begin, std::size_t data_size);

  std::string name_;
  std::optional<detail::InputFile> file_;  // or
  std::span<const std::byte> memory_{};
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

// The header with its length in front, padded with spaces so that the data begins on a multiple of 8.
std::string safetensors_header(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                               const Metadata& metadata);

}  // namespace detail

// Writes the tensors in the order given: equal arguments, equal bytes. The file is replaced in one step, see AtomicFile.
// Throws Error before anything is written for names, shapes or floats that do not fit together, and for failing disks.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors, const Metadata& metadata = {});

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY SafetensorsFile::SafetensorsFile(const std::filesystem::path& path, const FilePart& part)
    : name_(detail::path_text(path)), file_(std::in_place, path, part) {
  if (file_->size() > std::numeric_limits<std::size_t>::max()) fail({"larger than this machine's sizes"});
  parse(static_cast<std::size_t>(file_->size()));
}

MOBILEDIFFUSION_BODY const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto at = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                   [&](std::size_t i, std::string_view wanted) { return tensors_[i].name < wanted; });
  return at != by_name_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
}

MOBILEDIFFUSION_BODY const TensorView& SafetensorsFile::require(std::string_view name, std::span<const std::size_t> shape) const {
  const TensorView* const tensor = find(name);
  if (tensor == nullptr) fail({"tensor ", detail::printable(name), ": missing, expected shape ", detail::to_text(shape)});
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end()))
    fail(*tensor, {"expected shape ", detail::to_text(shape), ", found ", detail::to_text(tensor->shape)});
  return *tensor;
}

MOBILEDIFFUSION_BODY void SafetensorsFile::read_floats(const TensorView& tensor, float* out) const {
  if (!is_float(tensor.dtype)) fail(tensor, {"expected dtype ", float_dtypes, ", found ", name_of(tensor.dtype)});
  if (!file_) return convert_to_floats(tensor.dtype, memory_.subspan(tensor.begin, tensor.size), out);
  if (tensor.dtype == Dtype::f32) return file_->read(tensor.begin, std::as_writable_bytes(std::span(out, tensor.count())));
  constexpr std::size_t chunk = 1 << 16;  // stays in the cache
  std::array<std::byte, chunk> bytes;
  for (std::size_t at = 0; at < tensor.size; at += chunk) {
    const auto part = std::span(bytes).first(std::min(chunk, tensor.size - at));
    file_->read(tensor.begin + at, part);
    convert_to_floats(tensor.dtype, part, out + at / size_of(tensor.dtype));
  }
}

MOBILEDIFFUSION_BODY void SafetensorsFile::read_bytes(const TensorView& tensor, std::span<std::byte> out) const {
  if (out.size() != tensor.size) fail(tensor, {"has ", tensor.size, " bytes, expected ", out.size()});
  read(tensor.begin, out);
}

MOBILEDIFFUSION_BODY std::vector<std::byte> SafetensorsFile::read_bytes(const TensorView& tensor) const {
  std::vector<std::byte> bytes(tensor.size);
  read_bytes(tensor, bytes);
  return bytes;
}

MOBILEDIFFUSION_BODY const std::string& SafetensorsFile::require_metadata(const std::string& key) const {
  const auto at = metadata_.find(key);
  if (at == metadata_.end()) fail({"metadata ", detail::printable(key), ": missing"});
  return at->second;
}

MOBILEDIFFUSION_BODY void SafetensorsFile::read(std::size_t at, std::span<std::byte> out) const {
  if (file_) file_->read(at, out);
  else std::copy_n(memory_.begin() + static_cast<std::ptrdiff_t>(at), out.size(), out.begin());
}

MOBILEDIFFUSION_BODY void SafetensorsFile::parse(std::size_t size) {
  if (size < 8) fail({"expected at least 8 bytes, found ", size});
  std::array<std::byte, 8> begin;
  read(0, begin);
  const auto header_size = reinterpret_bits<std::uint64_t>(begin);
  if (header_size > SafetensorsLimits::header_bytes) {
    if (const char* const kind = kind_of_other(begin); kind != nullptr)
      fail({"expected a safetensors file, found ", kind, "; convert it to safetensors"});
    fail({"header: ", header_size, " bytes, at most ", SafetensorsLimits::header_bytes, " are allowed"});
  }
  if (header_size > size - 8) fail({"header: ", header_size, " bytes announced, ", size - 8, " follow"});
  std::string header(static_cast<std::size_t>(header_size), '\0');
  read(8, std::as_writable_bytes(std::span(header)));
  if (!header.starts_with('{')) fail({"header: must begin with '{', found ", detail::printable(header.substr(0, 1))});
  // The JSON reader takes a zero byte for the end of its input, and what follows would go unseen.
  if (header.find('\0') != std::string::npos) fail({"header: holds a zero byte"});

  detail::HeaderReader reader(name_);
  nlohmann::json::sax_parse(header.data(), header.data() + header.size(), &reader);
  metadata_ = std::move(reader.metadata);
  place(reader.entries, 8 + header.size(), size - 8 - header.size());
}

MOBILEDIFFUSION_BODY const char* SafetensorsFile::kind_of_other(const std::array<std::byte, 8>& begin) {
  const std::string_view text(reinterpret_cast<const char*>(begin.data()), begin.size());
  if (text.starts_with("PK\x03\x04")) return "a PyTorch archive (.ckpt, .bin, .pt or .pth)";
  if (text[0] == '\x80' && text[1] >= 2 && text[1] <= 5) return "a Python pickle (.ckpt, .bin, .pt or .pth)";
  if (text.starts_with("GGUF")) return "a GGUF file";
  if (text.starts_with("\x89HDF")) return "an HDF5 file";
  if (text.starts_with("\x89PNG")) return "a picture (PNG)";
  return nullptr;
}

MOBILEDIFFUSION_BODY void SafetensorsFile::place(std::vector<detail::HeaderEntry>& entries, std::size_t data_begin,
                                                 std::size_t data_size) {
  for (const detail::HeaderEntry& e : entries) {
    const auto offsets = [&] { return detail::join({"data_offsets [", e.begin, ", ", e.end, "]"}); };
    const auto shape = [&] { return detail::join({"shape ", detail::to_text(e.shape), " of ", name_of(e.dtype)}); };
    if (e.begin > e.end) fail(e, {offsets(), " are out of order"});
    if (e.end > data_size) fail(e, {offsets(), " leave the file, whose data has ", data_size, " bytes"});
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
    tensors_.push_back({std::move(e.name), e.dtype, std::move(e.shape), data_begin + e.begin, e.end - e.begin});
  }
  if (position != data_size) {
    fail({"the data has ", data_size, " bytes, the tensors cover ", position, tensors_.empty() ? "" : ", the last is tensor ",
          tensors_.empty() ? "" : detail::printable(tensors_.back().name)});
  }
  by_name_.resize(tensors_.size());
  for (std::size_t i = 0; i < by_name_.size(); ++i) by_name_[i] = i;
  std::sort(by_name_.begin(), by_name_.end(), [&](std::size_t a, std::size_t b) { return tensors_[a].name < tensors_[b].name; });
  const auto twice = std::adjacent_find(by_name_.begin(), by_name_.end(),
                                        [&](std::size_t a, std::size_t b) { return tensors_[a].name == tensors_[b].name; });
  if (twice != by_name_.end()) fail(tensors_[*twice], {"appears twice in the header"});
}

namespace detail {

MOBILEDIFFUSION_BODY std::string to_json(std::string_view text, const std::filesystem::path& path) {
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

MOBILEDIFFUSION_BODY std::string safetensors_header(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
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
  const auto length = reinterpret_bits<std::array<char, 8>>(static_cast<std::uint64_t>(header.size()));
  return std::string(length.data(), length.size()) + header;
}

}  // namespace detail

MOBILEDIFFUSION_BODY void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                                            const Metadata& metadata) {
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

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
