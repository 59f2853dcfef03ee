/* Identity of the library and single system calls that the runtime does not offer. */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "gen/layout.h"
#include "ilb.h"
#include "thread.h"

uint32_t ilb_abi_version(void) { return ILB_ABI_VERSION; }

uint32_t ilb_layout_fingerprint(void) { return ILB_LAYOUT_FINGERPRINT; }

int64_t ilb_clock_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int ilb_use_huge_pages(uint8_t *base, uint64_t bytes) {
  /* madvise wants page boundaries; a huge page that the region only touches cannot be used anyway. */
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  const uintptr_t first = ((uintptr_t)base + page - 1) & ~(page - 1);
  const uintptr_t end = ((uintptr_t)base + bytes) & ~(page - 1);
  if (end <= first) return 0;
  return madvise((void *)first, end - first, MADV_HUGEPAGE) < 0 ? -errno : 0;
}

struct ranges {
  uint32_t count;
  int nice;
  uint64_t at[]; /* address and bytes in turn */
};

/*
 * By writing what is there. MADV_POPULATE_WRITE holds a lock meanwhile that every other change of the address space needs, so each
 * of the many that a start makes would wait until a huge page is cleared; a page fault holds none (since Linux 6.4).
 */
static void touch(uint64_t first, uint64_t bytes, uint64_t page) {
  for (uint64_t at = first & ~(page - 1); at < first + bytes; at += page)
    __atomic_fetch_add((uint32_t *)(uintptr_t)at, 0, __ATOMIC_RELAXED);
}

static void *populate(void *argument) {
  struct ranges *ranges = argument;
  setpriority(PRIO_PROCESS, (id_t)gettid(), ranges->nice);
  for (uint32_t i = 0; i < ranges->count; i++)
    touch(ranges->at[2 * i], ranges->at[2 * i + 1], (uint64_t)sysconf(_SC_PAGESIZE));
  free(ranges);
  return NULL;
}

int ilb_populate(const uint64_t *ranges, uint32_t count, int32_t nice) {
  const size_t bytes = 2 * (size_t)count * sizeof *ranges;
  struct ranges *copy = malloc(sizeof *copy + bytes);
  if (!copy) return -ENOMEM;
  copy->count = count;
  copy->nice = nice;
  memcpy(copy->at, ranges, bytes);
  pthread_t thread;
  const int error = ilb_start_thread(&thread, populate, copy);
  if (error) free(copy);
  else pthread_detach(thread);
  return error;
}

/* Who listens at `address`: connecting is enough to be told, nobody need accept. */
static void read_holder(const struct sockaddr_un *address, socklen_t length, uint32_t *holder) {
  holder[0] = 0;
  holder[1] = UINT32_MAX;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  struct ucred credentials;
  socklen_t size = sizeof credentials;
  if (connect(fd, (const struct sockaddr *)address, length) == 0 &&
      getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
    holder[0] = (uint32_t)credentials.pid;
    holder[1] = credentials.uid;
  }
  close(fd);
}

int ilb_lock_name(const char *name, uint32_t *holder) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const size_t bytes = strlen(name);
  if (bytes > sizeof address.sun_path - 1) return -EINVAL;
  /* A first byte of 0 makes the name abstract: it belongs to the network namespace and goes with its socket. */
  memcpy(address.sun_path + 1, name, bytes);
  const socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + bytes);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  if (bind(fd, (const struct sockaddr *)&address, length) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
  int error = -errno;
  close(fd);
  if (error == -EADDRINUSE) read_holder(&address, length, holder);
  return error;
}

int ilb_listen_unix(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) > sizeof address.sun_path - 1) return -EINVAL;
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  if (bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
  const int error = -errno;
  close(fd);
  return error;
}

int ilb_close(int fd) { return close(fd) < 0 ? -errno : 0; }
