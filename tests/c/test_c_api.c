/* SPDX-License-Identifier: Apache-2.0 */
/* The C interface as a program in C99 meets it: every mistake is a status with a text, and nothing else happens.
 *
 *   test_c_api emoji_one_step.safetensors scratch-file
 */
#define _POSIX_C_SOURCE 200809L
#include <mobilediffusion/c_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { width = 128, height = 128, bytes = width * height * 3 };

static int failures = 0;
static const char* path;
static mobilediffusion_error error;

#define EXPECT(condition)                                                       \
  do {                                                                          \
    if (!(condition)) {                                                         \
      printf("line %d: wrong: %s (%s)\n", __LINE__, #condition, error.message); \
      ++failures;                                                               \
    }                                                                           \
  } while (0)
/* The call returns this status and says these words. */
#define EXPECT_ERROR(call, status, words)                           \
  do {                                                              \
    memset(&error, 1, sizeof error);                                \
    EXPECT((call) == (status));                                     \
    EXPECT(error.code == (status));                                 \
    EXPECT(memchr(error.message, 0, sizeof error.message) != NULL); \
    EXPECT(strstr(error.message, (words)) != NULL);                 \
  } while (0)

static mobilediffusion_request request_of(const char* prompt) {
  mobilediffusion_request r;
  mobilediffusion_request_init(&r);
  r.prompt = prompt;
  r.seed = 7;
  return r;
}
static uint8_t* draw(mobilediffusion_session* session, const char* prompt) {
  const mobilediffusion_request r = request_of(prompt);
  uint8_t* rgb = malloc(bytes);
  EXPECT(mobilediffusion_generate(session, &r, rgb, bytes, &error) == MOBILEDIFFUSION_OK);
  EXPECT(error.code == 0 && error.message[0] == '\0');
  return rgb;
}
static mobilediffusion_session* session_of(const mobilediffusion_model* model, int threads) {
  mobilediffusion_session_options o;
  mobilediffusion_session* session = NULL;
  mobilediffusion_session_options_init(&o);
  o.threads = threads;
  EXPECT(mobilediffusion_session_open(model, &o, &session, &error) == MOBILEDIFFUSION_OK);
  return session;
}

static void test_versions(void) {
  char text[32];
  snprintf(text, sizeof text, "%d.%d.%d", MOBILEDIFFUSION_VERSION_MAJOR, MOBILEDIFFUSION_VERSION_MINOR,
           MOBILEDIFFUSION_VERSION_PATCH);
  EXPECT(strcmp(text, mobilediffusion_version_text()) == 0);
  EXPECT(strcmp(text, TEST_PROJECT_VERSION) == 0); /* CMake's */
  EXPECT(mobilediffusion_version() >> 16 == MOBILEDIFFUSION_VERSION_MAJOR);
  EXPECT(strcmp(mobilediffusion_status_text(MOBILEDIFFUSION_BUSY), "busy") == 0);
  EXPECT(strcmp(mobilediffusion_status_text((mobilediffusion_status)99), "unknown") == 0);
  EXPECT(mobilediffusion_instruction_set()[0] != '\0');
}

static void test_presets(void) {
  mobilediffusion_info info;
  uint64_t fp32;
  mobilediffusion_info_init(&info);
  EXPECT(mobilediffusion_preset_count() >= 1);
  EXPECT(mobilediffusion_preset_info(0, MOBILEDIFFUSION_FP32, &info, &error) == MOBILEDIFFUSION_OK);
  EXPECT(strcmp(info.preset, "emoji") == 0 && info.width == width && info.height == height && info.parameters > 10000000);
  EXPECT(info.struct_size == sizeof info);
  fp32 = info.weight_bytes;
  EXPECT(mobilediffusion_preset_info(0, MOBILEDIFFUSION_INT8, &info, NULL) == MOBILEDIFFUSION_OK);
  EXPECT(info.weight_bytes < fp32);
  EXPECT_ERROR(mobilediffusion_preset_info(999, MOBILEDIFFUSION_FP32, &info, &error), MOBILEDIFFUSION_INVALID_ARGUMENT,
               "found 999");
  EXPECT_ERROR(mobilediffusion_preset_info(0, (mobilediffusion_format)7, &info, &error), MOBILEDIFFUSION_INVALID_ARGUMENT,
               "format: expected 0 (fp32), 1 (bf16) or 2 (int8), found 7");
  EXPECT_ERROR(mobilediffusion_preset_info(0, MOBILEDIFFUSION_FP32, NULL, &error), MOBILEDIFFUSION_INVALID_ARGUMENT,
               "info: expected a pointer, found NULL");
  info.struct_size = 0; /* what a caller forgot */
  EXPECT_ERROR(mobilediffusion_preset_info(0, MOBILEDIFFUSION_FP32, &info, &error), MOBILEDIFFUSION_INVALID_ARGUMENT,
               "info.struct_size: expected ");
  info.struct_size = sizeof info + 8;
  EXPECT_ERROR(mobilediffusion_preset_info(0, MOBILEDIFFUSION_FP32, &info, &error), MOBILEDIFFUSION_INVALID_ARGUMENT,
               "newer header");
  EXPECT(mobilediffusion_sampler_count() > 3 && strcmp(mobilediffusion_sampler_name(0), "ddim") == 0);
  EXPECT(mobilediffusion_sampler_name(mobilediffusion_sampler_count()) == NULL);
}

/* One in memory, the whole file and a part of a file are the same model. */
static void test_places(mobilediffusion_session* session, const char* scratch) {
  uint8_t *expected = draw(session, "a red apple"), *drawn;
  FILE* in = fopen(path, "rb");
  FILE* out = fopen(scratch, "wb");
  long size;
  char* file;
  mobilediffusion_model* model = NULL;
  mobilediffusion_session* other;
  fseek(in, 0, SEEK_END);
  size = ftell(in);
  rewind(in);
  file = malloc((size_t)size);
  EXPECT(fread(file, 1, (size_t)size, in) == (size_t)size);
  fputs("something else", out);
  EXPECT(fwrite(file, 1, (size_t)size, out) == (size_t)size);
  fputs("the end", out);
  fclose(in);
  fclose(out);

  EXPECT(mobilediffusion_model_open_bytes(file, (size_t)size, NULL, &model, &error) == MOBILEDIFFUSION_OK);
  memset(file, 0, (size_t)size);
  other = session_of(model, 1);
  mobilediffusion_model_close(model); /* the session keeps it */
  drawn = draw(other, "a red apple");
  EXPECT(memcmp(drawn, expected, bytes) == 0);
  free(drawn);
  mobilediffusion_session_close(other);
  EXPECT_ERROR(mobilediffusion_model_open_bytes(file, (size_t)size, NULL, &model, &error), MOBILEDIFFUSION_BAD_MODEL,
               "in memory");
  EXPECT_ERROR(mobilediffusion_model_open_bytes(NULL, 5, NULL, &model, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "bytes");

  EXPECT(mobilediffusion_model_open_part(scratch, 14, (uint64_t)size, NULL, &model, &error) == MOBILEDIFFUSION_OK);
  other = session_of(model, 0);
  drawn = draw(other, "a red apple");
  EXPECT(memcmp(drawn, expected, bytes) == 0);
  free(drawn);
  mobilediffusion_model_close(model);
  mobilediffusion_session_close(other);
  EXPECT_ERROR(mobilediffusion_model_open_part(scratch, 14, (uint64_t)size + 8, NULL, &model, &error), MOBILEDIFFUSION_BAD_MODEL,
               "in all");
  EXPECT_ERROR(mobilediffusion_model_open_part(scratch, 13, (uint64_t)size, NULL, &model, &error), MOBILEDIFFUSION_BAD_MODEL, "");
  EXPECT_ERROR(mobilediffusion_model_open(scratch, NULL, &model, &error), MOBILEDIFFUSION_BAD_MODEL, "header: ");
  remove(scratch);
  free(file);
  free(expected);
}

static void test_bad_models(void) {
  mobilediffusion_model* const mark = (mobilediffusion_model*)&failures;
  mobilediffusion_model* model = mark;
  mobilediffusion_model_options o;
  mobilediffusion_model_options_init(&o);
  EXPECT_ERROR(mobilediffusion_model_open("no such file", NULL, &model, &error), MOBILEDIFFUSION_BAD_MODEL,
               "file \"no such file\": cannot open: ");
  EXPECT_ERROR(mobilediffusion_model_open("/", NULL, &model, &error), MOBILEDIFFUSION_BAD_MODEL, "unet is missing");
  EXPECT_ERROR(mobilediffusion_model_open(NULL, NULL, &model, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "path");
  EXPECT_ERROR(mobilediffusion_model_open(path, NULL, NULL, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "model");
  o.preset = "sd99";
  EXPECT_ERROR(mobilediffusion_model_open(path, &o, &model, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "found \"sd99\"");
  o.preset = NULL;
  o.format = 3;
  EXPECT_ERROR(mobilediffusion_model_open(path, &o, &model, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "format");
  o.format = 0;
  o.vae = "no such file";
  EXPECT_ERROR(mobilediffusion_model_open(path, &o, &model, &error), MOBILEDIFFUSION_BAD_MODEL, "file ");
  o.struct_size = 4;
  EXPECT_ERROR(mobilediffusion_model_open(path, &o, &model, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "struct_size");
  EXPECT(model == mark); /* untouched */
  EXPECT(mobilediffusion_model_open("no such file", NULL, &model, NULL) == MOBILEDIFFUSION_BAD_MODEL);
  mobilediffusion_model_close(NULL);
  mobilediffusion_session_close(NULL);
}

static void test_words(const mobilediffusion_model* model) {
  char cut[64], strange[64];
  size_t i;
  int apple = 0;
  for (i = 0; i < mobilediffusion_model_word_count(model); ++i)
    apple += strcmp(mobilediffusion_model_word(model, i), "apple") == 0;
  EXPECT(apple == 1);
  EXPECT(mobilediffusion_model_thing_count(model) == 285 && strchr(mobilediffusion_model_thing(model, 0), '/') != NULL);
  EXPECT(mobilediffusion_model_word(model, i) == NULL && mobilediffusion_model_thing(model, 285) == NULL);
  EXPECT(mobilediffusion_model_word_count(NULL) == 0 && mobilediffusion_model_word(NULL, 0) == NULL);

  EXPECT(mobilediffusion_model_read_prompt(model, "a red apple", cut, sizeof cut, strange, sizeof strange, &error) == 0);
  EXPECT(cut[0] == '\0' && strange[0] == '\0');
  EXPECT(mobilediffusion_model_read_prompt(model, "a helicopter", NULL, 0, strange, sizeof strange, &error) == 0);
  EXPECT(strcmp(strange, "never seen in training: \"helicopter\"") == 0);
  EXPECT(mobilediffusion_model_read_prompt(model, "a helicopter", NULL, 0, strange, 6, &error) == 0);
  EXPECT(strcmp(strange, "never") == 0); /* cut to the buffer */
  EXPECT(mobilediffusion_model_read_prompt(
             model, "a fox a fox a fox a fox a fox a fox a fox a fox a fox a fox a fox a fox a fox a fox a red apple", cut,
             sizeof cut, NULL, 0, &error) == 0);
  EXPECT(strstr(cut, "apple") != NULL);
  EXPECT_ERROR(mobilediffusion_model_read_prompt(model, "\xff", cut, sizeof cut, NULL, 0, &error),
               MOBILEDIFFUSION_INVALID_ARGUMENT, "not UTF-8");
  EXPECT_ERROR(mobilediffusion_model_read_prompt(model, "x", NULL, 5, NULL, 0, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "cut");
}

static void test_wrong_requests(mobilediffusion_session* session) {
  static uint8_t rgb[bytes], untouched[bytes], picture[bytes], mask[width * height];
  static float noise[4];
  const mobilediffusion_request right = request_of("a red apple");
  mobilediffusion_request r = right;
#define EXPECT_REFUSED(words)                                                                                         \
  do {                                                                                                                \
    EXPECT_ERROR(mobilediffusion_generate(session, &r, rgb, bytes, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, words); \
    r = right;                                                                                                        \
  } while (0)
  memset(rgb, 5, bytes);
  memset(untouched, 5, bytes);
  EXPECT_ERROR(mobilediffusion_generate(NULL, &r, rgb, bytes, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "session");
  EXPECT_ERROR(mobilediffusion_generate(session, NULL, rgb, bytes, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "request");
  EXPECT_ERROR(mobilediffusion_generate(session, &r, NULL, bytes, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "rgb");
  EXPECT_ERROR(mobilediffusion_generate(session, &r, rgb, bytes - 1, &error), MOBILEDIFFUSION_INVALID_ARGUMENT,
               "rgb_bytes: expected 49152 (128 x 128 x 3), found 49151");
  r.struct_size = 0;
  EXPECT_REFUSED("request.struct_size");
  r.prompt = NULL;
  EXPECT_REFUSED("request.prompt: expected a pointer");
  r.prompt = "caf\xe9";
  EXPECT_REFUSED("not UTF-8");
  r.negative = "caf\xe9";
  EXPECT_REFUSED("negative prompt");
  r.flags = 64;
  EXPECT_REFUSED("request.flags");
  r.steps = 100000;
  EXPECT_REFUSED("steps");
  r.guidance = -1;
  EXPECT_REFUSED("guidance");
  r.guidance = (float)strtod("nan", NULL);
  EXPECT_REFUSED("guidance");
  r.sampler = "magic";
  EXPECT_REFUSED("request.sampler: expected one of ddim, ");
  r.picture = picture;
  EXPECT_REFUSED("request.picture_bytes: expected 49152, found 0");
  r.picture = picture;
  r.picture_bytes = bytes;
  r.strength = 2;
  EXPECT_REFUSED("strength");
  r.mask = mask;
  r.mask_bytes = sizeof mask;
  EXPECT_REFUSED("request.mask: expected a picture");
  r.picture = picture;
  r.picture_bytes = bytes;
  r.mask = mask;
  r.mask_bytes = bytes;
  EXPECT_REFUSED("request.mask_bytes: expected 16384, found 49152");
  r.picture = picture;
  r.picture_bytes = bytes;
  r.mask = mask; /* black alone */
  r.mask_bytes = sizeof mask;
  EXPECT_REFUSED("mask");
  r.noise = noise;
  r.noise_floats = 4;
  EXPECT_REFUSED("request.noise_floats");
  r.noise_floats = 4;
  EXPECT_REFUSED("request.noise_floats");
  EXPECT_ERROR(mobilediffusion_preview(session, rgb, bytes, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "inside the callback");
  EXPECT(memcmp(rgb, untouched, bytes) == 0);
}

struct Callback {
  mobilediffusion_session* session;
  int calls, cancels_at;
};
static int on_step(void* user, uint32_t step, uint32_t steps) {
  struct Callback* c = user;
  static uint8_t rgb[bytes];
  const mobilediffusion_request r = request_of("a fox");
  mobilediffusion_times times;
  ++c->calls;
  EXPECT((int)step == c->calls && steps == 4);
  EXPECT(mobilediffusion_preview(c->session, rgb, bytes, &error) == MOBILEDIFFUSION_OK);
  EXPECT_ERROR(mobilediffusion_generate(c->session, &r, rgb, bytes, &error), MOBILEDIFFUSION_BUSY, "one caller at a time");
  mobilediffusion_times_init(&times);
  EXPECT_ERROR(mobilediffusion_session_times(c->session, &times, &error), MOBILEDIFFUSION_BUSY, "session");
  EXPECT_ERROR(mobilediffusion_preview(c->session, rgb, 3, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "rgb_bytes");
  return c->calls == c->cancels_at;
}
static void test_parts(const mobilediffusion_model* model) {
  mobilediffusion_session_options o;
  mobilediffusion_session* session = NULL;
  mobilediffusion_part part;
  mobilediffusion_info info;
  mobilediffusion_times times;
  mobilediffusion_request r = request_of("a fox");
  static uint8_t rgb[bytes];
  uint64_t parameters = 0, macs = 0, before = 0;
  double unet = 0, all = 0;
  size_t i;
  mobilediffusion_session_options_init(&o);
  o.part_times = 1;
  EXPECT(mobilediffusion_session_open(model, &o, &session, &error) == MOBILEDIFFUSION_OK);
  EXPECT(mobilediffusion_session_part_count(session) > 10 && mobilediffusion_session_part_count(NULL) == 0);
  mobilediffusion_part_init(&part);
  EXPECT(mobilediffusion_session_part(session, 0, &part, &error) == MOBILEDIFFUSION_OK);
  EXPECT(strcmp(part.name, "text_encoder.text_model") == 0 && part.parameters > 0 && part.macs == 0 && part.milliseconds == 0);
  for (r.steps = 1; r.steps <= 2; ++r.steps) {
    EXPECT(mobilediffusion_generate(session, &r, rgb, bytes, &error) == MOBILEDIFFUSION_OK);
    parameters = macs = 0;
    unet = all = 0;
    for (i = 0; i < mobilediffusion_session_part_count(session); ++i) {
      EXPECT(mobilediffusion_session_part(session, i, &part, &error) == MOBILEDIFFUSION_OK);
      parameters += part.parameters;
      all += part.milliseconds;
      if (strncmp(part.name, "unet.", 5) == 0) {
        EXPECT(part.milliseconds > 0);
        unet += part.milliseconds;
        macs += part.macs;
      }
      if (strncmp(part.name, "vae.encoder", 11) == 0) EXPECT(part.milliseconds == 0 && part.macs == 0);
    }
    if (r.steps == 1) before = macs;
  }
  EXPECT(before > 0 && macs == 2 * before);
  mobilediffusion_info_init(&info);
  EXPECT(mobilediffusion_model_info(model, &info, &error) == MOBILEDIFFUSION_OK && info.parameters == parameters);
  mobilediffusion_times_init(&times);
  EXPECT(mobilediffusion_session_times(session, &times, &error) == MOBILEDIFFUSION_OK);
  EXPECT(unet <= times.unet && unet > 0.5 * times.unet && all <= times.text_encoder + times.unet + times.decoder);
  EXPECT_ERROR(mobilediffusion_session_part(session, i, &part, &error), MOBILEDIFFUSION_INVALID_ARGUMENT,
               "part: expected a number");
  EXPECT_ERROR(mobilediffusion_session_part(session, 0, NULL, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "part");
  EXPECT_ERROR(mobilediffusion_session_part(NULL, 0, &part, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "session");
  mobilediffusion_session_close(session);
}
static void test_callbacks(mobilediffusion_session* session) {
  static uint8_t rgb[bytes], untouched[bytes];
  struct Callback c = {NULL, 0, 0};
  mobilediffusion_request r = request_of("a red apple");
  mobilediffusion_times times;
  c.session = session;
  r.on_step = on_step;
  r.user = &c;
  r.steps = 4;
  EXPECT(mobilediffusion_generate(session, &r, rgb, bytes, &error) == MOBILEDIFFUSION_OK);
  EXPECT(c.calls == 4);
  mobilediffusion_times_init(&times);
  EXPECT(mobilediffusion_session_times(session, &times, &error) == MOBILEDIFFUSION_OK);
  EXPECT(times.text_encoder > 0 && times.unet > 0 && times.decoder > 0 && times.encoder == 0);
  memset(rgb, 5, bytes);
  memset(untouched, 5, bytes);
  c.calls = 0;
  c.cancels_at = 2;
  EXPECT_ERROR(mobilediffusion_generate(session, &r, rgb, bytes, &error), MOBILEDIFFUSION_CANCELLED, "");
  EXPECT(c.calls == 2 && error.message[0] == '\0');
  EXPECT(memcmp(rgb, untouched, bytes) == 0);
}

/* Two threads with one session: each picture is right, or refused. */
struct Drawing {
  mobilediffusion_session* session;
  const uint8_t* expected;
  int drawn, busy, wrong;
};
static void* draw_often(void* argument) {
  struct Drawing* d = argument;
  const mobilediffusion_request r = request_of("a red apple");
  uint8_t* rgb = malloc(bytes);
  int i;
  for (i = 0; i < 20; ++i) {
    const mobilediffusion_status status = mobilediffusion_generate(d->session, &r, rgb, bytes, NULL);
    if (status == MOBILEDIFFUSION_BUSY) ++d->busy;
    else if (status == MOBILEDIFFUSION_OK && memcmp(rgb, d->expected, bytes) == 0) ++d->drawn;
    else ++d->wrong;
  }
  free(rgb);
  return NULL;
}
static void test_threads(const mobilediffusion_model* model, mobilediffusion_session* session) {
  uint8_t* expected = draw(session, "a red apple");
  mobilediffusion_session* own = session_of(model, 1);
  struct Drawing drawings[3] = {{NULL, NULL, 0, 0, 0}, {NULL, NULL, 0, 0, 0}, {NULL, NULL, 0, 0, 0}};
  pthread_t threads[3];
  int i;
  for (i = 0; i < 3; ++i) {
    drawings[i].session = i < 2 ? session : own;
    drawings[i].expected = expected;
    EXPECT(pthread_create(&threads[i], NULL, draw_often, &drawings[i]) == 0);
  }
  for (i = 0; i < 3; ++i) pthread_join(threads[i], NULL);
  EXPECT(drawings[0].wrong + drawings[1].wrong + drawings[2].wrong == 0);
  EXPECT(drawings[0].drawn + drawings[1].drawn > 0);
  EXPECT(drawings[2].drawn == 20); /* a session of its own is never refused */
  mobilediffusion_session_close(own);
  free(expected);
}

static void test_fork(mobilediffusion_session* session) {
  uint8_t* expected = draw(session, "a red apple");
  int status = 1;
  pid_t child;
  fflush(stdout);
  child = fork();
  if (child == 0) {
    uint8_t* drawn;
    failures = 0;
    drawn = draw(session, "a red apple");
    mobilediffusion_session_close(session);
    _exit(failures != 0 || memcmp(drawn, expected, bytes) != 0);
  }
  EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  free(expected);
}

/* A user's memory. */
struct Arena {
  size_t held, limit, total;
  int misaligned;
};
static void* take(void* user, size_t size, size_t alignment) {
  struct Arena* a = user;
  void* memory = NULL;
  if (a->held + size > a->limit || posix_memalign(&memory, alignment, size + 64) != 0) return NULL;
  memset(memory, 9, size);
  a->held += size;
  a->total += size;
  return a->misaligned ? (char*)memory + 4 : memory;
}
static void give(void* user, void* memory, size_t size, size_t alignment) {
  struct Arena* a = user;
  (void)alignment;
  a->held -= size;
  free(a->misaligned ? (char*)memory - 4 : (char*)memory);
}
static void test_memory(mobilediffusion_session* session) {
  uint8_t *expected = draw(session, "a red apple"), *drawn;
  struct Arena weights = {0, (size_t)1 << 30, 0, 0}, activations = {0, (size_t)1 << 30, 0, 0};
  mobilediffusion_model_options m;
  mobilediffusion_session_options s;
  mobilediffusion_info info;
  mobilediffusion_model* model = NULL;
  mobilediffusion_session* own = NULL;
  mobilediffusion_model_options_init(&m);
  mobilediffusion_session_options_init(&s);
  mobilediffusion_info_init(&info);
  m.memory.user = &weights;
  m.memory.allocate = take;
  m.memory.release = give;
  s.threads = 1;
  s.memory = m.memory;
  s.memory.user = &activations;
  EXPECT(mobilediffusion_model_open(path, &m, &model, &error) == MOBILEDIFFUSION_OK);
  EXPECT(mobilediffusion_model_info(model, &info, &error) == MOBILEDIFFUSION_OK);
  EXPECT(weights.held >= info.weight_bytes && weights.held < info.weight_bytes + 1024);
  EXPECT(mobilediffusion_session_open(model, &s, &own, &error) == MOBILEDIFFUSION_OK);
  EXPECT(activations.held >= info.activation_bytes + info.scratch_bytes &&
         activations.held < info.activation_bytes + info.scratch_bytes + 1024);
  drawn = draw(own, "a red apple");
  EXPECT(memcmp(drawn, expected, bytes) == 0);
  EXPECT(activations.held == activations.total && weights.held == weights.total); /* opening took it all */
  mobilediffusion_model_close(model);
  EXPECT(weights.held > 0);
  mobilediffusion_session_close(own);
  EXPECT(weights.held == 0 && activations.held == 0);

  weights.limit = 1000;
  EXPECT_ERROR(mobilediffusion_model_open(path, &m, &model, &error), MOBILEDIFFUSION_OUT_OF_MEMORY, "memory");
  weights.limit = (size_t)1 << 30;
  weights.misaligned = 1;
  EXPECT_ERROR(mobilediffusion_model_open(path, &m, &model, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "multiple of 64");
  EXPECT(weights.held == 0);
  m.memory.release = NULL;
  EXPECT_ERROR(mobilediffusion_model_open(path, &m, &model, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "both");
  s.threads = -1;
  EXPECT_ERROR(mobilediffusion_session_open(model, &s, &own, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "threads");
  EXPECT_ERROR(mobilediffusion_session_open(NULL, NULL, &own, &error), MOBILEDIFFUSION_INVALID_ARGUMENT, "model");
  free(drawn);
  free(expected);
}

/* Several models at once, in other formats. */
static void test_formats(mobilediffusion_session* fp32) {
  uint8_t *expected = draw(fp32, "a red apple"), *drawn;
  mobilediffusion_model_options o;
  uint32_t format;
  mobilediffusion_model_options_init(&o);
  for (format = MOBILEDIFFUSION_BF16; format <= MOBILEDIFFUSION_INT8; ++format) {
    mobilediffusion_model* model = NULL;
    mobilediffusion_session* session;
    double sum = 0;
    int i;
    o.format = format;
    EXPECT(mobilediffusion_model_open(path, &o, &model, &error) == MOBILEDIFFUSION_OK);
    session = session_of(model, 0);
    drawn = draw(session, "a red apple");
    for (i = 0; i < bytes; ++i) sum += (drawn[i] - expected[i]) * (drawn[i] - expected[i]);
    EXPECT(sum > 0 && sum / bytes < 20); /* at least 35 dB, but not the same */
    mobilediffusion_session_close(session);
    mobilediffusion_model_close(model);
    free(drawn);
  }
  free(expected);
}

int main(int argc, char** argv) {
  mobilediffusion_model* model = NULL;
  mobilediffusion_session* session = NULL;
  if (argc != 3) return 2;
  path = argv[1];
  test_versions();
  test_presets();
  test_bad_models();
  EXPECT(mobilediffusion_model_open(path, NULL, &model, &error) == MOBILEDIFFUSION_OK);
  EXPECT(mobilediffusion_session_open(model, NULL, &session, &error) == MOBILEDIFFUSION_OK);
  if (session == NULL) return 1;
  EXPECT(mobilediffusion_session_threads(session) >= 1 && mobilediffusion_session_threads(NULL) == 0);
  test_words(model);
  test_wrong_requests(session);
  test_callbacks(session);
  test_parts(model);
  test_places(session, argv[2]);
  test_threads(model, session);
  test_fork(session);
  test_memory(session);
  test_formats(session);
  mobilediffusion_model_close(model);
  free(draw(session, "a fox"));
  mobilediffusion_session_close(session);
  printf("%d failures\n", failures);
  return failures != 0;
}
