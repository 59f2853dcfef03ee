/*
 * The fast path of the packet engine in C: what the WebAssembly of assembly/ is measured against, on the same memory.
 * Same passes, same hash, same buckets, same work for every packet (parse, look-up, deadline, counters, rewrite with
 * incremental checksums, MAC header, verdict and egress port): established half-NAT flows of TCP and UDP over IPv4. Whatever
 * else comes is left as it is and not counted. Not part of the product; test/bench/c-twin.test.ts holds it to the engine.
 *
 * Compiled twice: TWIN_PREFETCH 0 touches buckets by stores as the engine does, 1 uses prefetch instructions,
 * which WebAssembly does not have. Numbers from the wire are read little-endian, as they lie (RFC 1071 section 2 B).
 */
#include <stdint.h>
#include <string.h>
#if defined(__AVX512VL__) || defined(__AVX2__)
#include <immintrin.h>
#endif
#include "engine-layout.h"

#ifndef TWIN_PREFETCH
#error "TWIN_PREFETCH is 0 or 1"
#endif
#if TWIN_PREFETCH
#define TWIN(name) ilb_twin_prefetch_##name
#else
#define TWIN(name) ilb_twin_##name
#endif

#define ALWAYS static inline __attribute__((always_inline))

/* Scratch.shape as assembly/inspect.ts has it: IP total length and flags. */
enum {
  SHAPE_TOTAL = 0xfffff,
  SHAPE_TCP = 1 << 20,
  SHAPE_PARTIAL = 1 << 21,
  SHAPE_LINK = 1 << 22,
  SHAPE_IPV4 = 1 << 23,
};
enum { NEEDS_CSUM = 1, TTL_STEP = 0xfffe, IPV4_TYPE = 0x0008, STATE_FLAGS = 0x0700, NO_LINK = 1, NO_WAY = 0x10000, MANY_BUCKETS = 1 << 16 };
/* Of the first eight bytes of an IPv4 header: version, header length, MF and offset. */
#define FIRST_BITS 0xff3f0000000000ffull
#define FIRST_PLAIN 0x45
/* Of the eight descriptor bytes from csumOffset on: port and flags. */
#define ARRIVAL_BITS 0xffff000000ff0000ull
#define ARRIVAL_UNKNOWN 1
/* Of a virtio header's first two bytes: NEEDS_CSUM and gsoType. */
#define OFFLOAD_BITS 0xff01
#define MAC_BITS 0x0000ffffffffffffull

/* Where one worker's regions begin, as addresses. */
struct bases {
  uint8_t *memory;
  const uint32_t *hash_keys;
  const struct ilb_port_record *ports;
  const uint64_t *next_hops;
  uint32_t next_hop_count;
  struct ilb_descriptor *descriptors;
  struct ilb_scratch *scratch;
  struct ilb_worker_state *state;
  struct ilb_worker_counters *counters;
  uint64_t *reasons;
  uint8_t *buckets;
  uint32_t bucket_count;
  struct ilb_pair_record *pairs;
  const uint64_t *client_hops;
};

static struct bases attached;

ALWAYS uint16_t load16(const void *at) { uint16_t v; memcpy(&v, at, 2); return v; }
ALWAYS uint32_t load32(const void *at) { uint32_t v; memcpy(&v, at, 4); return v; }
ALWAYS uint64_t load64(const void *at) { uint64_t v; memcpy(&v, at, 8); return v; }
ALWAYS void store16(void *at, uint16_t v) { memcpy(at, &v, 2); }
ALWAYS void store32(void *at, uint32_t v) { memcpy(at, &v, 4); }
ALWAYS void store64(void *at, uint64_t v) { memcpy(at, &v, 8); }

/* Ties the twin to one worker's region. @return 0, or -1 when the memory was laid out otherwise */
int32_t TWIN(attach)(uint8_t *memory, uint32_t map_offset) {
  const struct ilb_worker_map *map = (const void *)(memory + map_offset);
  const struct ilb_shared_header *header = (const void *)(memory + map->shared_header);
  if (header->fingerprint != ILB_LAYOUT_FINGERPRINT) return -1;
  attached = (struct bases){
    .memory = memory,
    .hash_keys = (const void *)(memory + map->hash_keys),
    .ports = (const void *)(memory + map->ports),
    .next_hops = (const void *)(memory + map->next_hops),
    .next_hop_count = map->next_hop_count,
    .descriptors = (void *)(memory + map->descriptors),
    .scratch = (void *)(memory + map->scratch),
    .state = (void *)(memory + map->state),
    .counters = (void *)(memory + map->counters),
    .reasons = (void *)(memory + map->counters + sizeof(struct ilb_worker_counters)),
    .buckets = memory + map->buckets,
    .bucket_count = map->bucket_count,
    .pairs = (void *)(memory + map->pairs),
    .client_hops = (const void *)(memory + map->client_hops),
  };
  return 0;
}

/* --- checksums, RFC 1624 --- */

ALWAYS uint32_t fold(uint32_t sum) { return (sum + (sum << 16 | sum >> 16)) >> 16; }

ALWAYS uint32_t delta16(uint32_t before, uint32_t after) { return (before ^ 0xffff) + after; }

ALWAYS uint32_t updated(uint32_t stored, uint32_t delta) { return fold((stored ^ 0xffff) + delta) ^ 0xffff; }

/* --- key: keyed NH, two rows --- */

ALWAYS uint64_t product(uint32_t a, uint32_t b) { return (uint64_t)a * b; }

ALWAYS uint64_t tuple_key(const uint32_t *k, uint32_t source, uint32_t destination, uint32_t ports, uint32_t protocol) {
  const uint32_t family = protocol | 0x400;
  const uint64_t row1 = product(source + k[0], destination + k[1]) + product(ports + k[2], family + k[3]);
  const uint64_t row2 = product(source + k[12], destination + k[13]) + product(ports + k[14], family + k[15]);
  const uint64_t halves = ((row1 * (load64(k + 24) | 1)) & 0xffffffff00000000ull) | ((row2 * (load64(k + 26) | 1)) >> 32);
  const uint64_t folded = (halves ^ (halves >> 32)) * (load64(k + 30) | 1);
  return (folded ^ (folded >> 29)) | 1;
}

/* --- flow table --- */

/* A hash brought down to an index of a bucket. */
ALWAYS uint32_t scaled(const struct bases *b, uint32_t hash) { return (uint32_t)((uint64_t)hash * b->bucket_count >> 32); }

/* Bits of the ways of a bucket that hold `key`. */
ALWAYS uint32_t match_ways(const uint8_t *bucket, uint64_t key) {
#if defined(__AVX512VL__)
  return _mm256_cmpeq_epi64_mask(_mm256_loadu_si256((const void *)bucket), _mm256_set1_epi64x((long long)key));
#elif defined(__AVX2__)
  const __m256i equal = _mm256_cmpeq_epi64(_mm256_loadu_si256((const void *)bucket), _mm256_set1_epi64x((long long)key));
  return (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(equal));
#else
  uint32_t ways = 0;
  for (uint32_t way = 0; way < ILB_WAYS; way++) ways |= (uint32_t)(load64(bucket + 8 * way) == key) << way;
  return ways;
#endif
}

/* --- first pass --- */

/* Bytes of the link header of frames with these ARRIVAL_BITS; NO_LINK when they are slow. */
static uint32_t link_of(const struct bases *b, uint64_t arrival) {
  const uint32_t port = (uint32_t)(arrival >> 16);
  if (arrival >> 48 || port >= ILB_MAX_PORTS) return NO_LINK;
  const uint32_t kind = b->ports[port].kind;
  return kind == ILB_PORT_KIND_ETHERNET ? ILB_ETHERNET_HEADER : kind == ILB_PORT_KIND_IP ? 0 : NO_LINK;
}

/* Whether a packet that asks for offloads is an everyday one; then notes->mtu_bytes is what counts against an MTU. */
static int takes_offload(const struct ilb_descriptor *d, struct ilb_scratch *notes, uint32_t shape, uint32_t link, uint32_t transport) {
  const int is_tcp = (shape & SHAPE_TCP) != 0;
  if (!(d->vnet_flags & NEEDS_CSUM) || d->vnet_csum_start != link + 20 || d->vnet_csum_offset != (is_tcp ? 16 : 6)) return 0;
  notes->mtu_bytes = shape & SHAPE_TOTAL;
  if (d->vnet_gso_type) {
    if ((d->vnet_gso_type & 0x7f) != (is_tcp ? 1 : 5) || d->vnet_gso_size == 0) return 0;
    notes->mtu_bytes = 20 + transport + d->vnet_gso_size;
  }
  return 1;
}

/* Key, bucket and place of an IPv4 packet. @return its shape, 0 when it is not everyday TCP or UDP */
ALWAYS uint32_t shape_of(const struct bases *b, const struct ilb_descriptor *d, struct ilb_scratch *notes, uint32_t link) {
  const uint8_t *frame = b->memory + d->frame;
  const uint32_t in_head = d->head_length < d->length ? d->head_length : d->length;
  if (in_head < link + 28 || (link && load16(frame + 12) != IPV4_TYPE)) return 0;
  const uint8_t *ip = frame + link;
  const uint64_t first = load64(ip);
  if ((first & FIRST_BITS) != FIRST_PLAIN) return 0;
  const uint32_t total = __builtin_bswap16((uint16_t)(first >> 16));
  const uint32_t times = load16(ip + 8), protocol = times >> 8;
  if (total + link > d->length || (link && (times & 0xff) <= 1)) return 0;
  uint32_t shape = total | SHAPE_IPV4, header;
  if (protocol == 6) {
    if (in_head < link + 40) return 0;
    const uint32_t word = load16(ip + 32);
    header = (word >> 2) & 0x3c;
    if (word & STATE_FLAGS || header < 20 || header + 20 > total) return 0;
    shape |= SHAPE_TCP;
  } else {
    if (protocol != 17) return 0;
    const uint32_t claimed = __builtin_bswap16(load16(ip + 24));
    if (claimed < 8 || claimed + 20 > total) return 0;
    header = 8;
  }
  if (link) shape |= SHAPE_LINK;
  if (load16(&d->vnet_flags) & OFFLOAD_BITS) {
    shape |= SHAPE_PARTIAL;
    if (!takes_offload(d, notes, shape, link, header)) return 0;
  }
  const uint64_t key = tuple_key(b->hash_keys, load32(ip + 12), load32(ip + 16), load32(ip + 20), protocol);
  notes->key = key;
  notes->bucket = (uint32_t)(b->buckets - b->memory) + (scaled(b, (uint32_t)(key >> 32)) << 6);
  notes->layer3 = (uint32_t)(ip - b->memory);
  return shape;
}

ALWAYS void inspect(const struct bases *b, uint32_t count) {
  uint64_t known = ARRIVAL_UNKNOWN;
  uint32_t link = NO_LINK;
  for (uint32_t i = 0; i < count; i++) {
    const struct ilb_descriptor *d = b->descriptors + i;
    struct ilb_scratch *notes = b->scratch + i;
    const uint64_t arrival = load64(&d->vnet_csum_offset) & ARRIVAL_BITS;
    if (arrival != known) {
      link = link_of(b, arrival);
      known = arrival;
    }
    notes->shape = link == NO_LINK ? 0 : shape_of(b, d, notes, link);
    if (!notes->shape) notes->bucket = (uint32_t)(b->buckets - b->memory);
  }
}

/*
 * Asks for a bucket without waiting for it: by a prefetch instruction, or by a store as the engine does (touchBucket() in
 * assembly/flow-table.ts), of the lowest byte of the first way's deadline.
 */
ALWAYS void touch_bucket(uint8_t *bucket) {
#if TWIN_PREFETCH
  __builtin_prefetch(bucket);
#else
  bucket[32] = 0xff;
#endif
}

/*
 * Asks for every bucket and does nothing else, so that the misses overlap. Prefetching in the first pass instead was slower by
 * half at a million flows (AMD Zen 5, nested paging).
 */
ALWAYS void touch_buckets(const struct bases *b, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) touch_bucket(b->memory + b->scratch[i].bucket);
}

/* The same for the other buckets of what is not in its first one; worth its time from MANY_BUCKETS on. */
ALWAYS void touch_other_buckets(const struct bases *b, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    const uint64_t key = b->scratch[i].key;
    const uint8_t *bucket = b->memory + b->scratch[i].bucket;
    if (match_ways(bucket, key)) continue;
    const uint32_t index = (uint32_t)((bucket - b->buckets) >> 6), both = scaled(b, (uint32_t)key);
    touch_bucket(b->buckets + ((size_t)(both - index + (both < index ? b->bucket_count : 0)) << 6));
  }
}

/* --- second pass --- */

/* The new port of the end that is translated, as stored. @param before as loaded */
ALWAYS uint32_t translated_port(uint32_t before, const struct ilb_pair_record *pair, int reverse) {
  const uint32_t known = reverse ? pair->vip_port_be : pair->server_port_be;
  if (known) return known;
  const uint32_t host = __builtin_bswap16((uint16_t)before);
  return __builtin_bswap16((uint16_t)(reverse ? host - pair->port_add : host + pair->port_add));
}

/* @param reverse a constant */
ALWAYS void rewrite(uint8_t *ip, uint32_t shape, const struct ilb_pair_record *pair, int reverse) {
  const uint32_t delta = reverse ? pair->reverse_delta : pair->forward_delta;
  uint32_t word = load32(ip + 8), change = delta;
  if (shape & SHAPE_LINK) {
    word -= 1;
    change += TTL_STEP;
  }
  store32(ip + 8, (word & 0xffff) | (updated(word >> 16, change) << 16));
  store32(ip + (reverse ? 12 : 16), reverse ? pair->vip_ipv4_be : pair->server_ipv4_be);
  uint8_t *port = ip + 20 + (reverse ? 0 : 2);
  const uint32_t before = load16(port), after = translated_port(before, pair, reverse);
  store16(port, (uint16_t)after);
  uint8_t *l4 = ip + 20;
  if (shape & SHAPE_PARTIAL) {
    uint8_t *at = l4 + (shape & SHAPE_TCP ? 16 : 6);
    store16(at, (uint16_t)fold(load16(at) + delta));
  } else if (shape & SHAPE_TCP) {
    store16(l4 + 16, (uint16_t)updated(load16(l4 + 16), delta + delta16(before, after)));
  } else if (load16(l4 + 6)) {
    const uint32_t mended = updated(load16(l4 + 6), delta + delta16(before, after));
    store16(l4 + 6, (uint16_t)(mended ? mended : 0xffff));
  }
}

/* Whether a way, state and port as in the upper bits of NextHopRecord.destination, leads out of an Ethernet port. */
static int is_open(const struct bases *b, uint32_t way) {
  const uint32_t out = way & 0xff;
  return way >> 8 == ILB_HOP_STATE_RESOLVED && out < ILB_MAX_PORTS && b->ports[out].kind == ILB_PORT_KIND_ETHERNET;
}

/*
 * Forwards a packet of an established flow. @param open_way state and port of the way to a server that was open last
 * @return 0, with nothing changed, when it needs the slow path
 */
ALWAYS uint32_t forward(const struct bases *b, struct ilb_descriptor *d, const struct ilb_scratch *notes, uint32_t now, uint32_t *open_way) {
  const uint32_t shape = notes->shape;
  const uint64_t key = notes->key;
  uint8_t *bucket = b->memory + notes->bucket;
  uint32_t ways = match_ways(bucket, key);
  if (!ways) {
    const uint32_t index = (uint32_t)((bucket - b->buckets) >> 6), both = scaled(b, (uint32_t)key);
    bucket = b->buckets + ((size_t)(both - index + (both < index ? b->bucket_count : 0)) << 6);
    ways = match_ways(bucket, key);
    if (!ways) return 0;
  }
  uint8_t *entry = bucket + ((size_t)__builtin_ctz(ways) << 2);
  const uint32_t meta = load32(entry + 48);
  /* Index of the client hop, META_SLOW in an upper bit: one comparison for both. */
  const uint32_t turned = meta >> ILB_META_HOP_SHIFT | meta << (32 - ILB_META_HOP_SHIFT);
  const uint32_t hop_index = turned & (0xff | (uint32_t)ILB_META_SLOW << (32 - ILB_META_HOP_SHIFT));
  if (hop_index >= ILB_HOP_IN_RECORD || meta & ILB_META_RECORD) return 0;
  struct ilb_pair_record *pair = b->pairs + (meta >> ILB_META_PAIR_SHIFT);
  const uint64_t hop = b->client_hops[hop_index];
  uint8_t *ip = b->memory + notes->layer3;
  const uint32_t in_port = d->in_port;
  const uint64_t origin = (uint64_t)in_port << 48 | 1ull << 56;
  uint64_t to = hop, from;
  uint32_t mtu;
  if (meta & ILB_META_REVERSE) {
    const uint32_t out = (uint32_t)(hop >> 48) & 0xff;
    const uint32_t kind = shape & SHAPE_LINK ? ILB_PORT_KIND_ETHERNET : ILB_PORT_KIND_IP;
    if (out >= ILB_MAX_PORTS || b->ports[out].kind != kind) return 0;
    from = b->ports[out].mac;
    mtu = b->ports[out].mtu;
  } else if (shape & SHAPE_LINK) {
    if (((load64(ip - 8) & MAC_BITS) | origin) != hop || pair->next_hop >= b->next_hop_count) return 0;
    to = b->next_hops[2 * pair->next_hop];
    from = b->next_hops[2 * pair->next_hop + 1];
    mtu = (uint32_t)(from >> 48);
    const uint32_t way = (uint32_t)(to >> 48);
    if (way != *open_way) {
      if (!is_open(b, way)) return 0;
      *open_way = way;
    }
  } else {
    if (origin != hop) return 0;
    from = 0;
    mtu = b->ports[in_port].mtu;
  }
  const uint32_t total = shape & SHAPE_TOTAL;
  if ((shape & SHAPE_PARTIAL ? notes->mtu_bytes : total) > mtu) return 0;

  if (meta & ILB_META_REVERSE) rewrite(ip, shape, pair, 1);
  else rewrite(ip, shape, pair, 0);
  if (shape & SHAPE_LINK) {
    /* Each store but the last runs two bytes too far, into what the next one writes. */
    store64(ip - 14, to);
    store64(ip - 8, from);
    store16(ip - 2, IPV4_TYPE);
  }
  const uint32_t due = now + pair->idle_timeout_ms;
  if ((int32_t)(due - load32(entry + 32)) > 0) store32(entry + 32, due + ILB_DEADLINE_STEP_MS);
  pair->packets += 1;
  pair->bytes += total;

  d->vnet_flags &= NEEDS_CSUM;
  d->out_port = (uint8_t)(to >> 48);
  d->verdict = ILB_VERDICT_FORWARD;
  d->reason = ILB_REASON_FLOW_FOUND;
  d->rule_id = pair->rule_id;
  d->server_id = pair->server_id;
  d->direction = meta & ILB_META_REVERSE ? ILB_DIRECTION_SERVER_TO_CLIENT : ILB_DIRECTION_CLIENT_TO_SERVER;
  d->flow_state = ILB_FLOW_STATE_FOUND;
  d->made_first = 0;
  d->made_count = 0;
  return 1;
}

ALWAYS void clear_outcome(struct ilb_descriptor *d) {
  d->out_port = ILB_PORT_NONE;
  d->rule_id = 0;
  d->server_id = 0;
  d->direction = 0;
  d->flow_state = 0;
  d->made_first = 0;
  d->made_count = 0;
}

/* Handles descriptors 0..count-1 at `now`. @return how many were forwarded; the others have no outcome */
uint32_t TWIN(process)(uint32_t count, uint32_t now) {
  const struct bases b = attached;
  if (count > ILB_BATCH_SIZE) count = ILB_BATCH_SIZE;
  b.state->made_used = 0;
  b.state->uncounted = 0;
  inspect(&b, count);
  touch_buckets(&b, count);
  if (b.bucket_count >= MANY_BUCKETS) touch_other_buckets(&b, count);
  uint32_t quick = 0, open_way = NO_WAY;
  for (uint32_t i = 0; i < count; i++) {
    if (b.scratch[i].shape && forward(&b, b.descriptors + i, b.scratch + i, now, &open_way)) quick++;
    else clear_outcome(b.descriptors + i);
  }
  b.reasons[ILB_REASON_FLOW_FOUND] += quick;
  b.counters->packets_in += quick;
  return quick;
}
