/* Probes that go out as frames of our own, past the kernel's routing; what they are made of is in probe-frames.c. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "probe-core.h"
#include "probe-frames.h"

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

static struct probe_frame frame_of(struct ilb_prober *p, const struct probe *probe) {
  const struct ping_socket *ping = probe_ping_of(p, probe->request.family);
  const bool is_ping = probe->kind == ILB_PROBE_PING;
  return (struct probe_frame){.request = &probe->request, .sequence = probe->sequence, .cookie = probe->cookie,
                              .source_port = is_ping ? ping->identifier : probe->source_port};
}

void probe_direct_begin(struct ilb_prober *p, uint32_t slot) {
  struct probe *probe = &p->probes[slot];
  int error = open_frames(p);
  probe_draw_cookie(probe);
  if (probe->kind == ILB_PROBE_PING) probe_ping_number(probe_ping_of(p, probe->request.family), probe);
  else if (error == 0) error = take_frame_port(p, slot);
  if (error < 0) return probe_finish(p, slot, error, 0);
  uint8_t packet[PROBE_FRAME_BYTES];
  const struct probe_frame frame = frame_of(p, probe);
  const size_t bytes = probe_frame_write(packet, &frame);
  probe->sent_ns = probe_clock_ns(CLOCK_REALTIME);
  error = probe_frame_send(p->frames, &probe->request, packet, bytes);
  if (error < 0) probe_finish(p, slot, probe_judged(-error), 0);
}

/* The probe that an answer is for, NOWHERE for none: everything that was sent must come back as it was. */
static uint32_t slot_of(struct ilb_prober *p, const struct probe_answer *answer) {
  const struct ping_socket *ping = probe_ping_of(p, answer->family);
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
  if (answer->error != 0) return probe_finish(p, slot, answer->error, 0);
  if (answer->kind == ILB_PROBE_TCP) {
    uint8_t packet[PROBE_FRAME_BYTES];
    const struct probe_frame frame = frame_of(p, probe);
    probe_frame_send(p->frames, &probe->request, packet, probe_frame_reset(packet, &frame));
  }
  probe_answered(p, slot, stamp_ns > probe->sent_ns ? stamp_ns - probe->sent_ns : 0);
}

void probe_direct_ready(struct ilb_prober *p) {
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
    if (bytes > 0 && probe_answer_read(data, (size_t)bytes, &answer)) take_answer(p, &answer, probe_stamp_of(&message));
  }
}
