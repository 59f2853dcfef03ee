/**
 * Before and after in one laboratory run: `bun bench/lab/compare.ts [--before CHECKOUT] [--against THING,...] [--rounds N]
 * [--ms N] METER...`. The sides stand side by side and are measured in turn; printed are medians and the median of
 * the ratios to the first side in the same round. CHECKOUT is another checkout of this project, built. Not part of
 * `npm run bench`: it is for whoever changes the packet path.
 */
import { findSandbox, SANDBOX_VARIABLE } from "../../src/lab/sandbox.ts";
import * as meters from "./meters.ts";
import { type Protocol, Side, type SideOptions, type Thing } from "./side.ts";

interface Meter {
  readonly protocol: Protocol;
  readonly port: number;
  readonly servers: number;
  readonly plainEndpoints?: boolean;
  prepare(side: Side): Promise<void>;
  measure(side: Side, milliseconds: number): Promise<number>;
}

const bulk = (streams: number): Meter => ({
  protocol: "tcp",
  port: meters.IPERF_PORT,
  servers: 1,
  prepare: meters.startIperf,
  measure: (side, ms) => meters.bulkRate(side, streams, ms),
});
const http = (connections: "kept" | "new"): Meter => ({
  protocol: "tcp",
  port: meters.HTTP_PORT,
  servers: 2,
  prepare: meters.startNginx,
  measure: (side, ms) => meters.requestRate(side, connections, ms),
});
const datagrams = (measure: Meter["measure"]): Meter => ({
  protocol: "udp",
  port: meters.UDP_PORT,
  servers: 1,
  prepare: meters.countArrivals,
  measure,
});
const echoes = (measure: Meter["measure"]): Meter => ({
  protocol: "udp",
  port: meters.ECHO_PORT,
  servers: 1,
  prepare: meters.startEcho,
  measure,
});

const METERS: Readonly<Record<string, Meter>> = {
  "tcp.1": bulk(1),
  "tcp.8": bulk(8),
  "tcp.1.nogso": { ...bulk(1), plainEndpoints: true },
  "tcp.8.nogso": { ...bulk(8), plainEndpoints: true },
  "udp.pps": datagrams(meters.lossFreeRate),
  "udp.sat": datagrams(meters.saturatedRate),
  cps: http("new"),
  rps: http("kept"),
  "rtt.p50": echoes(async (side, ms) => (await meters.roundTrips(side, ms)).p50),
  "rtt.p99": echoes(async (side, ms) => (await meters.roundTrips(side, ms)).p99),
  "start.first": echoes((side) => meters.startToFirstPacket(side)),
};

interface Contender extends Partial<Pick<SideOptions, "checkout" | "daemonWords">> {
  readonly thing: Thing;
  readonly name: string;
}

const middle = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
};

async function compare(id: string, meter: Meter, contenders: readonly Contender[], rounds: number, ms: number) {
  const sides: Side[] = [];
  const values: number[][] = contenders.map(() => []);
  try {
    for (const contender of contenders) {
      const side = await Side.open({ ...meter, ...contender });
      sides.push(side);
      await meter.prepare(side);
      await meter.measure(side, ms);
    }
    for (let round = 0; round < rounds; round++) {
      const order = [...sides.keys()];
      if (round % 2 === 1) order.reverse();
      for (const index of order) values[index]!.push(await meter.measure(sides[index]!, ms));
    }
  } finally {
    for (const side of sides) await side.close();
  }
  for (const [index, { name }] of contenders.entries()) {
    const ratios = values[index]!.map((value, round) => value / values[0]![round]!);
    const [low, high] = [Math.min(...ratios).toFixed(2), Math.max(...ratios).toFixed(2)];
    const figures = values[index]!.map((value) => value.toFixed(1)).join(" ");
    console.log(
      `${id} ${name.padEnd(10)} ${middle(values[index]!).toFixed(2).padStart(8)}  x${middle(ratios).toFixed(2)} [${low} - ${high}]  (${figures})`,
    );
  }
}

function readWords(argv: readonly string[]) {
  const chosen: string[] = [];
  const contenders: Contender[] = [];
  let [before, against, rounds, ms]: [string | null, string, number, number] = [null, "nft", 5, 1000];
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at]!;
    if (word === "--before") before = argv[++at] ?? null;
    else if (word === "--against") against = argv[++at] ?? "";
    else if (word === "--rounds") rounds = Number(argv[++at]);
    else if (word === "--ms") ms = Number(argv[++at]);
    else if (word in METERS) chosen.push(word);
    else throw new Error(`${word}: none of ${Object.keys(METERS).join(", ")}, --before, --against, --rounds, --ms`);
  }
  for (const word of against.split(",").filter((part) => part !== "")) {
    const [thing, ...daemonWords] = word.split("+") as [Thing, ...string[]];
    contenders.push({ thing, name: word, daemonWords });
  }
  if (before !== null) contenders.push({ thing: "ilb", name: "before", checkout: before });
  contenders.push({ thing: "ilb", name: before === null ? "ilb" : "after" });
  return { chosen, contenders, rounds, ms };
}

if (process.env[SANDBOX_VARIABLE] !== "1") {
  const sandbox = findSandbox();
  if (!sandbox.available) throw new Error(sandbox.reason);
  const argv = sandbox.wrap([process.execPath, import.meta.path, ...process.argv.slice(2)]);
  process.exit(await Bun.spawn(argv, { stdio: ["ignore", "inherit", "inherit"] }).exited);
}
await meters.buildTraffic();
const { chosen, contenders, rounds, ms } = readWords(process.argv.slice(2));
for (const id of chosen) await compare(id, METERS[id]!, contenders, rounds, ms);
