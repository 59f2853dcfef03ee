/*
 * Batches of frames from ports into one memory; their way out is in transmit.c. A frame is scattered: its virtio-net
 * header lands in its descriptor, its beginning in a head block, the rest in a tail block, so the engine finds all headers
 * close together however long the frame is. All scatter lists are made once; per packet there is no allocation and no copy
 * of ours.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "io.h"

/* With more ports than this, one poll tells which of them are worth a receive call. */
#define TRY_ALL_PORTS 4
/* Two-bit history: spin while it is in the upper half. */
#define HISTORY_MAX 3
#define HISTORY_SPIN 2
/* Waits without spinning after others wanted the processor while we spun; doubled each time, up to: */
#define LONGEST_PAUSE 256
/* Batches of more bytes than this, on average, are bulk: a wait then costs little and the sender can use the processor. */
#define BULK_BYTES 8192

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
  io->next_pause = 1;
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

/* From the queue of a packet socket, up to `end` of the batch. Returns the new number of frames. */
static unsigned receive_packets(struct ilb_io *io, unsigned place, unsigned count, unsigned end) {
  const uint8_t index = io->active[place];
  struct ilb_port *port = io->ports[index];
  int received = recvmmsg(port->fd, io->rx_messages + count, end - count, MSG_DONTWAIT, NULL);
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

/*
 * Frames that were too long for their slots, from the socket's queue: one for each announcing slot that follows, up to the end
 * of the batch. Returns the new number of frames.
 */
static unsigned receive_long(struct ilb_io *io, unsigned place, unsigned count) {
  struct ilb_ring *ring = &io->ports[io->active[place]]->ring;
  const unsigned announced = ilb_ring_run(ring, TP_STATUS_COPY, ILB_BATCH_SIZE - count);
  const unsigned end = receive_packets(io, place, count, count + announced);
  /* A frame that ends the call with an error has left the queue: its slot goes when the error is reported. */
  const unsigned received = end > count ? end - count : 1;
  for (unsigned i = 0; i < received; i++) ilb_ring_release(ring);
  return end;
}

/* A frame out of its slot. False: it was too long, and there was no room in the queue. */
static bool copy_from_ring(struct ilb_io *io, unsigned slot, uint8_t index, const struct tpacket2_hdr *from) {
  struct ilb_port *port = io->ports[index];
  const struct scatter *scatter = &io->rx_ethernet[slot];
  const uint32_t length = from->tp_len;
  if (from->tp_snaplen < length || length > scatter->part[1].iov_len) {
    __atomic_fetch_add(&port->counters[ILB_RX_KERNEL_DROPS], 1, __ATOMIC_RELAXED);
    return false;
  }
  const uint8_t *frame = (const uint8_t *)from + from->tp_mac;
  memcpy(scatter->part[0].iov_base, frame - ILB_VNET_HEADER, ILB_VNET_HEADER);
  memcpy(scatter->part[1].iov_base, frame, length);
  const bool is_tagged = port->wants_vlan && (from->tp_status & TP_STATUS_VLAN_VALID) != 0;
  fill_descriptor(io, slot, index, scatter, length, is_tagged ? ILB_FRAME_VLAN : 0);
  ilb_count(port, ILB_RX_FRAMES, 1);
  ilb_count(port, ILB_RX_BYTES, length);
  io->batch_bytes += length;
  return true;
}

/* An interface that went down is told to whoever asks the socket, and keeps a poll from waiting until then. */
static void ask_for_error(struct ilb_io *io, unsigned place, struct ilb_port *port) {
  int error = 0;
  socklen_t size = sizeof error;
  io->polls[place].revents = 0;
  if (getsockopt(port->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0) receive_failed(io, place, port, error);
}

/* The same as receive_packets from a socket with a ring. */
static unsigned receive_ring(struct ilb_io *io, unsigned place, unsigned count) {
  const uint8_t index = io->active[place];
  struct ilb_port *port = io->ports[index];
  const unsigned first = count;
  const struct tpacket2_hdr *from;
  while (count < ILB_BATCH_SIZE && (from = ilb_ring_peek(&port->ring)) != NULL) {
    if (from->tp_status & TP_STATUS_COPY) {
      count = receive_long(io, place, count);
      continue;
    }
    if (copy_from_ring(io, count, index, from)) count++;
    ilb_ring_release(&port->ring);
  }
  if (count == first && (io->polls[place].revents & (POLLERR | POLLHUP)) != 0) ask_for_error(io, place, port);
  return count;
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
      if (port->kind == ILB_PORT_IP) count = receive_tun(io, place, count);
      else if (port->ring.base) count = receive_ring(io, place, count);
      else count = receive_packets(io, place, count, ILB_BATCH_SIZE);
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

/* How often the kernel took the processor from this thread for another. */
static int64_t count_preemptions(void) {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

/* Whether a spin may begin: it has paid lately, the traffic is no bulk, and nobody else wants the processor. */
static bool may_spin(struct ilb_io *io) {
  if (io->history < HISTORY_SPIN || io->average_bytes >= BULK_BYTES) return false;
  if (io->pause > 0) return io->pause--, false;
  return true;
}

/* After a spin: whoever was preempted has taken time from somebody, who gets it back for a while. */
static void give_way(struct ilb_io *io) {
  const int64_t preemptions = count_preemptions();
  if (preemptions == io->preemptions) {
    io->next_pause = 1;
    return;
  }
  io->preemptions = preemptions;
  io->pause = io->next_pause;
  if (io->next_pause < LONGEST_PAUSE) io->next_pause *= 2;
}

/* Nothing was there: spin if that pays, then block. Returns frames, 0 or -errno. */
static int receive_later(struct ilb_io *io, uint64_t timeout_ns, uint64_t spin_ns) {
  const uint64_t started = now_ns();
  if (io->idle_since_ns == 0) io->idle_since_ns = started;
  uint64_t now = started;
  unsigned count = 0;
  const uint64_t spin_limit = spin_ns < timeout_ns ? spin_ns : timeout_ns;
  if (spin_limit > 0 && may_spin(io)) {
    while (count == 0 && !is_called(io) && now - io->idle_since_ns < spin_limit) {
      relax();
      count = try_ports(io);
      now = now_ns();
    }
    give_way(io);
  }
  if (count == 0 && !is_called(io) && now - started < timeout_ns) {
    const int ready = wait_for_ports(io, timeout_ns - (now - started));
    if (ready < 0) return ready;
    if (ready > 0) count = gather(io, true);
    now = now_ns();
  }
  io->waited_ns += now - started;
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

int64_t ilb_io_waited_us(const struct ilb_io *io) { return (int64_t)(io->waited_ns / 1000u); }

int ilb_io_wake(struct ilb_io *io) {
  const uint64_t one = 1;
  if (write(io->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN) return -errno;
  return 0;
}
