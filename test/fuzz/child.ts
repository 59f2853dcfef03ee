/**
 * A process that runs fuzz jobs until it is told to stop. Started by scripts/fuzz.ts with one argument, a ChildOrder in
 * JSON; sends a ChildMessage before and after every job. Of its own accord it ends only by a failure.
 */
import { JOB_KINDS, type Job, type JobKind, type JobResult, openWorkshop, runJob } from "./jobs.ts";

export interface ChildOrder {
  readonly firstSeed: number;
  /** From one job's seed to the next; processes beside each other share a row of seeds. */
  readonly seedStep: number;
  readonly packetsPerJob: number;
  readonly kinds: readonly JobKind[];
}

export type ChildMessage =
  | { readonly event: "begins"; readonly job: Job }
  | { readonly event: "done"; readonly job: Job; readonly result: JobResult };

/** The n-th job of an order. Kinds take turns; a seed is used by one kind only. */
export function jobOf({ firstSeed, seedStep, packetsPerJob, kinds }: ChildOrder, n: number): Job {
  return { kind: kinds[n % kinds.length]!, seed: firstSeed + n * seedStep, packets: packetsPerJob };
}

async function main(): Promise<void> {
  const order = JSON.parse(process.argv[2] ?? "{}") as ChildOrder;
  if (!order.kinds?.every((kind) => JOB_KINDS.includes(kind)))
    throw new Error("child.ts is started by scripts/fuzz.ts");
  const tell = (message: ChildMessage): void => {
    process.send!(message);
  };
  // When the parent is gone nobody wants to know.
  process.on("disconnect", () => process.exit(0));
  const workshop = await openWorkshop(order.kinds);
  for (let n = 0; ; n++) {
    const job = jobOf(order, n);
    tell({ event: "begins", job });
    const result = runJob(job, workshop);
    tell({ event: "done", job, result });
    if (result.failure !== null) return;
    // Lets messages out and a signal in.
    await Bun.sleep(0);
  }
}

if (import.meta.main) await main();
