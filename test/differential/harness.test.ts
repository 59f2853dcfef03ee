/** The differential test put to the test: it must pass two equal engines and fail every engine with a fault. */
import { describe, expect, test } from "bun:test";
import { ReferenceEngine } from "../../src/engine/reference.ts";
import { Reason } from "../../src/gen/layout.ts";
import { BrokenEngine, FAULTS } from "./broken-engine.ts";
import { LIMITS, run } from "./run.ts";

/** Hands out proxy ports from the top, so that the free choice of ports is exercised. */
const highestFirst = ({ isFree }: { isFree: (port: number) => boolean }): number | null => {
  for (let port = 65534; port >= 4096; port--) if (isFree(port)) return port;
  return null;
};

describe("differential harness", () => {
  test("the reference agrees with itself, whatever proxy ports it takes", () => {
    const result = run(() => new ReferenceEngine(LIMITS, highestFirst), 1, 4_000);
    expect(result.failure).toBeNull();
    expect(result.packets).toBe(4_000);
  });

  test("random traffic reaches every reason that an engine of this size can give", () => {
    const runs = [2, 3, 4].map((seed) => run(() => new ReferenceEngine(LIMITS), seed, 8_000).reasons);
    const unreached = Object.entries(Reason).filter(([, reason]) => runs.every((reasons) => reasons[reason] === 0n));
    expect(unreached.map(([name]) => name).sort()).toEqual(UNREACHED);
  });

  test.each(FAULTS.map((fault) => [fault.name, fault] as const))("%s is noticed", (_, fault) => {
    const result = run(() => new BrokenEngine(LIMITS, fault), 3, 6_000);
    expect(result.failure).not.toBeNull();
  });

  test("a failure is reduced to a few events that show it", () => {
    const [fault] = FAULTS.filter(({ name }) => name === "a wrong reason");
    const { failure } = run(() => new BrokenEngine(LIMITS, fault!), 3, 6_000);
    expect(failure).toContain("seed 3");
    const events = failure!.split("\n").filter((line) => line.startsWith('{"kind"'));
    expect(events.length).toBeGreaterThan(0);
    expect(events.length).toBeLessThanOrEqual(6);
  });
});

/** Reasons that need full tables (the contract suite has them), later work, or a receive buffer that was too small. */
const UNREACHED = [
  "FragmentTranslated",
  "IcmpErrorTranslated",
  "NoFlowMemory",
  "NoPairMemory",
  "NoPort",
  "NoStickyMemory",
  "Truncated",
];
