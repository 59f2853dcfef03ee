/** The loop of the box, in a thread of its own: attaches to the io by its numbers, as the packet worker does. */
import { FrameTable } from "../../src/device/frames.ts";
import { type IoHandOver, KernelPacketIo } from "../../src/device/kernel-io.ts";
import { BATCH_SIZE, Descriptor, Verdict } from "../../src/gen/layout.ts";
import { mac } from "../support/addresses.ts";
import type { BoxSpec, RecordedFrame } from "./box-protocol.ts";
import { GEOMETRY } from "./frame-memory.ts";

/** Words of the control array. */
export const STOP = 0;
export const RETURNS = 1;

export interface ToWorker {
  readonly memory: SharedArrayBuffer;
  readonly handOver: IoHandOver;
  readonly spec: BoxSpec;
  readonly control: Int32Array;
}
export type FromWorker = RecordedFrame | "stopped";

declare const self: Worker;

/** What the loop does to descriptor `index` of a batch. */
type Step = (index: number) => void;

function forwardStep(memory: SharedArrayBuffer, spec: BoxSpec): Step {
  const view = new DataView(memory);
  const bytes = new Uint8Array(memory);
  const routes = (spec.to ?? []).map(({ port, source, destination }) => ({
    port,
    macs: Uint8Array.from([...mac(destination), ...mac(source)]),
  }));
  return (index) => {
    const at = GEOMETRY.descriptors + index * Descriptor.size;
    const route = routes[view.getUint8(at + Descriptor.inPort)]!;
    bytes.set(route.macs, view.getUint32(at + Descriptor.frame, true));
    view.setUint8(at + Descriptor.outPort, route.port);
    view.setUint8(at + Descriptor.verdict, Verdict.Forward);
  };
}

/** IPv4 without options: exchanges the addresses (12..19) and the ports (20..23) of a layer-3 frame. */
function reflectStep(memory: SharedArrayBuffer): Step {
  const view = new DataView(memory);
  const exchange = (at: number, bytes: 2 | 4) => {
    const [get, set] = bytes === 4 ? (["getUint32", "setUint32"] as const) : (["getUint16", "setUint16"] as const);
    const first = view[get](at);
    view[set](at, view[get](at + bytes));
    view[set](at + bytes, first);
  };
  return (index) => {
    const at = GEOMETRY.descriptors + index * Descriptor.size;
    const frame = view.getUint32(at + Descriptor.frame, true);
    exchange(frame + 12, 4);
    exchange(frame + 20, 2);
    view.setUint8(at + Descriptor.outPort, view.getUint8(at + Descriptor.inPort));
    view.setUint8(at + Descriptor.verdict, Verdict.Reply);
  };
}

function recordStep(memory: SharedArrayBuffer): Step {
  const frames = new FrameTable(memory, GEOMETRY);
  const view = new DataView(memory);
  return (index) => {
    const recorded: RecordedFrame = {
      port: frames.u8(index, Descriptor.inPort),
      hex: Buffer.from(frames.take(index) ?? []).toString("hex"),
      flags: view.getUint16(GEOMETRY.descriptors + index * Descriptor.size + Descriptor.flags, true),
      vnet: frames.vnet(index),
      headLength: frames.u32(index, Descriptor.headLength),
    };
    self.postMessage(recorded);
  };
}

function stepOf(memory: SharedArrayBuffer, spec: BoxSpec): Step {
  if (spec.work === "forward") return forwardStep(memory, spec);
  if (spec.work === "reflect") return reflectStep(memory);
  if (spec.work === "record") return recordStep(memory);
  const frames = new FrameTable(memory, GEOMETRY);
  return (index) => frames.setU8(index, Descriptor.verdict, Verdict.Pass);
}

if (!Bun.isMainThread) {
  self.onmessage = (event: MessageEvent<ToWorker>) => {
    const { memory, handOver, spec, control } = event.data;
    const io = KernelPacketIo.attach(handOver);
    const step = stepOf(memory, spec);
    const timeoutUs = spec.timeoutUs ?? 200_000;
    while (Atomics.load(control, STOP) === 0) {
      const count = io.receive(timeoutUs);
      Atomics.add(control, RETURNS, 1);
      if (count > BATCH_SIZE) throw new Error(`batch of ${count}`);
      for (let index = 0; index < count; index++) step(index);
      if (count > 0) io.transmit(count, 0);
    }
    self.postMessage("stopped" satisfies FromWorker);
  };
}
