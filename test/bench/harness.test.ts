/** The harness: medians and intervals, rounds that take turns, what a goal asks, charts, and the order of rows. */
import { describe, expect, test } from "bun:test";
import { GOALS } from "../../bench/goals.ts";
import { findRows, ordered } from "../../bench/harness/catalogue.ts";
import { charts } from "../../bench/harness/chart.ts";
import { describeMachine } from "../../bench/harness/machine.ts";
import { Fixtures, measure, summarise } from "../../bench/harness/measure.ts";
import { merged } from "../../bench/harness/pages.ts";
import { closingText } from "../../bench/harness/report.ts";
import { median, medianInterval } from "../../bench/harness/statistics.ts";
import type { BenchContext, BenchRow } from "../../bench/row.ts";

const CONTEXT: BenchContext = { quick: true, sideMs: 1, shared: (_, create) => create() };

function rowOf(over: Partial<BenchRow> = {}): BenchRow {
  return {
    id: "engine.c.1k",
    unit: "ns/packet",
    better: "lower",
    peerName: "C",
    what: "a test",
    setup: async () => ({ ours: () => 1, peer: () => 2 }),
    ...over,
  };
}

describe("statistics", () => {
  test("the median of an even number of values is the mean of the middle ones", () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([9, 1, 3])).toBe(3);
  });

  test("the interval of a median is the same each time and lies inside the range", () => {
    const values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    const [low, high] = medianInterval(values);
    expect(medianInterval(values)).toEqual([low, high]);
    // Binomial: the 4th and the 12th of 15 values enclose the median with 96.5 %, the 5th and the 11th with 88 %.
    expect(low).toBeGreaterThanOrEqual(4);
    expect(low).toBeLessThanOrEqual(5);
    expect(high).toBeGreaterThanOrEqual(11);
    expect(high).toBeLessThanOrEqual(12);
  });

  test("the interval of equal values has no width", () => {
    expect(medianInterval([3, 3, 3])).toEqual([3, 3]);
  });
});

describe("measuring a row", () => {
  test("both sides warm up once and then take turns at going first", async () => {
    const order: string[] = [];
    const side = (name: string, value: number) => () => {
      order.push(name);
      return value;
    };
    await measure(rowOf({ setup: async () => ({ ours: side("o", 1), peer: side("p", 2) }) }), CONTEXT, 3);
    expect(order.join("")).toBe("opoppoop");
  });

  test("the ratio is above 1 when we are better, whichever direction is good", () => {
    const rounds = { ours: [10, 10, 10], peer: [20, 20, 20] };
    expect(summarise(rowOf({ better: "lower" }), rounds, {}, 0).ratio).toBe(2);
    expect(summarise(rowOf({ better: "higher" }), rounds, {}, 0).ratio).toBe(0.5);
  });

  test("a goal holds when the interval covers it though the median misses it", () => {
    const peer = [1, 1, 1, 1, 1];
    const near = summarise(rowOf(), { ours: [1.3, 1.2, 1.15, 1.05, 1.05], peer }, {}, 0);
    expect(near.ratio).toBeLessThan(0.91);
    expect(near.first).toEqual({ goal: 0.91, holds: true });
    expect(near.second).toEqual({ goal: 1, holds: false });
    expect(summarise(rowOf(), { ours: [1.3, 1.3, 1.3, 1.3, 1.3], peer }, {}, 0).first?.holds).toBe(false);
  });

  test("a row without a peer is held against its limit", () => {
    const row = rowOf({ id: "start.first", peerName: null });
    const result = summarise(row, { ours: [200, 210, 190], peer: [] }, {}, 0);
    expect([result.peer, result.peerName, result.ratio]).toEqual([400, "limit", 2]);
    expect([result.first?.holds, result.second?.holds]).toEqual([true, false]);
  });

  test("a limit holds only together with the limits of the figures beside it", () => {
    const row = rowOf({ id: "memory.flow", peerName: null });
    const verdicts = (hot: number) => {
      const { first, second } = summarise(row, { ours: [120], peer: [] }, { hot }, 0);
      return [first?.holds, second?.holds];
    };
    expect(verdicts(32)).toEqual([true, true]);
    expect(verdicts(33)).toEqual([true, false]);
    expect(verdicts(65)).toEqual([false, false]);
  });

  test("a row that throws is closed and fails", async () => {
    let isClosed = false;
    const setup = async () => ({
      ours: () => {
        throw new Error("wrong checksum");
      },
      peer: () => 1,
      close: () => {
        isClosed = true;
      },
    });
    await expect(measure(rowOf({ setup }), CONTEXT, 1)).rejects.toThrow("wrong checksum");
    expect(isClosed).toBe(true);
  });

  test("a row that measures no peer though it names one fails", async () => {
    await expect(measure(rowOf({ setup: async () => ({ ours: () => 1 }) }), CONTEXT, 1)).rejects.toThrow(
      "names a peer",
    );
  });

  test("what rows share is made once and closed once, also when one of it could not be made", async () => {
    const fixtures = new Fixtures();
    const calls: string[] = [];
    const create = async () => {
      calls.push("made");
      return { close: () => void calls.push("closed") };
    };
    expect(await fixtures.get("world", create)).toBe(await fixtures.get("world", create));
    await expect(fixtures.get("broken", () => Promise.reject(new Error("no memory")))).rejects.toThrow("no memory");
    await fixtures.close();
    expect(calls).toEqual(["made", "closed"]);
  });
});

describe("the catalogue", () => {
  test("every row has an id of its own, and a goal or a peer", async () => {
    for (const row of await findRows()) expect(row.peerName !== null || GOALS[row.id]?.kind === "limit").toBe(true);
  });

  test("the rows are those that comparisons over time know by name", async () => {
    const ids = (await findRows()).map(({ id }) => id);
    // Others may come; none of these may go or change its name.
    const lasting = [
      ...["engine.c.1k", "engine.c.1m", "engine.cprefetch.1m", "engine.ts.1k", "engine.ts.1m"],
      ...["engine.ebpflru.128k", "engine.ebpflru.1m", "engine.v6", "engine.nat", "engine.dsr"],
      ...["engine.rules.10k", "engine.servers.1k", "engine.flows.8m", "engine.newflow", "engine.sweep"],
      ...["engine.publish.10k", "engine.checksum.1500", "memory.flow", "start.first"],
      ...["tcp.1.nft", "tcp.8.nft", "tcp.1.haproxy", "tcp.8.haproxy", "tcp.1.forward", "tcp.1.nogso.nft"],
      ...["udp.pps.nft", "udp.sat.nft", "cps.nft", "cps.haproxy", "rps.nft", "rps.haproxy"],
      ...["rtt.p50.nft", "rtt.p99.nft"],
    ];
    for (const id of lasting) expect(ids).toContain(id);
    for (const id of Object.keys(GOALS)) expect(ids).toContain(id);
  });

  test("every row is in a chart", async () => {
    for (const { id } of await findRows())
      expect(
        [...charts([{ ...summarise(rowOf(), { ours: [1], peer: [1] }, {}, 0), id }], "").values()].join(),
      ).toContain(id);
  });

  test("rows of one fixture follow each other", () => {
    const rows = [
      rowOf({ id: "tcp.8.nft", fixture: "lab" }),
      rowOf({ id: "engine.v6" }),
      rowOf({ id: "tcp.1.nft", fixture: "lab" }),
      rowOf({ id: "rtt.p50.nft", fixture: "lab" }),
      rowOf({ id: "udp.pps.nft" }),
    ];
    expect(ordered(rows).map(({ id }) => id)).toEqual([
      "engine.v6",
      "tcp.1.nft",
      "tcp.8.nft",
      "rtt.p50.nft",
      "udp.pps.nft",
    ]);
  });
});

describe("what comes out", () => {
  const result = summarise(rowOf(), { ours: [1.3, 1.3], peer: [1, 1] }, {}, 1);

  test("missed goals, skipped and failed rows are named at the end", () => {
    const text = closingText([result], [{ id: "cps.nft", reason: "no wrk" }], [{ id: "engine.v6", reason: "wrong" }]);
    expect(text).toContain("first goals missed: engine.c.1k");
    expect(text).toContain("cps.nft: left out: no wrk");
    expect(text).toContain("engine.v6: FAILED: wrong");
    expect(text).toContain("1 rows measured, 1 failed, 1 left out");
  });

  test("runs that are put together give the last result of every row, in the order of the goals", () => {
    const machine = describeMachine();
    const slow = summarise(rowOf(), { ours: [2], peer: [1] }, {}, 1);
    const other = summarise(rowOf({ id: "tcp.1.nft" }), { ours: [2], peer: [1] }, {}, 1);
    const skipped = [{ id: "engine.c.1k", reason: "gcc is missing" }];
    const whole = merged([
      { machine, rows: [other, slow], skipped: [] },
      { machine, rows: [result], skipped },
    ]);
    expect(whole.rows).toEqual([result, other]);
    expect(whole.skipped).toEqual([]);
  });

  test("a chart is well-formed, names its rows and escapes their text", () => {
    const odd = { ...result, peerName: "C <native> & more" };
    const drawing = charts([odd], "a machine").get("engine.svg") ?? "";
    expect(drawing).toContain("engine.c.1k");
    expect(drawing).toContain("C &lt;native&gt; &amp; more");
    expect(drawing).not.toContain("NaN");
    const opened = [...drawing.matchAll(/<(\w+)(?:\s[^>]*[^/])?>/g)].map((match) => match[1]);
    const closed = [...drawing.matchAll(/<\/(\w+)>/g)].map((match) => match[1]);
    expect(opened.sort()).toEqual(closed.sort());
  });
});
