/*
 * Probes of servers: ICMP echo, TCP connect and UDP datagrams, any number at once, none of which ever waits; and programs
 * that test a server. The caller looks in from time to time (ilb_prober_poll, ilb_run_poll). How long an answer took is
 * the kernel's own measurement, so it does not matter when somebody looks.
 */
#ifndef ILB_PROBE_H
#define ILB_PROBE_H

#include <stdint.h>

#include "gen/layout.h"
#include "ilb.h"

struct ilb_prober;

enum ilb_probe_kind {
  ILB_PROBE_PING = 1, /* success: the echo reply with our cookie */
  ILB_PROBE_TCP = 2,  /* success: the server accepts the connection; it is then reset. SYNs are repeated (RFC 6298) */
  ILB_PROBE_UDP = 3,  /* an empty datagram; success: no port unreachable until the time is over */
  ILB_PROBE_CONNECT = 4, /* as TCP, but the connection goes to the caller, who closes it; that resets it. No frames */
};

struct ilb_probe_request {
  uint32_t slot;      /* 0 .. capacity - 1, not in use; chosen by the caller */
  uint16_t port;      /* host order; ping: no matter */
  uint8_t family;     /* 4 or 6 */
  uint8_t kind;       /* enum ilb_probe_kind */
  uint8_t address[16]; /* network order; IPv4 in the first four bytes */
  uint32_t timeout_ms;
  /*
   * 0: the kernel's sockets and routing. Else an Ethernet interface: the probe goes out of it as a frame to `mac`, from
   * the address `source` of this box, whatever is known of the way to `address`, be it our own.
   */
  uint32_t interface;
  uint8_t source[16];
  uint8_t mac[6];
  /*
   * TCP without `interface`: the kernel's source address for this server is in `source`, so that a SYN of our own can be
   * sent by the kernel's routing. Where this process may not do that, and without a source, the kernel connects a socket.
   */
  uint8_t has_source;
  uint8_t reserved;
  /*
   * ILB_PROBE_CONNECT: 0, or the mark of its packets (SO_MARK, socket(7)). Then it comes from `source`, and from a port
   * that no other socket has, so that the port alone tells it from others.
   */
  uint32_t mark;
};
_Static_assert(sizeof(struct ilb_probe_request) == 60, "mirrored in src/native/probe.ts");

struct ilb_probe_result {
  uint32_t slot;  /* free again */
  int32_t error;  /* 0: success; above: the errno of the failure; below: a negated errno, it could not be made at all */
  uint32_t rtt_us; /* 0: unknown */
  int32_t fd;      /* ILB_PROBE_CONNECT that succeeded: non-blocking, now the caller's; else -1 */
  uint32_t local_port; /* ILB_PROBE_CONNECT: where it came from, host order; 0: unknown, or it never had an address */
  uint8_t local_address[16]; /* as in the request */
};
_Static_assert(sizeof(struct ilb_probe_result) == 36, "mirrored in src/native/probe.ts");

/* @capacity: most probes at once, at most 16384. Returns a handle, -EINVAL, -ENOMEM or what epoll_create1(2) says. */
ILB_API int64_t ilb_prober_create(uint32_t capacity);

/* Begins probes. Every request gives one result, at a later poll, unless it is cancelled. -EINVAL: a slot; nothing begun. */
ILB_API int ilb_prober_submit(struct ilb_prober *prober, const struct ilb_probe_request *requests, uint32_t count);

/* Ends a probe without a result; its slot is free. -EINVAL: slot out of range. */
ILB_API int ilb_prober_cancel(struct ilb_prober *prober, uint32_t slot);

/* Gives the results there are, `capacity` (of ilb_prober_create) at most. Never waits. Returns their number. */
ILB_API int ilb_prober_poll(struct ilb_prober *prober, struct ilb_probe_result *results);

/* Ends everything. Returns 0. */
ILB_API int ilb_prober_free(struct ilb_prober *prober);

#define ILB_RUN_OUTPUT 23

enum ilb_run_state {
  ILB_RUN_FREE = 0,
  ILB_RUN_ACTIVE = 1,
  ILB_RUN_ENDED = 2,  /* status tells how; the record waits for ilb_run_release */
  ILB_RUN_LEAVING = 3, /* killed; free as soon as the kernel has let go of it */
};

struct ilb_run {
  uint32_t state;    /* enum ilb_run_state */
  int32_t pid;       /* also its process group */
  int32_t output_fd; /* the reading end of its standard output, -1: ended */
  int32_t status;    /* once ended: exit status, or 128 + signal */
  uint32_t length;   /* of output */
  uint8_t output[ILB_RUN_OUTPUT + 1]; /* its first piece of standard output */
};
_Static_assert(sizeof(struct ilb_run) == 44, "mirrored in src/native/probe.ts");

/*
 * Starts a program: session and process group of its own, directory /, empty environment, standard input and error
 * /dev/null, no other descriptors, no supplementary groups, user and group `uid` and `gid` where this process may become
 * them (-1: stays who it is), no capabilities, no-new-privileges, killed when the calling thread ends.
 * `strings`: `count` (1..8) strings, each ended by a zero byte; the first is the path.
 * Returns 0 with the record filled. -errno of execve(2) and others: nothing runs.
 */
ILB_API int ilb_run_start(struct ilb_run *run, const uint8_t *strings, uint32_t count, int32_t uid, int32_t gid);

/*
 * Takes what running programs have written (all but the first piece is thrown away) and notes those that have ended; what
 * is left of such a one is killed: its process group and, where the kernel tells our children, whoever has left that and
 * its session. Such a one is killed before, too, as soon as it has lost its parent. Never waits. Returns the number of records
 * that are not free, and of such processes: look again as long as it is not 0. `runs` must be all there are.
 */
ILB_API int ilb_run_poll(struct ilb_run *runs, uint32_t count);

/* Kills the whole process group if it is still there. The record is free after some later ilb_run_poll. Returns 0. */
ILB_API int ilb_run_release(struct ilb_run *run);

#endif
