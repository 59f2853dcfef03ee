/**
 * The one description of everything that lies in shared memory: records, field by field, with unit and byte order.
 * layout/generate.ts turns it into assembly/gen/layout.ts, src/gen/layout.ts, native/gen/layout.h and
 * docs/memory-layout.md. Nothing else writes an offset by hand.
 *
 * Rules: little-endian, naturally aligned, padding written out as fields named `pad…` (zero). Numbers that came off the
 * wire and stay in network order end in `Be`. `addr` is 16 bytes in network order, IPv4 as ::ffff:a.b.c.d (RFC 4291
 * section 2.5.5.2); the languages see it as two u64 halves, `…Head` and `…Tail`.
 */
import { IMAGE_RECORDS } from "./image.ts";
import type { RecordSpec } from "./record.ts";
import { WORKER_RECORDS } from "./worker.ts";

export * from "./enums.ts";
export * from "./record.ts";

export const RECORDS: Readonly<Record<string, RecordSpec>> = {
  Descriptor: {
    doc: "One frame of a batch. 0..63 are received frames, 64..127 frames that the engine makes. Whoever holds the batch owns them all.",
    size: 64,
    c: "ilb_descriptor",
    fields: [
      ["frame", "u32", "linear offset of the first byte of the frame, in its head block"],
      ["length", "u32", "bytes of the whole frame, head and tail, without the virtio header"],
      ["headLength", "u32", "bytes at `frame`; the rest is at `tail`"],
      ["tail", "u32", "linear offset of the rest of the frame"],
      ["vnetFlags", "u8", "virtio_net_hdr.flags; 1 = NEEDS_CSUM"],
      ["vnetGsoType", "u8", "virtio_net_hdr.gso_type"],
      ["vnetHdrLen", "u16", "virtio_net_hdr.hdr_len, bytes"],
      ["vnetGsoSize", "u16", "virtio_net_hdr.gso_size, bytes"],
      ["vnetCsumStart", "u16", "virtio_net_hdr.csum_start, bytes from the start of the frame"],
      ["vnetCsumOffset", "u16", "virtio_net_hdr.csum_offset, bytes from csum_start"],
      ["inPort", "u8", "index of the port that it came from"],
      ["outPort", "u8", "index of the port that it leaves by, PORT_NONE when it does not leave"],
      ["verdict", "u8", "Verdict, written by the engine"],
      ["reason", "u8", "Reason, written by the engine"],
      ["flags", "u16", "FRAME_VLAN, FRAME_TRUNCATED"],
      ["ruleId", "u32", "rule that it belongs to, 0 when none"],
      ["serverId", "u32", "server that it belongs to, 0 when none"],
      ["direction", "u8", "Direction"],
      ["flowState", "u8", "FlowState"],
      ["slot", "u16", "index of the head and tail block; made frames: index in the made pool"],
      [
        "madeFirst",
        "u32",
        "descriptor index (64..127) of the first frame made because of this one; of a made frame with verdict PASS: of the received one",
      ],
      [
        "madeCount",
        "u32",
        "number of frames that leave in place of this one; 0: the frame itself leaves, if its verdict says so",
      ],
      ["handOver", "u32", "HANDED_… flags of a frame that came from another worker, 0 of any other"],
      ["handOverEnd", "u32", "in a ring: HandOverRing.tailGiven behind this frame"],
      ["pad0", "u32", "zero"],
    ],
  },
  SharedHeader: {
    doc: "First record of the memory.",
    size: 64,
    fields: [
      ["fingerprint", "u32", "layout fingerprint; whoever attaches compares it with its own"],
      ["workerCount", "u32", "workers that the memory was laid out for"],
      [
        "published",
        "u64",
        "low 32 bits: generation of the current image (0: none yet), high 32 bits: linear offset of the image; one atomic store",
      ],
      ["compat", "u32", "CompatMode, fixed when the memory is laid out"],
      ["firstProxyPlace", "u32", "which of its proxy ports a worker begins a pool with, modulo their number"],
      ["pad0", "u64", "zero"],
      ["pad1", "u64", "zero"],
      ["pad2", "u64", "zero"],
      ["pad3", "u64", "zero"],
      ["pad4", "u64", "zero"],
    ],
  },
  WorkerControl: {
    doc: "What the main thread and one worker tell each other. Every field is read and written atomically. A cache line of its own.",
    size: 64,
    fields: [
      ["seenGeneration", "u32", "worker: generation of the image that it uses"],
      [
        "quiescent",
        "u32",
        "worker: 1 while it uses no image (it waits for packets); it adopts the newest before it goes on",
      ],
      ["stop", "u32", "main: 1 asks the worker to leave its loop"],
      ["heartbeatMs", "u32", "worker: engine clock at its last batch, milliseconds, wraps"],
      [
        "sleeping",
        "u32",
        "worker: 1 while it waits for packets and sees no ring; whoever makes it 0 has to wake the worker",
      ],
      ["pad0", "u32", "zero"],
      ["pad1", "u64", "zero"],
      ["pad2", "u64", "zero"],
      ["pad3", "u64", "zero"],
      ["pad4", "u64", "zero"],
      ["pad5", "u64", "zero"],
    ],
  },
  ...IMAGE_RECORDS,
  ...WORKER_RECORDS,
};
