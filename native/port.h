/* What the C files of the packet path share; nothing here is part of the ABI. */
#ifndef ILB_PORT_H
#define ILB_PORT_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "gen/layout.h"
#include "ilb.h"
#include "ring.h"

struct ilb_port {
  int fd;
  int pass_fd; /* -1: none. A TUN port's own fd by default */
  enum ilb_port_kind kind;
  bool receives;
  bool transmits;
  bool wants_vlan;
  struct ilb_ring ring;
  /* What ilb_packet_settle waits for, and its result. */
  pthread_t settling;
  bool is_settling;
  uint32_t ring_bytes;
  int settled;
  /* Written by the thread that runs the io (kernel drops: by whoever reads counters), read by any. */
  uint64_t counters[ILB_COUNTERS];
  struct ilb_port_info info;
};

/* Counter updates have one writer; the store is atomic so that readers in other threads never see half a value. */
static inline void ilb_count(struct ilb_port *port, enum ilb_counter counter, uint64_t amount) {
  __atomic_store_n(&port->counters[counter], port->counters[counter] + amount, __ATOMIC_RELAXED);
}

static inline void ilb_note_errno(struct ilb_port *port, int error) {
  __atomic_store_n(&port->counters[ILB_LAST_ERRNO], (uint64_t)error, __ATOMIC_RELAXED);
}

static inline int64_t ilb_handle(const void *object) { return (int64_t)(uintptr_t)object; }

/* Copies an interface name. -EINVAL when it is empty or too long. */
int ilb_copy_interface_name(char out[16], const char *name);

/*
 * Opens a TUN or TAP by its flags (IFF_TUN or IFF_TAP, IFF_MULTI_QUEUE, IFF_TUN_EXCL), without packet information, with
 * virtio-net headers. `name` may hold a %d for the kernel to fill in; the real name is written back. Returns the
 * non-blocking descriptor, with the last of which the interface vanishes, or -errno of open() or of TUNSETIFF.
 */
int ilb_open_tun_device(char name[16], int flags);

/* Fills interface_index and mtu of `info` by its name. -ENODEV when there is no such interface. */
int ilb_read_interface(int socket_fd, struct ilb_port_info *info);

#endif
