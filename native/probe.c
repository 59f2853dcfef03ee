/* Many probes at once, without a thread and without waiting. What a probe is and when is decided elsewhere. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "port.h"
#include "probe-core.h"

#define EVENTS 256
#define AT_ONCE 32
#define PACKET_BYTES 256
/* Room for answers that come while nobody looks. */
#define BUFFER_BYTES (4 << 20)

uint64_t probe_clock_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint32_t probe_microseconds(uint64_t ns) {
  const uint64_t us = ns / 1000;
  return us == 0 ? 1 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* ---- Sockets that many probes share ----------------------------------------------------------------------------- */

static uint64_t stamp_of(struct msghdr *message) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_TIMESTAMPNS) continue;
    struct timespec at;
    memcpy(&at, CMSG_DATA(c), sizeof at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
  }
  return probe_clock_ns(CLOCK_REALTIME);
}

void probe_receive(struct ilb_prober *p, int fd, void (*take)(struct ilb_prober *p, const struct probe_packet *packet)) {
  static _Thread_local uint8_t data[AT_ONCE][PACKET_BYTES];
  union {
    struct cmsghdr align;
    uint8_t bytes[64];
  } control[AT_ONCE];
  struct sockaddr_storage from[AT_ONCE];
  struct iovec parts[AT_ONCE];
  struct mmsghdr messages[AT_ONCE];
  for (uint32_t taken = 0; taken < MOST_PROBES; taken += AT_ONCE) {
    for (int i = 0; i < AT_ONCE; i++) {
      parts[i] = (struct iovec){.iov_base = data[i], .iov_len = PACKET_BYTES};
      messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &parts[i],
                                            .msg_iovlen = 1, .msg_control = &control[i], .msg_controllen = sizeof control[i]};
    }
    const int count = recvmmsg(fd, messages, AT_ONCE, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++) {
      const struct probe_packet packet = {.data = data[i], .bytes = messages[i].msg_len, .from = &from[i],
                                          .stamp_ns = stamp_of(&messages[i].msg_hdr)};
      if (packet.bytes > 0) take(p, &packet);
    }
    if (count < AT_ONCE && (count >= 0 || errno == EAGAIN)) return;
  }
}

void probe_prepare_shared(int fd) {
  const int on = 1;
  const int bytes = BUFFER_BYTES;
  setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

void probe_draw_cookie(struct ilb_prober *p, struct probe *probe) {
  if (p->cookies_left == 0 && getrandom(p->cookies, sizeof p->cookies, GRND_NONBLOCK) == (ssize_t)sizeof p->cookies)
    p->cookies_left = sizeof p->cookies / sizeof *p->cookies;
  probe->cookie = p->cookies_left > 0 ? p->cookies[--p->cookies_left] : probe->started_ns * 0x9e3779b97f4a7c15u;
}

socklen_t probe_target_of(const struct ilb_probe_request *request, struct sockaddr_storage *out) {
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

/* ---- Who is woken when: a binary heap of slots ---------------------------------------------------------------------- */

static void put(struct ilb_prober *p, uint32_t place, uint32_t slot) {
  p->heap[place] = slot;
  p->probes[slot].place = place;
}

static bool is_sooner(const struct ilb_prober *p, uint32_t a, uint32_t b) {
  return p->probes[a].wake_ns < p->probes[b].wake_ns;
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

void probe_wake_at(struct ilb_prober *p, uint32_t slot, uint64_t wake_ns) {
  struct probe *probe = &p->probes[slot];
  probe->wake_ns = wake_ns < probe->deadline_ns ? wake_ns : probe->deadline_ns;
  sift_up(p, probe->place, slot);
  sift_down(p, probe->place, slot);
}

/* ---- Ends ------------------------------------------------------------------------------------------------------- */

/* Lets go of everything but the slot. Closing takes the descriptor out of the epoll set too. */
static void release(struct ilb_prober *p, uint32_t slot) {
  struct probe *probe = &p->probes[slot];
  heap_remove(p, slot);
  if (probe->fd >= 0) close(probe->fd);
  probe->fd = -1;
  if (probe->kind == ILB_PROBE_PING) {
    struct ping_socket *ping = probe_ping_of(p, probe->request.family);
    if (ping->slots[probe->sequence] == slot) ping->slots[probe->sequence] = NOWHERE;
  } else if (probe->source_port != 0) {
    probe_direct_release(p, slot);
  }
}

/* Where a connection comes from; the kernel knows it after a refusal, too. */
static void note_local(const struct probe *probe, struct ilb_probe_result *result) {
  struct sockaddr_storage local = {0};
  socklen_t length = sizeof local;
  if (probe->kind != ILB_PROBE_CONNECT || probe->fd < 0) return;
  if (getsockname(probe->fd, (struct sockaddr *)&local, &length) < 0) return;
  const struct sockaddr_in *v4 = (const struct sockaddr_in *)&local;
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&local;
  if (local.ss_family == AF_INET) memcpy(result->local_address, &v4->sin_addr, 4);
  else memcpy(result->local_address, &v6->sin6_addr, 16);
  result->local_port = ntohs(local.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
}

void probe_finish(struct ilb_prober *p, uint32_t slot, int error, uint32_t rtt_us) {
  struct probe *probe = &p->probes[slot];
  struct ilb_probe_result result = {.slot = slot, .error = error, .rtt_us = rtt_us, .fd = -1};
  note_local(probe, &result);
  const int given_fd = error == 0 && probe->kind == ILB_PROBE_CONNECT ? probe->fd : -1;
  if (given_fd >= 0) {
    epoll_ctl(p->epoll, EPOLL_CTL_DEL, given_fd, NULL);
    probe->fd = -1;
  }
  release(p, slot);
  probe->is_done = true;
  result.fd = given_fd;
  probe->result = result;
  p->done[p->done_count++] = slot;
}

int probe_judged(int error) {
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

void probe_answered(struct ilb_prober *p, uint32_t slot, uint64_t took_ns) {
  if (took_ns > p->probes[slot].timeout_ns) return probe_finish(p, slot, ETIMEDOUT, 0);
  probe_finish(p, slot, 0, probe_microseconds(took_ns));
}

/* ---- The interface ---------------------------------------------------------------------------------------------- */

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
  probe_ping_prepare(&p->ping4);
  probe_ping_prepare(&p->ping6);
  p->frames = p->routed4 = p->routed6 = -1;
  for (uint32_t offset = 0; offset < PROBE_PORTS; offset++) p->port_slots[offset] = NOWHERE;
  if (p->epoll >= 0 && p->heap && p->done && p->probes) return ilb_handle(p);
  ilb_prober_free(p);
  return error;
}

/* Which sort of packet goes out. */
static void begin(struct ilb_prober *p, uint32_t slot) {
  const struct ilb_probe_request *request = &p->probes[slot].request;
  const bool is_routed_tcp = request->kind == ILB_PROBE_TCP && request->has_source;
  if ((request->interface != 0 || is_routed_tcp) && (probe_direct_begin(p, slot) == 0 || !is_routed_tcp)) return;
  if (request->kind == ILB_PROBE_PING) probe_ping_begin(p, slot);
  else probe_socket_begin(p, slot);
}

int ilb_prober_submit(struct ilb_prober *p, const struct ilb_probe_request *requests, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    if (requests[i].slot >= p->capacity || p->probes[requests[i].slot].kind != 0) return -EINVAL;
  for (uint32_t i = 0; i < count; i++) {
    const struct ilb_probe_request *request = &requests[i];
    struct probe *probe = &p->probes[request->slot];
    const uint64_t now_ns = probe_clock_ns(CLOCK_MONOTONIC);
    *probe = (struct probe){.kind = request->kind, .request = *request, .fd = -1, .started_ns = now_ns,
                            .timeout_ns = (uint64_t)request->timeout_ms * 1000000u, .place = NOWHERE};
    probe->deadline_ns = probe->wake_ns = now_ns + probe->timeout_ns;
    sift_up(p, p->heap_size++, request->slot);
    begin(p, request->slot);
  }
  return 0;
}

int ilb_prober_cancel(struct ilb_prober *p, uint32_t slot) {
  if (slot >= p->capacity) return -EINVAL;
  struct probe *probe = &p->probes[slot];
  if (probe->kind == 0) return 0;
  release(p, slot);
  if (probe->is_done) {
    if (probe->result.fd >= 0) close(probe->result.fd);
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
      if (tag == TAG_PING4) probe_ping_ready(p, 4);
      else if (tag == TAG_PING6) probe_ping_ready(p, 6);
      else if (tag == TAG_FRAMES) probe_direct_ready(p);
      else probe_socket_ready(p, tag);
    }
    if (count < EVENTS) return;
  }
}

/* After everything that has come in: who looks in late takes nobody for dead that has answered in time. */
static void expire(struct ilb_prober *p) {
  const uint64_t now_ns = probe_clock_ns(CLOCK_MONOTONIC);
  while (p->heap_size > 0 && p->probes[p->heap[0]].wake_ns <= now_ns) {
    const uint32_t slot = p->heap[0];
    if (p->probes[slot].deadline_ns > now_ns) probe_direct_repeat(p, slot);
    else probe_finish(p, slot, p->probes[slot].kind == ILB_PROBE_UDP ? 0 : ETIMEDOUT, 0);
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
    for (uint32_t slot = 0; slot < p->capacity; slot++) {
      const struct probe *probe = &p->probes[slot];
      const int fd = probe->is_done ? probe->result.fd : probe->fd;
      if (probe->kind != 0 && fd >= 0) close(fd);
    }
  const int shared[] = {p->ping4.fd, p->ping6.fd, p->frames, p->routed4, p->routed6};
  for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
    if (shared[i] >= 0) close(shared[i]);
  if (p->epoll >= 0) close(p->epoll);
  free(p->heap);
  free(p->done);
  free(p->probes);
  free(p);
  return 0;
}
