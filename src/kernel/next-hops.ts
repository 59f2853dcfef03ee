/**
 * Where each server is reached: egress port, link addresses and MTU, from the kernel's own routes and neighbours, kept
 * current. Changes no kernel state but that it asks for neighbours; sends no packet itself.
 *
 * The `packet` device keeps its traffic away from the kernel's stack, so the kernel believes that nobody uses a
 * neighbour: the entry grows stale and is thrown away in the end. Hence a neighbour in use is asked about as soon as it is
 * stale, which makes the kernel confirm it by one unicast request, about every half minute per neighbour.
 */
import type { NextHop } from "../engine/engine.ts";
import { type Address, addressKey, formatAddress, sameAddress } from "../model/address.ts";
import type { KernelLog } from "./log.ts";
import type { NetworkChange, NetworkWatch } from "./network-watch.ts";
import { type Neighbour, NUD_FAILED, NUD_STALE, type RoutePath } from "./rtnetlink.ts";

/** Between two attempts at a neighbour that does not answer; the kernel itself asks three times in three seconds. */
const RETRY_MS = 1000;

const NO_MAC = new Uint8Array(6);

/** One address that is kept, under the engine's index. */
interface Entry {
  readonly index: number;
  readonly address: Address;
  /** The path in use, kept while it works. */
  path: RoutePath | null;
  /** Of the route; null: the interface's. */
  mtu: number | null;
  /** What the kernel would take as source; null: it does not say. */
  source: Address | null;
  hop: NextHop;
  /** What was logged last, so that a state is told once. */
  complaint: string | null;
}

/** The way to an address, for whoever sends a frame there. */
export interface Way {
  readonly interfaceIndex: number;
  /** null: the neighbour does not answer (yet). */
  readonly mac: Uint8Array | null;
  /** What the kernel would take as source; null: it does not say. */
  readonly source: Address | null;
}

export interface NextHopsOptions {
  /** Interface index to port index of the engine. */
  readonly ports: ReadonlyMap<number, number>;
  /** Called for every new index and every change, from `watch` or from a timer. */
  readonly onChange: (index: number, hop: NextHop) => void;
  readonly log: KernelLog;
}

export class NextHops {
  readonly #network: NetworkWatch;
  readonly #options: NextHopsOptions;
  readonly #entries = new Map<number, Entry>();
  readonly #byAddress = new Map<string, Entry>();
  readonly #unsubscribe: () => void;
  readonly #retry: ReturnType<typeof setInterval>;

  constructor(network: NetworkWatch, options: NextHopsOptions) {
    this.#network = network;
    this.#options = options;
    this.#unsubscribe = network.onChange((change) => this.#react(change));
    this.#retry = setInterval(() => this.#retryUnresolved(), RETRY_MS);
  }

  /**
   * From now on exactly these addresses are kept. New ones are looked up at once: `onChange` is called before this
   * returns, and again when the neighbour has answered.
   */
  watch(addresses: ReadonlyMap<number, Address>): void {
    for (const [index, entry] of this.#entries) {
      const wanted = addresses.get(index);
      if (wanted !== undefined && sameAddress(wanted, entry.address)) continue;
      this.#entries.delete(index);
      this.#byAddress.delete(addressKey(entry.address));
    }
    for (const [index, address] of addresses) {
      if (this.#entries.has(index)) continue;
      const entry: Entry = { index, address, path: null, mtu: null, source: null, hop: NOWHERE, complaint: null };
      this.#entries.set(index, entry);
      this.#byAddress.set(addressKey(address), entry);
      this.#resolve(entry);
      this.#options.onChange(index, entry.hop);
    }
  }

  /** null for an index that is not watched. */
  get(index: number): NextHop | null {
    return this.#entries.get(index)?.hop ?? null;
  }

  /** How a watched address is reached now; null when it is not watched or there is no way. */
  wayTo(address: Address): Way | null {
    const entry = this.#byAddress.get(addressKey(address));
    if (entry === undefined || entry.path === null) return null;
    const { path, hop, source } = entry;
    return { interfaceIndex: path.index, mac: hop.state === "resolved" ? hop.destinationMac : null, source };
  }

  close(): void {
    clearInterval(this.#retry);
    this.#unsubscribe();
    this.#entries.clear();
    this.#byAddress.clear();
  }

  #react(change: NetworkChange): void {
    const all = change.links || change.addresses || change.routes || change.neighbours === null;
    for (const entry of [...this.#entries.values()]) {
      if (all) this.#refresh(entry);
      else if (change.neighbours?.some((neighbour) => this.#concerns(entry, neighbour))) this.#update(entry);
    }
  }

  #concerns(entry: Entry, neighbour: Neighbour): boolean {
    if (entry.path === null) return false;
    return neighbour.index === entry.path.index && sameAddress(neighbour.address, entry.path.gateway ?? entry.address);
  }

  /** Looks the route up anew. */
  #refresh(entry: Entry): void {
    const before = entry.hop;
    this.#resolve(entry);
    if (!sameHop(before, entry.hop)) this.#options.onChange(entry.index, entry.hop);
  }

  /** The route is as it was, the neighbour is not. One that failed may have a twin (several paths). */
  #update(entry: Entry): void {
    const state = (entry.path && this.#neighbour(entry.path, entry)?.state) ?? 0;
    const before = entry.hop;
    if (state & NUD_FAILED) this.#resolve(entry);
    else this.#settle(entry);
    if (!sameHop(before, entry.hop)) this.#options.onChange(entry.index, entry.hop);
  }

  #retryUnresolved(): void {
    for (const entry of [...this.#entries.values()]) if (entry.hop.state === "unresolved") this.#refresh(entry);
  }

  #resolve(entry: Entry): void {
    const found = this.#choose(entry);
    if (typeof found === "string") {
      this.#nowhere(entry, found);
      return;
    }
    entry.path = found.path;
    entry.mtu = found.mtu;
    entry.source = found.source;
    this.#settle(entry);
  }

  /** The path to take and the route's MTU; or why there is none. Asks for the neighbours of all paths that it passes by. */
  #choose(entry: Entry): { path: RoutePath; mtu: number | null; source: Address | null } | string {
    const route = this.#network.route(entry.address);
    if (route.kind === "none") return route.why;
    if (route.kind === "local") return "it is an address of this box";
    if (route.kind === "other") return "it is no host";
    const owned = (path: RoutePath) => this.#options.ports.has(path.index);
    const reaches = (path: RoutePath) => this.#neighbour(path, entry)?.mac != null;
    let paths = route.paths.filter(owned);
    // The kernel's pick comes first; where it does not lead on, the other paths of the route get their turn.
    if (!paths.some(reaches)) {
      const whole = this.#network.route(entry.address, true);
      if (whole.kind === "unicast") paths = [...paths, ...whole.paths.filter(owned)];
    }
    const leading = paths.filter(reaches);
    const path = leading.find((candidate) => entry.path && samePath(candidate, entry.path)) ?? leading[0] ?? paths[0];
    if (path === undefined) {
      const names = route.paths.map(({ index }) => this.#network.link(index)?.name ?? `interface ${index}`);
      return `the route leads out of ${names.join(", ")}, which is no packet device of ilbd`;
    }
    if (!this.#network.link(path.index)?.up) return "the interface is down";
    for (const other of paths)
      if (other !== path && !reaches(other)) this.#network.probe(other.index, other.gateway ?? entry.address);
    return { path, mtu: route.mtu, source: route.preferredSource };
  }

  /** Path and route are known: state and link addresses by the neighbour. */
  #settle(entry: Entry): void {
    const { path } = entry;
    const link = path && this.#network.link(path.index);
    const port = path && this.#options.ports.get(path.index);
    if (!path || !link || port == null) return;
    const neighbour = this.#neighbour(path, entry);
    const next = path.gateway ?? entry.address;
    const isSilent = neighbour !== null && (neighbour.state & NUD_FAILED) !== 0;
    // Unknown, thrown away, stale or given up, and in use.
    if (neighbour === null || isSilent || neighbour.state & NUD_STALE) this.#network.probe(path.index, next);
    entry.hop = {
      state: neighbour?.mac ? "resolved" : "unresolved",
      port,
      destinationMac: neighbour?.mac ?? NO_MAC,
      sourceMac: link.mac ?? NO_MAC,
      mtu: Math.min(entry.mtu ?? link.mtu, link.mtu),
    };
    const gateway = path.gateway ? `, gateway of server ${formatAddress(entry.address)},` : "";
    if (isSilent) this.#complain(entry, `${formatAddress(next)}${gateway} does not answer on ${link.name}`);
    if (neighbour?.mac) this.#recover(entry, link.name);
  }

  #nowhere(entry: Entry, why: string): void {
    entry.path = null;
    entry.hop = NOWHERE;
    this.#complain(entry, `server ${formatAddress(entry.address)} cannot be reached: ${why}`);
  }

  #complain(entry: Entry, text: string): void {
    if (entry.complaint === text) return;
    entry.complaint = text;
    this.#options.log.warn(text);
  }

  #recover(entry: Entry, device: string): void {
    if (entry.complaint === null) return;
    entry.complaint = null;
    this.#options.log.info(`server ${formatAddress(entry.address)} is reached again, by ${device}`);
  }

  #neighbour(path: RoutePath, entry: Entry): Neighbour | null {
    return this.#network.neighbour(path.index, path.gateway ?? entry.address);
  }
}

const NOWHERE: NextHop = Object.freeze({ state: "none", port: 0, destinationMac: NO_MAC, sourceMac: NO_MAC, mtu: 0 });

function sameHop(a: NextHop, b: NextHop): boolean {
  return (
    a.state === b.state &&
    a.port === b.port &&
    a.mtu === b.mtu &&
    Buffer.compare(a.destinationMac, b.destinationMac) === 0 &&
    Buffer.compare(a.sourceMac, b.sourceMac) === 0
  );
}

function samePath(a: RoutePath, b: RoutePath): boolean {
  if (a.index !== b.index) return false;
  return a.gateway === null || b.gateway === null ? a.gateway === b.gateway : sameAddress(a.gateway, b.gateway);
}
