/**
 * (Config, run-time order, draining pairs, places, local addresses) -> TableImage, purely. What the engine is told is
 * decided here and only here: defaults filled in, timers in milliseconds, members in their order.
 */
import type { ImageDrain, ImageMember, ImageRule, ImageServer, Interest, TableImage } from "../engine/engine.ts";
import { type Address, addressKey } from "../model/address.ts";
import type { Config, Rule, Server } from "../model/config.ts";
import { type Drains, departed } from "./drain.ts";
import type { InterestRule } from "./interest.ts";
import type { Places } from "./places.ts";
import type { Runtime } from "./runtime.ts";

export interface CompileInput {
  readonly generation: number;
  readonly config: Config;
  readonly runtime: Runtime;
  readonly drains: Drains;
  /** Counter slots by String(rule id). */
  readonly ruleSlots: Places;
  /** Next-hop indexes by addressKey(server address). */
  readonly hopIndexes: Places;
  readonly isLocal: (address: Address) => boolean;
  readonly interest: Interest;
  /** Engine clock. */
  readonly nowMs: number;
}

/** The engine counts in 32-bit milliseconds: nothing may lie further away than half of that (24.8 days). */
export const MAX_TIMEOUT_MS = 0x7fff_ffff;
const DEFAULT_NAT_TIMEOUT_SECONDS = { tcp: 120, udp: 60 } as const;
const DEFAULT_PERSIST_TIMEOUT_SECONDS = 60;

/** Servers that the image has to name: members of rules, and those that still hold flows. Each id once. */
export function serversInUse(config: Config, drains: Drains): Server[] {
  const servers = new Map<number, Server>();
  const groupsInUse = new Set(config.rules.map((rule) => rule.groupId));
  for (const group of config.groups) {
    if (groupsInUse.has(group.id)) for (const server of group.servers) servers.set(server.id, server);
  }
  for (const { server } of drains.values()) if (!servers.has(server.id)) servers.set(server.id, server);
  return [...servers.values()];
}

/** What the interest set is made of: all rules with all servers, and what still drains, be it of deleted rules. */
export function rulesOfInterest(config: Config, drains: Drains): InterestRule[] {
  const rules = new Map<number, { rule: Rule; servers: Server[] }>();
  const groups = new Map(config.groups.map((group) => [group.id, group]));
  for (const rule of config.rules)
    rules.set(rule.id, { rule, servers: [...(groups.get(rule.groupId)?.servers ?? [])] });
  for (const { rule, server } of departed(drains)) {
    const known = rules.get(rule.id);
    if (known === undefined) rules.set(rule.id, { rule, servers: [server] });
    else known.servers.push(server);
  }
  return [...rules.values()].map(({ rule, servers }) => ({ ...rule, servers }));
}

/** True when a drain deadline is near enough for the engine to hold it; farther ones are compiled in later. */
export const deadlineFits = (deadlineMs: number, nowMs: number): boolean => deadlineMs - nowMs <= MAX_TIMEOUT_MS;

export function compile(input: CompileInput): TableImage {
  const { config, drains, hopIndexes } = input;
  const servers: ImageServer[] = serversInUse(config, drains).map((server) => ({
    id: server.id,
    address: server.address,
    ports: server.ports,
    nextHop: hopIndexes.byKey.get(addressKey(server.address))!,
  }));
  const serverIndexes = new Map(servers.map((server, index) => [server.id, index]));
  return {
    generation: input.generation,
    servers,
    rules: config.rules.map((rule, sequence) => compileRule(input, rule, sequence, serverIndexes)),
    drains: compileDrains(drains, input.nowMs),
    interest: input.interest,
  };
}

function compileRule(
  input: CompileInput,
  rule: Rule,
  sequence: number,
  serverIndexes: ReadonlyMap<number, number>,
): ImageRule {
  return {
    id: rule.id,
    slot: input.ruleSlots.byKey.get(String(rule.id))!,
    vip: rule.vip,
    vipIsLocal: input.isLocal(rule.vip),
    protocol: rule.protocol,
    ports: rule.ports,
    type: rule.type,
    algorithm: rule.algorithm,
    proxySource: rule.proxySource,
    stickyMask: rule.stickyMask,
    natTimeoutMs: milliseconds(rule.natTimeoutSeconds || DEFAULT_NAT_TIMEOUT_SECONDS[rule.protocol]),
    persistTimeoutMs: milliseconds(rule.persistTimeoutSeconds || DEFAULT_PERSIST_TIMEOUT_SECONDS),
    enabled: rule.enabled,
    sequence,
    members: compileMembers(input.runtime, rule, serverIndexes),
  };
}

function compileMembers(runtime: Runtime, rule: Rule, serverIndexes: ReadonlyMap<number, number>): ImageMember[] {
  const members = [...(runtime.get(rule.id)?.members ?? [])].map(([serverId, order]) => ({
    server: serverIndexes.get(serverId)!,
    insertSequence: order.insertSequence,
    enabledSequence: order.enabledSequence,
  }));
  return members.sort((a, b) => a.insertSequence - b.insertSequence);
}

function compileDrains(drains: Drains, nowMs: number): ImageDrain[] {
  const image: ImageDrain[] = [];
  for (const { rule, server, deadlineMs } of drains.values()) {
    if (deadlineMs !== null && deadlineFits(deadlineMs, nowMs))
      image.push({ ruleId: rule.id, serverId: server.id, deadlineMs });
  }
  return image;
}

const milliseconds = (seconds: number): number => Math.min(seconds * 1000, MAX_TIMEOUT_MS);
