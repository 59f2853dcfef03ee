/*
 * Puts segments of one TCP connection together that follow each other in a batch, as the kernel's receive offload (GRO) does, but
 * where a batch leaves: what costs is the way of each frame through the kernel on the other side. Senders that segment by
 * themselves gain, on interfaces without receive offload; where super-packets come in already there is nothing to do.
 * Conditions are those of GRO, and stricter: what the next interface cuts a train into is what came in, byte for byte.
 * Only frames whose checksum the kernel has left to the last interface are taken: nobody needs to verify them first.
 */
#include <arpa/inet.h>
#include <string.h>

#include "train.h"

#define NEEDS_CSUM 1u
#define GSO_NONE 0
#define GSO_TCPV4 1
#define GSO_TCPV6 4
#define MAC_BYTES 14
#define IPV4_BYTES 20
#define IPV6_BYTES 40
#define TCP_BYTES 20
#define TCP_CHECKSUM 16
#define FLAG_PSH 0x08
#define FLAG_ACK 0x10
#define MORE_FRAGMENTS_AND_OFFSET 0x3fff
/* Bytes of layer 3 that a 16-bit length can tell. */
#define MOST_BYTES UINT16_MAX

static uint16_t read16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static void write16(uint8_t *at, uint32_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

static uint32_t read32(const uint8_t *at) { return (uint32_t)read16(at) << 16 | read16(at + 2); }

static uint32_t fold(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

static bool is_ipv6(const struct ilb_segment *segment) { return segment->transport != MAC_BYTES + IPV4_BYTES; }

/* Bytes before the TCP header of a plain IPv4 or IPv6 packet that fills its frame; 0: it is none. */
static uint32_t transport_of(const uint8_t *frame, uint32_t length) {
  const uint8_t *ip = frame + MAC_BYTES;
  const uint16_t type = read16(frame + 12);
  if (length >= MAC_BYTES + IPV4_BYTES + TCP_BYTES && type == 0x0800 && ip[0] == 0x45 && ip[9] == 6 &&
      read16(ip + 2) == length - MAC_BYTES && (read16(ip + 6) & MORE_FRAGMENTS_AND_OFFSET) == 0)
    return MAC_BYTES + IPV4_BYTES;
  if (length >= MAC_BYTES + IPV6_BYTES + TCP_BYTES && type == 0x86dd && ip[0] >> 4 == 6 && ip[6] == 6 &&
      read16(ip + 4) == length - MAC_BYTES - IPV6_BYTES)
    return MAC_BYTES + IPV6_BYTES;
  return 0;
}

bool ilb_segment_read(struct ilb_segment *segment, struct ilb_descriptor *d, uint8_t *memory) {
  if (d->vnet_gso_type != GSO_NONE || (d->vnet_flags & NEEDS_CSUM) == 0) return false;
  if (d->head_length != d->length || (d->flags & ILB_FRAME_VLAN) != 0) return false;
  uint8_t *frame = memory + d->frame;
  const uint32_t transport = transport_of(frame, d->length);
  if (transport == 0 || d->vnet_csum_start != transport || d->vnet_csum_offset != TCP_CHECKSUM) return false;
  const uint8_t *tcp = frame + transport;
  const uint32_t header_bytes = transport + (uint32_t)(tcp[12] >> 4) * 4;
  if ((tcp[12] & 0x0f) != 0 || (tcp[13] & ~FLAG_PSH) != FLAG_ACK) return false;
  if (header_bytes < transport + TCP_BYTES || header_bytes >= d->length) return false;
  *segment = (struct ilb_segment){d, frame, transport, header_bytes, d->length - header_bytes};
  return true;
}

void ilb_train_begin(struct ilb_train *train, const struct ilb_segment *first, struct iovec *parts) {
  const bool pushes = (first->frame[first->transport + 13] & FLAG_PSH) != 0;
  *train = (struct ilb_train){*first, parts, 1, first->payload_bytes, pushes};
}

/* Whether the link and network headers of two segments differ in what a cut sets anew only. */
static bool is_same_path(const struct ilb_segment *a, const struct ilb_segment *b, uint32_t distance) {
  const uint8_t *x = a->frame + MAC_BYTES, *y = b->frame + MAC_BYTES;
  if (memcmp(a->frame, b->frame, MAC_BYTES) != 0) return false;
  if (is_ipv6(a)) return memcmp(x, y, 4) == 0 && memcmp(x + 6, y + 6, IPV6_BYTES - 6) == 0;
  return memcmp(x, y, 2) == 0 && memcmp(x + 6, y + 6, 4) == 0 && memcmp(x + 12, y + 12, 8) == 0 &&
         (uint16_t)(read16(x + 4) + distance) == read16(y + 4);
}

/* The same of their TCP headers: ports, acknowledgement, window, urgent pointer, options. */
static bool is_same_stream(const struct ilb_segment *a, const struct ilb_segment *b) {
  const uint8_t *x = a->frame + a->transport, *y = b->frame + b->transport;
  return memcmp(x, y, 4) == 0 && memcmp(x + 8, y + 8, 5) == 0 && memcmp(x + 14, y + 14, 2) == 0 &&
         memcmp(x + 18, y + 18, a->header_bytes - a->transport - 18) == 0;
}

bool ilb_train_add(struct ilb_train *train, const struct ilb_segment *segment) {
  const struct ilb_segment *first = &train->first;
  if (train->closed || segment->transport != first->transport || segment->header_bytes != first->header_bytes) return false;
  if (segment->payload_bytes > first->payload_bytes) return false;
  if (first->header_bytes - MAC_BYTES + train->payload_bytes + segment->payload_bytes > MOST_BYTES) return false;
  const uint8_t *tcp = segment->frame + segment->transport;
  if (read32(tcp + 4) != read32(first->frame + first->transport + 4) + train->payload_bytes) return false;
  if (!is_same_stream(first, segment) || !is_same_path(first, segment, train->count)) return false;
  train->parts[1 + train->count] = (struct iovec){segment->frame + segment->header_bytes, segment->payload_bytes};
  train->count++;
  train->payload_bytes += segment->payload_bytes;
  /* Only the last segment may be shorter, or ask to be delivered at once. */
  const bool pushes = (tcp[13] & FLAG_PSH) != 0;
  train->closed = pushes || segment->payload_bytes < first->payload_bytes;
  if (pushes) first->frame[first->transport + 13] |= FLAG_PSH;
  return true;
}

void ilb_train_close(struct ilb_train *train) {
  const struct ilb_segment *first = &train->first;
  struct ilb_descriptor *d = first->descriptor;
  if (train->count < 2) return;
  uint8_t *ip = first->frame + MAC_BYTES, *sum = first->frame + first->transport + TCP_CHECKSUM;
  const uint32_t more = train->payload_bytes - first->payload_bytes;
  if (is_ipv6(first)) {
    write16(ip + 4, read16(ip + 4) + more);
  } else {
    const uint32_t was = read16(ip + 2);
    write16(ip + 2, was + more);
    /* RFC 1624, equation 3. */
    write16(ip + 10, ~fold((uint16_t)~read16(ip + 10) + (uint16_t)~was + (was + more)));
  }
  /* The field holds the sum of the pseudo-header, which has the length in it. */
  write16(sum, fold(read16(sum) + more));
  d->vnet_gso_type = is_ipv6(first) ? GSO_TCPV6 : GSO_TCPV4;
  d->vnet_gso_size = (uint16_t)first->payload_bytes;
  d->vnet_hdr_len = (uint16_t)first->header_bytes;
}
