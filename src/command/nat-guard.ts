/**
 * What the guard against translating NetBackup's ports does to commands: refuse, warn or nothing, by the site's setting.
 * Which ports are NetBackup's is netbackup/guard.ts. Configurations that are restored are not asked about.
 */
import type { Config, PortRange, Rule } from "../model/config.ts";
import { findGroup, findRule, groupOf, rulesOfGroup } from "../model/lookup.ts";
import { type NetBackupState, NO_NETBACKUP } from "../model/netbackup.ts";
import { ok, type Result } from "../model/result.ts";
import { type GuardedPort, type GuardedRule, guardedPort, rolePort, translates } from "../netbackup/guard.ts";
import type { AddServer, Change, CreateRule } from "./command.ts";
import { failed } from "./errors.ts";

const refuse = (name: string, { port, service }: GuardedPort, what: string): Result<never> =>
  failed("E-NATGUARD", name, String(port), service, what);

/** Refuses a rule on NetBackup's ports that translates, unless it is forced or the site does not want that. */
export function checkRule(
  state: NetBackupState,
  rule: Pick<CreateRule, "name" | "forced"> & GuardedRule,
  servers: readonly { readonly ports: PortRange | null }[],
): Result<void> {
  if (rule.forced || state.natGuard !== "refuse") return ok(undefined);
  const found = guardedPort(rule, servers, state);
  return found === null ? ok(undefined) : refuse(rule.name, found, "create the rule");
}

/** Refuses a server that brings such a port into a rule. @returns whether the rule is forced by it from now on */
export function checkAddedServer(
  state: NetBackupState,
  rule: Rule,
  server: { readonly ports: PortRange | null },
  forced: boolean,
): Result<boolean> {
  if (rule.forced || server.ports === null) return ok(false);
  const found = guardedPort({ ...rule, ports: server.ports }, [], state);
  if (found === null) return ok(false);
  if (forced) return ok(true);
  return state.natGuard === "refuse" ? refuse(rule.name, found, "add the server") : ok(false);
}

const warning = (name: string, { port, service }: GuardedPort): string =>
  `rule ${name}: port ${port} (${service}): NetBackup does not support NAT or PAT (TECH15006)`;

/** What is said of a rule that was made or has got a server: a line when a port of NetBackup's is translated now. */
function remarksOnRule(config: Config, rule: Rule): string[] {
  const { netbackup } = config;
  if (rule.forced || netbackup.natGuard === "off" || !translates(rule)) return [];
  const { servers } = groupOf(config, rule);
  const found = guardedPort(rule, servers, netbackup);
  if (found !== null) return [`warning: ${warning(rule.name, found)}`];
  const ends = servers.map((server) => ({ address: server.address, ports: server.ports ?? rule.ports }));
  const bound = rolePort(rule, [{ address: rule.vip, ports: rule.ports }, ...ends], netbackup);
  return bound === null ? [] : [`warning: ${warning(rule.name, bound)}; host ${bound.host} has a role that uses it`];
}

const rulesWith = (config: Config, { group: name }: AddServer): Iterable<Rule> => {
  const group = findGroup(config, name);
  return group === undefined ? [] : rulesOfGroup(config, group.id);
};

/** The rules that a change may have brought a port or an address into. */
function rulesTouched(config: Config, change: Change): Iterable<Rule> {
  if (change.kind === "add-server") return rulesWith(config, change);
  const rule = change.kind === "create-rule" ? findRule(config, change.name) : undefined;
  return rule === undefined ? [] : [rule];
}

/** Remarks on changes that were made, a line each, one for a rule at the most. @param config after them */
export function guardRemarks(config: Config, changes: readonly Change[]): string[] {
  const { natGuard, hosts } = config.netbackup;
  // What could be remarked was refused, and nothing is known of addresses.
  if (natGuard === "refuse" && hosts.length === 0) return [];
  const rules = new Set(changes.flatMap((change) => [...rulesTouched(config, change)]));
  return [...rules].flatMap((rule) => remarksOnRule(config, rule));
}

/**
 * Whether the command that makes this rule again has to say `-F`: it was forced, or it was made where the guard only
 * warns or is off, or before its port became NetBackup's, and a guard that refuses would not take it without. That of
 * another box knows the default ports: `set-port` is not part of an export.
 */
export function needsForce(config: Config, rule: Rule): boolean {
  const { servers } = groupOf(config, rule);
  return rule.forced || [config.netbackup, NO_NETBACKUP].some((state) => guardedPort(rule, servers, state) !== null);
}

/** The one more line of `show-rule -f`; null for a rule that was not forced. */
export const FORCED_LINE = { name: "NAT-GUARD", value: "forced" } as const;
