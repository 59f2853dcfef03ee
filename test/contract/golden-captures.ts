/**
 * Golden captures: conversations built by scapy, checked by tcpdump (test/vectors/make.py), replayed through an engine.
 * What leaves must be the expected file, frame for frame and byte for byte.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Capture, readCapture } from "../../src/device/pcap.ts";
import type { EngineLimits, PacketEngine } from "../../src/engine/engine.ts";
import type { Address, Family } from "../../src/model/address.ts";
import type { Protocol, RuleType } from "../../src/model/config.ts";
import { address6Of, Bench, CLIENT_SIDE, PROXY, ruleOf, SERVER_SIDE, SERVERS, VIP } from "../support/engine-bench.ts";
import { membersOf, onePort, type RuleSpec } from "../support/image-builder.ts";
import { toHex } from "../support/packet-builder.ts";
import { decodeEthernet, decodeIp } from "../support/packet-decoder.ts";
import { CONTRACT_LIMITS } from "./engine-contract.ts";

const VECTORS = join(import.meta.dir, "../vectors");

function load(name: string): Capture {
  const result = readCapture(readFileSync(join(VECTORS, name)), name);
  if (!result.ok) throw new Error(result.failure.text);
  return result.value;
}

/** The rule that make.py has in mind: one server, whose port differs from the VIP's unless the rule is DSR. */
function ruleFor(type: RuleType, protocol: Protocol, family: Family): RuleSpec {
  const own = (address: Address): Address => (family === 4 ? address : address6Of(address));
  const [vipPort, serverPort] = protocol === "tcp" ? [80, 8080] : [53, 5353];
  const ports = type === "DSR" ? null : onePort(serverPort);
  const [server] = SERVERS;
  const members = membersOf([{ ...server!, address: own(server!.address), ports }]);
  const proxySource = type === "NAT" ? { first: own(PROXY), last: own(PROXY) } : null;
  return ruleOf({ type, protocol, vip: own(VIP), ports: onePort(vipPort), proxySource, members });
}

/** Frames that the server sent arrive on its side of the box. */
function ingressPort(frame: Uint8Array): number {
  const { source } = decodeIp(decodeEthernet(frame).payload);
  // In either family the last four bytes tell the network.
  return ((source.value >> 8n) & 0xffffffn) === 0xc00002n ? SERVER_SIDE : CLIENT_SIDE;
}

/** @param make an engine that begins with proxy port 4096. */
export function goldenCaptures(name: string, make: (limits: EngineLimits) => PacketEngine): void {
  describe(`golden captures: ${name}`, () => {
    const cases = (["DSR", "HALF-NAT", "NAT"] as const).flatMap((type) =>
      (["tcp", "udp"] as const).flatMap((protocol) =>
        ([4, 6] as const).map((family) => [type, protocol, family] as const),
      ),
    );
    test.each(cases)("a %s %s conversation over IPv%i leaves as scapy says", (type, protocol, family) => {
      const file = `${type.toLowerCase()}-${protocol}${family === 4 ? "" : "6"}`;
      const arriving = load(`${file}.in.pcap`);
      const expected = load(`${file}.out.pcap`);
      const engine = make(CONTRACT_LIMITS);
      const world = new Bench(engine, [ruleFor(type, protocol, family)]);
      const startNs = arriving.packets[0]!.timeNs;
      const left = arriving.packets.flatMap(({ timeNs, bytes }) => {
        const nowMs = world.nowMs + Number((timeNs - startNs) / 1_000_000n);
        return engine.process([{ bytes: bytes.slice(), port: ingressPort(bytes) }], nowMs)[0]!.out;
      });
      engine.close();
      expect(left.map((frame) => toHex(frame.bytes))).toEqual(expected.packets.map((packet) => toHex(packet.bytes)));
    });
  });
}
