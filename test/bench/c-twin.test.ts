/**
 * The bench compares with the C twin only if the twin does the same work: on everyday packets it must say, write and count
 * what the engine does, byte for byte in the whole flow memory, and it must leave everything else alone.
 */
import { describe, expect, test } from "bun:test";
import { type CTwin, type CTwinKind, loadCTwin } from "../../bench/support/c-twin.ts";
import { compilerReason } from "../../bench/support/native.ts";
import { ensureWasm } from "../../scripts/build-wasm.ts";
import { readModule, viewsOf } from "../../src/engine/abi.ts";
import type { FrameIn, Outcome } from "../../src/engine/engine.ts";
import { FrameMemory } from "../../src/engine/frame-memory.ts";
import { WasmEngine } from "../../src/engine/wasm-engine.ts";
import { Bucket, HEAD_L3_CAPACITY, Reason, Verdict } from "../../src/gen/layout.ts";
import {
  answerTo,
  arriving,
  Bench,
  CLIENT,
  onlyPacket,
  PORTS,
  ruleOf,
  SERVER_SIDE,
  SERVERS,
  TUN,
  tcpPacket,
  udpPacket,
} from "../support/engine-bench.ts";
import { membersOf, onePort } from "../support/image-builder.ts";
import type { Decoded } from "../support/packet-decoder.ts";
import { Random, seedFromEnvironment } from "../support/random.ts";

const LIMITS = { maxFlows: 4_096, maxRules: 8, maxPairs: 64, maxSticky: 8 };
const FLOWS = 300;

/** A skip is named with what is missing. */
const reason = compilerReason();
const named = (name: string) => (reason === null ? name : `${name} (skipped: ${reason})`);

/** A world whose rules are TCP and UDP half-NAT, all servers on port 8080. */
async function newWorld(): Promise<{ bench: Bench; engine: WasmEngine }> {
  await ensureWasm();
  const engine = new WasmEngine({ limits: LIMITS, moduleBytes: await readModule() });
  const servers = SERVERS.map((server) => ({ ...server, ports: onePort(8080) }));
  const rules = (["tcp", "udp"] as const).map((protocol, i) =>
    ruleOf({ id: i + 1, slot: i, protocol, ports: onePort(80), members: membersOf(servers), natTimeoutMs: 5_000 }),
  );
  return { bench: new Bench(engine, rules), engine };
}

interface OpenFlow {
  readonly protocol: "tcp" | "udp";
  readonly ends: { readonly from: typeof CLIENT; readonly sourcePort: number };
  readonly port: number;
  /** The client's packet as the server got it. */
  readonly request: Decoded;
}

/** The same flows in every world that is opened with the same random numbers. */
function openFlows(bench: Bench): OpenFlow[] {
  return Array.from({ length: FLOWS }, (_, i) => {
    const protocol = i % 2 === 0 ? "tcp" : "udp";
    const ends = { from: { family: 4 as const, value: CLIENT.value - BigInt(i % 50) }, sourcePort: 1024 + i };
    const port = i % 10 === 9 ? TUN : 0;
    const send = () =>
      protocol === "tcp" ? tcpPacket({ ...ends, flags: "A" }) : udpPacket({ ...ends, destinationPort: 80 });
    const outcome = bench.send(arriving(send(), port));
    const request = onlyPacket(outcome, port === TUN ? "ip" : "ethernet");
    bench.send(arriving(answerTo(request, { flags: "A" }), port === TUN ? TUN : SERVER_SIDE));
    bench.send(arriving(send(), port));
    return { protocol, ends, port, request };
  });
}

/** A packet of a flow that needs nothing but the fast path. */
function everyday(random: Random, { protocol, ends, port, request }: OpenFlow): FrameIn {
  const payload = random.bytes(random.below(200));
  const isPartial = random.chance(0.3);
  const checksum = isPartial ? "partial" : random.chance(0.1) ? random.of([0, 0xffff, random.below(65536)]) : "good";
  const isAnswer = random.chance(0.5);
  const fields = { payload, checksum, flags: random.of(["A", "PA"]) } as const;
  const packet = isAnswer
    ? answerTo(request, fields)
    : protocol === "tcp"
      ? tcpPacket({ ...ends, ...fields })
      : udpPacket({ ...ends, payload, checksum, destinationPort: 80 });
  const link = port === TUN ? 0 : 14;
  const gso = isPartial && random.chance(0.3) ? { gsoType: protocol === "tcp" ? 1 : 5, gsoSize: 1000 } : {};
  const base = {
    flags: 1,
    gsoType: 0,
    hdrLen: 0,
    gsoSize: 0,
    csumStart: link + 20,
    csumOffset: protocol === "tcp" ? 16 : 6,
  };
  return arriving(packet, port === TUN ? TUN : isAnswer ? SERVER_SIDE : 0, isPartial ? { ...base, ...gso } : undefined);
}

/** The twin behind frames in and outcomes out, on the memory of an engine. */
class TwinWorld {
  readonly #frames: FrameMemory;
  readonly #twin: CTwin;

  constructor(engine: WasmEngine, kind: CTwinKind) {
    this.#frames = new FrameMemory(engine.host.memory, engine.host.map.workers[0]!, HEAD_L3_CAPACITY);
    for (const [index, port] of PORTS.entries()) this.#frames.setPort(index, port);
    const { memory, map } = engine.host;
    this.#twin = loadCTwin({ memory, map, workerIndex: 0, moduleBytes: new Uint8Array() }, kind);
  }

  /** @returns outcomes, and how many packets the twin says that it forwarded */
  process(frames: readonly FrameIn[], nowMs: number): { outcomes: Outcome[]; forwarded: number } {
    frames.forEach((frame, index) => {
      this.#frames.place(frame, index);
    });
    const forwarded = this.#twin.process(frames.length, nowMs);
    return { outcomes: frames.map((_, index) => this.#frames.outcome(index, 0)), forwarded };
  }
}

/** The whole flow memory of the only worker: table, records, pairs. */
function flowMemory({ host }: WasmEngine): Buffer {
  const { flowMemory: at, flowMemoryBytes } = host.map.workers[0]!;
  return Buffer.from(viewsOf(host.memory).u8.slice(at, at + flowMemoryBytes));
}

/** The same without deadlines, which the stores of a look-up put off and prefetch instructions do not. */
function flowMemoryWithoutDeadlines(engine: WasmEngine): Buffer {
  const bytes = flowMemory(engine);
  const { flowMemory: at, buckets } = engine.host.map.workers[0]!;
  const first = buckets - at;
  for (let bucket = first; bucket < first + engine.host.map.counts.buckets * Bucket.size; bucket += Bucket.size)
    bytes.fill(0, bucket + Bucket.deadline0, bucket + Bucket.meta0);
  return bytes;
}

describe.each(["touch", "prefetch"] as const)("the C twin, %s", (kind) => {
  test.skipIf(reason !== null)(named("says, writes and counts what the engine does for everyday packets"), async () => {
    const seed = seedFromEnvironment(23);
    console.log(`C twin seed ${seed}`);
    const random = new Random(seed);
    const [own, other] = [await newWorld(), await newWorld()];
    const flows = openFlows(own.bench);
    openFlows(other.bench);
    const twin = new TwinWorld(other.engine, kind);
    let nowMs = own.bench.nowMs;
    for (let batch = 0; batch < 200; batch++) {
      nowMs += random.below(300);
      const frames = Array.from({ length: 1 + random.below(64) }, () => everyday(random, random.of(flows)));
      const expected = own.engine.process(frames, nowMs);
      const { outcomes, forwarded } = twin.process(frames, nowMs);
      expect(expected.every((outcome) => outcome.reason === Reason.FlowFound)).toBe(true);
      expect(outcomes).toEqual(expected);
      expect(forwarded).toBe(frames.length);
    }
    const memoryOf = kind === "touch" ? flowMemory : flowMemoryWithoutDeadlines;
    expect(memoryOf(other.engine).equals(memoryOf(own.engine))).toBe(true);
    expect(other.engine.counters()).toEqual(own.engine.counters());
  });

  test.skipIf(reason !== null)(
    named("leaves alone, and does not count, what its fast path does not take"),
    async () => {
      const { bench, engine } = await newWorld();
      const [flow] = openFlows(bench);
      const twin = new TwinWorld(engine, kind);
      const before = flowMemoryWithoutDeadlines(engine);
      const { ends } = flow!;
      const others = [
        tcpPacket({ ...ends, flags: "FA" }),
        tcpPacket({ ...ends, flags: "R" }),
        tcpPacket({ ...ends, flags: "A", ipv4: { ttl: 1 } }),
        tcpPacket({ ...ends, flags: "A", ipv4: { moreFragments: true } }),
        tcpPacket({ ...ends, sourcePort: 65_000, flags: "A" }),
        tcpPacket({ ...ends, flags: "A", payload: new Uint8Array(1461) }),
        Uint8Array.from([0x45, 0, 0]),
      ].map((packet) => arriving(packet));
      const { outcomes, forwarded } = twin.process(others, bench.nowMs);
      expect(forwarded).toBe(0);
      for (const { verdict } of outcomes) expect(verdict).not.toBe(Verdict.Forward);
      expect(flowMemoryWithoutDeadlines(engine).equals(before)).toBe(true);
    },
  );
});
