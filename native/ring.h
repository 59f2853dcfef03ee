/* Rings of small frames that the kernel writes and we read without a call. Not part of the ABI. */
#ifndef ILB_RING_H
#define ILB_RING_H

#include <linux/if_packet.h>
#include <stdint.h>

/* One ring; base NULL: there is none. */
struct ilb_ring {
  uint8_t *base;
  uint32_t slots; /* a power of two */
  uint32_t next;
};

/*
 * Gives a packet socket that is not bound yet a ring of about `bytes`. Frames too long for a slot come through the socket's
 * queue, each announced by a slot in its place. Where the kernel refuses, `ring` stays without one and all come through the queue.
 */
void ilb_ring_open(struct ilb_ring *ring, int fd, uint32_t bytes);

void ilb_ring_close(struct ilb_ring *ring);

/* The slot whose turn it is, NULL while the kernel has it. */
struct tpacket2_hdr *ilb_ring_peek(const struct ilb_ring *ring);

/* How many slots from that one on are ours and have the flag, at most `limit`. */
uint32_t ilb_ring_run(const struct ilb_ring *ring, uint32_t flag, uint32_t limit);

/* Gives that slot back; the next one has its turn. */
void ilb_ring_release(struct ilb_ring *ring);

#endif
