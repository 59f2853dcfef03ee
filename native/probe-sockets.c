/* Probes by sockets of the kernel: a TCP connection, or an empty datagram and what comes back. */
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "port.h"
#include "probe-core.h"

/* Binds to the next of our ports that nobody has. */
static int bind_next_port(struct ilb_prober *p, int fd, const struct ilb_probe_request *request) {
  for (uint32_t tried = 0; tried < PROBE_PORTS; tried++) {
    const uint16_t port = (uint16_t)(ILB_PROBE_FIRST_PORT + p->next_port);
    p->next_port = (p->next_port + 1) % PROBE_PORTS;
    struct sockaddr_in6 from6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in from4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (request->mark != 0) {
      memcpy(&from6.sin6_addr, request->source, sizeof from6.sin6_addr);
      memcpy(&from4.sin_addr, request->source, sizeof from4.sin_addr);
    }
    const int bound = request->family == 4 ? bind(fd, (struct sockaddr *)&from4, sizeof from4)
                                           : bind(fd, (struct sockaddr *)&from6, sizeof from6);
    if (bound == 0) return 0;
    if (errno != EADDRINUSE && errno != EACCES) return -errno;
  }
  return -EADDRINUSE;
}

static bool is_connection(const struct ilb_probe_request *request) {
  return request->kind == ILB_PROBE_TCP || request->kind == ILB_PROBE_CONNECT;
}

/* A bound socket. A connection that ends leaves nothing behind: it is reset, and its port can be had again at once. */
static int open_socket(struct ilb_prober *p, const struct ilb_probe_request *request) {
  const bool is_tcp = is_connection(request);
  const int family = request->family == 4 ? AF_INET : AF_INET6;
  const int fd = socket(family, (is_tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno == EACCES || errno == EPERM ? -ENOBUFS : -errno;
  const int on = 1;
  const struct linger reset = {.l_onoff = 1, .l_linger = 0};
  if (request->mark == 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (is_tcp) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  const bool is_marked =
      request->mark == 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &request->mark, sizeof request->mark) == 0;
  const int bound = is_marked ? bind_next_port(p, fd, request) : -ENOBUFS;
  if (bound == 0) return fd;
  close(fd);
  return bound;
}

/* The same port to the same server may be in use still; then the next one is not. */
static int open_connected(struct ilb_prober *p, const struct ilb_probe_request *request) {
  struct sockaddr_storage target;
  const socklen_t length = probe_target_of(request, &target);
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

void probe_socket_begin(struct ilb_prober *p, uint32_t slot) {
  struct probe *probe = &p->probes[slot];
  const struct ilb_probe_request *request = &probe->request;
  const int fd = open_connected(p, request);
  if (fd < 0) return probe_finish(p, slot, probe_judged(-fd), 0);
  probe->fd = fd;
  struct epoll_event event = {.events = is_connection(request) ? EPOLLOUT : 0, .data.u32 = slot};
  if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &event) < 0) return probe_finish(p, slot, -errno, 0);
  if (request->kind == ILB_PROBE_UDP && send(fd, NULL, 0, 0) < 0) probe_finish(p, slot, probe_judged(errno), 0);
}

static void tcp_ready(struct ilb_prober *p, uint32_t slot) {
  const struct probe *probe = &p->probes[slot];
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &error, &length);
  /* A connection that has been reset since was established: before, a reset is a refusal. */
  if (error != 0 && error != ECONNRESET && error != EPIPE) return probe_finish(p, slot, probe_judged(error), 0);
  struct tcp_info info = {0};
  length = sizeof info;
  const bool is_known = getsockopt(probe->fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 && info.tcpi_rtt > 0;
  const uint64_t took_ns = is_known ? (uint64_t)info.tcpi_rtt * 1000 : probe_clock_ns(CLOCK_MONOTONIC) - probe->started_ns;
  if (is_known) return probe_answered(p, slot, took_ns);
  probe_finish(p, slot, 0, probe_microseconds(took_ns));
}

static void udp_ready(struct ilb_prober *p, uint32_t slot) {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(p->probes[slot].fd, SOL_SOCKET, SO_ERROR, &error, &length);
  /* Nothing but a port unreachable says that the port is closed. */
  if (error == ECONNREFUSED) probe_finish(p, slot, error, 0);
}

void probe_socket_ready(struct ilb_prober *p, uint32_t slot) {
  if (is_connection(&p->probes[slot].request)) tcp_ready(p, slot);
  else udp_ready(p, slot);
}
