/**
 * How packets of the interest set reach the engine with the `tun` device: an nft chain marks them where they come in, a
 * policy rule per owned device and family sends the mark to a routing table whose only route is the TUN. What comes out of
 * the TUN is routed by the kernel as if it had come from the network. Design records 0005 and 0020.
 *
 * The kernel's local table is asked before any policy rule, so a VIP or proxy address that is one of the box's own never
 * reaches the TUN: refused (addressRefusal).
 */
import { existsSync, writeFileSync } from "node:fs";
import { type Address, formatAddress, parseIPv4 } from "../model/address.ts";
import { NativeError } from "../native/library.ts";
import { type Forwarding6, hasIPv6, planForwarding6 } from "./forwarding6.ts";
import { type HostChanges, readSysctl } from "./host-changes.ts";
import { InterestTable, interestRules, type NftRunner } from "./interest-table.ts";
import type { KernelLog } from "./log.ts";
import type { NetworkWatch } from "./network-watch.ts";
import { addHostAddress, changeLink, type Link, setDefaultRoute } from "./rtnetlink.ts";

export interface TunRoutingOptions {
  /** Name of the TUN, which exists already. */
  readonly tun: string;
  /** Names of the devices at which packets of the interest set come in. */
  readonly devices: readonly string[];
  /** Name of the nft table, family inet; default `ilb`. */
  readonly tableName?: string;
  readonly routing?: RoutingNumbers;
  /** Whether devices can forward IPv6 one by one (Linux 6.17); by default what this kernel can. */
  readonly forwardsPerDevice6?: boolean;
}

/** Numbers that the host's own policy routing must not use for something else. */
export interface RoutingNumbers {
  /** Of packets on their way to the TUN; the bits that `mask` covers. */
  readonly mark: number;
  /** Of packets that came out of the TUN. */
  readonly backMark: number;
  readonly mask: number;
  readonly table: number;
  /** Of the policy rules: behind the local table (0), before the main table (32766). */
  readonly priority: number;
}

export const DEFAULT_ROUTING: RoutingNumbers = {
  mark: 0x1b000000,
  backMark: 0x1c000000,
  mask: 0xff000000,
  table: 2822,
  priority: 2822,
};

/** Of the interface. What is too big is decided by the route to it: keepRouteMtu. */
const TUN_MTU_BYTES = 65535;
/** No IPv6 link carries less (RFC 8200 section 5); a link that does has no IPv6. */
const LEAST_MTU_BYTES = { 4: 68, 6: 1280 } as const;
/** In scope host: never picked as a source, never seen on a wire. */
const TUN_ADDRESS = parseIPv4("169.254.183.27") as Address;

const hex = (value: number): string => `0x${(value >>> 0).toString(16).padStart(8, "0")}`;
const names = (list: readonly string[]): string => `{ ${list.map((name) => JSON.stringify(name)).join(", ")} }`;

/**
 * Sets up everything with an empty interest set. The marks are widened, narrowed and removed like the guard; the rest
 * belongs to the TUN or to `changes`. Rejects with one line; the caller then undoes `changes`.
 */
export async function createTunRouting(
  nft: NftRunner,
  network: NetworkWatch,
  changes: HostChanges,
  options: TunRoutingOptions,
): Promise<InterestTable> {
  const routing = options.routing ?? DEFAULT_ROUTING;
  // Read before it is changed: who was no router before does not become one for others.
  const closed = options.devices.filter((device) => readSysctl(forwardingOf(device)) === "0");
  const forwarding6 = planForwarding6(options.devices, options.forwardsPerDevice6);
  prepareTun(network, options.tun);
  routeToTun(network, options.tun, routing.table, narrowest(network, options.devices));
  const tableName = options.tableName ?? "ilb";
  const marks = new InterestTable(nft, {
    table: `inet ${tableName}`,
    chains: chains(options, routing, closed, forwarding6),
    verdict: VERDICT,
    what: `the marks for ${options.tun} (nft table inet ${tableName})`,
  });
  await marks.create();
  const { mark, backMark, mask, table, priority } = routing;
  for (const incoming of options.devices) {
    const rule = { incoming, mask, table, priority } as const;
    changes.sysctl(forwardingOf(incoming), "1");
    changes.addPolicyRule({ ...rule, family: 4, mark });
    changes.addPolicyRule({ ...rule, family: 4, mark: backMark });
    // IPv6 has no source validation in its routing, so nothing looks up the way back.
    if (forwarding6 !== null) changes.addPolicyRule({ ...rule, family: 6, mark });
  }
  forwarding6?.apply(changes);
  return marks;
}

/** Where packets of the interest set get their mark. */
const VERDICT = "goto take";

const forwardingOf = (device: string): string => `net/ipv4/conf/${device}/forwarding`;

/**
 * Marks on arrival, before routing. Not marked is, as in the guard, what is not addressed to this host on its link, and
 * what IPv6 keeps to a link or a group, whatever its ports look like.
 *
 * A device that did not forward before forwards now, but only to and from the TUN: the second chain sees to it, so the
 * box becomes no router for traffic that is not ours. Nothing goes from the TUN into the TUN, whatever routes somebody
 * has made: a frame that is written there gets a hop back (native/io.c), so it would go round for ever.
 */
function chains(
  options: TunRoutingOptions,
  routing: RoutingNumbers,
  closed: readonly string[],
  forwarding6: Forwarding6 | null,
): string {
  const marked = (mark: number) => `meta mark set meta mark and ${hex(~routing.mask)} or ${hex(mark)}`;
  const tun = JSON.stringify(options.tun);
  const closed6 = forwarding6?.opens ?? [];
  const drops = [
    `iifname ${tun} oifname ${tun} counter drop`,
    closed.length > 0 ? `meta nfproto ipv4 iifname ${names(closed)} oifname != ${tun} counter drop` : "",
    closed6 === "all" ? `meta nfproto ipv6 iifname != ${tun} oifname != ${tun} counter drop` : "",
    closed6 !== "all" && closed6.length > 0
      ? `meta nfproto ipv6 iifname ${names(closed6)} oifname != ${tun} counter drop`
      : "",
  ].filter((line) => line !== "");
  return `chain take { ${marked(routing.mark)} accept; }
chain interest {
  meta pkttype != host accept
  ip6 daddr { fe80::/10, ff00::/8 } accept
  ${interestRules(VERDICT)}
}
chain prerouting {
  type filter hook prerouting priority mangle
  iifname ${tun} ${marked(routing.backMark)} accept
  iifname ${names(options.devices)} jump interest
}
chain forward {
  type filter hook forward priority filter
  ${drops.join("\n  ")}
}`;
}

/**
 * MTU, address and settings of the TUN; all of it vanishes with the TUN.
 *
 * What comes out of it has sources that are anywhere: clients, and VIPs to which the box may have no route at all, which
 * even loose source validation refuses. So the look-up of the way back is made to end at the TUN: it sees the mark
 * (src_valid_mark), has the interface by which the packet will leave for its input, and meets the second policy rule of
 * that device. For packets that leave by another interface loose validation is the rest, which needs an address here.
 */
function prepareTun(network: NetworkWatch, name: string): void {
  network.poll();
  const tun = tunNamed(network, name);
  // The greater of this rp_filter and that of `all` counts.
  for (const [key, value] of Object.entries({ src_valid_mark: "1", rp_filter: "2", forwarding: "1" }))
    writeTunSysctl(`ipv4/conf/${name}/${key}`, value);
  // A system may create interfaces without IPv6; nobody advertises anything on this one. Not `forwarding`: it decides
  // nothing (forwarding6.ts), and to set it on any interface drops the default routes learned on the others.
  const settings6 = hasIPv6() ? { disable_ipv6: "0", accept_ra: "0", force_forwarding: "1" } : {};
  for (const [key, value] of Object.entries(settings6)) writeTunSysctl(`ipv6/conf/${name}/${key}`, value);
  network.request(changeLink(tun.index, { noLinkLocal: true, mtu: TUN_MTU_BYTES }), `set up ${name}`);
  network.request(addHostAddress(tun.index, TUN_ADDRESS), `give ${name} an address`);
  network.request(changeLink(tun.index, { up: true }), `switch ${name} on`);
  network.poll();
}

function tunNamed(network: NetworkWatch, name: string): Link {
  const tun = network.linkNamed(name);
  if (!tun) throw new Error(`cannot set up ${name}: no such interface`);
  return tun;
}

/**
 * Keeps the way into the TUN as narrow as the narrowest owned device, whose MTU may change. A packet that is too big
 * for the way on has to be complained about while it is still as its sender sent it: when it comes out of the TUN it is
 * translated, and the kernel's complaint, which is the box's own packet and so meets no mark, would quote addresses that
 * the sender has never used, or go to a VIP to which the box has no route.
 * Where the kernel does not take the route any more (IPv6 switched off meanwhile), the log says so, and the rest goes on.
 * @returns a function that ends it
 */
export function keepRouteMtu(network: NetworkWatch, options: TunRoutingOptions, log: KernelLog): () => void {
  const { table } = options.routing ?? DEFAULT_ROUTING;
  let known: number | null = null;
  const follow = (): void => {
    const now = narrowest(network, options.devices);
    if (now === known || network.linkNamed(options.tun) === null) return;
    known = now;
    try {
      routeToTun(network, options.tun, table, now);
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
      log.warn(`the MTU of ${options.tun} cannot follow that of the devices, ${now} bytes: ${error.message}`);
    }
  };
  // It may have changed since the route was made.
  follow();
  return network.onChange((change) => {
    if (change.links) follow();
  });
}

/** The least MTU of the devices that are there; of none, what the TUN can carry. */
function narrowest(network: NetworkWatch, devices: readonly string[]): number {
  return Math.min(TUN_MTU_BYTES, ...devices.flatMap((name) => network.linkNamed(name)?.mtu ?? []));
}

/** Throws NativeError. */
function routeToTun(network: NetworkWatch, name: string, table: number, mtuBytes: number): void {
  const { index } = tunNamed(network, name);
  for (const family of hasIPv6() ? ([4, 6] as const) : ([4] as const)) {
    const mtu = Math.max(mtuBytes, LEAST_MTU_BYTES[family]);
    network.request(setDefaultRoute(family, table, index, mtu), `route table ${table} to ${name}`);
  }
}

/** @param path below /proc/sys/net. A setting that this kernel does not have is passed over. */
function writeTunSysctl(path: string, value: string): void {
  const file = `/proc/sys/net/${path}`;
  if (!existsSync(file)) return;
  try {
    writeFileSync(file, value);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const key = `net.${path.replaceAll("/", ".")}`;
    throw new Error(`cannot set ${key}: ${code}; mount /proc/sys writable, or use --io packet`);
  }
}

/**
 * Why the `tun` device cannot carry a rule with these addresses; null when it can.
 * @param addresses VIPs and proxy addresses with what they are called: `virtual IP address`, `proxy-src address`
 */
export function addressRefusal(
  addresses: Iterable<{ readonly address: Address; readonly what: string }>,
  isLocal: (address: Address) => boolean,
  carriesIPv6 = hasIPv6(),
): string | null {
  for (const { address, what } of addresses) {
    if (address.family === 6 && !carriesIPv6)
      return `${what} ${formatAddress(address)}: this kernel has IPv6 switched off, so --io tun cannot carry it; boot without ipv6.disable=1 or use --io packet`;
    if (isLocal(address))
      return `${what} ${formatAddress(address)} is an address of this box, which --io tun cannot serve; remove it from the interface or use --io packet`;
  }
  return null;
}
