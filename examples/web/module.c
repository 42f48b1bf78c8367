/* SPDX-License-Identifier: Apache-2.0 */
/* What the page's worker calls: the C interface, with structs filled from numbers, since JavaScript knows no structs of C. One
   model and one session. Functions return a mobilediffusion_status; web_error() then tells what was wrong. */
#include <emscripten.h>
#include <mobilediffusion/c_api.h>

static mobilediffusion_model* model;
static mobilediffusion_session* session;
static mobilediffusion_info info;
static mobilediffusion_error error;

/* Module.onStep(step, steps), if the worker has set one; another value than 0 cancels. */
EM_JS(int, web_step, (uint32_t step, uint32_t steps), { return Module.onStep ? Module.onStep(step, steps) : 0; });
static int on_step(void* user, uint32_t step, uint32_t steps) {
  (void)user;
  return web_step(step, steps);
}

EMSCRIPTEN_KEEPALIVE const char* web_error(void) { return error.message; }
EMSCRIPTEN_KEEPALIVE mobilediffusion_model* web_model(void) { return model; }
EMSCRIPTEN_KEEPALIVE uint32_t web_width(void) { return info.width; }
EMSCRIPTEN_KEEPALIVE uint32_t web_height(void) { return info.height; }
EMSCRIPTEN_KEEPALIVE double web_weight_bytes(void) { return (double)info.weight_bytes; }
EMSCRIPTEN_KEEPALIVE int32_t web_threads(void) { return mobilediffusion_session_threads(session); }

/* bytes: of a model's file; not needed afterwards. format: a mobilediffusion_format. */
EMSCRIPTEN_KEEPALIVE int web_open(const void* bytes, size_t size, uint32_t format, int32_t threads) {
  mobilediffusion_model_options model_options;
  mobilediffusion_session_options session_options;
  int status;
  mobilediffusion_session_close(session);
  mobilediffusion_model_close(model);
  session = NULL;
  model = NULL;
  mobilediffusion_model_options_init(&model_options);
  mobilediffusion_session_options_init(&session_options);
  mobilediffusion_info_init(&info);
  model_options.format = format;
  session_options.threads = threads;
  session_options.part_times = 1;
  status = mobilediffusion_model_open_bytes(bytes, size, &model_options, &model, &error);
  if (status == MOBILEDIFFUSION_OK) status = mobilediffusion_model_info(model, &info, &error);
  if (status == MOBILEDIFFUSION_OK) status = mobilediffusion_session_open(model, &session_options, &session, &error);
  return status;
}

/* picture, mask: NULL, or as mobilediffusion_request has them, of the model's size. rgb [height][width][3]. */
EMSCRIPTEN_KEEPALIVE int web_draw(const char* prompt, double seed, uint32_t steps, const uint8_t* picture, const uint8_t* mask,
                                  float strength, uint8_t* rgb) {
  const size_t pixels = (size_t)info.width * info.height;
  mobilediffusion_request request;
  mobilediffusion_request_init(&request);
  request.prompt = prompt;
  request.seed = (uint64_t)seed;
  request.steps = steps;
  request.picture = picture;
  request.picture_bytes = picture != NULL ? 3 * pixels : 0;
  request.mask = mask;
  request.mask_bytes = mask != NULL ? pixels : 0;
  request.strength = strength;
  request.on_step = on_step;
  return mobilediffusion_generate(session, &request, rgb, 3 * pixels, &error);
}
/* Inside of Module.onStep: the picture so far. */
EMSCRIPTEN_KEEPALIVE int web_preview(uint8_t* rgb) {
  return mobilediffusion_preview(session, rgb, (size_t)3 * info.width * info.height, &error);
}
/* What a model was never taught of a prompt, or what of it finds no room; "" where all is well. */
EMSCRIPTEN_KEEPALIVE const char* web_strange(const char* prompt) {
  static char cut[256], strange[512];
  if (mobilediffusion_model_read_prompt(model, prompt, cut, sizeof cut, strange, sizeof strange, &error) != MOBILEDIFFUSION_OK)
    return error.message;
  return strange;
}
/* Milliseconds of the last picture: 0 text encoder, 1 UNet, 2 decoder, 3 encoder. */
EMSCRIPTEN_KEEPALIVE double web_time(int stage) {
  mobilediffusion_times t;
  mobilediffusion_times_init(&t);
  if (mobilediffusion_session_times(session, &t, &error) != MOBILEDIFFUSION_OK) return 0;
  return stage == 0 ? t.text_encoder : stage == 1 ? t.unet : stage == 2 ? t.decoder : t.encoder;
}
/* Parts of the networks, below web_part_count(). */
static mobilediffusion_part part_of(uint32_t number) {
  mobilediffusion_part part;
  mobilediffusion_part_init(&part);
  if (mobilediffusion_session_part(session, number, &part, &error) != MOBILEDIFFUSION_OK) part.name = "";
  return part;
}
EMSCRIPTEN_KEEPALIVE uint32_t web_part_count(void) { return (uint32_t)mobilediffusion_session_part_count(session); }
EMSCRIPTEN_KEEPALIVE const char* web_part_name(uint32_t number) { return part_of(number).name; }
EMSCRIPTEN_KEEPALIVE double web_part_parameters(uint32_t number) { return (double)part_of(number).parameters; }
EMSCRIPTEN_KEEPALIVE double web_part_time(uint32_t number) { return part_of(number).milliseconds; }
