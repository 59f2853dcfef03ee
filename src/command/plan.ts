/**
 * What a change of the whole configuration would do, told before it is done: objects that come, go and differ, and what
 * becomes of the connections that live now. Pure: two configurations and flow counts in, plain data or lines out.
 *
 * Objects are compared by name, servers of a group by address, for that is how a file says them. Whether the change
 * makes new objects of the same text matters to their connections only.
 */
import { formatAddress } from "../model/address.ts";
import type { Config, HealthCheck, Rule, Server, ServerGroup } from "../model/config.ts";
import { sortedServers } from "../model/lookup.ts";
import { type NetBackupHost, type NetBackupState, NO_NETBACKUP } from "../model/netbackup.ts";
import { GROUP_CELLS, HEALTH_CELLS, Index, RULE_CELLS } from "./cells.ts";
import { EMPTY_CELL } from "./columns.ts";
import type { HealthField, RuleField } from "./fields.ts";
import type { FlowCount } from "./host.ts";

export type ObjectKind = "servergroup" | "server" | "healthcheck" | "rule" | "netbackup-host" | "netbackup";

/** One field that differs, in the words of the listings. */
export interface FieldChange {
  readonly field: string;
  readonly before: string;
  readonly after: string;
}

/** One object that comes, goes or differs. A server is named `GROUP ADDRESS`. */
export interface PlannedChange {
  readonly change: "add" | "remove" | "change";
  readonly kind: ObjectKind;
  readonly name: string;
  /** What differs; of an object that comes or goes, none. */
  readonly fields: readonly FieldChange[];
}

/** What becomes of the connections of a rule that is not the same object afterwards. */
export interface PlannedDrain {
  readonly rule: string;
  /** Connections now. */
  readonly connections: number;
  /** Seconds after which the last of them are cut; null: they go on until they end by themselves. */
  readonly cutAfterSeconds: number | null;
}

export interface Plan {
  readonly changes: readonly PlannedChange[];
  readonly connections: readonly PlannedDrain[];
}

/** Whether anything would be another than it is. */
export const isDifferent = (plan: Plan): boolean => plan.changes.length > 0;

/** The fields of two objects that print differently. */
function differing<F extends string>(fields: readonly F[], before: (field: F) => string, after: (field: F) => string) {
  return fields
    .map((field) => ({ field, before: before(field) || EMPTY_CELL, after: after(field) || EMPTY_CELL }))
    .filter((change) => change.before !== change.after);
}

/** Objects that go, then those that differ, in the old order; then those that come, in the new one. */
function* compare<T>(
  kind: ObjectKind,
  before: readonly T[],
  after: readonly T[],
  nameOf: (item: T) => string,
  changes: (was: T, is: T) => readonly FieldChange[],
): Generator<PlannedChange> {
  const fold = (item: T): string => nameOf(item).toLowerCase();
  const afterByName = new Map(after.map((item) => [fold(item), item]));
  const beforeNames = new Set(before.map(fold));
  for (const was of before) {
    const is = afterByName.get(fold(was));
    if (is === undefined) yield { change: "remove", kind, name: nameOf(was), fields: [] };
    else {
      const fields = changes(was, is);
      if (fields.length > 0) yield { change: "change", kind, name: nameOf(was), fields };
    }
  }
  for (const is of after) {
    if (!beforeNames.has(fold(is))) yield { change: "add", kind, name: nameOf(is), fields: [] };
  }
}

/**
 * Listings and exports show objects in creation order. Where those that stay stand in another order, the first that
 * does tells it: `POSITION` among those that stay, from 1.
 */
function moved<T>(before: readonly T[], after: readonly T[], nameOf: (item: T) => string): (item: T) => FieldChange[] {
  const names = (list: readonly T[]): string[] => list.map((item) => nameOf(item).toLowerCase());
  const [old, now] = [new Set(names(before)), new Set(names(after))];
  const [was, is] = [[...old].filter((name) => now.has(name)), [...now].filter((name) => old.has(name))];
  const at = was.findIndex((name, i) => name !== is[i]);
  const name = was[at];
  const change = { field: "POSITION", before: String(at + 1), after: String(is.indexOf(name ?? "") + 1) };
  return (item) => (name !== undefined && nameOf(item).toLowerCase() === name ? [change] : []);
}

const NAME_OF = <T extends { readonly name: string }>({ name }: T): string => name;

/** Fields that say nothing of their own: they follow from others or are told of another object. */
const RULE_FIELDS_OF_OTHERS: readonly RuleField[] = ["SERVERS"];

function* compareRules(before: Config, after: Config): Generator<PlannedChange> {
  const [was, is] = [new Index(before), new Index(after)];
  const fields = (Object.keys(RULE_CELLS) as RuleField[]).filter((field) => !RULE_FIELDS_OF_OTHERS.includes(field));
  const positions = moved(before.rules, after.rules, NAME_OF);
  yield* compare<Rule>("rule", before.rules, after.rules, NAME_OF, (old, now) => [
    ...differing(
      fields,
      (field) => RULE_CELLS[field](old, was),
      (field) => RULE_CELLS[field](now, is),
    ),
    ...positions(old),
  ]);
}

function* compareHealthChecks(before: Config, after: Config): Generator<PlannedChange> {
  const fields = Object.keys(HEALTH_CELLS) as HealthField[];
  const positions = moved(before.healthChecks, after.healthChecks, NAME_OF);
  yield* compare<HealthCheck>("healthcheck", before.healthChecks, after.healthChecks, NAME_OF, (old, now) => [
    ...differing(
      fields,
      (field) => HEALTH_CELLS[field](old),
      (field) => HEALTH_CELLS[field](now),
    ),
    ...positions(old),
  ]);
}

const GROUP_FIELDS_OF_SERVERS = ["serverID", "minport", "maxport"] as const;

/** Servers of the groups that are there before and after, and of those that come or go. */
function* compareServers(before: Config, after: Config): Generator<PlannedChange> {
  const fold = (group: ServerGroup): string => group.name.toLowerCase();
  const afterByName = new Map(after.groups.map((group) => [fold(group), group]));
  const beforeNames = new Set(before.groups.map(fold));
  for (const group of before.groups) yield* serversOfGroup(group, afterByName.get(fold(group)) ?? null);
  for (const group of after.groups) if (!beforeNames.has(fold(group))) yield* serversOfGroup(null, group);
}

function serversOfGroup(before: ServerGroup | null, after: ServerGroup | null): Generator<PlannedChange> {
  const nameOf = (server: Server): string => `${(before ?? after)?.name} ${formatAddress(server.address)}`;
  const sorted = (group: ServerGroup | null): readonly Server[] => (group === null ? [] : sortedServers(group));
  return compare<Server>("server", sorted(before), sorted(after), nameOf, (old, now) => {
    if (before === null || after === null) return [];
    const ports = differing(
      GROUP_FIELDS_OF_SERVERS,
      (field) => GROUP_CELLS[field]({ group: before, server: old }),
      (field) => GROUP_CELLS[field]({ group: after, server: now }),
    );
    const status = (server: Server): string => (server.enabled ? "E" : "D");
    return [
      ...ports,
      ...differing(
        ["STATUS"],
        () => status(old),
        () => status(now),
      ),
    ];
  });
}

function* compareGroups(before: Config, after: Config): Generator<PlannedChange> {
  const positions = moved(before.groups, after.groups, NAME_OF);
  yield* compare<ServerGroup>("servergroup", before.groups, after.groups, NAME_OF, (old, now) => [
    ...differing(
      ["sgname"],
      () => old.name,
      () => now.name,
    ),
    ...positions(old),
  ]);
}

/** A value as a plan shows it; of an object what it holds. */
const plainText = (value: unknown): string =>
  typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);

/** What was said about NetBackup: its hosts, then its settings as one object. */
function* compareNetBackup(before: NetBackupState, after: NetBackupState): Generator<PlannedChange> {
  if (before === after) return;
  const cell = (host: NetBackupHost, field: "address" | "roles" | "facts"): string =>
    field === "address" ? `${formatAddress(host.address)}/${host.prefixLength}` : plainText(host[field]);
  yield* compare<NetBackupHost>("netbackup-host", before.hosts, after.hosts, NAME_OF, (old, now) =>
    differing(
      ["address", "roles", "facts"] as const,
      (field) => cell(old, field),
      (field) => cell(now, field),
    ),
  );
  const fields = (Object.keys(NO_NETBACKUP) as (keyof NetBackupState)[]).filter((field) => field !== "hosts");
  const settings = differing(
    fields,
    (field) => plainText(before[field]),
    (field) => plainText(after[field]),
  );
  if (settings.length > 0) yield { change: "change", kind: "netbackup", name: "settings", fields: settings };
}

/** Rules whose connections the change leaves without their rule or server, with how many they are now. */
function* drains(before: Config, after: Config, flows: Iterable<FlowCount>): Generator<PlannedDrain> {
  const counts = new Map([...flows].map(({ ruleId, serverId, flows: n }) => [`${ruleId} ${serverId}`, n]));
  const [was, is] = [new Index(before), new Index(after)];
  const afterById = new Map(after.rules.map((rule) => [rule.id, rule]));
  for (const rule of before.rules) {
    const stays = afterById.get(rule.id);
    const servers = stays === undefined ? [] : is.groupOf(stays).servers.filter((server) => server.enabled);
    const remaining = new Set(servers.map(({ id }) => id));
    const connections = was
      .groupOf(rule)
      .servers.filter((server) => !remaining.has(server.id))
      .reduce((sum, server) => sum + (counts.get(`${rule.id} ${server.id}`) ?? 0), 0);
    const { connDrainSeconds } = rule;
    if (connections > 0)
      yield { rule: rule.name, connections, cutAfterSeconds: connDrainSeconds === 0 ? null : connDrainSeconds };
  }
}

/**
 * The difference between two configurations.
 * @param flows connections by rule and server now
 */
export function planOf(before: Config, after: Config, flows: Iterable<FlowCount>): Plan {
  const changes = [
    ...compareGroups(before, after),
    ...compareServers(before, after),
    ...compareHealthChecks(before, after),
    ...compareRules(before, after),
    ...compareNetBackup(before.netbackup, after.netbackup),
  ];
  return { changes, connections: changes.length === 0 ? [] : [...drains(before, after, flows)] };
}

const SIGNS: Readonly<Record<PlannedChange["change"], string>> = { add: "+", remove: "-", change: "~" };

/** The plan as lines with their newlines: objects marked `+`, `-` or `~`, then `!` for live connections. */
export function* planLines(plan: Plan): Generator<string> {
  for (const { change, kind, name, fields } of plan.changes) {
    const what = fields.map(({ field, before, after }) => `${field} ${before} -> ${after}`).join(", ");
    yield `${SIGNS[change]} ${kind} ${name}${what === "" ? "" : `: ${what}`}\n`;
  }
  for (const { rule, connections, cutAfterSeconds } of plan.connections) {
    const [subject, verb] = connections === 1 ? ["connection", "stays"] : ["connections", "stay"];
    const end = cutAfterSeconds === null ? "until they end" : `for ${cutAfterSeconds} s at most`;
    yield `! rule ${rule}: ${connections} ${subject} ${verb} with servers that get no new ones, ${end}\n`;
  }
}
