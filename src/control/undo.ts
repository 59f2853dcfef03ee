/**
 * Going back in the history: what a row of saved deltas did to a configuration is undone, the latest first. Objects come
 * back with the ids that they had, so that they stand in their old places and are the same objects to flows, sticky
 * entries and counters that still know them (docs/decisions/0024). Pure; reads no database.
 */
import type { Config, Rule, Server } from "../model/config.ts";
import type { NetBackupSettings } from "../model/netbackup.ts";
import type { BareGroup, Delta, PlacedServer, Step } from "./delta.ts";

/**
 * A delta as the history keeps it, JSON with bigints as decimal text, made whole again.
 * The text is the daemon's own (control/store.ts wrote it), so its shape is not checked.
 */
export function parseDelta(text: string): Delta {
  return JSON.parse(text, (key, value: unknown) =>
    key === "value" && typeof value === "string" ? BigInt(value) : freeze(value),
  ) as Delta;
}

const freeze = (value: unknown): unknown =>
  typeof value === "object" && value !== null ? Object.freeze(value) : value;

/** The objects of one kind by id. */
class Objects<T extends { readonly id: number }> {
  readonly #byId: Map<number, T>;

  constructor(list: readonly T[]) {
    this.#byId = new Map(list.map((item) => [item.id, item]));
  }

  undo(steps: readonly Step<T>[]): void {
    for (const { before, after } of steps) {
      if (before !== null) this.#byId.set(before.id, before);
      else if (after !== null) this.#byId.delete(after.id);
    }
  }

  /** In creation order, which is that of the ids. */
  list(): T[] {
    return [...this.#byId.values()].sort((a, b) => a.id - b.id);
  }
}

/**
 * The configuration before all of `deltas`. Ids are never given out twice: nextId stays.
 * @returns `current` itself when there is nothing to undo
 * @param deltas newest first, without a gap, the newest the one that made `current`
 */
export function undo(current: Config, deltas: Iterable<Delta>): Config {
  const groups = new Objects<BareGroup>(current.groups);
  const servers = new Objects<PlacedServer>(
    current.groups.flatMap((group) => group.servers.map((server) => ({ ...server, groupId: group.id }))),
  );
  const healthChecks = new Objects(current.healthChecks);
  const rules = new Objects<Rule>(current.rules);
  const hosts = new Objects(current.netbackup.hosts);
  let settings: NetBackupSettings = current.netbackup;
  let isCurrent = true;
  for (const delta of deltas) {
    isCurrent = false;
    groups.undo(delta.groups);
    servers.undo(delta.servers);
    healthChecks.undo(delta.healthChecks);
    rules.undo(delta.rules);
    hosts.undo(delta.netbackupHosts ?? []);
    settings = delta.netbackup?.before ?? settings;
  }
  if (isCurrent) return current;
  const byGroup = Map.groupBy(servers.list(), (server) => server.groupId);
  return Object.freeze({
    nextId: current.nextId,
    groups: Object.freeze(groups.list().map((group) => wholeGroup(group, byGroup.get(group.id) ?? []))),
    healthChecks: Object.freeze(healthChecks.list()),
    rules: Object.freeze(rules.list().map(withForce)),
    netbackup: Object.freeze({ ...settings, hosts: Object.freeze(hosts.list()) }),
  });
}

/** Rules in deltas of older programs say nothing about the guard: nobody had forced them. */
const withForce = (rule: Rule): Rule => (rule.forced === undefined ? Object.freeze({ ...rule, forced: false }) : rule);

const wholeGroup = ({ id, name, lastNumber }: BareGroup, servers: readonly PlacedServer[]): Config["groups"][number] =>
  Object.freeze({ id, name, lastNumber, servers: Object.freeze(servers.map(unplaced)) });

const unplaced = ({ groupId, ...server }: PlacedServer): Server => Object.freeze(server);
