/**
 * One fresh process of the row engine.stall: `bun stall-process.ts RECORDING BATCHES` warms a packet worker up, has it take the
 * recorded traffic while this thread carries out the recorded changes, and prints a StallReport as JSON.
 */
import { deserialize } from "bun:jsc";
import { readModule } from "../../src/engine/abi.ts";
import type { Port } from "../../src/engine/engine.ts";
import { EngineHost, fixedHashKey } from "../../src/engine/host.ts";
import { PageSupply } from "../../src/worker/page-supply.ts";
import { MIXED_LIMITS, type MixedEvent } from "./mixed-traffic.ts";
import type { StallOrder, StallReport } from "./stall-worker.ts";

const [recording, batches] = process.argv.slice(2) as [string, string];
const events = deserialize(await Bun.file(recording).arrayBuffer()) as MixedEvent[];
const host = EngineHost.create({
  limits: MIXED_LIMITS,
  workers: 1,
  hashKey: fixedHashKey(),
  moduleBytes: await readModule(),
});
const pages = new PageSupply(host);
const ports: [number, Port][] = [];
let generation = 0;

function carryOut(event: MixedEvent): void {
  if (event.kind === "port") host.setPort(event.index, event.port);
  else if (event.kind === "hop") host.setNextHop(event.index, event.hop);
  else if (event.kind === "publish") host.publish({ ...event.image, generation: ++generation });
}

let carried = 0;
for (; events[carried]!.kind !== "batch"; carried++) {
  const event = events[carried]!;
  carryOut(event);
  if (event.kind === "port") ports.push([event.index, event.port]);
}
const shared = new Int32Array(new SharedArrayBuffer(4));
const worker = new Worker(new URL("./stall-worker.ts", import.meta.url).href);
const report = new Promise<StallReport>((resolve, reject) => {
  worker.onmessage = ({ data }: MessageEvent<StallReport>) => resolve(data);
  worker.onerror = ({ message }) => reject(new Error(message));
});
worker.postMessage({ seat: host.seat(0), ports, events, batches: Number(batches), shared } satisfies StallOrder);
let isOver = false;
const over = report.finally(() => {
  isOver = true;
});
while (!isOver) {
  for (; carried < Atomics.load(shared, 0); carried++) carryOut(events[carried % events.length]!);
  pages.look();
  await Promise.race([Bun.sleep(1), over]);
}
process.stdout.write(JSON.stringify(await report));
process.exit(0);
