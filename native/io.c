/*
 * Batches of frames between ports and one memory. A frame is scattered: its virtio-net header lands in its descriptor,
 * its beginning in a head block, the rest in a tail block, so the engine finds all headers close together however long
 * the frame is. All scatter lists are made once; per packet there is no allocation and no copy of ours.
 * Which frame goes where is the engine's decision, found in the descriptor.
 */
#include <linux/if_packet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "port.h"

#define NEEDS_CSUM 1u
/* A full port is waited for this often and this long (ns) per transmit; then the rest of its run is dropped. */
#define FULL_RETRIES 5
#define FULL_WAIT_NS 200000
/* With more ports than this, one poll tells which of them are worth a receive call. */
#define TRY_ALL_PORTS 4
/* Two-bit history: spin while it is in the upper half. */
#define HISTORY_MAX 3
#define HISTORY_SPIN 2
/* Batches of more bytes than this, on average, are bulk: a wait then costs little and the sender can use the processor. */
#define BULK_BYTES 8192

_Static_assert(ILB_BATCH_SIZE + ILB_MADE_SIZE == ILB_DESCRIPTOR_COUNT, "two kinds of descriptors");
_Static_assert(ILB_DESCRIPTOR_COUNT <= 128, "indices are kept in a byte");
_Static_assert(ILB_VNET_HEADER == 10 && offsetof(struct ilb_descriptor, vnet_flags) == 16, "header read in place");

/* Scatter list of one frame: virtio-net header, head, tail. */
struct scatter {
  struct iovec part[3];
};

union auxdata_buffer {
  char bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
  struct cmsghdr align;
};

struct ilb_io {
  uint8_t *memory;
  uint64_t memory_bytes;
  struct ilb_descriptor *descriptors;
  uint64_t heads, tails;

  struct ilb_port *ports[ILB_MAX_PORTS];
  uint8_t attached[ILB_MAX_PORTS]; /* port indices, in order of ilb_io_set_port */
  uint32_t attached_count;
  uint8_t active[ILB_MAX_PORTS]; /* those that receive, in the same order */
  uint32_t active_count;
  uint32_t next; /* place in `active` whose turn it is */

  int wake_fd;
  const uint32_t *watched; /* see ilb_io_watch; NULL: none */
  uint8_t history;
  uint64_t batch_bytes;   /* of the batch being gathered */
  uint64_t average_bytes; /* per batch, over some sixteen of them */
  uint64_t idle_since_ns; /* when a receive first found nothing; 0: the last one found frames */
  int64_t now_ms;

  struct pollfd polls[ILB_MAX_PORTS + 1]; /* parallel to `active`, then the wake-up */
  struct mmsghdr rx_messages[ILB_BATCH_SIZE];
  struct scatter rx_ethernet[ILB_BATCH_SIZE], rx_ip[ILB_BATCH_SIZE];
  union auxdata_buffer rx_control[ILB_BATCH_SIZE];

  uint8_t queue[ILB_MAX_PORTS][ILB_DESCRIPTOR_COUNT]; /* descriptor indices to send, per packet port */
  uint32_t queued[ILB_MAX_PORTS];
  unsigned waits[ILB_MAX_PORTS]; /* of this transmit, per port; giving back counts for the port it came from */
  bool placed[ILB_DESCRIPTOR_COUNT]; /* made frames already in a queue */
  struct mmsghdr tx_messages[ILB_DESCRIPTOR_COUNT];
  struct scatter tx[ILB_DESCRIPTOR_COUNT];
};

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- Setting up ----------------------------------------------------------------------------------------------- */

static struct scatter scatter_of(struct ilb_io *io, unsigned slot, uint32_t before_l3) {
  uint8_t *head = io->memory + io->heads + (uint64_t)slot * ILB_HEAD_STRIDE + ILB_HEAD_L3_OFFSET - before_l3;
  uint8_t *tail = io->memory + io->tails + (uint64_t)slot * ILB_TAIL_STRIDE;
  return (struct scatter){.part = {
                              {&io->descriptors[slot].vnet_flags, ILB_VNET_HEADER},
                              {head, ILB_HEAD_L3_CAPACITY + before_l3},
                              {tail, ILB_TAIL_STRIDE},
                          }};
}

static void prepare(struct ilb_io *io) {
  for (unsigned slot = 0; slot < ILB_BATCH_SIZE; slot++) {
    io->rx_ethernet[slot] = scatter_of(io, slot, ILB_ETHERNET_HEADER);
    io->rx_ip[slot] = scatter_of(io, slot, 0);
    struct msghdr *message = &io->rx_messages[slot].msg_hdr;
    message->msg_iov = io->rx_ethernet[slot].part;
    message->msg_iovlen = 3;
    message->msg_control = &io->rx_control[slot];
    message->msg_controllen = sizeof io->rx_control[slot];
  }
  for (unsigned i = 0; i < ILB_DESCRIPTOR_COUNT; i++) {
    io->tx[i].part[0] = (struct iovec){&io->descriptors[i].vnet_flags, ILB_VNET_HEADER};
  }
}

static bool region_fits(uint64_t memory_bytes, uint64_t offset, uint64_t bytes, uint64_t alignment) {
  return offset % alignment == 0 && offset <= memory_bytes && bytes <= memory_bytes - offset;
}

int64_t ilb_io_create(uint8_t *base, uint64_t bytes, uint64_t descriptors, uint64_t heads, uint64_t tails) {
  if (!base || (uintptr_t)base % 8 != 0 ||
      !region_fits(bytes, descriptors, sizeof(struct ilb_descriptor) * ILB_DESCRIPTOR_COUNT, 64) ||
      !region_fits(bytes, heads, (uint64_t)ILB_HEAD_STRIDE * ILB_BATCH_SIZE, 8) ||
      !region_fits(bytes, tails, (uint64_t)ILB_TAIL_STRIDE * ILB_BATCH_SIZE, 8)) {
    return -EINVAL;
  }
  struct ilb_io *io = calloc(1, sizeof *io);
  if (!io) return -ENOMEM;
  io->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (io->wake_fd < 0) {
    int error = -errno;
    free(io);
    return error;
  }
  io->memory = base;
  io->memory_bytes = bytes;
  io->descriptors = (struct ilb_descriptor *)(base + descriptors);
  io->heads = heads;
  io->tails = tails;
  io->polls[0] = (struct pollfd){.fd = io->wake_fd, .events = POLLIN};
  io->now_ms = ilb_clock_ms();
  prepare(io);
  return ilb_handle(io);
}

int ilb_io_watch(struct ilb_io *io, uint64_t word) {
  if (!region_fits(io->memory_bytes, word, sizeof *io->watched, sizeof *io->watched)) return -EINVAL;
  io->watched = (const uint32_t *)(io->memory + word);
  return 0;
}

int ilb_io_set_port(struct ilb_io *io, uint32_t index, struct ilb_port *port) {
  if (index >= ILB_MAX_PORTS || !port) return -EINVAL;
  if (io->ports[index]) return -EEXIST;
  io->ports[index] = port;
  io->attached[io->attached_count++] = (uint8_t)index;
  if (!port->receives) return 0;
  io->active[io->active_count] = (uint8_t)index;
  io->polls[io->active_count++] = (struct pollfd){.fd = port->fd, .events = POLLIN};
  io->polls[io->active_count] = (struct pollfd){.fd = io->wake_fd, .events = POLLIN};
  return 0;
}

int ilb_io_free(struct ilb_io *io) {
  close(io->wake_fd);
  free(io);
  return 0;
}

/* ---- Receiving ------------------------------------------------------------------------------------------------ */

/* Everything of a received descriptor but the virtio-net header, which the kernel has put there. */
static void fill_descriptor(struct ilb_io *io, unsigned slot, uint8_t in_port, const struct scatter *scatter,
                            uint32_t length, uint16_t flags) {
  struct ilb_descriptor *d = &io->descriptors[slot];
  const uint32_t head_capacity = (uint32_t)scatter->part[1].iov_len;
  d->frame = (uint32_t)((uint8_t *)scatter->part[1].iov_base - io->memory);
  d->length = length;
  d->head_length = length < head_capacity ? length : head_capacity;
  d->tail = (uint32_t)((uint8_t *)scatter->part[2].iov_base - io->memory);
  d->in_port = in_port;
  d->out_port = ILB_PORT_NONE;
  d->verdict = ILB_VERDICT_IGNORE;
  d->reason = 0;
  d->flags = flags;
  d->rule_id = 0;
  d->server_id = 0;
  d->direction = 0;
  d->flow_state = 0;
  d->slot = (uint16_t)slot;
  d->made_first = 0;
  d->made_count = 0;
  d->hand_over = 0;
  d->hand_over_end = 0;
  d->pad0 = 0;
}

static bool carries_vlan_tag(struct msghdr *message) {
  for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control; control = CMSG_NXTHDR(message, control)) {
    if (control->cmsg_level != SOL_PACKET || control->cmsg_type != PACKET_AUXDATA) continue;
    struct tpacket_auxdata auxdata;
    memcpy(&auxdata, CMSG_DATA(control), sizeof auxdata);
    return (auxdata.tp_status & TP_STATUS_VLAN_VALID) != 0;
  }
  return false;
}

static void receive_failed(struct ilb_io *io, unsigned place, struct ilb_port *port, int error) {
  if (error == EAGAIN || error == EINTR) return;
  ilb_count(port, ILB_RX_ERRORS, 1);
  ilb_note_errno(port, error);
  /* These stay; a port that reports one for ever would keep every poll from waiting. */
  if (error == EBADFD || error == EBADF || error == ENODEV || error == ENXIO) {
    io->polls[place].fd = -1;
    if (port->counters[ILB_PORT_DEAD] == 0) ilb_count(port, ILB_PORT_DEAD, 1);
  }
}

/* Up to the end of the batch from a packet socket. Returns the new number of frames. */
static unsigned receive_packets(struct ilb_io *io, unsigned place, unsigned count) {
  const uint8_t index = io->active[place];
  struct ilb_port *port = io->ports[index];
  int received = recvmmsg(port->fd, io->rx_messages + count, ILB_BATCH_SIZE - count, MSG_DONTWAIT, NULL);
  if (received < 0) {
    receive_failed(io, place, port, errno);
    return count;
  }
  uint64_t bytes = 0, truncated = 0;
  for (unsigned slot = count; slot < count + (unsigned)received; slot++) {
    struct mmsghdr *message = &io->rx_messages[slot];
    const uint32_t length = message->msg_len - ILB_VNET_HEADER;
    uint16_t flags = 0;
    if (message->msg_hdr.msg_flags & MSG_TRUNC) flags |= ILB_FRAME_TRUNCATED, truncated++;
    if (port->wants_vlan && carries_vlan_tag(&message->msg_hdr)) flags |= ILB_FRAME_VLAN;
    message->msg_hdr.msg_controllen = sizeof io->rx_control[slot];
    fill_descriptor(io, slot, index, &io->rx_ethernet[slot], length, flags);
    bytes += length;
  }
  ilb_count(port, ILB_RX_FRAMES, (uint64_t)received);
  ilb_count(port, ILB_RX_BYTES, bytes);
  if (truncated) ilb_count(port, ILB_RX_TRUNCATED, truncated);
  io->batch_bytes += bytes;
  return count + (unsigned)received;
}

/* The same from a TUN queue, which gives one packet per call. */
static unsigned receive_tun(struct ilb_io *io, unsigned place, unsigned count) {
  const uint8_t index = io->active[place];
  struct ilb_port *port = io->ports[index];
  const size_t room = ILB_VNET_HEADER + ILB_HEAD_L3_CAPACITY + ILB_TAIL_STRIDE;
  const unsigned first = count;
  uint64_t bytes = 0;
  while (count < ILB_BATCH_SIZE) {
    ssize_t size = readv(port->fd, io->rx_ip[count].part, 3);
    if (size < ILB_VNET_HEADER) {
      receive_failed(io, place, port, size < 0 ? errno : EIO);
      break;
    }
    /* A read never tells that it was short; a full buffer does. */
    const bool truncated = (size_t)size == room;
    if (truncated) ilb_count(port, ILB_RX_TRUNCATED, 1);
    fill_descriptor(io, count, index, &io->rx_ip[count], (uint32_t)size - ILB_VNET_HEADER,
                    truncated ? ILB_FRAME_TRUNCATED : 0);
    bytes += (uint64_t)size - ILB_VNET_HEADER;
    count++;
  }
  ilb_count(port, ILB_RX_FRAMES, count - first);
  ilb_count(port, ILB_RX_BYTES, bytes);
  io->batch_bytes += bytes;
  return count;
}

/* One turn over the ports without waiting. `polled`: only those that the last poll found ready. */
static unsigned gather(struct ilb_io *io, bool polled) {
  unsigned count = 0, place = io->next, last = io->next;
  io->batch_bytes = 0;
  for (unsigned turn = 0; turn < io->active_count && count < ILB_BATCH_SIZE; turn++) {
    if (place >= io->active_count) place = 0;
    if (io->polls[place].fd >= 0 && (!polled || io->polls[place].revents != 0)) {
      const struct ilb_port *port = io->ports[io->active[place]];
      count = port->kind == ILB_PORT_IP ? receive_tun(io, place, count) : receive_packets(io, place, count);
    }
    last = place++;
  }
  /* Whoever filled the batch has had its turn; the next batch begins behind it. */
  if (count > 0) io->next = last + 1 < io->active_count ? last + 1 : 0;
  return count;
}

/* Waits in the kernel. Returns > 0 when a port is ready, 0 for a time-out, a wake-up or a signal, -errno. */
static int wait_for_ports(struct ilb_io *io, uint64_t wait_ns) {
  const struct timespec limit = {.tv_sec = (time_t)(wait_ns / 1000000000u), .tv_nsec = (long)(wait_ns % 1000000000u)};
  struct pollfd *wake = &io->polls[io->active_count];
  int ready = ppoll(io->polls, io->active_count + 1, &limit, NULL);
  if (ready < 0) return errno == EINTR ? 0 : -errno;
  if (wake->revents != 0) {
    uint64_t value;
    if (read(io->wake_fd, &value, sizeof value) == (ssize_t)sizeof value) ready--;
  }
  return ready;
}

/* Whatever is there now. The wake-up is left alone: it belongs to the wait that it is meant to end. */
static unsigned try_ports(struct ilb_io *io) {
  const struct timespec no_time = {0};
  if (io->active_count <= TRY_ALL_PORTS) return gather(io, false);
  return ppoll(io->polls, io->active_count, &no_time, NULL) > 0 ? gather(io, true) : 0;
}

/* What a batch teaches about the next wait. */
static void learn(struct ilb_io *io, bool short_wait) {
  io->average_bytes = (io->average_bytes * 15 + io->batch_bytes) / 16;
  if (short_wait && io->history < HISTORY_MAX) io->history++;
  if (!short_wait && io->history > 0) io->history--;
}

static inline void relax(void) {
#if defined(__x86_64__)
  for (int i = 0; i < 16; i++) __builtin_ia32_pause();
#elif defined(__aarch64__)
  for (int i = 0; i < 16; i++) __asm__ volatile("yield");
#endif
}

/* Whether work of another kind has come since the caller let us wait. */
static inline bool is_called(const struct ilb_io *io) {
  return io->watched && __atomic_load_n(io->watched, __ATOMIC_SEQ_CST) == 0;
}

/* Nothing was there: spin if that pays, then block. Returns frames, 0 or -errno. */
static int receive_later(struct ilb_io *io, uint64_t timeout_ns, uint64_t spin_ns) {
  const uint64_t started = now_ns();
  if (io->idle_since_ns == 0) io->idle_since_ns = started;
  uint64_t now = started;
  unsigned count = 0;
  const uint64_t spin_limit = spin_ns < timeout_ns ? spin_ns : timeout_ns;
  if (io->history >= HISTORY_SPIN && io->average_bytes < BULK_BYTES) {
    while (count == 0 && !is_called(io) && now - io->idle_since_ns < spin_limit) {
      relax();
      count = try_ports(io);
      now = now_ns();
    }
  }
  if (count == 0 && !is_called(io) && now - started < timeout_ns) {
    const int ready = wait_for_ports(io, timeout_ns - (now - started));
    if (ready < 0) return ready;
    if (ready > 0) count = gather(io, true);
    now = now_ns();
  }
  io->now_ms = (int64_t)(now / 1000000u);
  if (count > 0) {
    if (spin_ns > 0) learn(io, now - io->idle_since_ns < spin_ns);
    io->idle_since_ns = 0;
  }
  return (int)count;
}

int ilb_io_receive(struct ilb_io *io, uint32_t timeout_us, uint32_t spin_us) {
  const unsigned count = try_ports(io);
  if (count == 0) return receive_later(io, (uint64_t)timeout_us * 1000u, (uint64_t)spin_us * 1000u);
  if (io->idle_since_ns == 0) learn(io, true);
  io->idle_since_ns = 0;
  io->now_ms = ilb_clock_ms();
  return (int)count;
}

int64_t ilb_io_now_ms(const struct ilb_io *io) { return io->now_ms; }

int ilb_io_wake(struct ilb_io *io) {
  const uint64_t one = 1;
  if (write(io->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN) return -errno;
  return 0;
}

/* ---- Sending -------------------------------------------------------------------------------------------------- */

static enum ilb_counter counter_of_error(int error) {
  switch (error) {
    case EMSGSIZE:
      return ILB_TX_TOO_BIG;
    case EAGAIN:
      return ILB_TX_BUSY;
    case ENOBUFS:
    case ENOMEM:
      return ILB_TX_FULL;
    case ENETDOWN:
    case ENXIO:
    case ENODEV:
    case EIO:
    case EBADFD:
      return ILB_TX_DOWN;
    default:
      return ILB_TX_REFUSED;
  }
}

/* Fills the scatter list from the descriptor. The engine is not trusted with addresses: nothing outside the memory leaves. */
static bool scatter_frame(struct ilb_io *io, unsigned index, unsigned *parts) {
  struct ilb_descriptor *d = &io->descriptors[index];
  struct iovec *part = io->tx[index].part;
  if (d->head_length == 0 || d->head_length > d->length) return false;
  if (!region_fits(io->memory_bytes, d->frame, d->head_length, 1)) return false;
  const uint32_t rest = d->length - d->head_length;
  if (rest != 0 && !region_fits(io->memory_bytes, d->tail, rest, 1)) return false;
  d->vnet_flags &= NEEDS_CSUM;
  part[1] = (struct iovec){io->memory + d->frame, d->head_length};
  part[2] = (struct iovec){io->memory + d->tail, rest};
  *parts = rest != 0 ? 3 : 2;
  return true;
}

/* Waits for room. False: enough waited in this transmit. */
static bool wait_for_room(int fd, unsigned *waits) {
  if (*waits >= FULL_RETRIES) return false;
  (*waits)++;
  struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
  const struct timespec limit = {.tv_nsec = FULL_WAIT_NS};
  ppoll(&poll_fd, 1, &limit, NULL);
  return true;
}

static bool write_frame(int fd, const struct iovec *part, unsigned parts, unsigned *waits, int *error) {
  for (;;) {
    if (writev(fd, part, (int)parts) >= 0) return true;
    *error = errno;
    if (*error == EINTR) continue;
    if (*error != EAGAIN || !wait_for_room(fd, waits)) return false;
  }
}

/*
 * The kernel steps TTL or hop limit of a packet on its way into a TUN and again on its way on from it, but the box is one
 * hop. So what is written into a TUN gets one hop back, and no packet that came in can run out on its second way through.
 * IPv4's header checksum by RFC 1624 equation 3: the word with the TTL rises by 0x0100.
 */
static void give_hop_back(uint8_t *ip, size_t bytes) {
  if (bytes >= 20 && ip[0] >> 4 == 4 && ip[8] != UINT8_MAX) {
    ip[8]++;
    uint32_t sum = (uint16_t)~((unsigned)ip[10] << 8 | ip[11]) + 0x0100u;
    sum = ~((sum & 0xffff) + (sum >> 16));
    ip[10] = (uint8_t)(sum >> 8);
    ip[11] = (uint8_t)sum;
  } else if (bytes >= 40 && ip[0] >> 4 == 6 && ip[7] != UINT8_MAX) {
    ip[7]++;
  }
}

static unsigned write_tun(struct ilb_io *io, struct ilb_port *port, unsigned index) {
  unsigned *waits = &io->waits[io->descriptors[index].out_port];
  unsigned parts;
  int error;
  if (!scatter_frame(io, index, &parts)) {
    ilb_count(port, ILB_TX_INVALID, 1);
    return 0;
  }
  give_hop_back(io->tx[index].part[1].iov_base, io->tx[index].part[1].iov_len);
  if (!write_frame(port->fd, io->tx[index].part, parts, waits, &error)) {
    ilb_count(port, counter_of_error(error), 1);
    ilb_note_errno(port, error);
    return 0;
  }
  ilb_count(port, ILB_TX_FRAMES, 1);
  ilb_count(port, ILB_TX_BYTES, io->descriptors[index].length);
  return 1;
}

/* Back to the kernel for the port that it came from. */
static unsigned pass_frame(struct ilb_io *io, unsigned index) {
  const struct ilb_descriptor *d = &io->descriptors[index];
  struct ilb_port *port = d->in_port < ILB_MAX_PORTS ? io->ports[d->in_port] : NULL;
  unsigned parts;
  int error = ENOTCONN;
  if (!port) return 0;
  const bool whole = scatter_frame(io, index, &parts);
  if (whole && port->kind == ILB_PORT_IP) give_hop_back(io->tx[index].part[1].iov_base, io->tx[index].part[1].iov_len);
  if (!whole || port->pass_fd < 0 ||
      !write_frame(port->pass_fd, io->tx[index].part, parts, &io->waits[d->in_port], &error)) {
    ilb_count(port, ILB_PASS_ERRORS, 1);
    ilb_note_errno(port, error);
    return 0;
  }
  ilb_count(port, ILB_PASS_FRAMES, 1);
  ilb_count(port, ILB_PASS_BYTES, d->length);
  return 1;
}

/* Hands a frame to its port: at once to a TUN queue, which takes one at a time, else to the port's run. */
static unsigned place_frame(struct ilb_io *io, unsigned index) {
  const uint8_t out_port = io->descriptors[index].out_port;
  struct ilb_port *port = out_port < ILB_MAX_PORTS ? io->ports[out_port] : NULL;
  if (port && port->transmits && port->kind == ILB_PORT_IP) return write_tun(io, port, index);
  if (port && port->transmits) {
    io->queue[out_port][io->queued[out_port]++] = (uint8_t)index;
    return 0;
  }
  /* No such way out: counted where somebody can see it. */
  const uint8_t in_port = io->descriptors[index].in_port;
  if (!port) port = in_port < ILB_MAX_PORTS ? io->ports[in_port] : NULL;
  if (port) ilb_count(port, ILB_TX_INVALID, 1);
  return 0;
}

/* Made frames `first`..; a frame leaves once, whoever names it. Those with verdict PASS are for the kernel. */
static unsigned place_made(struct ilb_io *io, uint32_t first, uint32_t end, uint32_t limit) {
  unsigned sent = 0;
  if (first < ILB_BATCH_SIZE) return 0;
  for (uint32_t i = first; i < end && i < limit; i++) {
    if (io->placed[i]) continue;
    io->placed[i] = true;
    sent += io->descriptors[i].verdict == ILB_VERDICT_PASS ? pass_frame(io, i) : place_frame(io, i);
  }
  return sent;
}

/* Offers messages from..count; returns how many the kernel took, skipping and counting those that it refuses. */
static unsigned send_messages(struct ilb_port *port, struct mmsghdr *messages, unsigned count, unsigned *waits) {
  unsigned done = 0, sent = 0;
  while (done < count) {
    const int taken = sendmmsg(port->fd, messages + done, count - done, MSG_DONTWAIT);
    if (taken > 0) {
      uint64_t bytes = 0;
      for (int i = 0; i < taken; i++) bytes += messages[done + (unsigned)i].msg_len - ILB_VNET_HEADER;
      ilb_count(port, ILB_TX_FRAMES, (uint64_t)taken);
      ilb_count(port, ILB_TX_BYTES, bytes);
      done += (unsigned)taken;
      sent += (unsigned)taken;
      continue;
    }
    const int error = errno;
    if (error == EINTR) continue;
    ilb_note_errno(port, error);
    if (error == EAGAIN) {
      if (wait_for_room(port->fd, waits)) continue;
      ilb_count(port, ILB_TX_BUSY, count - done);
      break;
    }
    /* The error belongs to the first message of this call, all before it are out. */
    ilb_count(port, counter_of_error(error), 1);
    done++;
  }
  return sent;
}

static unsigned flush_port(struct ilb_io *io, unsigned port_index) {
  struct ilb_port *port = io->ports[port_index];
  unsigned count = 0;
  for (unsigned i = 0; i < io->queued[port_index]; i++) {
    const unsigned index = io->queue[port_index][i];
    unsigned parts;
    if (!scatter_frame(io, index, &parts)) {
      ilb_count(port, ILB_TX_INVALID, 1);
      continue;
    }
    io->tx_messages[count++].msg_hdr = (struct msghdr){.msg_iov = io->tx[index].part, .msg_iovlen = parts};
  }
  io->queued[port_index] = 0;
  return send_messages(port, io->tx_messages, count, &io->waits[port_index]);
}

int ilb_io_transmit(struct ilb_io *io, uint32_t count, uint32_t made) {
  if (count > ILB_BATCH_SIZE || made > ILB_MADE_SIZE) return -EINVAL;
  const uint32_t made_end = ILB_BATCH_SIZE + made;
  unsigned sent = 0;
  if (made > 0) memset(io->placed, 0, sizeof io->placed);
  for (unsigned i = 0; i < count; i++) {
    const struct ilb_descriptor *d = &io->descriptors[i];
    if (d->verdict == ILB_VERDICT_PASS) sent += pass_frame(io, i);
    if (d->verdict != ILB_VERDICT_FORWARD && d->verdict != ILB_VERDICT_REPLY) continue;
    if (d->made_count == 0) sent += place_frame(io, i);
    else if (made > 0 && d->made_count <= ILB_MADE_SIZE)
      sent += place_made(io, d->made_first, d->made_first + d->made_count, made_end);
  }
  sent += place_made(io, ILB_BATCH_SIZE, made_end, made_end);
  for (unsigned i = 0; i < io->attached_count; i++) {
    const unsigned port_index = io->attached[i];
    if (io->queued[port_index] > 0) sent += flush_port(io, port_index);
    io->waits[port_index] = 0;
  }
  return (int)sent;
}
