/*
 * Traffic for the laboratory rows of the benchmarks: what iperf3 and wrk do not do.
 *
 *   traffic send INTERFACE SOURCE DESTINATION PORT MAC FLOWS PER-SECOND MS   60-byte UDP frames; PER-SECOND 0: flat out
 *   traffic echo ADDRESS PORT                                                answers every datagram with itself
 *   traffic pingpong ADDRESS PORT MS                                         one datagram at a time, compared with its echo
 *   traffic first ADDRESS PORT EVERY-US MS                                   asks until the first answer is there
 *
 * One line of JSON on standard output. Frames go through a packet socket, so the sender costs as little as it can; their
 * checksums are complete. Programs that answer print "ready" first and run until they are told to stop.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_BYTES = 60, PAYLOAD_BYTES = 18, BATCH = 32, FIRST_SOURCE_PORT = 20000, MAX_FLOWS = 16384, MAX_SAMPLES = 1 << 20 };

static void die(const char *what) {
  fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t clock_ns(clockid_t id) {
  struct timespec now;
  clock_gettime(id, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct sockaddr_in address_of(const char *text, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, text, &address.sin_addr) != 1) die(text);
  return address;
}

/* Sum of big-endian 16-bit words (RFC 1071); `bytes` is even. */
static uint32_t sum_words(const uint8_t *data, size_t bytes, uint32_t sum) {
  for (size_t i = 0; i < bytes; i += 2) sum += (uint32_t)data[i] << 8 | data[i + 1];
  return sum;
}

static void put_checksum(uint8_t *at, uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  sum = ~sum & 0xffff;
  at[0] = (uint8_t)(sum >> 8);
  at[1] = (uint8_t)sum;
}

/* ---- send ------------------------------------------------------------------------------------------------------- */

/* A frame of one flow, with complete checksums. A UDP checksum of 0 cannot come up: the words of the header are not all ones. */
static void write_frame(uint8_t *frame, const uint8_t macs[12], struct in_addr from, struct sockaddr_in to, uint16_t flow) {
  const uint16_t source_port = htons((uint16_t)(FIRST_SOURCE_PORT + flow)), udp_bytes = 8 + PAYLOAD_BYTES;
  uint8_t *ip = frame + 14, *udp = ip + 20;
  memset(frame, 0, FRAME_BYTES);
  memcpy(frame, macs, 12);
  frame[12] = 0x08;
  ip[0] = 0x45;
  ip[3] = 20 + 8 + PAYLOAD_BYTES;
  ip[6] = 0x40; /* don't fragment */
  ip[8] = 64;
  ip[9] = IPPROTO_UDP;
  memcpy(ip + 12, &from, 4);
  memcpy(ip + 16, &to.sin_addr, 4);
  put_checksum(ip + 10, sum_words(ip, 20, 0));
  memcpy(udp, &source_port, 2);
  memcpy(udp + 2, &to.sin_port, 2);
  udp[5] = (uint8_t)udp_bytes;
  for (unsigned i = 0; i < PAYLOAD_BYTES; i++) udp[8 + i] = (uint8_t)(flow + i);
  put_checksum(udp + 6, sum_words(udp, udp_bytes, sum_words(ip + 12, 8, IPPROTO_UDP + udp_bytes)));
}

static int open_interface(const char *name, uint8_t own_mac[6]) {
  const int fd = socket(AF_PACKET, SOCK_RAW, 0);
  if (fd < 0) die("packet socket");
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
  socklen_t length = sizeof address;
  const int buffer = 4 << 20;
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer) < 0) die("send buffer");
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die(name);
  if (getsockname(fd, (struct sockaddr *)&address, &length) < 0) die(name);
  memcpy(own_mac, address.sll_addr, 6);
  return fd;
}

static uint8_t frames[MAX_FLOWS][64];

static int send_frames(char **argv) {
  uint8_t macs[12];
  struct in_addr from;
  if (inet_pton(AF_INET, argv[1], &from) != 1) die(argv[1]);
  const struct sockaddr_in to = address_of(argv[2], argv[3]);
  if (sscanf(argv[4], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", macs, macs + 1, macs + 2, macs + 3, macs + 4, macs + 5) != 6) die(argv[4]);
  const unsigned flows = (unsigned)atoi(argv[5]);
  const uint64_t per_second = (uint64_t)atoll(argv[6]), span_ns = (uint64_t)atoll(argv[7]) * 1000000u;
  if (flows == 0 || flows > MAX_FLOWS) die("flows");
  const int fd = open_interface(argv[0], macs + 6);
  struct iovec parts[BATCH];
  struct mmsghdr messages[BATCH] = {0};
  for (unsigned flow = 0; flow < flows; flow++) write_frame(frames[flow], macs, from, to, (uint16_t)flow);

  const uint64_t started = clock_ns(CLOCK_MONOTONIC);
  uint64_t sent = 0, refused = 0, now = started;
  unsigned flow = 0;
  while ((now = clock_ns(CLOCK_MONOTONIC)) - started < span_ns) {
    unsigned count = BATCH;
    if (per_second > 0) {
      const uint64_t due = (uint64_t)((double)(now - started) * (double)per_second / 1e9);
      if (due <= sent) continue;
      if (due - sent < count) count = (unsigned)(due - sent);
    }
    for (unsigned i = 0; i < count; i++) {
      parts[i] = (struct iovec){frames[flow], FRAME_BYTES};
      messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
      if (++flow == flows) flow = 0;
    }
    const int taken = sendmmsg(fd, messages, count, 0);
    if (taken < 0 && errno != ENOBUFS) die("send");
    if (taken < 0) refused++;
    else sent += (uint64_t)taken;
  }
  printf("{\"sent\":%llu,\"refused\":%llu,\"seconds\":%.6f}\n", (unsigned long long)sent, (unsigned long long)refused,
         (double)(now - started) / 1e9);
  return 0;
}

/* ---- echo, pingpong, first -------------------------------------------------------------------------------------- */

static int echo(char **argv) {
  const struct sockaddr_in own = address_of(argv[0], argv[1]);
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || bind(fd, (const struct sockaddr *)&own, sizeof own) < 0) die("echo");
  puts("ready");
  fflush(stdout);
  for (;;) {
    uint8_t data[2048];
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    const ssize_t size = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&peer, &length);
    if (size < 0 && errno != EINTR && errno != ECONNREFUSED) die("receive");
    if (size >= 0) sendto(fd, data, (size_t)size, 0, (struct sockaddr *)&peer, length);
  }
  return 0;
}

static int connected_socket(const char *host, const char *port) {
  const struct sockaddr_in to = address_of(host, port);
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof to) < 0) die("socket");
  return fd;
}

static int by_value(const void *a, const void *b) {
  const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static uint32_t samples[MAX_SAMPLES];

static int pingpong(char **argv) {
  const int fd = connected_socket(argv[0], argv[1]);
  const uint64_t span_ns = (uint64_t)atoll(argv[2]) * 1000000u, started = clock_ns(CLOCK_MONOTONIC);
  uint64_t asked = started;
  unsigned count = 0, lost = 0;
  while (count < MAX_SAMPLES && asked - started < span_ns) {
    uint64_t question[3] = {asked, count, ~asked}, answer[4];
    if (send(fd, question, PAYLOAD_BYTES, 0) < 0 && errno != ECONNREFUSED) die("send");
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    bool answered = false;
    while (!answered && poll(&ready, 1, 100) > 0)
      answered = recv(fd, answer, sizeof answer, MSG_DONTWAIT) == PAYLOAD_BYTES && memcmp(question, answer, PAYLOAD_BYTES) == 0;
    const uint64_t now = clock_ns(CLOCK_MONOTONIC);
    if (answered) samples[count++] = (uint32_t)(now - asked);
    else lost++;
    asked = now;
  }
  if (count == 0) die("no answer");
  qsort(samples, count, sizeof samples[0], by_value);
  printf("{\"count\":%u,\"lost\":%u,\"p50\":%.2f,\"p99\":%.2f}\n", count, lost, samples[count / 2] / 1e3,
         samples[(uint64_t)count * 99 / 100] / 1e3);
  return 0;
}

/* Wall clock, because the one who compares lives in another program. */
static int first(char **argv) {
  const uint64_t span_ns = (uint64_t)atoll(argv[3]) * 1000000u, started = clock_ns(CLOCK_MONOTONIC);
  const struct timespec pause = {.tv_nsec = atol(argv[2]) * 1000};
  struct pollfd ready = {.events = POLLIN};
  puts("ready");
  fflush(stdout);
  const int fd = ready.fd = connected_socket(argv[0], argv[1]);
  for (uint64_t asked = 0; clock_ns(CLOCK_MONOTONIC) - started < span_ns; asked++) {
    uint64_t answer;
    (void)!send(fd, &asked, sizeof asked, 0); /* "unreachable" is what an unanswered VIP gives */
    ppoll(&ready, 1, &pause, NULL);
    if (recv(fd, &answer, sizeof answer, MSG_DONTWAIT) != sizeof answer) continue;
    printf("{\"atMs\":%.3f,\"asked\":%llu}\n", (double)clock_ns(CLOCK_REALTIME) / 1e6, (unsigned long long)asked + 1);
    return 0;
  }
  errno = ETIMEDOUT;
  die("no answer");
  return 1;
}

int main(int argc, char **argv) {
  const struct {
    const char *name;
    int words;
    int (*run)(char **);
  } modes[] = {{"send", 8, send_frames}, {"echo", 2, echo}, {"pingpong", 3, pingpong}, {"first", 4, first}};
  for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
    if (argc == modes[i].words + 2 && strcmp(argv[1], modes[i].name) == 0) return modes[i].run(argv + 2);
  fprintf(stderr, "usage: traffic send|echo|pingpong|first ... (see traffic.c)\n");
  return 2;
}
