/* Who is at the other end of a Unix socket. */
#include <errno.h>
#include <sys/socket.h>

#include "ilb.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

int ilb_peer_identity(int fd, uint32_t *out, uint32_t capacity) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (capacity < 3) return -ERANGE;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return -errno;
  /* A socket that is not connected, or not AF_UNIX, has no peer and answers pid 0 and uid -1. */
  if (credentials.pid == 0 && credentials.uid == (uid_t)-1) return -ENOTCONN;
  out[0] = (uint32_t)credentials.pid;
  out[1] = credentials.uid;
  out[2] = credentials.gid;
  _Static_assert(sizeof(gid_t) == sizeof(uint32_t), "groups are written in place");
  length = (socklen_t)((capacity - 3) * sizeof(uint32_t));
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, out + 3, &length) < 0) return -errno;
  return 3 + (int)(length / sizeof(uint32_t));
}
