/* SPDX-License-Identifier: Apache-2.0 */
/* The library for C, and for whatever calls C: the model of a file, opened once, and sessions that draw with it.
 *
 *   mobilediffusion_error error;
 *   mobilediffusion_model* model = NULL;
 *   mobilediffusion_session* session = NULL;
 *   mobilediffusion_request request;
 *   static uint8_t rgb[128 * 128 * 3];
 *   mobilediffusion_request_init(&request);
 *   request.prompt = "a red apple";
 *   if (mobilediffusion_model_open("emoji_one_step.safetensors", NULL, &model, &error) ||
 *       mobilediffusion_session_open(model, NULL, &session, &error) ||
 *       mobilediffusion_generate(session, &request, rgb, sizeof rgb, &error))
 *     puts(error.message);
 *   mobilediffusion_session_close(session);
 *   mobilediffusion_model_close(model);
 *
 * Errors. What can fail returns a status, MOBILEDIFFUSION_OK is 0, and writes a line of text to `error`, which may be NULL. A
 * failed call changes nothing: no handle is set, no picture written. No exception leaves the library, nothing is printed, nothing
 * ends the process, and there is no global state. NULL where something is needed, a wrong size of a buffer and the like are
 * MOBILEDIFFUSION_INVALID_ARGUMENT. What cannot be told is a pointer that points to nothing; it is undefined behaviour, as in C.
 *
 * Structs. Set them up by their _init function, or to zeros but for struct_size, which is their sizeof: zero means the default
 * everywhere. Later versions add fields at the end; struct_size says which the caller knows.
 *
 * Threads. A model does not change, and any number of threads may use it at once. A session has one caller at a time: a second
 * one, and one from inside the callback of the first, gets MOBILEDIFFUSION_BUSY. Any number of sessions draw at once, of one model
 * or several. A session keeps its model alive, so models and sessions may be closed in any order, and each by any thread, but not
 * while somebody is in a call with it. In a process that was forked after a session was opened, it draws on one thread.
 *
 * Text is UTF-8 and ends in a zero byte. Text that a function returns lives as long as what it was asked of.
 */
#ifndef MOBILEDIFFUSION_C_API_H
#define MOBILEDIFFUSION_C_API_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "version.h"

/* MOBILEDIFFUSION_C_STATIC: defined by who links the static library, which matters on Windows alone. */
#if defined(_WIN32) && !defined(MOBILEDIFFUSION_C_STATIC)
#if defined(MOBILEDIFFUSION_C_BUILD)
#define MOBILEDIFFUSION_API __declspec(dllexport)
#else
#define MOBILEDIFFUSION_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define MOBILEDIFFUSION_API __attribute__((visibility("default")))
#else
#define MOBILEDIFFUSION_API
#endif

/* In C an enumeration takes any int, wrong ones too, which are answered by an error; in C++ it must name its type for that. */
#ifdef __cplusplus
#define MOBILEDIFFUSION_OF_INT : int
extern "C" {
#else
#define MOBILEDIFFUSION_OF_INT
#endif

typedef enum mobilediffusion_status MOBILEDIFFUSION_OF_INT {
  MOBILEDIFFUSION_OK = 0,
  MOBILEDIFFUSION_CANCELLED = 1,        /* the callback asked for it; the picture is untouched */
  MOBILEDIFFUSION_INVALID_ARGUMENT = 2, /* an argument or a field is wrong, or a prompt cannot be read */
  MOBILEDIFFUSION_BAD_MODEL = 3,        /* the file cannot be read, or is no model of a preset that was compiled */
  MOBILEDIFFUSION_BUSY = 4,             /* the session is in use */
  MOBILEDIFFUSION_OUT_OF_MEMORY = 5,
  MOBILEDIFFUSION_FAILED = 6 /* drawing itself: numbers overflowed, the system refused a thread, the callback threw */
} mobilediffusion_status;

typedef struct mobilediffusion_error {
  int32_t code;      /* the status that was returned */
  char message[508]; /* one line, cut where it is too long; "" for MOBILEDIFFUSION_OK and MOBILEDIFFUSION_CANCELLED */
} mobilediffusion_error;

typedef struct mobilediffusion_model mobilediffusion_model;
typedef struct mobilediffusion_session mobilediffusion_session;

/* What matrices of weights are kept and multiplied in. */
typedef enum mobilediffusion_format MOBILEDIFFUSION_OF_INT {
  MOBILEDIFFUSION_FP32 = 0,
  MOBILEDIFFUSION_BF16 = 1,
  MOBILEDIFFUSION_INT8 = 2
} mobilediffusion_format;

/* Memory of the caller's for weights, activations and kernel scratch, which are nearly all that there is. Both functions may be
   called by any thread that opens or closes models and sessions, and until the last of these is closed. */
typedef struct mobilediffusion_memory {
  void* user;
  /* alignment: a power of two. NULL: there is not so much. The function being NULL: the library's own memory. */
  void* (*allocate)(void* user, size_t bytes, size_t alignment);
  void (*release)(void* user, void* memory, size_t bytes, size_t alignment);
} mobilediffusion_memory;

typedef struct mobilediffusion_model_options {
  uint32_t struct_size;
  uint32_t format;        /* mobilediffusion_format */
  const char* preset;     /* the name of the one that is expected; NULL: the first that was compiled and that the file fits */
  const char* vocabulary; /* a folder with CLIP's tokenizer, for one-file checkpoints; NULL: beside the file */
  const char* vae;        /* a file or folder of another autoencoder; NULL: the model's own */
  mobilediffusion_memory memory; /* of the weights */
} mobilediffusion_model_options;

typedef struct mobilediffusion_session_options {
  uint32_t struct_size;
  int32_t threads;               /* 0: all that the process may use; more are cut to it */
  mobilediffusion_memory memory; /* of activations and kernel scratch */
  int32_t part_times;            /* not 0: mobilediffusion_session_part tells times; takes two readings of a clock an operation */
} mobilediffusion_session_options;

/* A model, or what a preset will be once it is loaded: the memory that it takes is known before. */
typedef struct mobilediffusion_info {
  uint32_t struct_size;
  uint32_t format;
  const char* preset;
  const char* sampler; /* what a request defaults to */
  uint32_t width, height;
  uint32_t steps; /* likewise */
  float guidance; /* likewise */
  uint32_t context_length; /* tokens that a prompt may have, with begin and end */
  uint32_t latent_floats;
  uint64_t parameters;
  uint64_t weight_bytes;
  uint64_t activation_bytes; /* of a session, beside scratch_bytes for each of its threads */
  uint64_t scratch_bytes;
} mobilediffusion_info;

/* Called after each step, on the thread that draws. Another value than 0 cancels. */
typedef int (*mobilediffusion_on_step)(void* user, uint32_t step, uint32_t steps);

/* Flags of a request. */
enum {
  MOBILEDIFFUSION_PROMPT_WEIGHTS = 1, /* (words:1.3) and [words] are read as weights, not as text */
  MOBILEDIFFUSION_TORCH_NOISE = 2     /* the noise of torch.Generator("cpu") for the seed, in the order of diffusers */
};

typedef struct mobilediffusion_request {
  uint32_t struct_size;
  uint32_t flags;
  const char* prompt;   /* at most 65536 bytes; "" draws without a caption */
  const char* negative; /* what guidance leads away from; NULL: no caption */
  uint64_t seed;
  uint32_t steps;      /* 0: the model's */
  float guidance;      /* 0: the model's; at most 1: the prompt alone, half the work */
  const char* sampler; /* a name of mobilediffusion_sampler_name; NULL: the model's */

  const uint8_t* picture; /* to begin with, [height][width][3]; NULL: noise alone */
  size_t picture_bytes;   /* its size, to be compared */
  const uint8_t* mask;    /* [height][width]: 255 where to paint, 0 where the picture stays; NULL: the whole picture changes */
  size_t mask_bytes;
  float strength; /* in (0, 1]: how much of the picture may change; 0: 0.6, or 1 with a mask */

  mobilediffusion_on_step on_step; /* may be NULL */
  void* user;

  const float* noise; /* latent_floats normals instead of the seed's; NULL: the seed's */
  size_t noise_floats;
} mobilediffusion_request;

/* Where the time of a session's last drawing went, in milliseconds, callbacks left out. */
typedef struct mobilediffusion_times {
  uint32_t struct_size;
  double text_encoder, unet, decoder;
  double encoder; /* of a request's picture */
} mobilediffusion_times;

/* A part of a network, and what it took of a session's last drawing, previews included. */
typedef struct mobilediffusion_part {
  uint32_t struct_size;
  const char* name; /* as its tensors' names begin: "unet.down_blocks.0", "vae.decoder.mid_block"; lives as long as the session */
  uint64_t parameters;
  uint64_t macs; /* multiply-accumulates */
  double milliseconds;
} mobilediffusion_part;

static inline void mobilediffusion_model_options_init(mobilediffusion_model_options* o) {
  memset(o, 0, sizeof *o);
  o->struct_size = (uint32_t)sizeof *o;
}
static inline void mobilediffusion_session_options_init(mobilediffusion_session_options* o) {
  memset(o, 0, sizeof *o);
  o->struct_size = (uint32_t)sizeof *o;
}
static inline void mobilediffusion_info_init(mobilediffusion_info* i) {
  memset(i, 0, sizeof *i);
  i->struct_size = (uint32_t)sizeof *i;
}
static inline void mobilediffusion_request_init(mobilediffusion_request* r) {
  memset(r, 0, sizeof *r);
  r->struct_size = (uint32_t)sizeof *r;
}
static inline void mobilediffusion_times_init(mobilediffusion_times* t) {
  memset(t, 0, sizeof *t);
  t->struct_size = (uint32_t)sizeof *t;
}
static inline void mobilediffusion_part_init(mobilediffusion_part* p) {
  memset(p, 0, sizeof *p);
  p->struct_size = (uint32_t)sizeof *p;
}

/* Of the library that runs: "0.1.0", and major * 65536 + minor * 256 + patch. version.h has the header's. */
MOBILEDIFFUSION_API const char* mobilediffusion_version_text(void);
MOBILEDIFFUSION_API uint32_t mobilediffusion_version(void);
/* "cancelled" and so on. */
MOBILEDIFFUSION_API const char* mobilediffusion_status_text(mobilediffusion_status status);
/* The instruction set of the kernels: "avx2", "dotprod" and so on. "" where the environment's MOBILEDIFFUSION_ISA forces one that
   this machine or library does not have; opening a model then fails and says so. */
MOBILEDIFFUSION_API const char* mobilediffusion_instruction_set(void);

/* The presets that were compiled, and all samplers. NULL: there is none of this number. */
MOBILEDIFFUSION_API size_t mobilediffusion_preset_count(void);
MOBILEDIFFUSION_API mobilediffusion_status mobilediffusion_preset_info(size_t preset, mobilediffusion_format format,
                                                                       mobilediffusion_info* info, mobilediffusion_error* error);
MOBILEDIFFUSION_API size_t mobilediffusion_sampler_count(void);
MOBILEDIFFUSION_API const char* mobilediffusion_sampler_name(size_t sampler);

/* Reads and packs the weights of a model's file, or of a folder as diffusers lays it out. options: NULL means the defaults. */
MOBILEDIFFUSION_API mobilediffusion_status mobilediffusion_model_open(const char* path,
                                                                      const mobilediffusion_model_options* options,
                                                                      mobilediffusion_model** model,
                                                                      mobilediffusion_error* error);
/* The same of `length` bytes of a file, from `offset` on, such as an app's asset that lies in its package uncompressed. (An open
   file's path is "/proc/self/fd/NUMBER" on Linux and Android.) */
MOBILEDIFFUSION_API mobilediffusion_status mobilediffusion_model_open_part(const char* path, uint64_t offset, uint64_t length,
                                                                           const mobilediffusion_model_options* options,
                                                                           mobilediffusion_model** model,
                                                                           mobilediffusion_error* error);
/* The same of a file that is in memory, such as static data of the program. The bytes are not needed any more once this returns. */
MOBILEDIFFUSION_API mobilediffusion_status mobilediffusion_model_open_bytes(const void* bytes, size_t size,
                                                                            const mobilediffusion_model_options* options,
                                                                            mobilediffusion_model** model,
                                                                            mobilediffusion_error* error);
/* NULL is allowed. */
MOBILEDIFFUSION_API void mobilediffusion_model_close(mobilediffusion_model* model);

MOBILEDIFFUSION_API mobilediffusion_status mobilediffusion_model_info(const mobilediffusion_model* model,
                                                                      mobilediffusion_info* info, mobilediffusion_error* error);
/* The words of the captions that a model was taught, in lower case and sorted, and what it draws: "a fox / foxes". Only the
   library's own models say so; of others there are none. NULL: there is none of this number. */
MOBILEDIFFUSION_API size_t mobilediffusion_model_word_count(const mobilediffusion_model* model);
MOBILEDIFFUSION_API const char* mobilediffusion_model_word(const mobilediffusion_model* model, size_t word);
MOBILEDIFFUSION_API size_t mobilediffusion_model_thing_count(const mobilediffusion_model* model);
MOBILEDIFFUSION_API const char* mobilediffusion_model_thing(const mobilediffusion_model* model, size_t thing);
/* What of a prompt finds no room (cut), and what the model was never taught (strange), as text for people; "" where all is well.
   Each is cut to its buffer's size, its zero byte included; NULL with size 0: not wanted. */
MOBILEDIFFUSION_API mobilediffusion_status mobilediffusion_model_read_prompt(const mobilediffusion_model* model,
                                                                             const char* prompt, char* cut, size_t cut_size,
                                                                             char* strange, size_t strange_size,
                                                                             mobilediffusion_error* error);

/* Memory and threads to draw with. options: NULL means the defaults. */
MOBILEDIFFUSION_API mobilediffusion_status mobilediffusion_session_open(const mobilediffusion_model* model,
                                                                        const mobilediffusion_session_options* options,
                                                                        mobilediffusion_session** session,
                                                                        mobilediffusion_error* error);
/* NULL is allowed. */
MOBILEDIFFUSION_API void mobilediffusion_session_close(mobilediffusion_session* session);
/* 0 for NULL. */
MOBILEDIFFUSION_API int32_t mobilediffusion_session_threads(const mobilediffusion_session* session);

/* Draws into rgb [height][width][3], rgb_bytes being width * height * 3. The same request to the same model gives the same bytes on
   any number of threads. Allocates the picture, what a mask becomes, and what the tokenizer takes. rgb may be request->picture. */
MOBILEDIFFUSION_API mobilediffusion_status mobilediffusion_generate(mobilediffusion_session* session,
                                                                    const mobilediffusion_request* request, uint8_t* rgb,
                                                                    size_t rgb_bytes, mobilediffusion_error* error);
/* Inside the callback of this session, and on its thread: what the picture looks like so far. */
MOBILEDIFFUSION_API mobilediffusion_status mobilediffusion_preview(mobilediffusion_session* session, uint8_t* rgb,
                                                                   size_t rgb_bytes, mobilediffusion_error* error);
/* Of the last mobilediffusion_generate, as far as it came. */
MOBILEDIFFUSION_API mobilediffusion_status mobilediffusion_session_times(mobilediffusion_session* session,
                                                                         mobilediffusion_times* times,
                                                                         mobilediffusion_error* error);
/* The parts of the session's networks, in the order of their tensors; 0 where mobilediffusion_session_options::part_times is 0. */
MOBILEDIFFUSION_API size_t mobilediffusion_session_part_count(const mobilediffusion_session* session);
MOBILEDIFFUSION_API mobilediffusion_status mobilediffusion_session_part(mobilediffusion_session* session, size_t number,
                                                                        mobilediffusion_part* part,
                                                                        mobilediffusion_error* error);

#undef MOBILEDIFFUSION_OF_INT
#ifdef __cplusplus
}
#endif

#endif
