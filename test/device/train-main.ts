/**
 * Sends the frames of its second argument (hexadecimal, joined by commas) in one batch out of interface b0, as the engine
 * would, and prints what interface b1 receives of it as JSON, a frame a line, up to the first that is no TCP.
 */
import { openPacketPort } from "../../src/device/afpacket.ts";
import { closePort, KernelPacketIo } from "../../src/device/kernel-io.ts";
import { Descriptor, HEAD_L3_OFFSET, HEAD_STRIDE, Verdict } from "../../src/gen/layout.ts";
import { fromHex, toHex } from "../support/packet-builder.ts";
import { frameMemory, GEOMETRY } from "./frame-memory.ts";

const NEEDS_CSUM = 1;
const ETHERNET = 14;
const frames = process.argv[2]!.split(",").map(fromHex);
const ports = ["b0", "b1"].map((name) => openPacketPort(name));
const memories = [frameMemory(), frameMemory()] as const;
const [sender, receiver] = memories.map((memory, index) =>
  KernelPacketIo.create(memory, GEOMETRY, [ports[index]!], 0),
) as [KernelPacketIo, KernelPacketIo];

const isTcp = (frame: Uint8Array) => frame[frame[12] === 0x08 ? 23 : 20] === 6;

const out = new DataView(memories[0]);
frames.forEach((frame, index) => {
  const at = GEOMETRY.descriptors + index * Descriptor.size;
  const place = GEOMETRY.heads + index * HEAD_STRIDE + HEAD_L3_OFFSET - ETHERNET;
  new Uint8Array(memories[0]).set(frame, place);
  out.setUint32(at + Descriptor.frame, place, true);
  out.setUint32(at + Descriptor.length, frame.length, true);
  out.setUint32(at + Descriptor.headLength, frame.length, true);
  out.setUint8(at + Descriptor.verdict, Verdict.Forward);
  if (!isTcp(frame)) return;
  out.setUint8(at + Descriptor.vnetFlags, NEEDS_CSUM);
  out.setUint16(at + Descriptor.vnetCsumStart, frame[12] === 0x08 ? 34 : 54, true);
  out.setUint16(at + Descriptor.vnetCsumOffset, 16, true);
});
const sent = sender.transmit(frames.length, 0);

const come = new DataView(memories[1]);
for (let ended = false; !ended; ) {
  const count = receiver.receive(1_000_000);
  if (count === 0) throw new Error("the last frame did not arrive");
  for (let index = 0; index < count && !ended; index++) {
    const at = GEOMETRY.descriptors + index * Descriptor.size;
    const [place, head] = [
      come.getUint32(at + Descriptor.frame, true),
      come.getUint32(at + Descriptor.headLength, true),
    ];
    const [tail, length] = [come.getUint32(at + Descriptor.tail, true), come.getUint32(at + Descriptor.length, true)];
    const bytes = new Uint8Array(memories[1]);
    const frame = Uint8Array.from([
      ...bytes.subarray(place, place + head),
      ...bytes.subarray(tail, tail + length - head),
    ]);
    ended = !isTcp(frame);
    if (!ended)
      console.log(JSON.stringify({ hex: toHex(frame), gsoSize: come.getUint16(at + Descriptor.vnetGsoSize, true) }));
  }
}
const { txFrames, txBytes } = sender.counters(0);
console.log(JSON.stringify({ sent, txFrames: Number(txFrames), txBytes: Number(txBytes) }));
for (const io of [sender, receiver]) io.close();
for (const port of ports) closePort(port);
