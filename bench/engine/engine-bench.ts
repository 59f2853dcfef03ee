/** Only the engine rows, without a laboratory: `bun bench/engine/engine-bench.ts [--quick]`. */
import { measure } from "../harness/measure.ts";
import rows from "./engine.row.ts";

const quick = process.argv.includes("--quick");
for (const row of rows) {
  const {
    ours,
    peer,
    ratio,
    ratioInterval: [ratioLow, ratioHigh],
  } = await measure(row, { quick, sideMs: quick ? 500 : 1500, shared: (_, create) => create() }, 5);
  const range = `[${ratioLow.toFixed(2)} - ${ratioHigh.toFixed(2)}]`;
  console.log(
    `${row.id}: ${ours.toFixed(1)} ${row.unit}, ${row.peerName} ${peer.toFixed(1)}, ratio ${ratio.toFixed(2)} ${range}`,
  );
}
