/*
 * Probes that go out as packets of our own; what they are made of is in probe-frames.c. Two ways: as frames past the
 * kernel's routing, for servers that answer for an address which the box reaches elsewhere; and by the kernel's routing,
 * for TCP, where a packet out and a packet in take the place of a socket with all that belongs to it. The kernel resets
 * connections that were accepted in the latter way by itself, because it knows nothing of them.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "probe-core.h"
#include "probe-frames.h"

/* A SYN without an answer is repeated after that long, then after twice the time, and so on (RFC 6298 2.1 and 5.5). */
#define FIRST_REPEAT_NS 1000000000u

static int open_frames(struct ilb_prober *p) {
  if (p->frames >= 0) return 0;
  const int fd = probe_frames_open();
  if (fd < 0) return fd;
  probe_prepare_shared(fd);
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = TAG_FRAMES};
  if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
    const int error = -errno;
    close(fd);
    return error;
  }
  p->frames = fd;
  return 0;
}

/* Sends whole IP packets; what comes back is seen by the packet socket. */
static int open_routed(int *fd, uint8_t family) {
  if (*fd < 0) *fd = socket(family == 4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW);
  return *fd < 0 ? -errno : 0;
}

static int *routed_of(struct ilb_prober *p, const struct probe *probe) {
  return probe->request.family == 4 ? &p->routed4 : &p->routed6;
}

static bool is_same_flow(const struct ilb_probe_request *a, const struct ilb_probe_request *b) {
  return a->port == b->port && a->family == b->family && a->kind == b->kind && memcmp(a->address, b->address, sizeof a->address) == 0;
}

/*
 * The next source port that no probe of the same kind to the same server has. Sockets may have it: the server's address
 * and the numbers in the answer tell them apart.
 */
static int take_port(struct ilb_prober *p, uint32_t slot) {
  struct probe *probe = &p->probes[slot];
  for (uint32_t tried = 0; tried < PROBE_PORTS; tried++) {
    const uint32_t offset = p->next_port;
    p->next_port = (p->next_port + 1) % PROBE_PORTS;
    uint32_t other = p->port_slots[offset];
    while (other != NOWHERE && !is_same_flow(&p->probes[other].request, &probe->request)) other = p->probes[other].next_of_port;
    if (other != NOWHERE) continue;
    probe->next_of_port = p->port_slots[offset];
    p->port_slots[offset] = slot;
    probe->source_port = (uint16_t)(ILB_PROBE_FIRST_PORT + offset);
    return 0;
  }
  return -EADDRINUSE;
}

void probe_direct_release(struct ilb_prober *p, uint32_t slot) {
  struct probe *probe = &p->probes[slot];
  uint32_t *link = &p->port_slots[probe->source_port - ILB_PROBE_FIRST_PORT];
  while (*link != slot) link = &p->probes[*link].next_of_port;
  *link = probe->next_of_port;
  probe->source_port = 0;
}

static struct probe_frame frame_of(struct ilb_prober *p, const struct probe *probe) {
  const bool is_ping = probe->kind == ILB_PROBE_PING;
  return (struct probe_frame){.request = &probe->request, .sequence = probe->sequence, .cookie = probe->cookie,
                              .source_port = is_ping ? probe_ping_of(p, probe->request.family)->identifier : probe->source_port};
}

/* Returns 0 or -errno. */
static int send_packet(struct ilb_prober *p, const struct probe *probe) {
  uint8_t packet[PROBE_FRAME_BYTES];
  const struct probe_frame frame = frame_of(p, probe);
  const size_t bytes = probe_frame_write(packet, &frame);
  if (probe->request.interface != 0) return probe_frame_send(p->frames, &probe->request, packet, bytes);
  struct sockaddr_storage target;
  struct ilb_probe_request portless = probe->request;
  portless.port = 0;
  const socklen_t length = probe_target_of(&portless, &target);
  return sendto(*routed_of(p, probe), packet, bytes, 0, (const struct sockaddr *)&target, length) < 0 ? -errno : 0;
}

/* The first repetition comes a second after the start, the next ones at 3 s, 7 s, 15 s. */
static void plan_repetition(struct ilb_prober *p, uint32_t slot, uint64_t now_ns) {
  const struct probe *probe = &p->probes[slot];
  if (probe->kind == ILB_PROBE_TCP) probe_wake_at(p, slot, now_ns + (now_ns - probe->started_ns) + FIRST_REPEAT_NS);
}

int probe_direct_begin(struct ilb_prober *p, uint32_t slot) {
  struct probe *probe = &p->probes[slot];
  int error = open_frames(p);
  if (error == 0 && probe->request.interface == 0) {
    error = open_routed(routed_of(p, probe), probe->request.family);
    if (error != 0) return error;
  }
  if (error != 0 && probe->request.interface == 0) return error;
  probe_draw_cookie(p, probe);
  if (error == 0 && probe->kind == ILB_PROBE_PING) probe_ping_number(probe_ping_of(p, probe->request.family), probe);
  else if (error == 0) error = take_port(p, slot);
  if (error == 0) {
    probe->sent_ns = probe_clock_ns(CLOCK_REALTIME);
    plan_repetition(p, slot, probe->started_ns);
    error = send_packet(p, probe);
    if (error < 0) error = probe_judged(-error);
  }
  if (error != 0) probe_finish(p, slot, error, 0);
  return 0;
}

void probe_direct_repeat(struct ilb_prober *p, uint32_t slot) {
  struct probe *probe = &p->probes[slot];
  probe->is_repeated = true;
  plan_repetition(p, slot, probe->wake_ns);
  const int error = send_packet(p, probe);
  /* A buffer that is full just now is no reason to give up. */
  if (error < 0 && probe_judged(-error) > 0) probe_finish(p, slot, -error, 0);
}

/* The probe that an answer is for, NOWHERE for none: everything that was sent must come back as it was. */
static bool is_answer_to(struct ilb_prober *p, const struct probe *probe, const struct probe_answer *answer) {
  const struct ilb_probe_request *request = &probe->request;
  const size_t length = answer->family == 4 ? 4 : 16;
  if (probe->kind != answer->kind || request->family != answer->family) return false;
  if (memcmp(request->address, answer->from, length) != 0 || memcmp(request->source, answer->to, length) != 0) return false;
  if (answer->kind == ILB_PROBE_PING)
    return request->interface != 0 && answer->identifier == probe_ping_of(p, answer->family)->identifier &&
           answer->cookie == probe->cookie;
  if (answer->from_port != request->port) return false;
  if (answer->kind == ILB_PROBE_UDP) return answer->error == ECONNREFUSED;
  return answer->is_quoted || answer->acknowledged == (uint32_t)probe->cookie + 1;
}

static uint32_t slot_of(struct ilb_prober *p, const struct probe_answer *answer) {
  if (answer->kind == ILB_PROBE_PING) {
    const uint32_t slot = probe_ping_of(p, answer->family)->slots[answer->port];
    return slot != NOWHERE && is_answer_to(p, &p->probes[slot], answer) ? slot : NOWHERE;
  }
  if (answer->port < ILB_PROBE_FIRST_PORT || answer->port > ILB_PROBE_LAST_PORT) return NOWHERE;
  uint32_t slot = p->port_slots[answer->port - ILB_PROBE_FIRST_PORT];
  while (slot != NOWHERE && !is_answer_to(p, &p->probes[slot], answer)) slot = p->probes[slot].next_of_port;
  return slot;
}

/* Past the kernel's routing its stack may not see the answer, or not take it for one: then nobody else resets. */
static void reset(struct ilb_prober *p, const struct probe *probe) {
  uint8_t packet[PROBE_FRAME_BYTES];
  const struct probe_frame frame = frame_of(p, probe);
  probe_frame_send(p->frames, &probe->request, packet, probe_frame_reset(packet, &frame));
}

static void take_answer(struct ilb_prober *p, const struct probe_packet *packet) {
  struct probe_answer answer;
  if (!probe_answer_read(packet->data, packet->bytes, &answer)) return;
  const uint32_t slot = slot_of(p, &answer);
  if (slot == NOWHERE) return;
  const struct probe *probe = &p->probes[slot];
  if (answer.error != 0) return probe_finish(p, slot, answer.error, 0);
  if (answer.kind == ILB_PROBE_TCP && probe->request.interface != 0) reset(p, probe);
  const uint64_t took_ns = packet->stamp_ns > probe->sent_ns ? packet->stamp_ns - probe->sent_ns : 0;
  /* Which of several SYNs has been answered is not known, so neither is how long that took (RFC 6298 3). */
  if (probe->is_repeated && took_ns <= probe->timeout_ns) return probe_finish(p, slot, 0, 0);
  probe_answered(p, slot, took_ns);
}

void probe_direct_ready(struct ilb_prober *p) { probe_receive(p, p->frames, take_answer); }
