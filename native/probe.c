/* Many probes at once, without a thread and without waiting. What a probe is and when is decided elsewhere. */
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "port.h"
#include "probe-frames.h"
#include "probe.h"

#define MOST_PROBES 16384u
#define PROBE_PORTS (ILB_PROBE_LAST_PORT - ILB_PROBE_FIRST_PORT + 1)
/* Room for replies that come while nobody looks. */
#define PING_BUFFER_BYTES (4 << 20)
#define EVENTS 256
#define NOWHERE UINT32_MAX
/* epoll data of the two ping sockets; probes have their slots. */
#define TAG_PING4 (MOST_PROBES + 4)
#define TAG_PING6 (MOST_PROBES + 6)
#define TAG_FRAMES (MOST_PROBES + 8)

#ifndef SOL_RAW
#define SOL_RAW 255
#endif
#define ICMP_FILTER_OPTION 1 /* linux/icmp.h, which cannot stand beside netinet/ip_icmp.h */

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

static uint64_t clock_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint32_t microseconds(uint64_t ns) {
  const uint64_t us = ns / 1000;
  return us == 0 ? 1 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* ---- Deadlines: a binary heap of slots -------------------------------------------------------------------------- */

static void put(struct ilb_prober *p, uint32_t place, uint32_t slot) {
  p->heap[place] = slot;
  p->probes[slot].place = place;
}

static bool is_sooner(const struct ilb_prober *p, uint32_t a, uint32_t b) {
  return p->probes[a].deadline_ns < p->probes[b].deadline_ns;
}

static void sift_up(struct ilb_prober *p, uint32_t place, uint32_t slot) {
  while (place > 0) {
    const uint32_t parent = (place - 1) / 2;
    if (!is_sooner(p, slot, p->heap[parent])) break;
    put(p, place, p->heap[parent]);
    place = parent;
  }
  put(p, place, slot);
}

static void sift_down(struct ilb_prober *p, uint32_t place, uint32_t slot) {
  for (;;) {
    uint32_t child = place * 2 + 1;
    if (child >= p->heap_size) break;
    if (child + 1 < p->heap_size && is_sooner(p, p->heap[child + 1], p->heap[child])) child++;
    if (!is_sooner(p, p->heap[child], slot)) break;
    put(p, place, p->heap[child]);
    place = child;
  }
  put(p, place, slot);
}

static void heap_remove(struct ilb_prober *p, uint32_t slot) {
  const uint32_t place = p->probes[slot].place;
  if (place == NOWHERE) return;
  p->probes[slot].place = NOWHERE;
  const uint32_t last = p->heap[--p->heap_size];
  if (last == slot) return;
  sift_up(p, place, last);
  sift_down(p, p->probes[last].place, last);
}

/* ---- Ends ------------------------------------------------------------------------------------------------------- */

/* Lets go of everything but the slot. Closing takes the descriptor out of the epoll set too. */
static void release(struct ilb_prober *p, uint32_t slot) {
  struct probe *probe = &p->probes[slot];
  heap_remove(p, slot);
  if (probe->fd >= 0) close(probe->fd);
  probe->fd = -1;
  if (probe->kind == ILB_PROBE_PING) {
    struct ping_socket *ping = probe->request.family == 4 ? &p->ping4 : &p->ping6;
    if (ping->slots[probe->sequence] == slot) ping->slots[probe->sequence] = NOWHERE;
  } else if (probe->source_port != 0) {
    p->frame_slots[probe->source_port - ILB_PROBE_FIRST_PORT] = NOWHERE;
  }
}

static void finish(struct ilb_prober *p, uint32_t slot, int error, uint32_t rtt_us) {
  struct probe *probe = &p->probes[slot];
  release(p, slot);
  probe->is_done = true;
  probe->result = (struct ilb_probe_result){.slot = slot, .error = error, .rtt_us = rtt_us};
  p->done[p->done_count++] = slot;
}

/* What an errno of the system says about the probe: that it could not be made, or that the server is not reached. */
static int judged(int error) {
  switch (error) {
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
    case EADDRINUSE:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
    case EAGAIN:
      return -error;
    default:
      return error;
  }
}

/* ---- TCP and UDP ------------------------------------------------------------------------------------------------ */

static socklen_t target_of(const struct ilb_probe_request *request, struct sockaddr_storage *out) {
  memset(out, 0, sizeof *out);
  if (request->family == 4) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    v4->sin_family = AF_INET;
    v4->sin_port = htons(request->port);
    memcpy(&v4->sin_addr, request->address, 4);
    return sizeof *v4;
  }
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(request->port);
  memcpy(&v6->sin6_addr, request->address, 16);
  return sizeof *v6;
}

/* Binds to the next of our ports that nobody has. */
static int bind_next_port(struct ilb_prober *p, int fd, int family) {
  for (uint32_t tried = 0; tried < PROBE_PORTS; tried++) {
    const uint16_t port = (uint16_t)(ILB_PROBE_FIRST_PORT + p->next_port);
    p->next_port = (p->next_port + 1) % PROBE_PORTS;
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    const int bound = family == 4 ? bind(fd, (struct sockaddr *)&any4, sizeof any4)
                                  : bind(fd, (struct sockaddr *)&any6, sizeof any6);
    if (bound == 0) return 0;
    if (errno != EADDRINUSE && errno != EACCES) return -errno;
  }
  return -EADDRINUSE;
}

/* A bound socket. A connection that ends leaves nothing behind: it is reset, and its port can be had again at once. */
static int open_socket(struct ilb_prober *p, const struct ilb_probe_request *request) {
  const bool is_tcp = request->kind == ILB_PROBE_TCP;
  const int family = request->family == 4 ? AF_INET : AF_INET6;
  const int fd = socket(family, (is_tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno == EACCES || errno == EPERM ? -ENOBUFS : -errno;
  const int on = 1;
  const struct linger reset = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (is_tcp) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  const int bound = bind_next_port(p, fd, request->family);
  if (bound == 0) return fd;
  close(fd);
  return bound;
}

/* The same port to the same server may be in use still; then the next one is not. */
static int open_connected(struct ilb_prober *p, const struct ilb_probe_request *request) {
  struct sockaddr_storage target;
  const socklen_t length = target_of(request, &target);
  for (int attempt = 0; attempt < 8; attempt++) {
    const int fd = open_socket(p, request);
    if (fd < 0) return fd;
    if (connect(fd, (struct sockaddr *)&target, length) == 0 || errno == EINPROGRESS) return fd;
    const int error = errno;
    close(fd);
    if (error != EADDRNOTAVAIL && error != EADDRINUSE) return -error;
  }
  return -EADDRNOTAVAIL;
}

static void begin_socket(struct ilb_prober *p, const struct ilb_probe_request *request) {
  struct probe *probe = &p->probes[request->slot];
  const int fd = open_connected(p, request);
  if (fd < 0) return finish(p, request->slot, judged(-fd), 0);
  probe->fd = fd;
  struct epoll_event event = {.events = request->kind == ILB_PROBE_TCP ? EPOLLOUT : 0, .data.u32 = request->slot};
  if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &event) < 0) return finish(p, request->slot, -errno, 0);
  if (request->kind == ILB_PROBE_UDP && send(fd, NULL, 0, 0) < 0) finish(p, request->slot, judged(errno), 0);
}

static void tcp_ready(struct ilb_prober *p, uint32_t slot) {
  const struct probe *probe = &p->probes[slot];
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &error, &length);
  /* A connection that has been reset since was established: before, a reset is a refusal. */
  if (error != 0 && error != ECONNRESET && error != EPIPE) return finish(p, slot, judged(error), 0);
  struct tcp_info info = {0};
  length = sizeof info;
  const bool is_known = getsockopt(probe->fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 && info.tcpi_rtt > 0;
  const uint64_t took_ns = is_known ? (uint64_t)info.tcpi_rtt * 1000 : clock_ns(CLOCK_MONOTONIC) - probe->started_ns;
  if (is_known && took_ns > probe->timeout_ns) return finish(p, slot, ETIMEDOUT, 0);
  finish(p, slot, 0, microseconds(took_ns));
}

static void udp_ready(struct ilb_prober *p, uint32_t slot) {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(p->probes[slot].fd, SOL_SOCKET, SO_ERROR, &error, &length);
  /* Nothing but a port unreachable says that the port is closed. */
  if (error == ECONNREFUSED) finish(p, slot, error, 0);
}

/* ---- ICMP echo: one socket per family --------------------------------------------------------------------------- */

struct echo {
  uint8_t type;
  uint8_t code;
  uint16_t checksum;
  uint16_t identifier;
  uint16_t sequence;
  uint64_t cookie;
};
_Static_assert(sizeof(struct echo) == 16, "as on the wire");

/* RFC 1071. */
static uint16_t internet_checksum(const void *data, size_t bytes) {
  const uint8_t *at = data;
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < bytes; i += 2) sum += (uint32_t)at[i] << 8 | at[i + 1];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons((uint16_t)~sum);
}

static void only_replies(int fd, bool is_raw, int family) {
  if (!is_raw) return;
  if (family == 4) {
    const uint32_t all_but_replies = ~(1u << ICMP_ECHOREPLY);
    setsockopt(fd, SOL_RAW, ICMP_FILTER_OPTION, &all_but_replies, sizeof all_but_replies);
    return;
  }
  struct icmp6_filter filter;
  ICMP6_FILTER_SETBLOCKALL(&filter);
  ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &filter);
  setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter);
}

/* A datagram socket where the system lets this process have one (net.ipv4.ping_group_range), else a raw one. */
static int open_ping(struct ilb_prober *p, struct ping_socket *ping, int family) {
  if (ping->fd >= 0) return 0;
  const int domain = family == 4 ? AF_INET : AF_INET6;
  const int protocol = family == 4 ? (int)IPPROTO_ICMP : (int)IPPROTO_ICMPV6;
  bool is_raw = false;
  int fd = socket(domain, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  if (fd < 0) {
    is_raw = true;
    fd = socket(domain, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  }
  if (fd < 0) return -errno;
  const int on = 1;
  const int bytes = PING_BUFFER_BYTES;
  setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  only_replies(fd, is_raw, family);
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = family == 4 ? TAG_PING4 : TAG_PING6};
  if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
    const int error = -errno;
    close(fd);
    return error;
  }
  ping->fd = fd;
  ping->is_raw = is_raw;
  return 0;
}

/* Gives a ping its sequence number and its cookie. There are more sequence numbers than probes. */
static void number_ping(struct ping_socket *ping, struct probe *probe) {
  do probe->sequence = ping->sequence++;
  while (ping->slots[probe->sequence] != NOWHERE);
  ping->slots[probe->sequence] = probe->request.slot;
}

static void draw_cookie(struct probe *probe) {
  if (getrandom(&probe->cookie, sizeof probe->cookie, GRND_NONBLOCK) < 0) probe->cookie = probe->started_ns * 0x9e3779b97f4a7c15u;
}

static void begin_ping(struct ilb_prober *p, const struct ilb_probe_request *request) {
  const uint32_t slot = request->slot;
  struct probe *probe = &p->probes[slot];
  struct ping_socket *ping = request->family == 4 ? &p->ping4 : &p->ping6;
  const int opened = open_ping(p, ping, request->family);
  if (opened < 0) return finish(p, slot, opened, 0);
  number_ping(ping, probe);
  draw_cookie(probe);
  struct echo echo = {
      .type = request->family == 4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST,
      .identifier = htons(ping->identifier),
      .sequence = htons(probe->sequence),
      .cookie = probe->cookie,
  };
  if (request->family == 4) echo.checksum = internet_checksum(&echo, sizeof echo);
  struct sockaddr_storage target;
  struct ilb_probe_request portless = *request;
  portless.port = 0;
  const socklen_t length = target_of(&portless, &target);
  probe->sent_ns = clock_ns(CLOCK_REALTIME);
  if (sendto(ping->fd, &echo, sizeof echo, 0, (struct sockaddr *)&target, length) < 0) finish(p, slot, judged(errno), 0);
}

/* When the kernel received the packet, wall clock. */
static uint64_t stamp_of(struct msghdr *message) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_TIMESTAMPNS) continue;
    struct timespec at;
    memcpy(&at, CMSG_DATA(c), sizeof at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
  }
  return clock_ns(CLOCK_REALTIME);
}

static void take_reply(struct ilb_prober *p, struct ping_socket *ping, int family, const uint8_t *data, size_t bytes,
                       const struct sockaddr_storage *from, uint64_t stamp_ns) {
  if (family == 4 && ping->is_raw) {
    if (bytes < sizeof(struct iphdr)) return;
    const size_t header = (size_t)(data[0] & 15) * 4;
    if (bytes < header) return;
    data += header;
    bytes -= header;
  }
  struct echo echo;
  if (bytes < sizeof echo) return;
  memcpy(&echo, data, sizeof echo);
  if (echo.type != (family == 4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY)) return;
  if (ping->is_raw && echo.identifier != htons(ping->identifier)) return;
  const uint32_t slot = ping->slots[ntohs(echo.sequence)];
  if (slot == NOWHERE) return;
  const struct probe *probe = &p->probes[slot];
  const void *address = family == 4 ? (const void *)&((const struct sockaddr_in *)from)->sin_addr
                                    : (const void *)&((const struct sockaddr_in6 *)from)->sin6_addr;
  if (echo.cookie != probe->cookie || memcmp(address, probe->request.address, family == 4 ? 4 : 16) != 0) return;
  const uint64_t took_ns = stamp_ns > probe->sent_ns ? stamp_ns - probe->sent_ns : 0;
  if (took_ns > probe->timeout_ns) return finish(p, slot, ETIMEDOUT, 0);
  finish(p, slot, 0, microseconds(took_ns));
}

static void ping_ready(struct ilb_prober *p, struct ping_socket *ping, int family) {
  uint8_t data[256];
  union {
    struct cmsghdr align;
    uint8_t bytes[128];
  } control;
  /* As many at most as can be ours; strangers' replies do not hold us up. */
  for (uint32_t i = 0; i < MOST_PROBES; i++) {
    struct sockaddr_storage from;
    struct iovec part = {.iov_base = data, .iov_len = sizeof data};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = &control, .msg_controllen = sizeof control};
    const ssize_t bytes = recvmsg(ping->fd, &message, 0);
    if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (bytes > 0) take_reply(p, ping, family, data, (size_t)bytes, &from, stamp_of(&message));
  }
}

/* ---- Frames of our own, past the kernel's routing (probe-frames.c) ------------------------------------------------ */

static int open_frames(struct ilb_prober *p) {
  if (p->frames >= 0) return 0;
  const int fd = probe_frames_open();
  if (fd < 0) return fd;
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = TAG_FRAMES};
  if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
    const int error = -errno;
    close(fd);
    return error;
  }
  p->frames = fd;
  return 0;
}

/* A source port that none of these probes has. Sockets may have it: the server's address tells the answers apart. */
static int take_frame_port(struct ilb_prober *p, uint32_t slot) {
  for (uint32_t tried = 0; tried < PROBE_PORTS; tried++) {
    const uint32_t offset = p->next_port;
    p->next_port = (p->next_port + 1) % PROBE_PORTS;
    if (p->frame_slots[offset] != NOWHERE) continue;
    p->frame_slots[offset] = slot;
    p->probes[slot].source_port = (uint16_t)(ILB_PROBE_FIRST_PORT + offset);
    return 0;
  }
  return -EADDRINUSE;
}

static struct probe_frame frame_of(const struct ilb_prober *p, const struct probe *probe) {
  const struct ping_socket *ping = probe->request.family == 4 ? &p->ping4 : &p->ping6;
  const bool is_ping = probe->kind == ILB_PROBE_PING;
  return (struct probe_frame){.request = &probe->request, .sequence = probe->sequence, .cookie = probe->cookie,
                              .source_port = is_ping ? ping->identifier : probe->source_port};
}

static void begin_frame(struct ilb_prober *p, uint32_t slot) {
  struct probe *probe = &p->probes[slot];
  int error = open_frames(p);
  draw_cookie(probe);
  if (probe->kind == ILB_PROBE_PING) number_ping(probe->request.family == 4 ? &p->ping4 : &p->ping6, probe);
  else if (error == 0) error = take_frame_port(p, slot);
  if (error < 0) return finish(p, slot, error, 0);
  uint8_t packet[PROBE_FRAME_BYTES];
  const struct probe_frame frame = frame_of(p, probe);
  const size_t bytes = probe_frame_write(packet, &frame);
  probe->sent_ns = clock_ns(CLOCK_REALTIME);
  error = probe_frame_send(p->frames, &probe->request, packet, bytes);
  if (error < 0) finish(p, slot, judged(-error), 0);
}

/* The probe that an answer is for, NOWHERE for none: everything that was sent must come back as it was. */
static uint32_t slot_of(const struct ilb_prober *p, const struct probe_answer *answer) {
  const struct ping_socket *ping = answer->family == 4 ? &p->ping4 : &p->ping6;
  const bool is_ping = answer->kind == ILB_PROBE_PING;
  if (!is_ping && (answer->port < ILB_PROBE_FIRST_PORT || answer->port > ILB_PROBE_LAST_PORT)) return NOWHERE;
  const uint32_t slot = is_ping ? ping->slots[answer->port] : p->frame_slots[answer->port - ILB_PROBE_FIRST_PORT];
  if (slot == NOWHERE) return NOWHERE;
  const struct probe *probe = &p->probes[slot];
  const size_t length = answer->family == 4 ? 4 : 16;
  if (probe->kind != answer->kind || probe->request.family != answer->family || probe->request.interface == 0) return NOWHERE;
  if (memcmp(probe->request.address, answer->from, length) != 0 || memcmp(probe->request.source, answer->to, length) != 0)
    return NOWHERE;
  if (is_ping) return answer->identifier == ping->identifier && answer->cookie == probe->cookie ? slot : NOWHERE;
  if (answer->from_port != probe->request.port) return NOWHERE;
  if (answer->kind == ILB_PROBE_UDP) return answer->error == ECONNREFUSED ? slot : NOWHERE;
  return answer->is_quoted || answer->acknowledged == (uint32_t)probe->cookie + 1 ? slot : NOWHERE;
}

static void take_answer(struct ilb_prober *p, const struct probe_answer *answer, uint64_t stamp_ns) {
  const uint32_t slot = slot_of(p, answer);
  if (slot == NOWHERE) return;
  const struct probe *probe = &p->probes[slot];
  if (answer->error != 0) return finish(p, slot, answer->error, 0);
  if (answer->kind == ILB_PROBE_TCP) {
    uint8_t packet[PROBE_FRAME_BYTES];
    const struct probe_frame frame = frame_of(p, probe);
    probe_frame_send(p->frames, &probe->request, packet, probe_frame_reset(packet, &frame));
  }
  const uint64_t took_ns = stamp_ns > probe->sent_ns ? stamp_ns - probe->sent_ns : 0;
  if (took_ns > probe->timeout_ns) return finish(p, slot, ETIMEDOUT, 0);
  finish(p, slot, 0, microseconds(took_ns));
}

static void frames_ready(struct ilb_prober *p) {
  uint8_t data[256];
  union {
    struct cmsghdr align;
    uint8_t bytes[128];
  } control;
  for (uint32_t i = 0; i < MOST_PROBES; i++) {
    struct iovec part = {.iov_base = data, .iov_len = sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    const ssize_t bytes = recvmsg(p->frames, &message, 0);
    if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    struct probe_answer answer;
    if (bytes > 0 && probe_answer_read(data, (size_t)bytes, &answer)) take_answer(p, &answer, stamp_of(&message));
  }
}

/* ---- The interface ---------------------------------------------------------------------------------------------- */

static void prepare_ping(struct ping_socket *ping) {
  ping->fd = -1;
  if (getrandom(&ping->identifier, sizeof ping->identifier, GRND_NONBLOCK) < 0) ping->identifier = (uint16_t)getpid();
  if (getrandom(&ping->sequence, sizeof ping->sequence, GRND_NONBLOCK) < 0) ping->sequence = 0;
  for (size_t i = 0; i < 65536; i++) ping->slots[i] = NOWHERE;
}

int64_t ilb_prober_create(uint32_t capacity) {
  if (capacity == 0 || capacity > MOST_PROBES) return -EINVAL;
  struct ilb_prober *p = calloc(1, sizeof *p);
  if (p == NULL) return -ENOMEM;
  p->capacity = capacity;
  p->heap = calloc(capacity, sizeof *p->heap);
  p->done = calloc(capacity, sizeof *p->done);
  p->probes = calloc(capacity, sizeof *p->probes);
  p->epoll = epoll_create1(EPOLL_CLOEXEC);
  const int error = p->epoll < 0 ? -errno : -ENOMEM;
  prepare_ping(&p->ping4);
  prepare_ping(&p->ping6);
  p->frames = -1;
  for (uint32_t offset = 0; offset < PROBE_PORTS; offset++) p->frame_slots[offset] = NOWHERE;
  if (p->epoll >= 0 && p->heap && p->done && p->probes) return ilb_handle(p);
  ilb_prober_free(p);
  return error;
}

int ilb_prober_submit(struct ilb_prober *p, const struct ilb_probe_request *requests, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    if (requests[i].slot >= p->capacity || p->probes[requests[i].slot].kind != 0) return -EINVAL;
  for (uint32_t i = 0; i < count; i++) {
    const struct ilb_probe_request *request = &requests[i];
    struct probe *probe = &p->probes[request->slot];
    const uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    *probe = (struct probe){.kind = request->kind, .request = *request, .fd = -1, .started_ns = now_ns,
                            .timeout_ns = (uint64_t)request->timeout_ms * 1000000u, .place = NOWHERE};
    probe->deadline_ns = now_ns + probe->timeout_ns;
    sift_up(p, p->heap_size++, request->slot);
    if (request->interface != 0) begin_frame(p, request->slot);
    else if (request->kind == ILB_PROBE_PING) begin_ping(p, request);
    else begin_socket(p, request);
  }
  return 0;
}

int ilb_prober_cancel(struct ilb_prober *p, uint32_t slot) {
  if (slot >= p->capacity) return -EINVAL;
  struct probe *probe = &p->probes[slot];
  if (probe->kind == 0) return 0;
  release(p, slot);
  if (probe->is_done) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->done_count; i++)
      if (p->done[i] != slot) p->done[kept++] = p->done[i];
    p->done_count = kept;
  }
  probe->kind = 0;
  return 0;
}

static void take_events(struct ilb_prober *p) {
  struct epoll_event events[EVENTS];
  for (uint32_t round = 0; round <= p->capacity / EVENTS; round++) {
    const int count = epoll_wait(p->epoll, events, EVENTS, 0);
    for (int i = 0; i < count; i++) {
      const uint32_t tag = events[i].data.u32;
      if (tag == TAG_PING4) ping_ready(p, &p->ping4, 4);
      else if (tag == TAG_PING6) ping_ready(p, &p->ping6, 6);
      else if (tag == TAG_FRAMES) frames_ready(p);
      else if (p->probes[tag].kind == ILB_PROBE_TCP) tcp_ready(p, tag);
      else udp_ready(p, tag);
    }
    if (count < EVENTS) return;
  }
}

/* After everything that has come in: who looks in late takes nobody for dead that has answered in time. */
static void expire(struct ilb_prober *p) {
  const uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
  while (p->heap_size > 0 && p->probes[p->heap[0]].deadline_ns <= now_ns) {
    const uint32_t slot = p->heap[0];
    finish(p, slot, p->probes[slot].kind == ILB_PROBE_UDP ? 0 : ETIMEDOUT, 0);
  }
}

int ilb_prober_poll(struct ilb_prober *p, struct ilb_probe_result *results) {
  take_events(p);
  expire(p);
  const uint32_t count = p->done_count;
  for (uint32_t i = 0; i < count; i++) {
    struct probe *probe = &p->probes[p->done[i]];
    results[i] = probe->result;
    probe->kind = 0;
  }
  p->done_count = 0;
  return (int)count;
}

int ilb_prober_free(struct ilb_prober *p) {
  if (p->probes != NULL)
    for (uint32_t slot = 0; slot < p->capacity; slot++)
      if (p->probes[slot].kind != 0 && p->probes[slot].fd >= 0) close(p->probes[slot].fd);
  if (p->ping4.fd >= 0) close(p->ping4.fd);
  if (p->ping6.fd >= 0) close(p->ping6.fd);
  if (p->frames >= 0) close(p->frames);
  if (p->epoll >= 0) close(p->epoll);
  free(p->heap);
  free(p->done);
  free(p->probes);
  free(p);
  return 0;
}
