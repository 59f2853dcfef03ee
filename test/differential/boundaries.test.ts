/**
 * What somebody may put into the headers of packets of an open flow, gone through value by value where random traffic is thin.
 * Both engines are given the same frames, every other one an everyday packet of the flow, so that the loop of the fast path
 * comes upon them; and the WebAssembly engine again with the frame at the end of the memory, where a read behind it traps.
 */
import { describe, expect, test } from "bun:test";
import type { FrameIn, VnetHeader } from "../../src/engine/engine.ts";
import { fixedHashKey } from "../../src/engine/host.ts";
import { ReferenceEngine } from "../../src/engine/reference.ts";
import { Reason } from "../../src/gen/layout.ts";
import type { Address, Family } from "../../src/model/address.ts";
import type { Protocol, RuleType } from "../../src/model/config.ts";
import { GuardedEngine } from "../fuzz/guarded-engine.ts";
import {
  address6Of,
  answerTo,
  arriving,
  CLIENT,
  CLIENT_SIDE,
  hopOf,
  onlyPacket,
  PORTS,
  PROXY,
  ruleOf,
  SERVER_SIDE,
  SERVERS,
  TUN,
  tcpPacket,
  udpPacket,
  VIP,
} from "../support/engine-bench.ts";
import { imageOf, membersOf, onePort, type RuleSpec } from "../support/image-builder.ts";
import { toHex } from "../support/packet-builder.ts";
import { MODULE_BYTES } from "../support/wasm-engine.ts";
import { Duel, outcomeDifference, spellOutcome } from "./duel.ts";
import { ROOMY } from "./stage.ts";
import { wasmSubject } from "./subject.ts";

const NOW_MS = 1_000_000;
const LINK = 14;
/** Everyday packets and what stands between them. */
const PAIRS_PER_BATCH = 32;
const PAYLOAD = new Uint8Array(24).fill(0x61);
/** Of bytes that are part of a larger number or of an address. */
const SOME_VALUES = [0, 1, 0x7f, 0x80, 0xfe, 0xff];
const ALL_VALUES = Array.from({ length: 256 }, (_, value) => value);

interface Kind {
  readonly family: Family;
  readonly protocol: Protocol;
  readonly type: RuleType;
}
const KINDS: readonly Kind[] = ([4, 6] as const).flatMap((family) =>
  (["tcp", "udp"] as const).flatMap((protocol) =>
    (["HALF-NAT", "NAT"] as const).map((type) => ({ family, protocol, type })),
  ),
);

/** Everyday packets of an open flow, of the client and of the server, as they arrive. */
type Sides = readonly [FrameIn, FrameIn];

/** Rules and packets of one kind of flow. */
class Scene {
  readonly kind: Kind;
  readonly headerBytes: number;
  readonly transportBytes: number;
  /** Where the IP header has the total or payload length, from its beginning. */
  readonly lengthAt: number;

  constructor(kind: Kind) {
    this.kind = kind;
    this.headerBytes = kind.family === 4 ? 20 : 40;
    this.transportBytes = kind.protocol === "tcp" ? 20 : 8;
    this.lengthAt = kind.family === 4 ? 2 : 4;
  }

  #own = (address: Address): Address => (this.kind.family === 4 ? address : address6Of(address));

  get rule(): RuleSpec {
    const proxy = this.#own(PROXY);
    const { protocol, type } = this.kind;
    const members = membersOf(SERVERS.map((server) => ({ ...server, address: this.#own(server.address) })));
    const proxySource = type === "NAT" ? { first: proxy, last: proxy } : null;
    return ruleOf({ vip: this.#own(VIP), protocol, type, proxySource, ports: onePort(80), members });
  }

  packet(sourcePort: number, flags: string, payload: Uint8Array): Uint8Array {
    const ends = { from: this.#own(CLIENT), to: this.#own(VIP), sourcePort, destinationPort: 80, payload };
    return this.kind.protocol === "tcp" ? tcpPacket({ ...ends, flags }) : udpPacket(ends);
  }

  /** A frame with another length in its IP header. @param total of the packet */
  withTotal(frame: FrameIn, total: number, link = LINK): FrameIn {
    const bytes = frame.bytes.slice();
    const value = this.kind.family === 4 ? total : total - this.headerBytes;
    new DataView(bytes.buffer).setUint16(link + this.lengthAt, value & 0xffff);
    return { ...frame, bytes };
  }
}

/** Both engines with the rule of a scene. */
class Ring {
  readonly scene: Scene;
  readonly #duel: Duel;

  constructor(scene: Scene) {
    this.scene = scene;
    const make = wasmSubject(1, "modern");
    this.#duel = new Duel(make(), new ReferenceEngine(ROOMY.limits), ROOMY);
    for (const [index, port] of PORTS.entries()) this.#duel.apply({ kind: "port", index, port });
    for (const index of SERVERS.keys()) this.#duel.apply({ kind: "hop", index, hop: hopOf(index) });
    this.#duel.apply({ kind: "publish", image: imageOf(1, [scene.rule]) });
  }

  give(frames: readonly FrameIn[]) {
    const disagreement = this.#duel.apply({ kind: "batch", frames, nowMs: NOW_MS });
    if (disagreement !== null) {
      const { what, frame } = disagreement;
      throw new Error(
        `${what}\n${frame === undefined ? "" : `port ${frame.port} ${toHex(frame.bytes)} ${JSON.stringify(frame.vnet)}`}`,
      );
    }
    return this.#duel.lastOutcomes;
  }

  /** Opens a flow of this client port. @param port that the client is behind */
  open(sourcePort: number, port = CLIENT_SIDE): Sides {
    const { scene } = this;
    const none = new Uint8Array();
    const [opened] = this.give([arriving(scene.packet(sourcePort, "S", none), port)]);
    const request = onlyPacket(opened!, port === TUN ? "ip" : "ethernet");
    const back = port === TUN ? TUN : SERVER_SIDE;
    this.give([arriving(answerTo(request, { flags: "SA" }), back)]);
    const everyday = arriving(scene.packet(sourcePort, "A", PAYLOAD), port);
    this.give([everyday]);
    return [everyday, arriving(answerTo(request, { flags: "A", payload: PAYLOAD }), back)];
  }

  /** Gives each of `frames` between two everyday packets of its flow. */
  between(everyday: FrameIn, frames: readonly FrameIn[]): void {
    for (let from = 0; from < frames.length; from += PAIRS_PER_BATCH)
      this.give(frames.slice(from, from + PAIRS_PER_BATCH).flatMap((frame) => [everyday, frame]));
  }

  counted(reason: Reason): bigint {
    return this.#duel.reference.counters().reasons[reason]!;
  }

  end(): void {
    expect(this.#duel.compareState()).toBeNull();
    this.#duel.subject.close();
  }
}

const withByte = (frame: FrameIn, at: number, value: number): FrameIn => {
  const bytes = frame.bytes.slice();
  bytes[at] = value;
  return { ...frame, bytes };
};

/** A frame of IPv4 as one of IPv6 to the IPv4-mapped address of the same destination; one of IPv6 as it is. */
function asMapped(frame: FrameIn, family: Family): FrameIn {
  if (family === 6) return frame;
  const packet = frame.bytes.subarray(LINK);
  const head = new Uint8Array([0x60, 0, 0, 0, 0, packet.length - 20, packet[9]!, 64]);
  const source = new Uint8Array([0x20, 1, 0x0d, 0xb8, ...new Uint8Array(8), ...packet.subarray(12, 16)]);
  const mapped = new Uint8Array([...new Uint8Array(10), 0xff, 0xff, ...packet.subarray(16, 20)]);
  const link = [...frame.bytes.subarray(0, 12), 0x86, 0xdd];
  return { ...frame, bytes: Uint8Array.from([...link, ...head, ...source, ...mapped, ...packet.subarray(20)]) };
}

/** Offsets whose every value says something else: what is no address and no sequence number. */
function isTelling({ headerBytes, kind }: Scene, at: number): boolean {
  if (at < LINK) return at >= 12;
  const inIp = at - LINK;
  if (inIp < headerBytes) return inIp < (kind.family === 4 ? 12 : 8);
  const inTransport = inIp - headerBytes;
  return kind.protocol === "udp" ? inTransport >= 4 : inTransport === 12 || inTransport === 13;
}

/** Lengths around every boundary of the headers, for a frame of `bytes` bytes of layer 3. */
function totalsFor({ headerBytes, transportBytes }: Scene, bytes: number): number[] {
  const edges = [0, headerBytes, headerBytes + 4, headerBytes + transportBytes, bytes];
  return [...new Set([...edges.flatMap((edge) => [edge - 1, edge, edge + 1]), 0xffff])].filter((total) => total >= 0);
}

/** A frame cut after any number of bytes, with lengths that fit and that do not. */
function cutFrames(scene: Scene, frame: FrameIn, link: number): FrameIn[] {
  const cuts = Array.from({ length: frame.bytes.length + 1 }, (_, bytes) => bytes);
  return cuts.flatMap((bytes) => {
    const cut = { ...frame, bytes: frame.bytes.slice(0, bytes) };
    if (bytes < link + scene.lengthAt + 2) return [cut];
    return totalsFor(scene, bytes - link).map((total) => scene.withTotal(cut, total, link));
  });
}

/** The header lengths that TCP, UDP and IPv4 claim, with every total length. */
function claimedLengths(scene: Scene, frame: FrameIn): FrameIn[] {
  const { headerBytes, kind } = scene;
  const l4 = LINK + headerBytes;
  const totals = Array.from({ length: frame.bytes.length - LINK + 1 }, (_, total) => total);
  const claims: FrameIn[] = [];
  for (let words = 0; words < 16; words++) {
    if (kind.protocol === "tcp") claims.push(withByte(frame, l4 + 12, words << 4));
    if (kind.family === 4) claims.push(withByte(frame, LINK, 0x40 | words));
  }
  if (kind.protocol === "udp")
    for (const length of [0, 7, 8, 9, 31, 32, 33, 255]) claims.push(withByte(frame, l4 + 5, length));
  return claims.flatMap((claim) => totals.map((total) => scene.withTotal(claim, total)));
}

function offloads({ headerBytes, kind }: Scene): VnetHeader[] {
  const start = LINK + headerBytes;
  const offset = kind.protocol === "tcp" ? 16 : 6;
  const headers: VnetHeader[] = [];
  for (const flags of [0, 1, 2, 3, 0xff])
    for (const gsoType of [0, 1, 3, 4, 5, 0x7f, 0x80, 0x81, 0x84, 0x85, 0xff])
      for (const gsoSize of [0, 1, 24, 1400, 1460, 1473, 0xffff])
        for (const csumStart of [start, start - 1, start - LINK, 0, 0xffff])
          for (const csumOffset of [offset, 22 - offset, 0xffff])
            headers.push({ flags, gsoType, gsoSize, csumStart, csumOffset, hdrLen: gsoSize });
  return headers;
}

describe.each(KINDS)("an open flow of $protocol over IPv$family, $type", (kind) => {
  const scene = new Scene(kind);

  test("any value of any byte of its headers: both engines do the same", () => {
    const ring = new Ring(scene);
    const end = LINK + scene.headerBytes + scene.transportBytes;
    for (let at = 0; at < end; at++) {
      // Each byte has a flow of its own, which no flag of another has closed.
      for (const frame of ring.open(10_000 + at))
        ring.between(
          frame,
          (isTelling(scene, at) ? ALL_VALUES : SOME_VALUES).map((value) => withByte(frame, at, value)),
        );
    }
    for (const reason of [Reason.FlowFound, Reason.FlowNew, Reason.MalformedIp, Reason.MalformedTransport])
      expect(ring.counted(reason)).toBeGreaterThan(0n);
    ring.end();
  }, 60_000);

  // Full NAT opens on the long way only, where the test above has been.
  if (kind.type === "HALF-NAT")
    test("any value of any byte of packets that open flows, among others that do: both engines do the same", () => {
      const ring = new Ring(scene);
      const none = new Uint8Array();
      let sourcePort = 1_000;
      const opening = (port = CLIENT_SIDE): FrameIn => arriving(scene.packet(sourcePort++, "S", none), port);
      ring.give([opening(), opening(), opening()]);
      const end = LINK + scene.headerBytes + scene.transportBytes;
      const frames: FrameIn[] = [];
      for (let at = 0; at < end; at++)
        for (const value of isTelling(scene, at) ? ALL_VALUES : SOME_VALUES)
          frames.push(opening(), withByte(opening(), at, value));
      // The rule of the packet before is not that of a packet whose addresses only look alike.
      frames.push(opening(), asMapped(opening(), kind.family), opening(TUN));
      for (let from = 0; from < frames.length; from += 2 * PAIRS_PER_BATCH)
        ring.give(frames.slice(from, from + 2 * PAIRS_PER_BATCH));
      for (const reason of [Reason.FlowNew, Reason.MalformedIp, Reason.MalformedTransport, Reason.TimeExceededSent])
        expect(ring.counted(reason)).toBeGreaterThan(0n);
      ring.end();
    }, 60_000);

  test("frames cut anywhere and lengths that do not fit them: both engines do the same", () => {
    const ring = new Ring(scene);
    for (const port of [CLIENT_SIDE, TUN])
      for (const frame of ring.open(20_000 + port, port))
        ring.between(frame, cutFrames(scene, frame, port === TUN ? 0 : LINK));
    for (const frame of ring.open(30_000)) ring.between(frame, claimedLengths(scene, frame));
    for (const reason of [Reason.FlowFound, Reason.MalformedLink, Reason.MalformedIp, Reason.MalformedTransport])
      expect(ring.counted(reason)).toBeGreaterThan(0n);
    ring.end();
  }, 60_000);

  test("any offload that a frame may ask for, and any port that it may come from: both engines do the same", () => {
    const ring = new Ring(scene);
    for (const frame of ring.open(40_000)) {
      ring.between(
        frame,
        offloads(scene).map((vnet) => ({ ...frame, vnet })),
      );
      ring.between(
        frame,
        ALL_VALUES.map((port) => ({ ...frame, port })),
      );
    }
    for (const reason of [Reason.FlowFound, Reason.GsoUnknown, Reason.MalformedOffload, Reason.NotIp])
      expect(ring.counted(reason)).toBeGreaterThan(0n);
    ring.end();
  }, 60_000);

  test("frames cut anywhere at the end of the memory: nothing behind or before them is read or written", () => {
    const engines = [0x5c, 0xa3].map((canary) => guardedEngine(scene, canary));
    const everyday = arriving(scene.packet(50_000, "A", PAYLOAD));
    for (const engine of engines) {
      const [opened] = engine.process([arriving(scene.packet(50_000, "S", new Uint8Array()))], NOW_MS);
      engine.process([arriving(answerTo(onlyPacket(opened!), { flags: "SA" }), SERVER_SIDE), everyday], NOW_MS);
    }
    for (const frame of [...cutFrames(scene, everyday, LINK), ...claimedLengths(scene, everyday)]) {
      for (const edge of [0, 1]) {
        // The first frame of a batch decides what the others are taken for first.
        const batch = edge === 0 ? [frame, everyday] : [everyday, frame];
        const [ours, theirs] = engines.map((engine) => {
          engine.edge = edge;
          return engine.process(batch, NOW_MS)[edge]!;
        });
        const found = outcomeDifference(ours!, theirs!);
        if (found !== null)
          throw new Error(`${found}\n${spellOutcome(ours!)}\n${spellOutcome(theirs!)}\n${toHex(frame.bytes)}`);
      }
    }
    for (const engine of engines) engine.checkAll();
  }, 60_000);
});

function guardedEngine(scene: Scene, canary: number): GuardedEngine {
  const engine = new GuardedEngine({
    limits: { maxFlows: 100, maxRules: 8, maxPairs: 64, maxSticky: 8 },
    moduleBytes: MODULE_BYTES,
    hashKey: fixedHashKey(),
    compat: "modern",
    canary,
  });
  for (const [index, port] of PORTS.entries()) engine.setPort(index, port);
  for (const index of SERVERS.keys()) engine.setNextHop(index, hopOf(index));
  engine.publish(imageOf(1, [scene.rule]));
  return engine;
}
