/** Time in a replay: the capture's stamps drive expiry, draining and pauses of any length. */
import { afterEach, describe, expect, test } from "bun:test";
import { at, CLIENT, framed, HALF_NAT, removeReplays, replayOf, START_NS, syn, tcpPacket, VIP } from "./support.ts";

afterEach(removeReplays);

describe("time", () => {
  const followUp = framed(tcpPacket(`${CLIENT}:40000`, `${VIP}:80`, { flags: "A" }));
  const TIMED = HALF_NAT.replace("-o servergroup", "-t nat-timeout=30 -o servergroup");

  test.each([
    [29_000, "found"],
    [46_000, "new"],
    [86_400_000, "new"],
    [4_000_000_000, "new"],
  ])("a flow with 30 s of idle time, %i ms later: %s", async (gapMs, flow) => {
    const replay = replayOf(TIMED, [at(0, syn(40_000)), at(gapMs, followUp)]);
    const table = ["--at", String(gapMs / 1000 - 0.001), "show-nat 1"];
    const listed = await replay.must(...table);
    expect(listed === "").toBe(flow === "new");
    expect(replay.verdicts()[1]!.flow).toBe(flow);
  });

  // The engine's longest idle time is 20 days, whatever is asked for.
  test.each([
    [1_700_000_000, "found"],
    [100_000_000_000, "new"],
  ])("a pause of %i ms in which a flow may be idle for ever takes no minutes: %s", async (gapMs, flow) => {
    const lasting = HALF_NAT.replace("-o servergroup", "-t nat-timeout=4294967295 -o servergroup");
    const replay = replayOf(lasting, [at(0, syn(40_000)), at(1, followUp), at(gapMs, followUp)]);
    await replay.must();
    expect(replay.verdicts().map((verdict) => verdict.flow)).toEqual(["new", "found", flow]);
  });

  test("use keeps a flow alive over gaps that add up", async () => {
    const replay = replayOf(TIMED, [at(0, syn(40_000)), ...[1, 2, 3, 4, 5].map((n) => at(n * 25_000, followUp))]);
    await replay.must();
    expect(replay.verdicts().map(({ flow }) => flow)).toEqual(["new", ...new Array<string>(5).fill("found")]);
  });

  test("conn-drain cuts flows of a disabled server when its time is over", async () => {
    const draining = HALF_NAT.replace("-o servergroup", "-t conn-drain=5 -o servergroup");
    const replay = replayOf(draining, [at(0, syn(40_000)), at(4000, followUp), at(22_000, followUp)]);
    await replay.must("--at", "1", "disable-server _web.2");
    expect(replay.verdicts().map(({ flow, server }) => [flow, server])).toEqual([
      ["new", "_web.2"],
      ["found", "_web.2"],
      ["new", "_web.1"],
    ]);
  });

  test("time never goes back: a packet with an earlier stamp is taken when it comes and leaves with its own stamp", async () => {
    const replay = replayOf(HALF_NAT, [
      at(5000, syn(40_000)),
      at(1000, syn(40_001)),
      at(-3000, syn(40_002)),
      at(5001, syn(40_003)),
    ]);
    const shown = await replay.must("--at", "0.001", "show-nat 9");
    expect(shown.split("\n")).toHaveLength(4);
    expect(replay.sent().packets.map(({ timeNs }) => Number((timeNs - START_NS) / 1_000_000n))).toEqual([
      5000, 1000, -3000, 5001,
    ]);
  });
});
