/**
 * Passive signals: clients find out before any schedule does that a server refuses connections or does not answer. The
 * packet engine counts that; this tells which servers to check at once, and no server more than once in a second. A
 * signal proves nothing (anybody can send a SYN twice), so it changes no state.
 */

import { pairKey } from "../control/drain.ts";
import type { PairSignals } from "../engine/engine.ts";

/** What the packet engine has counted. */
export interface SignalSource {
  /** Of all servers together; cheap. Only whether it moves matters. */
  signalCount(): number;
  /** Servers that have any, once or more (their counts add up). */
  signals(): readonly PairSignals[];
}

/** Between two checks of one server that signals have asked for, in whatever rules. */
export const SIGNAL_GAP_MS = 1000;
/** Between two scans of all servers. */
const SCAN_GAP_MS = 500;

export type Readiness =
  /** Check it now. */
  | "now"
  /** A check is under way that began before the signal: ask again. */
  | "later"
  /** There is nothing to find out: no check, switched off, or out already. */
  | "never";

/** Begins a check of a server in a rule, if there is something to find out. */
type Ask = (ruleId: number, serverId: number) => Readiness;

/** Signals of a server in a rule, of all workers. */
interface Sum {
  readonly ruleId: number;
  readonly serverId: number;
  count: number;
}

/** How far a server's signals in a rule have been dealt with. */
interface Settled {
  readonly count: number;
  /** When they last had it checked; null: never. */
  readonly checkedAtMs: number | null;
}
const NEVER: Settled = { count: 0, checkedAtMs: null };

export class SignalWatch {
  readonly #source: SignalSource;
  #total: number;
  #scannedAtMs = Number.NEGATIVE_INFINITY;
  /** By pairKey. */
  readonly #settled = new Map<string, Settled>();
  /** By server id: when a signal has last had it checked in any rule. */
  readonly #checkedAtMs = new Map<number, number>();
  /** Signals that wait for their turn. */
  #isOpen = false;

  constructor(source: SignalSource) {
    this.#source = source;
    this.#total = source.signalCount();
    for (const [key, { count }] of this.#sums()) this.#settled.set(key, { ...NEVER, count });
  }

  /** @param ask called for servers with new signals; "now" promises that a check begins @param nowMs any clock */
  look(nowMs: number, ask: Ask): void {
    const total = this.#source.signalCount();
    if ((total === this.#total && !this.#isOpen) || nowMs - this.#scannedAtMs < SCAN_GAP_MS) return;
    this.#total = total;
    this.#scannedAtMs = nowMs;
    this.#isOpen = false;
    const sums = this.#sums();
    for (const key of this.#settled.keys()) if (!sums.has(key)) this.#settled.delete(key);
    for (const [serverId, atMs] of this.#checkedAtMs)
      if (nowMs - atMs >= SIGNAL_GAP_MS) this.#checkedAtMs.delete(serverId);
    // Rules that share a server take turns.
    const lastMs = (key: string): number => this.#settled.get(key)?.checkedAtMs ?? Number.NEGATIVE_INFINITY;
    const fresh = [...sums].filter(([key, { count }]) => (this.#settled.get(key) ?? NEVER).count !== count);
    for (const [key, sum] of fresh.sort(([a], [b]) => Math.sign(lastMs(a) - lastMs(b) || 0)))
      this.#settle(key, sum, nowMs, ask);
  }

  #settle(key: string, { ruleId, serverId, count }: Sum, nowMs: number, ask: Ask): void {
    const readiness = this.#checkedAtMs.has(serverId) ? "later" : ask(ruleId, serverId);
    if (readiness === "later") {
      this.#isOpen = true;
      return;
    }
    const isNow = readiness === "now";
    this.#settled.set(key, { count, checkedAtMs: isNow ? nowMs : (this.#settled.get(key)?.checkedAtMs ?? null) });
    if (isNow) this.#checkedAtMs.set(serverId, nowMs);
  }

  #sums(): Map<string, Sum> {
    const sums = new Map<string, Sum>();
    for (const { ruleId, serverId, count } of this.#source.signals()) {
      const key = pairKey(ruleId, serverId);
      const sum = sums.get(key);
      if (sum === undefined) sums.set(key, { ruleId, serverId, count });
      else sum.count = (sum.count + count) >>> 0;
    }
    return sums;
  }
}
