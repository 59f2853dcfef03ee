/** Fragments got a header checksum computed from scratch, so a packet that arrived corrupt left as if it were sound. */
import { expect, test } from "bun:test";
import { arriving, Bench, hopOf, ruleOf, SERVERS, tcpPacket } from "../../support/engine-bench.ts";
import { membersOf } from "../../support/image-builder.ts";
import { decodeEthernet, decodeIpv4, headerChecksumState } from "../../support/packet-decoder.ts";
import { makeWasmEngine } from "../../support/wasm-engine.ts";

test.each([
  ["good", "good", {}],
  ["bad", "bad", { checksum: 0x1234 }],
] as const)("a header checksum that came in %s is %s in every fragment", (_, state, ipv4) => {
  const limits = { maxFlows: 1_000, maxRules: 8, maxPairs: 64, maxSticky: 8 };
  const world = new Bench(makeWasmEngine(limits), [ruleOf({ members: membersOf(SERVERS.slice(0, 1)) })]);
  world.engine.setNextHop(0, hopOf(0, { mtu: 100 }));
  const options = Uint8Array.of(7, 7, 4, 0, 0, 0, 0);
  const outcome = world.send(arriving(tcpPacket({ payload: new Uint8Array(200), ipv4: { ...ipv4, options } })));
  const states = outcome.out.map((frame) => headerChecksumState(decodeIpv4(decodeEthernet(frame.bytes).payload)));
  expect(states.length).toBeGreaterThan(2);
  expect(new Set(states)).toEqual(new Set([state]));
});
