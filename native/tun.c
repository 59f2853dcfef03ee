/*
 * A TUN interface of our own, several queues, virtio-net headers and offloads. It is never made persistent, so the kernel
 * removes it when the process ends, however it ends. Reading is in io.c, writing in transmit.c.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "port.h"

/* Since Linux 6.2; older headers lack them. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define ILB_MAX_QUEUES 16u

int ilb_open_tun_device(char name[16], int flags) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -errno;
  struct ifreq request = {0};
  memcpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  request.ifr_flags = (short)(flags | IFF_NO_PI | IFF_VNET_HDR);
  int header = ILB_VNET_HEADER;
  if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0) {
    int error = -errno;
    close(fd);
    return error;
  }
  memcpy(name, request.ifr_name, sizeof request.ifr_name);
  return fd;
}

/* Opens one queue; the first creates the interface and refuses an existing one. Returns the descriptor. */
static int open_queue(char name[16], bool first) {
  return ilb_open_tun_device(name, IFF_TUN | IFF_MULTI_QUEUE | (first ? IFF_TUN_EXCL : 0));
}

/* Asks for all offloads that we understand; returns those granted, 0 if none. */
static uint32_t set_offloads(int fd) {
  const unsigned long tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
  const unsigned long wishes[] = {tcp | TUN_F_USO4 | TUN_F_USO6, tcp, TUN_F_CSUM};
  for (unsigned i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
    if (ioctl(fd, TUNSETOFFLOAD, wishes[i]) == 0) return (uint32_t)wishes[i];
  }
  return 0;
}

static int open_port(char name[16], bool first, struct ilb_port **out) {
  struct ilb_port *port = calloc(1, sizeof *port);
  if (!port) return -ENOMEM;
  port->fd = open_queue(name, first);
  if (port->fd < 0) {
    int error = port->fd;
    free(port);
    return error;
  }
  port->pass_fd = port->fd;
  port->kind = ILB_PORT_IP;
  port->receives = true;
  port->transmits = true;
  port->info.kind = ILB_PORT_IP;
  memcpy(port->info.name, name, sizeof port->info.name);
  port->info.offloads = set_offloads(port->fd);
  *out = port;
  return 0;
}

/* Index and MTU need a socket of any kind, the queue itself cannot tell. */
static int describe(struct ilb_port *port) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int error = ilb_read_interface(fd, &port->info);
  close(fd);
  return error;
}

int ilb_tun_open(const char *name, uint32_t queues, int64_t *handles) {
  char real_name[16];
  if (queues == 0 || queues > ILB_MAX_QUEUES) return -EINVAL;
  int error = ilb_copy_interface_name(real_name, name);
  if (error) return error;
  struct ilb_port *ports[ILB_MAX_QUEUES];
  uint32_t open_count = 0;
  while (!error && open_count < queues) {
    error = open_port(real_name, open_count == 0, &ports[open_count]);
    if (!error) error = describe(ports[open_count++]);
  }
  for (uint32_t i = 0; i < open_count; i++) {
    if (error) ilb_port_close(ports[i]);
    else handles[i] = ilb_handle(ports[i]);
  }
  return error;
}
