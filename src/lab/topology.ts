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
 * The client's leg on the servers' network is there for direct server return (DSR): answers that do not pass the box.
 * Addresses are from RFC 5737.
 */

export type Topology = "two-armed" | "one-armed";

export interface LabOptions {
  /** Part of every name, so that laboratories of different users do not meet: letters, digits, hyphen. */
  readonly tag: string;
  /** A directory for state, socket and captures, removed at the end. By default a new one. */
  readonly directory?: string;
  readonly topology?: Topology;
  readonly servers?: number;
  /** How many client addresses, from 192.0.2.10 on. */
  readonly clientAddresses?: number;
  /** `direct`: servers answer past the box; `box`: through it, as their default route says. */
  readonly returnPath?: "box" | "direct";
  /** A VIP that the servers hold on loopback without answering ARP for it, as direct server return needs. */
  readonly serverVip?: string;
  /** Reverse path filter of the box: 0 off, 1 strict, 2 loose. */
  readonly rpFilter?: 0 | 1 | 2;
  /** Transmit checksum offload of the box's ports. Off shows wrong partial checksums, which veth otherwise hides. */
  readonly boxTxChecksum?: boolean;
  /** TCP segmentation offload of all ports. Off shows GSO frames that a port without it cannot carry. */
  readonly tso?: boolean;
  /** Layer-3 MTU of the servers' side, in bytes. */
  readonly serverMtu?: number;
}

export const CLIENT_NETWORK = "192.0.2.0/24";
export const BOX_FRONT = "192.0.2.1";
export const BOX_BACK = "198.51.100.1";
/** A VIP that belongs to no interface; clients reach it through the box. */
export const ROUTED_VIP = "203.0.113.10";
/** Addresses that full NAT may use towards the servers: routed to the box, on nobody's link. */
export const PROXY_SOURCES = "203.0.113.100-203.0.113.103";
/** The VIP of the one-armed laboratory, the box's only address. */
export const LOCAL_VIP = "198.51.100.10";
/** The client's leg on the servers' network. */
export const CLIENT_ON_LAN = "198.51.100.100";

export interface Names {
  readonly client: string;
  readonly box: string;
  readonly lan: string;
  readonly servers: readonly string[];
}

let built = 0;

/** New names, which no other laboratory has, neither of this process nor of another with the same tag. */
export function namesOf(tag: string, servers: number): Names {
  const prefix = `ilb-${tag}-${process.pid.toString(36)}.${++built}`;
  const serverNames = Array.from({ length: servers }, (_, index) => `${prefix}-s${index + 1}`);
  return { client: `${prefix}-client`, box: `${prefix}-box`, lan: `${prefix}-lan`, servers: serverNames };
}

export function allNames(names: Names): string[] {
  return [names.client, names.box, names.lan, ...names.servers];
}

export function serverAddress(index: number): string {
  return `198.51.100.${11 + index}`;
}

export function clientAddress(index: number): string {
  return `192.0.2.${10 + index}`;
}

/** Ports of the box that carry balanced traffic. */
export function boxPorts(topology: Topology): string[] {
  return topology === "two-armed" ? ["front", "back"] : ["eth0"];
}

/** Shell lines, run by `sh -e`, that build everything. */
export function buildScript(options: LabOptions, names: Names): string {
  const twoArmed = (options.topology ?? "two-armed") === "two-armed";
  const lines: string[] = [];
  const inside = (name: string, line: string) => lines.push(`ip -n ${name} ${line}`);
  const set = (name: string, path: string, value: string | number) =>
    lines.push(`ip netns exec ${name} sh -c 'echo ${value} > /proc/sys/net/${path}'`);
  const cable = (name: string, port: string, lanPort: string) => {
    inside(name, `link add ${port} type veth peer name ${lanPort} netns ${names.lan}`);
    inside(names.lan, `link set ${lanPort} master bridge up`);
    inside(name, `link set ${port} up`);
  };

  for (const name of allNames(names)) {
    lines.push(`ip netns add ${name}`);
    inside(name, "link set lo up");
  }
  inside(names.lan, "link add bridge type bridge stp_state 0 forward_delay 0");
  inside(names.lan, "link set bridge up");

  set(names.box, "ipv4/ip_forward", 1);
  set(names.box, "ipv4/conf/all/rp_filter", options.rpFilter ?? 0);
  set(names.box, "ipv4/conf/default/rp_filter", options.rpFilter ?? 0);
  // Answers of direct server return reach the client on another leg than the one it asked from.
  set(names.client, "ipv4/conf/all/rp_filter", 0);
  set(names.client, "ipv4/conf/default/rp_filter", 0);

  if (twoArmed) {
    inside(names.box, `link add front type veth peer name eth0 netns ${names.client}`);
    inside(names.box, "link set front up");
    inside(names.box, `addr add ${BOX_FRONT}/24 dev front`);
    cable(names.box, "back", "to-box");
    inside(names.box, `addr add ${BOX_BACK}/24 dev back`);
    cable(names.client, "lan0", "to-client");
    inside(names.client, "link set eth0 up");
    for (let index = 0; index < (options.clientAddresses ?? 4); index++) {
      inside(names.client, `addr add ${clientAddress(index)}/24 dev eth0`);
    }
    inside(names.client, `route add default via ${BOX_FRONT}`);
  } else {
    cable(names.box, "eth0", "to-box");
    inside(names.box, `addr add ${LOCAL_VIP}/24 dev eth0`);
    cable(names.client, "lan0", "to-client");
    for (let index = 0; index < (options.clientAddresses ?? 4); index++) {
      inside(names.client, `addr add ${clientAddress(index)}/32 dev lo`);
    }
    inside(names.box, `route add ${CLIENT_NETWORK} via ${CLIENT_ON_LAN}`);
  }
  inside(names.client, `addr add ${CLIENT_ON_LAN}/24 dev lan0`);

  for (const [index, name] of names.servers.entries()) {
    cable(name, "eth0", `to-s${index + 1}`);
    inside(name, `addr add ${serverAddress(index)}/24 dev eth0`);
    const gateway = options.returnPath === "direct" ? CLIENT_ON_LAN : twoArmed ? BOX_BACK : LOCAL_VIP;
    inside(name, `route add default via ${gateway}`);
    if (options.serverVip !== undefined) {
      set(name, "ipv4/conf/all/arp_ignore", 1);
      set(name, "ipv4/conf/all/arp_announce", 2);
      inside(name, `addr add ${options.serverVip}/32 dev lo`);
    }
  }
  // A box that answers a server's packet through the port it came from would also advise a redirect.
  set(names.box, "ipv4/conf/all/send_redirects", 0);
  for (const port of boxPorts(options.topology ?? "two-armed")) set(names.box, `ipv4/conf/${port}/send_redirects`, 0);

  lines.push(...offloadLines(options, names));
  return lines.join("\n");
}

function offloadLines(options: LabOptions, names: Names): string[] {
  const ports = boxPorts(options.topology ?? "two-armed");
  const lines: string[] = [];
  const ethtool = (name: string, port: string, what: string) =>
    lines.push(`ip netns exec ${name} ethtool -K ${port} ${what} > /dev/null`);
  if (options.boxTxChecksum === false) for (const port of ports) ethtool(names.box, port, "tx off");
  if (options.tso === false) {
    for (const port of ports) ethtool(names.box, port, "tso off");
    for (const name of names.servers) ethtool(name, "eth0", "tso off gso off");
    ethtool(names.client, ports.length === 2 ? "eth0" : "lan0", "tso off gso off");
  }
  if (options.serverMtu !== undefined) {
    for (const [index, name] of names.servers.entries()) {
      lines.push(`ip -n ${name} link set eth0 mtu ${options.serverMtu}`);
      lines.push(`ip -n ${names.lan} link set to-s${index + 1} mtu ${options.serverMtu}`);
    }
    if (ports.length === 2) lines.push(`ip -n ${names.box} link set back mtu ${options.serverMtu}`);
    lines.push(`ip -n ${names.lan} link set to-box mtu ${options.serverMtu}`);
  }
  return lines;
}
