/**
 * The box of the packet tests, one process in a network namespace: opens ports, runs the loop in a worker, takes commands
 * in lines on standard input. Not the product's daemon: there is no engine here.
 *
 *   go, wake (no answer) · counters · returns (how often receive has come back) · frames COUNT (waits for so many)
 *   send JSON (SendFrame[], in this thread, while held) · stop
 */
import { openPacketPort, openPacketPorts } from "../../src/device/afpacket.ts";
import { FrameTable } from "../../src/device/frames.ts";
import { closePort, KernelPacketIo, type KernelPort, setPassDescriptor } from "../../src/device/kernel-io.ts";
import { openTun } from "../../src/device/tun.ts";
import { BATCH_SIZE, Descriptor, Verdict } from "../../src/gen/layout.ts";
import { bind, checked } from "../../src/native/library.ts";
import type { BoxSpec, RecordedFrame, SendFrame } from "./box-protocol.ts";
import { type FromWorker, RETURNS, STOP, type ToWorker } from "./box-worker.ts";
import { frameMemory, GEOMETRY } from "./frame-memory.ts";

const spec = JSON.parse(process.argv[2] ?? "{}") as BoxSpec;
const answer = (value: unknown) =>
  process.stdout.write(`${JSON.stringify(value, (_, v) => (typeof v === "bigint" ? Number(v) : v))}\n`);

function openPorts(): KernelPort[] {
  return spec.ports.flatMap((port) => {
    if (port.kind === "packet") return [openPacketPort(port.name, port.options)];
    if (port.kind === "tun") return openTun(port.name, port.queues);
    return openPacketPorts(port.name, port.sockets, { dealSecret: port.dealSecret });
  });
}

/** A TAP made by the library; its frames arrive on an interface of that name. */
function openTap(name: string): number {
  const tap = bind({ ilb_tap_open: { args: ["buffer"], returns: "i32" } });
  const buffer = new Uint8Array(16);
  buffer.set(new TextEncoder().encode(name));
  return checked(tap().ilb_tap_open(buffer), `create TAP ${name}`);
}

const memory = frameMemory();
let io: KernelPacketIo;
let ports: KernelPort[];
try {
  ports = openPorts();
  io = KernelPacketIo.create(memory, GEOMETRY, ports, spec.spinUs ?? 0);
  if (spec.passTap) setPassDescriptor(ports[0]!, openTap(spec.passTap));
} catch (error) {
  answer({ error: (error as Error).message });
  process.exit(1);
}

/** One transmit of hand-made descriptors. Made frames use the head blocks behind those of the received ones. */
function send(list: readonly SendFrame[]): { sent: number } {
  const frames = new FrameTable(memory, GEOMETRY);
  const port = (index: number) => ports[index] ?? ports[0]!;
  let received = 0;
  let made = 0;
  for (const frame of list) {
    const index = frame.made === undefined ? received++ : BATCH_SIZE + frame.made;
    if (frame.made !== undefined) made = Math.max(made, frame.made + 1);
    frames.put(index, port(frame.port), {
      bytes: Buffer.from(frame.hex, "hex"),
      port: frame.port,
      ...(frame.vnet && { vnet: frame.vnet }),
    });
    frames.setU8(index, Descriptor.outPort, frame.port);
    frames.setU8(index, Descriptor.verdict, Verdict.Forward);
    frames.setU32(index, Descriptor.madeFirst, BATCH_SIZE + (frame.replacedBy?.first ?? 0));
    frames.setU32(index, Descriptor.madeCount, frame.replacedBy?.count ?? 0);
    if (frame.length !== undefined) frames.setU32(index, Descriptor.length, frame.length);
  }
  return { sent: io.transmit(received, made) };
}

const worker = new Worker(new URL("./box-worker.ts", import.meta.url).href);
const control = new Int32Array(new SharedArrayBuffer(8));
const recorded: RecordedFrame[] = [];
const stopped = Promise.withResolvers<void>();
let recordedMore = Promise.withResolvers<void>();
worker.onmessage = (event: MessageEvent<FromWorker>) => {
  if (event.data === "stopped") return stopped.resolve();
  recorded.push(event.data);
  recordedMore.resolve();
  recordedMore = Promise.withResolvers<void>();
};
const start = () => worker.postMessage({ memory, handOver: io.handOver, spec, control } satisfies ToWorker);

/** Everything recorded since the last time, once there are `count` frames. */
async function takeRecorded(count: number): Promise<RecordedFrame[]> {
  while (recorded.length < count) await recordedMore.promise;
  return recorded.splice(0);
}

async function stop(): Promise<void> {
  Atomics.store(control, STOP, 1);
  io.wake();
  await stopped.promise;
  worker.terminate();
  io.close();
  for (const port of ports) closePort(port);
}

if (!spec.hold) start();
answer({ ok: ports.map((port) => port.name) });
for await (const line of console) {
  const [command = "", argument = ""] = line.split(/ (.*)/s);
  if (command === "go") start();
  else if (command === "wake") io.wake();
  else if (command === "counters") answer({ ok: ports.map((_, index) => io.counters(index)) });
  else if (command === "returns") answer({ ok: Atomics.load(control, RETURNS) });
  else if (command === "send") answer({ ok: send(JSON.parse(argument)) });
  else if (command === "frames") answer({ ok: await takeRecorded(Number(argument)) });
  else if (command === "stop") {
    await stop();
    answer({ ok: true });
    process.exit(0);
  }
}
