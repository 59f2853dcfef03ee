/**
 * What every packet engine must do, case by case, from the numbered requirements of the specification. Runs on the
 * WebAssembly engine and on the reference alike; random traffic is the differential test's business.
 */
import { afterEach, describe, expect, test } from "bun:test";
import {
  type Compat,
  type EngineCounters,
  type EngineLimits,
  type PacketEngine,
  RULE_COUNTER_NAMES,
} from "../../src/engine/engine.ts";
import { Reason } from "../../src/gen/layout.ts";
import { choosing } from "./engine/choosing.ts";
import { clock } from "./engine/clock.ts";
import { errors } from "./engine/errors.ts";
import { extensions } from "./engine/extensions.ts";
import { fragments } from "./engine/fragments.ts";
import { fragmentsLeft } from "./engine/fragments-left.ts";
import { fullTables } from "./engine/full-tables.ts";
import { Ground } from "./engine/ground.ts";
import { icmp } from "./engine/icmp.ts";
import { leaving } from "./engine/leaving.ts";
import { life } from "./engine/life.ts";
import { limits } from "./engine/limits.ts";
import { matrix } from "./engine/matrix.ts";
import { policy } from "./engine/policy.ts";
import { counting, refusing } from "./engine/refusing.ts";
import { rewriting } from "./engine/rewriting.ts";
import { signals } from "./engine/signals.ts";
import { tracking } from "./engine/tracking.ts";

/** Small, because every case has an engine of its own. */
export const CONTRACT_LIMITS: EngineLimits = { maxFlows: 2_000, maxRules: 32, maxPairs: 256, maxSticky: 256 };

/**
 * @param make a fresh engine, whose hash keys and port order are its own affair
 * @param isWhole false: several workers, of which each has a share (decision record 0017); what such an engine does in the
 *   place of the cases left out is in test/engine/workers.test.ts
 */
export function engineContract(
  name: string,
  make: (limits: EngineLimits, compat: Compat) => PacketEngine,
  isWhole = true,
): void {
  const seen = new Tally();
  describe.each([4, 6] as const)(`packet engine contract: ${name}, IPv%i`, (family) => {
    const open: PacketEngine[] = [];
    const ground = new Ground(
      family,
      (limits, compat) => {
        const engine = make({ ...CONTRACT_LIMITS, ...limits }, compat);
        open.push(engine);
        return engine;
      },
      isWhole,
    );
    afterEach(() => {
      for (const engine of open.splice(0)) {
        seen.add(engine.counters());
        engine.close();
      }
    });
    rewriting(ground);
    choosing(ground);
    tracking(ground);
    signals(ground);
    icmp(ground);
    leaving(ground);
    matrix(ground);
    life(ground);
    clock(ground);
    refusing(ground);
    counting(ground);
    fullTables(ground);
    extensions(ground);
    errors(ground);
    fragments(ground);
    fragmentsLeft(ground);
    limits(ground);
    policy(ground);
  });
  // Several workers leave out what needs one whole engine.
  if (!isWhole) return;
  test(`packet engine contract: ${name}: E.9 the cases above have reached every reason and every counter (run all of them)`, () => {
    expect(seen.missing()).toEqual([...BEYOND_REACH].sort());
  });
}

/** What no frame can bring about here: a flag that only the native side sets, and a ring between workers that is full. */
const BEYOND_REACH = ["Truncated", "HandOverFull"];

/** Counts of all engines of a run; each by itself has to add up. */
class Tally {
  readonly #counts = new Map<string, bigint>();

  add({ packetsIn, reasons, rules }: EngineCounters): void {
    expect(reasons.reduce((sum, count) => sum + count, 0n)).toBe(packetsIn);
    for (const [name, value] of Object.entries(Reason)) this.#count(name, reasons[value] ?? 0n);
    for (const name of RULE_COUNTER_NAMES) for (const rule of rules) this.#count(name, rule[name]);
  }

  #count(name: string, amount: bigint): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0n) + amount);
  }

  /** Names of what never happened, sorted. */
  missing(): string[] {
    const names = [...Object.keys(Reason), ...RULE_COUNTER_NAMES];
    return names.filter((name) => !this.#counts.get(name)).sort();
  }
}
