/** An older flow whose answers a newer one took over forgot how lately its server had sent, and vanished too early. */
import { expect, test } from "bun:test";
import {
  answerTo,
  arriving,
  Bench,
  onlyPacket,
  ruleOf,
  SERVER_SIDE,
  SERVERS,
  tcpPacket,
} from "../../support/engine-bench.ts";
import { membersOf } from "../../support/image-builder.ts";
import { makeWasmEngine } from "../../support/wasm-engine.ts";

test("a flow lives for its timeout after its server's last packet, also when a newer one has its answers now", () => {
  const limits = { maxFlows: 1_000, maxRules: 8, maxPairs: 64, maxSticky: 8 };
  // All ports of the rule lead to one port, so two connections from one client port look alike to the server.
  const members = membersOf(SERVERS.slice(0, 1).map((server) => ({ ...server, ports: { min: 8080, max: 8080 } })));
  const rule = ruleOf({ members, ports: { min: 80, max: 81 }, natTimeoutMs: 60_000 });
  const world = new Bench(makeWasmEngine(limits), [rule]);
  const request = onlyPacket(world.send(arriving(tcpPacket({ flags: "S", destinationPort: 80 }))));
  world.wait(50_000);
  world.send(arriving(answerTo(request, { flags: "SA" }), SERVER_SIDE));
  world.send(arriving(tcpPacket({ flags: "S", destinationPort: 81 })));
  world.wait(50_000);
  expect(
    world.engine
      .flows()
      .map(({ vipPort }) => vipPort)
      .sort(),
  ).toEqual([80, 81]);
  world.wait(30_000);
  expect(world.engine.flows()).toEqual([]);
});
