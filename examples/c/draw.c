/* SPDX-License-Identifier: Apache-2.0 */
/* Draws a picture from words, through the C interface:
 *
 *   draw ../emoji_one_step.safetensors "a red apple" 7 apple.ppm
 */
#include <mobilediffusion/c_api.h>
#include <stdio.h>
#include <stdlib.h>

/* Other than 0 would cancel. */
static int on_step(void* user, uint32_t step, uint32_t steps) {
  fprintf(stderr, "%s: step %u of %u\n", (const char*)user, (unsigned)step, (unsigned)steps);
  return 0;
}

static int write_ppm(const char* path, const uint8_t* rgb, uint32_t width, uint32_t height) {
  const size_t bytes = (size_t)width * height * 3;
  FILE* file = fopen(path, "wb");
  int good = file != NULL && fprintf(file, "P6\n%u %u\n255\n", (unsigned)width, (unsigned)height) > 0 &&
             fwrite(rgb, 1, bytes, file) == bytes;
  if (file != NULL && fclose(file) != 0) good = 0;
  return good;
}

int main(int argc, char** argv) {
  mobilediffusion_model* model = NULL;
  mobilediffusion_session* session = NULL;
  mobilediffusion_info info;
  mobilediffusion_request request;
  mobilediffusion_times times;
  mobilediffusion_error error;
  uint8_t* rgb = NULL;
  size_t bytes = 0;
  char strange[256];
  int status = 1;
  if (argc != 5) {
    fprintf(stderr, "draw: expected MODEL PROMPT SEED FILE.ppm\n");
    return 2;
  }

  mobilediffusion_info_init(&info);
  mobilediffusion_request_init(&request);
  mobilediffusion_times_init(&times);
  request.prompt = argv[2];
  request.seed = strtoull(argv[3], NULL, 10);
  request.on_step = on_step;
  request.user = argv[2];

  if (mobilediffusion_model_open(argv[1], NULL, &model, &error) != MOBILEDIFFUSION_OK ||
      mobilediffusion_model_info(model, &info, &error) != MOBILEDIFFUSION_OK ||
      mobilediffusion_session_open(model, NULL, &session, &error) != MOBILEDIFFUSION_OK ||
      mobilediffusion_model_read_prompt(model, request.prompt, NULL, 0, strange, sizeof strange, &error) != MOBILEDIFFUSION_OK) {
    fprintf(stderr, "draw: %s\n", error.message);
    goto end;
  }
  if (strange[0] != '\0') fprintf(stderr, "draw: %s\n", strange);

  bytes = (size_t)info.width * info.height * 3;
  rgb = malloc(bytes);
  if (rgb == NULL) goto end;
  if (mobilediffusion_generate(session, &request, rgb, bytes, &error) != MOBILEDIFFUSION_OK ||
      mobilediffusion_session_times(session, &times, &error) != MOBILEDIFFUSION_OK) {
    fprintf(stderr, "draw: %s\n", error.message);
    goto end;
  }
  if (!write_ppm(argv[4], rgb, info.width, info.height)) {
    fprintf(stderr, "draw: cannot write %s\n", argv[4]);
    goto end;
  }
  printf("%s: %s, %u x %u, %s, %d threads: text encoder %.1f ms, UNet %.1f ms, decoder %.1f ms\n", argv[4], info.preset,
         (unsigned)info.width, (unsigned)info.height, mobilediffusion_instruction_set(),
         (int)mobilediffusion_session_threads(session), times.text_encoder, times.unet, times.decoder);
  status = 0;

end:
  free(rgb);
  mobilediffusion_session_close(session);
  mobilediffusion_model_close(model);
  return status;
}
