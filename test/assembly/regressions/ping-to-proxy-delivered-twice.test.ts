/**
 * The guard leaves the first fragment of a ping to a proxy address to the kernel, which the engine did not know: it gave
 * the fragment back to the kernel once more.
 */
import { expect, test } from "bun:test";
import { Verdict } from "../../../src/gen/layout.ts";
import { arriving, Bench, CLIENT, PROXY, ruleOf } from "../../support/engine-bench.ts";
import { icmp4, ipv4, PROTOCOL_ICMP } from "../../support/packet-builder.ts";
import { makeWasmEngine } from "../../support/wasm-engine.ts";

test.each([
  ["echo request", 8, Verdict.Ignore],
  ["error", 3, Verdict.Pass],
] as const)(
  "the first fragment of an ICMP %s to a proxy address has the verdict that the guard expects",
  (_, type, verdict) => {
    const limits = { maxFlows: 1_000, maxRules: 8, maxPairs: 64, maxSticky: 8 };
    const world = new Bench(makeWasmEngine(limits), [ruleOf({ type: "NAT" })]);
    const payload = icmp4({ type, payload: new Uint8Array(64) });
    const fragment = ipv4({
      source: CLIENT,
      destination: PROXY,
      protocol: PROTOCOL_ICMP,
      payload,
      moreFragments: true,
    });
    expect(world.send(arriving(fragment)).verdict).toBe(verdict);
  },
);
