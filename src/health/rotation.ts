/**
 * Who gets no new flows, worked out of what checks have found, rule by rule. With a panic threshold (an addition) a rule
 * keeps the servers that were found failing when too few would remain: then the checks, or what they need, are as likely
 * to be broken as the servers. Pure; knows no time.
 */
import { EVERYONE_HEALTHY, type HealthView } from "../control/runtime.ts";
import { isSameSet } from "../model/collections.ts";
import { judgingOf } from "../model/health-judging.ts";
import type { Check } from "./check.ts";

/** A rule whose failing servers are kept. */
export interface Panic {
  readonly ruleId: number;
  /** Of those that are enabled: how many were found failing, and how many there are. */
  readonly failing: number;
  readonly servers: number;
  /** The threshold, percent. */
  readonly percent: number;
}

/** One rule: servers that get no new flows, and whether some of the failing are among those that get them after all. */
export function judgeRule(checks: readonly Check[]): {
  readonly down: ReadonlySet<number>;
  readonly panic: Panic | null;
} {
  const enabled = checks.filter(({ plan }) => plan.isEnabled);
  const failing = enabled.filter((check) => check.hasFailed);
  const panic = panicOf(enabled, failing.length);
  // A server that has yet to show itself is not kept in: it has never been in.
  const out = panic === null ? checks.filter((check) => check.isDown) : checks.filter((check) => check.isAwaited);
  return { down: new Set(out.map(({ plan }) => plan.serverId)), panic };
}

function panicOf(enabled: readonly Check[], failing: number): Panic | null {
  const first = enabled[0]?.plan;
  if (first === undefined || failing === 0) return null;
  const percent = judgingOf(first.check).panicPercent;
  const servers = enabled.length;
  if ((servers - failing) * 100 >= percent * servers) return null;
  return { ruleId: first.ruleId, failing, servers, percent };
}

/** The view of all rules as a value that changes only where a rule's does. */
export class Rotation {
  #view: HealthView = EVERYONE_HEALTHY;
  #panics: ReadonlyMap<number, Panic> = new Map();

  get view(): HealthView {
    return this.#view;
  }
  /** By rule id. */
  get panics(): ReadonlyMap<number, Panic> {
    return this.#panics;
  }

  /** Judges one rule anew. */
  judge(ruleId: number, checks: readonly Check[]): void {
    const { down, panic } = judgeRule(checks);
    if (panic !== null || this.#panics.has(ruleId)) {
      const panics = new Map(this.#panics);
      if (panic !== null) panics.set(ruleId, panic);
      else panics.delete(ruleId);
      this.#panics = panics;
    }
    const was = this.#view.get(ruleId) ?? NOBODY;
    if (isSameSet(was, down)) return;
    const view = new Map(this.#view);
    if (down.size > 0) view.set(ruleId, down);
    else view.delete(ruleId);
    this.#view = view;
  }

  /**
   * Judges many rules anew, in one step; those without checks are gone.
   * @param foreseen a view to go on with if it fits
   */
  judgeAll(rules: ReadonlyMap<number, readonly Check[]>, foreseen: HealthView | null): void {
    const view = new Map(this.#view);
    const panics = new Map(this.#panics);
    for (const [ruleId, checks] of rules) {
      const { down, panic } = judgeRule(checks);
      if (panic !== null) panics.set(ruleId, panic);
      else panics.delete(ruleId);
      const known = [foreseen?.get(ruleId), this.#view.get(ruleId)].find((set) => set && isSameSet(set, down));
      if (down.size > 0) view.set(ruleId, known ?? down);
      else view.delete(ruleId);
    }
    this.#panics = panics;
    this.#view = [foreseen, this.#view].find((known) => known && isSameView(known, view)) ?? view;
  }
}

const NOBODY: ReadonlySet<number> = new Set();

/** The very same sets. */
const isSameView = (a: HealthView, b: HealthView): boolean =>
  a.size === b.size && [...b].every(([ruleId, set]) => a.get(ruleId) === set);
