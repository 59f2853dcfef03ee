/* Between probe-direct.c and probe-frames.c: probes that go out as frames of our own, past the kernel's routing. */
#ifndef ILB_PROBE_FRAMES_H
#define ILB_PROBE_FRAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "probe.h"

/* What a frame of a probe is made of. Ports and numbers in host order. */
struct probe_frame {
  const struct ilb_probe_request *request;
  uint16_t source_port; /* ping: identifier */
  uint16_t sequence;    /* ping alone */
  uint64_t cookie;      /* its lower half is the sequence number of a SYN */
};

/* What an incoming packet says about a probe. Ports and numbers in host order. */
struct probe_answer {
  uint8_t family;
  uint8_t kind;          /* enum ilb_probe_kind of the probe that it answers */
  int error;             /* 0: success, else an errno */
  uint16_t port;         /* the probe's source port; ping: its sequence number */
  uint16_t identifier;   /* ping alone */
  uint32_t acknowledged; /* TCP alone, not of ICMP errors: the acknowledgement number */
  uint64_t cookie;       /* ping alone */
  uint8_t from[16];      /* whom the probe was sent to */
  uint8_t to[16];        /* whom it was sent from */
  uint16_t from_port;    /* TCP and UDP */
  bool is_quoted;        /* an ICMP error tells it */
};

#define PROBE_FRAME_BYTES 128

/* Writes an IP packet: echo request, SYN, empty datagram. Returns its length. RFC 792, 4443, 9293, 768, 791, 8200. */
size_t probe_frame_write(uint8_t out[PROBE_FRAME_BYTES], const struct probe_frame *frame);

/* The reset that ends a connection which the server has accepted. */
size_t probe_frame_reset(uint8_t out[PROBE_FRAME_BYTES], const struct probe_frame *frame);

/* Reads a packet that begins with the IP header. Returns whether it may be the answer to a probe. */
bool probe_answer_read(const uint8_t *packet, size_t bytes, struct probe_answer *out);

/* A packet socket that sees what could be answers, on all interfaces, before any filter of the kernel. -errno. */
int probe_frames_open(void);

/* Sends a packet out of the request's interface to its link address. Returns 0 or -errno. */
int probe_frame_send(int fd, const struct ilb_probe_request *request, const uint8_t *packet, size_t bytes);

#endif
