/*
 * Probes of servers that answer for an address which is not theirs on the wire (direct server return): the packet goes to
 * the VIP, in a frame to that very server, whatever the kernel's routing says about the VIP, be it our own address.
 * Builds and reads packets; which of them are sent, and what answers mean, is probe-direct.c's business.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "probe-frames.h"

enum { ICMP4 = 1, TCP = 6, UDP = 17, ICMP6 = 58 };
enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };
enum { HEADER4 = 20, HEADER6 = 40, TCP_HEADER = 20, UDP_HEADER = 8, ECHO = 16, ERROR_HEADER = 8 };
#define TTL 64
#define WINDOW 65535u
#define MSS_OPTION 0x02040218u /* 536 bytes: nothing is going to be sent */

static void put16(uint8_t *at, uint32_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}
static void put32(uint8_t *at, uint32_t value) {
  put16(at, value >> 16);
  put16(at + 2, value);
}
static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

/* RFC 1071. */
static uint32_t sum_of(const uint8_t *at, size_t bytes, uint32_t sum) {
  for (; bytes > 1; at += 2, bytes -= 2) sum += get16(at);
  return bytes ? sum + ((uint32_t)*at << 8) : sum;
}
static uint16_t folded(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

/* ---- Writing ---------------------------------------------------------------------------------------------------- */

static size_t address_bytes(uint8_t family) { return family == 4 ? 4 : 16; }

/* The IP header before a transport part of `bytes` that lies at its place already. Returns the packet's length. */
static size_t wrap(uint8_t *ip, const struct ilb_probe_request *request, uint8_t protocol, size_t bytes) {
  const bool is_v4 = request->family == 4;
  const size_t header = is_v4 ? HEADER4 : HEADER6;
  memset(ip, 0, header);
  if (is_v4) {
    ip[0] = 0x45;
    put16(ip + 2, (uint32_t)(header + bytes));
    put16(ip + 6, 0x4000); /* don't fragment */
    ip[8] = TTL;
    ip[9] = protocol;
  } else {
    ip[0] = 0x60;
    put16(ip + 4, (uint32_t)bytes);
    ip[6] = protocol;
    ip[7] = TTL;
  }
  const size_t length = address_bytes(request->family);
  memcpy(ip + (is_v4 ? 12 : 8), request->source, length);
  memcpy(ip + (is_v4 ? 16 : 24), request->address, length);
  if (is_v4) put16(ip + 10, folded(sum_of(ip, HEADER4, 0)));
  return header + bytes;
}

/* With the pseudo header (RFC 9293 3.1, RFC 768, RFC 8200 8.1). */
static uint16_t transport_checksum(const struct ilb_probe_request *request, uint8_t protocol, const uint8_t *at, size_t bytes) {
  const size_t length = address_bytes(request->family);
  uint32_t sum = protocol + (uint32_t)bytes;
  sum = sum_of(request->source, length, sum);
  sum = sum_of(request->address, length, sum);
  return folded(sum_of(at, bytes, sum));
}

static uint8_t *transport_of(uint8_t *out, const struct ilb_probe_request *request) {
  return out + (request->family == 4 ? HEADER4 : HEADER6);
}

static size_t write_echo(uint8_t *out, const struct probe_frame *frame) {
  const struct ilb_probe_request *request = frame->request;
  uint8_t *at = transport_of(out, request);
  memset(at, 0, ECHO);
  at[0] = request->family == 4 ? 8 : 128;
  put16(at + 4, frame->source_port);
  put16(at + 6, frame->sequence);
  memcpy(at + 8, &frame->cookie, 8);
  put16(at + 2, request->family == 4 ? folded(sum_of(at, ECHO, 0)) : transport_checksum(request, ICMP6, at, ECHO));
  return wrap(out, request, request->family == 4 ? ICMP4 : ICMP6, ECHO);
}

static size_t write_segment(uint8_t *out, const struct probe_frame *frame, uint8_t flags, uint32_t sequence) {
  const struct ilb_probe_request *request = frame->request;
  const size_t bytes = flags == SYN ? TCP_HEADER + 4 : TCP_HEADER;
  uint8_t *at = transport_of(out, request);
  memset(at, 0, bytes);
  put16(at, frame->source_port);
  put16(at + 2, request->port);
  put32(at + 4, sequence);
  at[12] = (uint8_t)(bytes / 4 << 4);
  at[13] = flags;
  if (flags == SYN) {
    put16(at + 14, WINDOW);
    put32(at + TCP_HEADER, MSS_OPTION);
  }
  put16(at + 16, transport_checksum(request, TCP, at, bytes));
  return wrap(out, request, TCP, bytes);
}

static size_t write_datagram(uint8_t *out, const struct probe_frame *frame) {
  const struct ilb_probe_request *request = frame->request;
  uint8_t *at = transport_of(out, request);
  put16(at, frame->source_port);
  put16(at + 2, request->port);
  put16(at + 4, UDP_HEADER);
  put16(at + 6, 0);
  const uint16_t sum = transport_checksum(request, UDP, at, UDP_HEADER);
  put16(at + 6, sum == 0 ? 0xffff : sum);
  return wrap(out, request, UDP, UDP_HEADER);
}

size_t probe_frame_write(uint8_t out[PROBE_FRAME_BYTES], const struct probe_frame *frame) {
  if (frame->request->kind == ILB_PROBE_PING) return write_echo(out, frame);
  if (frame->request->kind == ILB_PROBE_TCP) return write_segment(out, frame, SYN, (uint32_t)frame->cookie);
  return write_datagram(out, frame);
}

size_t probe_frame_reset(uint8_t out[PROBE_FRAME_BYTES], const struct probe_frame *frame) {
  return write_segment(out, frame, RST, (uint32_t)frame->cookie + 1);
}

/* ---- Reading ---------------------------------------------------------------------------------------------------- */

/* Where things are in an IP packet, a whole one or one that an ICMP error quotes. */
struct layout {
  uint8_t family;
  uint8_t protocol;
  const uint8_t *source;
  const uint8_t *destination;
  const uint8_t *transport;
  size_t bytes; /* of transport */
};

/* Fragments and packets with IPv6 extension headers are no answers to what we send. */
static bool read_header(const uint8_t *at, size_t bytes, struct layout *out) {
  if (bytes < HEADER4) return false;
  if (at[0] >> 4 == 4) {
    const size_t header = (size_t)(at[0] & 15) * 4;
    if (header < HEADER4 || bytes < header || (get16(at + 6) & 0x1fff) != 0) return false;
    *out = (struct layout){.family = 4, .protocol = at[9], .source = at + 12, .destination = at + 16,
                           .transport = at + header, .bytes = bytes - header};
    return true;
  }
  if (at[0] >> 4 != 6 || bytes < HEADER6) return false;
  *out = (struct layout){.family = 6, .protocol = at[6], .source = at + 8, .destination = at + 24,
                         .transport = at + HEADER6, .bytes = bytes - HEADER6};
  return true;
}

static bool read_segment(const struct layout *packet, struct probe_answer *out) {
  if (packet->bytes < TCP_HEADER) return false;
  const uint8_t flags = packet->transport[13];
  const bool is_reset = (flags & (RST | ACK)) == (RST | ACK);
  if (!is_reset && (flags & (SYN | ACK | RST | FIN)) != (SYN | ACK)) return false;
  out->kind = ILB_PROBE_TCP;
  out->error = is_reset ? ECONNREFUSED : 0;
  out->acknowledged = get32(packet->transport + 8);
  out->from_port = get16(packet->transport);
  out->port = get16(packet->transport + 2);
  return true;
}

/* What the message says; 0: nothing that ends a probe. Codes: RFC 792 and RFC 1812 5.2.7.1, RFC 4443 3.1. */
static int errno_of(uint8_t family, uint8_t type, uint8_t code) {
  if (type != (family == 4 ? 3 : 1)) return 0;
  if (code == (family == 4 ? 3 : 4)) return ECONNREFUSED;
  if (family == 4) return code == 4 ? 0 : EHOSTUNREACH;
  return code == 1 || code == 5 ? EACCES : EHOSTUNREACH;
}

static bool read_error(const struct layout *packet, struct probe_answer *out) {
  struct layout quoted;
  const uint8_t *at = packet->transport;
  if (packet->bytes < ERROR_HEADER || !read_header(at + ERROR_HEADER, packet->bytes - ERROR_HEADER, &quoted)) return false;
  if (quoted.family != packet->family || quoted.bytes < 8) return false;
  if (quoted.protocol != TCP && quoted.protocol != UDP) return false;
  out->error = errno_of(packet->family, at[0], at[1]);
  if (out->error == 0) return false;
  out->is_quoted = true;
  out->kind = quoted.protocol == TCP ? ILB_PROBE_TCP : ILB_PROBE_UDP;
  out->port = get16(quoted.transport);
  out->from_port = get16(quoted.transport + 2);
  memcpy(out->from, quoted.destination, address_bytes(quoted.family));
  memcpy(out->to, quoted.source, address_bytes(quoted.family));
  return true;
}

static bool read_message(const struct layout *packet, struct probe_answer *out) {
  const uint8_t *at = packet->transport;
  if (packet->bytes < ERROR_HEADER) return false;
  if (at[0] != (packet->family == 4 ? 0 : 129)) return read_error(packet, out);
  if (packet->bytes < ECHO) return false;
  out->kind = ILB_PROBE_PING;
  out->identifier = get16(at + 4);
  out->port = get16(at + 6);
  memcpy(&out->cookie, at + 8, 8);
  return true;
}

bool probe_answer_read(const uint8_t *packet, size_t bytes, struct probe_answer *out) {
  struct layout whole;
  if (!read_header(packet, bytes, &whole)) return false;
  *out = (struct probe_answer){.family = whole.family};
  memcpy(out->from, whole.source, address_bytes(whole.family));
  memcpy(out->to, whole.destination, address_bytes(whole.family));
  if (whole.protocol == TCP) return read_segment(&whole, out);
  return whole.protocol == (whole.family == 4 ? ICMP4 : ICMP6) && read_message(&whole, out);
}

/* ---- The socket ------------------------------------------------------------------------------------------------- */

/* Jump `t` or `f` instructions further. */
#define TEST(operation, value, t, f) BPF_JUMP(BPF_JMP | (operation) | BPF_K, (value), (t), (f))
#define LOAD(size, offset) BPF_STMT(BPF_LD | (size) | BPF_ABS, (offset))

int probe_frames_open(void) {
  /* Not what we send ourselves. TCP to a probe port; echo replies and unreachables; nothing else. */
  struct sock_filter program[] = {
      /* 0 */ LOAD(BPF_B, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
      /* 1 */ TEST(BPF_JEQ, PACKET_HOST, 0, 22),
      /* 2 */ LOAD(BPF_H, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL)),
      /* 3 */ TEST(BPF_JEQ, ETH_P_IPV6, 10, 0),
      /* 4 */ TEST(BPF_JEQ, ETH_P_IP, 0, 19),
      /* 5 */ LOAD(BPF_B, 9),
      /* 6 */ BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
      /* 7 */ TEST(BPF_JEQ, ICMP4, 3, 0),
      /* 8 */ TEST(BPF_JEQ, TCP, 0, 15),
      /* 9 */ BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
      /* 10 */ TEST(BPF_JGE, ILB_PROBE_FIRST_PORT, 11, 13),
      /* 11 */ BPF_STMT(BPF_LD | BPF_B | BPF_IND, 0),
      /* 12 */ TEST(BPF_JEQ, 0, 10, 0),
      /* 13 */ TEST(BPF_JEQ, 3, 9, 10),
      /* 14 */ LOAD(BPF_B, 6),
      /* 15 */ TEST(BPF_JEQ, ICMP6, 3, 0),
      /* 16 */ TEST(BPF_JEQ, TCP, 0, 7),
      /* 17 */ LOAD(BPF_H, HEADER6 + 2),
      /* 18 */ TEST(BPF_JGE, ILB_PROBE_FIRST_PORT, 3, 5),
      /* 19 */ LOAD(BPF_B, HEADER6),
      /* 20 */ TEST(BPF_JEQ, 129, 2, 0),
      /* 21 */ TEST(BPF_JEQ, 1, 1, 2),
      /* 22 */ TEST(BPF_JGT, ILB_PROBE_LAST_PORT, 1, 0),
      /* 23 */ BPF_STMT(BPF_RET | BPF_K, 0xffff),
      /* 24 */ BPF_STMT(BPF_RET | BPF_K, 0),
  };
  const struct sock_fprog filter = {.len = sizeof program / sizeof *program, .filter = program};
  const int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  const int on = 1;
  /* Else the kernel would copy every packet that anybody sends, for us to look at. From Linux 4.20 on. */
  setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
  const struct sockaddr_ll everywhere = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0 &&
      bind(fd, (const struct sockaddr *)&everywhere, sizeof everywhere) == 0)
    return fd;
  const int error = -errno;
  close(fd);
  return error;
}

int probe_frame_send(int fd, const struct ilb_probe_request *request, const uint8_t *packet, size_t bytes) {
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(request->family == 4 ? ETH_P_IP : ETH_P_IPV6),
                           .sll_ifindex = (int)request->interface, .sll_halen = 6};
  memcpy(to.sll_addr, request->mac, 6);
  return sendto(fd, packet, bytes, 0, (const struct sockaddr *)&to, sizeof to) < 0 ? -errno : 0;
}
