import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { MIGRATIONS, SCHEMA_VERSION } from "../../src/control/schema.ts";
import { type OpenedStore, openStore, SaveFailed } from "../../src/control/store.ts";
import { undo } from "../../src/control/undo.ts";
import type { Config, HealthCheck } from "../../src/model/config.ts";
import { EMPTY_CONFIG } from "../../src/model/config.ts";
import { type NetBackupHost, type NetBackupState, NO_NETBACKUP } from "../../src/model/netbackup.ts";
import { propertySeed } from "../support/random.ts";
import { config, group, rule, server, threeServers, v4 } from "./configs.ts";

let directory: string;
const open = (): OpenedStore => {
  const opened = openStore(directory);
  if (!opened.ok) throw new Error(opened.failure.text);
  return opened.value;
};
const refusal = (where = directory): string => {
  const opened = openStore(where);
  if (!opened.ok) return opened.failure.text;
  opened.value.close();
  throw new Error("the store opened");
};
const CHECK: HealthCheck = {
  id: 3,
  name: "h1",
  test: { kind: "tcp", text: "TCP" },
  timeoutSeconds: 5,
  count: 3,
  intervalSeconds: 30,
  defaultPing: true,
};
const change = (command: string) => ({ atMs: 1, who: "test", command });

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ilb-store-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe("what was saved comes back", () => {
  test("a new directory holds the empty configuration", () => {
    const store = open();
    expect(store.load()).toEqual(EMPTY_CONFIG);
    store.close();
  });

  test("a start that is refused takes back what it has made, and nothing else", async () => {
    const fresh = join(directory, "a/b/c");
    const refused = openStore(fresh);
    if (!refused.ok) throw new Error(refused.failure.text);
    await refused.value.save(EMPTY_CONFIG, threeServers(), change("create-rule r1"));
    refused.value.abandon();
    expect(existsSync(join(directory, "a"))).toBe(false);

    mkdirSync(fresh, { recursive: true });
    writeFileSync(join(fresh, "other"), "of somebody else");
    const again = openStore(fresh);
    if (!again.ok) throw new Error(again.failure.text);
    again.value.abandon();
    expect(readdirSync(fresh)).toEqual(["other"]);
  });

  test("a start that is refused keeps a database that was there", async () => {
    const store = open();
    await store.save(EMPTY_CONFIG, threeServers(), change("create-rule r1"));
    store.close();
    open().abandon();
    const again = open();
    expect(again.load()).toEqual(threeServers());
    again.close();
  });

  test("ILB-046 ILB-057 ILB-221 ids, numbers, admin state, order and every field survive a restart", async () => {
    const full = fullConfig();
    const store = open();
    await store.save(EMPTY_CONFIG, full, change("import-config -"));
    store.close();
    const again = open();
    expect(again.load()).toEqual(full);
    again.close();
  });

  test("ILB-300 a rule that is not sticky is there after a restart and not sticky", async () => {
    const store = open();
    await store.save(EMPTY_CONFIG, threeServers(), change("create-rule r1"));
    store.close();
    const again = open();
    expect(again.load().rules[0]!.stickyMask).toBeNull();
    again.close();
  });

  test("any row of changes ends in the configuration that was saved last", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(configArbitrary(), { minLength: 1, maxLength: 5 }), async (configs) => {
        const where = mkdtempSync(join(directory, "p-"));
        const opened = openStore(where);
        if (!opened.ok) throw new Error(opened.failure.text);
        let before: Config = EMPTY_CONFIG;
        for (const after of configs) {
          await opened.value.save(before, after, change("x"));
          expect(opened.value.load()).toEqual(after);
          before = after;
        }
        opened.value.close();
      }),
      { seed: propertySeed(), numRuns: 25 },
    );
  });

  test("NBU-018 NBU-047 what was said about NetBackup survives a restart, host by host", async () => {
    const host = (id: number, name: string, roles: NetBackupHost["roles"]): NetBackupHost => ({
      id,
      name,
      address: v4("192.0.2.0"),
      prefixLength: 24,
      roles,
      facts: { resilient: true, domain: "east" },
    });
    const state: NetBackupState = {
      ...NO_NETBACKUP,
      mode: "enforce",
      natGuard: "warn",
      features: { grt: false },
      settings: { "opscenter-web-pair": "2", nbac: true },
      ports: { services: { nbcssc: 5700 }, windows: { SERVER_PORT_WINDOW: { min: 5000, max: 5100 } } },
      hosts: [host(90, "master1", [{ role: "master-server", version: "7.5" }]), host(91, "any", [])],
    };
    const after = config({
      rules: [rule(4, "r1", 1, { forced: true })],
      groups: [group(1, "sg1", [])],
      netbackup: state,
    });
    const fewer = { ...after, netbackup: { ...state, hosts: [host(91, "ANY", [])] } };
    const store = open();
    await store.save(EMPTY_CONFIG, after, change("a"));
    store.close();
    const again = open();
    expect(again.load()).toEqual(after);
    await again.save(after, fewer, change("b"));
    expect(again.load()).toEqual(fewer);
    expect(undo(fewer, again.deltasAfter(1)!).netbackup).toEqual(state);
    expect(undo(fewer, again.deltasAfter(0)!).netbackup).toEqual(NO_NETBACKUP);
    again.close();
  });

  test("additions of a health check come back as they were said, and a rollback knows them too", async () => {
    const store = open();
    const judging = { rise: 2, panicPercent: 0, initial: "down", passive: false } as const;
    const said = { ...threeServers(), healthChecks: [{ ...CHECK, judging }] };
    await store.save(EMPTY_CONFIG, said, change("a"));
    const without = { ...said, healthChecks: [] };
    await store.save(said, without, change("b"));
    await store.save(without, said, change("c"));
    store.close();
    const again = open();
    expect(again.load()).toEqual(said);
    expect(undo(again.load(), again.deltasAfter(1)!).healthChecks).toEqual(said.healthChecks);
    again.close();
  });

  test("what a test that talks asks for survives a restart and a way back in the history", async () => {
    const store = open();
    const options = { path: "/health", status: [{ min: 200, max: 204 }], host: "www.example.com", verify: true };
    const asked = { ...CHECK, test: { kind: "https", text: "HTTPS", options } } as const;
    const said = { ...threeServers(), healthChecks: [asked] };
    await store.save(EMPTY_CONFIG, said, change("a"));
    await store.save(said, { ...said, healthChecks: [] }, change("b"));
    expect(undo(store.load(), store.deltasAfter(1)!).healthChecks).toEqual([asked]);
    await store.save({ ...said, healthChecks: [] }, said, change("c"));
    store.close();
    const again = open();
    expect(again.load()).toEqual(said);
    again.close();
  });

  test("a database of the first schema opens with nothing said about NetBackup, and its history goes back", () => {
    const db = new Database(join(directory, "ilb.db"), { create: true });
    db.run(MIGRATIONS[0]!);
    db.run("PRAGMA application_id=0x494c4231");
    db.run("PRAGMA user_version=1");
    db.run("INSERT INTO server_groups VALUES (1, 'sg1', 0)");
    db.run(
      "INSERT INTO rules VALUES (2,'r1',1,x'c000020a','tcp',80,80,'roundrobin','HALF-NAT',NULL,NULL,NULL,1,NULL,NULL,0,0,0)",
    );
    db.run("INSERT INTO health_checks VALUES (3, 'h1', 'tcp', 'TCP', 5, 3, 30, 1)");
    const { forced: _, ...old } = rule(2, "r1", 1);
    const step = { before: null, after: { ...old, vip: { family: 4, value: "3221225994" } } };
    const gone = { before: { ...step.after, id: 7, name: "gone" }, after: null };
    const delta = JSON.stringify({ groups: [], servers: [], healthChecks: [], rules: [step, gone] });
    db.query("INSERT INTO history (at_ms, who, command, delta) VALUES (1,'test','x',?)").run(delta);
    db.close();
    const store = open();
    const loaded = store.load();
    expect([loaded.netbackup, loaded.rules[0]?.forced]).toEqual([NO_NETBACKUP, false]);
    expect(loaded.healthChecks).toEqual([CHECK]);
    expect(undo(loaded, store.deltasAfter(0)!).rules.map(({ name, forced }) => [name, forced])).toEqual([
      ["gone", false],
    ]);
    store.close();
  });

  test("a name that goes and comes back in one change meets no leftover", async () => {
    const store = open();
    const before = threeServers();
    const after = config({
      groups: [group(11, "SG1", [server(12, 0, "192.0.2.10")])],
      rules: [rule(13, "R1", 11)],
    });
    await store.save(EMPTY_CONFIG, before, change("a"));
    await store.save(before, after, change("b"));
    expect(store.load()).toEqual(after);
    store.close();
  });
});

describe("history and audit", () => {
  test("a change leaves who, command and what it did, enough to go back", async () => {
    const store = open();
    const before = threeServers();
    await store.save(EMPTY_CONFIG, before, change("import-config -"));
    const disabled = {
      ...before,
      groups: [
        { ...before.groups[0]!, servers: before.groups[0]!.servers.map((s, i) => (i ? s : { ...s, enabled: false })) },
      ],
    };
    await store.save(before, disabled, { atMs: 7, who: "uid 1000 (alice)", command: "disable-server _sg1.0" });
    const [last] = store.history(10);
    expect(last).toMatchObject({ atMs: 7, who: "uid 1000 (alice)", command: "disable-server _sg1.0" });
    expect(last!.delta).toEqual({
      groups: [],
      healthChecks: [],
      rules: [],
      servers: [
        {
          before: {
            id: 2,
            groupId: 1,
            number: 0,
            address: { family: 4, value: "3221225994" },
            ports: null,
            enabled: true,
          },
          after: {
            id: 2,
            groupId: 1,
            number: 0,
            address: { family: 4, value: "3221225994" },
            ports: null,
            enabled: false,
          },
        },
      ],
    });
    expect(store.auditLog(1)).toEqual([
      { atMs: 7, who: "uid 1000 (alice)", command: "disable-server _sg1.0", result: "ok" },
    ]);
    store.close();
  });

  test("a refusal is audited without a change", () => {
    const store = open();
    expect(store.audit({ ...change("delete-rule -a"), result: "E-AUTH" })).toBe(true);
    store.close();
    const again = open();
    expect(again.auditLog(5)).toEqual([{ atMs: 1, who: "test", command: "delete-rule -a", result: "E-AUTH" }]);
    expect(again.history(5)).toEqual([]);
    again.close();
  });
});

describe("what cannot be saved changes nothing", () => {
  test("a change of thousands of rules is made ready in turns, and what is recorded meanwhile is kept without it", async () => {
    const store = open();
    const rules = Array.from({ length: 20_000 }, (_, i) => rule(100 + i, `r${i}`, 1, { ports: { min: i, max: i } }));
    const many = config({ nextId: 100_000, groups: [group(1, "g", [server(2, 0, "192.0.2.10")])], rules });
    let isSaved = false;
    const saving = store.save(EMPTY_CONFIG, many, change("import-config -")).then(() => {
      isSaved = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(isSaved).toBe(false);
    expect(store.load()).toEqual(EMPTY_CONFIG);
    expect(store.audit({ ...change("meanwhile"), result: "E-AUTH" })).toBe(true);
    await saving;
    expect(store.auditLog(9).map(({ command }) => command)).toEqual(["import-config -", "meanwhile"]);
    expect(undo(store.load(), store.deltasAfter(0)!)).toMatchObject({ groups: [], rules: [] });
    store.close();
    const again = open();
    expect(again.load()).toEqual(many);
    again.close();
  });

  test("ILB-109 a full disk throws SaveFailed and the old configuration stays, also in the file", async () => {
    const store = open();
    await store.save(EMPTY_CONFIG, threeServers(), change("a"));
    const db = (store as unknown as { db: Database }).db;
    const pages = db.query<{ page_count: number }, []>("PRAGMA page_count").get()!.page_count;
    db.run(`PRAGMA max_page_count=${pages}`);
    const many = config({
      groups: [
        group(
          1,
          "big",
          Array.from({ length: 1000 }, (_, i) => server(i + 100, i, `192.0.2.${i % 250}`)),
        ),
      ],
      nextId: 5000,
    });
    await expect(store.save(threeServers(), many, change("b"))).rejects.toThrow(SaveFailed);
    expect(store.load()).toEqual(threeServers());
    db.run("PRAGMA max_page_count=1000000");
    await store.save(store.load(), many, change("c"));
    expect(store.load()).toEqual(many);
    store.close();
  });
});

describe("files that are not ours to use are refused with one line and left as they are", () => {
  test("a second daemon on the same directory", async () => {
    const store = open();
    expect(refusal()).toBe(
      `${directory}/ilb.db is in use by another ilbd: stop that one or name another directory with --state`,
    );
    await store.save(EMPTY_CONFIG, threeServers(), change("the first goes on"));
    store.close();
    open().close();
  });

  test("text instead of a database", () => {
    writeFileSync(join(directory, "ilb.db"), "this is no database, it is a letter to a friend\n".repeat(30));
    const before = readFileSync(join(directory, "ilb.db"));
    expect(refusal()).toContain(`${directory}/ilb.db is damaged (file is not a database): restore it from a backup`);
    expect(readFileSync(join(directory, "ilb.db"))).toEqual(before);
    expect(existsSync(join(directory, "ilb.db-wal"))).toBe(false);
  });

  test("a database with pages of noise", async () => {
    const store = open();
    await store.save(EMPTY_CONFIG, threeServers(), change("a"));
    store.close();
    const bytes = readFileSync(join(directory, "ilb.db"));
    bytes.fill(0xa5, 4096, Math.min(bytes.length, 16384));
    writeFileSync(join(directory, "ilb.db"), bytes);
    expect(refusal()).toContain("is damaged");
    expect(readFileSync(join(directory, "ilb.db"))).toEqual(bytes);
  });

  test("another program's database", () => {
    const other = new Database(join(directory, "ilb.db"), { create: true });
    other.run("CREATE TABLE recipes (name TEXT)");
    other.close();
    expect(refusal()).toContain("is no ILB database");
  });

  test("a newer schema", () => {
    open().close();
    const db = new Database(join(directory, "ilb.db"));
    db.run(`PRAGMA user_version=${SCHEMA_VERSION + 6}`);
    db.close();
    expect(refusal()).toContain(
      `was written by a newer ilbd (schema ${SCHEMA_VERSION + 6}, this one knows ${SCHEMA_VERSION})`,
    );
  });

  test("a state directory that is a file", () => {
    const path = join(directory, "file");
    writeFileSync(path, "x");
    expect(refusal(path)).toContain(`cannot write state directory ${path}`);
  });
});

test("an interrupted creation leaves a file that the next start completes", () => {
  writeFileSync(join(directory, "ilb.db"), "");
  const store = open();
  expect(store.load()).toEqual(EMPTY_CONFIG);
  store.close();
});

test("the database belongs to its owner alone", () => {
  open().close();
  expect(statSync(join(directory, "ilb.db")).mode & 0o777).toBe(0o600);
});

test("every released schema step still runs on an empty file", () => {
  const db = new Database(":memory:");
  for (const step of MIGRATIONS) db.run(step);
  expect(db.query<{ n: number }, []>("SELECT count(*) AS n FROM sqlite_schema").get()!.n).toBeGreaterThan(5);
  db.close();
});

function fullConfig(): Config {
  return config({
    nextId: 90,
    groups: [
      group(
        1,
        "sg1",
        [server(5, 7, "192.0.2.11", { enabled: false }), server(9, 3, "192.0.2.10", { ports: { min: 1, max: 9 } })],
        7,
      ),
      group(2, "empty", []),
    ],
    healthChecks: [
      {
        id: 3,
        name: "hc1",
        test: { kind: "tcp", text: "TCP" },
        timeoutSeconds: 2,
        count: 3,
        intervalSeconds: 10,
        defaultPing: true,
      },
      {
        id: 8,
        name: "hc2",
        test: { kind: "external", text: `/opt/${"x".repeat(300)}` },
        timeoutSeconds: 5,
        count: 3,
        intervalSeconds: 30,
        defaultPing: false,
      },
    ],
    rules: [
      rule(20, "r1", 1, {
        type: "NAT",
        enabled: false,
        proxySource: { first: v4("203.0.113.1"), last: v4("203.0.113.5") },
        stickyMask: 0,
        healthCheckId: 3,
        healthCheckPort: "ANY",
        connDrainSeconds: 4_294_967_295,
        natTimeoutSeconds: 5,
        persistTimeoutSeconds: 6,
      }),
      rule(21, "r2", 1, {
        vip: { family: 6, value: 0x20010db8_0001_0000_0000_0000_0000_0001n },
        healthCheckId: 8,
        healthCheckPort: 8080,
      }),
    ],
  });
}

function configArbitrary(): fc.Arbitrary<Config> {
  return fc
    .record({
      servers: fc.array(
        fc.record({
          number: fc.integer({ min: 0, max: 999 }),
          octet: fc.integer({ min: 1, max: 254 }),
          enabled: fc.boolean(),
        }),
        { maxLength: 8 },
      ),
      rules: fc.array(fc.record({ enabled: fc.boolean(), sticky: fc.option(fc.integer({ min: 0, max: 32 })) }), {
        maxLength: 4,
      }),
      base: fc.integer({ min: 1, max: 3 }),
    })
    .map(({ servers, rules, base }) =>
      config({
        nextId: base * 100,
        groups: [
          group(
            base,
            "g",
            servers.map((s, i) => server(base + 1 + i, s.number, `192.0.2.${s.octet}`, { enabled: s.enabled })),
          ),
        ],
        rules: rules.map((r, i) => rule(base * 20 + i, `r${i}`, base, { enabled: r.enabled, stickyMask: r.sticky })),
      }),
    );
}
