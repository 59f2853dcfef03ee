import { describe, expect, test } from "bun:test";
import { planOf, touchedRules } from "../../src/health/plan.ts";
import { argumentsOf } from "../../src/health/system-prober.ts";
import { outcomeOf, outcomeOfOutput, outcomeOfStatus } from "../../src/health/words.ts";
import { FakeHost, setUp } from "../support/fake-host.ts";

describe("an external test", () => {
  test("ILB-212 a number decides: negative is failure, positive success with that time, 0 success without one", () => {
    expect(outcomeOfOutput("-1\n")).toEqual({ kind: "failure", reason: "the test printed -1" });
    expect(outcomeOfOutput(" \t-20")).toMatchObject({ kind: "failure" });
    expect(outcomeOfOutput("250\n")).toEqual({ kind: "success", rttMicroseconds: 250 });
    expect(outcomeOfOutput("0")).toEqual({ kind: "success", rttMicroseconds: 0 });
    expect(outcomeOfOutput("12ms")).toEqual({ kind: "success", rttMicroseconds: 12 });
    expect(outcomeOfOutput("4294967296")).toEqual({ kind: "success", rttMicroseconds: 0 });
  });

  test("ILB-214 other output decides nothing, and then the exit status does", () => {
    for (const output of ["", "OK\n", "-", "- 1", "+5", "alive 5"]) expect(outcomeOfOutput(output)).toBeNull();
    expect(outcomeOfStatus(0)).toEqual({ kind: "success", rttMicroseconds: 0 });
    expect(outcomeOfStatus(3)).toEqual({ kind: "failure", reason: "the test exited with 3" });
    expect(outcomeOfStatus(128 + 9)).toEqual({ kind: "failure", reason: "the test was killed by signal 9" });
  });

  /** The words that tests of these rules are started with. */
  async function argumentsFor(...rules: [line: string, port: number][]): Promise<string[][]> {
    const host = new FakeHost();
    await setUp(
      host,
      "create-healthcheck -h hc-test=/opt/probe,hc-timeout=2,hc-count=1,hc-interval=9 h1",
      "create-servergroup -s server=[2001:db8::10] sg6",
      "create-servergroup -s server=192.0.2.10 sg4",
      ...rules.map(([line]) => line),
    );
    const plans = [...touchedRules(new Map(), host.config())].flatMap(({ rule, check, changed }) =>
      changed.map((server) => planOf(rule, server, check)),
    );
    return plans.map((plan, index) => argumentsOf(plan, rules[index]![1]));
  }
  const HALF_NAT = "create-rule -e -i vip=198.51.100.1,port=80 -m type=HALF-NAT -h hc-name=h1 -o servergroup=sg4 r4";
  const NAT6 =
    "create-rule -e -i vip=2001:db8:1::1,port=53,protocol=udp -m type=NAT,proxy-src=2001:db8:2::1 -h hc-name=h1 -o servergroup=sg6 r6";
  const DSR = "create-rule -e -i vip=198.51.100.1,port=81 -m type=DSR -h hc-name=h1 -o servergroup=sg4 d4";

  test("ILB-211 it gets exactly six arguments, HALF_NAT with an underscore", async () => {
    expect(await argumentsFor([HALF_NAT, 80])).toEqual([
      ["/opt/probe", "198.51.100.1", "192.0.2.10", "TCP", "HALF_NAT", "80", "2"],
    ]);
  });

  test("ILB-286 over IPv6 addresses have no brackets; UDP, NAT and DSR are said so", async () => {
    const [six, direct] = await argumentsFor([NAT6, 53], [DSR, 81]);
    expect(six).toEqual(["/opt/probe", "2001:db8:1::1", "2001:db8::10", "UDP", "NAT", "53", "2"]);
    expect(direct).toEqual(["/opt/probe", "198.51.100.1", "192.0.2.10", "TCP", "DSR", "81", "2"]);
  });
});

test("failures of probes in words", () => {
  const failed = (code: string) => ({ kind: "failure", code, rttMicroseconds: 0 }) as const;
  const words = (code: string, probe: "tcp" | "udp" | "ping" = "tcp") => outcomeOf(failed(code), probe, 2);
  expect(words("ECONNREFUSED")).toEqual({ kind: "failure", reason: "connection refused" });
  expect(words("ECONNREFUSED", "udp")).toEqual({ kind: "failure", reason: "port unreachable" });
  expect(words("ETIMEDOUT")).toEqual({ kind: "failure", reason: "timeout after 2 s" });
  expect(words("EXDEV")).toEqual({ kind: "failure", reason: "EXDEV" });
  expect(outcomeOf({ kind: "not-started", code: "EMFILE", rttMicroseconds: 0 }, "tcp", 2)).toEqual({
    kind: "not-started",
    reason: "the probe could not be made (EMFILE)",
  });
});
