/**
 * What the engine would do with a packet, and why, worked out from an image and reads of the live tables: the order of
 * docs/packet-path.md once more, for one TCP or UDP packet without surprises, changing nothing. What depends on room in
 * tables (memory, free proxy ports) or on the packet's size is taken to be fine. A test holds it to the engine.
 */
import {
  PROBE_FIRST_PORT,
  PROBE_LAST_PORT,
  REASON_MEANING,
  REASON_NAMES,
  REASON_VERDICT,
  Reason,
} from "../gen/layout.ts";
import {
  type Address,
  addressAt,
  applyMask,
  isIPv4Mapped,
  isLinkLocal,
  isMulticast,
  sameAddress,
} from "../model/address.ts";
import {
  type ImageMember,
  type ImageRule,
  type ImageServer,
  type NextHop,
  type TableImage,
  verdictName,
} from "./engine.ts";
import type {
  ExplainedChoice,
  ExplainedEgress,
  ExplainedPacket,
  ExplainedServer,
  Explanation,
  LiveFlow,
  LiveTables,
} from "./explanation.ts";
import { refusalOfFirst } from "./reference/policy.ts";
import { hashOf, mapPort } from "./reference/select.ts";

/** Tables of an engine that has seen nothing. */
export const NOTHING_LIVE: LiveTables = Object.freeze({
  flowOf: () => null,
  stickyOf: () => null,
  turnOf: () => Number.POSITIVE_INFINITY,
  proxyTurnOf: () => 0,
  nextHop: () => ({
    state: "none" as const,
    port: 0,
    destinationMac: new Uint8Array(6),
    sourceMac: new Uint8Array(6),
    mtu: 0,
  }),
  port: () => null,
  portCount: 0,
});

type Grounds = Omit<Explanation, "packet" | "verdict" | "reason" | "meaning">;

const NO_GROUNDS: Grounds = {
  ruleId: 0,
  ruleType: null,
  serverId: 0,
  direction: "none",
  flow: "none",
  entry: null,
  choice: null,
  leaving: null,
  egress: null,
};

/** @param image in force. @param live of the engine that it is in force in */
export function explain(image: TableImage, live: LiveTables, packet: ExplainedPacket): Explanation {
  const told = (reason: Reason, grounds: Partial<Grounds> = {}): Explanation => ({
    packet,
    verdict: verdictName(REASON_VERDICT[reason]!),
    reason: REASON_NAMES[reason]!,
    meaning: REASON_MEANING[reason]!,
    ...NO_GROUNDS,
    ...grounds,
  });
  if (isIPv4Mapped(packet.source)) return told(Reason.MartianSource);
  const met = live.flowOf(packet);
  const isOurs = met !== null || withoutRule(image, packet) !== Reason.Unguarded;
  const refusal = isOurs && image.policy !== undefined ? refusalOfFirst(image.policy, packet) : null;
  if (refusal !== null) return told(refusal);
  // A new connection from the same client port may take the place of one that is over.
  const reopens = met?.isClosed === true && met.fromClient && packet.protocol === "tcp";
  if (met !== null && !reopens) return knownFlow(live, met, told);
  const rule = ruleOf(image, packet);
  if (rule === undefined) return told(withoutRule(image, packet));
  const matched: Partial<Grounds> = {
    ruleId: rule.id,
    ruleType: rule.type,
    direction: "client-to-server",
    entry: met?.flow ?? null,
  };
  if (!rule.enabled) return told(Reason.RuleDisabled, matched);
  if (isMartian(packet.source)) return told(Reason.MartianSource, matched);
  const choice = choose(image, live, rule, packet);
  if (choice === null) return told(Reason.NoServer, matched);
  return newTraffic(image, live, rule, choice, packet, (reason, more) => told(reason, { ...matched, choice, ...more }));
}

type Tell = (reason: Reason, grounds?: Partial<Grounds>) => Explanation;

function knownFlow(live: LiveTables, met: LiveFlow, told: Tell): Explanation {
  const { flow, fromClient } = met;
  const known: Partial<Grounds> = {
    ruleId: flow.ruleId,
    serverId: flow.serverId,
    direction: fromClient ? "client-to-server" : "server-to-client",
    flow: "found",
    entry: flow,
  };
  const way = fromClient ? wayToServer(live, live.nextHop(met.nextHop), false) : wayToClient(live, met);
  if (way.obstacle !== null) return told(way.obstacle, { ...known, egress: way.egress });
  const leaving = fromClient
    ? {
        source: flow.source,
        sourcePort: flow.sourcePort,
        destination: flow.server,
        destinationPort: flow.serverPort,
      }
    : { source: flow.vip, sourcePort: flow.vipPort, destination: flow.client, destinationPort: flow.clientPort };
  return told(Reason.FlowFound, { ...known, leaving, egress: way.egress });
}

function newTraffic(
  image: TableImage,
  live: LiveTables,
  rule: ImageRule,
  choice: ExplainedChoice,
  packet: ExplainedPacket,
  told: Tell,
): Explanation {
  const serverId = choice.servers.find(({ why }) => why === "chosen")!.serverId;
  const server = image.servers.find((one) => one.id === serverId)!;
  const isDirect = rule.type === "DSR";
  const way = wayToServer(live, live.nextHop(server.nextHop), isDirect);
  if (way.obstacle !== null) return told(way.obstacle, { serverId, egress: way.egress });
  const { source, sourcePort, destination, destinationPort } = packet;
  if (isDirect) {
    const leaving = { source, sourcePort, destination, destinationPort };
    return told(Reason.DsrSent, { serverId, leaving, egress: way.egress });
  }
  const proxy = rule.type === "NAT" ? proxyOf(live, rule, choice, serverId, packet) : null;
  const leaving = {
    source: proxy ?? source,
    sourcePort: proxy === null ? sourcePort : null,
    destination: server.address,
    destinationPort: mapPort(rule.ports, server.ports, destinationPort),
  };
  return told(Reason.FlowNew, { serverId, flow: "new", leaving, egress: way.egress });
}

function ruleOf(image: TableImage, packet: ExplainedPacket): ImageRule | undefined {
  if (isNobodys(packet.destination)) return undefined;
  return image.rules.find(
    ({ vip, protocol, ports }) =>
      protocol === packet.protocol &&
      ports.min <= packet.destinationPort &&
      packet.destinationPort <= ports.max &&
      sameAddress(vip, packet.destination),
  );
}

/** Destinations that no image can make a VIP or a proxy address of. */
const isNobodys = (address: Address): boolean =>
  address.family === 6 && (isLinkLocal(address) || isMulticast(address) || isIPv4Mapped(address));

function withoutRule({ interest }: TableImage, packet: ExplainedPacket): Reason {
  const guards = (match: "source" | "destination", address: Address, port: number): boolean =>
    interest.entries.some(
      (entry) =>
        entry.match === match &&
        entry.protocol === packet.protocol &&
        entry.ports.min <= port &&
        port <= entry.ports.max &&
        sameAddress(entry.address, address),
    );
  const { source, sourcePort, destination, destinationPort } = packet;
  if (!isNobodys(destination) && guards("destination", destination, destinationPort))
    return interest.proxies.some((proxy) => sameAddress(proxy, destination)) ? Reason.ProxyTraffic : Reason.RuleGone;
  const isProbePort = PROBE_FIRST_PORT <= destinationPort && destinationPort <= PROBE_LAST_PORT;
  if (isProbePort && interest.own.some((own) => sameAddress(own, destination))) return Reason.Unguarded;
  return guards("source", source, sourcePort) ? Reason.ServerTraffic : Reason.Unguarded;
}

/** Sources that no host may send from: RFC 1122 section 3.2.1.3, RFC 4291 section 2. */
function isMartian(address: Address): boolean {
  if (address.family === 6) return address.value <= 1n || isMulticast(address);
  const first = Number(address.value >> 24n);
  return first === 0 || first === 127 || first >= 224;
}

// ---- the choice of a server (specification E.5, E.6) ----

const isOpen = (member: ImageMember): boolean => member.enabledSequence !== null;

/** Null when no server takes new flows. */
function choose(image: TableImage, live: LiveTables, rule: ImageRule, packet: ExplainedPacket): ExplainedChoice | null {
  const serverOf = (member: ImageMember): ImageServer => image.servers[member.server]!;
  const open = rule.members.filter(isOpen);
  if (open.length === 0) return null;
  const { hash, turns, picked } =
    rule.algorithm === "roundrobin"
      ? byTurn(live, rule, packet, open)
      : byHash(rule.members, open, hashOf(rule.algorithm, packet.source, packet.sourcePort, rule.vip));
  const pickedId = serverOf(picked).id;
  const sticky = stickiness(live, rule, packet.source, (id) => open.some((member) => serverOf(member).id === id));
  const chosenId = sticky?.holds ? sticky.serverId : pickedId;
  const why = (member: ImageMember): ExplainedServer["why"] => {
    if (serverOf(member).id === chosenId) return "chosen";
    if (!isOpen(member)) return "closed";
    if (serverOf(member).id === pickedId) return "other-sticky";
    return hash === null ? "not-its-turn" : "other-hash";
  };
  const servers = rule.members.map((member) => {
    const { id, address, ports } = serverOf(member);
    return { serverId: id, address, ports, why: why(member) };
  });
  const turnIds = turns?.map((member) => serverOf(member).id) ?? null;
  return { algorithm: rule.algorithm, hash, turns: turnIds, pickedId, sticky, servers };
}

/** New servers stand at the head of the circle, so it runs from the newest to the oldest and begins again. */
function byTurn(live: LiveTables, rule: ImageRule, packet: ExplainedPacket, open: readonly ImageMember[]) {
  const circle = [...open].sort((a, b) => b.insertSequence - a.insertSequence);
  const turn = live.turnOf(rule, packet);
  const next = circle.findIndex((member) => member.insertSequence <= turn);
  const turns = next <= 0 ? circle : [...circle.slice(next), ...circle.slice(0, next)];
  return { hash: null, turns, picked: turns[0]! };
}

function byHash(members: readonly ImageMember[], open: readonly ImageMember[], value: number) {
  const inserted = [...members].sort((a, b) => a.insertSequence - b.insertSequence);
  const index = value % inserted.length;
  const first = inserted[index]!;
  const enabled = [...open].sort((a, b) => a.enabledSequence! - b.enabledSequence!);
  const second = value % enabled.length;
  const fallback = isOpen(first) ? null : { index: second, count: enabled.length };
  const picked = isOpen(first) ? first : enabled[second]!;
  return { hash: { value, index, count: inserted.length, fallback }, turns: null, picked };
}

function stickiness(
  live: LiveTables,
  rule: ImageRule,
  source: Address,
  takesFlows: (serverId: number) => boolean,
): ExplainedChoice["sticky"] {
  if (rule.stickyMask === null) return null;
  const client = applyMask(source, rule.stickyMask);
  const serverId = live.stickyOf(rule.id, client)?.serverId ?? null;
  return { client, mask: rule.stickyMask, serverId, holds: serverId !== null && takesFlows(serverId) };
}

/** The proxy address that the next flow gets: that of the client's entry, else the next one of the rotation. */
function proxyOf(
  live: LiveTables,
  rule: ImageRule,
  { sticky }: ExplainedChoice,
  serverId: number,
  packet: ExplainedPacket,
): Address {
  const { first, last } = rule.proxySource!;
  const count = Number(last.value - first.value) + 1;
  const fixed = sticky?.holds ? live.stickyOf(rule.id, sticky.client) : null;
  return addressAt(first, fixed?.proxyIndex ?? (live.proxyTurnOf(rule, serverId, packet) + 1) % count);
}

// ---- the way out ----

interface Way {
  readonly obstacle: Reason | null;
  readonly egress: ExplainedEgress | null;
}

/** Where balanced packets come in by an IP port (a TUN), all but DSR leave by it. */
function wayToServer(live: LiveTables, hop: NextHop, isDirect: boolean): Way {
  for (let index = 0; index < live.portCount && !isDirect; index++) {
    const port = live.port(index);
    if (port?.kind !== "ip") continue;
    const egress = { state: "resolved", port: index, destinationMac: null, sourceMac: null, mtu: port.mtu } as const;
    return { obstacle: null, egress };
  }
  const port = live.port(hop.port);
  const isIp = port?.kind === "ip";
  const egress: ExplainedEgress = {
    state: hop.state,
    port: hop.port,
    destinationMac: isIp ? null : hop.destinationMac,
    sourceMac: isIp ? null : hop.sourceMac,
    mtu: hop.mtu,
  };
  if (hop.state === "none") return { obstacle: Reason.NoRoute, egress: null };
  if (hop.state === "unresolved") return { obstacle: Reason.NextHopUnresolved, egress };
  return port === null ? { obstacle: Reason.NoEgressPort, egress: null } : { obstacle: null, egress };
}

function wayToClient(live: LiveTables, { client }: LiveFlow): Way {
  const port = live.port(client.port);
  if (port === null) return { obstacle: Reason.NoEgressPort, egress: null };
  const isIp = port.kind === "ip";
  const egress: ExplainedEgress = {
    state: "resolved",
    port: client.port,
    destinationMac: isIp ? null : client.mac,
    sourceMac: isIp ? null : port.mac,
    mtu: port.mtu,
  };
  return { obstacle: null, egress };
}
