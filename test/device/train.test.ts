import { afterEach, describe, expect, test } from "bun:test";
import type { Family } from "../../src/lab/topology.ts";
import { ip, mac } from "../support/addresses.ts";
import * as build from "../support/packet-builder.ts";
import { Namespaces, NO_NAMESPACES } from "./namespaces.ts";

const PROGRAM = new URL("./train-main.ts", import.meta.url).pathname;
const MACS = ["02:00:5e:00:00:0a", "02:00:5e:00:00:0b"] as const;
const ENDS = {
  4: { source: ip("198.51.100.1"), destination: ip("203.0.113.1") },
  6: { source: ip("2001:db8::1"), destination: ip("2001:db8::2") },
} as const;
const SEGMENT_BYTES = 1000;
const FIRST_ID = 0xfffe; // wraps within the train

interface SegmentSpec {
  /** Payload bytes before it. */
  readonly at: number;
  readonly bytes?: number;
  readonly number: number;
  readonly tcp?: Partial<build.TcpSpec>;
  readonly hops?: number;
}

function framed(family: Family, packet: Uint8Array): Uint8Array {
  const etherType = family === 4 ? build.ETHERTYPE_IPV4 : build.ETHERTYPE_IPV6;
  return build.ethernet({ destination: mac(MACS[1]), source: mac(MACS[0]), etherType, payload: packet });
}

/** A segment as it is in a batch (`partial`) and as it must be on the wire (`good`). */
function segment(family: Family, { at, bytes = SEGMENT_BYTES, number, tcp = {}, hops = 64 }: SegmentSpec) {
  const payload = new Uint8Array(bytes).map((_, index) => (at + index * 7) & 0xff);
  const options = Uint8Array.from([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
  const make = (checksum: build.ChecksumChoice) => {
    const spec = {
      sourcePort: 999,
      destinationPort: 80,
      sequence: 0xffff_ff00 + at,
      options,
      payload,
      ...tcp,
      checksum,
    };
    const inner = build.tcp({ ...spec, sequence: spec.sequence >>> 0 }, ENDS[family]);
    const identification = (FIRST_ID + number) & 0xffff;
    const packet =
      family === 4
        ? build.ipv4({ ...ENDS[4], protocol: 6, payload: inner, identification, dontFragment: true, ttl: hops })
        : build.ipv6({ ...ENDS[6], nextHeader: 6, payload: inner, hopLimit: hops });
    return framed(family, packet);
  };
  return { partial: make("partial"), good: make("good") };
}

/** Four full segments, the last one shorter and pushed. */
const train = (family: Family, change: (spec: SegmentSpec) => SegmentSpec = (spec) => spec) =>
  [0, 1, 2, 3].map((number) =>
    segment(
      family,
      change({
        at: number * SEGMENT_BYTES,
        number,
        bytes: number === 3 ? 400 : 1000,
        tcp: { flags: number === 3 ? "AP" : "A" },
      }),
    ),
  );

interface Arrived {
  readonly hex: string;
  readonly gsoSize: number;
}

describe.skipIf(NO_NAMESPACES !== null)(`trains of segments${NO_NAMESPACES ? ` (${NO_NAMESPACES})` : ""}`, () => {
  let open: Namespaces | undefined;
  afterEach(async () => {
    await open?.close();
    open = undefined;
  });

  /** @param offloads of the port that sends */
  async function send(segments: readonly { partial: Uint8Array }[], offloads: "on" | "off") {
    const namespaces = new Namespaces("box");
    open = namespaces;
    namespaces.cable({ namespace: "box", name: "b0", mac: MACS[0] }, { namespace: "box", name: "b1", mac: MACS[1] });
    if (offloads === "off") namespaces.run("box", "ethtool", "-K", "b0", "tx", "off", "tso", "off", "gso", "off");
    const end = build.udp(
      { sourcePort: 1, destinationPort: 2, payload: new Uint8Array(18), checksum: "none" },
      ENDS[4],
    );
    const frames = [
      ...segments.map(({ partial }) => partial),
      framed(4, build.ipv4({ ...ENDS[4], protocol: 17, payload: end })),
    ];
    const lines = namespaces
      .run("box", process.execPath, PROGRAM, frames.map(build.toHex).join(","))
      .trim()
      .split("\n");
    const arrived = lines.slice(0, -1).map((line) => JSON.parse(line) as Arrived);
    const counted = JSON.parse(lines.at(-1)!) as { sent: number; txFrames: number; txBytes: number };
    return { arrived, ...counted, bytes: frames.reduce((sum, frame) => sum + frame.length, 0) };
  }

  test.each([4, 6] as const)(
    "of one IPv%d connection leave as one super-packet, and each is counted",
    async (family) => {
      const { arrived, sent, txFrames, txBytes, bytes } = await send(train(family), "on");
      expect(arrived.map(({ gsoSize }) => gsoSize)).toEqual([SEGMENT_BYTES]);
      expect([sent, txFrames, txBytes]).toEqual([5, 5, bytes]);
    },
  );

  test.each([4, 6] as const)(
    "IPv%d: cut up again they are byte for byte what came in, with right checksums",
    async (family) => {
      const segments = train(family);
      const { arrived } = await send(segments, "off");
      expect(arrived.map(({ hex }) => hex)).toEqual(segments.map(({ good }) => build.toHex(good)));
    },
  );

  const third = (change: Partial<SegmentSpec>) => (spec: SegmentSpec) =>
    spec.number === 2 ? { ...spec, ...change } : spec;
  test.each([
    ["another acknowledgement", third({ tcp: { acknowledgement: 5 } })],
    ["another window", third({ tcp: { window: 77 } })],
    ["another option", third({ tcp: { options: Uint8Array.from([1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 2]) } })],
    ["FIN", third({ tcp: { flags: "AF" } })],
    ["CWR", third({ tcp: { flags: "AC" } })],
    ["a gap before it", third({ at: 2500 })],
    ["more data than the first", third({ bytes: 1001 })],
    ["another port", third({ tcp: { sourcePort: 998 } })],
    ["another hop limit", third({ hops: 63 })],
    ["another identification", third({ number: 9 })],
    ["a push", third({ tcp: { flags: "AP" } })],
    ["less data", third({ bytes: 10 })],
  ] as const)("are parted by a segment with %s, and all arrive as they were", async (_, change) => {
    const segments = train(4, change);
    const { arrived } = await send(segments, "off");
    expect(arrived.map(({ hex }) => hex)).toEqual(segments.map(({ good }) => build.toHex(good)));
    await open?.close();
    const whole = await send(segments, "on");
    expect(whole.arrived.length).toBeGreaterThan(1);
  });
});
