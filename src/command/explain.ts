/**
 * An explanation in words (`ilbadm explain`) and as a plain value (JSON, MessagePack): ids become the names that users
 * know. Decides nothing; engine/explain.ts did.
 */
import type { FlowSnapshot } from "../engine/engine.ts";
import type { ExplainedChoice, ExplainedEgress, ExplainedServer } from "../engine/explanation.ts";
import { type Address, formatAddress, formatBracketed } from "../model/address.ts";
import type { Config, PortRange, Server } from "../model/config.ts";
import { serverId } from "../model/lookup.ts";
import type { LocatedExplanation } from "./host.ts";
import { ports as portsCodec } from "./values.ts";

/** Names of what an explanation mentions. */
class Names {
  readonly #rules: ReadonlyMap<number, string>;
  readonly #servers = new Map<number, { readonly name: string; readonly server: Server }>();

  constructor(config: Config) {
    this.#rules = new Map(config.rules.map((rule) => [rule.id, rule.name]));
    for (const group of config.groups)
      for (const server of group.servers) this.#servers.set(server.id, { name: serverId(group, server), server });
  }

  /** null: none, or deleted while entries still hold it. */
  rule(id: number): string | null {
    return this.#rules.get(id) ?? null;
  }

  /** null: none, or removed while entries still hold it. */
  server(id: number): string | null {
    return this.#servers.get(id)?.name ?? null;
  }

  /** Why a server was not taken, as a word. */
  why({ serverId: id, why }: ExplainedServer): string {
    if (why !== "closed") return why;
    return this.#servers.get(id)?.server.enabled === false ? "disabled" : "down";
  }
}

const REMOVED = "(removed)";
const end = (address: Address, port: number | string): string => `${formatAddress(address)}.${port}`;
const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
const hashText = (value: number): string => `0x${value.toString(16).padStart(8, "0")}`;

const flowText = (flow: FlowSnapshot): string =>
  [
    `${end(flow.client, flow.clientPort)} > ${end(flow.vip, flow.vipPort)}`,
    `${end(flow.source, flow.sourcePort)} > ${end(flow.server, flow.serverPort)}`,
  ].join(" >>> ");

/** Lines as name and text. */
export function* explanationLines(config: Config, located: LocatedExplanation): Generator<[string, string]> {
  const { explanation, egressName } = located;
  const { packet, verdict, reason, meaning, ruleId, ruleType, flow, entry, choice, leaving, egress } = explanation;
  const names = new Names(config);
  const { protocol, source, sourcePort, destination, destinationPort } = packet;
  yield ["PACKET", `${protocol} ${end(source, sourcePort)} > ${end(destination, destinationPort)}`];
  const ruleName = names.rule(ruleId) ?? REMOVED;
  if (ruleId === 0) yield ["RULE", "none"];
  else yield ["RULE", ruleType === null ? ruleName : `${ruleName}, ${ruleType}`];
  yield ["FLOW", flow];
  if (entry !== null) yield ["ENTRY", flowText(entry) + (flow === "found" ? "" : " (closed, to be replaced)")];
  if (choice !== null) yield* choiceLines(choice, names);
  else if (explanation.serverId !== 0) yield ["SERVER", names.server(explanation.serverId) ?? REMOVED];
  if (leaving !== null) {
    const from = end(leaving.source, leaving.sourcePort ?? "(a free port)");
    yield ["LEAVES", `${from} > ${end(leaving.destination, leaving.destinationPort)}`];
  }
  if (egress !== null) yield ["EGRESS", egressText(egress, egressName)];
  yield ["VERDICT", `${verdict}, ${reason}: ${meaning}`];
}

function* choiceLines(choice: ExplainedChoice, names: Names): Generator<[string, string]> {
  const { algorithm, hash, turns, sticky, servers } = choice;
  const nameOf = (id: number): string => names.server(id) ?? REMOVED;
  if (hash !== null) {
    const first = `${hashText(hash.value)} mod ${hash.count} = ${hash.index}`;
    const second = hash.fallback && `that server is out; mod ${hash.fallback.count} = ${hash.fallback.index}`;
    yield ["ALGORITHM", `${algorithm}, ${first}${second === null ? "" : `, ${second}`} -> ${nameOf(choice.pickedId)}`];
  }
  if (turns !== null) yield ["ALGORITHM", `${algorithm}, next are ${turns.map(nameOf).join(", ")}`];
  if (sticky !== null) yield ["STICKY", stickyText(sticky, nameOf)];
  for (const server of servers.filter(({ why }) => why === "chosen"))
    yield ["SERVER", `${nameOf(server.serverId)} ${serverText(server.address, server.ports)}`];
  for (const server of servers.filter(({ why }) => why !== "chosen"))
    yield ["NOT", `${nameOf(server.serverId)} ${serverText(server.address, server.ports)}: ${names.why(server)}`];
}

function stickyText(sticky: NonNullable<ExplainedChoice["sticky"]>, nameOf: (id: number) => string): string {
  const client = `${formatAddress(sticky.client)}/${sticky.mask}`;
  if (sticky.serverId === null) return `${client} has no entry`;
  return `${client} -> ${nameOf(sticky.serverId)}${sticky.holds ? "" : ", which takes no new flows"}`;
}

const serverText = (address: Address, ports: PortRange | null): string =>
  ports === null ? formatAddress(address) : `${formatBracketed(address)}:${portsCodec.print(ports)}`;

function egressText({ state, port, destinationMac, sourceMac, mtu }: ExplainedEgress, name: string | null): string {
  const device = name ?? `port ${port}`;
  if (state !== "resolved") return `${device}, next hop ${state}`;
  const macs = destinationMac && sourceMac ? `, ${hex(sourceMac)} > ${hex(destinationMac)}` : "";
  return `${device}${macs}, MTU ${mtu}`;
}

/** An explanation as a plain value; null where there is nothing to say. It fits VIEW_SCHEMAS.explanation. */
export function explanationView(config: Config, located: LocatedExplanation): Record<string, unknown> {
  const { explanation, egressName } = located;
  const { packet, verdict, reason, meaning, ruleId, ruleType, direction, flow, entry, choice, leaving } = explanation;
  const names = new Names(config);
  return {
    packet: {
      protocol: packet.protocol,
      source: endView(packet.source, packet.sourcePort),
      destination: endView(packet.destination, packet.destinationPort),
    },
    verdict,
    reason,
    meaning,
    rule: names.rule(ruleId),
    type: ruleType,
    server: names.server(explanation.serverId),
    direction,
    flow,
    entry: entry && {
      closed: flow !== "found",
      client: endView(entry.client, entry.clientPort),
      vip: endView(entry.vip, entry.vipPort),
      source: endView(entry.source, entry.sourcePort),
      server: endView(entry.server, entry.serverPort),
    },
    choice: choice && choiceView(choice, names),
    leaving: leaving && {
      source: endView(leaving.source, leaving.sourcePort),
      destination: endView(leaving.destination, leaving.destinationPort),
    },
    egress: explanation.egress && egressView(explanation.egress, egressName),
  };
}

const endView = (address: Address, port: number | null) => ({ address: formatAddress(address), port });

function choiceView(choice: ExplainedChoice, names: Names): Record<string, unknown> {
  const { algorithm, hash, turns, pickedId, sticky, servers } = choice;
  return {
    algorithm,
    hash: hash && { ...hash, value: hashText(hash.value) },
    turns: turns?.map((id) => names.server(id)) ?? null,
    picked: names.server(pickedId),
    sticky: sticky && {
      client: formatAddress(sticky.client),
      mask: sticky.mask,
      server: sticky.serverId === null ? null : names.server(sticky.serverId),
      holds: sticky.holds,
    },
    servers: servers.map((server) => ({
      id: names.server(server.serverId),
      address: formatAddress(server.address),
      port: server.ports && portsCodec.print(server.ports),
      why: names.why(server),
    })),
  };
}

const egressView = (egress: ExplainedEgress, name: string | null): Record<string, unknown> => ({
  device: name,
  nexthop: egress.state,
  source: egress.sourceMac && hex(egress.sourceMac),
  destination: egress.destinationMac && hex(egress.destinationMac),
  mtu: egress.mtu,
});
