/** Counters of the reference engine, under the names of engine.ts, but writable. Which event counts where is not decided here. */
import { Reason } from "../../gen/layout.ts";
import { type RuleCounterName, type RuleCounters, zeroRuleCounters } from "../engine.ts";

type Writable<T> = { -readonly [K in keyof T]: T[K] };
export class Counting {
  packetsIn = 0n;
  fragmentsIn = 0n;
  fragmentsDropped = 0n;
  readonly reasons: bigint[] = Object.values(Reason).map(() => 0n);
  readonly #rules = new Map<number, Writable<RuleCounters>>();

  /** Keeps the counters of the rules named, begins new ones at zero, forgets the rest. */
  keepRules(ruleIds: readonly number[]): void {
    const kept = ruleIds.map((id) => this.#rules.get(id) ?? zeroRuleCounters(id));
    this.#rules.clear();
    for (const counters of kept) this.#rules.set(counters.ruleId, counters);
  }

  addToRule(ruleId: number, name: RuleCounterName, amount = 1n): void {
    const counters = this.#rules.get(ruleId);
    if (counters !== undefined) counters[name] += amount;
  }

  rules(): RuleCounters[] {
    return [...this.#rules.values()].map((counters) => ({ ...counters }));
  }
}
