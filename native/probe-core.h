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
  uint16_t source_port; /* of a packet of our own; 0: none */
  bool is_repeated; /* its SYN has been sent more than once */
  int fd; /* -1: none of its own */
  struct ilb_probe_request request;
  uint64_t started_ns; /* monotonic */
  uint64_t sent_ns;    /* wall clock, as the kernel stamps packets */
  uint64_t deadline_ns;
  uint64_t wake_ns; /* deadline, or before that the time to repeat a SYN */
  uint64_t timeout_ns;
  uint64_t cookie;
  uint32_t place; /* in the heap */
  uint32_t next_of_port; /* another probe from the same source port, NOWHERE: none */
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
  int frames; /* packet socket that sees all answers to packets of our own, -1: not open yet */
  int routed4; /* raw sockets that send such packets by the kernel's routing, -1: not open yet */
  int routed6;
  uint32_t port_slots[PROBE_PORTS]; /* TCP and UDP probes in packets of our own, by source port; lists */
  uint32_t cookies_left;
  uint64_t cookies[64];
  uint32_t heap_size;
  uint32_t done_count;
  uint32_t *heap; /* slots, the one that is to be woken first in front */
  uint32_t *done;
  struct probe *probes;
};

uint64_t probe_clock_ns(clockid_t clock);

/* For results: at least 1, because 0 says unknown. */
uint32_t probe_microseconds(uint64_t ns);

/* What came in on a socket. */
struct probe_packet {
  const uint8_t *data; /* its first 256 bytes at most */
  size_t bytes;
  const struct sockaddr_storage *from;
  uint64_t stamp_ns; /* when the kernel received it (SO_TIMESTAMPNS), wall clock */
};

/* Hands over what waits on a socket that many probes share, MOST_PROBES packets at most: strangers' do not hold us up. */
void probe_receive(struct ilb_prober *p, int fd, void (*take)(struct ilb_prober *p, const struct probe_packet *packet));

/* Room for answers that come while nobody looks, and their times. */
void probe_prepare_shared(int fd);

/* What an errno of the system says: negated, the probe could not be made; as it is, the server is not reached. */
int probe_judged(int error);

/* A number that nobody can guess. */
void probe_draw_cookie(struct ilb_prober *p, struct probe *probe);

/* Where the probe goes. Returns the length of the address. */
socklen_t probe_target_of(const struct ilb_probe_request *request, struct sockaddr_storage *out);

/* Ends the probe; its result waits. @error: 0: success; above: failure; below: it could not be made. */
void probe_finish(struct ilb_prober *p, uint32_t slot, int error, uint32_t rtt_us);

/* The same after an answer: too late is a failure, however late anybody looked. */
void probe_answered(struct ilb_prober *p, uint32_t slot, uint64_t took_ns);

/* Wakes the probe at that time, unless its deadline comes first. */
void probe_wake_at(struct ilb_prober *p, uint32_t slot, uint64_t wake_ns);

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

/* probe-direct.c: packets of our own, past the kernel's routing or, of TCP, by it. -EPERM: this process may not. */
int probe_direct_begin(struct ilb_prober *p, uint32_t slot);
/* It is time to repeat a SYN. */
void probe_direct_repeat(struct ilb_prober *p, uint32_t slot);
void probe_direct_ready(struct ilb_prober *p);
/* Gives the source port back. */
void probe_direct_release(struct ilb_prober *p, uint32_t slot);

#endif
