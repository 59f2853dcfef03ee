/** The differential test put to the test: it must pass two equal engines and fail every engine with a fault. */
import { describe, expect, test } from "bun:test";
import { ReferenceEngine } from "../../src/engine/reference.ts";
import { Reason, Verdict } from "../../src/gen/layout.ts";
import { arriving, Bench, BOX_MACS, ruleOf, tcpPacket } from "../support/engine-bench.ts";
import { imageOf } from "../support/image-builder.ts";
import { BrokenEngine, FAULTS } from "./broken-engine.ts";
import { outputFaults } from "./output-check.ts";
import { ownershipFault } from "./ownership.ts";
import { LIMITS, type MakeEngine, run } from "./run.ts";
import { freePortOf, type Stage, tightStage } from "./stage.ts";

/** Hands out proxy ports from the top, so that the free choice of ports is exercised. */
const highestFirst = ({ isFree }: { isFree: (port: number) => boolean }): number | null => {
  for (let port = 65534; port >= 4096; port--) if (isFree(port)) return port;
  return null;
};

/** Small stages in which flows and ports, sticky entries, and pairs are wanted that there are not. */
const WANTING = [0, 1, 4] as const;

/** Seeds that are tried, one after another, until one shows what is wanted. */
const SEEDS = Array.from({ length: 40 }, (_, index) => index + 1);

/** The reference with as few proxy ports as a small stage has. */
function withFewPorts(stage: Stage): MakeEngine {
  const make = () => new ReferenceEngine(stage.limits, (request) => freePortOf(request, stage.proxyPorts));
  return Object.assign(make, { stage });
}

describe("differential harness", () => {
  test("the reference agrees with itself, whatever proxy ports it takes", () => {
    const result = run(() => new ReferenceEngine(LIMITS, highestFirst), 1, 4_000);
    expect(result.failure).toBeNull();
    expect(result.packets).toBe(4_000);
  });

  test("random traffic reaches every reason that one engine can give", () => {
    const engines = [() => new ReferenceEngine(LIMITS), ...WANTING.map((stage) => withFewPorts(tightStage(stage)))];
    let unreached = Object.entries(Reason);
    for (const seed of SEEDS)
      for (const engine of engines) {
        if (unreached.length <= UNREACHED.length) break;
        const { reasons } = run(engine, seed, 5_000);
        unreached = unreached.filter(([, reason]) => reasons[reason] === 0n);
      }
    expect(unreached.map(([name]) => name).sort()).toEqual(UNREACHED);
  }, 60_000);

  test.each(FAULTS.map((fault) => [fault.name, fault] as const))("%s is noticed", (_, fault) => {
    const noticed = SEEDS.find(
      (seed) => run(() => new BrokenEngine(LIMITS, fault), seed, 6_000, false).failure !== null,
    );
    expect(noticed).toBeDefined();
  });

  test("what both engines do wrong is noticed by the judges that are neither", () => {
    const rule = ruleOf();
    const world = new Bench(new ReferenceEngine(LIMITS), [rule]);
    const { interest } = imageOf(1, [rule]);
    const port = { kind: "ethernet", mac: BOX_MACS[0], mtu: 1500, address4: null, address6: null } as const;
    const ports = new Map([0, 1].map((index) => [index, port]));
    const frame = arriving(tcpPacket());
    const outcome = world.send(frame);
    const spoiled = outcome.out.map((sent) => ({ ...sent, bytes: sent.bytes.with(14 + 20 + 16, sent.bytes[50]! ^ 1) }));
    expect(outputFaults(frame, outcome, ports)).toEqual([]);
    expect(outputFaults(frame, { ...outcome, out: spoiled }, ports)).toEqual([
      "transport checksum was good and left bad",
    ]);
    expect(outputFaults(frame, { ...outcome, out: [] }, ports)).toEqual(["nothing sent"]);
    expect(ownershipFault(frame, outcome, port, interest)).toBeNull();
    expect(ownershipFault(frame, { ...outcome, verdict: Verdict.Ignore }, port, interest)).toContain("lost");
    const stranger = arriving(tcpPacket({ destinationPort: 9 }));
    expect(ownershipFault(stranger, { ...outcome, verdict: Verdict.Pass }, port, interest)).toContain("twice");
    expect(ownershipFault(stranger, { ...outcome, verdict: Verdict.Ignore }, port, interest)).toBeNull();
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

/** Reasons that need a ring between workers (test/fuzz/guard.test.ts), or a receive buffer that was too small. */
const UNREACHED = ["HandOverFull", "Truncated"];
