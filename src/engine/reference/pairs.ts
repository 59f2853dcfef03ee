/**
 * Pairs: a server in a rule, with its counters. One exists from the first packet that needs it until a new image or a sweep
 * finds that neither the image nor a flow nor a sticky entry names it.
 */
import { zeroPairCounters } from "../engine.ts";
import type { Pair } from "./flows.ts";
import type { Ip } from "./packet.ts";
import type { Tables } from "./tables.ts";

export class PairTable {
  readonly #limit: number;
  readonly #pairs = new Map<string, Pair>();

  readonly #isStuckTo: (pair: Pair) => boolean;

  /** @param isStuckTo whether a sticky entry names a pair */
  constructor(limit: number, isStuckTo: (pair: Pair) => boolean) {
    this.#limit = limit;
    this.#isStuckTo = isStuckTo;
  }

  /** The pair, made if need be; null when there is no room for another. */
  obtain(ruleId: number, serverId: number, tables: Tables): Pair | null {
    const key = `${ruleId} ${serverId}`;
    const known = this.#pairs.get(key);
    if (known !== undefined) return known;
    if (this.#pairs.size >= this.#limit) return null;
    const fresh: Pair = {
      ...zeroPairCounters(ruleId, serverId),
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
    }
    this.sweep(tables);
  }

  /** Forgets what nobody names any more. */
  sweep(tables: Tables): void {
    for (const pair of this.all()) {
      const { ruleId, serverId, flows } = pair;
      const isNamed = flows > 0 || tables.hasMember(ruleId, serverId) || this.#isStuckTo(pair);
      if (!isNamed) this.#pairs.delete(`${ruleId} ${serverId}`);
    }
  }

  all(): Pair[] {
    return [...this.#pairs.values()];
  }
}

/** Counts a packet of a pair. */
export function countOnPair(pair: Pair, ip: Ip): void {
  pair.packets++;
  pair.bytes += BigInt(ip.totalLength);
}
