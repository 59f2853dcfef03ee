/**
 * What is known of the health of every server in every rule that has a health check: the one source that show-hc-result
 * and HTTP read. Whoever probes implements `HealthSource`. `Unprobed` is the source of a daemon that does not probe:
 * every check has yet to run. Pure state; it sends nothing.
 */
import type { HealthResult } from "../command/host.ts";
import type { Config } from "../model/config.ts";
import { pairKey } from "./drain.ts";
import { EVERYONE_HEALTHY, type HealthView } from "./runtime.ts";

export interface HealthSource {
  /** Who gets no new flows under a configuration, which may not be in force yet; read whenever an image is made. */
  view(config: Config): HealthView;
  /** The configuration that is in force from now on; rules and servers that have gone are forgotten. */
  follow(config: Config, atMs: number): void;
  /** One result for every server of every rule with a health check, in any order. */
  results(): readonly HealthResult[];
}

/**
 * No check ever runs: un-init since it was made or enabled, disabled while its rule or server is. Who is down is what the
 * constructor's caller says.
 */
export class Unprobed implements HealthSource {
  private current: ReadonlyMap<string, HealthResult> = new Map();

  constructor(readonly view: (config: Config) => HealthView = () => EVERYONE_HEALTHY) {}

  follow(config: Config, atMs: number): void {
    const groups = new Map(config.groups.map((group) => [group.id, group]));
    const next = new Map<string, HealthResult>();
    for (const rule of config.rules) {
      if (rule.healthCheckId === null) continue;
      for (const server of groups.get(rule.groupId)?.servers ?? []) {
        const key = pairKey(rule.id, server.id);
        const status = rule.enabled && server.enabled ? "un-init" : "disabled";
        const was = this.current.get(key);
        // LAST of a check that never ran is when it was created or enabled; disabling moves nothing.
        const isAsBefore = was !== undefined && (was.status === status || status === "disabled");
        next.set(key, {
          ruleId: rule.id,
          serverId: server.id,
          status,
          fail: 0,
          lastAtMs: isAsBefore ? was.lastAtMs : atMs,
          nextAtMs: null,
          rttMicroseconds: 0,
          reason: null,
        });
      }
    }
    this.current = next;
  }

  results(): readonly HealthResult[] {
    return [...this.current.values()];
  }
}
