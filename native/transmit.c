/*
 * Batches of frames out of one memory into their ports, or back to the kernel. Which frame goes where is the engine's
 * decision, found in the descriptor; frames of a port keep their order.
 */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io.h"
#include "train.h"

#define NEEDS_CSUM 1u
/* A full port is waited for this often and this long (ns) per transmit; then the rest of its run is dropped. */
#define FULL_RETRIES 5
#define FULL_WAIT_NS 200000

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

/* Offers `count` messages; returns how many frames the kernel took, skipping and counting those that it refuses. */
static unsigned send_messages(struct ilb_io *io, struct ilb_port *port, unsigned count, unsigned *waits) {
  unsigned done = 0, sent = 0;
  while (done < count) {
    const int taken = sendmmsg(port->fd, io->tx_messages + done, count - done, MSG_DONTWAIT);
    if (taken > 0) {
      struct load load = {0};
      for (int i = 0; i < taken; i++, done++) {
        load.frames += io->tx_loads[done].frames;
        load.bytes += io->tx_loads[done].bytes;
      }
      ilb_count(port, ILB_TX_FRAMES, load.frames);
      ilb_count(port, ILB_TX_BYTES, load.bytes);
      sent += load.frames;
      continue;
    }
    const int error = errno;
    if (error == EINTR) continue;
    ilb_note_errno(port, error);
    if (error == EAGAIN) {
      if (wait_for_room(port->fd, waits)) continue;
      for (; done < count; done++) ilb_count(port, ILB_TX_BUSY, io->tx_loads[done].frames);
      break;
    }
    /* The error belongs to the first message of this call, all before it are out. */
    ilb_count(port, counter_of_error(error), io->tx_loads[done].frames);
    done++;
  }
  return sent;
}

/* A port's run on its way to messages. */
struct run {
  unsigned messages, train_parts;
  struct ilb_train train; /* the last message, while segments may join it; count 0: none may */
};

static void end_train(struct run *run) {
  if (run->train.count > 0) ilb_train_close(&run->train);
  run->train.count = 0;
}

/* Whether the frame has joined the message before it. */
static bool join_train(struct ilb_io *io, struct run *run, const struct ilb_segment *segment) {
  struct ilb_train *train = &run->train;
  if (train->count == 0 || !ilb_train_add(train, segment)) return false;
  struct msghdr *message = &io->tx_messages[run->messages - 1].msg_hdr;
  struct load *load = &io->tx_loads[run->messages - 1];
  message->msg_iov = train->parts;
  message->msg_iovlen = 1 + train->count;
  load->frames++;
  load->bytes += segment->descriptor->length;
  run->train_parts += train->count == 2 ? 3 : 1;
  return true;
}

static void add_message(struct ilb_io *io, struct run *run, unsigned index, unsigned parts) {
  io->tx_messages[run->messages].msg_hdr = (struct msghdr){.msg_iov = io->tx[index].part, .msg_iovlen = parts};
  io->tx_loads[run->messages] = (struct load){1, io->descriptors[index].length};
  run->messages++;
}

static unsigned flush_port(struct ilb_io *io, unsigned port_index) {
  struct ilb_port *port = io->ports[port_index];
  struct run run = {0};
  for (unsigned i = 0; i < io->queued[port_index]; i++) {
    const unsigned index = io->queue[port_index][i];
    unsigned parts;
    if (!scatter_frame(io, index, &parts)) {
      ilb_count(port, ILB_TX_INVALID, 1);
      continue;
    }
    struct ilb_segment segment;
    const bool is_segment = ilb_segment_read(&segment, &io->descriptors[index], io->memory);
    if (is_segment && join_train(io, &run, &segment)) continue;
    end_train(&run);
    add_message(io, &run, index, parts);
    if (!is_segment) continue;
    struct iovec *own = io->train_parts + run.train_parts;
    memcpy(own, io->tx[index].part, 2 * sizeof *own);
    ilb_train_begin(&run.train, &segment, own);
  }
  end_train(&run);
  io->queued[port_index] = 0;
  return send_messages(io, port, run.messages, &io->waits[port_index]);
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
