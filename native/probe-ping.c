/* ICMP echo: one socket per family for all pings. */
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "probe-core.h"

#ifndef SOL_RAW
#define SOL_RAW 255
#endif
#define ICMP_FILTER_OPTION 1 /* linux/icmp.h, which cannot stand beside netinet/ip_icmp.h */

struct ping_socket *probe_ping_of(struct ilb_prober *p, uint8_t family) { return family == 4 ? &p->ping4 : &p->ping6; }

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
  probe_prepare_shared(fd);
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

void probe_ping_number(struct ping_socket *ping, struct probe *probe) {
  do probe->sequence = ping->sequence++;
  while (ping->slots[probe->sequence] != NOWHERE);
  ping->slots[probe->sequence] = probe->request.slot;
}

void probe_ping_begin(struct ilb_prober *p, uint32_t slot) {
  struct probe *probe = &p->probes[slot];
  const struct ilb_probe_request *request = &probe->request;
  struct ping_socket *ping = probe_ping_of(p, request->family);
  const int opened = open_ping(p, ping, request->family);
  if (opened < 0) return probe_finish(p, slot, opened, 0);
  probe_ping_number(ping, probe);
  probe_draw_cookie(p, probe);
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
  const socklen_t length = probe_target_of(&portless, &target);
  probe->sent_ns = probe_clock_ns(CLOCK_REALTIME);
  if (sendto(ping->fd, &echo, sizeof echo, 0, (struct sockaddr *)&target, length) < 0) probe_finish(p, slot, probe_judged(errno), 0);
}


static void take_reply(struct ilb_prober *p, const struct probe_packet *packet) {
  const uint8_t family = packet->from->ss_family == AF_INET ? 4 : 6;
  const struct ping_socket *ping = probe_ping_of(p, family);
  const uint8_t *data = packet->data;
  size_t bytes = packet->bytes;
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
  const void *address = family == 4 ? (const void *)&((const struct sockaddr_in *)packet->from)->sin_addr
                                    : (const void *)&((const struct sockaddr_in6 *)packet->from)->sin6_addr;
  if (echo.cookie != probe->cookie || memcmp(address, probe->request.address, family == 4 ? 4 : 16) != 0) return;
  probe_answered(p, slot, packet->stamp_ns > probe->sent_ns ? packet->stamp_ns - probe->sent_ns : 0);
}

void probe_ping_ready(struct ilb_prober *p, uint8_t family) { probe_receive(p, probe_ping_of(p, family)->fd, take_reply); }

void probe_ping_prepare(struct ping_socket *ping) {
  ping->fd = -1;
  if (getrandom(&ping->identifier, sizeof ping->identifier, GRND_NONBLOCK) < 0) ping->identifier = (uint16_t)getpid();
  if (getrandom(&ping->sequence, sizeof ping->sequence, GRND_NONBLOCK) < 0) ping->sequence = 0;
  for (size_t i = 0; i < 65536; i++) ping->slots[i] = NOWHERE;
}
