/**
 * Health in a replay: nobody probes, `server-down` and `server-up` say what a check has found. Rotation and listings go by
 * that as in the daemon (specification F.1 and F.5): a check that is disabled knows nothing, and one that is enabled
 * begins anew. Rules without a health check are treated alike. Sends nothing, knows no time of its own.
 */
import type { HealthResult } from "../command/host.ts";
import { pairKey } from "../control/drain.ts";
import { type HealthSource, Unprobed } from "../control/health-status.ts";
import { EVERYONE_HEALTHY, type HealthView } from "../control/runtime.ts";
import { isSameSet, upsert } from "../model/collections.ts";
import type { Config, Rule, Server } from "../model/config.ts";

/** What the reports about one server in one rule have come to. */
interface Finding {
  readonly ruleId: number;
  readonly serverId: number;
  /** Failures in a row; 0: the last report was a good one. */
  readonly fail: number;
  readonly atMs: number;
}

export class ReportedHealth implements HealthSource {
  readonly #unprobed = new Unprobed();
  #findings: ReadonlyMap<string, Finding> = new Map();
  #view: HealthView = EVERYONE_HEALTHY;

  view(): HealthView {
    return this.#view;
  }

  follow(config: Config, atMs: number): void {
    this.#unprobed.follow(config, atMs);
    const kept = new Map<string, Finding>();
    const groups = new Map(config.groups.map((group) => [group.id, group]));
    for (const rule of config.rules) {
      for (const server of groups.get(rule.groupId)?.servers ?? []) {
        const key = pairKey(rule.id, server.id);
        const finding = this.#findings.get(key);
        if (finding !== undefined && isChecked(rule, server)) kept.set(key, finding);
      }
    }
    this.#set(kept);
  }

  results(): readonly HealthResult[] {
    return this.#unprobed.results().map((result) => {
      const finding = this.#findings.get(pairKey(result.ruleId, result.serverId));
      if (finding === undefined) return result;
      const status = finding.fail > 0 ? "dead" : "alive";
      return { ...result, status, fail: finding.fail, lastAtMs: finding.atMs };
    });
  }

  /**
   * A check has found a server up or down in a rule; nothing happens while either is disabled, for then nothing checks.
   * @param count failures that make a server dead (hc-count) @param atMs wall clock
   */
  report(rule: Rule, server: Server, up: boolean, count: number, atMs: number): void {
    if (!isChecked(rule, server)) return;
    const key = pairKey(rule.id, server.id);
    const before = this.#findings.get(key)?.fail ?? 0;
    const fail = up ? 0 : before === 0 ? count : before + 1;
    this.#set(new Map(this.#findings).set(key, { ruleId: rule.id, serverId: server.id, fail, atMs }));
  }

  /** A rule whose servers are down as before keeps its very set, as HealthView promises. */
  #set(findings: ReadonlyMap<string, Finding>): void {
    this.#findings = findings;
    const next = new Map<number, Set<number>>();
    for (const { ruleId, serverId, fail } of findings.values()) {
      if (fail === 0) continue;
      upsert(next, ruleId, () => new Set<number>()).add(serverId);
    }
    this.#view = new Map([...next].map(([ruleId, down]) => [ruleId, sameOr(this.#view.get(ruleId), down)]));
  }
}

const isChecked = (rule: Rule, server: Server): boolean => rule.enabled && server.enabled;

function sameOr(known: ReadonlySet<number> | undefined, found: ReadonlySet<number>): ReadonlySet<number> {
  return known !== undefined && isSameSet(known, found) ? known : found;
}
