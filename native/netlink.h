/*
 * Transport for rtnetlink: sockets, requests with their whole answer, notifications. Messages are built and read in
 * TypeScript (src/kernel/rtnetlink.ts); nothing here knows what is inside them but their frame (libmnl walks it).
 *
 * Every function returns a value >= 0 or a negative errno, prints nothing and keeps no state.
 */
#ifndef ILB_NETLINK_H
#define ILB_NETLINK_H

#include <stdint.h>

#include "ilb.h"

/*
 * Opens a non-blocking NETLINK_ROUTE socket in the caller's network namespace and joins `group_count` multicast groups
 * (RTNLGRP_*, at most 32 of them). Returns the file descriptor, which the caller closes with ilb_netlink_close.
 */
ILB_API int ilb_netlink_open(const uint32_t *groups, int32_t group_count);
ILB_API int ilb_netlink_close(int32_t fd);

/*
 * Sends one request (a complete nlmsghdr of `request_length` bytes; its sequence number is overwritten) and collects
 * the whole answer in `answer`: all parts of a dump, without the closing NLMSG_DONE, or one message, or nothing for a
 * plain acknowledgement (the request must ask for one then, NLM_F_ACK). Waits at most `timeout_ms`.
 *
 * Returns the number of bytes in `answer`. Errors: what the kernel answered; -EMSGSIZE when `answer` is too small or a
 * datagram was cut; -EINTR when the dump was disturbed by a change and must be repeated; -ETIMEDOUT.
 */
ILB_API int64_t ilb_netlink_request(int32_t fd, uint8_t *request, uint32_t request_length, uint8_t *answer, uint32_t capacity,
                                    uint32_t sequence, int32_t timeout_ms);

/*
 * Takes one waiting datagram of notifications. Returns its length, or -EAGAIN when none waits, or -ENOBUFS when the
 * kernel had to drop some (the caller reads everything anew).
 */
ILB_API int64_t ilb_netlink_receive(int32_t fd, uint8_t *buffer, uint32_t capacity);

/*
 * The cookie of the caller's network namespace (SO_NETNS_COOKIE, Linux 5.14): 64 bits that are never used twice before
 * the next boot, unlike the inode number of the namespace. Stored at `cookie`. Returns 0 or a negative errno.
 */
ILB_API int ilb_netns_cookie(uint64_t *cookie);

#endif
