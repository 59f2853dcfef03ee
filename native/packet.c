/*
 * Packet sockets (AF_PACKET) on Ethernet interfaces, set up so that whole super-packets with their virtio-net header can
 * be read and written. Reading is in io.c, writing in transmit.c, sharing between workers in share.c.
 */
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "port.h"
#include "thread.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

int ilb_copy_interface_name(char out[16], const char *name) {
  size_t length = strnlen(name, IFNAMSIZ);
  if (length == 0 || length >= IFNAMSIZ) return -EINVAL;
  memset(out, 0, 16);
  memcpy(out, name, length);
  return 0;
}

int ilb_read_interface(int socket_fd, struct ilb_port_info *info) {
  struct ifreq request = {0};
  memcpy(request.ifr_name, info->name, sizeof request.ifr_name);
  if (ioctl(socket_fd, SIOCGIFINDEX, &request) < 0) return -errno;
  info->interface_index = (uint32_t)request.ifr_ifindex;
  if (ioctl(socket_fd, SIOCGIFMTU, &request) < 0) return -errno;
  info->mtu = (uint32_t)request.ifr_mtu;
  return 0;
}

static int read_mac(int fd, struct ilb_port_info *info) {
  struct ifreq request = {0};
  memcpy(request.ifr_name, info->name, sizeof request.ifr_name);
  if (ioctl(fd, SIOCGIFHWADDR, &request) < 0) return -errno;
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) return -EMEDIUMTYPE;
  memcpy(info->mac, request.ifr_hwaddr.sa_data, 6);
  return 0;
}

/* Sets one buffer to `bytes` or as near as we may, and reports what the kernel accounts. */
static int size_buffer(int fd, int force_option, int option, uint32_t bytes, uint32_t *in_force) {
  int value = bytes > INT32_MAX / 2 ? INT32_MAX / 2 : (int)bytes;
  if (value > 0 && setsockopt(fd, SOL_SOCKET, force_option, &value, sizeof value) < 0) {
    if (errno != EPERM) return -errno;
    if (setsockopt(fd, SOL_SOCKET, option, &value, sizeof value) < 0) return -errno;
  }
  socklen_t length = sizeof value;
  if (getsockopt(fd, SOL_SOCKET, option, &value, &length) < 0) return -errno;
  *in_force = (uint32_t)value;
  return 0;
}

/* The filter of ilb_packet_open. Each test jumps over the final accept when it fails the frame. */
static int attach_filter(int fd, bool wants_vlan, uint32_t pass_mark) {
  struct sock_filter program[12];
  unsigned count = 0, drops[4], drop_count = 0;
  const uint32_t ancillary = (uint32_t)SKF_AD_OFF;
#define EMIT_LOAD(field) program[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ancillary + (field))
#define EMIT_EQUAL(value) program[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, 0)
  if (pass_mark != 0) {
    EMIT_LOAD(SKF_AD_MARK);
    drops[drop_count++] = count;
    EMIT_EQUAL(pass_mark);
  }
  if (!wants_vlan) {
    EMIT_LOAD(SKF_AD_VLAN_TAG_PRESENT);
    drops[drop_count++] = count;
    EMIT_EQUAL(1);
  }
  /* PACKET_HOST is 0: any bit set is a broadcast, a multicast or another host's frame. */
  EMIT_LOAD(SKF_AD_PKTTYPE);
  drops[drop_count++] = count;
  program[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, UINT32_MAX, 0, 0);
  EMIT_LOAD(SKF_AD_PROTOCOL);
  program[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 2, 0);
  program[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 1, 0);
  const unsigned drop = count;
  program[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
  program[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
#undef EMIT_LOAD
#undef EMIT_EQUAL
  for (unsigned i = 0; i < drop_count; i++) program[drops[i]].jt = (uint8_t)(drop - drops[i] - 1);
  struct sock_fprog filter = {.len = (unsigned short)count, .filter = program};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0 ? -errno : 0;
}

static int enable(int fd, int option) {
  int one = 1;
  return setsockopt(fd, SOL_PACKET, option, &one, sizeof one) < 0 ? -errno : 0;
}

/*
 * Everything between socket() and the ring. The socket was made for no protocol, so no frame enters its queue before bind;
 * header format and filter must be in force by then.
 */
static int set_up(struct ilb_port *port, uint32_t buffer_bytes, uint32_t pass_mark) {
  const int fd = port->fd;
  struct ilb_port_info *info = &port->info;
  int error = ilb_read_interface(fd, info);
  if (!error) error = read_mac(fd, info);
  if (!error) error = enable(fd, PACKET_VNET_HDR);
  if (!error) error = size_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, buffer_bytes, &info->send_buffer_bytes);
  if (!error) error = size_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, buffer_bytes, &info->receive_buffer_bytes);
  if (!error && port->receives) {
    error = enable(fd, PACKET_IGNORE_OUTGOING);
    if (!error && port->wants_vlan) error = enable(fd, PACKET_AUXDATA);
    if (!error) error = attach_filter(fd, port->wants_vlan, pass_mark);
  }
  return error;
}

/* The rest: frames arrive from here on. */
static void *settle(void *argument) {
  struct ilb_port *port = argument;
  if (port->receives) ilb_ring_open(&port->ring, port->fd, port->ring_bytes);
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET,
      .sll_protocol = port->receives ? htons(ETH_P_ALL) : 0,
      .sll_ifindex = (int)port->info.interface_index,
  };
  port->settled = bind(port->fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
  return NULL;
}

/* For a ring the kernel waits until no processor is still busy with what was before, 10 to 20 ms. Without a thread it happens here. */
static void begin_to_settle(struct ilb_port *port, uint32_t buffer_bytes) {
  port->ring_bytes = buffer_bytes;
  port->is_settling = port->receives && ilb_start_thread(&port->settling, settle, port) == 0;
  if (!port->is_settling) settle(port);
}

int ilb_packet_settle(struct ilb_port *port) {
  if (port->is_settling) pthread_join(port->settling, NULL);
  port->is_settling = false;
  return port->settled;
}

int64_t ilb_packet_open(const char *interface, uint32_t flags, uint32_t buffer_bytes, uint32_t pass_mark) {
  const uint32_t known = ILB_PACKET_RECEIVE | ILB_PACKET_TRANSMIT | ILB_PACKET_VLAN;
  if ((flags & ~known) != 0 || (flags & (ILB_PACKET_RECEIVE | ILB_PACKET_TRANSMIT)) == 0) return -EINVAL;
  struct ilb_port *port = calloc(1, sizeof *port);
  if (!port) return -ENOMEM;
  port->kind = ILB_PORT_ETHERNET;
  port->info.kind = ILB_PORT_ETHERNET;
  port->pass_fd = -1;
  port->receives = (flags & ILB_PACKET_RECEIVE) != 0;
  port->transmits = (flags & ILB_PACKET_TRANSMIT) != 0;
  port->wants_vlan = (flags & ILB_PACKET_VLAN) != 0;
  int error = ilb_copy_interface_name(port->info.name, interface);
  if (!error) {
    port->fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    error = port->fd < 0 ? -errno : set_up(port, buffer_bytes, pass_mark);
    if (error && port->fd >= 0) close(port->fd);
  }
  if (error) {
    free(port);
    return error;
  }
  begin_to_settle(port, buffer_bytes);
  return ilb_handle(port);
}

/*
 * What only the kernel knows of a packet socket. Its count of drops is cleared by reading it, so it is added up here;
 * atomically, for there may be two readers. A socket whose interface was removed is bound to index -1 and silent for ever.
 */
static void collect_from_kernel(struct ilb_port *port) {
  struct tpacket_stats statistics;
  struct sockaddr_ll address;
  socklen_t length = sizeof statistics;
  if (port->kind != ILB_PORT_ETHERNET) return;
  if (getsockopt(port->fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &length) == 0) {
    __atomic_fetch_add(&port->counters[ILB_RX_KERNEL_DROPS], statistics.tp_drops, __ATOMIC_RELAXED);
  }
  length = sizeof address;
  if (getsockname(port->fd, (struct sockaddr *)&address, &length) == 0 && address.sll_ifindex < 0) {
    __atomic_store_n(&port->counters[ILB_PORT_DEAD], 1, __ATOMIC_RELAXED);
  }
}

int ilb_port_counters(struct ilb_port *port, uint64_t *out) {
  collect_from_kernel(port);
  for (int i = 0; i < ILB_COUNTERS; i++) out[i] = __atomic_load_n(&port->counters[i], __ATOMIC_RELAXED);
  return 0;
}

int ilb_port_info(const struct ilb_port *port, struct ilb_port_info *out) {
  *out = port->info;
  return 0;
}

int ilb_port_set_pass(struct ilb_port *port, int fd) {
  port->pass_fd = fd;
  return 0;
}

int ilb_port_close(struct ilb_port *port) {
  ilb_packet_settle(port);
  ilb_ring_close(&port->ring);
  close(port->fd);
  free(port);
  return 0;
}
