/**
 * The database schema as a row of numbered steps. `user_version` of the file says how many steps it has seen; opening
 * an older file runs the missing ones in one transaction, a newer file is refused (control/store.ts). A step that was
 * released is never edited: a change is a new step.
 */

/** "ILB1" as a number: tells our database from any other SQLite file (PRAGMA application_id). */
export const APPLICATION_ID = 0x494c4231;

/** Step N leads from version N to version N+1. */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE server_groups (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE, last_number INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE servers (
    id INTEGER PRIMARY KEY, group_id INTEGER NOT NULL REFERENCES server_groups(id) DEFERRABLE INITIALLY DEFERRED,
    number INTEGER NOT NULL, address BLOB NOT NULL, port_min INTEGER, port_max INTEGER, enabled INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX servers_by_group ON servers(group_id);
  CREATE TABLE health_checks (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE, kind TEXT NOT NULL, test TEXT NOT NULL,
    timeout_s INTEGER NOT NULL, count INTEGER NOT NULL, interval_s INTEGER NOT NULL, default_ping INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE rules (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE, enabled INTEGER NOT NULL,
    vip BLOB NOT NULL, protocol TEXT NOT NULL, port_min INTEGER NOT NULL, port_max INTEGER NOT NULL,
    algorithm TEXT NOT NULL, type TEXT NOT NULL, proxy_first BLOB, proxy_last BLOB, sticky_mask INTEGER,
    group_id INTEGER NOT NULL REFERENCES server_groups(id) DEFERRABLE INITIALLY DEFERRED,
    health_check_id INTEGER REFERENCES health_checks(id) DEFERRABLE INITIALLY DEFERRED, health_check_port TEXT,
    conn_drain_s INTEGER NOT NULL, nat_timeout_s INTEGER NOT NULL, persist_timeout_s INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE history (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, who TEXT NOT NULL, command TEXT NOT NULL,
    delta TEXT NOT NULL
  ) STRICT;
  CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, who TEXT NOT NULL, command TEXT NOT NULL,
    result TEXT NOT NULL
  ) STRICT;
  INSERT INTO meta VALUES ('nextId', 1);
  `,
  // What tests that talk ask for (model/config.ts TestOptions), as JSON; null: nothing was given.
  "ALTER TABLE health_checks ADD COLUMN options TEXT",
  // NetBackup: the settings as one JSON text, hosts by id; rules remember that they were forced past the guard.
  `
  CREATE TABLE netbackup_settings (id INTEGER PRIMARY KEY CHECK (id = 1), settings TEXT NOT NULL) STRICT;
  CREATE TABLE netbackup_hosts (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE, address BLOB NOT NULL,
    prefix_length INTEGER NOT NULL, roles TEXT NOT NULL, facts TEXT NOT NULL
  ) STRICT;
  ALTER TABLE rules ADD COLUMN forced INTEGER NOT NULL DEFAULT 0;
  `,
  // How results are judged (model/config.ts Judging), as JSON; null: nothing was said.
  "ALTER TABLE health_checks ADD COLUMN judging TEXT",
];

export const SCHEMA_VERSION = MIGRATIONS.length;
