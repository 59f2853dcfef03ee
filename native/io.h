/* What receiving (io.c) and sending (transmit.c) share. Not part of the ABI. */
#ifndef ILB_IO_H
#define ILB_IO_H

#include <linux/if_packet.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "port.h"

_Static_assert(ILB_BATCH_SIZE + ILB_MADE_SIZE == ILB_DESCRIPTOR_COUNT, "two kinds of descriptors");
_Static_assert(ILB_DESCRIPTOR_COUNT <= 128, "indices are kept in a byte");
_Static_assert(ILB_VNET_HEADER == 10 && offsetof(struct ilb_descriptor, vnet_flags) == 16, "header read in place");

/* Scatter list of one frame: virtio-net header, head, tail. */
struct scatter {
  struct iovec part[3];
};

union auxdata_buffer {
  char bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
  struct cmsghdr align;
};

/* What a message to send carries. */
struct load {
  uint32_t frames, bytes;
};

struct ilb_io {
  uint8_t *memory;
  uint64_t memory_bytes;
  struct ilb_descriptor *descriptors;
  uint64_t heads, tails;

  struct ilb_port *ports[ILB_MAX_PORTS];
  uint8_t attached[ILB_MAX_PORTS]; /* port indices, in order of ilb_io_set_port */
  uint32_t attached_count;
  uint8_t active[ILB_MAX_PORTS]; /* those that receive, in the same order */
  uint32_t active_count;
  uint32_t next; /* place in `active` whose turn it is */

  int wake_fd;
  const uint32_t *watched; /* see ilb_io_watch; NULL: none */
  uint8_t history;
  uint32_t pause, next_pause; /* waits without spinning: left now, and when the processor is wanted again */
  int64_t preemptions;        /* of this thread, as last seen */
  uint64_t batch_bytes;   /* of the batch being gathered */
  uint64_t average_bytes; /* per batch, over some sixteen of them */
  uint64_t idle_since_ns; /* when a receive first found nothing; 0: the last one found frames */
  uint64_t waited_ns;     /* in all */
  int64_t now_ms;

  struct pollfd polls[ILB_MAX_PORTS + 1]; /* parallel to `active`, then the wake-up */
  struct mmsghdr rx_messages[ILB_BATCH_SIZE];
  struct scatter rx_ethernet[ILB_BATCH_SIZE], rx_ip[ILB_BATCH_SIZE];
  union auxdata_buffer rx_control[ILB_BATCH_SIZE];

  uint8_t queue[ILB_MAX_PORTS][ILB_DESCRIPTOR_COUNT]; /* descriptor indices to send, per packet port */
  uint32_t queued[ILB_MAX_PORTS];
  unsigned waits[ILB_MAX_PORTS]; /* of this transmit, per port; giving back counts for the port it came from */
  bool placed[ILB_DESCRIPTOR_COUNT]; /* made frames already in a queue */
  struct mmsghdr tx_messages[ILB_DESCRIPTOR_COUNT];
  struct load tx_loads[ILB_DESCRIPTOR_COUNT]; /* parallel to tx_messages */
  struct scatter tx[ILB_DESCRIPTOR_COUNT];
  struct iovec train_parts[2 * ILB_DESCRIPTOR_COUNT]; /* of n segments n + 1, of at least 2 */
};

/* Whether `bytes` at `offset` lie in the memory and begin at a multiple of `alignment`. */
static inline bool region_fits(uint64_t memory_bytes, uint64_t offset, uint64_t bytes, uint64_t alignment) {
  return offset % alignment == 0 && offset <= memory_bytes && bytes <= memory_bytes - offset;
}

#endif
