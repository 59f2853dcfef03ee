/*
 * Deals the frames of one interface out to several packet sockets, one per worker, by a program of ours in the kernel (classic
 * BPF). Both directions of a translated connection go to one socket as far as a frame alone can tell, and for new flows
 * assembly/owner.ts computes the same number (src/engine/owner.ts in plain words): so what a worker receives is mostly its own.
 */
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "port.h"

#ifndef PACKET_FANOUT_FLAG_UNIQUEID
#define PACKET_FANOUT_FLAG_UNIQUEID 0x2000
#endif
#ifndef PACKET_FANOUT_FLAG_IGNORE_OUTGOING
#define PACKET_FANOUT_FLAG_IGNORE_OUTGOING 0x4000
#endif

#define MORE_FRAGMENTS_AND_OFFSET 0x3fff
/* 104 are used. */
#define MOST_INSTRUCTIONS 128

/* Words that the program keeps. */
enum { SOURCE_PORT, DESTINATION_PORT, SOURCE, DESTINATION, PORTS };

struct program {
  struct sock_filter code[MOST_INSTRUCTIONS];
  unsigned length;
};

/* Appends an instruction. Returns its place. */
static unsigned emit(struct program *p, uint16_t code, uint32_t k) {
  p->code[p->length] = (struct sock_filter){.code = code, .k = k};
  return p->length++;
}

/* A jump that is taken when the test of A fails, to wherever land() puts it. */
static unsigned unless(struct program *p, uint16_t test, uint32_t k) { return emit(p, BPF_JMP | test | BPF_K, k); }

static void land(struct program *p, unsigned jump) {
  struct sock_filter *from = &p->code[jump];
  const unsigned distance = p->length - jump - 1;
  if (from->code == (BPF_JMP | BPF_JA)) from->k = distance;
  else from->jf = (uint8_t)distance;
}

static void load(struct program *p, uint16_t size, uint32_t at) { emit(p, BPF_LD | size | BPF_ABS, at); }
static void get(struct program *p, unsigned word) { emit(p, BPF_LD | BPF_MEM, word); }
static void put(struct program *p, unsigned word) { emit(p, BPF_ST, word); }

/* A = A operation kept word */
static void with(struct program *p, uint16_t operation, unsigned word) {
  emit(p, BPF_LDX | BPF_MEM, word);
  emit(p, BPF_ALU | operation | BPF_X, 0);
}

/* A = (A ^ A >> bits) */
static void fold(struct program *p, unsigned bits) {
  emit(p, BPF_MISC | BPF_TAX, 0);
  emit(p, BPF_ALU | BPF_RSH | BPF_K, bits);
  emit(p, BPF_ALU | BPF_XOR | BPF_X, 0);
}

/* Keeps the exclusive or of the four words of an IPv6 address. */
static void keep_address6(struct program *p, unsigned word, uint32_t at) {
  load(p, BPF_W, at);
  for (unsigned i = 1; i < 4; i++) {
    emit(p, BPF_MISC | BPF_TAX, 0);
    load(p, BPF_W, at + 4 * i);
    emit(p, BPF_ALU | BPF_XOR | BPF_X, 0);
  }
  put(p, word);
}

/*
 * Where a jump `to_here` leads past the instructions before: a packet that shows no ports goes by both addresses. The ports kept are
 * 0, so the source's word counts.
 */
static void or_addresses_only(struct program *p, unsigned to_here) {
  const unsigned done = emit(p, BPF_JMP | BPF_JA, 0);
  land(p, to_here);
  get(p, SOURCE);
  with(p, BPF_XOR, DESTINATION);
  put(p, SOURCE);
  land(p, done);
}

/* Keeps the ports when A is the number of TCP or UDP; X is the length of the header. */
static void keep_ports(struct program *p) {
  const unsigned tcp = unless(p, BPF_JEQ, IPPROTO_TCP), past = emit(p, BPF_JMP | BPF_JA, 0);
  land(p, tcp);
  const unsigned other = unless(p, BPF_JEQ, IPPROTO_UDP);
  land(p, past);
  emit(p, BPF_LD | BPF_H | BPF_IND, 0);
  put(p, SOURCE_PORT);
  emit(p, BPF_LD | BPF_H | BPF_IND, 2);
  put(p, DESTINATION_PORT);
  or_addresses_only(p, other);
}

static void read_ipv4(struct program *p) {
  load(p, BPF_W, 12);
  put(p, SOURCE);
  load(p, BPF_W, 16);
  put(p, DESTINATION);
  load(p, BPF_H, 6);
  emit(p, BPF_ALU | BPF_AND | BPF_K, MORE_FRAGMENTS_AND_OFFSET);
  const unsigned fragment = unless(p, BPF_JEQ, 0);
  emit(p, BPF_LDX | BPF_B | BPF_MSH, 0);
  load(p, BPF_B, 9);
  keep_ports(p);
  or_addresses_only(p, fragment);
}

static void read_ipv6(struct program *p) {
  keep_address6(p, SOURCE, 8);
  keep_address6(p, DESTINATION, 24);
  emit(p, BPF_LDX | BPF_IMM, 40);
  load(p, BPF_B, 6);
  keep_ports(p);
}

/*
 * A: the lower port, which counts from ILB_EPHEMERAL_FROM on; below it is a service's, which servers may have on another port than
 * the VIP. Keeps both, and loads the address of the end with the higher one.
 */
static void choose_end(struct program *p, unsigned higher_port, unsigned address) {
  const unsigned service = unless(p, BPF_JGE, ILB_EPHEMERAL_FROM);
  emit(p, BPF_ALU | BPF_LSH | BPF_K, 16);
  const unsigned joined = emit(p, BPF_JMP | BPF_JA, 0);
  land(p, service);
  emit(p, BPF_LD | BPF_IMM, 0);
  land(p, joined);
  with(p, BPF_OR, higher_port);
  put(p, PORTS);
  get(p, address);
}

/* The end with the higher port is almost always the client; when the ports are alike the sender is taken. */
static void mix(struct program *p, uint32_t secret) {
  emit(p, BPF_LDX | BPF_MEM, DESTINATION_PORT);
  get(p, SOURCE_PORT);
  const unsigned destination_is_higher = emit(p, BPF_JMP | BPF_JGE | BPF_X, 0);
  get(p, DESTINATION_PORT);
  choose_end(p, SOURCE_PORT, SOURCE);
  const unsigned chosen = emit(p, BPF_JMP | BPF_JA, 0);
  land(p, destination_is_higher);
  choose_end(p, DESTINATION_PORT, DESTINATION);
  land(p, chosen);
  /* The finaliser of MurmurHash3 (Appleby, 2011), the ports let in half way. */
  emit(p, BPF_ALU | BPF_XOR | BPF_K, secret);
  fold(p, 16);
  emit(p, BPF_ALU | BPF_MUL | BPF_K, 0x85ebca6b);
  with(p, BPF_ADD, PORTS);
  fold(p, 13);
  emit(p, BPF_ALU | BPF_MUL | BPF_K, 0xc2b2ae35);
  fold(p, 16);
  emit(p, BPF_RET | BPF_A, 0);
}

/* Offsets count from the network header, where the kernel has such a program begin. What it cannot read ends it with 0. */
static void write_program(struct program *p, uint32_t secret) {
  emit(p, BPF_LD | BPF_IMM, 0);
  put(p, SOURCE_PORT);
  put(p, DESTINATION_PORT);
  load(p, BPF_H, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL));
  const unsigned ipv4 = unless(p, BPF_JEQ, ETH_P_IP);
  read_ipv4(p);
  const unsigned done = emit(p, BPF_JMP | BPF_JA, 0);
  land(p, ipv4);
  /* The socket's filter leaves nothing else than IPv6. */
  read_ipv6(p);
  land(p, done);
  mix(p, secret);
}

/*
 * No DEFRAG flag: the kernel would put fragments together and with them change what the servers see. No ROLLOVER: a full
 * socket drops, as it does alone. A group has an IGNORE_OUTGOING of its own; the sockets' setting does not count there.
 */
int ilb_packet_share(struct ilb_port *port, int group, uint32_t secret) {
  if (port->kind != ILB_PORT_ETHERNET || !port->receives || group > UINT16_MAX) return -EINVAL;
  const int type = PACKET_FANOUT_CBPF | PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
  int setting = group < 0 ? (type | PACKET_FANOUT_FLAG_UNIQUEID) << 16 : type << 16 | group;
  socklen_t length = sizeof setting;
  if (setsockopt(port->fd, SOL_PACKET, PACKET_FANOUT, &setting, sizeof setting) < 0) return -errno;
  if (getsockopt(port->fd, SOL_PACKET, PACKET_FANOUT, &setting, &length) < 0) return -errno;
  if (group < 0) {
    struct program program = {0};
    write_program(&program, secret);
    const struct sock_fprog dealing = {.len = (unsigned short)program.length, .filter = program.code};
    if (setsockopt(port->fd, SOL_PACKET, PACKET_FANOUT_DATA, &dealing, sizeof dealing) < 0) return -errno;
  }
  return setting & UINT16_MAX;
}
