/**
 * What every packet engine must do, case by case, from the numbered requirements of the specification. Runs on the
 * WebAssembly engine and on the reference alike; random traffic is the differential test's business.
 */
import { afterEach, describe } from "bun:test";
import type { EngineLimits, PacketEngine } from "../../src/engine/engine.ts";
import { Bench } from "../support/engine-bench.ts";
import type { RuleSpec } from "../support/image-builder.ts";
import { choosing } from "./engine/choosing.ts";
import { icmp } from "./engine/icmp.ts";
import { leaving } from "./engine/leaving.ts";
import { counting, refusing } from "./engine/refusing.ts";
import { rewriting } from "./engine/rewriting.ts";
import { tracking } from "./engine/tracking.ts";

export const CONTRACT_LIMITS: EngineLimits = { maxFlows: 70_000, maxRules: 32, maxPairs: 256, maxSticky: 256 };

/** @param make a fresh engine, whose hash keys and port order are its own affair. */
export function engineContract(name: string, make: (limits: EngineLimits) => PacketEngine): void {
  describe(`packet engine contract: ${name}`, () => {
    const open: PacketEngine[] = [];
    const bench = (rules: readonly RuleSpec[], limits: Partial<EngineLimits> = {}): Bench => {
      const engine = make({ ...CONTRACT_LIMITS, ...limits });
      open.push(engine);
      return new Bench(engine, rules);
    };
    afterEach(() => {
      for (const engine of open.splice(0)) engine.close();
    });
    rewriting(bench);
    choosing(bench);
    tracking(bench);
    icmp(bench);
    leaving(bench);
    refusing(bench);
    counting(bench);
  });
}
