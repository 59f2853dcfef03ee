/*
 * The C ABI between the service and the kernel's packet interfaces: ports (packet sockets and TUN queues), batches in
 * and out of one memory, and a few system calls that the runtime does not offer.
 *
 * Rules of this boundary: integers and pointers only; a negative result is a negated errno; nothing prints, nothing
 * decides, nothing allocates per packet. Handles are addresses as int64_t, good in every thread of the process.
 * Records in shared memory come from gen/layout.h.
 */
#ifndef ILB_H
#define ILB_H

#include <stdint.h>

#define ILB_API __attribute__((visibility("default")))

/* Rises with every incompatible change of this file or of another part of the library. */
#define ILB_ABI_VERSION 5

/* What this library was built for; the service compares both before it calls anything else. */
ILB_API uint32_t ilb_abi_version(void);
ILB_API uint32_t ilb_layout_fingerprint(void);

/* ---- Ports ---------------------------------------------------------------------------------------------------- */

struct ilb_port;

enum ilb_port_kind {
  ILB_PORT_ETHERNET = 1, /* frames begin with a MAC header */
  ILB_PORT_IP = 2,       /* frames begin with the IP header (TUN); TTL or hop limit rises by one as they are written */
};

/* Flags of ilb_packet_open. At least one of the first two. */
#define ILB_PACKET_RECEIVE 1u
#define ILB_PACKET_TRANSMIT 2u
/* Receive frames with a VLAN tag too, flagged ILB_FRAME_VLAN. Without it the socket's filter drops them. */
#define ILB_PACKET_VLAN 4u

/*
 * A packet socket on one Ethernet interface: virtio-net headers, no frames of our own, non-blocking.
 * The filter drops frames whose mark is `pass_mark` (0: no such test), frames that are not IPv4 or IPv6, frames that are
 * addressed to everybody or to another host (the latter seen when somebody makes the interface promiscuous) and, without
 * ILB_PACKET_VLAN, tagged ones. `buffer_bytes`: socket buffer wished for, each way; without CAP_NET_ADMIN in the first
 * user namespace it is cut to the system's limit, see ilb_port_info.
 * Returns a handle, good for everything but batches and ilb_packet_share, which want ilb_packet_settle first. Errors: -EPERM
 * no CAP_NET_RAW; -ENODEV no such interface; -EMEDIUMTYPE not Ethernet; -EINVAL flags or name; others as socket(7), packet(7).
 */
ILB_API int64_t ilb_packet_open(const char *interface, uint32_t flags, uint32_t buffer_bytes, uint32_t pass_mark);

/*
 * Waits until the socket is bound to its interface, with a receive ring where the kernel gives one: a thread does it since
 * ilb_packet_open, because the kernel takes its time for a ring (10 to 20 ms). From then on frames arrive. Returns 0, or
 * why it cannot be bound (bind(2): -ENODEV, the interface is gone); then the port is good for ilb_port_close only.
 */
ILB_API int ilb_packet_settle(struct ilb_port *port);

/*
 * Lets several receiving packet sockets on one interface share its frames: each frame goes to one of them, in the order in
 * which they joined, by the number that src/engine/owner.ts describes (`flowNumber`, of `secret`) modulo their count; what
 * shows no ports, by its addresses. `group`: -1 begins a new group, whose `secret` holds, else what the first socket was answered. All
 * that is to be shared must have joined before anybody relies on it: a socket gets every frame until it joins. Returns the
 * group. Errors: -EINVAL no receiving packet socket or no such group.
 */
ILB_API int ilb_packet_share(struct ilb_port *port, int group, uint32_t secret);

/*
 * A TUN interface of our own with `queues` (1..16) queues, virtio-net headers, checksum and segmentation offload (UDP
 * too where the kernel offers it). It vanishes when its last queue is closed. Address, MTU and up are the caller's work.
 * Writes one handle per queue to `handles`. Returns 0. Errors: -ENOENT, -EACCES, -ENODEV, -ENXIO opening /dev/net/tun;
 * -EPERM no CAP_NET_ADMIN (or no access to the device node); -EBUSY the name is taken; -EINVAL name or queues.
 * After an error nothing is left open.
 */
ILB_API int ilb_tun_open(const char *name, uint32_t queues, int64_t *handles);

struct ilb_port_info {
  uint32_t kind; /* enum ilb_port_kind */
  uint32_t interface_index;
  uint32_t mtu;                  /* layer-3 MTU in bytes when the port was opened */
  uint32_t receive_buffer_bytes; /* as the kernel accounts it; 0 for TUN */
  uint32_t send_buffer_bytes;
  uint32_t offloads; /* TUN_F_... in force; 0 for packet sockets */
  uint8_t mac[8];    /* 6 bytes, zero for TUN */
  char name[16];
};
_Static_assert(sizeof(struct ilb_port_info) == 48, "ilb_port_info is mirrored in src/native/packet-io.ts");

ILB_API int ilb_port_info(const struct ilb_port *port, struct ilb_port_info *out);

/* Index of each counter of a port. All 64-bit, never reset. Mirrored in src/native/packet-io.ts. */
enum ilb_counter {
  ILB_RX_FRAMES,
  ILB_RX_BYTES,
  ILB_RX_TRUNCATED,   /* of the frames: longer than head and tail block together */
  ILB_RX_ERRORS,      /* receive calls that failed: interface down, super-packet of an unknown kind (skipped) */
  ILB_RX_KERNEL_DROPS, /* frames that the kernel dropped because the socket's buffer was full */
  ILB_TX_FRAMES,
  ILB_TX_BYTES,
  ILB_TX_REFUSED,  /* the kernel refused the frame itself: bad offload request, bad length */
  ILB_TX_TOO_BIG,  /* longer than the interface's MTU allows */
  ILB_TX_BUSY,     /* the socket stayed full through all retries */
  ILB_TX_FULL,     /* the interface's queue was full: dropped by the kernel, as in a router */
  ILB_TX_DOWN,     /* the interface is down or gone */
  ILB_TX_INVALID,  /* never offered to the kernel: descriptor points outside the memory, or port cannot send */
  ILB_PASS_FRAMES, /* given back to the kernel for this port */
  ILB_PASS_BYTES,
  ILB_PASS_ERRORS, /* could not be given back: no pass port, or writing failed */
  ILB_LAST_ERRNO,  /* of the last failed receive, transmit or pass call; 0: none so far */
  ILB_PORT_DEAD,   /* 1 when the interface is gone; the port must be opened anew */
  ILB_COUNTERS
};

/* Copies all counters to out[ILB_COUNTERS]; any thread, at any time while the port is open. Returns 0. */
ILB_API int ilb_port_counters(struct ilb_port *port, uint64_t *out);

/*
 * Where frames with verdict PASS of this port go: `fd` takes a virtio-net header of 10 bytes and a frame in one writev(2),
 * without blocking (a TAP with IFF_NO_PI and IFF_VNET_HDR, a bound packet socket with PACKET_VNET_HDR); it stays the
 * caller's and must outlive the port's io. -1: nowhere (they count as ILB_PASS_ERRORS).
 * A TUN port gives back through itself unless told otherwise. Not while an io that has the port runs. Returns 0.
 */
ILB_API int ilb_port_set_pass(struct ilb_port *port, int fd);

/* Closes and frees. No io may have the port any more. Returns 0. */
ILB_API int ilb_port_close(struct ilb_port *port);

/* ---- Batches -------------------------------------------------------------------------------------------------- */

struct ilb_io;

/*
 * Batch input and output of one worker on the memory `base`..`base + bytes`, which must not move before ilb_io_free.
 * Offsets from `base`: `descriptors` ILB_DESCRIPTOR_COUNT descriptors (multiple of 64), `heads` ILB_BATCH_SIZE blocks at
 * ILB_HEAD_STRIDE (multiple of 8), `tails` as many at ILB_TAIL_STRIDE. Returns a handle, -EINVAL for a region outside
 * the memory or misaligned, -ENOMEM, or what eventfd(2) says.
 */
ILB_API int64_t ilb_io_create(uint8_t *base, uint64_t bytes, uint64_t descriptors, uint64_t heads, uint64_t tails);

/*
 * Names a word (offset from `base`, multiple of 4) that is not 0 while the caller lets receive wait though work of another
 * kind may come. When another thread makes it 0 a receive that spins returns 0; one that blocks is woken as ever.
 * Before the first receive. -EINVAL: outside the memory or misaligned.
 */
ILB_API int ilb_io_watch(struct ilb_io *io, uint64_t word);

/* Puts a port at an index (0..ILB_MAX_PORTS-1), before the first receive. -EEXIST: taken, -EINVAL: index. */
ILB_API int ilb_io_set_port(struct ilb_io *io, uint32_t index, struct ilb_port *port);

/*
 * Receives at most ILB_BATCH_SIZE frames into descriptors 0..n-1 and their head and tail blocks. Returns n at once when
 * frames are there; else waits `timeout_us` at the most and returns 0 then, after a wake-up or a signal.
 * Every field of the descriptors is set: frame, length, head_length, tail, vnet, in_port, flags, slot; verdict IGNORE,
 * out_port ILB_PORT_NONE, the rest 0. Ports are served in turn; one may fill a batch, the next then begins.
 *
 * Waiting: with `spin_us` above 0 the call looks again and again for that long before it blocks, but only while spinning
 * pays: a two-bit history rises when a wait ended in frames within `spin_us` and falls when it took longer; its upper
 * half means spin, unless batches are bulk (more than 8 KiB on average, where a wait costs little and the sender can use
 * the processor) and unless the kernel took the processor from the last spin for somebody else; then up to 256 waits do
 * without. So idle, slow and bulk traffic costs no processor time; what is sped up is question and answer.
 * One thread at a time for receive and transmit. Errors: what ppoll(2) says, but for EINTR.
 */
ILB_API int ilb_io_receive(struct ilb_io *io, uint32_t timeout_us, uint32_t spin_us);

/*
 * Sends by verdict. FORWARD and REPLY: the frame to its out_port, or, when made_count is not 0, descriptors made_first
 * .. made_first + made_count - 1 in its place, each to its own out_port. PASS: unmodified to the pass port of in_port.
 * Then the made frames among ILB_BATCH_SIZE .. + `made` - 1 that no received frame named, those with verdict PASS to the
 * pass port of in_port. Order is kept per port; a frame that the kernel refuses is counted and skipped. Of the vnet flags only NEEDS_CSUM is handed on.
 * A full socket is waited for, briefly (about a millisecond per port and call), then the rest of the port's run is
 * dropped and counted. A frame dropped by the interface's queue is not offered again: that is congestion, as in a router. Returns the number of frames handed to the kernel, -EINVAL for count or made out of range.
 */
ILB_API int ilb_io_transmit(struct ilb_io *io, uint32_t count, uint32_t made);

/* CLOCK_MONOTONIC at the return of the last receive, in milliseconds: the engine clock without a call of its own. */
ILB_API int64_t ilb_io_now_ms(const struct ilb_io *io);

/* For how long receive has waited for frames so far, looking or asleep, in microseconds: the time to spare. */
ILB_API int64_t ilb_io_waited_us(const struct ilb_io *io);

/* Makes a waiting receive return, or else the next one that would wait. Any thread. Returns 0 or -errno. */
ILB_API int ilb_io_wake(struct ilb_io *io);

/* Frees; ports stay open. No thread may be in receive or transmit. Returns 0. */
ILB_API int ilb_io_free(struct ilb_io *io);

/* ---- System --------------------------------------------------------------------------------------------------- */

/*
 * Who is at the other end of a connected Unix socket (SO_PEERCRED, SO_PEERGROUPS: as of connect time).
 * out[0] pid, out[1] uid, out[2] gid, then supplementary groups. `capacity` counts elements. Returns the number of
 * elements written; -ERANGE when they do not fit.
 */
ILB_API int ilb_peer_identity(int fd, uint32_t *out, uint32_t capacity);

/* CLOCK_MONOTONIC in milliseconds. */
ILB_API int64_t ilb_clock_ms(void);

/* Asks for huge pages inside `base`..`base + bytes`; call before first use. Returns 0, or -EINVAL without such support. */
ILB_API int ilb_use_huge_pages(uint8_t *base, uint64_t bytes);

/*
 * Has a thread of priority `nice` (nice(1)) give `count` ranges their pages, one after another, so that nobody waits for them:
 * clearing a huge page takes 0.1 ms, on virtual machines up to 10 ms. `ranges`: address and bytes of each. What is there
 * stays as it is, whoever writes it meanwhile. The memory must be and stay mapped. Returns 0, or -errno when there can be no thread.
 */
ILB_API int ilb_populate(const uint64_t *ranges, uint32_t count, int32_t nice);

/*
 * Takes a name of at most 107 bytes in this network namespace: an abstract Unix socket, which nobody else there can have
 * until it is closed or the process ends. Returns its descriptor, for ilb_close. -EADDRINUSE: taken; then holder[0] is the
 * process that has it (0: unknown, or of another process namespace) and holder[1] its user (UINT32_MAX: unknown).
 */
ILB_API int ilb_lock_name(const char *name, uint32_t *holder);

/* close(2), for descriptors that came from this library. */
ILB_API int ilb_close(int fd);

/* A Unix stream socket that listens at `path`. Returns its descriptor, for ilb_close; -EINVAL: too long; else as bind(2). */
ILB_API int ilb_listen_unix(const char *path);

#endif
