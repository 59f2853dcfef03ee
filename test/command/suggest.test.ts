/** Hints behind errors: what is close is suggested, the error's own line never changes. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { closest, editDistance } from "../../src/command/suggest.ts";
import { FakeHost, ilbadm, setUp } from "../support/fake-host.ts";
import { propertySeed } from "../support/random.ts";

const seed = propertySeed();

/** Straight from the definition, without limit and without rows that are thrown away. */
function plainDistance(a: string, b: string): number {
  const table = Array.from({ length: a.length + 1 }, (_, i) =>
    Array.from({ length: b.length + 1 }, (__, j) => (i === 0 ? j : j === 0 ? i : 0)),
  );
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(table[i - 1]![j]! + 1, table[i]![j - 1]! + 1, table[i - 1]![j - 1]! + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, table[i - 2]![j - 2]! + 1);
      table[i]![j] = best;
    }
  return table[a.length]![b.length]!;
}

test(`the distance with a limit is the plain one, as far as the limit goes (seed ${seed})`, () => {
  const short = fc.stringMatching(/^[abc]{0,7}$/);
  fc.assert(
    fc.property(short, short, fc.integer({ min: 0, max: 4 }), (a, b, limit) => {
      expect(editDistance(a, b, limit)).toBe(Math.min(plainDistance(a, b), limit + 1));
    }),
    { seed, numRuns: 2000 },
  );
});

test("the closest is found, short words and far ones find nothing", () => {
  const names = ["show-rule", "show-server", "create-rule", "r1"];
  expect(closest("shwo-rule", names)).toBe("show-rule");
  expect(closest("SHOW-RULES", names)).toBe("show-rule");
  expect(closest("show-srever", names)).toBe("show-server");
  expect(closest("frobnicate", names)).toBeNull();
  expect(closest("r2", names)).toBeNull();
  expect(closest("show-rule", names)).toBeNull();
});

const HINTS: readonly (readonly [line: string, error: string, hint: string])[] = [
  ["shwo-rule", "subcommand is invalid - please refer to ilbadm(8)", "did you mean show-rule?"],
  ["create-rule -i vpi=198.51.100.1 x", "bad keyword vpi", "did you mean vip?"],
  ["create-rule -m vip=198.51.100.1 x", "bad keyword vip", "vip goes with -i"],
  ["show-rule -o rulname", "unknown output field: rulname", "did you mean RULENAME?"],
  ["show-rule webrul", "no such/no more element(s)", "did you mean webrule?"],
  ["delete-rule webrulee", "specified rule does not exist", "did you mean webrule?"],
  ["show-sg webgruop", "cannot find specified server group", "did you mean webgroup?"],
  [
    "add-server -s server=192.0.2.1 webgrop",
    "cannot add 192.0.2.1 to webgrop: no such/no more element(s)",
    "did you mean webgroup?",
  ],
  [
    "create-rule -i vip=198.51.100.9,port=1 -m type=d -o sg=webgrup x",
    "cannot find specified server group",
    "did you mean webgroup?",
  ],
  ["show-hc heathcheck", "no such/no more element(s)", "did you mean healthcheck?"],
  ["show-stats -r webrle", "rule name missing or specified rule not found", "did you mean webrule?"],
];

test.each(HINTS)("%s: the exact line, then a hint", async (line, error, hint) => {
  const host = new FakeHost();
  await setUp(
    host,
    "create-servergroup webgroup",
    "create-healthcheck -h hc-test=tcp healthcheck",
    "create-rule -i vip=198.51.100.1,port=80 -m type=DSR -o servergroup=webgroup webrule",
  );
  const { exit, stdout, stderr } = await ilbadm(host, line);
  expect({ exit, stdout, stderr }).toEqual({
    exit: 1,
    stdout: "",
    stderr: `ilbadm: ${error}\nilbadm: hint: ${hint}\n`,
  });
  // In a file the line is named, and the hint stands behind it.
  const imported = await ilbadm(host, "import-config -p", { input: `${line}\n` });
  expect(imported.stderr).toBe(`ilbadm: -: line 1: ${error}\nilbadm: hint: ${hint}\n`);
});
