/**
 * Which blocks of the engine no random input reaches: runs the guarded fuzz (test/fuzz/alone.ts) and prints what is left,
 * by function, with the instructions around it.
 *
 *   bun scripts/engine-coverage.ts [SECONDS]      (default 60; seeds from 1, so that a run can be repeated)
 */
import { openWorkshop, runJob } from "../test/fuzz/jobs.ts";

const seconds = Number(process.argv[2] ?? 60);
if (!(seconds > 0)) {
  process.stderr.write("usage: bun scripts/engine-coverage.ts [SECONDS]\n");
  process.exit(2);
}
const workshop = await openWorkshop(["alone"]);
const { blocks } = workshop.engine;
const endMs = performance.now() + seconds * 1000;
for (let seed = 1; performance.now() < endMs; seed++) {
  const { failure } = runJob({ kind: "alone", seed, packets: 20_000 }, workshop);
  if (failure !== null) {
    console.log(`FAILED: ${failure}`);
    process.exit(1);
  }
}
const left = blocks.filter((_, index) => workshop.corpus.reached[index] === 0);
for (const [name, group] of Map.groupBy(left, ({ functionName }) => functionName)) {
  console.log(name);
  for (const { kind, before, after } of group) console.log(`  ${before} -> ${kind} -> ${after}`);
}
console.log(`${blocks.length - left.length} of ${blocks.length} blocks reached`);
