/**
 * Hosts sorted by what flows can tell of them. The catalogue compares versions and facts with few values, so hundreds of
 * hosts of as many versions are a handful of kinds, and pairs of kinds are what a policy is judged by. Pure.
 */
import type { FactValue, NetBackupHost } from "../model/netbackup.ts";
import { CATALOGUE } from "./catalogue.ts";
import { compare } from "./condition.ts";
import { type End, endOf } from "./flows.ts";
import type { Comparison, Expression } from "./schema.ts";

/** Hosts that flows cannot tell apart. */
export interface HostKind {
  /** As of the first of them. */
  readonly end: End;
  /** In creation order, at least one. */
  readonly hosts: readonly NetBackupHost[];
}

const VERSION = "version";

function comparisonsIn(expression: Expression): Comparison[] {
  if ("all" in expression) return expression.all.flatMap(comparisonsIn);
  if ("any" in expression) return expression.any.flatMap(comparisonsIn);
  return "not" in expression ? comparisonsIn(expression.not) : [expression];
}

/** What the catalogue asks of hosts, by the name of the fact, whichever end it is asked of. */
function comparisonsOfHosts(): ReadonlyMap<string, readonly Comparison[]> {
  const { flows, services, compat } = CATALOGUE;
  const expressions = flows.flatMap(({ when, whenVersion }) => [when, whenVersion]).filter((one) => one !== undefined);
  const limits = [compat.before, ...services.flatMap(({ since, before }) => [since, before])];
  const versions = new Set(limits.filter((version) => version !== undefined));
  const asked: Comparison[] = [
    ...expressions.flatMap(comparisonsIn).filter(({ fact }) => /^(source|destination|either)\./.test(fact)),
    ...[...versions].map((value) => ({ fact: `either.${VERSION}`, op: "lt", value }) as const),
  ];
  return Map.groupBy(asked, ({ fact }) => fact.slice(fact.indexOf(".") + 1));
}

const ASKED = comparisonsOfHosts();

/** What flows see of a value: the answers to all that is asked of it; the value itself where ends are compared. */
function seen(name: string, value: FactValue): string {
  const asked = ASKED.get(name) ?? [];
  if (asked.some(({ op }) => op === "differs")) return `=${value}`;
  return asked.map((comparison) => Number(compare(comparison, value))).join("");
}

/** The kinds, in the order of their first hosts. */
export function kindsOf(hosts: readonly NetBackupHost[]): HostKind[] {
  const kinds = new Map<string, { readonly end: End; readonly hosts: NetBackupHost[] }>();
  for (const host of hosts) {
    const roles = host.roles.map(({ role, version }) => [role, version === null ? "" : `@${seen(VERSION, version)}`]);
    const facts = Object.entries(host.facts).map(([name, value]) => [name, seen(name, value)]);
    const key = JSON.stringify([roles.map(String).sort(), facts.map(String).sort()]);
    const known = kinds.get(key);
    if (known === undefined) kinds.set(key, { end: endOf(host), hosts: [host] });
    else known.hosts.push(host);
  }
  return [...kinds.values()];
}
