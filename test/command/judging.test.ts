/** The additions to how results are judged, as commands, listings, files and JSON have them; nothing of them in what was there. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { exportLines } from "../../src/command/export.ts";
import { healthCheckView, resultView } from "../../src/command/views.ts";
import { judgingOf } from "../../src/model/health-judging.ts";
import { errorOf, FakeHost, outputOf, setUp } from "../support/fake-host.ts";

const ALL = "hc-rise=2,hc-fall=3,hc-initial=down,hc-panic=50,hc-passive=no";
const PLAIN = "create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10 plain";
const JUDGING = `create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10,${ALL} judging`;

async function hostWith(...lines: string[]): Promise<FakeHost> {
  const host = new FakeHost();
  await setUp(host, ...lines);
  return host;
}

test("what is said is kept, what is not is as in the original", async () => {
  const host = await hostWith(PLAIN, JUDGING, "create-hc -h hc-test=ping,hc-panic=100 some");
  expect(host.config().healthChecks.map(judgingOf)).toEqual([
    { rise: 1, fall: 1, initial: "up", panicPercent: 0, passive: true },
    { rise: 2, fall: 3, initial: "down", panicPercent: 50, passive: false },
    { rise: 1, fall: 1, initial: "up", panicPercent: 100, passive: true },
  ]);
  expect(host.config().healthChecks[0]).not.toHaveProperty("judging");
});

test("ILB-138 show-healthcheck prints the same with additions as without; -v has them behind it", async () => {
  const host = await hostWith(PLAIN, JUDGING);
  const lines = (await outputOf(host, "show-healthcheck")).split("\n");
  expect(lines[2]!.replace("judging", "plain  ")).toBe(lines[1]!);
  const verbose = (await outputOf(host, "show-healthcheck -v judging")).split("\n");
  expect(verbose[0]).toStartWith(lines[0]!.trimEnd());
  expect(verbose[0]).toContain("OPTIONS");
  expect(verbose[1]).toContain(ALL);
});

test("an export has exactly what was said, and makes the same when it is read", async () => {
  const host = await hostWith(PLAIN, JUDGING);
  const lines = [...exportLines(host.config())].map((line) => line.trimEnd());
  expect(lines).toEqual([PLAIN, JUDGING]);
  const again = await hostWith(...lines);
  expect([...exportLines(again.config())]).toEqual([...exportLines(host.config())]);
});

test("JSON has the properties that were given", async () => {
  const host = await hostWith(PLAIN, JUDGING);
  const [plain, judging] = host.config().healthChecks.map(healthCheckView);
  const said = { "hc-rise": 2, "hc-fall": 3, "hc-initial": "down", "hc-panic": 50, "hc-passive": "no" };
  expect(judging).toEqual({ ...plain, name: "judging", ...said });
  for (const property of Object.keys(said)) expect(plain).not.toHaveProperty(property);
});

test.each([
  ["hc-rise=0", "hc-rise: invalid value"],
  ["hc-fall=1001", "hc-fall: invalid value"],
  ["hc-rise=-1", "hc-rise: invalid value"],
  ["hc-fall=two", "hc-fall: invalid value"],
  ["hc-initial=left", "hc-initial: invalid value"],
  ["hc-panic=101", "hc-panic: invalid value"],
  ["hc-panic=50%", "hc-panic: invalid value"],
  ["hc-passive=maybe", "hc-passive: invalid value"],
])("%s is refused with one line that names the key", async (key, complaint) => {
  const host = new FakeHost();
  expect(await errorOf(host, `create-healthcheck -h hc-test=tcp,${key} h1`)).toStartWith(`ilbadm: ${complaint}`);
  expect(host.config().healthChecks).toEqual([]);
});

describe("a server that fails and is kept", () => {
  const GROUP = "create-sg -s server=192.0.2.10 sg1";
  const RULE = "create-rule -e -i vip=198.51.100.10,port=80 -m type=h -h hc-name=judging -o sg=sg1 r1";
  const withResult = async (isKept: boolean): Promise<FakeHost> => {
    const host = await hostWith(JUDGING, GROUP, RULE);
    const { rules, groups } = host.config();
    host.healthResults = () => [
      {
        ruleId: rules[0]!.id,
        serverId: groups[0]!.servers[0]!.id,
        status: "dead",
        fail: 3,
        lastAtMs: 0,
        nextAtMs: 1000,
        rttMicroseconds: 0,
        reason: "connection refused",
        isKept,
      },
    ];
    return host;
  };

  test("shows in show-hc-result -v and in JSON, and not in show-hc-result", async () => {
    const [kept, out] = [await withResult(true), await withResult(false)];
    expect(await outputOf(kept, "show-hc-result")).toBe(await outputOf(out, "show-hc-result"));
    expect(await outputOf(kept, "show-hc-result -v")).toContain("connection refused; kept: too few would remain");
    expect(await outputOf(out, "show-hc-result -v")).not.toContain("kept");
    expect(resultView(kept.config(), kept.healthResults!()[0]!)).toMatchObject({ status: "dead", kept: true });
    expect(resultView(out.config(), out.healthResults!()[0]!)).toMatchObject({ status: "dead", kept: false });
  });
});

test("--help and the reference mark every one of them as an addition", () => {
  const reference = readFileSync(join(import.meta.dir, "../../docs/commands.md"), "utf8");
  for (const key of ["hc-rise", "hc-fall", "hc-initial", "hc-panic", "hc-passive"])
    expect(reference).toMatch(new RegExp(`\`${key}\`.*addition`));
});
