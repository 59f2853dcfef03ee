/**
 * The rows of the laboratory: each quantity through ILB and through what stands there otherwise. Both are built alike,
 * side by side (side.ts), and checked before they are measured.
 */
import { SANDBOX_VARIABLE } from "../../src/lab/sandbox.ts";
import type { BenchContext, BenchRow, BenchSides } from "../row.ts";
import { buildTraffic } from "./meters.ts";
import { QUANTITIES, type Quantity, type QuantityName } from "./quantities.ts";
import { NAMES, PROGRAMS, Side, type Thing } from "./side.ts";

const PEERS: Readonly<Record<Exclude<QuantityName, "start.first" | "http.p99">, readonly Thing[]>> = {
  "tcp.1": ["nft", "haproxy", "forward"],
  "tcp.8": ["nft", "haproxy"],
  "tcp.1.nogso": ["nft"],
  "udp.pps": ["nft"],
  "udp.sat": ["nft"],
  cps: ["nft", "haproxy"],
  rps: ["nft", "haproxy"],
  "rtt.p50": ["nft"],
  "rtt.p99": ["nft"],
};

/** A side for quantities of this kind, built once per fixture. */
function sideOf(
  context: BenchContext,
  thing: Thing,
  quantity: Quantity,
  daemonWords: readonly string[] = [],
): Promise<Side> {
  return context.shared([thing, ...daemonWords].join(" "), async () => {
    await buildTraffic();
    const side = await Side.open({ ...quantity, thing, daemonWords });
    try {
      await quantity.prepare(side);
    } catch (error) {
      await side.close();
      throw error;
    }
    return side;
  });
}

/** @param peer null: only ours is measured @param daemonWords further words for `ilbd run` */
function row(id: string, name: QuantityName, peer: Thing | null, daemonWords: readonly string[] = []): BenchRow {
  const quantity: Quantity = QUANTITIES[name];
  const programs = [...quantity.programs, ...(peer === null ? [] : PROGRAMS[peer])];
  return {
    id,
    unit: quantity.unit,
    better: quantity.better,
    peerName: peer === null ? null : NAMES[peer],
    what: [quantity.what, ...daemonWords].join(" "),
    fixture: `lab ${quantity.kind}`,
    unavailable: () => {
      if (process.env[SANDBOX_VARIABLE] !== "1") return "no network namespaces for this user";
      const missing = programs.filter((program) => Bun.which(program) === null);
      return missing.length === 0 ? null : `not installed: ${missing.join(", ")}`;
    },
    setup: async (context): Promise<BenchSides> => {
      const ours = await sideOf(context, "ilb", quantity, daemonWords);
      const measure = (side: Side) => quantity.measure(side, context.sideMs);
      if (peer === null) return { ours: () => measure(ours) };
      const theirs = await sideOf(context, peer, quantity);
      return { ours: () => measure(ours), peer: () => measure(theirs) };
    },
  };
}

const compared = Object.entries(PEERS).flatMap(([name, peers]) =>
  peers.map((peer) => row(`${name}.${peer}`, name as QuantityName, peer)),
);

const rows: readonly BenchRow[] = [
  row("start.first", "start.first", null),
  row("http.p99", "http.p99", null),
  ...compared,
  row("rtt.p50.nospin.nft", "rtt.p50", "nft", ["--spin-us", "0"]),
];
export default rows;
