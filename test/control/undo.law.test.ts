/** The law of the history: undoing what came after a change gives the configuration that it left, from the disk. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { apply } from "../../src/command/apply.ts";
import type { Change } from "../../src/command/command.ts";
import { collect, NO_DRAINS, nextDrains } from "../../src/control/drain.ts";
import { EMPTY_RUNTIME, EVERYONE_HEALTHY, nextRuntime } from "../../src/control/runtime.ts";
import { openStore, type Store } from "../../src/control/store.ts";
import { undo } from "../../src/control/undo.ts";
import { type Config, EMPTY_CONFIG } from "../../src/model/config.ts";
import { type NetBackupState, NO_NETBACKUP } from "../../src/model/netbackup.ts";
import { anyChange, anyConfig } from "../support/changes.ts";
import { propertySeed } from "../support/random.ts";
import { config, group, rule, server } from "./configs.ts";

const seed = propertySeed();
const NO_CONTEXT = { drainingNumbers: () => new Set<number>() };

async function withStore(body: (store: Store) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "ilb-undo-"));
  const opened = openStore(directory);
  if (!opened.ok) throw new Error(opened.failure.text);
  try {
    await body(opened.value);
  } finally {
    opened.value.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Some state of NetBackup's that follows from numbers: hosts with fresh ids, a mode, a feature. */
function anyNetBackup(picks: readonly number[], firstId: number): NetBackupState {
  if (picks.length % 2 === 0) return NO_NETBACKUP;
  const hosts = [...new Set(picks)].map((pick, i) => ({
    id: firstId + i,
    name: `host${pick}`,
    address: { family: 4 as const, value: BigInt(pick) },
    prefixLength: 32,
    roles: [{ role: "client", version: pick % 2 === 0 ? "7.5" : null }],
    facts: pick % 3 === 0 ? { resilient: true, domain: "east" } : {},
  }));
  return { ...NO_NETBACKUP, mode: "monitor", features: { grt: picks[0]! % 2 === 0 }, hosts };
}

/** Changes that often meet objects that exist: whole configurations, then switches and deletions by their names. */
function someChanges(config: Config, picks: readonly number[]): Change[] {
  const { rules, groups, healthChecks } = config;
  const at = <T>(list: readonly T[], pick: number): T | undefined => list[pick % Math.max(1, list.length)];
  return picks.flatMap((pick): Change[] => {
    const rule = at(rules, pick);
    const group = at(groups, pick);
    const check = at(healthChecks, pick);
    const server = group && at(group.servers, pick);
    const all: (Change | undefined)[] = [
      rule && { kind: pick % 2 === 0 ? "enable-rule" : "disable-rule", name: rule.name },
      rule && { kind: "delete-rule", name: rule.name },
      check && { kind: "delete-healthcheck", name: check.name },
      group && { kind: "delete-servergroup", name: group.name },
      group && server && { kind: "remove-server", group: group.name, serverId: `_${group.name}.${server.number}` },
      group && server && { kind: "add-server", group: group.name, server, forced: pick % 3 === 0 },
    ];
    const chosen = all[pick % all.length];
    return chosen === undefined ? [] : [chosen];
  });
}

const withoutNextId = ({ nextId, ...config }: Config): unknown => config;

test(`undoing gives every earlier configuration again (seed ${seed})`, async () => {
  await withStore(async (store) => {
    let current: Config = EMPTY_CONFIG;
    const after: Config[] = [current];
    const save = async (next: Config): Promise<void> => {
      if (next === current) return;
      await store.save(current, next, { atMs: 1, who: "test", command: `change ${after.length}` });
      current = next;
      after.push(next);
    };
    const parts = [anyConfig, fc.array(fc.nat(1000)), fc.array(anyChange)] as const;
    const property = fc.asyncProperty(...parts, async (config, picks, more) => {
      // Objects get ids that were never given out, as after an import.
      const shift = current.nextId;
      const moved = (id: number): number => id + shift;
      await save({
        nextId: moved(config.nextId) + picks.length,
        groups: config.groups.map((group) => ({
          ...group,
          id: moved(group.id),
          servers: group.servers.map((server) => ({ ...server, id: moved(server.id) })),
        })),
        healthChecks: config.healthChecks.map((check) => ({ ...check, id: moved(check.id) })),
        rules: config.rules.map((rule) => ({
          ...rule,
          id: moved(rule.id),
          groupId: moved(rule.groupId),
          healthCheckId: rule.healthCheckId === null ? null : moved(rule.healthCheckId),
        })),
        netbackup: anyNetBackup(picks, moved(config.nextId)),
      });
      for (const change of [...someChanges(current, picks), ...more]) {
        const next = apply(current, change, NO_CONTEXT);
        if (next.ok) await save(next.value);
      }
      const wanted = (shift * 7919) % after.length;
      const deltas = store.deltasAfter(wanted);
      expect(withoutNextId(undo(current, deltas!))).toEqual(withoutNextId(after[wanted]!));
    });
    await fc.assert(property, { seed, numRuns: 40 });
    expect(undo(current, store.deltasAfter(after.length - 1)!)).toBe(current);
    expect(store.deltasAfter(after.length)).toBeNull();
    const commands = [...store.records("history", 3)].map((record) => record.command);
    expect(commands).toEqual([3, 2, 1].map((back) => `change ${after.length - back}`));
  });
});

test("a pair that was deleted with flows and comes back is a member again and drains no more", () => {
  const gone = config({ groups: [group(1, "sg1", [server(2, 0, "192.0.2.10")])] });
  const whole = { ...gone, rules: [rule(3, "r1", 1, { connDrainSeconds: 30 })] };
  const situation = (of: Config) => ({ config: of, runtime: nextRuntime(EMPTY_RUNTIME, of, EVERYONE_HEALTHY) });
  const drains = nextDrains(NO_DRAINS, situation(whole), situation(gone), 1000);
  const [left] = gone.groups[0]!.servers;
  expect([...drains.get(3)!.servers.values()]).toEqual([{ server: left!, isMember: false, deadlineMs: 31_000 }]);
  expect(collect(drains, () => new Set([2]))).toBe(drains);
  expect(nextDrains(drains, situation(gone), situation(whole), 2000).size).toBe(0);
});
