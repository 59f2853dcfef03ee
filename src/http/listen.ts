/** `--listen HOST:PORT`: reading it, and what may be listened on without tokens. */

import { type Address, isLoopback, parseAddress } from "../model/address.ts";
import { fail, ok, type Result } from "../model/result.ts";
import { REGISTERED_SERVICES } from "../netbackup/catalogue.ts";

export interface ListenAddress {
  /** As Bun.serve takes it: no brackets. */
  readonly hostname: string;
  readonly port: number;
  readonly isLoopback: boolean;
}

/** `127.0.0.1:9080`, `[::1]:9080`, `localhost:9080`. Port 0 lets the system choose. */
export function parseListen(text: string): Result<ListenAddress> {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) return fail("E-LISTEN", `--listen ${text} is not HOST:PORT or [IPv6]:PORT`);
  const hostname = match[1] ?? match[2]!;
  const address: Address | null = parseAddress(hostname);
  if (match[1] !== undefined && address?.family !== 6)
    return fail("E-LISTEN", `--listen ${text}: no IPv6 address in brackets`);
  return ok({ hostname, port, isLoopback: hostname === "localhost" || (address !== null && isLoopback(address)) });
}

/** A Host header that a browser on this machine sends for a loopback address; guards against DNS rebinding. */
export function isLocalHost(header: string | null): boolean {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::\d+)?$/.exec(header ?? "");
  const name = match?.[1] ?? match?.[2];
  if (name === undefined) return false;
  const address = parseAddress(name);
  return name.toLowerCase() === "localhost" || (address !== null && isLoopback(address));
}

/** Why this address must not be opened with these means, or null. */
export function refuseListen(listen: ListenAddress, hasTokens: boolean, hasTls: boolean): string | null {
  const owner = REGISTERED_SERVICES.find(({ port }) => port === listen.port);
  if (owner !== undefined)
    return `--listen ${listen.hostname}:${listen.port}: this port is registered for NetBackup's ${owner.name}; name another`;
  if (listen.isLoopback || (hasTokens && hasTls)) return null;
  return `--listen ${listen.hostname}: any address but loopback needs --token-file, --tls-cert and --tls-key`;
}
