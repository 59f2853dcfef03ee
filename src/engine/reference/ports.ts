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

  /** @param pool `*` for the common one */
  #place({ proxy, server }: PortUse, port: number, pool: number | "*"): string {
    return `${addressKey(proxy)} ${port} ${addressKey(server)} ${pool}`;
  }

  #isFree(use: PortUse, port: number): boolean {
    const isInRange = port >= FIRST_PROXY_PORT && port <= LAST_PROXY_PORT && port !== RESERVED_PROXY_PORT;
    const places = [this.#place(use, port, use.serverPort), this.#place(use, port, "*")];
    return isInRange && !places.some((place) => this.#taken.has(place));
  }

  /** Takes a port of one proxy address; null when its pool is empty. Throws if `choose` answers with a used one. */
  take(use: PortUse, choose: PortChooser): Lease | null {
    const isFree = (port: number): boolean => this.#isFree(use, port);
    const port = choose({ ...use, isFree });
    if (port === null) return null;
    if (!isFree(port)) throw new Error(`proxy port ${port} is out of range or in use`);
    const place = this.#place(use, port, use.isCommon ? "*" : use.serverPort);
    this.#taken.add(place);
    return { proxy: use.proxy, port, release: () => this.#taken.delete(place) };
  }
}
