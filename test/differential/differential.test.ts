/**
 * The WebAssembly engine against the reference over seeded random rules and traffic. ILB_DIFF_PACKETS sets how many
 * packets (default 30,000), ILB_SEED the first seed; every slice of packets has a seed and a configuration of its own; even seeds run in mode ilb, odd ones in modern.
 */
import { describe, expect, test } from "bun:test";
import { Reason } from "../../src/gen/layout.ts";
import { engineWithPorts } from "../fuzz/instrument.ts";
import { isFullRun } from "../support/capabilities.ts";
import { seedFromEnvironment } from "../support/random.ts";
import { run } from "./run.ts";
import { FEW_PORTS, LARGE, tightStage } from "./stage.ts";
import { wasmSubject, workersSubject } from "./subject.ts";

const SLICE_PACKETS = 5_000;
/** Small tables fill soon; each batch of theirs is compared with everything that they hold. */
const TIGHT_PACKETS = isFullRun ? SLICE_PACKETS : 1_500;
const packets = Number.parseInt(process.env.ILB_DIFF_PACKETS ?? "30000", 10);
if (!(packets > 0)) throw new Error(`ILB_DIFF_PACKETS=${process.env.ILB_DIFF_PACKETS} is not a number of packets`);

describe("the WebAssembly engine agrees with the reference", () => {
  const first = seedFromEnvironment(20_260);
  const slices = Math.ceil(packets / SLICE_PACKETS);
  for (let i = 0; i < slices; i++) {
    const seed = first + i;
    const compat = seed % 2 === 0 ? "ilb" : "modern";
    test(`on ${SLICE_PACKETS} packets of seed ${seed}, --compat ${compat}`, () => {
      const { failure } = run(wasmSubject(seed, compat), seed, SLICE_PACKETS);
      expect(failure ?? "").toBe("");
    }, 120_000);
  }

  test("and so it does when tables and proxy ports run out", async () => {
    const fewPorts = await engineWithPorts(FEW_PORTS);
    const reasons = [0, 1, 2, 3, 4].map((stage) => {
      const subject = wasmSubject(first + stage, stage % 2 === 0 ? "modern" : "ilb", tightStage(stage), fewPorts);
      const result = run(subject, first + stage, TIGHT_PACKETS);
      expect(result.failure ?? "").toBe("");
      return result.reasons;
    });
    const times = (reason: Reason): bigint => reasons.reduce((sum, counts) => sum + counts[reason]!, 0n);
    expect(times(Reason.NoPort)).toBeGreaterThan(0n);
  }, 120_000);

  test.each(["ilb", "modern"] as const)(
    "and so it does with a table so large that it looks ahead at what opens flows, --compat %s",
    (compat) => {
      const { failure } = run(wasmSubject(first, compat, LARGE), first, SLICE_PACKETS);
      expect(failure ?? "").toBe("");
    },
    120_000,
  );

  test.each([2, 3])(
    "and so do %i workers, whoever receives which frame",
    (workers) => {
      const { failure } = run(workersSubject(first, "modern", workers), first, SLICE_PACKETS);
      expect(failure ?? "").toBe("");
    },
    120_000,
  );
});
