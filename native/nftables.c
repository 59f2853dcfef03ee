/* See nftables.h. */
#include "nftables.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "thread.h"

/* The part of <nftables/libnftables.h> that is used; the soname fixes it. */
struct nft_ctx;
struct functions {
  struct nft_ctx *(*ctx_new)(uint32_t flags);
  void (*ctx_free)(struct nft_ctx *);
  int (*buffer_output)(struct nft_ctx *);
  int (*buffer_error)(struct nft_ctx *);
  const char *(*get_output)(struct nft_ctx *);
  const char *(*get_error)(struct nft_ctx *);
  int (*run)(struct nft_ctx *, const char *);
};

enum state { IDLE, SUBMITTED, STOPPING };

struct ilb_nft {
  void *library;
  struct functions call;
  struct nft_ctx *context;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  enum state state; /* under `lock`, as are text, refused and error */
  char *text;
  int refused;
  const char *message; /* output or error; belongs to the context, valid until the next run */
};

static int load(struct ilb_nft *handle) {
  handle->library = dlopen("libnftables.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!handle->library) return -ENOENT;
  const struct {
    const char *name;
    void *place;
  } wanted[] = {
      {"nft_ctx_new", &handle->call.ctx_new},
      {"nft_ctx_free", &handle->call.ctx_free},
      {"nft_ctx_buffer_output", &handle->call.buffer_output},
      {"nft_ctx_buffer_error", &handle->call.buffer_error},
      {"nft_ctx_get_output_buffer", &handle->call.get_output},
      {"nft_ctx_get_error_buffer", &handle->call.get_error},
      {"nft_run_cmd_from_buffer", &handle->call.run},
  };
  for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
    void *found = dlsym(handle->library, wanted[i].name);
    if (!found) return -ENOSYS;
    memcpy(wanted[i].place, &found, sizeof(found));
  }
  return 0;
}

static void *run_transactions(void *argument) {
  struct ilb_nft *handle = argument;
  pthread_mutex_lock(&handle->lock);
  for (;;) {
    while (handle->state == IDLE) pthread_cond_wait(&handle->changed, &handle->lock);
    if (handle->state == STOPPING) break;
    char *text = handle->text;
    pthread_mutex_unlock(&handle->lock);
    int result = handle->call.run(handle->context, text);
    /* Asking for a buffer also empties it for the next run; what it gave stays until then. */
    const char *output = handle->call.get_output(handle->context);
    const char *error = handle->call.get_error(handle->context);
    pthread_mutex_lock(&handle->lock);
    free(text);
    handle->text = NULL;
    handle->refused = result != 0;
    handle->message = result != 0 ? error : output;
    if (handle->state == SUBMITTED) handle->state = IDLE;
    pthread_cond_broadcast(&handle->changed);
  }
  pthread_mutex_unlock(&handle->lock);
  return NULL;
}

static void discard(struct ilb_nft *handle) {
  if (handle->context) handle->call.ctx_free(handle->context);
  /* The library stays loaded: it registers things that do not bear unloading. */
  pthread_mutex_destroy(&handle->lock);
  pthread_cond_destroy(&handle->changed);
  free(handle);
}

static int prepare(struct ilb_nft *handle) {
  int error = load(handle);
  if (error) return error;
  handle->context = handle->call.ctx_new(0);
  if (!handle->context) return -ENOMEM;
  if (handle->call.buffer_output(handle->context) || handle->call.buffer_error(handle->context)) return -ENOMEM;
  return ilb_start_thread(&handle->thread, run_transactions, handle);
}

int64_t ilb_nft_open(void) {
  struct ilb_nft *handle = calloc(1, sizeof(*handle));
  if (!handle) return -ENOMEM;
  pthread_mutex_init(&handle->lock, NULL);
  pthread_cond_init(&handle->changed, NULL);
  int error = prepare(handle);
  if (!error) return (int64_t)(uintptr_t)handle;
  discard(handle);
  return error;
}

int ilb_nft_submit(struct ilb_nft *handle, const char *text, uint32_t length) {
  char *copy = malloc((size_t)length + 1);
  if (!copy) return -ENOMEM;
  memcpy(copy, text, length);
  copy[length] = '\0';
  pthread_mutex_lock(&handle->lock);
  int busy = handle->state != IDLE;
  if (!busy) {
    handle->text = copy;
    handle->refused = 0;
    handle->message = NULL;
    handle->state = SUBMITTED;
    pthread_cond_broadcast(&handle->changed);
  }
  pthread_mutex_unlock(&handle->lock);
  if (busy) free(copy);
  return busy ? -EBUSY : 0;
}

int ilb_nft_poll(struct ilb_nft *handle, char *message, uint32_t capacity) {
  pthread_mutex_lock(&handle->lock);
  int result = handle->state != IDLE ? -EAGAIN : handle->refused;
  if (result != -EAGAIN && capacity > 0) {
    const char *said = handle->message ? handle->message : "";
    size_t length = strlen(said);
    if (length >= capacity) length = capacity - 1;
    memcpy(message, said, length);
    message[length] = '\0';
  }
  pthread_mutex_unlock(&handle->lock);
  return result;
}

int ilb_nft_close(struct ilb_nft *handle) {
  pthread_mutex_lock(&handle->lock);
  while (handle->state == SUBMITTED) pthread_cond_wait(&handle->changed, &handle->lock);
  handle->state = STOPPING;
  pthread_cond_broadcast(&handle->changed);
  pthread_mutex_unlock(&handle->lock);
  pthread_join(handle->thread, NULL);
  discard(handle);
  return 0;
}
