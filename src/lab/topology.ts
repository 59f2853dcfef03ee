/**
 * What a laboratory looks like: names, addresses and the shell lines that build it. Text only; lab.ts runs it.
 *
 *   two-armed                                        one-armed
 *
 *   client 192.0.2.10..   box          lan           client 192.0.2.10..      lan (bridge, 198.51.100.0/24)
 *   eth0 ─────────── front │ back ──── bridge ── s1  lan0 .100 ──────────────── bridge ── s1 .11
 *        192.0.2.0/24  .1  │ .1         │  ├──── s2                             │  │ ├─── s2 .12
 *        lan0 ─────────────┼────────────┘  └──── s3               box eth0 .10 ─┘  │ └─── s3 .13
 *        198.51.100.100    │ 198.51.100.0/24                     (the VIP, the box's only address)
 *
 * A third one, "routed", is drawn in routed.ts.
 *
 * The client's leg on the servers' network is there for direct server return (DSR): answers that do not pass the box.
 * IPv4 addresses are from RFC 5737. IPv6 ones, from RFC 3849, stand in the same places: 2001:db8:1::/64 for 192.0.2.0/24,
 * 2001:db8:2::/64 for 198.51.100.0/24, 2001:db8:3::/64 for 203.0.113.0/24, and the same digits behind the last separator.
 */

export type Topology = "two-armed" | "one-armed" | "routed";

/** Links of the routed topology by name. */
export type LinkName = "client" | "near" | "far" | "servers";

export type Family = 4 | 6;

export interface LabOptions {
  /** Part of every name, so that laboratories of different users do not meet: letters, digits, hyphen. */
  readonly tag: string;
  /** A directory for state, socket and captures, removed at the end. By default a new one. */
  readonly directory?: string;
  readonly topology?: Topology;
  /**
   * Which addresses there are; the first family is what the laboratory's own addresses answer for (Lab.addresses). By
   * default IPv4 alone.
   */
  readonly families?: readonly Family[];
  readonly servers?: number;
  /** How many client addresses of each family, from 192.0.2.10 and 2001:db8:1::10 on. */
  readonly clientAddresses?: number;
  /** `direct`: servers answer past the box; `box`: through it, as their default route says. */
  readonly returnPath?: "box" | "direct";
  /** VIPs, joined by commas, that the servers hold on loopback without answering for them, as direct server return needs. */
  readonly serverVip?: string;
  /** Reverse path filter of the box: 0 off, 1 strict, 2 loose. */
  readonly rpFilter?: 0 | 1 | 2;
  /** Transmit checksum offload of the box's ports. Off shows wrong partial checksums, which veth otherwise hides. */
  readonly boxTxChecksum?: boolean;
  /** TCP segmentation offload of all ports. Off shows GSO frames that a port without it cannot carry. */
  readonly tso?: boolean;
  /** Layer-3 MTU of the servers' side, in bytes; not for the routed topology. */
  readonly serverMtu?: number;
  /** Layer-3 MTU of links of the routed topology (routed.ts), in bytes; 1500 where it is left out. */
  readonly linkMtu?: Readonly<Partial<Record<LinkName, number>>>;
}

/** Addresses of one family. `client` and `server` go by index from 0. */
export interface AddressPlan {
  readonly family: Family;
  /** Prefix length of the networks. */
  readonly networkBits: number;
  /** Prefix length of a single address. */
  readonly hostBits: number;
  readonly clientNetwork: string;
  readonly serverNetwork: string;
  readonly boxFront: string;
  readonly boxBack: string;
  /** A VIP that belongs to no interface; clients reach it through the box. */
  readonly routedVip: string;
  /** Addresses that full NAT may use towards the servers: routed to the box, on nobody's link. */
  readonly proxySources: string;
  /** The VIP of the one-armed laboratory, the box's only address. */
  readonly localVip: string;
  /** The client's leg on the servers' network. */
  readonly clientOnLan: string;
  client(index: number): string;
  server(index: number): string;
}

/** @param front, lan, routed everything of an address but its last part */
function planOf(family: Family, front: string, lan: string, routed: string): AddressPlan {
  const networkBits = family === 4 ? 24 : 64;
  return {
    family,
    networkBits,
    hostBits: family === 4 ? 32 : 128,
    clientNetwork: `${front}${family === 4 ? "0" : ""}/${networkBits}`,
    serverNetwork: `${lan}${family === 4 ? "0" : ""}/${networkBits}`,
    boxFront: `${front}1`,
    boxBack: `${lan}1`,
    routedVip: `${routed}10`,
    proxySources: `${routed}100-${routed}103`,
    localVip: `${lan}10`,
    clientOnLan: `${lan}100`,
    client: (index) => `${front}${10 + index}`,
    server: (index) => `${lan}${11 + index}`,
  };
}

export const ADDRESSES: Readonly<Record<Family, AddressPlan>> = {
  4: planOf(4, "192.0.2.", "198.51.100.", "203.0.113."),
  6: planOf(6, "2001:db8:1::", "2001:db8:2::", "2001:db8:3::"),
};

// What stands for IPv4 alone.
export const ROUTED_VIP = ADDRESSES[4].routedVip;
export const PROXY_SOURCES = ADDRESSES[4].proxySources;

export function familyOf(address: string): Family {
  return address.includes(":") ? 6 : 4;
}

/** `192.0.2.1:80` or `[2001:db8::1]:80`, as commands and URLs write it. */
export function withPort(address: string, port: number): string {
  return familyOf(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}

export interface Names {
  readonly client: string;
  readonly box: string;
  readonly lan: string;
  readonly servers: readonly string[];
  /** Of the routed topology: near and far; else none. */
  readonly routers: readonly string[];
}

let built = 0;

/** New names, which no other laboratory has, neither of this process nor of another with the same tag. */
export function namesOf(tag: string, servers: number, topology: Topology): Names {
  const prefix = `ilb-${tag}-${process.pid.toString(36)}.${++built}`;
  const serverNames = Array.from({ length: servers }, (_, index) => `${prefix}-s${index + 1}`);
  const routers = topology === "routed" ? [`${prefix}-near`, `${prefix}-far`] : [];
  return { client: `${prefix}-client`, box: `${prefix}-box`, lan: `${prefix}-lan`, servers: serverNames, routers };
}

export function allNames(names: Names): string[] {
  return [names.client, names.box, names.lan, ...names.servers, ...names.routers];
}

export function serverAddress(index: number, family: Family = 4): string {
  return ADDRESSES[family].server(index);
}

export function clientAddress(index: number, family: Family = 4): string {
  return ADDRESSES[family].client(index);
}

/** Ports of the box that carry balanced traffic. */
export function boxPorts(topology: Topology): string[] {
  return topology === "one-armed" ? ["eth0"] : ["front", "back"];
}

/** Collects the shell lines. */
export class Script {
  readonly lines: string[] = [];

  /** An `ip` command in a namespace. */
  ip(name: string, line: string): void {
    this.lines.push(`ip -n ${name} ${line}`);
  }
  /** An address that is usable at once: nobody else has it, so nothing is asked first (IPv6). */
  address(name: string, address: string, bits: number, device: string): void {
    const nodad = familyOf(address) === 6 ? " nodad" : "";
    this.ip(name, `addr add ${address}/${bits} dev ${device}${nodad}`);
  }
  /** A sysctl below /proc/sys/net. */
  set(name: string, path: string, value: string | number): void {
    this.lines.push(`ip netns exec ${name} sh -c 'echo ${value} > /proc/sys/net/${path}'`);
  }
  /** Offloads of a port. */
  ethtool(name: string, port: string, what: string): void {
    this.lines.push(`ip netns exec ${name} ethtool -K ${port} ${what} > /dev/null`);
  }
  namespace(name: string, families: readonly Family[]): void {
    this.lines.push(`ip netns add ${name}`);
    // Link-local addresses too are there at once.
    if (families.includes(6)) this.set(name, "ipv6/conf/default/accept_dad", 0);
    this.ip(name, "link set lo up");
  }
  forwarding(name: string, families: readonly Family[]): void {
    if (families.includes(4)) this.set(name, "ipv4/ip_forward", 1);
    if (families.includes(6)) this.set(name, "ipv6/conf/all/forwarding", 1);
  }
}

/** Shell lines, run by `sh -e`, that build everything of a topology that is drawn above. */
export function buildScript(options: LabOptions, names: Names): string {
  const twoArmed = (options.topology ?? "two-armed") === "two-armed";
  const families = options.families ?? [4];
  const script = new Script();
  namespaceLines(script, options, names, families);
  linkLines(script, names, twoArmed);
  for (const family of families) addressLines(script, options, names, ADDRESSES[family], twoArmed);
  offloadLines(script, options, names);
  return script.lines.join("\n");
}

/** Namespaces with the settings of the box as a router, before any interface is there. */
function namespaceLines(script: Script, options: LabOptions, names: Names, families: readonly Family[]): void {
  for (const name of allNames(names)) script.namespace(name, families);
  script.forwarding(names.box, families);
  script.set(names.box, "ipv4/conf/all/rp_filter", options.rpFilter ?? 0);
  script.set(names.box, "ipv4/conf/default/rp_filter", options.rpFilter ?? 0);
  // Answers of direct server return reach the client on another leg than the one it asked from.
  script.set(names.client, "ipv4/conf/all/rp_filter", 0);
  script.set(names.client, "ipv4/conf/default/rp_filter", 0);
  // A box that answers a server's packet through the port it came from would also advise a redirect.
  script.set(names.box, "ipv4/conf/all/send_redirects", 0);
  script.set(names.box, "ipv4/conf/default/send_redirects", 0);
}

/** Cables: everything that is drawn above, without addresses. */
function linkLines(script: Script, names: Names, twoArmed: boolean): void {
  const cable = (name: string, port: string, lanPort: string) => {
    script.ip(name, `link add ${port} type veth peer name ${lanPort} netns ${names.lan}`);
    script.ip(names.lan, `link set ${lanPort} master bridge up`);
    script.ip(name, `link set ${port} up`);
  };
  script.ip(names.lan, "link add bridge type bridge stp_state 0 forward_delay 0");
  script.ip(names.lan, "link set bridge up");
  if (twoArmed) {
    script.ip(names.box, `link add front type veth peer name eth0 netns ${names.client}`);
    script.ip(names.box, "link set front up");
    script.ip(names.client, "link set eth0 up");
  }
  cable(names.box, twoArmed ? "back" : "eth0", "to-box");
  cable(names.client, "lan0", "to-client");
  for (const [index, name] of names.servers.entries()) cable(name, "eth0", `to-s${index + 1}`);
}

/** Addresses and routes of one family. */
function addressLines(script: Script, options: LabOptions, names: Names, plan: AddressPlan, twoArmed: boolean): void {
  const clients = Array.from({ length: options.clientAddresses ?? 4 }, (_, index) => plan.client(index));
  if (twoArmed) {
    script.address(names.box, plan.boxFront, plan.networkBits, "front");
    script.address(names.box, plan.boxBack, plan.networkBits, "back");
    for (const client of clients) script.address(names.client, client, plan.networkBits, "eth0");
    script.ip(names.client, `route add default via ${plan.boxFront}`);
  } else {
    script.address(names.box, plan.localVip, plan.networkBits, "eth0");
    for (const client of clients) script.address(names.client, client, plan.hostBits, "lo");
  }
  script.address(names.client, plan.clientOnLan, plan.networkBits, "lan0");
  if (!twoArmed) script.ip(names.box, `route add ${plan.clientNetwork} via ${plan.clientOnLan}`);

  const gateway = options.returnPath === "direct" ? plan.clientOnLan : twoArmed ? plan.boxBack : plan.localVip;
  const vips = (options.serverVip ?? "").split(",").filter((vip) => vip !== "" && familyOf(vip) === plan.family);
  for (const [index, name] of names.servers.entries()) {
    script.address(name, plan.server(index), plan.networkBits, "eth0");
    script.ip(name, `route add default via ${gateway}`);
    if (vips.length === 0) continue;
    if (plan.family === 4) {
      script.set(name, "ipv4/conf/all/arp_ignore", 1);
      script.set(name, "ipv4/conf/all/arp_announce", 2);
    }
    for (const vip of vips) script.address(name, vip, plan.hostBits, "lo");
  }
}

/** Offloads and sizes that differ from what ports have by themselves. */
export function offloadLines(script: Script, options: LabOptions, names: Names): void {
  const ports = boxPorts(options.topology ?? "two-armed");
  if (options.boxTxChecksum === false) for (const port of ports) script.ethtool(names.box, port, "tx off");
  if (options.tso === false) {
    for (const port of ports) script.ethtool(names.box, port, "tso off");
    for (const name of names.servers) script.ethtool(name, "eth0", "tso off gso off");
    script.ethtool(names.client, ports.length === 2 ? "eth0" : "lan0", "tso off gso off");
  }
  if (options.serverMtu !== undefined) {
    for (const [index, name] of names.servers.entries()) {
      script.ip(name, `link set eth0 mtu ${options.serverMtu}`);
      script.ip(names.lan, `link set to-s${index + 1} mtu ${options.serverMtu}`);
    }
    if (ports.length === 2) script.ip(names.box, `link set back mtu ${options.serverMtu}`);
    script.ip(names.lan, `link set to-box mtu ${options.serverMtu}`);
  }
}
