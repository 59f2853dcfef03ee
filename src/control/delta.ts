/**
 * The difference between two configurations as reversible steps, object by object. The store writes these steps to its
 * tables and keeps them as history, so a later rollback can walk back. Pure; knows nothing of SQL.
 *
 * Objects are immutable values: the same reference means "unchanged", so a change costs what it touches.
 */
import type { Config, HealthCheck, Rule, Server, ServerGroup } from "../model/config.ts";
import type { NetBackupHost, NetBackupSettings, NetBackupState } from "../model/netbackup.ts";

/** A server beside the id of its group: servers have a table of their own. */
export interface PlacedServer extends Server {
  readonly groupId: number;
}
/** A group without its servers. */
export type BareGroup = Omit<ServerGroup, "servers">;

/** One object before and after: `before` null: created, `after` null: deleted. Never both. */
export interface Step<T> {
  readonly before: T | null;
  readonly after: T | null;
}

export interface Delta {
  readonly groups: readonly Step<BareGroup>[];
  readonly servers: readonly Step<PlacedServer>[];
  readonly healthChecks: readonly Step<HealthCheck>[];
  readonly rules: readonly Step<Rule>[];
  /** What was said about NetBackup, as a whole; absent: it stayed. Deltas of older programs have neither. */
  readonly netbackup?: { readonly before: NetBackupSettings; readonly after: NetBackupSettings };
  readonly netbackupHosts?: readonly Step<NetBackupHost>[];
}

/** Steps that lead from `before` to `after`; deletions and changes in the old order, then creations in the new one. */
export function diffConfigs(before: Config, after: Config): Delta {
  const oldGroups = byId(before.groups);
  const groupSteps = diffLists(before.groups, after.groups);
  const servers: Step<PlacedServer>[] = [];
  for (const step of groupSteps) {
    const groupId = (step.before ?? step.after)!.id;
    const oldServers = step.before?.servers ?? [];
    const newServers = step.after?.servers ?? [];
    if (oldServers === newServers) continue;
    for (const server of diffLists(oldServers, newServers)) {
      servers.push({ before: place(server.before, groupId), after: place(server.after, groupId) });
    }
  }
  const groups: Step<BareGroup>[] = [];
  for (const { before: was, after: is } of groupSteps) {
    const oldBare = was === null ? null : bare(was);
    const newBare = is === null ? null : bare(is);
    const same =
      oldBare !== null &&
      newBare !== null &&
      oldBare.name === newBare.name &&
      oldBare.lastNumber === newBare.lastNumber &&
      oldGroups.has(newBare.id);
    if (!same) groups.push({ before: oldBare, after: newBare });
  }
  return {
    groups,
    servers,
    healthChecks: diffLists(before.healthChecks, after.healthChecks),
    rules: diffLists(before.rules, after.rules),
    ...diffNetBackup(before.netbackup, after.netbackup),
  };
}

function diffNetBackup(before: NetBackupState, after: NetBackupState): Pick<Delta, "netbackup" | "netbackupHosts"> {
  if (before === after) return {};
  const hosts = diffLists(before.hosts, after.hosts);
  return {
    netbackup: { before: settingsOf(before), after: settingsOf(after) },
    ...(hosts.length > 0 && { netbackupHosts: hosts }),
  };
}

const settingsOf = ({ hosts: _, ...settings }: NetBackupState): NetBackupSettings => settings;

function diffLists<T extends { readonly id: number }>(before: readonly T[], after: readonly T[]): Step<T>[] {
  if (before === after) return [];
  const steps: Step<T>[] = [];
  const oldById = byId(before);
  const newById = byId(after);
  for (const was of before) {
    const is = newById.get(was.id) ?? null;
    if (is !== was) steps.push({ before: was, after: is });
  }
  for (const is of after) if (!oldById.has(is.id)) steps.push({ before: null, after: is });
  return steps;
}

const byId = <T extends { readonly id: number }>(list: readonly T[]): Map<number, T> =>
  new Map(list.map((item) => [item.id, item]));

const place = (server: Server | null, groupId: number): PlacedServer | null =>
  server === null ? null : { ...server, groupId };

const bare = (group: ServerGroup): BareGroup => ({ id: group.id, name: group.name, lastNumber: group.lastNumber });
