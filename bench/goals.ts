/**
 * What every row has to reach. The first number must hold, the second is what we are after. Ratios are ours against the
 * peer's, above 1 means that we are better; limits are in the row's own unit and must not be passed. A goal holds when
 * the median reaches it or the 95 % bootstrap interval of the median covers it; judge over 15 rounds (`--rounds 15`).
 * Rows that are not here are for information.
 */

export interface Pair {
  readonly first: number;
  /** Left out: only the first is asked for. */
  readonly second?: number;
}

export type Goal =
  | ({ readonly kind: "ratio" } & Pair)
  /** `parts`: limits for figures beside the main one; they hold together with it. */
  | ({ readonly kind: "limit"; readonly parts?: Readonly<Record<string, Pair>> } & Pair);

const ratio = (first: number, second: number): Goal => ({ kind: "ratio", first, second });
const limit = (first: number, second?: number): Goal => ({
  kind: "limit",
  first,
  ...(second !== undefined && { second }),
});

export const GOALS: Readonly<Record<string, Goal>> = {
  "engine.c.1k": ratio(0.91, 1.0),
  "engine.c.1m": ratio(0.91, 1.0),
  "engine.cprefetch.1m": ratio(0.75, 0.85),
  "engine.ts.1k": ratio(2.0, 2.3),
  "engine.ts.1m": ratio(4, 5),
  "engine.ebpflru.128k": ratio(8, 10),
  "engine.ebpflru.1m": ratio(9, 12),
  "engine.v6": ratio(0.75, 0.9),
  "engine.rules.10k": ratio(0.9, 1.0),
  "engine.servers.1k": ratio(0.9, 1.0),
  "engine.flows.8m": ratio(0.45, 0.6),
  "engine.newflow": ratio(6, 10),
  // Per cent of a core.
  "engine.sweep": limit(0.5),
  // Milliseconds.
  "engine.publish.10k": limit(1, 0.2),
  "engine.stall": limit(1),
  // At most 1.3 times the cost without.
  "engine.policy.1k": ratio(0.77, 0.85),
  "engine.policy.1m": ratio(0.77, 0.85),
  "engine.checksum.1500": ratio(0.7, 0.9),
  "tcp.1.nft": ratio(0.65, 0.85),
  "tcp.8.nft": ratio(0.5, 0.8),
  "tcp.1.haproxy": ratio(1.5, 2.0),
  "tcp.8.haproxy": ratio(0.9, 1.2),
  "tcp.1.nogso.nft": ratio(0.9, 1.2),
  "udp.pps.nft": ratio(1.0, 1.4),
  "udp.sat.nft": ratio(0.35, 0.8),
  "cps.nft": ratio(0.9, 1.1),
  "cps.haproxy": ratio(1.2, 1.5),
  "rps.nft": ratio(0.9, 1.0),
  "rps.haproxy": ratio(1.1, 1.3),
  "rtt.p50.nft": ratio(0.7, 0.9),
  // Per cent of a core.
  "health.probes.1k": limit(5),
  // Milliseconds.
  "start.first": limit(400, 150),
  "http.p99": limit(20),
  // Bytes per flow, all tables; `hot` is what established traffic touches.
  "memory.flow": { kind: "limit", first: 192, second: 128, parts: { hot: { first: 64, second: 32 } } },
};

/** Group of a row: the part of its id before the first dot. One chart each. */
export const groupOf = (id: string): string => id.split(".")[0] ?? id;
