// SPDX-License-Identifier: Apache-2.0
// Safetensors: round trips, and files that lie, each refused with a text that names file and tensor.
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/io/safetensors.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

namespace {

std::string file_of(std::string_view header, std::size_t data = 0, std::int64_t lie = 0) {
  const std::uint64_t n = header.size() + static_cast<std::uint64_t>(lie);
  std::string file(8, '\0');
  std::memcpy(file.data(), &n, 8);
  return file + std::string(header) + std::string(data, '\x11');
}

SafetensorsFile open_bytes(std::string_view bytes) {
  return {std::as_bytes(std::span(bytes.data(), bytes.size())), "some.safetensors"};
}

std::string refusal(const std::string& bytes) {
  const std::string error = error_of([&] { open_bytes(bytes); });
  INFO(error);
  expect(error, "file \"some.safetensors\": ");
  CHECK(error.find('\n') == std::string::npos);
  return error;
}

std::string entry(std::string_view name, std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return detail::join({"\"", name, "\":{\"dtype\":\"", dtype, "\",\"shape\":[", shape, "],\"data_offsets\":[", offsets, "]}"});
}
std::string header_of(const std::vector<std::string>& entries) {
  std::string header = "{";
  for (const auto& e : entries) header.append(header.size() > 1 ? "," : "").append(e);
  return header.append("}");
}

}  // namespace

TEST_CASE("what is written is read: every dtype, scalars, empty tensors, metadata", "[io][safetensors]") {
  const TemporaryFolder folder;
  const auto path = folder / "a.safetensors";
  const std::vector<float> values{
      0.0f, -0.0f, 1.0f, -2.5f, 65504.0f, 1e-7f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()};
  std::vector<TensorToWrite> tensors;
  for (const Dtype d : {Dtype::f32, Dtype::f16, Dtype::bf16})
    tensors.push_back({.name = detail::join({"floats.", name_of(d)}), .dtype = d, .shape = {2, 4}, .floats = values});
  for (const auto& known : detail::dtype_names) {
    tensors.push_back(
        {.name = detail::join({"raw.", known.name}), .dtype = known.dtype, .shape = {3, 1}, .fill = [](std::span<std::byte> out) {
           for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i + 1);
         }});
  }
  const std::vector<float> one{7.0f};
  tensors.push_back({.name = "scalar", .shape = {}, .floats = one});
  tensors.push_back({.name = "empty", .shape = {4, 0, 3}, .floats = {}});
  tensors.push_back({.name = "name with \"quotes\", \\ and \xC3\xA4\n", .shape = {1}, .floats = one});
  const Metadata metadata{{"format", "pt"}, {"odd \"key\"\t", "line\nline \xE2\x82\xAC"}};
  write_safetensors(path, tensors, metadata);

  const SafetensorsFile file(path);
  CHECK(file.metadata() == metadata);
  CHECK(file.require_metadata("format") == "pt");
  expect(error_of([&] { file.require_metadata("seed"); }), "metadata \"seed\": missing");
  REQUIRE(file.tensors().size() == tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const TensorView* t = file.find(tensors[i].name);
    REQUIRE(t != nullptr);
    CHECK(t == &file.require(tensors[i].name, tensors[i].shape));
    CHECK(t->dtype == tensors[i].dtype);
    CHECK(t->shape == tensors[i].shape);
  }
  CHECK(file.find("none") == nullptr);
  CHECK(file.find("empty")->count() == 0);
  std::vector<std::byte> raw(24);
  file.read_bytes(*file.find("raw.I64"), raw);
  CHECK(raw[23] == std::byte{24});
  expect(error_of([&] { file.read_bytes(*file.find("raw.I32"), raw); }), "\"raw.I32\": has 12 bytes, expected 24");

  std::vector<float> out(8);
  const auto same = [](float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); };
  for (const Dtype d : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
    file.read_floats(*file.find(detail::join({"floats.", name_of(d)})), out.data());
    for (std::size_t i = 0; i < 8; ++i) {
      const float expected = d == Dtype::f32   ? values[i]
                             : d == Dtype::f16 ? from_fp16(to_fp16(values[i]))
                                               : from_bf16(to_bf16(values[i]));
      CHECK(same(out[i], expected));
    }
  }
  const std::string error = error_of([&] { file.read_floats(*file.find("raw.I32"), out.data()); });
  expect(error, path.string());
  expect(error, "tensor \"raw.I32\": expected dtype F32, F16, BF16, F8_E4M3 or F8_E5M2, found I32");
  expect(error_of([&] { file.require("none", std::vector<std::size_t>{2}); }), "tensor \"none\": missing, expected shape [2]");
  expect(error_of([&] {
           file.require("scalar", std::vector<std::size_t>{2, 3});
         }),
         "tensor \"scalar\": expected shape [2, 3], found []");

  const std::string first = read_file(path);
  write_safetensors(path, tensors, metadata);
  CHECK(read_file(path) == first);
  CHECK(detail::load<std::uint64_t>(reinterpret_cast<const std::byte*>(first.data())) % 8 == 0);
  SafetensorsFile moved = open_bytes(first);
  const TensorView* before = moved.find("scalar");
  const SafetensorsFile owner = std::move(moved);
  CHECK(owner.find("scalar") == before);
}

TEST_CASE("half floats widen as the scalar conversion does, from any address", "[io][safetensors]") {
  std::vector<std::byte> bytes(2 * 65536 + 1);
  for (std::uint32_t h = 0; h < 65536; ++h) detail::store(bytes.data() + 1 + 2 * h, static_cast<std::uint16_t>(h));
  std::vector<float> out(65536);
  std::size_t wrong = 0;
  convert_to_floats(Dtype::f16, std::span(bytes).subspan(1), out.data());
  for (std::uint32_t h = 0; h < 65536; ++h)
    wrong += std::bit_cast<std::uint32_t>(out[h]) != std::bit_cast<std::uint32_t>(from_fp16(static_cast<std::uint16_t>(h)));
  convert_to_floats(Dtype::bf16, std::span(bytes).subspan(1), out.data());
  for (std::uint32_t h = 0; h < 65536; ++h)
    wrong += std::bit_cast<std::uint32_t>(out[h]) != std::bit_cast<std::uint32_t>(from_bf16(static_cast<std::uint16_t>(h)));
  CHECK(wrong == 0);
  CHECK_THROWS_AS(convert_to_floats(Dtype::f16, std::span(bytes), out.data()), Error);
  CHECK_THROWS_AS(convert_from_floats(Dtype::f16, out, bytes), Error);
}

TEST_CASE("floats of eight bits have their values", "[io][safetensors]") {
  const auto value = [](Dtype dtype, unsigned bits) {
    const std::array bytes{static_cast<std::byte>(bits)};
    float out = 0;
    convert_to_floats(dtype, bytes, &out);
    return out;
  };
  // arXiv 2209.05433, table 1.
  for (const auto& [bits, expected] : {std::pair{0x00u, 0.0f},
                                       {0x01u, 0x1p-9f},
                                       {0x07u, 0.875f * 0x1p-6f},
                                       {0x08u, 0x1p-6f},
                                       {0x38u, 1.0f},
                                       {0x39u, 1.125f},
                                       {0x40u, 2.0f},
                                       {0x7Eu, 448.0f},
                                       {0xFEu, -448.0f},
                                       {0xB8u, -1.0f},
                                       {0x81u, -0x1p-9f}})
    CHECK(value(Dtype::f8_e4m3, bits) == expected);
  CHECK(std::signbit(value(Dtype::f8_e4m3, 0x80)));
  CHECK(std::isnan(value(Dtype::f8_e4m3, 0x7F)));
  CHECK(std::isnan(value(Dtype::f8_e4m3, 0xFF)));
  for (const auto& [bits, expected] : {std::pair{0x00u, 0.0f},
                                       {0x01u, 0x1p-16f},
                                       {0x03u, 0.75f * 0x1p-14f},
                                       {0x04u, 0x1p-14f},
                                       {0x3Cu, 1.0f},
                                       {0x3Du, 1.25f},
                                       {0x7Bu, 57344.0f},
                                       {0xBCu, -1.0f}})
    CHECK(value(Dtype::f8_e5m2, bits) == expected);
  CHECK(value(Dtype::f8_e5m2, 0xFC) == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(value(Dtype::f8_e5m2, 0x7E)));
  const std::array one{1.0f};
  std::array<std::byte, 1> byte;
  CHECK_THROWS_AS(convert_from_floats(Dtype::f8_e4m3, one, byte), Error);
}

TEST_CASE("files without tensors, and unordered headers, are fine", "[io][safetensors]") {
  CHECK(open_bytes(file_of("{}")).tensors().empty());
  CHECK(open_bytes(file_of("{}      ")).tensors().empty());
  CHECK(open_bytes(file_of("{\"__metadata__\":{}}")).metadata().empty());
  CHECK(open_bytes(file_of("{\"__metadata__\":null}")).metadata().empty());
  const auto bytes =
      file_of(header_of({entry("b", "F32", "1", "4,8"), entry("z", "F32", "0", "4,4"), entry("a", "F32", "1", "0,4")}), 8);
  const auto file = open_bytes(bytes);
  CHECK(file.tensors()[0].name == "a");
  CHECK(file.tensors()[1].name == "z");
  CHECK(file.tensors()[2].name == "b");
}

TEST_CASE("a file cut anywhere is refused", "[io][safetensors]") {
  const std::string whole = file_of(header_of({entry("a", "F32", "2", "0,8"), entry("b", "BF16", "3", "8,14")}) + "  ", 14);
  CHECK(open_bytes(whole).tensors().size() == 2);
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const std::string error = error_of([&] { open_bytes(std::string_view(whole).substr(0, n)); });
    if (!contains(error, "some.safetensors")) FAIL("cut at " << n << ": " << error);
  }
  expect(refusal(whole.substr(0, whole.size() - 1)),
         "tensor \"b\": data_offsets [8, 14] leave the file, whose data has 13 bytes");
  expect(refusal(whole + "x"), "the data has 15 bytes, the tensors cover 14, the last is tensor \"b\"");
  const TemporaryFolder folder;  // the same from a file
  for (const std::size_t n : {std::size_t{0}, std::size_t{7}, std::size_t{8}, std::size_t{9}, whole.size() - 1}) {
    write_file(folder / "cut", std::string_view(whole).substr(0, n));
    expect(error_of([&] { SafetensorsFile(folder / "cut"); }), "cut\": ");
  }
  expect(error_of([&] { SafetensorsFile(folder / "none"); }), "none\": cannot open: ");
  expect(error_of([&] { SafetensorsFile(folder / ""); }), "not a regular file but a folder");
  expect(error_of([&] { SafetensorsFile(folder / std::string(256, 'n')); }), "cannot open: File name too long");
}

TEST_CASE("a file that shrinks while it is open is an error, whatever is read of it", "[io][safetensors]") {
  const TemporaryFolder folder;
  const std::vector<float> floats(100'000, 1.0f);
  for (const Dtype dtype : {Dtype::f32, Dtype::f16}) {
    write_safetensors(folder / "a", std::vector<TensorToWrite>{
                                        {.name = "a", .dtype = dtype, .shape = {100}, .floats = std::span(floats).first(100)},
                                        {.name = "b", .dtype = dtype, .shape = {100'000}, .floats = floats}});
    const SafetensorsFile file(folder / "a");
    std::vector<float> out(100'000);
    std::vector<std::byte> bytes(file.find("b")->size);
    std::filesystem::resize_file(folder / "a", std::filesystem::file_size(folder / "a") - 1);
    file.read_floats(*file.find("a"), out.data());
    CHECK(out[99] == 1.0f);
    expect(error_of([&] { file.read_floats(*file.find("b"), out.data()); }), "a\": cannot read: it became shorter meanwhile");
    expect(error_of([&] { file.read_bytes(*file.find("b"), bytes); }), "cannot read: it became shorter meanwhile");
    std::filesystem::resize_file(folder / "a", 0);
    expect(error_of([&] { file.read_floats(*file.find("a"), out.data()); }), "cannot read: it became shorter meanwhile");
  }
}

TEST_CASE("headers that lie about their length", "[io][safetensors]") {
  expect(refusal(file_of("{}", 0, 1)), "3 bytes announced, 2 follow");
  expect(refusal(file_of("{}", 0, -1)), "not JSON");
  expect(refusal(file_of("{}", 0, -2)), "must begin with '{'");
  expect(refusal(file_of("{}", 0, 100'000'000)), "at most 100000000");
  expect(refusal(file_of("{}", 0, -3)), "header: 18446744073709551615 bytes, at most");
}

TEST_CASE("other kinds of files are called by their names", "[io][safetensors]") {
  const auto found = [](std::string_view begin) { return refusal(std::string(begin) + std::string(40, '\x7f')); };
  expect(found("PK\x03\x04"), "expected a safetensors file, found a PyTorch archive");
  expect(found("\x80\x02}q"), "found a Python pickle");
  expect(found("GGUF"), "found a GGUF file");
  expect(found("\x89PNG"), "expected a safetensors file, found a picture (PNG)");
  expect(found("\x89JPG"), "bytes, at most 100000000 are allowed");
}

TEST_CASE("headers that are not what they must be", "[io][safetensors]") {
  expect(refusal(file_of(" {}")), "must begin with '{', found \" \"");
  expect(refusal(file_of("[]")), "must begin with '{'");
  expect(refusal(file_of("\xEF\xBB\xBF{}")), "must begin with '{'");
  expect(refusal(file_of("{\"a\"}")), "not JSON at byte");
  expect(refusal(file_of("{} {}")), "not JSON");
  expect(refusal(file_of("{}x")), "not JSON");
  expect(refusal(file_of("{\"a\":{\"dtype\":\"\xFF\"}}")), "not JSON");
  expect(refusal(file_of(std::string_view("{}\0\0", 4))), "zero byte");
  expect(refusal(file_of("{" + std::string(100'000, '[') + "}")), "not JSON");
  expect(refusal(file_of("{\"a\":" + std::string(100'000, '['))), "tensor \"a\": expected an object");
  expect(refusal(file_of("{\"a\":{\"shape\":" + std::string(100'000, '['))), "tensor \"a\": shape: expected numbers");
  expect(refusal(file_of("{\"a\":" + std::string(100'000, '{'))), "not JSON");
  expect(refusal(file_of("{\"a\":null}")), "tensor \"a\": expected an object with dtype, shape and data_offsets, found null");
  expect(refusal(file_of("{\"a\":{}}")), "tensor \"a\": the key dtype is missing");
  expect(refusal(file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}")), "tensor \"a\": the key data_offsets is missing");
  expect(refusal(file_of("{\"a\":{\"dtype\":3}}")), "tensor \"a\": dtype: expected text, found the number 3");
  expect(refusal(file_of("{\"a\":{\"dtype\":[]}}")), "tensor \"a\": dtype: expected text, found a list");
  expect(refusal(file_of("{\"a\":{\"shape\":{}}}")), "tensor \"a\": shape: expected a list of numbers, found an object");
  expect(refusal(file_of("{\"a\":{\"offsets\":1}}")), "tensor \"a\": unknown key \"offsets\"");
  expect(refusal(file_of("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}")), "tensor \"a\": the key \"dtype\" appears twice");
  expect(refusal(file_of("{\"__metadata__\":null,\"__metadata__\":null}")), "\"__metadata__\" appears twice");
  expect(refusal(file_of("{\"__metadata__\":{\"k\":null}}")), "metadata \"k\": expected text, found null");
  expect(refusal(file_of("{\"__metadata__\":[]}")), "metadata: expected an object of texts, found a list");
  expect(refusal(file_of("{\"__metadata__\":{\"k\":1}}")), "metadata \"k\": expected text, found the number 1");
  expect(refusal(file_of("{\"__metadata__\":{\"k\":{}}}")), "metadata \"k\": expected text, found an object");
  expect(refusal(file_of("{\"__metadata__\":{\"k\":\"a\",\"k\":\"a\"}}")), "metadata: the key \"k\" appears twice");
  expect(refusal(file_of("{\"__metadata__\":{},\"__metadata__\":{}}")), "\"__metadata__\" appears twice");
  expect(refusal(file_of("{\"a\\u0000\\n\":1}")), "tensor \"a\\x00\\x0a\"");
}

TEST_CASE("tensors that do not fit their bytes", "[io][safetensors]") {
  const auto one = [](std::string_view dtype, std::string_view shape, std::string_view offsets, std::size_t data) {
    return refusal(file_of(header_of({entry("t", dtype, shape, offsets)}), data));
  };
  expect(one("F33", "1", "0,4", 4), "tensor \"t\": unknown dtype \"F33\"");
  expect(one("f32", "1", "0,4", 4), "unknown dtype");
  for (const std::string dtype : {"F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64"})
    expect(one(dtype, "1", "0,4", 4), "tensor \"t\": dtype " + dtype + ": cannot be read; convert the file");
  expect(one("F32", "2", "0,4", 4), "tensor \"t\": shape [2] of F32 takes 8 bytes, but data_offsets [0, 4] hold 4");
  expect(one("F32", "1", "0,8", 8), "takes 4 bytes");
  expect(one("F32", "1", "0,4", 3), "tensor \"t\": data_offsets [0, 4] leave the file");
  expect(one("F32", "1", "4,0", 4), "tensor \"t\": data_offsets [4, 0] are out of order");
  expect(one("F32", "1", "4,8", 8), "tensor \"t\": its data begins at 4, expected 0 (a hole)");
  expect(one("F32", "1", "0,4", 5), "the data has 5 bytes, the tensors cover 4");
  expect(one("F32", "-1", "0,4", 4), "tensor \"t\": shape: expected numbers that are whole and not negative");
  expect(one("F32", "1.0", "0,4", 4), "shape: expected numbers that are whole");
  expect(one("F32", "1e0", "0,4", 4), "shape: expected numbers that are whole");
  expect(one("F32", "99999999999999999999", "0,4", 4), "shape: expected numbers that are whole");
  expect(one("F32", "\"1\"", "0,4", 4), "tensor \"t\": shape");
  expect(one("F32", "1", "0", 4), "tensor \"t\": data_offsets must be two numbers, found 1");
  expect(one("F32", "1", "0,4,8", 4), "tensor \"t\": data_offsets must be two numbers, found more");
  expect(one("F32", "1", "-0,4", 4), "tensor \"t\": data_offsets: expected numbers");
  expect(one("F32", "1,1,1,1,1,1,1,1,1", "0,4", 4), "tensor \"t\": more than 8 dimensions");
  // Products that wrap, to zero and to what the offsets say; also behind a zero.
  expect(one("F32", "4294967296,4294967296", "0,0", 0), "tensor \"t\": shape [4294967296, 4294967296] of F32 is too large");
  expect(one("F32", "4611686018427387905", "0,4", 4), "too large");
  expect(one("U8", "18446744073709551615,2", "0,4", 4), "too large");
  expect(one("F32", "0,4294967296,4294967296", "0,0", 0), "too large");
  expect(one("F32", "4294967296,4294967296,0", "0,0", 0), "too large");
  // A product of zero is no way around the bounds.
  expect(one("F32", "0", "0,4", 4), "tensor \"t\": shape [0] of F32 takes 0 bytes");
  expect(one("F32", "0", "8,8", 4), "leave the file");
  expect(one("F32", "0", "4,4", 4), "a hole");
  expect(one("F32", "0", "18446744073709551615,18446744073709551615", 4), "leave the file");
  expect(one("F32", "1", "18446744073709551615,3", 4), "out of order");

  const auto two = [](std::string_view a, std::string_view b, std::size_t data, std::string_view name = "b") {
    return refusal(file_of(header_of({entry("a", "U8", "4", a), entry(name, "U8", "4", b)}), data));
  };
  expect(two("0,4", "3,7", 7), "tensor \"b\": its data begins at 3 and overlaps tensor \"a\"");
  expect(two("0,4", "0,4", 4), "tensor \"b\": its data begins at 0 and overlaps tensor \"a\"");
  expect(two("0,4", "5,9", 9), "tensor \"b\": its data begins at 5, expected 4 (a hole)");
  expect(two("4,8", "8,12", 12), "tensor \"a\": its data begins at 4, expected 0 (a hole)");
  expect(two("0,4", "4,8", 8, "a"), "tensor \"a\": appears twice");
  expect(two("0,4", "4,8", 8, "\\u0061"), "tensor \"a\": appears twice");
}

TEST_CASE("a header of 100,000 tensors is refused", "[io][safetensors]") {
  std::string header = "{";
  for (std::size_t i = 0; i < 100'000; ++i)
    header += detail::join({i == 0 ? "" : ",", entry(detail::join({"t", i}), "F32", "0", "0,0")});
  expect(refusal(file_of(header + "}")), "more than 65536 tensors, the next is \"t65536\"");
  header = "{\"__metadata__\":{";
  for (std::size_t i = 0; i < 100'000; ++i) header += detail::join({i == 0 ? "\"" : ",\"", i, "\":\"\""});
  expect(refusal(file_of(header + "}}")), "metadata: more than 65536 entries");
}

TEST_CASE("thousands of damaged files: refused, or in full order", "[io][safetensors]") {
  const std::string header =
      header_of({"\"__metadata__\":{\"format\":\"pt\"}", entry("a.weight", "F32", "2,3", "0,24"),
                 entry("b", "BF16", "4", "24,32"), entry("c", "I8", "0", "32,32"), entry("d", "F16", "", "32,34")});
  const std::string whole = file_of(header, 34);
  REQUIRE(open_bytes(whole).tensors().size() == 4);
  constexpr std::string_view tokens[] = {"0",       "1",  "9",    "-",           "4294967296", "18446744073709551615",
                                         "[",       "]",  "{",    "}",           ",",          ":",
                                         "\"",      "e9", ".",    "null",        "true",       "\"F64\"",
                                         "\\u0000", "\\", "\xFF", "__metadata__"};
  Random random(7, 1);
  std::size_t accepted = 0, refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = whole;
    for (std::uint32_t edits = 1 + random.below(3); edits != 0; --edits) {
      const std::size_t at = random.below(static_cast<std::uint32_t>(bytes.size()));
      switch (random.below(5)) {
        case 0:
          bytes[at] = static_cast<char>(random.next());
          break;
        case 1:
          bytes.erase(at, 1 + random.below(8));
          break;
        case 2:
          bytes.insert(at, tokens[random.below(std::size(tokens))]);
          break;
        case 3:
          bytes.replace(at, 1, tokens[random.below(std::size(tokens))]);
          break;
        default:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
      }
      if (bytes.size() < 9) bytes.resize(9);
    }
    if (random.below(4) != 0) {  // mostly keep the length true, so that the damage is seen by what comes after it
      const std::uint64_t n = bytes.size() > 42 ? bytes.size() - 42 : 0;
      std::memcpy(bytes.data(), &n, 8);
    }
    try {
      const std::vector<char> exact(bytes.begin(), bytes.end());  // on the heap without slack, for the sanitizers
      const SafetensorsFile file = open_bytes({exact.data(), exact.size()});
      ++accepted;
      std::size_t covered = 0;
      std::vector<float> out;
      for (const TensorView& t : file.tensors()) {
        REQUIRE(detail::byte_size(t.dtype, t.shape) == t.size);
        REQUIRE(t.begin + t.size <= exact.size());
        REQUIRE(file.find(t.name) == &t);
        covered += t.size;
        out.resize(t.count());
        if (is_float(t.dtype)) file.read_floats(t, out.data());
      }
      REQUIRE(covered <= exact.size() - 10);
    } catch (const Error& e) {
      ++refused;
      if (!contains(e.what(), "file \"some.safetensors\": ")) FAIL(e.what());
    }
  }
  CHECK(refused > 10'000);
  CHECK(accepted > 100);  // damage to data, names and metadata texts is not the format's business
}

TEST_CASE("what cannot be written well-formed is not written at all", "[io][safetensors]") {
  const TemporaryFolder folder;
  const auto path = folder / "w.safetensors";
  const std::vector<float> four(4);
  const auto refused = [&](std::vector<TensorToWrite> tensors, const Metadata& metadata = {}) {
    const std::string error = error_of([&] { write_safetensors(path, tensors, metadata); });
    expect(error, path.string());
    CHECK(folder.files() == 0);
    return error;
  };
  expect(refused({{.name = "t", .shape = {5}, .floats = four}}), "tensor \"t\": shape [5] does not hold the 4 floats");
  expect(refused({{.name = "t", .dtype = Dtype::i8, .shape = {4}, .floats = four}}), "tensor \"t\": floats become");
  expect(refused({{.name = "t", .shape = {4}, .floats = four}, {.name = "t", .shape = {4}, .floats = four}}),
         "two have this name");
  expect(refused({{.name = "__metadata__", .shape = {4}, .floats = four}}), "reserved");
  expect(refused({{.name = "t", .shape = {std::size_t{1} << 40, std::size_t{1} << 40}, .floats = four}}), "too large");
  expect(refused({{.name = "t", .shape = {1, 1, 1, 1, 1, 1, 1, 1, 4}, .floats = four}}), "dimensions");
  expect(refused({{.name = "\xFF", .shape = {4}, .floats = four}}), "not UTF-8");
  expect(refused({}, {{"model", "\xFF\xFE"}}), "base64_encode");
  CHECK_THROWS_AS(
      write_safetensors(path,
                        std::vector<TensorToWrite>{{.name = "t", .shape = {4}, .fill = [](std::span<std::byte>) { throw 1; }}}),
      int);
  CHECK(folder.files() == 0);
}

TEST_CASE("base64: the vectors of RFC 4648, any bytes, nothing else", "[io][base64]") {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, coded] : vectors) {
    CHECK(base64_encode(plain) == coded);
    CHECK(base64_decode(coded) == plain);
  }
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  for (std::size_t n = 250; n <= 256; ++n) CHECK(base64_decode(base64_encode(all.substr(0, n))) == all.substr(0, n));
  for (const char* bad : {"Z", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9v\n", "Zm-v", "Zm 9", "Zh==", "Zm9=", "=Zg="})
    expect(error_of([&] { base64_decode(bad); }), "base64: ");
}
