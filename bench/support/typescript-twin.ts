/**
 * The fast path of the packet engine as a competent programmer would write it in plain TypeScript: what the WebAssembly
 * engine is measured against. Same frames, same work (parse, key, flow table, rewrite with incremental checksums, MAC
 * addresses, TTL, deadline, counters), same tables: typed arrays, one 64-byte bucket per look-up, two candidate buckets.
 * Packet by packet, without the engine's passes over a batch. Established half-NAT flows over IPv4 only; whatever else comes
 * is left alone. Not part of the product.
 *
 * Numbers from the wire are read little-endian, as they lie: ones' complement sums do not mind (RFC 1071 section 2B).
 */

const BATCH = 64;
/** No power of two: frames at such strides share cache sets. */
const STRIDE = 2112;
const LAYER3 = 64;
const ETHERNET = LAYER3 - 14;
const WAYS = 4;
/** Words of a bucket: low halves of 4 keys, high halves, deadlines, metas. */
const BUCKET_WORDS = 16;
const NO_SLOT = -1;
/** Deadlines are written this much too late, so that they need to be written once a step only. */
const DEADLINE_STEP_MS = 1000;
const META_REVERSE = 1;
/** TTL is the low byte of its word when read little-endian: one less is 0xfffe in ones' complement. */
const TTL_STEP = 0xfffe;
const FIN_SYN_RST = 0x07;

/** A server in a rule, as translation data. Addresses and ports in host order, MAC addresses 6 bytes. */
export interface TwinPair {
  readonly vip: number;
  readonly server: number;
  /** Added to the VIP's port to get the server's. */
  readonly portAdd: number;
  readonly idleTimeoutMs: number;
  readonly serverMac: Uint8Array;
  readonly serverSideMac: Uint8Array;
}

/** Where a client is reached. */
export interface TwinHop {
  readonly clientMac: Uint8Array;
  readonly clientSideMac: Uint8Array;
}

export interface TwinFlow {
  readonly protocol: number;
  readonly client: number;
  readonly clientPort: number;
  readonly vipPort: number;
  readonly pair: number;
  readonly hop: number;
}

const swap16 = (word: number): number => ((word & 0xff) << 8) | (word >>> 8);
const swap32 = (word: number): number =>
  (((word & 0xff) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
/** Ones' complement sum of a 32-bit value's halves; of at most 2^17. */
const halves = (word: number): number => (word & 0xffff) + (word >>> 16);
/** Folds a sum below 2^32 to 16 bits. */
function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}
/** What RFC 1624 adds to a complemented checksum when a 32-bit field changes. */
const delta32 = (before: number, after: number): number => fold(halves(~before >>> 0) + halves(after));

/** One key word: keyed multiply-mix over the tuple, with secret words. */
function mix(a: number, b: number, ports: number, secret: readonly [number, number, number], protocol: number): number {
  let h = Math.imul(a ^ secret[0], 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15) ^ b ^ secret[1], 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13) ^ ports ^ secret[2], 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16) ^ protocol, 0x27d4eb2f);
  return (h ^ (h >>> 15)) >>> 0;
}

const LOW_SECRET = [0x243f6a88, 0x85a308d3, 0x13198a2e] as const;
const HIGH_SECRET = [0x03707344, 0xa4093822, 0x299f31d0] as const;

export class TypescriptTwin {
  readonly bytes = new Uint8Array(BATCH * STRIDE);
  readonly #half = new Uint16Array(this.bytes.buffer);
  readonly #word = new Uint32Array(this.bytes.buffer);
  /** Bytes of each frame, set by put(). */
  readonly lengths = new Uint32Array(BATCH);
  /** 1: rewritten and to be sent; 0: not of the fast path, untouched. */
  readonly forwarded = new Uint8Array(BATCH);
  /** virtio_net_hdr.flags of each frame; bit 0: partial checksum. */
  readonly vnetFlags = new Uint8Array(BATCH);

  readonly #mask: number;
  readonly #buckets: Uint32Array;
  // Pairs, one array per field.
  #pairCount = 0;
  readonly #server = new Uint32Array(4096);
  readonly #vip = new Uint32Array(4096);
  readonly #forwardDelta = new Uint32Array(4096);
  readonly #reverseDelta = new Uint32Array(4096);
  readonly #portAdd = new Uint32Array(4096);
  readonly #idle = new Uint32Array(4096);
  /** Six half words each: destination and source MAC address towards the server. */
  readonly #serverMacs = new Uint16Array(4096 * 6);
  readonly packets = new Float64Array(4096);
  readonly octets = new Float64Array(4096);
  #hopCount = 0;
  readonly #hopMacs = new Uint16Array(256 * 6);

  /** @param maxFlows two entries each; the table is sized for a load of at most one half. */
  constructor(maxFlows: number) {
    let buckets = 16;
    while (buckets * WAYS < maxFlows * 4) buckets *= 2;
    this.#mask = buckets - 1;
    this.#buckets = new Uint32Array(buckets * BUCKET_WORDS);
  }

  addPair(pair: TwinPair): number {
    const index = this.#pairCount++;
    this.#server[index] = swap32(pair.server);
    this.#vip[index] = swap32(pair.vip);
    this.#forwardDelta[index] = delta32(swap32(pair.vip), swap32(pair.server));
    this.#reverseDelta[index] = delta32(swap32(pair.server), swap32(pair.vip));
    this.#portAdd[index] = pair.portAdd;
    this.#idle[index] = pair.idleTimeoutMs;
    putMacs(this.#serverMacs, index, pair.serverMac, pair.serverSideMac);
    return index;
  }

  addHop(hop: TwinHop): number {
    putMacs(this.#hopMacs, this.#hopCount, hop.clientMac, hop.clientSideMac);
    return this.#hopCount++;
  }

  /** Installs an established flow; false when its buckets are full. */
  addFlow(flow: TwinFlow, nowMs: number): boolean {
    const { protocol, pair } = flow;
    const client = swap32(flow.client);
    const clientPort = swap16(flow.clientPort);
    const vipPort = swap16(flow.vipPort);
    const serverPort = swap16((flow.vipPort + this.#portAdd[pair]!) & 0xffff);
    const meta = (pair << 12) | (flow.hop << 4);
    const deadline = nowMs + this.#idle[pair]!;
    const forward = [client, this.#vip[pair]!, (clientPort | (vipPort << 16)) >>> 0] as const;
    const reverse = [this.#server[pair]!, client, (serverPort | (clientPort << 16)) >>> 0] as const;
    return (
      this.#insert(forward, protocol, deadline, meta) && this.#insert(reverse, protocol, deadline, meta | META_REVERSE)
    );
  }

  #insert([a, b, ports]: readonly [number, number, number], protocol: number, deadline: number, meta: number): boolean {
    const low = mix(a, b, ports, LOW_SECRET, protocol);
    const high = (mix(a, b, ports, HIGH_SECRET, protocol) | 0x80000000) >>> 0;
    for (const bucket of [low & this.#mask, (low ^ ((high & 0xffff) | 1)) & this.#mask]) {
      const at = bucket * BUCKET_WORDS;
      for (let way = at; way < at + WAYS; way++) {
        if (this.#buckets[way + WAYS] !== 0) continue;
        this.#buckets[way] = low;
        this.#buckets[way + WAYS] = high;
        this.#buckets[way + 2 * WAYS] = deadline;
        this.#buckets[way + 3 * WAYS] = meta;
        return true;
      }
    }
    return false;
  }

  /** Copies an Ethernet frame into a slot of the batch, as a device would. */
  put(slot: number, frame: Uint8Array, vnetFlags = 0): void {
    this.bytes.set(frame, slot * STRIDE + ETHERNET);
    this.lengths[slot] = frame.length;
    this.vnetFlags[slot] = vnetFlags;
  }

  /** The frame of a slot, as a view. */
  frame(slot: number): Uint8Array {
    const at = slot * STRIDE + ETHERNET;
    return this.bytes.subarray(at, at + this.lengths[slot]!);
  }

  /** Handles the first `count` slots at `nowMs`, one after the other. @returns how many were forwarded. */
  process(count: number, nowMs: number): number {
    let done = 0;
    for (let slot = 0; slot < count; slot++) {
      const isForwarded = this.#forward(slot, nowMs);
      this.forwarded[slot] = isForwarded ? 1 : 0;
      if (isForwarded) done++;
    }
    return done;
  }

  /** @returns false, with nothing changed, when the fast path does not take the packet */
  #forward(slot: number, nowMs: number): boolean {
    const half = this.#half;
    const word = this.#word;
    const at16 = (slot * STRIDE + LAYER3) >>> 1;
    const at32 = at16 >>> 1;
    const first = word[at32]!;
    const totalLength = swap16(first >>> 16);
    const ttlAndProtocol = half[at16 + 4]!;
    const protocol = ttlAndProtocol >>> 8;
    // Ethernet II with IPv4, no options, no fragment, TTL to spare, whole, TCP without SYN, FIN and RST or UDP.
    if (half[at16 - 1] !== 0x0008 || (first & 0xff) !== 0x45 || (half[at16 + 3]! & 0xff3f) !== 0) return false;
    if ((ttlAndProtocol & 0xff) <= 1 || totalLength + 14 > this.lengths[slot]!) return false;
    if (protocol === 6) {
      const offsetAndFlags = half[at16 + 16]!;
      const headerBytes = (offsetAndFlags & 0xf0) >>> 2;
      if (headerBytes < 20 || 20 + headerBytes > totalLength || ((offsetAndFlags >>> 8) & FIN_SYN_RST) !== 0)
        return false;
    } else if (protocol !== 17 || totalLength < 28) return false;
    else {
      const udpLength = swap16(half[at16 + 12]!);
      if (udpLength < 8 || 20 + udpLength > totalLength) return false;
    }
    const source = word[at32 + 3]!;
    const destination = word[at32 + 4]!;
    const ports = word[at32 + 5]!;
    const low = mix(source, destination, ports, LOW_SECRET, protocol);
    const high = (mix(source, destination, ports, HIGH_SECRET, protocol) | 0x80000000) >>> 0;
    const way = this.#find(low, high);
    if (way === NO_SLOT) return false;
    this.#rewrite(slot, way, nowMs);
    return true;
  }

  #find(low: number, high: number): number {
    const table = this.#buckets;
    const first = (low & this.#mask) * BUCKET_WORDS;
    for (let way = first; way < first + WAYS; way++) if (table[way] === low && table[way + WAYS] === high) return way;
    const second = ((low ^ ((high & 0xffff) | 1)) & this.#mask) * BUCKET_WORDS;
    for (let way = second; way < second + WAYS; way++) if (table[way] === low && table[way + WAYS] === high) return way;
    return NO_SLOT;
  }

  #rewrite(slot: number, way: number, nowMs: number): void {
    const half = this.#half;
    const at16 = (slot * STRIDE + LAYER3) >>> 1;
    const meta = this.#buckets[way + 3 * WAYS]!;
    const pair = meta >>> 12;
    const due = nowMs + this.#idle[pair]!;
    if (due > this.#buckets[way + 2 * WAYS]!) this.#buckets[way + 2 * WAYS] = due + DEADLINE_STEP_MS;
    this.packets[pair]! += 1;
    this.octets[pair]! += swap16(half[at16 + 1]!);

    const reverse = meta & META_REVERSE;
    const macs = reverse ? this.#hopMacs : this.#serverMacs;
    const from = (reverse ? (meta >>> 4) & 0xff : pair) * 6;
    for (let i = 0; i < 6; i++) half[at16 - 7 + i] = macs[from + i]!;

    const addressDelta = reverse ? this.#reverseDelta[pair]! : this.#forwardDelta[pair]!;
    const portAt = at16 + (reverse ? 10 : 11);
    const port = half[portAt]!;
    const added = reverse ? 0x10000 - this.#portAdd[pair]! : this.#portAdd[pair]!;
    const newPort = swap16((swap16(port) + added) & 0xffff);
    this.#word[(at16 >>> 1) + (reverse ? 3 : 4)] = reverse ? this.#vip[pair]! : this.#server[pair]!;
    half[portAt] = newPort;

    const protocol = half[at16 + 4]! >>> 8;
    half[at16 + 4] = half[at16 + 4]! - 1;
    half[at16 + 5] = fold((half[at16 + 5]! ^ 0xffff) + addressDelta + TTL_STEP) ^ 0xffff;
    const sumAt = at16 + (protocol === 6 ? 18 : 13);
    const sum = half[sumAt]!;
    if (this.vnetFlags[slot]! & 1) {
      half[sumAt] = fold(sum + addressDelta);
      return;
    }
    if (protocol === 17 && sum === 0) return;
    const mended = fold((sum ^ 0xffff) + addressDelta + (port ^ 0xffff) + newPort) ^ 0xffff;
    half[sumAt] = protocol === 17 && mended === 0 ? 0xffff : mended;
  }
}

function putMacs(into: Uint16Array, index: number, destination: Uint8Array, source: Uint8Array): void {
  const both = Uint8Array.from([...destination, ...source]);
  into.set(new Uint16Array(both.buffer), index * 6);
}
