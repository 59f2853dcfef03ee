/**
 * Proxy ports of full NAT (specification E.7). A port may be used once per (proxy address, server address, server port),
 * TCP and UDP together, so that the 4-tuple towards the server is unique. A server that answers on several ports draws
 * from one common pool for all of them.
 */
import type { Address } from "../../model/address.ts";
import { addressKey } from "./packet.ts";

export const FIRST_PROXY_PORT = 4096;
export const LAST_PROXY_PORT = 65534;
/** Kept free for a remote protocol whose callback arrives there. */
export const RESERVED_PROXY_PORT = 13724;

/** Asks for a port: `serverPort` is null when the server answers on several ports. */
export interface PortRequest {
  readonly proxy: Address;
  readonly server: Address;
  readonly serverPort: number | null;
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
  /** `proxy server proxyPort` to the server ports that use it; `*` stands for all. */
  readonly #users = new Map<string, Set<string>>();

  /** Whether `port` may carry one more flow to the server port. */
  #isFree(proxy: Address, server: Address, serverPort: number | null, port: number): boolean {
    if (port < FIRST_PROXY_PORT || port > LAST_PROXY_PORT || port === RESERVED_PROXY_PORT) return false;
    const users = this.#users.get(`${addressKey(proxy)} ${addressKey(server)} ${port}`);
    if (users === undefined || users.size === 0) return true;
    return serverPort !== null && !users.has("*") && !users.has(`${serverPort}`);
  }

  /** Takes a port of one proxy address; null when its pool is empty. Throws if `choose` answers with a used one. */
  take(proxy: Address, server: Address, serverPort: number | null, choose: PortChooser): Lease | null {
    const isFree = (port: number): boolean => this.#isFree(proxy, server, serverPort, port);
    const port = choose({ proxy, server, serverPort, isFree });
    if (port === null) return null;
    if (!isFree(port)) throw new Error(`proxy port ${port} is out of range or in use`);
    const key = `${addressKey(proxy)} ${addressKey(server)} ${port}`;
    const users = this.#users.get(key) ?? new Set<string>();
    const user = `${serverPort ?? "*"}`;
    this.#users.set(key, users.add(user));
    const release = (): void => {
      users.delete(user);
      if (users.size === 0) this.#users.delete(key);
    };
    return { proxy, port, release };
  }
}
