/**
 * What an administrator has said about NetBackup around the box, as a value: hosts, mode, settings and ports. Part of
 * the Config. What roles, facts and flows mean is src/netbackup/; nothing here knows the catalogue.
 */
import type { Address } from "./address.ts";
import type { PortRange } from "./config.ts";

/** A role of the catalogue by its id, and the product version if it is known (`7.0.1`, canonical). */
export interface HostRole {
  readonly role: string;
  readonly version: string | null;
}

/** The value of a fact: true or false, or canonical text. */
export type FactValue = boolean | string;

/** An address prefix with what is known of the hosts behind it. */
export interface NetBackupHost {
  readonly id: number;
  readonly name: string;
  /** The address with every bit behind the prefix 0. */
  readonly address: Address;
  /** Bits, 0..32 or 0..128. */
  readonly prefixLength: number;
  /** At least one, no role twice. */
  readonly roles: readonly HostRole[];
  /** Host facts by their id (`resilient`, `model`, `firmware`, `console_mode`, `domain`). */
  readonly facts: Readonly<Record<string, FactValue>>;
}

export type PolicyMode = "off" | "monitor" | "enforce";

/** What is known of the site: by id of the catalogue. What is not there is not known. */
export interface SiteFacts {
  readonly features: Readonly<Record<string, boolean>>;
  readonly settings: Readonly<Record<string, FactValue>>;
}

/** Ports that the site has changed or alone can name. */
export interface SitePorts {
  /** By service id. */
  readonly services: Readonly<Record<string, number>>;
  /** Ranges by the name of the window. */
  readonly windows: Readonly<Record<string, PortRange>>;
}

/** Everything but the hosts. */
export interface NetBackupSettings extends SiteFacts {
  readonly mode: PolicyMode;
  /** What happens to NAT and HALF-NAT rules on NetBackup ports. */
  readonly natGuard: "refuse" | "warn" | "off";
  /** Traffic with one bound end. */
  readonly outside: "pass" | "drop";
  /** Flows of which it is not known whether they are needed. */
  readonly undecided: "permit" | "deny";
  readonly sourcePorts: "any" | "non-reserved";
  /** Ids of optional and disputed flows that are permitted all the same. */
  readonly permitted: readonly string[];
  readonly ports: SitePorts;
}

export interface NetBackupState extends NetBackupSettings {
  /** In creation order. */
  readonly hosts: readonly NetBackupHost[];
}

/** Nothing said: no host, the policy off, the guard refusing. */
export const NO_NETBACKUP: NetBackupState = Object.freeze({
  mode: "off",
  natGuard: "refuse",
  outside: "pass",
  undecided: "permit",
  sourcePorts: "any",
  permitted: Object.freeze([]),
  features: Object.freeze({}),
  settings: Object.freeze({}),
  ports: Object.freeze({ services: Object.freeze({}), windows: Object.freeze({}) }),
  hosts: Object.freeze([]),
});
