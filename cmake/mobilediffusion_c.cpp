// SPDX-License-Identifier: Apache-2.0
// The C interface, include/mobilediffusion/c_api.h, over the presets that a build selects: MOBILEDIFFUSION_C_PRESETS is a list of
// MOBILEDIFFUSION_C_PRESET(name), by MobileDiffusionC.cmake. One unit is the whole library; it needs no other.
#define MOBILEDIFFUSION_C_BUILD
#define MOBILEDIFFUSION_BODIES  // also where kernels are in a library of their own
#include <mobilediffusion/c_api.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/io/known_words.hpp>
#include <mobilediffusion/part_times.hpp>
#include <mobilediffusion/session.hpp>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#ifndef MOBILEDIFFUSION_C_PRESETS
#define MOBILEDIFFUSION_C_PRESETS MOBILEDIFFUSION_C_PRESET(emoji)
#endif

namespace {

namespace md = mobilediffusion;
using md::detail::join;
using md::detail::printable;

// What becomes a status and a text.
struct Failure {
  mobilediffusion_status status;
  std::string text;
};
[[noreturn]] void refuse(std::initializer_list<md::detail::Piece> what) {
  throw Failure{MOBILEDIFFUSION_INVALID_ARGUMENT, join(what)};
}
void expect_pointer(const void* pointer, const char* name) {
  if (pointer == nullptr) refuse({name, ": expected a pointer, found NULL"});
}

// As much of a text as there is room for, without half a character at its end; then a zero byte. room: at least 1.
void copy_text(std::string_view text, char* to, std::size_t room) noexcept {
  std::size_t n = std::min(text.size(), room - 1);
  while (n < text.size() && n > 0 && (static_cast<unsigned char>(text[n]) & 0xC0u) == 0x80u) --n;
  std::memcpy(to, text.data(), n);
  to[n] = '\0';
}
mobilediffusion_status report(mobilediffusion_error* error, mobilediffusion_status status, std::string_view text) noexcept {
  if (error != nullptr) {
    error->code = status;
    copy_text(text, error->message, sizeof error->message);
  }
  return status;
}

// f() returns a status. otherwise: what an Error means here.
template <class F>
mobilediffusion_status guarded(mobilediffusion_error* error, const mobilediffusion_status& otherwise, F&& f) noexcept {
  try {
    return report(error, f(), "");
  } catch (const Failure& e) {
    return report(error, e.status, e.text);
  } catch (const std::bad_alloc&) {
    return report(error, MOBILEDIFFUSION_OUT_OF_MEMORY, "expected enough memory, found too little");
  } catch (const md::Error& e) {
    return report(error, otherwise, e.what());
  } catch (const std::exception& e) {
    return report(error, MOBILEDIFFUSION_FAILED, e.what());
  } catch (...) {
    return report(error, MOBILEDIFFUSION_FAILED, "an exception that is none of this library's");
  }
}

// A caller's struct as this version knows it. What it may hold grows at the end: who knows less leaves the rest at zero.
template <class T>
T read_struct(const T* from, const char* name) {
  T out{};
  if (from == nullptr) return out;
  constexpr std::size_t least = sizeof(T);  // all of version 0.1: with the first field that is added, the offset of that
  const std::size_t size = from->struct_size;
  if (size < least || size > sizeof(T))
    refuse({name, ".struct_size: expected ", least, size > sizeof(T) ? " at most (a newer header than the library?)" : "",
            ", found ", size});
  std::memcpy(&out, from, size);
  return out;
}
template <class T>
void write_struct(T* to, T from, const char* name) {
  expect_pointer(to, name);
  from.struct_size = static_cast<std::uint32_t>(read_struct(to, name).struct_size);
  std::memcpy(to, &from, from.struct_size);
}

std::filesystem::path path_of(const char* utf8) {
  return utf8 == nullptr ? std::filesystem::path() : std::filesystem::path(std::u8string(utf8, utf8 + std::strlen(utf8)));
}

// A caller's functions as the library's memory.
class CallersMemory final : public md::MemoryResource {
 public:
  explicit CallersMemory(const mobilediffusion_memory& functions) : functions_(functions) {}
  static std::unique_ptr<CallersMemory> of(const mobilediffusion_memory& functions) {
    if ((functions.allocate == nullptr) != (functions.release == nullptr))
      refuse({"memory: expected both allocate and release, or neither, found one"});
    return functions.allocate == nullptr ? nullptr : std::make_unique<CallersMemory>(functions);
  }
  void* allocate(std::size_t bytes, std::size_t alignment) override {
    void* const memory = functions_.allocate(functions_.user, bytes, alignment);
    if (reinterpret_cast<std::uintptr_t>(memory) % alignment == 0) return memory;
    release(memory, bytes, alignment);
    refuse({"memory.allocate: expected an address that is a multiple of ", alignment, ", found another"});
  }
  void release(void* memory, std::size_t bytes, std::size_t alignment) noexcept override {
    functions_.release(functions_.user, memory, bytes, alignment);
  }

 private:
  mobilediffusion_memory functions_;
};

// A request whose pictures have their sizes.
struct Drawing {
  md::Request request;
  md::Image picture, mask;  // width 0: none
  float strength = 0;
  mobilediffusion_on_step on_step = nullptr;
  void* user = nullptr;
  bool began = false;                      // a step is done
  const md::Progress* progress = nullptr;  // while the callback runs

  bool report(const md::Progress& p) {
    began = true;
    if (on_step == nullptr) return true;
    struct Reset {
      const md::Progress*& progress;
      ~Reset() { progress = nullptr; }
    } const reset{progress = &p};
    return on_step(user, static_cast<std::uint32_t>(p.step), static_cast<std::uint32_t>(p.steps)) == 0;
  }
};

// Of any preset and format.
struct AnySession {
  virtual ~AnySession() = default;
  virtual md::Image draw(Drawing&) = 0;
  virtual md::Image preview(const md::Progress&) = 0;
  virtual const md::StageTimes& times() const = 0;
  virtual int threads() const = 0;
};
struct AnyModel {
  virtual ~AnyModel() = default;
  virtual std::unique_ptr<AnySession> session(const md::SessionOptions&) const = 0;
  virtual std::unique_ptr<md::PartTimes> part_times() const = 0;
  virtual md::EncodedPrompt read(const std::string& prompt) const = 0;

  mobilediffusion_info info{};
  md::KnownWords known;
  std::vector<std::string> words;
};

template <md::ModelConfig M>
mobilediffusion_info info_of(const char* preset, md::Format format, const md::SamplingOptions& sampling) {
  using Session = md::Session<M>;
  using Weights = md::ModelWeights<M>;
  mobilediffusion_info i{};
  i.format = static_cast<std::uint32_t>(format);
  i.preset = preset;
  i.sampler = md::name_of(sampling.sampler).data();  // a literal: it ends in a zero byte
  i.width = static_cast<std::uint32_t>(Session::width);
  i.height = static_cast<std::uint32_t>(Session::height);
  i.steps = static_cast<std::uint32_t>(sampling.steps);
  i.guidance = sampling.guidance;
  i.context_length = static_cast<std::uint32_t>(Session::context_length * Session::most_chunks);
  i.latent_floats = static_cast<std::uint32_t>(Session::latent_floats);
  i.parameters = md::reflect::parameters<Weights>();
  i.weight_bytes = md::PackedWeights<Weights>::bytes(format);
  i.activation_bytes = Session::activation_bytes;
  i.scratch_bytes = md::Executor::scratch_floats * sizeof(float);
  return i;
}

template <md::ModelConfig M, md::Format F>
class SessionOf final : public AnySession {
 public:
  SessionOf(const md::Model<M, F>& model, const md::SessionOptions& options) : session_(model, options) {}
  md::Image draw(Drawing& d) override {
    const auto on_step = [&](const md::Progress& p) { return d.report(p); };
    if (d.picture.width == 0) return session_.generate(d.request, on_step);
    if (d.mask.width == 0) return session_.image_to_image(d.picture, d.request, d.strength, on_step);
    return session_.inpaint(d.picture, d.mask, d.request, d.strength, on_step);
  }
  md::Image preview(const md::Progress& progress) override { return session_.preview(progress); }
  const md::StageTimes& times() const override { return session_.times(); }
  int threads() const override { return session_.threads(); }

 private:
  md::Session<M, F> session_;
};

template <md::ModelConfig M, md::Format F>
class ModelOf final : public AnyModel {
 public:
  ModelOf(const char* preset, const md::ModelSource<M>& source, std::unique_ptr<CallersMemory> memory)
      : memory_(std::move(memory)), model_(source, {}, {}, memory_.get()) {
    info = info_of<M>(preset, F, model_.sampling());
    known = md::KnownWords(model_.metadata());
    words.assign(known.words().begin(), known.words().end());
  }
  std::unique_ptr<AnySession> session(const md::SessionOptions& options) const override {
    return std::make_unique<SessionOf<M, F>>(model_, options);
  }
  std::unique_ptr<md::PartTimes> part_times() const override { return std::make_unique<md::PartTimes>(model_.weights()); }
  md::EncodedPrompt read(const std::string& prompt) const override {
    return model_.tokenizer().encode_prompt(prompt, M.text.length, {.most_chunks = md::Session<M, F>::most_chunks});
  }

 private:
  std::unique_ptr<CallersMemory> memory_;  // outlives the model
  md::Model<M, F> model_;
};

// Where a model comes from: a path, a part of that file, or bytes.
struct Where {
  md::ModelPaths paths{};
  std::optional<md::FilePart> part{};
  std::optional<std::span<const std::byte>> bytes{};

  template <md::ModelConfig M>
  md::ModelSource<M> source() const {
    if (bytes) return md::ModelSource<M>(md::SafetensorsFile(*bytes, "in memory"), paths);
    if (part) return md::ModelSource<M>(md::SafetensorsFile(paths.model, *part), paths);
    return md::ModelSource<M>(paths);
  }
};

// Not this preset's.
struct Refusal {
  std::string text;
};

struct Preset {
  const char* name;
  mobilediffusion_info (*info)(md::Format);
  std::unique_ptr<const AnyModel> (*open)(const Where&, md::Format, const mobilediffusion_memory&);
};

template <md::ModelConfig M>
std::unique_ptr<const AnyModel> open_as(const char* preset, const Where& where, md::Format format,
                                        const mobilediffusion_memory& memory) {
  std::optional<md::ModelSource<M>> source;
  try {
    source.emplace(where.source<M>());
  } catch (const md::Error& e) {
    throw Refusal{e.what()};
  }
  switch (format) {
    case md::Format::bf16:
      return std::make_unique<ModelOf<M, md::Format::bf16>>(preset, *source, CallersMemory::of(memory));
    case md::Format::int8:
      return std::make_unique<ModelOf<M, md::Format::int8>>(preset, *source, CallersMemory::of(memory));
    case md::Format::fp32:
      break;
  }
  return std::make_unique<ModelOf<M, md::Format::fp32>>(preset, *source, CallersMemory::of(memory));
}

#define MOBILEDIFFUSION_C_PRESET(name)                                                                                        \
  Preset{#name, [](md::Format f) { return info_of<md::presets::name>(#name, f, md::Sampling<md::presets::name>::defaults); }, \
         [](const Where& where, md::Format f, const mobilediffusion_memory& memory) {                                         \
           return open_as<md::presets::name>(#name, where, f, memory);                                                        \
         }},
const Preset presets[] = {MOBILEDIFFUSION_C_PRESETS};
#undef MOBILEDIFFUSION_C_PRESET

md::Format format_of(std::uint32_t format) {
  if (format > MOBILEDIFFUSION_INT8) refuse({"format: expected 0 (fp32), 1 (bf16) or 2 (int8), found ", format});
  return static_cast<md::Format>(format);
}

// By the first preset that the file fits. Where none does, by the only one's reason, or all of them.
std::unique_ptr<const AnyModel> open(const Where& where, const mobilediffusion_model_options& o) {
  const md::Format format = format_of(o.format);
  std::string names, reasons, first;
  bool found = false, differ = false;
  for (const Preset& preset : presets) {
    names += join({names.empty() ? "" : ", ", preset.name});
    if (o.preset != nullptr && std::string_view(o.preset) != preset.name) continue;
    try {
      return preset.open(where, format, o.memory);
    } catch (const Refusal& refusal) {
      differ = differ || (found && refusal.text != first);
      if (!found) first = refusal.text;
      found = true;
      reasons += join({"; ", preset.name, ": ", refusal.text});
    }
  }
  if (!found) refuse({"preset: expected one of those compiled (", names, "), found ", printable(o.preset)});
  throw Failure{MOBILEDIFFUSION_BAD_MODEL, differ ? join({"expected a model of one of the presets ", names, reasons}) : first};
}

Drawing read_request(const mobilediffusion_request* from, const mobilediffusion_info& info) {
  expect_pointer(from, "request");
  const mobilediffusion_request r = read_struct(from, "request");
  expect_pointer(r.prompt, "request.prompt");
  if (constexpr std::uint32_t all = MOBILEDIFFUSION_PROMPT_WEIGHTS | MOBILEDIFFUSION_TORCH_NOISE; (r.flags & ~all) != 0)
    refuse({"request.flags: expected a sum of 1 and 2, found ", r.flags});
  Drawing d;
  d.request.prompt = r.prompt;
  if (r.negative != nullptr) d.request.negative = r.negative;
  d.request.seed = r.seed;
  if (r.steps != 0) d.request.steps = r.steps;
  if (r.guidance != 0) d.request.guidance = r.guidance;
  d.request.words.weights = (r.flags & MOBILEDIFFUSION_PROMPT_WEIGHTS) != 0;
  if ((r.flags & MOBILEDIFFUSION_TORCH_NOISE) != 0) d.request.noise = md::NoiseKind::torch;
  if (r.sampler != nullptr) {
    d.request.sampler = md::sampler_named(r.sampler);
    if (!d.request.sampler) refuse({"request.sampler: expected one of ", md::sampler_names(), ", found ", printable(r.sampler)});
  }
  // What a pointer of the request points to, of a size that the caller must know.
  const auto elements = [](const char* name, auto* pointer, std::size_t size, std::size_t expected) {
    if (pointer == nullptr ? size != 0 : size != expected)
      refuse({"request.", name, ": expected ", pointer == nullptr ? 0 : expected, ", found ", size});
    return std::span(pointer, size);
  };
  const std::size_t pixels = std::size_t{info.width} * info.height;
  const auto noise = elements("noise_floats", r.noise, r.noise_floats, info.latent_floats);
  d.request.latents.assign(noise.begin(), noise.end());
  const auto picture = elements("picture_bytes", r.picture, r.picture_bytes, 3 * pixels);
  const auto mask = elements("mask_bytes", r.mask, r.mask_bytes, pixels);
  if (picture.empty() && !mask.empty()) refuse({"request.mask: expected a picture with it, found none"});
  if (!picture.empty()) {
    d.picture = md::Image(info.width, info.height);
    std::copy(picture.begin(), picture.end(), d.picture.rgb.begin());
    d.strength = r.strength != 0 ? r.strength : mask.empty() ? 0.6f : 1.0f;
  }
  if (!mask.empty()) {
    d.mask = md::Image(info.width, info.height);
    for (std::size_t i = 0; i < d.mask.rgb.size(); ++i) d.mask.rgb[i] = mask[i / 3];
  }
  d.on_step = r.on_step;
  d.user = r.user;
  return d;
}

void check_room(const std::uint8_t* rgb, std::size_t bytes, const mobilediffusion_info& info) {
  expect_pointer(rgb, "rgb");
  if (const std::size_t expected = std::size_t{3} * info.width * info.height; bytes != expected)
    refuse({"rgb_bytes: expected ", expected, " (", info.width, " x ", info.height, " x 3), found ", bytes});
}

}  // namespace

struct mobilediffusion_model {
  std::shared_ptr<const AnyModel> model;
};

struct mobilediffusion_session {
  std::shared_ptr<const AnyModel> model;
  std::unique_ptr<CallersMemory> memory;  // outlives the session
  std::unique_ptr<md::PartTimes> parts;   // likewise; or null
  std::unique_ptr<AnySession> session;
  std::atomic<bool> in_use{false};
  Drawing* drawing = nullptr;  // while it draws

  class Use {
   public:
    explicit Use(mobilediffusion_session& s) : session_(s) {
      if (s.in_use.exchange(true, std::memory_order_acquire))
        throw Failure{
            MOBILEDIFFUSION_BUSY,
            "session: expected one caller at a time, found two, or a call from inside its own callback; open one for each"};
    }
    ~Use() {
      session_.drawing = nullptr;
      session_.in_use.store(false, std::memory_order_release);
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    mobilediffusion_session& session_;
  };
};

namespace {

mobilediffusion_status open_model(const char* path_or_null, Where where, const mobilediffusion_model_options* options,
                                  mobilediffusion_model** model, mobilediffusion_error* error) noexcept {
  return guarded(error, MOBILEDIFFUSION_BAD_MODEL, [&] {
    if (!where.bytes) expect_pointer(path_or_null, "path");
    expect_pointer(model, "model");
    const mobilediffusion_model_options o = read_struct(options, "model_options");
    where.paths = {path_of(path_or_null), path_of(o.vae), path_of(o.vocabulary)};
    *model = new mobilediffusion_model{open(where, o)};
    return MOBILEDIFFUSION_OK;
  });
}

}  // namespace

extern "C" {

#define MOBILEDIFFUSION_C_TEXT(x) MOBILEDIFFUSION_C_QUOTED(x)
#define MOBILEDIFFUSION_C_QUOTED(x) #x
const char* mobilediffusion_version_text(void) {
  return MOBILEDIFFUSION_C_TEXT(MOBILEDIFFUSION_VERSION_MAJOR) "." MOBILEDIFFUSION_C_TEXT(
      MOBILEDIFFUSION_VERSION_MINOR) "." MOBILEDIFFUSION_C_TEXT(MOBILEDIFFUSION_VERSION_PATCH);
}
uint32_t mobilediffusion_version(void) {
  return MOBILEDIFFUSION_VERSION_MAJOR * 65536u + MOBILEDIFFUSION_VERSION_MINOR * 256u + MOBILEDIFFUSION_VERSION_PATCH;
}

const char* mobilediffusion_status_text(mobilediffusion_status status) {
  switch (status) {
    case MOBILEDIFFUSION_OK:
      return "ok";
    case MOBILEDIFFUSION_CANCELLED:
      return "cancelled";
    case MOBILEDIFFUSION_INVALID_ARGUMENT:
      return "invalid argument";
    case MOBILEDIFFUSION_BAD_MODEL:
      return "bad model";
    case MOBILEDIFFUSION_BUSY:
      return "busy";
    case MOBILEDIFFUSION_OUT_OF_MEMORY:
      return "out of memory";
    case MOBILEDIFFUSION_FAILED:
      return "failed";
  }
  return "unknown";
}

const char* mobilediffusion_instruction_set(void) {
  try {
    return md::kernels::instruction_set();
  } catch (...) {  // the environment forces one that cannot run; who opens a model is told
    return "";
  }
}

size_t mobilediffusion_preset_count(void) { return std::size(presets); }
mobilediffusion_status mobilediffusion_preset_info(size_t preset, mobilediffusion_format format, mobilediffusion_info* info,
                                                   mobilediffusion_error* error) {
  return guarded(error, MOBILEDIFFUSION_INVALID_ARGUMENT, [&] {
    if (preset >= std::size(presets)) refuse({"preset: expected one below ", std::size(presets), ", found ", preset});
    write_struct(info, presets[preset].info(format_of(static_cast<std::uint32_t>(format))), "info");
    return MOBILEDIFFUSION_OK;
  });
}

size_t mobilediffusion_sampler_count(void) { return std::variant_size_v<md::Sampler>; }
const char* mobilediffusion_sampler_name(size_t sampler) {
  const char* name = nullptr;
  std::size_t i = 0;
  md::for_each_sampler([&]<class S>() {
    if (i++ == sampler) name = S::name.data();
  });
  return name;
}

mobilediffusion_status mobilediffusion_model_open(const char* path, const mobilediffusion_model_options* options,
                                                  mobilediffusion_model** model, mobilediffusion_error* error) {
  return open_model(path, {}, options, model, error);
}
mobilediffusion_status mobilediffusion_model_open_part(const char* path, uint64_t offset, uint64_t length,
                                                       const mobilediffusion_model_options* options,
                                                       mobilediffusion_model** model, mobilediffusion_error* error) {
  return open_model(path, {.part = md::FilePart{offset, length}}, options, model, error);
}
mobilediffusion_status mobilediffusion_model_open_bytes(const void* bytes, size_t size,
                                                        const mobilediffusion_model_options* options,
                                                        mobilediffusion_model** model, mobilediffusion_error* error) {
  if (bytes == nullptr) return report(error, MOBILEDIFFUSION_INVALID_ARGUMENT, "bytes: expected a pointer, found NULL");
  return open_model(nullptr, {.bytes = std::span(static_cast<const std::byte*>(bytes), size)}, options, model, error);
}
void mobilediffusion_model_close(mobilediffusion_model* model) { delete model; }

mobilediffusion_status mobilediffusion_model_info(const mobilediffusion_model* model, mobilediffusion_info* info,
                                                  mobilediffusion_error* error) {
  return guarded(error, MOBILEDIFFUSION_INVALID_ARGUMENT, [&] {
    expect_pointer(model, "model");
    write_struct(info, model->model->info, "info");
    return MOBILEDIFFUSION_OK;
  });
}

size_t mobilediffusion_model_word_count(const mobilediffusion_model* model) {
  return model == nullptr ? 0 : model->model->words.size();
}
const char* mobilediffusion_model_word(const mobilediffusion_model* model, size_t word) {
  return word < mobilediffusion_model_word_count(model) ? model->model->words[word].c_str() : nullptr;
}
size_t mobilediffusion_model_thing_count(const mobilediffusion_model* model) {
  return model == nullptr ? 0 : model->model->known.things().size();
}
const char* mobilediffusion_model_thing(const mobilediffusion_model* model, size_t thing) {
  return thing < mobilediffusion_model_thing_count(model) ? model->model->known.things()[thing].c_str() : nullptr;
}

mobilediffusion_status mobilediffusion_model_read_prompt(const mobilediffusion_model* model, const char* prompt, char* cut,
                                                         size_t cut_size, char* strange, size_t strange_size,
                                                         mobilediffusion_error* error) {
  return guarded(error, MOBILEDIFFUSION_INVALID_ARGUMENT, [&] {
    expect_pointer(model, "model");
    expect_pointer(prompt, "prompt");
    if (cut_size != 0) expect_pointer(cut, "cut");
    if (strange_size != 0) expect_pointer(strange, "strange");
    const md::EncodedPrompt read = model->model->read(prompt);
    std::string text = model->model->known.strange_in(prompt);
    if (text.empty())
      for (const std::string& unknown : read.unknown) text += (text.empty() ? "unknown: " : ", ") + printable(unknown);
    if (cut_size != 0) copy_text(read.cut, cut, cut_size);
    if (strange_size != 0) copy_text(text, strange, strange_size);
    return MOBILEDIFFUSION_OK;
  });
}

mobilediffusion_status mobilediffusion_session_open(const mobilediffusion_model* model,
                                                    const mobilediffusion_session_options* options,
                                                    mobilediffusion_session** session, mobilediffusion_error* error) {
  return guarded(error, MOBILEDIFFUSION_FAILED, [&] {
    expect_pointer(model, "model");
    expect_pointer(session, "session");
    const mobilediffusion_session_options o = read_struct(options, "session_options");
    if (o.threads < 0) refuse({"threads: expected 0 or more, found ", o.threads});
    auto made = std::make_unique<mobilediffusion_session>();
    made->model = model->model;
    made->memory = CallersMemory::of(o.memory);
    if (o.part_times != 0) made->parts = model->model->part_times();
    made->session = model->model->session({.threads = o.threads, .observer = made->parts.get(), .memory = made->memory.get()});
    *session = made.release();
    return MOBILEDIFFUSION_OK;
  });
}
void mobilediffusion_session_close(mobilediffusion_session* session) { delete session; }
int32_t mobilediffusion_session_threads(const mobilediffusion_session* session) {
  return session == nullptr ? 0 : session->session->threads();
}

mobilediffusion_status mobilediffusion_generate(mobilediffusion_session* session, const mobilediffusion_request* request,
                                                uint8_t* rgb, size_t rgb_bytes, mobilediffusion_error* error) {
  mobilediffusion_status otherwise = MOBILEDIFFUSION_INVALID_ARGUMENT;  // what it refuses before it begins
  return guarded(error, otherwise, [&] {
    expect_pointer(session, "session");
    const mobilediffusion_info& info = session->model->info;
    check_room(rgb, rgb_bytes, info);
    Drawing drawing = read_request(request, info);
    const mobilediffusion_session::Use use(*session);
    session->drawing = &drawing;
    if (session->parts) session->parts->clear();
    md::Image image;
    try {
      image = session->session->draw(drawing);
    } catch (...) {
      if (drawing.began) otherwise = MOBILEDIFFUSION_FAILED;
      throw;
    }
    if (image.width == 0) return MOBILEDIFFUSION_CANCELLED;
    std::copy(image.rgb.begin(), image.rgb.end(), rgb);
    return MOBILEDIFFUSION_OK;
  });
}

mobilediffusion_status mobilediffusion_preview(mobilediffusion_session* session, uint8_t* rgb, size_t rgb_bytes,
                                               mobilediffusion_error* error) {
  return guarded(error, MOBILEDIFFUSION_FAILED, [&] {
    expect_pointer(session, "session");
    check_room(rgb, rgb_bytes, session->model->info);
    if (session->drawing == nullptr || session->drawing->progress == nullptr)
      refuse({"preview: expected a call inside the callback of this session, found one outside"});
    const md::Image image = session->session->preview(*session->drawing->progress);
    std::copy(image.rgb.begin(), image.rgb.end(), rgb);
    return MOBILEDIFFUSION_OK;
  });
}

mobilediffusion_status mobilediffusion_session_times(mobilediffusion_session* session, mobilediffusion_times* times,
                                                     mobilediffusion_error* error) {
  return guarded(error, MOBILEDIFFUSION_INVALID_ARGUMENT, [&] {
    expect_pointer(session, "session");
    const mobilediffusion_session::Use use(*session);
    const md::StageTimes& t = session->session->times();
    write_struct(times, {0, 1e3 * t.text_encoder, 1e3 * t.unet, 1e3 * t.decoder, 1e3 * t.encoder}, "times");
    return MOBILEDIFFUSION_OK;
  });
}

size_t mobilediffusion_session_part_count(const mobilediffusion_session* session) {
  return session == nullptr || !session->parts ? 0 : session->parts->parts().size();
}
mobilediffusion_status mobilediffusion_session_part(mobilediffusion_session* session, size_t number, mobilediffusion_part* part,
                                                    mobilediffusion_error* error) {
  return guarded(error, MOBILEDIFFUSION_INVALID_ARGUMENT, [&] {
    expect_pointer(session, "session");
    const mobilediffusion_session::Use use(*session);
    const size_t count = mobilediffusion_session_part_count(session);
    if (number >= count) refuse({"part: expected a number below ", count, ", found ", number});
    const md::PartTime& p = session->parts->parts()[number];
    write_struct(part, {0, p.name.c_str(), p.parameters, p.macs, 1e3 * p.seconds}, "part");
    return MOBILEDIFFUSION_OK;
  });
}

}  // extern "C"
