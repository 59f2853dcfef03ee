/**
 * Golden captures: conversations built by scapy, checked by tcpdump (test/vectors/make.py), replayed through an engine.
 * What leaves must be the expected file, frame for frame and byte for byte.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Capture, readCapture } from "../../src/device/pcap.ts";
import type { EngineLimits, PacketEngine } from "../../src/engine/engine.ts";
import type { Protocol, RuleType } from "../../src/model/config.ts";
import { addressText } from "../support/addresses.ts";
import { Bench, CLIENT_SIDE, ruleOf, SERVER_SIDE, SERVERS } from "../support/engine-bench.ts";
import { membersOf, onePort, type RuleSpec } from "../support/image-builder.ts";
import { toHex } from "../support/packet-builder.ts";
import { decodeEthernet, decodeIpv4 } from "../support/packet-decoder.ts";
import { CONTRACT_LIMITS } from "./engine-contract.ts";

const VECTORS = join(import.meta.dir, "../vectors");

function load(name: string): Capture {
  const result = readCapture(readFileSync(join(VECTORS, name)), name);
  if (!result.ok) throw new Error(result.failure.text);
  return result.value;
}

/** The rule that make.py has in mind: one server, whose port differs from the VIP's unless the rule is DSR. */
function ruleFor(type: RuleType, protocol: Protocol): RuleSpec {
  const [vipPort, serverPort] = protocol === "tcp" ? [80, 8080] : [53, 5353];
  const ports = type === "DSR" ? null : onePort(serverPort);
  return ruleOf({ type, protocol, ports: onePort(vipPort), members: membersOf([{ ...SERVERS[0]!, ports }]) });
}

/** Frames that the server sent arrive on its side of the box. */
function ingressPort(frame: Uint8Array): number {
  const { source } = decodeIpv4(decodeEthernet(frame).payload);
  return addressText(source).startsWith("192.0.2.") ? SERVER_SIDE : CLIENT_SIDE;
}

/** @param make an engine that begins with proxy port 4096. */
export function goldenCaptures(name: string, make: (limits: EngineLimits) => PacketEngine): void {
  describe(`golden captures: ${name}`, () => {
    test.each([
      ["DSR", "tcp"],
      ["DSR", "udp"],
      ["HALF-NAT", "tcp"],
      ["HALF-NAT", "udp"],
      ["NAT", "tcp"],
      ["NAT", "udp"],
    ] as const)("a %s %s conversation leaves as scapy says", (type, protocol) => {
      const file = `${type.toLowerCase()}-${protocol}`;
      const arriving = load(`${file}.in.pcap`);
      const expected = load(`${file}.out.pcap`);
      const engine = make(CONTRACT_LIMITS);
      const world = new Bench(engine, [ruleFor(type, protocol)]);
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
