/** The plan of a reachability test: order, time and what the answers mean, with the time injected. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { NO_NETBACKUP } from "../../src/model/netbackup.ts";
import {
  Reach,
  type ReachOptions,
  type ReachWay,
  reachHint,
  WEB_WAYS,
  waysToPort,
  waysToService,
} from "../../src/netbackup/reach.ts";
import { propertySeed } from "../support/random.ts";

const seed = propertySeed();
const SITE = NO_NETBACKUP.ports;

type Answer = "connected" | "refused" | "silent";

/** Runs a plan against ports that answer at once, refuse at once or are silent. */
function run(
  ways: readonly ReachWay[],
  answers: Readonly<Record<number, Answer>>,
  options: Partial<ReachOptions> = {},
) {
  let nowMs = 1000;
  const reach = new Reach(ways, { totalMs: 3000, all: false, required: null, ...options }, nowMs);
  const tried: [name: string, port: number, timeoutMs: number][] = [];
  for (let due = reach.next(nowMs); due !== null; due = reach.next(nowMs)) {
    const answer = answers[due.step.port] ?? "refused";
    tried.push([due.step.name, due.step.port, due.timeoutMs]);
    if (answer === "silent") nowMs += due.timeoutMs;
    reach.finish(answer === "connected");
  }
  return { tried, via: reach.via, tookMs: nowMs - 1000 };
}
const portsOf = ({ tried }: ReturnType<typeof run>) => tried.map(([, port]) => port);

const BPCD = waysToService("bpcd", SITE);

describe("the way to a daemon", () => {
  test("NBU-027 PBX, VNETD and the daemon are tried in this order, until one answers", () => {
    expect(run(BPCD, {}).tried.map(([name, port]) => [name, port])).toEqual([
      ["PBX", 1556],
      ["VNETD", 13724],
      ["DAEMON", 13782],
    ]);
    expect(portsOf(run(BPCD, { 1556: "connected" }))).toEqual([1556]);
    expect(portsOf(run(BPCD, { 13724: "connected" }))).toEqual([1556, 13724]);
  });

  test("NBU-027 with all, every step is tried, and the first that answers is the way", () => {
    const found = run(BPCD, { 13724: "connected", 13782: "connected" }, { all: true });
    expect([portsOf(found), found.via]).toEqual([[1556, 13724, 13782], "VNETD"]);
    expect(portsOf(run(BPCD, { 1556: "connected" }, { all: true }))).toEqual([1556, 13724, 13782]);
  });

  test("NBU-030 what answers names the way; nothing does: there is none", () => {
    for (const [port, via] of [
      [1556, "PBX"],
      [13724, "VNETD"],
      [13782, "DAEMON"],
      [4, null],
    ] as const)
      expect(run(BPCD, { [port]: "connected" }).via).toBe(via);
  });

  test("NBU-029 a silent port takes an equal share of what is left, a refused one nothing", () => {
    const silent = run(BPCD, { 1556: "silent", 13724: "silent", 13782: "silent" });
    expect(silent.tried.map(([, , timeoutMs]) => timeoutMs)).toEqual([1000, 1000, 1000]);
    expect(silent.tookMs).toBe(3000);
    const mixed = run(BPCD, { 1556: "silent", 13782: "connected" });
    expect(mixed.tried.map(([, , timeoutMs]) => timeoutMs)).toEqual([1000, 1000, 2000]);
    expect([mixed.via, mixed.tookMs]).toEqual(["DAEMON", 1000]);
  });

  test(`NBU-029 whatever the ports do, every step has time and the whole stays within its own (seed ${seed})`, () => {
    const answer = fc.constantFrom<Answer>("connected", "refused", "silent");
    fc.assert(
      fc.property(
        fc.tuple(answer, answer, answer),
        fc.integer({ min: 3, max: 20_000 }),
        fc.boolean(),
        (of, totalMs, all) => {
          const found = run(BPCD, { 1556: of[0], 13724: of[1], 13782: of[2] }, { totalMs, all });
          for (const [, , timeoutMs] of found.tried) expect(timeoutMs).toBeGreaterThanOrEqual(Math.floor(totalMs / 3));
          expect(found.tookMs).toBeLessThanOrEqual(totalMs);
          expect(found.via).toBe(["PBX", "VNETD", "DAEMON"].find((_, at) => of[at] === "connected") ?? null);
        },
      ),
      { seed },
    );
  });

  test("NBU-031 an answer later than PBX has the guide's hint, PBX, none and pairs have none", () => {
    expect(reachHint("VNETD")).toBe(
      "expected PBX. Check Connect Options (Client Attributes, firewall settings, Default Connect Options) and that pbx_exchange is listening.",
    );
    expect(reachHint("DAEMON")).toBe(reachHint("VNETD"));
    expect([reachHint("PBX"), reachHint(null), reachHint("80/443")]).toEqual([null, null, null]);
  });

  test("NBU-027 the daemon's port is the site's; that of an earlier step stands for the default daemon", () => {
    expect(waysToService("nbcssc", { services: { nbcssc: 5700 }, windows: {} }).at(-1)?.steps).toEqual([
      { name: "DAEMON", port: 5700 },
    ]);
    // The guide lets PBX be changed between OpsCenter server and master alone.
    expect(portsOf(run(waysToService("bpcd", { services: { veritas_pbx: 1600 }, windows: {} }), {}))[0]).toBe(1556);
    for (const port of [1556, 13724]) expect(portsOf(run(waysToPort(port), {}))).toEqual([1556, 13724, 13782]);
    expect(portsOf(run(waysToPort(8000), {}))).toEqual([1556, 13724, 8000]);
  });
});

describe("a port that must answer", () => {
  test("NBU-032 it is tried whatever answers before it, and nothing else is tried behind an answer", () => {
    const late = run(waysToPort(8000), { 1556: "connected", 8000: "connected" }, { required: 8000 });
    expect([portsOf(late), late.via]).toEqual([[1556, 8000], "PBX"]);
    const early = run(waysToPort(1556), { 1556: "connected" }, { required: 1556 });
    expect([portsOf(early), early.via]).toEqual([[1556], "PBX"]);
  });

  test("NBU-032 when it does not answer, the others tell what does", () => {
    const found = run(waysToPort(1556), { 13724: "connected" }, { required: 1556 });
    expect([portsOf(found), found.via]).toEqual([[1556, 13724], "VNETD"]);
  });
});

describe("OpsCenter's web ports", () => {
  test("NBU-052 the first pair of which both ports answer is the way; the second port of a pair needs the first", () => {
    expect(run(WEB_WAYS, { 80: "connected", 443: "connected" })).toMatchObject({ via: "80/443" });
    const second = run(WEB_WAYS, { 80: "connected", 8181: "connected", 8443: "connected" });
    expect([portsOf(second), second.via]).toEqual([[80, 443, 8181, 8443], "8181/8443"]);
    const third = run(WEB_WAYS, { 443: "connected", 8181: "connected", 8282: "connected", 8553: "connected" });
    expect([portsOf(third), third.via]).toEqual([[80, 8181, 8443, 8282, 8553], "8282/8553"]);
    expect(run(WEB_WAYS, {}).via).toBeNull();
  });

  test("NBU-052 with all, half a pair is no pair", () => {
    const found = run(WEB_WAYS, { 443: "connected", 8181: "connected" }, { all: true });
    expect([portsOf(found), found.via]).toEqual([[80, 443, 8181, 8443, 8282, 8553], null]);
  });
});
