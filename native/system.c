/* Identity of the library and single system calls that the runtime does not offer. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "gen/layout.h"
#include "ilb.h"

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

int ilb_lock_file(const char *path) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return -errno;
  if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
    int error = -errno;
    close(fd);
    return error;
  }
  return fd;
}

int ilb_close(int fd) { return close(fd) < 0 ? -errno : 0; }
