/** Export: a configuration as the commands that make it. Reading such a text is file.ts. */
import type { Config } from "../model/config.ts";
import { effectiveTimers, groupOf, healthCheckOf, sortedServers } from "../model/lookup.ts";
import type { Change } from "./command.ts";
import { needsForce } from "./nat-guard.ts";
import { printChange } from "./print.ts";

/** The commands that make this configuration: groups with their servers, then health checks, then rules. */
export function* exportChanges(config: Config): Generator<Change> {
  for (const group of config.groups) {
    yield { kind: "create-servergroup", name: group.name, servers: [] };
    for (const { address, ports } of sortedServers(group)) {
      yield { kind: "add-server", group: group.name, server: { address, ports }, forced: false };
    }
  }
  for (const { id, test, ...check } of config.healthChecks) {
    const options = test.options && { options: test.options };
    yield { kind: "create-healthcheck", ...check, test: test.text, ...options };
  }
  for (const rule of config.rules) {
    const { id, groupId, healthCheckId, ...same } = rule;
    const timers = effectiveTimers(rule);
    yield {
      ...same,
      kind: "create-rule",
      forced: needsForce(config, rule),
      group: groupOf(config, rule).name,
      healthCheck: healthCheckOf(config, rule)?.name ?? null,
      natTimeoutSeconds: timers.natTimeout,
      persistTimeoutSeconds: timers.persistTimeout,
    };
  }
}

/** export-config: one line per command, each with its newline. */
export function* exportLines(config: Config): Generator<string> {
  for (const change of exportChanges(config)) yield `${printChange(change)}\n`;
}
