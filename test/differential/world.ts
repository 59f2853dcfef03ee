/**
 * A random configuration and how it changes: rules of all types and algorithms over shared servers, members disabled and
 * drained, rules deleted and made anew, next hops that come and go. Produces images and next hops, no traffic.
 */
import type { ImageDrain, NextHop, Port, TableImage } from "../../src/engine/engine.ts";
import type { Address, Family } from "../../src/model/address.ts";
import type { Algorithm, PortRange, Protocol, RuleType } from "../../src/model/config.ts";
import { ip, mac } from "../support/addresses.ts";
import { imageOf, type MemberSpec, onePort, type RuleSpec, type ServerSpec } from "../support/image-builder.ts";
import type { Random } from "../support/random.ts";
import type { Event } from "./duel.ts";
import { PolicyMaker } from "./policy-maker.ts";

export const CLIENT_PORT = 0;
export const SERVER_PORT = 1;
export const TUN_PORT = 2;

/** Named by next hops now and then, but never set; the second is beyond what ports can be. */
const MISSING_PORTS = [9, 200];

/** Addresses of both families that end alike. */
const both = (network4: string, network6: string, lasts: readonly number[]): Address[] =>
  [network4, network6].flatMap((network) => lasts.map((last) => ip(`${network}${last}`)));

export const VIPS: readonly Address[] = both("198.51.100.", "2001:db8:100::", [10, 11, 12, 13]);
/** The last VIP of either family is an address of the box. */
const LOCAL_VIPS = both("198.51.100.", "2001:db8:100::", [13]);
export const isLocalVip = (vip: Address): boolean => LOCAL_VIPS.some((local) => same(local, vip));
export const SERVERS: readonly Address[] = both("192.0.2.", "2001:db8:2::", [10, 11, 12, 13, 14]);
/** The last of either family is a VIP too. */
const PROXY_RANGES = (["203.0.113.", "2001:db8:113::"] as const).flatMap((network, i) => [
  { first: ip(`${network}1`), last: ip(`${network}1`) },
  { first: ip(`${network}2`), last: ip(`${network}4`) },
  { first: VIPS[i * 4 + 1]!, last: VIPS[i * 4 + 1]! },
]);
/** Addresses of the box that health probes come from; nobody's clients. */
export const OWN: readonly Address[] = both("192.0.2.", "2001:db8:2::", [1]);
export const PROXIES: readonly Address[] = both("203.0.113.", "2001:db8:113::", [1, 2, 3, 4]);

const same = (a: Address, b: Address): boolean => a.family === b.family && a.value === b.value;
/** Those of one family. */
export const ofFamily = (family: Family, list: readonly Address[]): Address[] =>
  list.filter((address) => address.family === family);
const STICKY_MASKS = { 4: [32, 24, 16, 0], 6: [128, 127, 112, 64, 0] } as const;

const HASHES: readonly Algorithm[] = ["hash-ip", "hash-ip-port", "hash-ip-vip"];
const ALGORITHMS: readonly Algorithm[] = ["roundrobin", ...HASHES];
const TYPES: readonly RuleType[] = ["DSR", "HALF-NAT", "NAT"];
const RULE_SLOTS = 64;

const LARGEST_MTU = 65_535;

/** An entry is gone after the first sweep so long after it was due (docs/packet-path.md, "Flow times"). */
const GONE_AFTER_MS = 15_000;

/** How much a world holds at once. */
export interface WorldSize {
  readonly mostRules: number;
  /** Of one rule. */
  readonly mostServers: number;
  /** Flow policies come and go. */
  readonly hasPolicies?: boolean;
  /** Servers come and go most of the time and never drain, so that flows of many that have gone are left. */
  readonly isRestless?: boolean;
  /**
   * Nothing goes in turn, neither servers nor proxy addresses, and nothing is too big, so that any number of workers decides
   * alike (docs/packet-path.md, "Several workers").
   */
  readonly isTurnless?: boolean;
  /** Draining servers at once. What would make more changes nothing: a daemon refuses it (test/contract has what engines do). */
  readonly mostDrains?: number;
}

interface LiveRule extends RuleSpec {
  readonly enabled: boolean;
  readonly members: readonly MemberSpec[];
  readonly connDrainMs: number;
  readonly nextInsert: number;
  readonly nextEnable: number;
}

export class World {
  readonly #random: Random;
  readonly #size: WorldSize;
  #rules: LiveRule[] = [];
  #past: RuleSpec[] = [];
  #drains: readonly ImageDrain[] = [];
  #generation = 0;
  #nextId = 1;
  #nextSlot = 0;
  readonly #policies: PolicyMaker;
  /** The servers of all rules by address and ports, so that rules share them. */
  #servers: readonly ServerSpec[] = [];

  constructor(random: Random, size: WorldSize = { mostRules: 6, mostServers: 5, hasPolicies: true }) {
    this.#random = random;
    this.#size = size;
    this.#policies = new PolicyMaker(random);
  }

  get rules(): readonly RuleSpec[] {
    return this.#rules;
  }

  /** Ports, next hops and a first image. */
  setUp(): Event[] {
    const ports: Event[] = [CLIENT_PORT, SERVER_PORT, TUN_PORT].map((index) => ({
      kind: "port",
      index,
      port: this.#port(index),
    }));
    const hops: Event[] = SERVERS.map((_, index) => ({ kind: "hop", index, hop: this.#hop(index, true) }));
    // One of the first rules has a VIP that is an address of the box.
    this.#createRule(this.#random.of(LOCAL_VIPS));
    for (let i = 0; i < 3; i++) this.#createRule();
    if (this.#size.hasPolicies && this.#random.chance(0.5)) this.#policies.change();
    return [...ports, ...hops, this.#publish()];
  }

  /** One random change at `nowMs`, as events; none where it would make too many servers drain. */
  change(nowMs: number): Event[] {
    const before = [this.#rules, this.#past, this.#drains, this.#servers] as const;
    [this.#rules, this.#past] = [[...this.#rules], [...this.#past]];
    const events = this.#anyChange(nowMs);
    if (this.#drains.length <= (this.#size.mostDrains ?? Number.POSITIVE_INFINITY)) return events;
    [this.#rules, this.#past, this.#drains, this.#servers] = before;
    return [];
  }

  /** Both engines have swept at `nowMs`: flows of servers whose deadline was the linger of an entry ago are gone for sure. */
  swept(nowMs: number): void {
    this.#drains = this.#drains.filter(({ deadlineMs }) => deadlineMs + GONE_AFTER_MS > nowMs);
  }

  #anyChange(nowMs: number): Event[] {
    const random = this.#random;
    const turnover = this.#size.isRestless ? 40 : 4;
    return random.weighted<Event[]>([
      [10, () => this.#hopChange()],
      [6, () => this.#changeRule((rule) => ({ ...rule, enabled: !rule.enabled }))],
      [8, () => this.#changeRule((rule) => this.#toggleMember(rule, nowMs))],
      [turnover, () => this.#changeRule((rule) => this.#removeMember(rule, nowMs))],
      [turnover, () => this.#changeRule((rule) => this.#addMember(rule))],
      [2, () => this.#deleteRule(nowMs)],
      [3, () => this.#createAndPublish()],
      [this.#size.hasPolicies ? 3 : 0, () => this.#changePolicy()],
    ]);
  }

  #port(index: number): Port {
    const random = this.#random;
    const hasAddress = !random.chance(0.1);
    return {
      kind: index === TUN_PORT ? "ip" : "ethernet",
      mac: mac(`02:00:00:00:00:0${index + 1}`),
      mtu: this.#size.isTurnless ? LARGEST_MTU : random.of([1500, 1500, 1500, 1400, 576]),
      address4: hasAddress ? ip(`192.0.2.${index + 1}`) : null,
      address6: random.chance(0.1) ? null : ip(`2001:db8:2::${index + 1}`),
    };
  }

  #hop(index: number, resolved = false): NextHop {
    const random = this.#random;
    return {
      state: resolved ? "resolved" : random.of(["resolved", "resolved", "resolved", "unresolved", "none"]),
      port: random.of([
        SERVER_PORT,
        SERVER_PORT,
        SERVER_PORT,
        SERVER_PORT,
        CLIENT_PORT,
        TUN_PORT,
        ...MISSING_PORTS.slice(0, random.of([1, 1, 2])),
      ]),
      destinationMac: mac(`02:01:00:00:00:${(0x10 + index).toString(16)}`),
      sourceMac: mac("02:00:00:00:00:02"),
      mtu: this.#size.isTurnless ? LARGEST_MTU : random.of([1500, 1500, 1500, 1400, 1280, 580, 68, 68, 48]),
    };
  }

  #hopChange(): Event[] {
    const index = this.#random.below(SERVERS.length);
    return [{ kind: "hop", index, hop: this.#hop(index, this.#random.chance(0.5)) }];
  }

  #publish(): Event {
    this.#generation++;
    return { kind: "publish", image: this.image() };
  }

  image(): TableImage {
    const image = imageOf(this.#generation, this.#rules, this.#drains, this.#past, OWN);
    const policy = this.#policies.current;
    return policy === null ? image : { ...image, policy };
  }

  #changeRule(change: (rule: LiveRule) => LiveRule): Event[] {
    if (this.#rules.length === 0) return this.#createAndPublish();
    const index = this.#random.below(this.#rules.length);
    this.#rules[index] = change(this.#rules[index]!);
    return [this.#publish()];
  }

  #changePolicy(): Event[] {
    this.#policies.change();
    return [this.#publish()];
  }

  #createAndPublish(): Event[] {
    this.#createRule();
    return [this.#publish()];
  }

  /** The server of an address and ports, the same object in every rule that uses it. */
  #server(address: Address, ports: PortRange | null): ServerSpec {
    const isIt = (one: ServerSpec): boolean =>
      same(one.address, address) && one.ports?.min === ports?.min && one.ports?.max === ports?.max;
    const known = this.#servers.find(isIt);
    if (known !== undefined) return known;
    const nextHop = SERVERS.findIndex((one) => same(one, address));
    const server: ServerSpec = { id: this.#nextId++, address, ports, nextHop };
    this.#servers = [...this.#servers, server];
    return server;
  }

  /** Ports that a server may have under a rule (specification D.2). */
  #serverPorts(type: RuleType, ports: PortRange): PortRange | null {
    const random = this.#random;
    if (type === "DSR") return random.of([null, ports]);
    if (ports.min === ports.max) return random.of([null, null, ports, onePort(8080)]);
    const shifted = { min: ports.min + 2000, max: ports.max + 2000 };
    // One port for a whole range is what only a few lines of the engine know.
    return random.of([null, ports, shifted, onePort(8080), onePort(8080)]);
  }

  #createRule(vip = this.#random.of(VIPS)): void {
    const random = this.#random;
    if (this.#rules.length >= this.#size.mostRules) return;
    const protocol: Protocol = random.of(["tcp", "tcp", "udp"]);
    const type = random.of(TYPES);
    const ports = random.of([
      onePort(80),
      onePort(53),
      { min: 5000, max: 5009 },
      { min: 6000, max: 6002 },
      onePort(443),
    ]);
    const clash = (rule: RuleSpec): boolean =>
      same(rule.vip, vip) && rule.protocol === protocol && rule.ports.min === ports.min;
    if (this.#rules.some(clash)) return;
    const id = this.#nextId++;
    let rule: LiveRule = {
      id,
      slot: this.#nextSlot++ % RULE_SLOTS,
      vip,
      vipIsLocal: isLocalVip(vip),
      protocol,
      ports,
      type,
      algorithm: random.of(this.#size.isTurnless ? HASHES : ALGORITHMS),
      proxySource: type === "NAT" ? this.#proxySource(vip.family) : null,
      stickyMask: random.chance(0.3) ? random.of(STICKY_MASKS[vip.family]) : null,
      natTimeoutMs: random.of([20_000, 60_000, 120_000]),
      persistTimeoutMs: random.of([10_000, 60_000]),
      enabled: !random.chance(0.1),
      sequence: id,
      members: [],
      connDrainMs: this.#size.isRestless ? 0 : random.of([0, 10_000, 30_000]),
      nextInsert: 1,
      nextEnable: 1,
    };
    const count = Math.min(random.of([0, 1, 2, 3, 3, 4, 5]), this.#size.mostServers);
    for (const address of ofFamily(vip.family, SERVERS).slice(0, count)) rule = this.#withMember(rule, address);
    this.#rules.push(rule);
  }

  #proxySource(family: Family): { first: Address; last: Address } {
    const isFit = ({ first, last }: { first: Address; last: Address }): boolean =>
      first.family === family && (!this.#size.isTurnless || first.value === last.value);
    return this.#random.of(PROXY_RANGES.filter(isFit));
  }

  #withMember(rule: LiveRule, address: Address): LiveRule {
    const server = this.#server(address, this.#serverPorts(rule.type, rule.ports));
    const member = { server, insertSequence: rule.nextInsert, enabledSequence: rule.nextEnable };
    const members = [...rule.members, member];
    return { ...rule, members, nextInsert: rule.nextInsert + 1, nextEnable: rule.nextEnable + 1 };
  }

  #drain(rule: LiveRule, serverId: number, nowMs: number): void {
    if (rule.connDrainMs === 0 || rule.type === "DSR") return;
    this.#undrain(rule.id, serverId);
    const deadlineMs = nowMs + rule.connDrainMs;
    this.#drains = [...this.#drains, { ruleId: rule.id, serverId, deadlineMs }];
  }

  #undrain(ruleId: number, serverId: number): void {
    this.#drains = this.#drains.filter((drain) => drain.ruleId !== ruleId || drain.serverId !== serverId);
  }

  #toggleMember(rule: LiveRule, nowMs: number): LiveRule {
    if (rule.members.length === 0) return rule;
    const chosen = this.#random.of(rule.members);
    const enables = chosen.enabledSequence === null;
    if (enables) this.#undrain(rule.id, chosen.server.id);
    else this.#drain(rule, chosen.server.id, nowMs);
    const members = rule.members.map((member) =>
      member === chosen ? { ...member, enabledSequence: enables ? rule.nextEnable : null } : member,
    );
    return { ...rule, members, nextEnable: rule.nextEnable + 1 };
  }

  #removeMember(rule: LiveRule, nowMs: number): LiveRule {
    if (rule.members.length === 0) return rule;
    const gone = this.#random.of(rule.members);
    this.#drain(rule, gone.server.id, nowMs);
    this.#past.push({ ...rule, members: [gone] });
    // A server that comes back later is a new one.
    this.#servers = this.#servers.filter((server) => server !== gone.server);
    return { ...rule, members: rule.members.filter((member) => member !== gone) };
  }

  #addMember(rule: LiveRule): LiveRule {
    const free = ofFamily(rule.vip.family, SERVERS).filter(
      (address) => !rule.members.some((one) => same(one.server.address, address)),
    );
    return free.length === 0 || rule.members.length >= this.#size.mostServers
      ? rule
      : this.#withMember(rule, this.#random.of(free));
  }

  #deleteRule(nowMs: number): Event[] {
    if (this.#rules.length === 0) return [];
    const [gone] = this.#rules.splice(this.#random.below(this.#rules.length), 1);
    for (const member of gone!.members) this.#drain(gone!, member.server.id, nowMs);
    this.#past.push(gone!);
    return [this.#publish()];
  }
}
