/*
 * Receive rings of packet sockets (TPACKET_V2). The kernel copies a frame into a slot where it arrives, so a worker needs no
 * call and the kernel no queued buffer per frame. Slots hold what fits a wire of 1,500 bytes; super-packets would need 34 times
 * as much memory and a second copy, so they go through the socket's queue (PACKET_COPY_THRESH). Decision record 0046.
 */
#include "ring.h"

#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define SLOT_BYTES 2048u
#define LEAST_SLOTS 4u
#define MOST_SLOTS 8192u
/* The kernel takes a ring in pieces of so many adjacent bytes. */
#define BLOCK_BYTES (128u << 10)

void ilb_ring_open(struct ilb_ring *ring, int fd, uint32_t bytes) {
  const int version = TPACKET_V2, copies = 1;
  uint32_t slots = LEAST_SLOTS;
  while (slots < MOST_SLOTS && 2 * slots * SLOT_BYTES <= bytes) slots *= 2;
  const uint32_t size = slots * SLOT_BYTES, block = size < BLOCK_BYTES ? size : BLOCK_BYTES;
  const struct tpacket_req request = {
      .tp_block_size = block, .tp_block_nr = size / block, .tp_frame_size = SLOT_BYTES, .tp_frame_nr = slots};
  if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) < 0) return;
  if (setsockopt(fd, SOL_PACKET, PACKET_COPY_THRESH, &copies, sizeof copies) < 0) return;
  if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) < 0) return;
  uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) {
    const struct tpacket_req nothing = {0};
    setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &nothing, sizeof nothing);
    return;
  }
  *ring = (struct ilb_ring){.base = base, .slots = slots};
}

void ilb_ring_close(struct ilb_ring *ring) {
  if (ring->base) munmap(ring->base, (size_t)ring->slots * SLOT_BYTES);
  ring->base = NULL;
}

/* The slot so many places behind the one whose turn it is. */
static struct tpacket2_hdr *slot_at(const struct ilb_ring *ring, uint32_t behind) {
  return (struct tpacket2_hdr *)(ring->base + (size_t)((ring->next + behind) & (ring->slots - 1)) * SLOT_BYTES);
}

static uint32_t status_of(const struct tpacket2_hdr *slot) { return __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE); }

struct tpacket2_hdr *ilb_ring_peek(const struct ilb_ring *ring) {
  struct tpacket2_hdr *slot = slot_at(ring, 0);
  return status_of(slot) & TP_STATUS_USER ? slot : NULL;
}

uint32_t ilb_ring_run(const struct ilb_ring *ring, uint32_t flag, uint32_t limit) {
  const uint32_t wanted = TP_STATUS_USER | flag;
  uint32_t run = 0;
  if (limit > ring->slots) limit = ring->slots;
  while (run < limit && (status_of(slot_at(ring, run)) & wanted) == wanted) run++;
  return run;
}

void ilb_ring_release(struct ilb_ring *ring) {
  __atomic_store_n(&slot_at(ring, 0)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
  ring->next = (ring->next + 1) & (ring->slots - 1);
}
