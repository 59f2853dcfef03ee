/**
 * What the compiler and everything else inside the process holds a worker up for, once it is warm: the longest batch of mixed
 * traffic in a fresh process. Processor time of the worker's thread, because other processes hold single batches up for
 * milliseconds on a busy machine; the wall clock stands beside it.
 */
import { serialize } from "bun:jsc";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median } from "../harness/statistics.ts";
import type { BenchContext, BenchRow, BenchSides } from "../row.ts";
import { mixedTraffic } from "../support/mixed-traffic.ts";
import type { StallReport } from "../support/stall-worker.ts";

const PROCESS = join(import.meta.dir, "../support/stall-process.ts");
/** Of the differential test's generator: whatever it makes, it is the same in every run. */
const SEED = 1;
const RECORDED = 1500;
const BATCHES = { quick: 10_000, whole: 40_000 } as const;

async function setup({ quick }: BenchContext): Promise<BenchSides> {
  const scratch = mkdtempSync(join(tmpdir(), "ilb-stall-"));
  const recording = join(scratch, "traffic");
  const reports: StallReport[] = [];
  const batches = quick ? BATCHES.quick : BATCHES.whole;
  await Bun.write(recording, serialize(await mixedTraffic(SEED, RECORDED)));
  return {
    ours: async () => {
      const child = Bun.spawn([process.execPath, PROCESS, recording, String(batches)], { stderr: "inherit" });
      const text = await new Response(child.stdout).text();
      if ((await child.exited) !== 0) throw new Error("the process that was to be measured failed");
      const report = JSON.parse(text) as StallReport;
      reports.push(report);
      return report.byProcessor[0]!.processorMs;
    },
    parts: () => ({
      "worst process": Math.max(...reports.map(({ byProcessor }) => byProcessor[0]!.processorMs)),
      "wall clock": median(reports.map(({ byWall }) => byWall[0]!.wallMs)),
    }),
    close: () => rmSync(scratch, { recursive: true }),
  };
}

const rows: readonly BenchRow[] = [
  {
    id: "engine.stall",
    unit: "ms",
    better: "lower",
    peerName: null,
    what: `longest batch of a worker after the warm-up, a fresh process each round, ${BATCHES.whole.toLocaleString("en")} batches of mixed traffic while tables change (processor time)`,
    setup,
  },
];

export default rows;
