/**
 * Pairs: a server in a rule, with its counters. One exists from the first packet that needs it for as long as the image or
 * a flow names it.
 */
import type { Pair } from "./flows.ts";
import type { Tables } from "./tables.ts";

export class PairTable {
  readonly #limit: number;
  readonly #pairs = new Map<string, Pair>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The pair, made if need be; null when there is no room for another. */
  obtain(ruleId: number, serverId: number, tables: Tables): Pair | null {
    const key = `${ruleId} ${serverId}`;
    const known = this.#pairs.get(key);
    if (known !== undefined) return known;
    if (this.#pairs.size >= this.#limit) return null;
    const fresh: Pair = {
      ruleId,
      serverId,
      packets: 0n,
      bytes: 0n,
      flows: 0,
      drainDeadlineMs: tables.drainDeadlineMs(ruleId, serverId),
      proxyIndex: 0,
    };
    this.#pairs.set(key, fresh);
    return fresh;
  }

  /** Takes over a new image: deadlines, and which pairs it still names. */
  adopt(tables: Tables): void {
    for (const pair of this.all()) {
      pair.drainDeadlineMs = tables.drainDeadlineMs(pair.ruleId, pair.serverId);
      this.forgetIfUnused(pair, tables);
    }
  }

  forgetIfUnused(pair: Pair, tables: Tables): void {
    const { ruleId, serverId, flows } = pair;
    if (flows === 0 && !tables.hasMember(ruleId, serverId)) this.#pairs.delete(`${ruleId} ${serverId}`);
  }

  all(): Pair[] {
    return [...this.#pairs.values()];
  }
}
