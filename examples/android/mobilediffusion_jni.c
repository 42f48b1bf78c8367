/* SPDX-License-Identifier: Apache-2.0 */
/* The C interface for MobileDiffusion.kt. Strings pass as bytes, since Java's own UTF-8 is another one: it spells an emoji in
 * six. */
#include <jni.h>
#include <mobilediffusion/c_api.h>
#include <stdlib.h>

#define NATIVE(result, name) JNIEXPORT result JNICALL Java_org_mobilediffusion_Native_##name

struct Painter {
  mobilediffusion_model* model;
  mobilediffusion_session* session;
  mobilediffusion_info info;
};

/* A callback of Java's, and the environment of the thread that draws. */
struct Listener {
  JNIEnv* env;
  jobject object;
  jmethodID on_step;
};

static void throw_error(JNIEnv* env, mobilediffusion_status status, const char* message) {
  const char* const name = status == MOBILEDIFFUSION_INVALID_ARGUMENT ? "java/lang/IllegalArgumentException"
                           : status == MOBILEDIFFUSION_OUT_OF_MEMORY  ? "java/lang/OutOfMemoryError"
                           : status == MOBILEDIFFUSION_BAD_MODEL      ? "java/io/IOException"
                                                                      : "java/lang/IllegalStateException";
  char text[512];
  size_t i = 0;
  for (; message[i] != '\0' && i + 1 < sizeof text; ++i) text[i] = (unsigned char)message[i] < 0x80 ? message[i] : '?';
  text[i] = '\0';
  (*env)->ThrowNew(env, (*env)->FindClass(env, name), text);
}

/* A byte array as text, to be freed; NULL for null, and with an exception pending where memory lacks. */
static char* text_of(JNIEnv* env, jbyteArray bytes) {
  const jsize length = bytes == NULL ? 0 : (*env)->GetArrayLength(env, bytes);
  char* const text = bytes == NULL ? NULL : malloc((size_t)length + 1);
  if (text == NULL) {
    if (bytes != NULL) throw_error(env, MOBILEDIFFUSION_OUT_OF_MEMORY, "text");
    return NULL;
  }
  (*env)->GetByteArrayRegion(env, bytes, 0, length, (jbyte*)text);
  text[length] = '\0';
  return text;
}

static int on_step(void* user, uint32_t step, uint32_t steps) {
  const struct Listener* const l = user;
  const jboolean goes_on = (*l->env)->CallBooleanMethod(l->env, l->object, l->on_step, (jint)step, (jint)steps);
  return (*l->env)->ExceptionCheck(l->env) || !goes_on;
}

/* length -1: the whole file. 0 with an exception pending: it failed. */
NATIVE(jlong, open)(JNIEnv* env, jclass class, jbyteArray path, jlong offset, jlong length, jint format, jint threads) {
  struct Painter* const painter = calloc(1, sizeof *painter);
  char* const file = text_of(env, path);
  mobilediffusion_model_options model;
  mobilediffusion_session_options session;
  mobilediffusion_error error;
  mobilediffusion_status status = MOBILEDIFFUSION_OUT_OF_MEMORY;
  (void)class;
  error.message[0] = '\0';
  if (painter != NULL && !(*env)->ExceptionCheck(env)) {
    mobilediffusion_model_options_init(&model);
    mobilediffusion_session_options_init(&session);
    mobilediffusion_info_init(&painter->info);
    model.format = (uint32_t)format;
    session.threads = threads;
    status = length < 0
                 ? mobilediffusion_model_open(file, &model, &painter->model, &error)
                 : mobilediffusion_model_open_part(file, (uint64_t)offset, (uint64_t)length, &model, &painter->model, &error);
    if (status == MOBILEDIFFUSION_OK) status = mobilediffusion_model_info(painter->model, &painter->info, &error);
    if (status == MOBILEDIFFUSION_OK) status = mobilediffusion_session_open(painter->model, &session, &painter->session, &error);
  }
  free(file);
  if (status == MOBILEDIFFUSION_OK) return (jlong)(intptr_t)painter;
  if (painter != NULL) mobilediffusion_model_close(painter->model);
  free(painter);
  if (!(*env)->ExceptionCheck(env)) throw_error(env, status, error.message);
  return 0;
}

NATIVE(void, close)(JNIEnv* env, jclass class, jlong handle) {
  struct Painter* const painter = (struct Painter*)(intptr_t)handle;
  (void)env, (void)class;
  if (painter == NULL) return;
  mobilediffusion_session_close(painter->session);
  mobilediffusion_model_close(painter->model);
  free(painter);
}

NATIVE(jint, width)(JNIEnv* env, jclass class, jlong handle) {
  (void)env, (void)class;
  return (jint)((const struct Painter*)(intptr_t)handle)->info.width;
}
NATIVE(jint, height)(JNIEnv* env, jclass class, jlong handle) {
  (void)env, (void)class;
  return (jint)((const struct Painter*)(intptr_t)handle)->info.height;
}

/* What the model was never taught, as bytes of UTF-8. */
NATIVE(jbyteArray, strange)(JNIEnv* env, jclass class, jlong handle, jbyteArray prompt) {
  char* const text = text_of(env, prompt);
  char strange[1024];
  mobilediffusion_error error;
  mobilediffusion_status status;
  jbyteArray result = NULL;
  (void)class;
  if ((*env)->ExceptionCheck(env)) return NULL;
  status = mobilediffusion_model_read_prompt(((const struct Painter*)(intptr_t)handle)->model, text, NULL, 0, strange,
                                             sizeof strange, &error);
  free(text);
  if (status != MOBILEDIFFUSION_OK) {
    throw_error(env, status, error.message);
    return NULL;
  }
  result = (*env)->NewByteArray(env, (jsize)strlen(strange));
  if (result != NULL) (*env)->SetByteArrayRegion(env, result, 0, (jsize)strlen(strange), (const jbyte*)strange);
  return result;
}

/* Colours as android.graphics.Bitmap has them, 0xAARRGGBB; null: cancelled, or an exception is pending. */
NATIVE(jintArray, draw)(JNIEnv* env, jclass class, jlong handle, jbyteArray prompt, jlong seed, jint steps, jobject listener) {
  struct Painter* const painter = (struct Painter*)(intptr_t)handle;
  const size_t pixels = (size_t)painter->info.width * painter->info.height;
  struct Listener l = {env, listener, NULL};
  mobilediffusion_request request;
  mobilediffusion_error error;
  mobilediffusion_status status = MOBILEDIFFUSION_OUT_OF_MEMORY;
  char* const text = text_of(env, prompt);
  uint8_t* const rgb = malloc(3 * pixels);
  jint* const colours = malloc(pixels * sizeof *colours);
  jintArray result = NULL;
  size_t i;
  (void)class;
  error.message[0] = '\0';
  if (rgb != NULL && colours != NULL && !(*env)->ExceptionCheck(env)) {
    mobilediffusion_request_init(&request);
    request.prompt = text;
    request.seed = (uint64_t)seed;
    request.steps = steps < 0 ? 0 : (uint32_t)steps;
    if (listener != NULL) {
      l.on_step = (*env)->GetMethodID(env, (*env)->GetObjectClass(env, listener), "onStep", "(II)Z");
      request.on_step = on_step;
      request.user = &l;
    }
    if (!(*env)->ExceptionCheck(env)) status = mobilediffusion_generate(painter->session, &request, rgb, 3 * pixels, &error);
  }
  if (status == MOBILEDIFFUSION_OK) {
    for (i = 0; i < pixels; ++i)
      colours[i] = (jint)(0xFF000000u | (uint32_t)rgb[3 * i] << 16 | (uint32_t)rgb[3 * i + 1] << 8 | rgb[3 * i + 2]);
    result = (*env)->NewIntArray(env, (jsize)pixels);
    if (result != NULL) (*env)->SetIntArrayRegion(env, result, 0, (jsize)pixels, colours);
  } else if (status != MOBILEDIFFUSION_CANCELLED && !(*env)->ExceptionCheck(env)) {
    throw_error(env, status, error.message);
  }
  free(colours);
  free(rgb);
  free(text);
  return result;
}
