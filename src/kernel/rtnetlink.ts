/**
 * The rtnetlink messages that ILB speaks: links, addresses, neighbours, routes, policy rules. Builds requests and reads
 * answers and notifications (rtnetlink(7)); pure, sends nothing. Numbers are those of linux/rtnetlink.h and its kin.
 */
import { type Address, addressBytes, addressFromBytes, type Family, widthBits } from "../model/address.ts";
import {
  Attributes,
  type Message,
  MessageWriter,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  viewOf,
} from "./netlink-codec.ts";

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;
const RTM_NEWRULE = 32;
const RTM_DELRULE = 33;

const AF_INET = 2;
const AF_INET6 = 10;
const familyNumber = (family: Family): number => (family === 4 ? AF_INET : AF_INET6);

/** Multicast groups of all that can change where a server is reached. */
export const WATCHED_GROUPS: readonly number[] = [
  1, // links
  3, // neighbours
  5, // IPv4 addresses
  7, // IPv4 routes
  8, // IPv4 rules
  9, // IPv6 addresses
  11, // IPv6 routes
  19, // IPv6 rules
  32, // next-hop objects
];

// ---- Links ----------------------------------------------------------------------------------------------------------

export const ARPHRD_ETHER = 1;
const IFF_UP = 0x1;
const IFF_LOOPBACK = 0x8;
const IFF_NOARP = 0x80;
const IFF_LOWER_UP = 0x10000;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_AF_SPEC = 26;
const IFLA_LINK_NETNSID = 37;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_INET6_ADDR_GEN_MODE = 8;
const IN6_ADDR_GEN_MODE_NONE = 1;
const VETH_INFO_PEER = 1;

/** One network interface. */
export interface Link {
  readonly index: number;
  readonly name: string;
  /** ARPHRD_*; 1 is Ethernet, 65534 none (TUN). */
  readonly hardwareType: number;
  /** 6 bytes for Ethernet, null when the interface has no address. */
  readonly mac: Uint8Array | null;
  /** Layer-3 MTU in bytes. */
  readonly mtu: number;
  /** Switched on by the administrator. */
  readonly up: boolean;
  /** Has a carrier. */
  readonly carrier: boolean;
  readonly loopback: boolean;
  /** `vlan`, `bridge`, `veth`, `tun`, ..., null for hardware. */
  readonly kind: string | null;
  /** Index of the bridge, bond or VRF that the interface belongs to. */
  readonly master: number | null;
  /** Index of the interface below (VLAN, macvlan, ...) in this namespace. The other end of a veth pair is not below. */
  readonly lower: number | null;
}

/** What a notification says. `route`: something about routes, rules or next hops changed, no matter what. */
export type NetworkEvent =
  | { readonly kind: "link"; readonly link: Link }
  | { readonly kind: "link-gone"; readonly index: number }
  | { readonly kind: "address"; readonly address: InterfaceAddress; readonly present: boolean }
  | { readonly kind: "neighbour"; readonly neighbour: Neighbour; readonly present: boolean }
  | { readonly kind: "route" };

export function readLink(body: Uint8Array): Link | null {
  if (body.length < 16) return null;
  const view = viewOf(body);
  const attributes = new Attributes(body.subarray(16));
  const flags = view.getUint32(8, true);
  const mac = attributes.bytes(IFLA_ADDRESS);
  const kind = attributes.nested(IFLA_LINKINFO)?.text(IFLA_INFO_KIND) ?? null;
  const elsewhere = kind === "veth" || attributes.bytes(IFLA_LINK_NETNSID) !== null;
  const lower = elsewhere ? null : attributes.u32(IFLA_LINK);
  const index = view.getInt32(4, true);
  return {
    index,
    name: attributes.text(IFLA_IFNAME) ?? "",
    hardwareType: view.getUint16(2, true),
    mac: mac !== null && mac.length === 6 ? mac.slice() : null,
    mtu: attributes.u32(IFLA_MTU) ?? 0,
    up: (flags & IFF_UP) !== 0,
    carrier: (flags & IFF_LOWER_UP) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    kind,
    master: attributes.u32(IFLA_MASTER),
    lower: lower === 0 || lower === index ? null : lower,
  };
}

const linkPart = (index: number, flags = 0, change = 0): Uint8Array => {
  const part = new Uint8Array(16);
  const view = viewOf(part);
  view.setInt32(4, index, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, change, true);
  return part;
};

export const dumpLinks = (): Uint8Array =>
  new MessageWriter(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP).fixed(linkPart(0)).finish();

/** What to set on an interface of ours. */
export interface LinkChange {
  readonly up?: boolean;
  readonly noArp?: boolean;
  readonly mac?: Uint8Array;
  readonly mtu?: number;
  /** No link-local address, so no router solicitations and no neighbour discovery of its own. */
  readonly noLinkLocal?: boolean;
}

export function changeLink(index: number, change: LinkChange): Uint8Array {
  const mask = (change.up === undefined ? 0 : IFF_UP) | (change.noArp === undefined ? 0 : IFF_NOARP);
  const flags = (change.up ? IFF_UP : 0) | (change.noArp ? IFF_NOARP : 0);
  const writer = new MessageWriter(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK).fixed(linkPart(index, flags, mask));
  if (change.mac) writer.attribute(IFLA_ADDRESS, change.mac);
  if (change.mtu !== undefined) writer.u32(IFLA_MTU, change.mtu);
  if (change.noLinkLocal)
    writer.nest(IFLA_AF_SPEC, (spec) =>
      spec.nest(AF_INET6, (inet6) => inet6.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE)),
    );
  return writer.finish();
}

/** A pair of veth interfaces, both down. */
export function createVethPair(name: string, mac: Uint8Array, peerName: string, peerMac: Uint8Array): Uint8Array {
  return new MessageWriter(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
    .fixed(linkPart(0))
    .text(IFLA_IFNAME, name)
    .attribute(IFLA_ADDRESS, mac)
    .nest(IFLA_LINKINFO, (info) =>
      info
        .text(IFLA_INFO_KIND, "veth")
        .nest(IFLA_INFO_DATA, (data) =>
          data.nest(VETH_INFO_PEER, (peer) =>
            peer.fixed(linkPart(0)).text(IFLA_IFNAME, peerName).attribute(IFLA_ADDRESS, peerMac),
          ),
        ),
    )
    .finish();
}

export const deleteLink = (name: string): Uint8Array =>
  new MessageWriter(RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK).fixed(linkPart(0)).text(IFLA_IFNAME, name).finish();

// ---- Addresses ------------------------------------------------------------------------------------------------------

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;

export interface InterfaceAddress {
  readonly index: number;
  readonly address: Address;
  readonly prefixLength: number;
}

const asAddress = (bytes: Uint8Array | null): Address | null =>
  bytes !== null && (bytes.length === 4 || bytes.length === 16) ? addressFromBytes(bytes) : null;

export function readInterfaceAddress(body: Uint8Array): InterfaceAddress | null {
  if (body.length < 8) return null;
  const view = viewOf(body);
  const attributes = new Attributes(body.subarray(8));
  const address = asAddress(attributes.bytes(IFA_LOCAL) ?? attributes.bytes(IFA_ADDRESS));
  return address && { index: view.getUint32(4, true), address, prefixLength: view.getUint8(1) };
}

const addressPart = (family: number, prefixLength: number, index: number): Uint8Array => {
  const part = new Uint8Array(8);
  part[0] = family;
  part[1] = prefixLength;
  viewOf(part).setUint32(4, index, true);
  return part;
};

export const dumpAddresses = (): Uint8Array =>
  new MessageWriter(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP).fixed(addressPart(0, 0, 0)).finish();

const RT_SCOPE_HOST = 254;

/** A host address (/32 or /128) on an interface of ours, never picked as a source. */
export function addHostAddress(index: number, address: Address): Uint8Array {
  const part = addressPart(familyNumber(address.family), widthBits(address.family), index);
  part[3] = RT_SCOPE_HOST;
  return new MessageWriter(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
    .fixed(part)
    .attribute(IFA_LOCAL, addressBytes(address))
    .attribute(IFA_ADDRESS, addressBytes(address))
    .finish();
}

// ---- Neighbours -----------------------------------------------------------------------------------------------------

const NDA_DST = 1;
const NDA_LLADDR = 2;
const NTF_USE = 0x1;
const NTF_PROXY = 0x8;

export const NUD_STALE = 0x04;
export const NUD_FAILED = 0x20;
/** Reachable, stale, delay, probe, no-ARP, permanent: the link-layer address is usable. */
const NUD_VALID = 0x02 | NUD_STALE | 0x08 | 0x10 | 0x40 | 0x80;

export interface Neighbour {
  readonly index: number;
  readonly address: Address;
  /** NUD_* bits. */
  readonly state: number;
  /** 6 bytes; null unless usable. */
  readonly mac: Uint8Array | null;
}

/** null for proxy entries and those of other families (bridges). */
export function readNeighbour(body: Uint8Array): Neighbour | null {
  if (body.length < 12) return null;
  const view = viewOf(body);
  const family = view.getUint8(0);
  if ((family !== AF_INET && family !== AF_INET6) || view.getUint8(10) & NTF_PROXY) return null;
  const attributes = new Attributes(body.subarray(12));
  const address = asAddress(attributes.bytes(NDA_DST));
  if (address === null) return null;
  const state = view.getUint16(8, true);
  const mac = attributes.bytes(NDA_LLADDR);
  const usable = (state & NUD_VALID) !== 0 && mac !== null && mac.length === 6;
  return { index: view.getInt32(4, true), address, state, mac: usable ? mac.slice() : null };
}

const neighbourPart = (family: number, index: number, flags: number): Uint8Array => {
  const part = new Uint8Array(12);
  part[0] = family;
  viewOf(part).setInt32(4, index, true);
  part[10] = flags;
  return part;
};

export const dumpNeighbours = (): Uint8Array =>
  new MessageWriter(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP).fixed(neighbourPart(0, 0, 0)).finish();

export const dumpProxyNeighbours = (): Uint8Array =>
  new MessageWriter(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP).fixed(neighbourPart(0, 0, NTF_PROXY)).finish();

/** The address that a proxy entry answers for; null for anything else. */
export function readProxyNeighbour(body: Uint8Array): Address | null {
  if (body.length < 12 || !((body[10] ?? 0) & NTF_PROXY)) return null;
  return asAddress(new Attributes(body.subarray(12)).bytes(NDA_DST));
}

/**
 * Makes the kernel behave as if it had a packet for the neighbour: an unknown or failed one is asked for, a stale one is
 * asked whether it is still there. No packet but the kernel's own ARP or neighbour solicitation is sent.
 */
export function useNeighbour(index: number, address: Address): Uint8Array {
  return new MessageWriter(RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE)
    .fixed(neighbourPart(familyNumber(address.family), index, NTF_USE))
    .attribute(NDA_DST, addressBytes(address))
    .finish();
}

// ---- Routes ---------------------------------------------------------------------------------------------------------

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PREFSRC = 7;
const RTA_METRICS = 8;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
const RTA_VIA = 18;
const RTAX_LOCK = 1;
const RTAX_MTU = 2;
const RTN_UNICAST = 1;
const RTN_LOCAL = 2;
const RTM_F_FIB_MATCH = 0x2000;
const RTNH_F_DEAD = 1;
const RTNH_F_LINKDOWN = 16;
const RTPROT_STATIC = 4;
const RT_SCOPE_LINK = 253;

/** One way to a destination: out of interface `index`, to `gateway` or, when null, to the destination itself. */
export interface RoutePath {
  readonly index: number;
  readonly gateway: Address | null;
}

/** `other`: broadcast, multicast, blackhole and the like: nothing that a server can be behind. */
export interface Route {
  readonly kind: "unicast" | "local" | "other";
  readonly paths: readonly RoutePath[];
  readonly preferredSource: Address | null;
  /** Path MTU or MTU metric in bytes, null when the interface's counts. */
  readonly mtu: number | null;
}

const routePart = (fields: {
  family: number;
  destinationLength?: number;
  table?: number;
  protocol?: number;
  scope?: number;
  type?: number;
  flags?: number;
}): Uint8Array => {
  const part = new Uint8Array(12);
  part[0] = fields.family;
  part[1] = fields.destinationLength ?? 0;
  part[4] = fields.table ?? 0;
  part[5] = fields.protocol ?? 0;
  part[6] = fields.scope ?? 0;
  part[7] = fields.type ?? 0;
  viewOf(part).setUint32(8, fields.flags ?? 0, true);
  return part;
};

/**
 * Asks for the way to a destination. Plain: the one path that the kernel takes, with the learned path MTU. `allPaths`:
 * the routing table's entry with all its paths.
 */
export function lookUpRoute(destination: Address, allPaths: boolean): Uint8Array {
  return new MessageWriter(RTM_GETROUTE, NLM_F_REQUEST)
    .fixed(
      routePart({
        family: familyNumber(destination.family),
        destinationLength: widthBits(destination.family),
        flags: allPaths ? RTM_F_FIB_MATCH : 0,
      }),
    )
    .attribute(RTA_DST, addressBytes(destination))
    .finish();
}

/** RTA_GATEWAY, or RTA_VIA when the gateway is of the other family (RFC 5549). */
function gatewayOf(attributes: Attributes): Address | null {
  return asAddress(attributes.bytes(RTA_GATEWAY)) ?? asAddress(attributes.bytes(RTA_VIA)?.subarray(2) ?? null);
}

function* readPaths(bytes: Uint8Array): Generator<RoutePath> {
  const view = viewOf(bytes);
  let offset = 0;
  while (offset + 8 <= bytes.length) {
    const length = view.getUint16(offset, true);
    if (length < 8 || offset + length > bytes.length) return;
    const dead = view.getUint8(offset + 2) & (RTNH_F_DEAD | RTNH_F_LINKDOWN);
    const attributes = new Attributes(bytes.subarray(offset + 8, offset + length));
    if (!dead) yield { index: view.getInt32(offset + 4, true), gateway: gatewayOf(attributes) };
    offset += (length + 3) & ~3;
  }
}

export function readRoute(body: Uint8Array): Route | null {
  if (body.length < 12) return null;
  const type = body[7];
  const attributes = new Attributes(body.subarray(12));
  const multipath = attributes.bytes(RTA_MULTIPATH);
  const index = attributes.u32(RTA_OIF);
  const single = index === null ? [] : [{ index, gateway: gatewayOf(attributes) }];
  return {
    kind: type === RTN_UNICAST ? "unicast" : type === RTN_LOCAL ? "local" : "other",
    paths: multipath ? [...readPaths(multipath)] : single,
    preferredSource: asAddress(attributes.bytes(RTA_PREFSRC)),
    mtu: attributes.nested(RTA_METRICS)?.u32(RTAX_MTU) ?? null,
  };
}

/**
 * The default route of one table, out of an interface of ours, in place of another one of ours. It vanishes with the
 * interface. Packets longer than `mtuBytes` are too big for it; locked, because IPv6 does not look at it otherwise.
 */
export function setDefaultRoute(family: Family, table: number, index: number, mtuBytes: number): Uint8Array {
  return new MessageWriter(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
    .fixed(
      routePart({
        family: familyNumber(family),
        protocol: RTPROT_STATIC,
        scope: family === 4 ? RT_SCOPE_LINK : 0,
        type: RTN_UNICAST,
      }),
    )
    .u32(RTA_TABLE, table)
    .u32(RTA_OIF, index)
    .nest(RTA_METRICS, (metrics) => metrics.u32(RTAX_LOCK, 1 << RTAX_MTU).u32(RTAX_MTU, mtuBytes))
    .finish();
}

// ---- Policy rules ---------------------------------------------------------------------------------------------------

const FRA_IIFNAME = 3;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FR_ACT_TO_TBL = 1;

/** Packets that came in at an interface with a mark look in a table. */
export interface PolicyRule {
  readonly family: Family;
  readonly priority: number;
  readonly incoming: string;
  readonly mark: number;
  readonly mask: number;
  readonly table: number;
}

function policyRule(type: number, flags: number, rule: PolicyRule): Uint8Array {
  const part = new Uint8Array(12);
  part[0] = familyNumber(rule.family);
  part[7] = FR_ACT_TO_TBL;
  return new MessageWriter(type, flags)
    .fixed(part)
    .text(FRA_IIFNAME, rule.incoming)
    .u32(FRA_PRIORITY, rule.priority)
    .u32(FRA_FWMARK, rule.mark)
    .u32(FRA_FWMASK, rule.mask)
    .u32(FRA_TABLE, rule.table)
    .finish();
}

export const addPolicyRule = (rule: PolicyRule): Uint8Array =>
  policyRule(RTM_NEWRULE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, rule);
export const deletePolicyRule = (rule: PolicyRule): Uint8Array =>
  policyRule(RTM_DELRULE, NLM_F_REQUEST | NLM_F_ACK, rule);

// ---- Notifications --------------------------------------------------------------------------------------------------

/** null for messages that do not concern us. */
export function readEvent(message: Message): NetworkEvent | null {
  switch (message.type) {
    case RTM_NEWLINK: {
      // Bridges announce their ports under their own family; those messages lack most of the link.
      if (message.body[0] !== 0) return null;
      const link = readLink(message.body);
      return link && { kind: "link", link };
    }
    case RTM_DELLINK: {
      if (message.body[0] !== 0 || message.body.length < 8) return null;
      return { kind: "link-gone", index: viewOf(message.body).getInt32(4, true) };
    }
    case RTM_NEWADDR:
    case RTM_DELADDR: {
      const address = readInterfaceAddress(message.body);
      return address && { kind: "address", address, present: message.type === RTM_NEWADDR };
    }
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH: {
      const neighbour = readNeighbour(message.body);
      return neighbour && { kind: "neighbour", neighbour, present: message.type === RTM_NEWNEIGH };
    }
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
    case RTM_NEWRULE:
    case RTM_DELRULE:
    case 104: // RTM_NEWNEXTHOP
    case 105: // RTM_DELNEXTHOP
      return { kind: "route" };
    default:
      return null;
  }
}
