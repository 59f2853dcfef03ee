/**
 * Writes a TableImage into shared memory. Everything is worked out and measured first, so that an image that does not
 * fit changes nothing. Knows the layout of an image, not who reads it when (host.ts).
 */
import {
  Algorithm,
  ENDPOINT_OWN,
  ENDPOINT_PROXY,
  ENDPOINT_SERVER,
  ENDPOINT_VIP,
  ENDPOINT_VIP_LOCAL,
  Endpoint,
  ImageDrain,
  ImageHeader,
  ImageMember,
  ImageRule,
  ImageServer,
  MAX_PROXY_ADDRESSES,
  MAX_TIMEOUT_MS,
  NONE,
  PortInterval,
  RULE_ENABLED,
  RULE_STICKY,
  RULE_VIP_LOCAL,
  RuleType,
} from "../gen/layout.ts";
import { type Address, addressKey } from "../model/address.ts";
import type { Protocol } from "../model/config.ts";
import type { MemoryViews } from "./abi.ts";
import { ImageTooLarge, type ImageRule as Rule, type TableImage } from "./engine.ts";
import { type ImageCapacity, imageParts, powerOfTwo } from "./memory.ts";
import { type PolicyPlan, planPolicy, writePolicy } from "./policy-tables.ts";

/** Four u32 words as they lie in memory: 16 bytes in network order, IPv4 as ::ffff:a.b.c.d. */
export type AddressWords = readonly [number, number, number, number];

/** The same number with its four bytes in the opposite order. */
export const swap32 = (n: number): number =>
  (((n & 0xff) << 24) | ((n & 0xff00) << 8) | ((n >>> 8) & 0xff00) | (n >>> 24)) >>> 0;

const knownWords = new WeakMap<Address, AddressWords>();

/** Worked out once for every object: tables are written again and again from the same addresses. */
export function addressWords(address: Address): AddressWords {
  let words = knownWords.get(address);
  if (words === undefined) {
    words = wordsOf(address);
    knownWords.set(address, words);
  }
  return words;
}

function wordsOf(address: Address): AddressWords {
  if (address.family === 4) return [0, 0, 0xffff0000, swap32(Number(address.value))];
  const word = (shift: bigint) => swap32(Number((address.value >> shift) & 0xffffffffn));
  return [word(96n), word(64n), word(32n), word(0n)];
}

/** The address whose words these are. */
export function wordsAddress(words: ArrayLike<number>, at = 0): Address {
  if (words[at] === 0 && words[at + 1] === 0 && words[at + 2] === 0xffff0000)
    return { family: 4, value: BigInt(swap32(words[at + 3]!)) };
  let value = 0n;
  for (let i = 0; i < 4; i++) value = (value << 32n) | BigInt(swap32(words[at + i]!));
  return { family: 6, value };
}

/** Twin of endpointHash in assembly/hash.ts. */
function endpointHash(words: AddressWords): number {
  let hash = 0;
  for (const word of words) {
    const product = Math.imul(hash ^ word, 0x9e3779b1);
    hash = product ^ (product >>> 15);
  }
  return hash >>> 0;
}

/** First words of `address AND prefix` masks. @param bits of the address's own family */
export function maskWords(bits: number, family: 4 | 6): AddressWords {
  const ones = family === 4 ? 96 + bits : bits;
  const word = (index: number) => {
    const left = Math.min(32, Math.max(0, ones - 32 * index));
    return left === 0 ? 0 : swap32((0xffffffff << (32 - left)) >>> 0);
  };
  return [word(0), word(1), word(2), word(3)];
}

interface Interval {
  readonly min: number;
  readonly max: number;
  readonly rule: number;
}

/** Everything that the image says about one address. */
interface EndpointPlan {
  readonly words: AddressWords;
  flags: number;
  icmpRule: number;
  /** Rules by TCP, UDP; guarded destination ports by TCP, UDP; guarded source ports by TCP, UDP. */
  readonly runs: readonly [Interval[], Interval[], Interval[], Interval[], Interval[], Interval[]];
}

const protocolIndex = (protocol: Protocol): 0 | 1 => (protocol === "tcp" ? 0 : 1);

/** Collects endpoints, one per address. */
function planEndpoints(image: TableImage): EndpointPlan[] {
  const byAddress = new Map<string, EndpointPlan>();
  const at = (address: Address): EndpointPlan => {
    const key = addressKey(address);
    let plan = byAddress.get(key);
    if (plan === undefined) {
      plan = { words: addressWords(address), flags: 0, icmpRule: NONE, runs: [[], [], [], [], [], []] };
      byAddress.set(key, plan);
    }
    return plan;
  };
  image.rules.forEach((rule, index) => {
    const plan = at(rule.vip);
    plan.flags |= ENDPOINT_VIP | (rule.vipIsLocal ? ENDPOINT_VIP_LOCAL : 0);
    plan.runs[protocolIndex(rule.protocol)].push({ ...rule.ports, rule: index });
    if (plan.icmpRule === NONE || image.rules[plan.icmpRule]!.sequence < rule.sequence) plan.icmpRule = index;
  });
  for (const { match, address, protocol, ports } of image.interest.entries)
    at(address).runs[((match === "destination" ? 2 : 4) + protocolIndex(protocol)) as 2 | 3 | 4 | 5].push({
      ...ports,
      rule: NONE,
    });
  for (const address of image.interest.vips) at(address).flags |= ENDPOINT_VIP;
  for (const address of image.interest.servers) at(address).flags |= ENDPOINT_SERVER;
  for (const address of image.interest.proxies) at(address).flags |= ENDPOINT_PROXY;
  for (const address of image.interest.own) at(address).flags |= ENDPOINT_OWN;
  for (const { runs } of byAddress.values())
    for (const run of runs) if (run.length > 1) run.sort((a, b) => a.min - b.min);
  return [...byAddress.values()];
}

function requireFit(what: string, needed: number, room: number): void {
  if (needed > room) throw new ImageTooLarge(`${what}: ${needed} needed, room for ${room}`);
}

/** Bugs of the caller, not limits: they would make the engine read past the image. */
function requireSound(image: TableImage, capacity: ImageCapacity, nextHopCount: number): void {
  const seen = new Set<Rule["members"]>();
  for (const rule of image.rules) {
    if (rule.slot >= capacity.rules)
      throw new ImageTooLarge(`rule slots: ${rule.slot + 1} needed, room for ${capacity.rules}`);
    if (!seen.has(rule.members)) requireSoundMembers(rule, image.servers.length);
    seen.add(rule.members);
    if (proxyCount(rule) > MAX_PROXY_ADDRESSES)
      throw new Error(`rule ${rule.id} has more than ${MAX_PROXY_ADDRESSES} proxy addresses`);
    if (rule.type === "NAT" && rule.proxySource === null) throw new Error(`NAT rule ${rule.id} has no proxy addresses`);
  }
  for (const server of image.servers) requireFit("next hops", server.nextHop + 1, nextHopCount);
}

function requireSoundMembers({ id, members }: Rule, serverCount: number): void {
  let last = -1;
  for (const { server, insertSequence } of members) {
    if (server >= serverCount)
      throw new Error(`rule ${id} names server index ${server}, which the image does not hold`);
    if (insertSequence <= last) throw new Error(`members of rule ${id} are not in ascending insertSequence`);
    last = insertSequence;
  }
}

const proxyCount = (rule: Rule): number =>
  rule.proxySource === null ? 0 : Number(rule.proxySource.last.value - rule.proxySource.first.value) + 1;

const TYPES = { DSR: RuleType.Dsr, "HALF-NAT": RuleType.HalfNat, NAT: RuleType.Nat } as const;
const ALGORITHMS = {
  roundrobin: Algorithm.RoundRobin,
  "hash-ip": Algorithm.HashIp,
  "hash-ip-port": Algorithm.HashIpPort,
  "hash-ip-vip": Algorithm.HashIpVip,
} as const;
/** IP protocol numbers (RFC 790 and successors). */
export const PROTOCOL_NUMBERS = { tcp: 6, udp: 17 } as const;

/**
 * Writes the image at `base`. @param policyEpoch of its flow policy, if it has one: see PolicyHeader
 * Throws ImageTooLarge, with what does not fit, before it writes anything.
 */
export function writeImage(
  views: MemoryViews,
  base: number,
  capacity: ImageCapacity,
  nextHopCount: number,
  image: TableImage,
  policyEpoch: number,
): void {
  const endpoints = planEndpoints(image);
  const memberLists = new Set(image.rules.map((rule) => rule.members));
  const memberCount = [...memberLists].reduce((sum, members) => sum + members.length, 0);
  const intervalCount = endpoints.reduce((sum, plan) => sum + plan.runs.reduce((n, run) => n + run.length, 0), 0);
  requireFit("rules", image.rules.length, capacity.rules);
  requireFit("servers of rules", memberCount, capacity.members);
  requireFit("servers", image.servers.length, capacity.servers);
  requireFit("addresses", endpoints.length, capacity.endpoints);
  requireFit("port ranges", intervalCount, capacity.intervals);
  requireFit("draining servers", image.drains.length, capacity.drains);
  requireSound(image, capacity, nextHopCount);
  const policy = image.policy === undefined ? null : planPolicy(image.policy);
  const writer = new ImageWriter(views, base, capacity);
  writer.rules(image);
  writer.servers(image);
  writer.endpoints(endpoints);
  writer.drains(image);
  writer.header(image);
  writer.policy(policy, policyEpoch);
}

class ImageWriter {
  readonly #views: MemoryViews;
  readonly #base: number;
  readonly #parts: ReturnType<typeof imageParts>;
  readonly #capacity: ImageCapacity;
  #endpointMask = 0;

  constructor(views: MemoryViews, base: number, capacity: ImageCapacity) {
    this.#views = views;
    this.#base = base;
    this.#capacity = capacity;
    this.#parts = imageParts(capacity);
  }

  #u32(at: number, value: number): void {
    this.#views.u32[at >>> 2] = value;
  }

  #words(at: number, words: AddressWords): void {
    this.#views.u32.set(words, at >>> 2);
  }

  rules(image: TableImage): void {
    const { u8, u16 } = this.#views;
    const lists = new Map<Rule["members"], { readonly first: number; readonly enabledCount: number }>();
    let next = 0;
    image.rules.forEach((rule, index) => {
      let list = lists.get(rule.members);
      if (list === undefined) {
        list = { first: next, enabledCount: this.#members(image, rule.members, next) };
        lists.set(rule.members, list);
        next += rule.members.length;
      }
      const at = this.#base + this.#parts.rules + index * ImageRule.size;
      u8.fill(0, at, at + ImageRule.size);
      this.#u32(at + ImageRule.id, rule.id);
      this.#u32(at + ImageRule.slot, rule.slot);
      const sticky = rule.stickyMask === null ? 0 : RULE_STICKY;
      this.#u32(
        at + ImageRule.flags,
        (rule.enabled ? RULE_ENABLED : 0) | (rule.vipIsLocal ? RULE_VIP_LOCAL : 0) | sticky,
      );
      u8[at + ImageRule.type] = TYPES[rule.type];
      u8[at + ImageRule.algorithm] = ALGORITHMS[rule.algorithm];
      u8[at + ImageRule.protocol] = PROTOCOL_NUMBERS[rule.protocol];
      u8[at + ImageRule.proxyCount] = rule.type === "NAT" ? proxyCount(rule) : 0;
      this.#words(at + ImageRule.vipHead, addressWords(rule.vip));
      if (rule.proxySource !== null) this.#words(at + ImageRule.proxyFirstHead, addressWords(rule.proxySource.first));
      this.#words(at + ImageRule.stickyMaskHead, maskWords(rule.stickyMask ?? 0, rule.vip.family));
      u16[(at + ImageRule.portMin) >>> 1] = rule.ports.min;
      u16[(at + ImageRule.portMax) >>> 1] = rule.ports.max;
      this.#u32(at + ImageRule.idleTimeoutMs, Math.min(rule.natTimeoutMs, MAX_TIMEOUT_MS));
      this.#u32(at + ImageRule.persistTimeoutMs, Math.min(rule.persistTimeoutMs, MAX_TIMEOUT_MS));
      this.#u32(at + ImageRule.memberFirst, list.first);
      this.#u32(at + ImageRule.memberCount, rule.members.length);
      this.#u32(at + ImageRule.enabledCount, list.enabledCount);
    });
    const byId = Uint32Array.from(image.rules, (_, index) => index);
    byId.sort((a, b) => image.rules[a]!.id - image.rules[b]!.id);
    this.#views.u32.set(byId, (this.#base + this.#parts.rulesById) >>> 2);
  }

  /** Members and, beside them, their ids in ascending order and the indexes of the enabled ones as they became so. */
  #members(image: TableImage, members: Rule["members"], first: number): number {
    const { u32 } = this.#views;
    const ids = new Uint32Array(members.length);
    const enabled: { readonly index: number; readonly sequence: number }[] = [];
    members.forEach((member, index) => {
      const at = this.#base + this.#parts.members + (first + index) * ImageMember.size;
      const serverId = image.servers[member.server]!.id;
      ids[index] = serverId;
      this.#u32(at + ImageMember.server, member.server);
      this.#u32(at + ImageMember.insertSequence, member.insertSequence);
      this.#u32(at + ImageMember.enabled, member.enabledSequence === null ? 0 : 1);
      this.#u32(at + ImageMember.serverId, serverId);
      if (member.enabledSequence !== null) enabled.push({ index, sequence: member.enabledSequence });
    });
    u32.set(ids.sort(), (this.#base + this.#parts.memberIds + first * 4) >>> 2);
    enabled.sort((a, b) => a.sequence - b.sequence);
    enabled.forEach(({ index }, place) => {
      this.#u32(this.#base + this.#parts.enabledMembers + (first + place) * 4, index);
    });
    return enabled.length;
  }

  servers(image: TableImage): void {
    image.servers.forEach((server, index) => {
      const at = this.#base + this.#parts.servers + index * ImageServer.size;
      this.#u32(at + ImageServer.id, server.id);
      this.#u32(at + ImageServer.nextHop, server.nextHop);
      this.#words(at + ImageServer.addressHead, addressWords(server.address));
      this.#views.u16[(at + ImageServer.portMin) >>> 1] = server.ports?.min ?? 0;
      this.#views.u16[(at + ImageServer.portMax) >>> 1] = server.ports?.max ?? 0;
    });
  }

  endpoints(plans: readonly EndpointPlan[]): void {
    const { u8, u16, u32 } = this.#views;
    const table = (this.#base + this.#parts.endpointTable) >>> 2;
    // No larger than these endpoints need, so that a small configuration touches little memory.
    const slots = Math.min(powerOfTwo(2 * plans.length), this.#capacity.endpointSlots);
    const mask = slots - 1;
    this.#endpointMask = mask;
    u32.fill(0, table, table + slots);
    let interval = 0;
    plans.forEach((plan, index) => {
      const at = this.#base + this.#parts.endpoints + index * Endpoint.size;
      u8.fill(0, at, at + Endpoint.size);
      this.#words(at + Endpoint.addressHead, plan.words);
      this.#u32(at + Endpoint.flags, plan.flags);
      this.#u32(at + Endpoint.icmpRule, plan.icmpRule);
      this.#u32(at + Endpoint.first, interval);
      plan.runs.forEach((run, place) => {
        for (const { min, max, rule } of run) {
          const to = this.#base + this.#parts.intervals + interval * PortInterval.size;
          u16[(to + PortInterval.min) >>> 1] = min;
          u16[(to + PortInterval.max) >>> 1] = max;
          this.#u32(to + PortInterval.rule, rule);
          interval++;
        }
        this.#u32(at + Endpoint.endRuleTcp + place * 4, interval);
      });
      let slot = endpointHash(plan.words) & mask;
      while (u32[table + slot] !== 0) slot = (slot + 1) & mask;
      u32[table + slot] = index + 1;
    });
  }

  drains(image: TableImage): void {
    const keyOf = (ruleId: number, serverId: number) => (BigInt(ruleId) << 32n) | BigInt(serverId);
    const drains = image.drains.map((drain) => ({
      key: keyOf(drain.ruleId, drain.serverId),
      deadlineMs: drain.deadlineMs,
    }));
    drains.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    drains.forEach(({ key, deadlineMs }, index) => {
      const at = this.#base + this.#parts.drains + index * ImageDrain.size;
      this.#views.u64[(at + ImageDrain.key) >>> 3] = key;
      this.#u32(at + ImageDrain.deadlineMs, deadlineMs);
    });
  }

  header(image: TableImage): void {
    const at = this.#base;
    const part = (field: number, offset: number) => this.#u32(at + field, this.#base + offset);
    this.#u32(at + ImageHeader.generation, image.generation);
    part(ImageHeader.rules, this.#parts.rules);
    this.#u32(at + ImageHeader.ruleCount, image.rules.length);
    part(ImageHeader.members, this.#parts.members);
    part(ImageHeader.enabledMembers, this.#parts.enabledMembers);
    part(ImageHeader.servers, this.#parts.servers);
    part(ImageHeader.endpointTable, this.#parts.endpointTable);
    this.#u32(at + ImageHeader.endpointMask, this.#endpointMask);
    part(ImageHeader.endpoints, this.#parts.endpoints);
    part(ImageHeader.intervals, this.#parts.intervals);
    part(ImageHeader.memberIds, this.#parts.memberIds);
    part(ImageHeader.rulesById, this.#parts.rulesById);
    part(ImageHeader.drains, this.#parts.drains);
    this.#u32(at + ImageHeader.drainCount, image.drains.length);
  }

  policy(plan: PolicyPlan | null, epoch: number): void {
    const at = this.#base + this.#parts.policy;
    if (plan !== null) writePolicy(this.#views, at, plan, epoch);
    this.#u32(this.#base + ImageHeader.policy, plan === null ? 0 : at);
  }
}
