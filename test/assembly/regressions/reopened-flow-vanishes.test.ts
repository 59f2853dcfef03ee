/** A flow that had closed and was used again kept the short deadline of a closed one and vanished under its users. */
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

test("a flow that a new FIN reopens lives until it has been idle for its timeout", () => {
  const limits = { maxFlows: 1_000, maxRules: 8, maxPairs: 64, maxSticky: 8 };
  const world = new Bench(makeWasmEngine(limits), [ruleOf({ members: membersOf(SERVERS.slice(0, 1)) })]);
  const request = onlyPacket(world.send(arriving(tcpPacket({ flags: "FA", sequence: 100 }))));
  world.send(arriving(answerTo(request, { flags: "FA", sequence: 500, acknowledgement: 101 }), SERVER_SIDE));
  world.send(arriving(tcpPacket({ flags: "A", sequence: 101, acknowledgement: 501 })));
  // The client's number of FIN moves, so its direction is open again.
  const more = { flags: "FA", sequence: 101, acknowledgement: 501, payload: new Uint8Array(31) };
  world.send(arriving(tcpPacket(more)));
  world.wait(25_000);
  expect(world.engine.flows().length).toBe(1);
});
