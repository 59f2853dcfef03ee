/*
 * Between probe.c and the kinds of probes (probe-sockets.c, probe-ping.c, probe-direct.c): what a probe under way is, and
 * how it ends. Nobody else includes this.
 */
#ifndef ILB_PROBE_CORE_H
#define ILB_PROBE_CORE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "probe.h"

#define MOST_PROBES 16384u
#define PROBE_PORTS (ILB_PROBE_LAST_PORT - ILB_PROBE_FIRST_PORT + 1)
#define NOWHERE UINT32_MAX
/* epoll data of the sockets that many probes share; other probes have their slots. */
#define TAG_PING4 (MOST_PROBES + 4)
#define TAG_PING6 (MOST_PROBES + 6)
#define TAG_FRAMES (MOST_PROBES + 8)

struct probe {
  uint8_t kind; /* 0: the slot is free */
  bool is_done; /* its result waits to be fetched */
  uint16_t sequence; /* ping */
  uint16_t source_port; /* of a frame of our own; 0: none */
  int fd; /* -1: none of its own */
  struct ilb_probe_request request;
  uint64_t started_ns; /* monotonic */
  uint64_t sent_ns;    /* wall clock, as the kernel stamps packets */
  uint64_t deadline_ns;
  uint64_t timeout_ns;
  uint64_t cookie;
  uint32_t place; /* in the heap */
  struct ilb_probe_result result;
};

struct ping_socket {
  int fd; /* -1: not open yet */
  bool is_raw;
  uint16_t identifier; /* raw only; else the kernel's */
  uint16_t sequence;
  uint32_t slots[65536]; /* by sequence number */
};

struct ilb_prober {
  int epoll;
  uint32_t capacity;
  uint32_t next_port; /* offset from ILB_PROBE_FIRST_PORT */
  struct ping_socket ping4;
  struct ping_socket ping6;
  int frames; /* packet socket, -1: not open yet */
  uint32_t frame_slots[PROBE_PORTS]; /* TCP and UDP probes in frames of our own, by source port */
  uint32_t heap_size;
  uint32_t done_count;
  uint32_t *heap; /* slots, the one with the nearest deadline first */
  uint32_t *done;
  struct probe *probes;
};

uint64_t probe_clock_ns(clockid_t clock);

/* For results: at least 1, because 0 says unknown. */
uint32_t probe_microseconds(uint64_t ns);

/* When the kernel received the packet (SO_TIMESTAMPNS), wall clock. */
uint64_t probe_stamp_of(struct msghdr *message);

/* What an errno of the system says: negated, the probe could not be made; as it is, the server is not reached. */
int probe_judged(int error);

/* A number that nobody can guess. */
void probe_draw_cookie(struct probe *probe);

/* Where the probe goes. Returns the length of the address. */
socklen_t probe_target_of(const struct ilb_probe_request *request, struct sockaddr_storage *out);

/* Ends the probe; its result waits. @error: 0: success; above: failure; below: it could not be made. */
void probe_finish(struct ilb_prober *p, uint32_t slot, int error, uint32_t rtt_us);

/* The same after an answer: too late is a failure, however late anybody looked. */
void probe_answered(struct ilb_prober *p, uint32_t slot, uint64_t took_ns);

/* probe-sockets.c: TCP and UDP by sockets of the kernel. The prober's slot is filled already. */
void probe_socket_begin(struct ilb_prober *p, uint32_t slot);
/* epoll says that something has happened. */
void probe_socket_ready(struct ilb_prober *p, uint32_t slot);

/* probe-ping.c: ICMP echo, one socket per family. */
void probe_ping_prepare(struct ping_socket *ping);
struct ping_socket *probe_ping_of(struct ilb_prober *p, uint8_t family);
/* Gives a ping its sequence number. There are more of them than probes. */
void probe_ping_number(struct ping_socket *ping, struct probe *probe);
void probe_ping_begin(struct ilb_prober *p, uint32_t slot);
void probe_ping_ready(struct ilb_prober *p, uint8_t family);

/* probe-direct.c: packets of our own, past the kernel's routing. */
void probe_direct_begin(struct ilb_prober *p, uint32_t slot);
void probe_direct_ready(struct ilb_prober *p);

#endif
