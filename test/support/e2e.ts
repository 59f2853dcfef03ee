/**
 * What the end to end tests share: a laboratory per test that is always closed, rules of every type and protocol, and
 * the questions that hold for any traffic.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import type { JobResult } from "../../src/lab/jobs.ts";
import { type DaemonOptions, Lab, type Running, SERVER_PORT } from "../../src/lab/lab.ts";
import { ADDRESSES, type AddressPlan, type Family, type LabOptions, withPort } from "../../src/lab/topology.ts";
import { countBy, packetsOf, type SeenPacket } from "./capture.ts";

export const TYPES = ["NAT", "HALF-NAT", "DSR"] as const;
export const DEVICES = ["packet", "tun"] as const;
export const PROTOCOLS = ["tcp", "udp"] as const;
export const FAMILIES = [4, 6] as const;
export type RuleType = (typeof TYPES)[number];
export type Device = (typeof DEVICES)[number];
export type Protocol = (typeof PROTOCOLS)[number];

/** Far more than anything here takes; a test that needs it is stuck. */
export const TEST_TIMEOUT_MS = 300_000;
export const REQUEST_TIMEOUT_MS = 60_000;

export const VIP_PORT = 80;

/** The VIP of a laboratory. @param addresses of another family than its first */
export function vipOf(lab: Lab, addresses: AddressPlan = lab.addresses): string {
  return lab.topology === "one-armed" ? addresses.localVip : addresses.routedVip;
}

/** Direct server return leaves the port alone, so its servers listen on the VIP's. */
export function serverPortOf(type: RuleType): number {
  return type === "DSR" ? VIP_PORT : SERVER_PORT;
}

/** Options that a type needs of a laboratory of these families. */
export function labOptionsFor(
  type: RuleType,
  ...families: readonly Family[]
): Pick<LabOptions, "serverVip" | "returnPath" | "families"> {
  const served = families.length === 0 ? FAMILIES.slice(0, 1) : families;
  if (type !== "DSR") return { families: served };
  const serverVip = served.map((family) => ADDRESSES[family].routedVip).join(",");
  return { families: served, serverVip, returnPath: "direct" };
}

/** Builds a laboratory, hands it over and closes it, whatever happens. */
export async function withLab(options: Omit<LabOptions, "tag">, body: (lab: Lab) => Promise<void>): Promise<void> {
  const lab = await Lab.create({ tag: "e2e", ...options });
  try {
    await body(lab);
  } finally {
    await lab.close();
  }
}

/**
 * One laboratory for all tests of a `describe`, built before the first of them and closed after the last.
 * @param isPossible whether this machine can have it at all; the tests then skip themselves.
 * @returns gives the laboratory, inside of tests
 */
export function sharedLab(
  isPossible: boolean,
  options: Omit<LabOptions, "tag">,
  prepare: (lab: Lab) => Promise<unknown>,
): () => Lab {
  let lab: Lab | null = null;
  beforeAll(async () => {
    if (!isPossible) return;
    lab = await Lab.create({ tag: "e2e", ...options });
    await prepare(lab);
  }, TEST_TIMEOUT_MS);
  afterAll(() => lab?.close(), TEST_TIMEOUT_MS);
  return () => {
    if (lab === null) throw new Error("the laboratory was not built");
    return lab;
  };
}

/** Rules of both families with the same options: `www` over `web`, `www6` over `web6`. */
export async function createRules(lab: Lab, type: RuleType, protocol: Protocol, options: RuleOptions = {}) {
  await createRule(lab, type, protocol, { ...options, addresses: ADDRESSES[4] });
  await createRule(lab, type, protocol, { ...options, addresses: ADDRESSES[6], rule: "www6", group: "web6" });
}

/** Addresses that a server of `type` listens on, joined by commas: its own and, for DSR, the VIP of its loopback. */
export function listenAddresses(lab: Lab, type: RuleType, index: number, families: readonly Family[]): string {
  const plans = families.map((family) => ADDRESSES[family]);
  const own = plans.map((plan) => plan.server(index));
  return [...own, ...(type === "DSR" ? plans.map((plan) => vipOf(lab, plan)) : [])].join(",");
}

/** Starts servers and daemon and creates one enabled rule named `www` over all servers. */
export async function startBalancing(
  lab: Lab,
  type: RuleType,
  protocol: Protocol,
  daemonOptions: DaemonOptions = {},
): Promise<Running> {
  await lab.startServers(serverPortOf(type));
  const daemon = await lab.startDaemon(daemonOptions);
  await createRule(lab, type, protocol);
  return daemon;
}

/** What a rule of createRule() may differ in. */
export interface RuleOptions {
  readonly rule?: string;
  readonly group?: string;
  /** Of another family than the laboratory's first. */
  readonly addresses?: AddressPlan;
  /** Of the VIP. */
  readonly port?: number;
  readonly serverPort?: number;
  /** Default: hash-ip-port for DSR, where every packet is decided anew, else round robin. */
  readonly algorithm?: string;
  /** One address or a range; full NAT only. */
  readonly proxySource?: string;
  /** The words of -t, such as `nat-timeout=5`. */
  readonly timers?: string;
}

/** One servergroup over all servers and one enabled rule over it, `web` and `www` unless named otherwise. */
export async function createRule(
  lab: Lab,
  type: RuleType,
  protocol: Protocol,
  options: RuleOptions = {},
): Promise<void> {
  const { rule = "www", group = "web", addresses = lab.addresses, port = VIP_PORT } = options;
  const { serverPort = serverPortOf(type), algorithm = type === "DSR" ? "hash-ip-port" : "roundrobin" } = options;
  const servers = lab.names.servers.map((_, index) => withPort(addresses.server(index), serverPort)).join(",");
  await lab.configure("create-servergroup", "-s", `server=${servers}`, group);
  const proxySource =
    options.proxySource ?? (lab.topology === "one-armed" ? addresses.localVip : addresses.proxySources);
  const proxy = type === "NAT" ? `,proxy-src=${proxySource}` : "";
  const incoming = `vip=${vipOf(lab, addresses)},port=${port},protocol=${protocol}`;
  const method = `lbalg=${algorithm},type=${type}${proxy}`;
  const timers = options.timers === undefined ? [] : ["-t", options.timers];
  await lab.configure(
    ...["create-rule", "-e", "-i", incoming, "-m", method, ...timers, "-o", `servergroup=${group}`, rule],
  );
}

/** A rule `www6` over a group `web6`, beside createRule's, in a laboratory of both families. */
export function createRule6(lab: Lab, type: RuleType, protocol: Protocol): Promise<void> {
  return createRule(lab, type, protocol, { rule: "www6", group: "web6", addresses: ADDRESSES[6] });
}

/**
 * Sockets of datagrams that every one of three servers answers some of: where a hash of ports chooses (direct server
 * return), one is left out in 3 * (2/3)^60 of all runs, once in ten billion.
 */
export const MANY_SOCKETS = 60;

/** Where the client sends. @param addresses of another family than the laboratory's first */
export function targetOf(lab: Lab, addresses: AddressPlan = lab.addresses) {
  const from = lab.clientAddresses.map((_, index) => addresses.client(index));
  return { host: vipOf(lab, addresses), port: VIP_PORT, from, timeoutMs: REQUEST_TIMEOUT_MS };
}

/** Every request was answered, and every server answered some. */
export function expectAllServed(result: JobResult, count: number, servers: number): void {
  expect(result.failures).toEqual([]);
  expect(Object.values(result.answered).reduce((sum, answers) => sum + answers, 0)).toBe(count);
  expect(Object.keys(result.answered).sort()).toEqual(Array.from({ length: servers }, (_, index) => `s${index + 1}`));
}

/** Captures the ports of box, client and servers that balanced traffic passes, while `body` runs. */
export async function captureAround(
  lab: Lab,
  ports: readonly (readonly [string, string])[],
  body: () => Promise<void>,
): Promise<SeenPacket[][]> {
  const captures = await Promise.all(ports.map(([namespace, port]) => lab.capture(namespace, port)));
  await body();
  const files = await Promise.all(captures.map((capture) => capture.stop()));
  return files.map(packetsOf);
}

/**
 * The client saw each of its openings and datagrams answered once at most, and nothing that refuses or complains:
 * a box whose kernel answers beside the engine shows here as doubled answers, resets or ICMP errors.
 */
export function expectNothingAnsweredTwice(atClient: readonly SeenPacket[], vip: string): void {
  const complaints = atClient.filter((packet) => isComplaint(packet));
  expect(complaints).toEqual([]);
  expect(atClient.filter((packet) => packet.isReset && packet.source === vip)).toEqual([]);

  const flow = (packet: SeenPacket, port: number, address: string) =>
    `${packet.protocol} ${address}.${port} ${packet.protocol === "udp" ? packet.payloadStart.slice(-24) : ""}`;
  const asks = (packet: SeenPacket) =>
    packet.destination === vip && (packet.protocol === "udp" || (packet.isSyn && !packet.isAck));
  const answers = (packet: SeenPacket) =>
    packet.source === vip && (packet.protocol === "udp" || (packet.isSyn && packet.isAck));
  const asked = countBy(atClient.filter(asks), (packet) => flow(packet, packet.sourcePort, packet.source));
  const firstSeen = new Map<string, number>();
  const answered = countBy(
    atClient.filter((packet) => answers(packet) && !isRetransmission(packet, firstSeen)),
    (packet) => flow(packet, packet.destinationPort, packet.destination),
  );
  if (atClient.some((packet) => packet.protocol === "tcp")) {
    const doubled = [...answered].filter(([key, count]) => count > (asked.get(key) ?? 0));
    expect(doubled).toEqual([]);
  }
  const count = (counts: Map<string, number>) => [...counts.values()].reduce((sum, value) => sum + value, 0);
  expect(count(answered)).toBeGreaterThan(0);
  expect(count(answered)).toBeLessThanOrEqual(count(asked));
}

/**
 * Far below the second that a server waits before it sends its SYN-ACK again (RFC 6298 section 2), because the first one
 * may be late, above any doubling.
 */
const RETRANSMITTED_AFTER_MS = 100;

/**
 * Whether a server has sent this SYN-ACK before, because the answer to it took too long: same sequence number, much later.
 * @param seen when each was seen first; filled here
 */
function isRetransmission(packet: SeenPacket, seen: Map<string, number>): boolean {
  if (packet.protocol !== "tcp") return false;
  const name = `${packet.destination}.${packet.destinationPort} ${packet.sequence}`;
  const firstMs = seen.get(name);
  if (firstMs === undefined) seen.set(name, packet.atMs);
  return firstMs !== undefined && packet.atMs - firstMs >= RETRANSMITTED_AFTER_MS;
}

/** ICMP errors and redirects. */
function isComplaint({ protocol, icmpType }: SeenPacket): boolean {
  if (protocol === "icmp") return [3, 5, 11, 12].includes(icmpType);
  return protocol === "icmpv6" && ((icmpType >= 0 && icmpType < 128) || icmpType === 137);
}

/** Wrong checksums that a kernel has met, by its own counters (not by nstat, whose history namespaces share). */
export async function checksumErrors(lab: Lab, namespace: string): Promise<Record<string, number>> {
  const lines = (await lab.must(namespace, ["cat", "/proc/net/snmp"])).trim().split("\n");
  const errors: Record<string, number> = {};
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const names = (lines[at] ?? "").split(" ");
    const values = (lines[at + 1] ?? "").split(" ");
    const column = names.indexOf("InCsumErrors");
    if (column > 0) errors[names[0] ?? ""] = Number(values[column]);
  }
  // TCP is counted above for both families.
  for (const line of (await lab.must(namespace, ["cat", "/proc/net/snmp6"])).trim().split("\n")) {
    const [name = "", value] = line.split(/\s+/);
    if (name.endsWith("InCsumErrors")) errors[name] = Number(value);
  }
  return errors;
}

/**
 * What a daemon may leave behind in the box: links, rules, routes, nft tables, tc, sysctl values. Lines, sorted, without
 * what changes by itself: counters, numbers of loaded programs, link-local addresses that are still being checked.
 */
export async function tracesOf(lab: Lab): Promise<string[]> {
  const script = `
    ip -o link show | sed 's/^[0-9]*: //; s/state [A-Z]* //' | cut -d' ' -f1,2,3,4,5,6,7,8
    ip rule show; ip -6 rule show
    ip route show table all | sed 's/ linkdown//'
    nft list ruleset
    for device in $(ls /sys/class/net); do tc qdisc show dev $device; tc filter show dev $device ingress 2>/dev/null; done
    for file in /proc/sys/net/ipv4/ip_local_reserved_ports /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv4/conf/*/accept_local /proc/sys/net/ipv4/conf/*/src_valid_mark /proc/sys/net/ipv6/conf/*/forwarding /proc/sys/net/ipv6/conf/*/force_forwarding /proc/sys/net/ipv6/conf/*/accept_ra; do [ ! -e $file ] || echo "$file $(cat $file)"; done`;
  const lines = (await lab.must(lab.names.box, ["sh", "-c", script])).trim().split("\n");
  const steady = lines.map((line) => line.replace(/ packets \d+ bytes \d+/, "").replace(/ id \d+ /, " "));
  return steady.filter((line) => !/\b(fe80::|ff00::)/.test(line)).sort();
}

/** How many of three echo requests are answered. */
export async function pingsAnswered(lab: Lab, namespace: string, address: string): Promise<number> {
  const said = await lab.exec(namespace, ["ping", "-n", "-c", "3", "-i", "0.2", "-W", "20", address]);
  return Number(/(\d+) received/.exec(said.stdout)?.[1] ?? 0);
}
