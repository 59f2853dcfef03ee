/**
 * The kernel's links, addresses and neighbours as values, kept current by notifications; route look-ups; requests.
 * One pair of netlink sockets for all of src/kernel/. Says what is, decides nothing.
 *
 * Notifications are fetched by a timer, without blocking: one system call per 50 ms when nothing happens. The runtime
 * has no event for a foreign descriptor, and a thread that blocks in recv would have to hand over its messages by such
 * a timer too. While somebody waits for an answer (`hurry`) the pause is 5 ms.
 */
import { type Address, formatAddress, sameAddress } from "../model/address.ts";
import { NativeError } from "../native/library.ts";
import { NetlinkSocket, notificationBuffer } from "../native/netlink.ts";
import { readMessages } from "./netlink-codec.ts";
import {
  dumpAddresses,
  dumpLinks,
  dumpNeighbours,
  type InterfaceAddress,
  type Link,
  lookUpRoute,
  type Neighbour,
  type NetworkEvent,
  type Route,
  readEvent,
  readInterfaceAddress,
  readLink,
  readNeighbour,
  readRoute,
  useNeighbour,
  WATCHED_GROUPS,
} from "./rtnetlink.ts";

const IDLE_PAUSE_MS = 50;
const HURRIED_PAUSE_MS = 5;
const HURRY_MS = 2000;

/** What changed since the last call, one call per batch of notifications. */
export interface NetworkChange {
  readonly links: boolean;
  readonly addresses: boolean;
  /** Routes, rules or next-hop objects. */
  readonly routes: boolean;
  /** Neighbours that changed or are gone; null when any may have. */
  readonly neighbours: readonly Neighbour[] | null;
}

/** A route look-up that the kernel refused: no route, or one that says so (blackhole, unreachable, prohibit). */
export interface NoRoute {
  readonly kind: "none";
  /** For people: `no route`, `blackhole route`, ... */
  readonly why: string;
}

export class NetworkWatch {
  readonly #requests = new NetlinkSocket();
  readonly #notifications = new NetlinkSocket(WATCHED_GROUPS);
  readonly #buffer = notificationBuffer();
  readonly #listeners = new Set<(change: NetworkChange) => void>();
  #links = new Map<number, Link>();
  #addresses = new Map<string, InterfaceAddress>();
  #neighbours = new Map<string, Neighbour>();
  #timer: ReturnType<typeof setTimeout> | null = null;
  #hurryUntilMs = 0;

  /** Reads everything and begins to watch the network namespace of this thread. Throws NativeError. */
  constructor() {
    this.#readAll();
    this.#schedule();
  }

  /** By index. */
  links(): readonly Link[] {
    return [...this.#links.values()];
  }
  link(index: number): Link | null {
    return this.#links.get(index) ?? null;
  }
  linkNamed(name: string): Link | null {
    return this.links().find((link) => link.name === name) ?? null;
  }
  addresses(): readonly InterfaceAddress[] {
    return [...this.#addresses.values()];
  }
  neighbour(index: number, address: Address): Neighbour | null {
    return this.#neighbours.get(keyOf(index, address)) ?? null;
  }

  /**
   * The way to a destination as the kernel sees it, for packets that the box itself would send without a source.
   * @param allPaths the whole entry of the routing table in place of the one path that the kernel picks
   */
  route(destination: Address, allPaths = false): Route | NoRoute {
    try {
      const answer = this.request(
        lookUpRoute(destination, allPaths),
        `look up the route to ${formatAddress(destination)}`,
      );
      for (const message of readMessages(answer)) {
        const route = readRoute(message.body);
        if (route) return route;
      }
      return { kind: "none", why: "no route" };
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
      return { kind: "none", why: NO_ROUTE_REASONS[error.code] ?? error.message };
    }
  }

  /** Does the kernel take packets to this address for itself (an address of an interface, or a local route)? */
  isLocal(address: Address): boolean {
    for (const own of this.#addresses.values()) if (sameAddress(own.address, address)) return true;
    return this.route(address).kind === "local";
  }

  /** See useNeighbour. Failures show as a neighbour that does not answer. */
  probe(index: number, address: Address): void {
    try {
      this.request(useNeighbour(index, address), `ask for the neighbour ${formatAddress(address)}`);
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
    }
    this.hurry();
  }

  /** One request on the shared socket. Throws NativeError. */
  request(request: Uint8Array, action: string, hints?: Readonly<Record<string, string>>): Uint8Array {
    return this.#requests.request(request, action, hints);
  }

  /** Looks for notifications more often for the next two seconds. */
  hurry(): void {
    const idle = performance.now() >= this.#hurryUntilMs;
    this.#hurryUntilMs = performance.now() + HURRY_MS;
    if (idle && this.#timer !== null) this.#schedule();
  }

  /** @returns a function that ends the subscription */
  onChange(listener: (change: NetworkChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Takes what notifications wait. The timer calls it; a caller that has just changed something may do so too. */
  poll(): void {
    const change = new ChangeCollector();
    for (;;) {
      const datagram = this.#notifications.receive(this.#buffer);
      if (datagram === null) break;
      if (datagram === "lost") {
        this.#drain();
        this.#readAll();
        change.everything();
        break;
      }
      for (const message of readMessages(datagram)) {
        const event = readEvent(message);
        if (event && this.#take(event)) change.add(event);
      }
    }
    const summary = change.summary();
    if (summary) for (const listener of this.#listeners) listener(summary);
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#listeners.clear();
    this.#requests.close();
    this.#notifications.close();
  }

  #schedule(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    const pause = performance.now() < this.#hurryUntilMs ? HURRIED_PAUSE_MS : IDLE_PAUSE_MS;
    this.#timer = setTimeout(() => {
      this.poll();
      if (this.#timer !== null) this.#schedule();
    }, pause);
  }

  /** What was lost is read anew, so what still waits is old. */
  #drain(): void {
    while (this.#notifications.receive(this.#buffer) !== null);
  }

  #readAll(): void {
    this.#links = new Map();
    this.#addresses = new Map();
    this.#neighbours = new Map();
    for (const { body } of readMessages(this.request(dumpLinks(), "list the interfaces"))) {
      const link = readLink(body);
      if (link) this.#links.set(link.index, link);
    }
    for (const { body } of readMessages(this.request(dumpAddresses(), "list the addresses"))) {
      const address = readInterfaceAddress(body);
      if (address) this.#addresses.set(keyOf(address.index, address.address), address);
    }
    for (const { body } of readMessages(this.request(dumpNeighbours(), "list the neighbours"))) {
      const neighbour = readNeighbour(body);
      if (neighbour) this.#neighbours.set(keyOf(neighbour.index, neighbour.address), neighbour);
    }
  }

  /** @returns whether it is news. */
  #take(event: NetworkEvent): boolean {
    switch (event.kind) {
      case "link": {
        const before = this.#links.get(event.link.index);
        this.#links.set(event.link.index, event.link);
        return before === undefined || !sameLink(before, event.link);
      }
      case "link-gone":
        return this.#links.delete(event.index);
      case "address": {
        const key = keyOf(event.address.index, event.address.address);
        if (!event.present) return this.#addresses.delete(key);
        const isNew = !this.#addresses.has(key);
        this.#addresses.set(key, event.address);
        return isNew;
      }
      case "neighbour": {
        const key = keyOf(event.neighbour.index, event.neighbour.address);
        if (event.present) this.#neighbours.set(key, event.neighbour);
        else this.#neighbours.delete(key);
        return true;
      }
      case "route":
        return true;
    }
  }
}

/** What fib_props and the look-up itself answer (net/ipv4/fib_semantics.c). */
const NO_ROUTE_REASONS: Readonly<Record<string, string>> = {
  ENETUNREACH: "no route",
  EHOSTUNREACH: "unreachable route",
  EINVAL: "blackhole route",
  EACCES: "prohibit route",
  ENETDOWN: "network down",
};

class ChangeCollector {
  #links = false;
  #addresses = false;
  #routes = false;
  #neighbours: Neighbour[] | null = [];

  add(event: NetworkEvent): void {
    if (event.kind === "link" || event.kind === "link-gone") this.#links = true;
    else if (event.kind === "address") this.#addresses = true;
    else if (event.kind === "route") this.#routes = true;
    else this.#neighbours?.push(event.neighbour);
  }
  everything(): void {
    this.#links = true;
    this.#addresses = true;
    this.#routes = true;
    this.#neighbours = null;
  }
  summary(): NetworkChange | null {
    const neighbours = this.#neighbours;
    if (!this.#links && !this.#addresses && !this.#routes && neighbours?.length === 0) return null;
    return { links: this.#links, addresses: this.#addresses, routes: this.#routes, neighbours };
  }
}

const keyOf = (index: number, address: Address): string => `${index} ${address.family} ${address.value}`;

function sameLink(a: Link, b: Link): boolean {
  const same = (key: keyof Link) => a[key] === b[key];
  const fields = ["name", "hardwareType", "mtu", "up", "carrier", "kind", "master", "lower"] as const;
  return (
    fields.every(same) && (a.mac === b.mac || (a.mac !== null && b.mac !== null && Buffer.compare(a.mac, b.mac) === 0))
  );
}
