/** Rows of the database that keep what was said about NetBackup. Values only; the SQL is the store's (control/store.ts). */
import { addressBytes, addressFromBytes } from "../model/address.ts";
import { type NetBackupHost, type NetBackupSettings, NO_NETBACKUP } from "../model/netbackup.ts";

export interface NetBackupHostRow {
  readonly id: number;
  readonly name: string;
  readonly address: Uint8Array;
  readonly prefix_length: number;
  /** JSON. */
  readonly roles: string;
  /** JSON. */
  readonly facts: string;
}

/** The row of a host. */
export const netbackupHostRow = (host: NetBackupHost): NetBackupHostRow => ({
  id: host.id,
  name: host.name,
  address: addressBytes(host.address),
  prefix_length: host.prefixLength,
  roles: JSON.stringify(host.roles),
  facts: JSON.stringify(host.facts),
});

/** The host of a row, frozen. */
export const netbackupHostOf = (row: NetBackupHostRow): NetBackupHost =>
  Object.freeze({
    id: row.id,
    name: row.name,
    address: addressFromBytes(row.address),
    prefixLength: row.prefix_length,
    roles: parseFrozen(row.roles) as NetBackupHost["roles"],
    facts: parseFrozen(row.facts) as NetBackupHost["facts"],
  });

/** The settings of their JSON text, which the daemon wrote itself; what an older one did not know has its default. */
export function parseSettings(text: string): NetBackupSettings {
  const { hosts: _, ...defaults } = NO_NETBACKUP;
  return Object.freeze({ ...defaults, ...(parseFrozen(text) as Partial<NetBackupSettings>) });
}

const parseFrozen = (text: string): unknown =>
  JSON.parse(text, (_key, value: unknown) =>
    typeof value === "object" && value !== null ? Object.freeze(value) : value,
  );
