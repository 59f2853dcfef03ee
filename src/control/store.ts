/**
 * The configuration on disk: one SQLite database in the state directory. A change is one transaction that is on the
 * disk (WAL, synchronous=FULL) before save() returns, with its history entry and audit record in the same transaction.
 * It decides nothing about configurations and knows no commands.
 *
 * The connection holds SQLite's exclusive lock as long as the daemon lives (locking_mode=EXCLUSIVE): a second daemon on
 * the same directory is refused, and a killed one leaves no lock behind, because the kernel owns it.
 */
import { Database, SQLiteError, type SQLQueryBindings } from "bun:sqlite";
import { closeSync, existsSync, mkdirSync, openSync, realpathSync, rmdirSync, rmSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import type { LogRecord } from "../command/host.ts";
import { Pace } from "../command/pace.ts";
import { addressBytes, addressFromBytes } from "../model/address.ts";
import type {
  Algorithm,
  Config,
  HealthCheck,
  HealthTest,
  Judging,
  PortRange,
  Protocol,
  Rule,
  RuleType,
  Server,
  TestOptions,
} from "../model/config.ts";
import { type NetBackupState, NO_NETBACKUP } from "../model/netbackup.ts";
import { fail, ok, type Result } from "../model/result.ts";
import { type Delta, diffConfigs, type PlacedServer, type Step } from "./delta.ts";
import { type NetBackupHostRow, netbackupHostOf, netbackupHostRow, parseSettings } from "./netbackup-rows.ts";
import { APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION } from "./schema.ts";
import { parseDelta } from "./undo.ts";

/** Who did what, as history and audit keep it. */
export interface ChangeRecord {
  /** Wall clock, milliseconds since the epoch. */
  readonly atMs: number;
  readonly who: string;
  /** Canonical command line. */
  readonly command: string;
}
export interface AuditRecord extends ChangeRecord {
  /** `ok`, or the code of the failure, e.g. `E-AUTH`. */
  readonly result: string;
}
export interface HistoryRecord extends ChangeRecord {
  readonly id: number;
  /** The change object by object, before and after (control/delta.ts); addresses as `{family, value}` with decimal text. */
  readonly delta: unknown;
}

export interface Store {
  /** The configuration as saved last. */
  load(): Config;
  /**
   * One transaction; on the disk when it resolves. Rejects with SaveFailed, then the database is as before. One save at a
   * time; others have their turn while a long one is made ready.
   */
  save(before: Config, after: Config, change: ChangeRecord): Promise<void>;
  /** Adds audit records that go with no change, e.g. a refusal, all or none. Never throws: reports false when they could not be written. */
  audit(...records: readonly AuditRecord[]): boolean;
  /** Newest first. */
  auditLog(limit: number): AuditRecord[];
  /** Newest first. */
  history(limit: number): HistoryRecord[];
  /** The newest `limit` records (null: all), oldest first, read page by page as they are taken. */
  records(kind: "audit" | "history", limit: number | null): Iterable<LogRecord>;
  /** The deltas of all changes after `id`, newest first; null when the history does not reach back to `id`. */
  deltasAfter(id: number): Iterable<Delta> | null;
  close(): void;
}

/** A Store on disk. */
export interface OpenedStore extends Store {
  /** Closes, and removes what opening has made, database and directories: for a start that is refused after it. */
  abandon(): void;
}

/** The database refused a change (disk full, read-only, damaged); nothing was written. */
export class SaveFailed extends Error {
  override readonly name = "SaveFailed";
}

/** Rows kept; the oldest go first. */
const KEEP_HISTORY = 10_000;
const KEEP_AUDIT = 100_000;
const FILE_NAME = "ilb.db";
/** Records that a listing holds in memory at a time. */
const PAGE_ROWS = 500;

/**
 * Opens (or creates) the database in `directory`. Fails with code E-STATE and one line that names file and way out;
 * then neither directory nor file was changed, except that a missing directory may have been created.
 */
export function openStore(directory: string): Result<OpenedStore> {
  const prepared = prepareFile(directory);
  if (!prepared.ok) return prepared;
  const { file } = prepared.value;
  let db: Database | null = null;
  try {
    db = new Database(file, { readwrite: true, create: false, strict: true });
    db.run("PRAGMA locking_mode=EXCLUSIVE");
    db.run("PRAGMA busy_timeout=0");
    const refused = inspect(db, file);
    if (refused !== null) {
      db.close();
      return fail("E-STATE", refused);
    }
    configure(db);
    migrate(db);
    return ok(new SqliteStore(db, prepared.value));
  } catch (error) {
    db?.close();
    return fail("E-STATE", describeOpenError(file, error));
  }
}

interface PreparedFile {
  readonly file: string;
  readonly isNew: boolean;
  /** The outermost directory that was missing; null: none was. */
  readonly madeDirectory: string | null;
}

/** Creates directory (0700) and file (0600) where missing; SQLite gives its side files the file's mode. */
function prepareFile(directory: string): Result<PreparedFile> {
  try {
    const made = mkdirSync(directory, { recursive: true, mode: 0o700 });
    const file = join(realpathSync(directory), FILE_NAME);
    const isNew = !existsSync(file);
    closeSync(openSync(file, "a+", 0o600));
    return ok({ file, isNew, madeDirectory: made === undefined ? null : realpathSync(made) });
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    return fail(
      "E-STATE",
      `cannot write state directory ${directory} (${reason}): make it writable for this user or name another with --state`,
    );
  }
}

/** Removes `innermost` and its parents up to `outermost`, as far as they are empty. */
function removeEmptyDirectories(innermost: string, outermost: string): void {
  for (let directory = innermost; directory.length >= outermost.length; directory = dirname(directory)) {
    try {
      rmdirSync(directory);
    } catch {
      return; // Somebody else has put something there.
    }
  }
}

/** @returns why the file is not ours to use, or null. Reads only. */
function inspect(db: Database, file: string): string | null {
  const version = pragmaNumber(db, "user_version");
  const application = pragmaNumber(db, "application_id");
  const tables = db.query<{ n: number }, []>("SELECT count(*) AS n FROM sqlite_schema").get()!.n;
  if (tables === 0 && version === 0) return null;
  if (application !== APPLICATION_ID)
    return `${file} is no ILB database: move it away or name another directory with --state`;
  if (version > SCHEMA_VERSION) {
    return `${file} was written by a newer ilbd (schema ${version}, this one knows ${SCHEMA_VERSION}): run that version or name another directory with --state`;
  }
  const check = db.query<{ quick_check: string }, []>("PRAGMA quick_check(1)").get()!.quick_check;
  if (check !== "ok") return damagedText(file, check);
  return null;
}

function configure(db: Database): void {
  db.run("PRAGMA journal_mode=WAL");
  db.run("PRAGMA synchronous=FULL");
  db.run("PRAGMA foreign_keys=ON");
}

function migrate(db: Database): void {
  const version = pragmaNumber(db, "user_version");
  // Also with nothing to do: the write takes the exclusive lock now, so that a second daemon is refused at its start.
  db.run("BEGIN IMMEDIATE");
  for (const step of MIGRATIONS.slice(version)) db.run(step);
  db.run(`PRAGMA application_id=${APPLICATION_ID}`);
  db.run(`PRAGMA user_version=${SCHEMA_VERSION}`);
  db.run("COMMIT");
}

const pragmaNumber = (db: Database, name: string): number =>
  Number(Object.values(db.query<Record<string, number>, []>(`PRAGMA ${name}`).get()!)[0]);

const damagedText = (file: string, detail: string): string =>
  `${file} is damaged (${detail.replaceAll("\n", " ")}): restore it from a backup, or move it away and start empty (--config FILE imports an exported configuration)`;

function describeOpenError(file: string, error: unknown): string {
  if (!(error instanceof SQLiteError)) return `cannot open ${file}: ${String(error)}`;
  const code = error.code ?? "";
  if (code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED"))
    return `${file} is in use by another ilbd: stop that one or name another directory with --state`;
  if (code.startsWith("SQLITE_NOTADB") || code.startsWith("SQLITE_CORRUPT")) return damagedText(file, error.message);
  return `cannot use ${file} (${error.message}): make the directory writable, free some space, or name another with --state`;
}

class SqliteStore implements OpenedStore {
  constructor(
    private readonly db: Database,
    private readonly prepared: PreparedFile,
  ) {}

  load(): Config {
    const nextId = this.db.query<{ value: number }, []>("SELECT value FROM meta WHERE key='nextId'").get()!.value;
    const serversByGroup = new Map<number, Server[]>();
    for (const row of this.db.query<ServerRow, []>("SELECT * FROM servers ORDER BY id").iterate()) {
      const list = serversByGroup.get(row.group_id) ?? [];
      list.push(serverOf(row));
      serversByGroup.set(row.group_id, list);
    }
    const groups = this.db.query<GroupRow, []>("SELECT * FROM server_groups ORDER BY id").all();
    return Object.freeze({
      nextId,
      groups: Object.freeze(
        groups.map((row) =>
          Object.freeze({
            id: row.id,
            name: row.name,
            lastNumber: row.last_number,
            servers: Object.freeze(serversByGroup.get(row.id) ?? []),
          }),
        ),
      ),
      healthChecks: Object.freeze(
        this.db.query<HealthCheckRow, []>("SELECT * FROM health_checks ORDER BY id").all().map(healthCheckOf),
      ),
      rules: Object.freeze(this.db.query<RuleRow, []>("SELECT * FROM rules ORDER BY id").all().map(ruleOf)),
      netbackup: this.loadNetBackup(),
    });
  }

  private loadNetBackup(): NetBackupState {
    const hosts = this.db.query<NetBackupHostRow, []>("SELECT * FROM netbackup_hosts ORDER BY id").all();
    const row = this.db.query<{ settings: string }, []>("SELECT settings FROM netbackup_settings").get();
    if (row === null && hosts.length === 0) return NO_NETBACKUP;
    const settings = row === null ? NO_NETBACKUP : parseSettings(row.settings);
    return Object.freeze({ ...settings, hosts: Object.freeze(hosts.map(netbackupHostOf)) });
  }

  async save(before: Config, after: Config, change: ChangeRecord): Promise<void> {
    assertCreationOrder(after);
    const delta = diffConfigs(before, after);
    const text = await deltaText(delta);
    // From here to the commit nothing else runs, so no other record can get into the transaction.
    try {
      this.db.run("BEGIN IMMEDIATE");
      this.writeDelta(delta);
      this.exec("UPDATE meta SET value=? WHERE key='nextId'", after.nextId);
      this.exec(
        "INSERT INTO history (at_ms, who, command, delta) VALUES (?,?,?,?)",
        change.atMs,
        change.who,
        change.command,
        text,
      );
      this.exec("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", KEEP_HISTORY);
      this.insertAudit({ ...change, result: "ok" });
      this.db.run("COMMIT");
    } catch (error) {
      if (this.db.inTransaction) this.db.run("ROLLBACK");
      throw new SaveFailed(error instanceof Error ? error.message : String(error));
    }
  }

  audit(...records: readonly AuditRecord[]): boolean {
    try {
      this.db.transaction(() => {
        for (const record of records) this.insertAudit(record);
      })();
      return true;
    } catch {
      return false;
    }
  }

  auditLog(limit: number): AuditRecord[] {
    return this.db
      .query<{ at_ms: number; who: string; command: string; result: string }, [number]>(
        "SELECT at_ms, who, command, result FROM audit ORDER BY id DESC LIMIT ?",
      )
      .all(limit)
      .map((row) => ({ atMs: row.at_ms, who: row.who, command: row.command, result: row.result }));
  }

  history(limit: number): HistoryRecord[] {
    return this.db
      .query<{ id: number; at_ms: number; who: string; command: string; delta: string }, [number]>(
        "SELECT id, at_ms, who, command, delta FROM history ORDER BY id DESC LIMIT ?",
      )
      .all(limit)
      .map((row) => ({
        id: row.id,
        atMs: row.at_ms,
        who: row.who,
        command: row.command,
        delta: JSON.parse(row.delta) as unknown,
      }));
  }

  *records(kind: "audit" | "history", limit: number | null): Generator<LogRecord> {
    const result = kind === "audit" ? "result" : "'ok'";
    // Pages, because a cursor that stays open would keep the log from being truncated for as long as a client reads.
    const page = this.db.query<{ id: number; at_ms: number; who: string; command: string; result: string }, number[]>(
      `SELECT id, at_ms, who, command, ${result} AS result FROM ${kind} WHERE id > ? ORDER BY id LIMIT ${PAGE_ROWS}`,
    );
    let after = limit === null ? 0 : this.lastId(kind) - limit;
    for (;;) {
      const rows = page.all(after);
      for (const { id, at_ms: atMs, ...same } of rows) yield { id, atMs, ...same };
      const last = rows.at(-1);
      if (last === undefined) return;
      after = last.id;
    }
  }

  deltasAfter(id: number): Iterable<Delta> | null {
    const { n } = this.db.query<{ n: number }, [number]>("SELECT count(*) AS n FROM history WHERE id > ?").get(id)!;
    return n === this.lastId("history") - id ? this.deltasDownTo(id) : null;
  }

  private *deltasDownTo(id: number): Generator<Delta> {
    const rows = this.db.query<{ delta: string }, [number]>("SELECT delta FROM history WHERE id > ? ORDER BY id DESC");
    for (const { delta } of rows.iterate(id)) yield parseDelta(delta);
  }

  /** Id of the newest record, 0 without any. Ids are given out without gaps. */
  private lastId(kind: "audit" | "history"): number {
    return this.db.query<{ id: number | null }, []>(`SELECT max(id) AS id FROM ${kind}`).get()?.id ?? 0;
  }

  close(): void {
    this.db.close();
  }

  abandon(): void {
    const { file, isNew, madeDirectory } = this.prepared;
    // While the lock is held: nobody else can have begun to use it.
    if (isNew) unlinkSync(file);
    this.db.close();
    if (!isNew) return;
    for (const suffix of ["-wal", "-shm"]) rmSync(`${file}${suffix}`, { force: true });
    if (madeDirectory !== null) removeEmptyDirectories(dirname(file), madeDirectory);
  }

  /** Deletions first, so that a name that goes and comes back in one change meets no unique index. */
  private writeDelta(delta: Delta): void {
    this.deleteGone("rules", delta.rules);
    this.deleteGone("servers", delta.servers);
    this.deleteGone("server_groups", delta.groups);
    this.deleteGone("health_checks", delta.healthChecks);
    this.putAll("server_groups", present(delta.groups).map(groupRow));
    this.putAll("servers", present(delta.servers).map(serverRow));
    this.putAll("health_checks", present(delta.healthChecks).map(healthCheckRow));
    this.putAll("rules", present(delta.rules).map(ruleRow));
    const hosts = delta.netbackupHosts ?? [];
    this.deleteGone("netbackup_hosts", hosts);
    this.putAll("netbackup_hosts", present(hosts).map(netbackupHostRow));
    const settings = delta.netbackup?.after;
    if (settings !== undefined) this.putAll("netbackup_settings", [{ id: 1, settings: JSON.stringify(settings) }]);
  }

  private deleteGone<T extends { readonly id: number }>(table: string, steps: readonly Step<T>[]): void {
    const statement = this.db.query(`DELETE FROM ${table} WHERE id=?`);
    for (const step of steps) if (step.after === null) statement.run(step.before!.id);
  }

  /** Inserts rows of one kind, or updates those of the same id. Table and column names are ours, values are bound. */
  private putAll(table: string, rows: readonly object[]): void {
    const [first] = rows;
    if (first === undefined) return;
    const columns = Object.keys(first);
    const updates = columns.filter((column) => column !== "id").map((column) => `${column}=excluded.${column}`);
    const statement = this.db.query(
      `INSERT INTO ${table} (${columns.join(",")}) VALUES (${columns.map(() => "?").join(",")}) ` +
        `ON CONFLICT(id) DO UPDATE SET ${updates.join(",")}`,
    );
    for (const row of rows) statement.run(...(Object.values(row) as SQLQueryBindings[]));
  }

  private insertAudit(record: AuditRecord): void {
    this.exec(
      "INSERT INTO audit (at_ms, who, command, result) VALUES (?,?,?,?)",
      record.atMs,
      record.who,
      record.command,
      record.result,
    );
    this.exec("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", KEEP_AUDIT);
  }

  private exec(sql: string, ...values: SQLQueryBindings[]): void {
    this.db.query(sql).run(...values);
  }
}

const present = <T>(steps: readonly Step<T>[]): T[] =>
  steps.flatMap((step) => (step.after === null ? [] : [step.after]));

/** Lists are in creation order and ids rise with creation, so the id column is the order. A breach is a bug. */
function assertCreationOrder(config: Config): void {
  const rising = (list: readonly { readonly id: number }[]): boolean =>
    list.every((item, i) => i === 0 || list[i - 1]!.id < item.id);
  const lists = [config.groups, config.healthChecks, config.rules, ...config.groups.map((group) => group.servers)];
  if (!lists.every(rising)) throw new Error("configuration is not in creation order");
}

/** A delta as the history keeps it (undo.ts parseDelta reads it). One of ten thousand rules is megabytes long. */
async function deltaText(delta: Delta): Promise<string> {
  const pace = new Pace();
  const parts: string[] = [];
  for (const [kind, steps] of Object.entries(delta)) {
    const isList = Array.isArray(steps);
    const texts: string[] = [];
    for (const step of isList ? steps : [steps]) {
      texts.push(JSON.stringify(step, bigintAsText));
      await pace.breathe();
    }
    parts.push(`${JSON.stringify(kind)}:${isList ? `[${texts.join(",")}]` : texts.join()}`);
  }
  return `{${parts.join(",")}}`;
}

/** JSON.stringify replacer: addresses hold bigints. */
const bigintAsText = (_key: string, value: unknown): unknown => (typeof value === "bigint" ? value.toString() : value);

// --- rows ---------------------------------------------------------------------------------------------------------

interface GroupRow {
  id: number;
  name: string;
  last_number: number;
}
interface ServerRow {
  id: number;
  group_id: number;
  number: number;
  address: Uint8Array;
  port_min: number | null;
  port_max: number | null;
  enabled: number;
}
interface HealthCheckRow {
  id: number;
  name: string;
  kind: string;
  test: string;
  options: string | null;
  timeout_s: number;
  count: number;
  interval_s: number;
  default_ping: number;
  judging: string | null;
}
interface RuleRow {
  id: number;
  name: string;
  enabled: number;
  vip: Uint8Array;
  protocol: string;
  port_min: number;
  port_max: number;
  algorithm: string;
  type: string;
  proxy_first: Uint8Array | null;
  proxy_last: Uint8Array | null;
  sticky_mask: number | null;
  group_id: number;
  health_check_id: number | null;
  health_check_port: string | null;
  conn_drain_s: number;
  nat_timeout_s: number;
  persist_timeout_s: number;
  forced: number;
}

const groupRow = (group: { id: number; name: string; lastNumber: number }): GroupRow => ({
  id: group.id,
  name: group.name,
  last_number: group.lastNumber,
});

const serverRow = (server: PlacedServer): ServerRow => ({
  id: server.id,
  group_id: server.groupId,
  number: server.number,
  address: addressBytes(server.address),
  port_min: server.ports?.min ?? null,
  port_max: server.ports?.max ?? null,
  enabled: Number(server.enabled),
});

const serverOf = (row: ServerRow): Server =>
  Object.freeze({
    id: row.id,
    number: row.number,
    address: addressFromBytes(row.address),
    ports: row.port_min === null ? null : range(row.port_min, row.port_max!),
    enabled: row.enabled !== 0,
  });

const healthCheckRow = (check: HealthCheck): HealthCheckRow => ({
  id: check.id,
  name: check.name,
  kind: check.test.kind,
  test: check.test.text,
  options: check.test.options === undefined ? null : JSON.stringify(check.test.options),
  timeout_s: check.timeoutSeconds,
  count: check.count,
  interval_s: check.intervalSeconds,
  default_ping: Number(check.defaultPing),
  judging: check.judging === undefined ? null : JSON.stringify(check.judging),
});

function testOf(row: HealthCheckRow): HealthTest {
  const kind = row.kind as HealthTest["kind"];
  if (row.options === null) return Object.freeze({ kind, text: row.test });
  const options = JSON.parse(row.options, (_, value: unknown) => Object.freeze(value)) as TestOptions;
  return Object.freeze({ kind, text: row.test, options });
}

const healthCheckOf = (row: HealthCheckRow): HealthCheck =>
  Object.freeze({
    id: row.id,
    name: row.name,
    test: testOf(row),
    timeoutSeconds: row.timeout_s,
    count: row.count,
    intervalSeconds: row.interval_s,
    defaultPing: row.default_ping !== 0,
    ...(row.judging !== null && { judging: Object.freeze(JSON.parse(row.judging) as Judging) }),
  });

const ruleRow = (rule: Rule): RuleRow => ({
  id: rule.id,
  name: rule.name,
  enabled: Number(rule.enabled),
  vip: addressBytes(rule.vip),
  protocol: rule.protocol,
  port_min: rule.ports.min,
  port_max: rule.ports.max,
  algorithm: rule.algorithm,
  type: rule.type,
  proxy_first: rule.proxySource === null ? null : addressBytes(rule.proxySource.first),
  proxy_last: rule.proxySource === null ? null : addressBytes(rule.proxySource.last),
  sticky_mask: rule.stickyMask,
  group_id: rule.groupId,
  health_check_id: rule.healthCheckId,
  health_check_port: rule.healthCheckPort === null ? null : String(rule.healthCheckPort),
  conn_drain_s: rule.connDrainSeconds,
  nat_timeout_s: rule.natTimeoutSeconds,
  persist_timeout_s: rule.persistTimeoutSeconds,
  forced: Number(rule.forced),
});

const ruleOf = (row: RuleRow): Rule =>
  Object.freeze({
    id: row.id,
    name: row.name,
    enabled: row.enabled !== 0,
    vip: addressFromBytes(row.vip),
    protocol: row.protocol as Protocol,
    ports: range(row.port_min, row.port_max),
    algorithm: row.algorithm as Algorithm,
    type: row.type as RuleType,
    proxySource:
      row.proxy_first === null
        ? null
        : Object.freeze({ first: addressFromBytes(row.proxy_first), last: addressFromBytes(row.proxy_last!) }),
    stickyMask: row.sticky_mask,
    groupId: row.group_id,
    healthCheckId: row.health_check_id,
    healthCheckPort: healthCheckPortOf(row.health_check_port),
    connDrainSeconds: row.conn_drain_s,
    natTimeoutSeconds: row.nat_timeout_s,
    persistTimeoutSeconds: row.persist_timeout_s,
    forced: row.forced !== 0,
  });

const range = (min: number, max: number): PortRange => Object.freeze({ min, max });

function healthCheckPortOf(text: string | null): Rule["healthCheckPort"] {
  if (text === null || text === "ANY" || text === "ALL") return text;
  return Number(text);
}
