/* See netlink.h. */
#include "netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

enum { RECEIVE_BUFFER_BYTES = 4 << 20 };

int ilb_netlink_close(int32_t fd) { return close(fd) < 0 ? -errno : 0; }

int ilb_netlink_open(const uint32_t *groups, int32_t group_count) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  int failed = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0;
  for (int32_t i = 0; !failed && i < group_count; i++)
    failed = setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof(groups[i])) < 0;
  if (failed) {
    int error = errno;
    close(fd);
    return -error;
  }
  /* A burst of route changes must not be lost; without the right to force the size, the default has to do. */
  int bytes = RECEIVE_BUFFER_BYTES;
  (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
  /* Strict checking makes the kernel honour filters in dump requests; older kernels do without. */
  int one = 1;
  (void)setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
  return fd;
}

int64_t ilb_netlink_receive(int32_t fd, uint8_t *buffer, uint32_t capacity) {
  for (;;) {
    struct sockaddr_nl from;
    struct iovec part = {.iov_base = buffer, .iov_len = capacity};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &part, .msg_iovlen = 1};
    ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);
    if (length < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    if (message.msg_flags & MSG_TRUNC) return -EMSGSIZE;
    /* Any process may send to a netlink port; only the kernel has port 0. */
    if (message.msg_namelen == sizeof(from) && from.nl_pid == 0) return length;
  }
}

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The end of a dump carries a status; one that failed in the middle says so there. */
static int dump_result(const struct nlmsghdr *done) {
  int status = 0;
  if (mnl_nlmsg_get_payload_len(done) >= sizeof status) memcpy(&status, mnl_nlmsg_get_payload(done), sizeof status);
  return status < 0 ? status : 1;
}

/*
 * Looks through one datagram. Messages of this request are moved together at its start, `*kept` bytes of them.
 * Returns 1 when the answer is complete, 0 when more must come, or a negative errno.
 */
static int take_answers(uint8_t *data, int length, uint32_t sequence, uint32_t *kept) {
  struct nlmsghdr *header = (struct nlmsghdr *)data;
  *kept = 0;
  while (mnl_nlmsg_ok(header, length)) {
    int remaining = length;
    struct nlmsghdr *next = mnl_nlmsg_next(header, &remaining);
    if (header->nlmsg_seq == sequence) {
      if (header->nlmsg_flags & NLM_F_DUMP_INTR) return -EINTR;
      if (header->nlmsg_type == NLMSG_DONE) return dump_result(header);
      if (header->nlmsg_type == NLMSG_ERROR) {
        if (header->nlmsg_len < NLMSG_LENGTH(sizeof(struct nlmsgerr))) return -EBADMSG;
        int error = ((struct nlmsgerr *)mnl_nlmsg_get_payload(header))->error;
        return error < 0 ? error : 1;
      }
      int multipart = header->nlmsg_flags & NLM_F_MULTI;
      uint32_t size = MNL_ALIGN(header->nlmsg_len);
      memmove(data + *kept, header, header->nlmsg_len);
      *kept += size;
      if (!multipart) return 1;
    }
    header = next;
    length = remaining;
  }
  return 0;
}

int64_t ilb_netlink_request(int32_t fd, uint8_t *request, uint32_t request_length, uint8_t *answer, uint32_t capacity,
                            uint32_t sequence, int32_t timeout_ms) {
  struct nlmsghdr *header = (struct nlmsghdr *)request;
  if (request_length < sizeof(*header) || header->nlmsg_len != request_length) return -EINVAL;
  header->nlmsg_seq = sequence;
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  if (sendto(fd, request, request_length, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0) return -errno;

  const int64_t deadline = now_ms() + timeout_ms;
  uint32_t used = 0;
  for (;;) {
    int64_t length = ilb_netlink_receive(fd, answer + used, capacity - used);
    if (length == -EAGAIN) {
      int64_t left = deadline - now_ms();
      if (left <= 0) return -ETIMEDOUT;
      struct pollfd waiting = {.fd = fd, .events = POLLIN};
      if (poll(&waiting, 1, (int)left) < 0 && errno != EINTR) return -errno;
      continue;
    }
    if (length < 0) return length;
    uint32_t kept = 0;
    int complete = take_answers(answer + used, (int)length, sequence, &kept);
    if (complete < 0) return complete;
    used += kept;
    if (complete) return used;
  }
}

int ilb_netns_cookie(uint64_t *cookie) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  socklen_t size = sizeof(*cookie);
  int result = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &size) < 0 ? -errno : 0;
  close(fd);
  return result;
}
