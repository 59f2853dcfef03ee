/**
 * Proxy ports of full NAT (specification E.7). A port may be used once per (proxy address, server address, server port),
 * TCP and UDP together, so that the 4-tuple towards the server is unique. A server that answers on several ports draws
 * from one common pool for all of them. Where the same server port is reached from a pool of its own as well, a port is
 * free only when it is in neither of the two; so no two flows share a 4-tuple, whichever pools they draw from.
 */
import type { Address } from "../../model/address.ts";
import { addressKey } from "./packet.ts";

export const FIRST_PROXY_PORT = 4096;
export const LAST_PROXY_PORT = 65534;
/** Kept free for a remote protocol whose callback arrives there. */
export const RESERVED_PROXY_PORT = 13724;

/** Whom a port is for. */
export interface PortUse {
  readonly proxy: Address;
  readonly server: Address;
  readonly serverPort: number;
  /** The server answers on several ports, which share one pool. */
  readonly isCommon: boolean;
}

/** Asks for a port of one pool. */
export interface PortRequest extends PortUse {
  readonly isFree: (port: number) => boolean;
}

/** Picks a free port of the request, or null when there is none. The order inside a pool is nobody's promise. */
export type PortChooser = (request: PortRequest) => number | null;

/** The lowest free port. */
export const chooseLowest: PortChooser = ({ isFree }) => {
  for (let port = FIRST_PROXY_PORT; port <= LAST_PROXY_PORT; port++) if (isFree(port)) return port;
  return null;
};

/** A port in use, to be given back once. */
export interface Lease {
  readonly proxy: Address;
  readonly port: number;
  readonly release: () => void;
}

export class ProxyPorts {
  /** Ports in use, each with its pool. */
  readonly #taken = new Set<string>();
  /** How many ports of each pool are in use; none that has none. */
  readonly #users = new Map<string, number>();
  readonly #mostPools: number;

  /** @param mostPools so many pools at most have ports in use at once */
  constructor(mostPools: number) {
    this.#mostPools = mostPools;
  }

  /** @param pool `*` for the common one */
  #place({ proxy, server }: PortUse, port: number, pool: number | "*"): string {
    return `${addressKey(proxy)} ${port} ${addressKey(server)} ${pool}`;
  }

  #isFree(use: PortUse, port: number): boolean {
    const isInRange = port >= FIRST_PROXY_PORT && port <= LAST_PROXY_PORT && port !== RESERVED_PROXY_PORT;
    const places = [this.#place(use, port, use.serverPort), this.#place(use, port, "*")];
    return isInRange && !places.some((place) => this.#taken.has(place));
  }

  /** Takes a port of one proxy address; null when its pool is empty, or one pool too many. Throws if `choose` answers with a used one. */
  take(use: PortUse, choose: PortChooser): Lease | null {
    const owner = use.isCommon ? "*" : use.serverPort;
    const pool = `${addressKey(use.proxy)} ${addressKey(use.server)} ${owner}`;
    const users = this.#users.get(pool) ?? 0;
    if (users === 0 && this.#users.size === this.#mostPools) return null;
    const isFree = (port: number): boolean => this.#isFree(use, port);
    const port = choose({ ...use, isFree });
    if (port === null) return null;
    if (!isFree(port)) throw new Error(`proxy port ${port} is out of range or in use`);
    const place = this.#place(use, port, owner);
    this.#taken.add(place);
    this.#users.set(pool, users + 1);
    return { proxy: use.proxy, port, release: () => this.#release(place, pool) };
  }

  #release(place: string, pool: string): void {
    this.#taken.delete(place);
    const left = this.#users.get(pool)! - 1;
    if (left === 0) this.#users.delete(pool);
    else this.#users.set(pool, left);
  }
}
