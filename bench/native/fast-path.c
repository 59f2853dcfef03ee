/*
 * The fast path of the packet engine in C: what the WebAssembly of assembly/ is measured against, on the same memory.
 * Same passes, same hash, same buckets, same work for every packet (parse, look-up, deadline, counters, rewrite with
 * incremental checksums, MAC header, verdict and egress port): established half-NAT flows of TCP and UDP over IPv4. Whatever
 * else comes is left as it is and not counted. Not part of the product; test/bench/c-twin.test.ts holds it to the engine.
 *
 * Compiled twice: TWIN_PREFETCH 0 touches buckets by a loop of loads as the engine does, 1 uses prefetch instructions,
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

enum { IS_TCP = 1, IS_PARTIAL = 2, NEEDS_CSUM = 1, TTL_STEP = 0xfffe };
enum { IPV4_TYPE = 0x0008, FRAGMENT_BITS = 0xff3f, STATE_FLAGS = 0x07, HOP_IN_RECORD = ILB_HOP_IN_RECORD };
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
  uint32_t bucket_mask;
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
    .bucket_mask = map->bucket_mask,
    .pairs = (void *)(memory + map->pairs),
    .client_hops = (const void *)(memory + map->client_hops),
  };
  return 0;
}

/* --- checksums, RFC 1624 --- */

ALWAYS uint32_t fold(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

ALWAYS uint32_t delta32(uint32_t before, uint32_t after) {
  return ((before & 0xffff) ^ 0xffff) + ((before >> 16) ^ 0xffff) + (after & 0xffff) + (after >> 16);
}

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

/* Everyday TCP or UDP gets its key and bucket, everything else layer3 = 0. */
ALWAYS void inspect(const struct bases *b, const struct ilb_descriptor *d, struct ilb_scratch *notes) {
  notes->layer3 = 0;
  notes->bucket = (uint32_t)(b->buckets - b->memory);
  if (d->flags || d->in_port >= ILB_MAX_PORTS) return;
  const uint32_t kind = b->ports[d->in_port].kind;
  if (kind == ILB_PORT_KIND_ABSENT) return;
  const uint32_t link = kind == ILB_PORT_KIND_ETHERNET ? 14 : 0;
  const uint8_t *frame = b->memory + d->frame;
  const uint32_t in_head = d->head_length < d->length ? d->head_length : d->length;
  if (in_head < link + 28 || (link && load16(frame + 12) != IPV4_TYPE)) return;
  const uint8_t *ip = frame + link;
  const uint32_t total = __builtin_bswap16(load16(ip + 2));
  if (ip[0] != 0x45 || load16(ip + 6) & FRAGMENT_BITS || total < 28 || total + link > d->length) return;
  if (link && ip[8] <= 1) return;
  const uint32_t protocol = ip[9];
  uint32_t flags, header;
  if (protocol == 6) {
    if (total < 40 || in_head < link + 40 || ip[33] & STATE_FLAGS) return;
    header = (uint32_t)(ip[32] >> 4) << 2;
    if (header < 20 || header + 20 > total) return;
    flags = IS_TCP;
  } else if (protocol == 17) {
    const uint32_t claimed = __builtin_bswap16(load16(ip + 24));
    if (claimed < 8 || claimed + 20 > total) return;
    header = 8;
    flags = 0;
  } else {
    return;
  }
  uint32_t size = total;
  if (d->vnet_gso_type | (d->vnet_flags & NEEDS_CSUM)) {
    const uint32_t gso = d->vnet_gso_type & 0x7f;
    if (!(d->vnet_flags & NEEDS_CSUM) || d->vnet_csum_start != link + 20 || d->vnet_csum_offset != (flags ? 16 : 6)) return;
    if (d->vnet_gso_type) {
      if (gso != (flags ? 1u : 5u) || d->vnet_gso_size == 0) return;
      size = 20 + header + d->vnet_gso_size;
    }
    flags |= IS_PARTIAL;
  }
  const uint64_t key = tuple_key(b->hash_keys, load32(ip + 12), load32(ip + 16), load32(ip + 20), protocol);
  const uint8_t *bucket = b->buckets + ((size_t)((uint32_t)(key >> 32) & b->bucket_mask) << 6);
  notes->key = key;
  notes->bucket = (uint32_t)(bucket - b->memory);
  notes->layer3 = (uint32_t)(ip - b->memory);
  notes->total = total;
  notes->link = link;
  notes->flags = flags;
  notes->mtu_bytes = size;
}

/*
 * Asks for every bucket and does nothing else, so that the misses overlap: by loads, or by prefetch instructions, which
 * do not wait. Prefetching in the first pass instead was slower by half at a million flows (AMD Zen 5, nested paging).
 */
ALWAYS void touch_buckets(const struct bases *b, uint32_t count) {
#if TWIN_PREFETCH
  for (uint32_t i = 0; i < count; i++) __builtin_prefetch(b->memory + b->scratch[i].bucket);
#else
  uint64_t sum = 0;
  for (uint32_t i = 0; i < ((count + 3) & ~3u); i++) sum += load64(b->memory + b->scratch[i].bucket);
  b->state->touched = sum;
#endif
}

/* --- second pass --- */

ALWAYS void rewrite(uint8_t *ip, uint32_t flags, uint32_t meta, const struct ilb_pair_record *pair, uint32_t ttl_delta) {
  uint8_t *l4 = ip + 20;
  const uint32_t before = load32(l4);
  uint64_t addresses;
  uint32_t ports, change;
  if (meta & ILB_META_REVERSE) {
    addresses = (load64(ip + 12) & 0xffffffff00000000ull) | (uint32_t)(pair->vip_tail >> 32);
    ports = (before & 0xffff0000) | __builtin_bswap16((uint16_t)(__builtin_bswap16((uint16_t)before) - pair->port_add));
    change = pair->reverse_delta;
  } else {
    addresses = (load64(ip + 12) & 0xffffffff) | (pair->server_tail & 0xffffffff00000000ull);
    ports = (before & 0xffff) | ((uint32_t)__builtin_bswap16((uint16_t)(__builtin_bswap16((uint16_t)(before >> 16)) + pair->port_add)) << 16);
    change = pair->forward_delta;
  }
  if (ttl_delta) ip[8]--;
  store16(ip + 10, (uint16_t)updated(load16(ip + 10), change + ttl_delta));
  store64(ip + 12, addresses);
  store32(l4, ports);
  uint8_t *at = flags & IS_TCP ? l4 + 16 : l4 + 6;
  const uint32_t sum = load16(at);
  if (flags & IS_PARTIAL) {
    store16(at, (uint16_t)fold(sum + change));
  } else if (flags & IS_TCP) {
    store16(at, (uint16_t)updated(sum, change + delta32(before, ports)));
  } else if (sum) {
    const uint32_t mended = updated(sum, change + delta32(before, ports));
    store16(at, (uint16_t)(mended ? mended : 0xffff));
  }
}

/* Forwards a packet of an established flow. @return 0, with nothing changed, when it needs the slow path */
ALWAYS uint32_t forward(const struct bases *b, struct ilb_descriptor *d, const struct ilb_scratch *notes, uint32_t now) {
  const uint64_t key = notes->key;
  uint8_t *bucket = b->memory + notes->bucket;
  uint32_t ways = match_ways(bucket, key);
  if (!ways) {
    bucket = b->buckets + ((size_t)((uint32_t)((bucket - b->buckets) >> 6) ^ ((uint32_t)key & b->bucket_mask)) << 6);
    ways = match_ways(bucket, key);
    if (!ways) return 0;
  }
  const uint32_t way = (uint32_t)__builtin_ctz(ways);
  const uint32_t meta = load32(bucket + 48 + (way << 2));
  const uint32_t hop_index = (meta >> ILB_META_HOP_SHIFT) & 0xff;
  if (meta & (ILB_META_SLOW | ILB_META_RECORD) || hop_index == HOP_IN_RECORD) return 0;
  struct ilb_pair_record *pair = b->pairs + (meta >> ILB_META_PAIR_SHIFT);
  const uint64_t hop = b->client_hops[hop_index];
  const uint32_t link = notes->link;
  uint8_t *ip = b->memory + notes->layer3;
  uint64_t to, from;
  uint32_t mtu;
  if (meta & ILB_META_REVERSE) {
    const struct ilb_port_record *out = b->ports + ((hop >> 48) & 0xff);
    to = hop;
    from = out->mac;
    mtu = out->mtu;
  } else {
    uint64_t source = (uint64_t)d->in_port << 48 | 1ull << 56;
    if (link) source |= load64(ip - 8) & MAC_BITS;
    if (source != hop) return 0;
    if (link) {
      if (pair->next_hop >= b->next_hop_count) return 0;
      to = b->next_hops[2 * pair->next_hop];
      from = b->next_hops[2 * pair->next_hop + 1];
      mtu = (uint32_t)(from >> 48);
      if (to >> 56 != ILB_HOP_STATE_RESOLVED) return 0;
    } else {
      to = hop;
      from = 0;
      mtu = b->ports[d->in_port].mtu;
    }
  }
  const uint32_t out_port = (uint32_t)(to >> 48) & 0xff;
  const uint32_t out_kind = link ? ILB_PORT_KIND_ETHERNET : ILB_PORT_KIND_IP;
  if (out_port >= ILB_MAX_PORTS || notes->mtu_bytes > mtu || b->ports[out_port].kind != out_kind) return 0;

  rewrite(ip, notes->flags, meta, pair, link ? TTL_STEP : 0);
  if (link) {
    from &= MAC_BITS;
    store64(ip - 14, (to & MAC_BITS) | (from << 48));
    store32(ip - 6, (uint32_t)(from >> 16));
    store16(ip - 2, IPV4_TYPE);
  }
  uint8_t *deadline = bucket + 32 + (way << 2);
  const uint32_t due = now + pair->idle_timeout_ms;
  if ((int32_t)(due - load32(deadline)) > 0) store32(deadline, due + ILB_DEADLINE_STEP_MS);
  pair->packets += 1;
  pair->bytes += notes->total;

  d->vnet_flags &= NEEDS_CSUM;
  d->out_port = (uint8_t)out_port;
  d->verdict = ILB_VERDICT_FORWARD;
  d->reason = ILB_REASON_FLOW_FOUND;
  d->rule_id = pair->rule_id;
  d->server_id = pair->server_id;
  d->direction = meta & ILB_META_REVERSE ? ILB_DIRECTION_SERVER_TO_CLIENT : ILB_DIRECTION_CLIENT_TO_SERVER;
  d->flow_state = ILB_FLOW_STATE_FOUND;
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
  for (uint32_t i = 0; i < count; i++) inspect(&b, b.descriptors + i, b.scratch + i);
  touch_buckets(&b, count);
  uint32_t quick = 0;
  for (uint32_t i = 0; i < count; i++) {
    clear_outcome(b.descriptors + i);
    if (b.scratch[i].layer3) quick += forward(&b, b.descriptors + i, b.scratch + i, now);
  }
  b.reasons[ILB_REASON_FLOW_FOUND] += quick;
  b.counters->packets_in += quick;
  return quick;
}
