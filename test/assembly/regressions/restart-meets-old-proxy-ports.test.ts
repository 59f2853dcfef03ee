/** After a restart full NAT began with the proxy ports whose connections servers still held, and new ones hung for seconds. */
import { expect, test } from "bun:test";
import { arriving, Bench, onlyPacket, ruleOf, SERVERS, tcpPacket } from "../../support/engine-bench.ts";
import { membersOf } from "../../support/image-builder.ts";
import { makeWasmEngine } from "../../support/wasm-engine.ts";

const LIMITS = { maxFlows: 1_000, maxRules: 8, maxPairs: 64, maxSticky: 8 };
const PORTS = 65_534 - 4096 + 1;

/** Proxy ports of the first three connections. */
function firstPorts(firstProxyPlace: number): number[] {
  const rule = ruleOf({ type: "NAT", members: membersOf(SERVERS.slice(0, 1)) });
  const world = new Bench(makeWasmEngine(LIMITS, { firstProxyPlace }), [rule]);
  return [1, 2, 3].map((n) => onlyPacket(world.send(arriving(tcpPacket({ sourcePort: 40_000 + n })))).tcp!.sourcePort);
}

test("a pool begins where the engine was told to, and goes round at the end of its range", () => {
  expect(firstPorts(0)).toEqual([4096, 4097, 4098]);
  expect(firstPorts(1000)).toEqual([5096, 5097, 5098]);
  expect(firstPorts(PORTS - 1)).toEqual([65_534, 4096, 4097]);
  expect(firstPorts(PORTS + 2)).toEqual([4098, 4099, 4100]);
});
