/** A virtio header whose segmentation type was the ECN bit and nothing else went out as it was; no kernel takes that. */
import { expect, test } from "bun:test";
import { Reason } from "../../../src/gen/layout.ts";
import { arriving, Bench, CLIENT_SIDE, ruleOf, tcpPacket } from "../../support/engine-bench.ts";
import { makeWasmEngine } from "../../support/wasm-engine.ts";

test("the ECN bit alone is an unknown kind of super-packet, on new and on established flows", () => {
  const limits = { maxFlows: 1_000, maxRules: 8, maxPairs: 64, maxSticky: 8 };
  const world = new Bench(makeWasmEngine(limits), [ruleOf()]);
  const vnet = { flags: 1, gsoType: 0x80, hdrLen: 54, gsoSize: 1448, csumStart: 34, csumOffset: 16 };
  const send = (flags: string, gsoType: number): Reason =>
    world.send(arriving(tcpPacket({ flags, checksum: "partial" }), CLIENT_SIDE, { ...vnet, gsoType })).reason;
  expect(send("S", 0x80)).toBe(Reason.GsoUnknown);
  expect(send("S", 0x81)).toBe(Reason.FlowNew);
  expect(send("A", 0x80)).toBe(Reason.GsoUnknown);
});
