/**
 * The kernel's share of the service behind one face: which packets are whose (guard or marks), the way back for what the
 * engine does not want, next hops, local addresses, ports kept free, and that all of it is put back. The composition root
 * opens it, the controller drives it. Decides nothing about rules.
 *
 * Order of a start: openHost (checks, clean-up after a crash, device choice), packet devices, openPacketMode or
 * openTunMode, workers. Order of a stop: workers, close (guard last of what the engine needs), packet devices.
 */
import { readFileSync } from "node:fs";
import type { Interest, NextHop, Port } from "../engine/engine.ts";
import { type Address, addressKey, applyMask, compareAddresses, isLinkLocal, sameAddress } from "../model/address.ts";
import type { Config, Rule } from "../model/config.ts";
import type { MakeTransitTable, TransitCounts } from "../model/transit.ts";
import { Nft } from "../native/nftables.ts";
import { chooseDevices } from "./devices.ts";
import { createGuard } from "./guard.ts";
import { hintsFor } from "./hints.ts";
import { HostChanges } from "./host-changes.ts";
import { LocalPorts, localPorts } from "./local-ports.ts";
import type { KernelLog } from "./log.ts";
import { readMessages } from "./netlink-codec.ts";
import { NetworkWatch } from "./network-watch.ts";
import { NextHops } from "./next-hops.ts";
import { openPassPath, type PassPath } from "./pass.ts";
import { PolicyFilter } from "./policy-filter.ts";
import { ProbeDetours } from "./probe-detours.ts";
import { findProbeDetour, findProbeWay, type ProbeDetourAnswer, type ProbeWayAnswer } from "./probe-way.ts";
import { missingRequirement } from "./requirements.ts";
import { dumpProxyNeighbours, type Link, readProxyNeighbour } from "./rtnetlink.ts";
import { claimNetwork } from "./sole-owner.ts";
import { addressRefusal, createTunRouting, keepRouteMtu } from "./tun-routing.ts";

/** A start cannot go on; the message is one line that names what is missing and the way out. */
export class HostRefused extends Error {
  override readonly name = "HostRefused";
}

/** Mark of frames on their way back to the kernel; the packet sockets and the guard leave frames with it alone. */
export const PASS_MARK = 0x1b150001;

export interface HostOptions {
  readonly io: "packet" | "tun";
  /** --dev; null: by default. */
  readonly devices: readonly string[] | null;
  /** Of this instance alone, e.g. /run/ilb/ilbd. The caller holds the lock of the instance. */
  readonly runDirectory: string;
  readonly log: KernelLog;
}

/** The host as it is found: nothing of it is changed yet. */
export interface Host {
  readonly network: NetworkWatch;
  readonly changes: HostChanges;
  /** The owned devices, in the order of their ports. */
  readonly devices: readonly Link[];
  readonly log: KernelLog;
  /** Lets the network namespace go. After the mode is closed. */
  close(): void;
}

export interface ModeOptions {
  /** A next hop is new or has changed: for the engine. Called from watch() and from timers. */
  readonly onNextHop: (index: number, hop: NextHop) => void;
  /** What is local has changed for an address that was asked about: compile anew. */
  readonly onLocalChange: () => void;
  /** Address, MTU or link-layer address of a port may have changed: read `ports` again. */
  readonly onPortChange: () => void;
}

export interface Kernel {
  /** Why this host cannot carry a configuration: one line, or null. Changes nothing. */
  checkConfig(config: Config): string | null;
  /** Hints about a new rule, for standard error. */
  hints(rule: Rule): string[];
  /** From now on at least `interest` belongs to the engine. Rejects with one line; then nothing has changed. */
  widen(interest: Interest): Promise<void>;
  /** From now on exactly `interest` belongs to the engine. Rejects with one line; then nothing has changed. */
  narrow(interest: Interest): Promise<void>;
  /** Applies a flow policy to what the kernel forwards; null: none. Rejects with one line; then nothing has changed. */
  filter(make: MakeTransitTable | null): Promise<void>;
  /** What it counted and refused. */
  filterCounts(): Promise<TransitCounts>;
  isLocal(address: Address): boolean;
  /** Addresses of the box, without those that hold on one link only; the same list as long as it says the same. */
  ownAddresses(): readonly Address[];
  /** The way of a health probe that is addressed to `vip` and meant for `server`, whose next hop is watched. */
  probeWay(server: Address, vip: Address): ProbeWayAnswer;
  /** The same for a connection by a socket. Does not reject. */
  probeDetour(server: Address, vip: Address): Promise<ProbeDetourAnswer>;
  /** The kernel's source address towards a server whose next hop is watched; null: not known. */
  probeSource(server: Address): Address | null;
  /** Names of owned devices that exist no more; one that is made anew under such a name is not taken up. */
  missingDevices(): readonly string[];
  /** Keeps the next hops of exactly these addresses current, under these indexes. */
  watch(addresses: ReadonlyMap<number, Address>): void;
  /** As the engine wants to know them, by port index. */
  ports(): readonly Port[];
  /** By port index: for ilb_port_set_pass. Empty with the `tun` device, which gives back through itself. */
  readonly passDescriptors: readonly number[];
  /** Gives the kernel everything back and undoes all changes. Does not reject. */
  close(): Promise<void>;
}

/**
 * Checks what a start needs, claims the network namespace, puts back what a crash left, chooses the devices. Throws
 * HostRefused; then nothing is left of it.
 */
export function openHost(options: HostOptions): Host {
  const missing = missingRequirement(options.io);
  if (missing !== null) throw new HostRefused(missing);
  const undo: (() => void)[] = [];
  const close = () => {
    for (const step of undo.splice(0).reverse()) step();
  };
  try {
    const claim = claimNetwork(options.log);
    if (!claim.ok) throw new HostRefused(claim.text);
    undo.push(() => claim.lock.release());
    const network = new NetworkWatch();
    undo.push(() => network.close());
    const changes = new HostChanges(options.runDirectory, network, options.log);
    undo.push(() => changes.leave());
    changes.cleanUpAfterCrash();
    network.poll();
    const choice = chooseDevices(options.devices, network.links(), network.addresses());
    if (!choice.ok) throw new HostRefused(choice.text);
    return { network, changes, devices: choice.devices, log: options.log, close };
  } catch (error) {
    close();
    throw error instanceof HostRefused ? error : new HostRefused((error as Error).message);
  }
}

/** The guard and the ways back. Rejects with HostRefused; then nothing has changed. */
export function openPacketMode(host: Host, options: ModeOptions): Promise<Kernel> {
  return open(host, options, async (nft, defer) => {
    // First, because it is what a second daemon fails at, with a line that says so.
    const guard = await createGuard(nft, { devices: host.devices.map(({ name }) => name), passMark: PASS_MARK });
    defer(() => guard.remove());
    const passes: PassPath[] = [];
    for (const device of host.devices) {
      const pass = openPassPath(device, { ...host, mark: PASS_MARK });
      defer(() => pass.close());
      passes.push(pass);
    }
    if (isNoRouter())
      host.log.info("net.ipv4.ip_forward is 0: this box forwards no traffic of its servers but what is balanced");
    return {
      owner: guard,
      ports: new Map(host.devices.map((device, port) => [device.index, port])),
      describePorts: () => host.devices.map((device) => ethernetPort(host.network, device)),
      passDescriptors: passes.map(({ fd }) => fd),
      judged: [`meta mark ${PASS_MARK}`],
      checkConfig: () => null,
      servesLocal: true,
    };
  });
}

/** @param tun the TUN, which is port 0; the devices follow as ports that only send. Rejects with HostRefused. */
export function openTunMode(host: Host, tun: string, options: ModeOptions): Promise<Kernel> {
  return open(host, options, async (nft, defer) => {
    const ways = { tun, devices: host.devices.map(({ name }) => name) };
    const routing = await createTunRouting(nft, host.network, host.changes, ways);
    defer(() => routing.remove());
    defer(keepRouteMtu(host.network, ways, host.log));
    return {
      owner: routing,
      ports: new Map(host.devices.map((device, index) => [device.index, index + 1])),
      describePorts: () => [
        tunPort(host.network, tun, host.devices),
        ...host.devices.map((device) => ethernetPort(host.network, device)),
      ],
      passDescriptors: [],
      judged: [`iifname ${JSON.stringify(tun)}`, `oifname ${JSON.stringify(tun)}`],
      checkConfig: (config, isLocal) => addressRefusal(addressesOf(config), isLocal),
      servesLocal: false,
    };
  });
}

/** What the two modes do differently. */
interface Mode {
  readonly owner: { widen(next: Interest): Promise<void>; narrow(next: Interest): Promise<void> };
  /** Interface index to port index. */
  readonly ports: ReadonlyMap<number, number>;
  describePorts(): Port[];
  readonly passDescriptors: readonly number[];
  /** nft conditions of forwarded packets that the engine has judged, or is going to. */
  readonly judged: readonly string[];
  checkConfig(config: Config, isLocal: (address: Address) => boolean): string | null;
  /** Whether a VIP may be an address of the box. */
  readonly servesLocal: boolean;
}

type Defer = (undo: () => unknown) => void;

async function open(
  host: Host,
  options: ModeOptions,
  build: (nft: Nft, defer: Defer) => Promise<Mode>,
): Promise<Kernel> {
  const undo: (() => unknown)[] = [];
  const unwind = async () => {
    for (const step of undo.splice(0).reverse()) {
      try {
        await step();
      } catch (error) {
        host.log.warn((error as Error).message);
      }
    }
  };
  try {
    undo.push(() => host.changes.undoAll());
    const nft = new Nft();
    undo.push(() => nft.close());
    const mode = await build(nft, (step) => undo.push(step));
    const detours = new ProbeDetours(nft);
    undo.push(() => detours.remove());
    const filter = new PolicyFilter(nft, mode.judged);
    return assemble(host, { ...mode, detours, filter }, options, unwind, (step) => undo.push(step));
  } catch (error) {
    await unwind();
    throw new HostRefused((error as Error).message);
  }
}

function assemble(
  host: Host,
  mode: Mode & { readonly detours: ProbeDetours; readonly filter: PolicyFilter },
  options: ModeOptions,
  close: () => Promise<void>,
  defer: Defer,
): Kernel {
  const { network, log } = host;
  const locals = new LocalCache(network);
  const kept = new LocalPorts(host.changes, log);
  const nextHops = new NextHops(network, { ports: mode.ports, onChange: options.onNextHop, log });
  defer(() => nextHops.close());
  const tellMissing = missingTeller(host);
  let own = ownAddresses(network);
  const refreshOwn = (): boolean => {
    const now = ownAddresses(network);
    const isSame = now.length === own.length && now.every((address, index) => sameAddress(address, own[index]!));
    if (!isSame) own = now;
    return !isSame;
  };
  const unsubscribe = network.onChange((change) => {
    if (change.links) tellMissing();
    if (change.links || change.addresses) options.onPortChange();
    const isOther = change.addresses && refreshOwn();
    if (((change.addresses || change.routes) && locals.refresh()) || isOther) options.onLocalChange();
  });
  defer(unsubscribe);
  const isLocal = (address: Address) => locals.isLocal(address);
  return {
    checkConfig: (config) => mode.checkConfig(config, isLocal),
    hints: (rule) => hintsFor(rule, { ...boxAddresses(host, isLocal), servesLocal: mode.servesLocal }),
    async widen(interest) {
      await mode.owner.widen(interest);
      kept.reserve(localPorts(interest, isLocal));
    },
    async narrow(interest) {
      await mode.owner.narrow(interest);
      kept.reserve(localPorts(interest, isLocal));
    },
    filter: (make) => mode.filter.load(make),
    filterCounts: () => mode.filter.counts(),
    isLocal,
    ownAddresses: () => own,
    probeWay: (server, vip) => findProbeWay(network, nextHops, server, vip),
    probeDetour: (server, vip) => findProbeDetour(network, nextHops, mode.detours, server, vip),
    probeSource: (server) => nextHops.wayTo(server)?.source ?? null,
    missingDevices: () => missingOf(host).map(({ name }) => name),
    watch: (addresses) => nextHops.watch(addresses),
    ports: () => mode.describePorts(),
    passDescriptors: mode.passDescriptors,
    close,
  };
}

const missingOf = ({ network, devices }: Host): Link[] => devices.filter(({ index }) => network.link(index) === null);

/**
 * Says once for every owned device that it exists no more, and once for every one that is made anew under its name: that
 * is another one, with sockets, hooks and settings of its own to be made, which a new start does.
 */
function missingTeller(host: Host): () => void {
  const { network, log } = host;
  const gone = new Set<number>();
  const back = new Set<number>();
  return () => {
    for (const { index, name } of missingOf(host)) {
      if (!gone.has(index))
        log.warn(`interface ${name} was removed: nothing is balanced on it any more; start ilbd again when it is back`);
      gone.add(index);
      const other = network.linkNamed(name);
      if (other === null || back.has(other.index)) continue;
      back.add(other.index);
      log.warn(`interface ${name} is back: start ilbd again to balance on it`);
    }
  };
}

/** Answers of the routing table, kept until routes or addresses change: a compilation asks for every VIP. */
class LocalCache {
  readonly #network: NetworkWatch;
  readonly #answers = new Map<string, { address: Address; local: boolean }>();

  constructor(network: NetworkWatch) {
    this.#network = network;
  }
  isLocal(address: Address): boolean {
    const key = addressKey(address);
    let answer = this.#answers.get(key);
    if (answer === undefined) {
      answer = { address, local: this.#network.isLocal(address) };
      this.#answers.set(key, answer);
    }
    return answer.local;
  }
  /** Asks again. @returns whether an answer is another one now */
  refresh(): boolean {
    let changed = false;
    for (const answer of this.#answers.values()) {
      const local = this.#network.isLocal(answer.address);
      changed ||= local !== answer.local;
      answer.local = local;
    }
    return changed;
  }
}

function* addressesOf(config: Config): Generator<{ address: Address; what: string }> {
  for (const rule of config.rules) {
    yield { address: rule.vip, what: "virtual IP address" };
    if (rule.proxySource === null) continue;
    const { first, last } = rule.proxySource;
    for (let value = first.value; value <= last.value; value++)
      yield { address: { family: first.family, value }, what: "proxy-src address" };
  }
}

// ---- Ports and addresses of the box -------------------------------------------------------------------------------------

function ethernetPort(network: NetworkWatch, device: Link): Port {
  const now = network.link(device.index) ?? device;
  return {
    kind: "ethernet",
    mac: now.mac ?? new Uint8Array(6),
    mtu: now.mtu,
    address4: addressOn(network, [device], 4),
    address6: addressOn(network, [device], 6),
  };
}

/** What the TUN hands over came in at one of the devices: errors carry an address of theirs. */
function tunPort(network: NetworkWatch, name: string, devices: readonly Link[]): Port {
  return {
    kind: "ip",
    mac: new Uint8Array(6),
    mtu: network.linkNamed(name)?.mtu ?? 65535,
    address4: addressOn(network, devices, 4),
    address6: addressOn(network, devices, 6),
  };
}

/** The first address of the family on the first device that has one, no link-local one if there is another. */
function addressOn(network: NetworkWatch, devices: readonly Link[], family: 4 | 6): Address | null {
  const all = network.addresses().filter(({ address }) => address.family === family);
  const found = devices
    .flatMap(({ index }) => all.filter((entry) => entry.index === index))
    .map(({ address }) => address);
  return found.find((address) => !isLinkLocal(address)) ?? found[0] ?? null;
}

/** In ascending order, each once. */
function ownAddresses(network: NetworkWatch): Address[] {
  const usable = network.addresses().filter(({ address }) => !isLinkLocal(address));
  const byKey = new Map(usable.map(({ address }) => [addressKey(address), address]));
  return [...byKey.values()].sort(compareAddresses);
}

function boxAddresses(host: Host, isLocal: (address: Address) => boolean) {
  const owned = new Set(host.devices.map(({ index }) => index));
  return {
    own: host.network.addresses().filter(({ index }) => owned.has(index)),
    isLocal,
    isProxied: (address: Address) => isProxied(host, address),
  };
}

/**
 * A proxy entry for it, or a device that answers for whatever it can route. Of IPv4 only when the way there leads out of
 * another interface than the one that asks: Linux holds its peace otherwise (arp_process).
 */
function isProxied(host: Host, address: Address): boolean {
  if (address.family === 4 && isRoutedToItsOwnLink(host.network, address)) return false;
  if (host.devices.some(({ name }) => sysctlIs(`net/ipv4/conf/${name}/proxy_arp`, "1"))) return true;
  const answer = host.network.request(dumpProxyNeighbours(), "list the proxy neighbours");
  for (const { body } of readMessages(answer)) {
    const proxied = readProxyNeighbour(body);
    if (proxied && sameAddress(proxied, address)) return true;
  }
  return false;
}

function isRoutedToItsOwnLink(network: NetworkWatch, address: Address): boolean {
  const way = network.route(address);
  const indexes = way.kind === "unicast" ? way.paths.map(({ index }) => index) : [];
  const prefixes = network.addresses().filter(({ index }) => indexes.includes(index));
  return prefixes.some(({ address: own, prefixLength }) =>
    sameAddress(applyMask(own, prefixLength), applyMask(address, prefixLength)),
  );
}

const isNoRouter = (): boolean => sysctlIs("net/ipv4/ip_forward", "0");

function sysctlIs(key: string, value: string): boolean {
  try {
    return readFileSync(`/proc/sys/${key}`, "utf8").trim() === value;
  } catch {
    return false;
  }
}
