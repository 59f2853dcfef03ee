/** Laws of the grammar, over arbitrary changes and configurations. The seed stands in each test's name. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { apply } from "../../src/command/apply.ts";
import { bind } from "../../src/command/bind.ts";
import type { Change } from "../../src/command/command.ts";
import { exportChanges } from "../../src/command/export.ts";
import { splitWords } from "../../src/command/file.ts";
import { fromHttp, requestSchema, stringify, toHttp } from "../../src/command/json.ts";
import { printChange, printCommand } from "../../src/command/print.ts";
import { lookUpNames } from "../../src/command/request.ts";
import { findSubcommand, ROUTES, SUBCOMMANDS } from "../../src/command/spec.ts";
import { scan } from "../../src/command/text.ts";
import type { Config } from "../../src/model/config.ts";
import { anyChange, anyConfig, essence, objections } from "../support/changes.ts";
import { FakeHost, ilbadm, outputOf } from "../support/fake-host.ts";
import { anyReading } from "../support/queries.ts";
import { propertySeed } from "../support/random.ts";

const seed = propertySeed();

async function parseLine(line: string): Promise<Change[]> {
  const words = splitWords(line);
  const request = scan(findSubcommand(words[0] ?? "")!, words.slice(1));
  if (!request.ok) throw new Error(request.failure.text);
  const named = await lookUpNames(request.value, new FakeHost());
  const command = named.ok ? bind(named.value) : named;
  if (!command.ok) throw new Error(command.failure.text);
  if (command.value.kind !== "changes") throw new Error(`${line} is no change`);
  return [...command.value.changes];
}

test(`a change that is printed is parsed again (seed ${seed})`, async () => {
  await fc.assert(
    fc.asyncProperty(anyChange, async (change) => {
      // -a is how delete-rule says "all"; a name is never null there otherwise.
      expect(await parseLine(printChange(change))).toEqual([change]);
    }),
    { seed, numRuns: 1000 },
  );
});

test(`a reading command that is printed is parsed again, over the whole grammar (seed ${seed})`, async () => {
  const kinds = new Set<string>();
  await fc.assert(
    fc.asyncProperty(anyReading, async (command) => {
      kinds.add(command.kind);
      const words = splitWords(printCommand(command));
      const request = scan(findSubcommand(words[0] ?? "")!, words.slice(1));
      if (!request.ok) throw new Error(request.failure.text);
      expect(bind(request.value)).toEqual({ ok: true, value: command });
    }),
    { seed, numRuns: 3000 },
  );
  const changing = ["create-", "delete-", "enable-", "disable-", "add-", "remove-", "set-"];
  const reading = Object.keys(SUBCOMMANDS).filter((name) => !changing.some((prefix) => name.startsWith(prefix)));
  expect([...kinds].sort()).toEqual(reading.sort());
});

test(`printing is canonical: parsing and printing again gives the same line (seed ${seed})`, async () => {
  await fc.assert(
    fc.asyncProperty(anyChange, async (change) => {
      const line = printChange(change);
      const [again] = await parseLine(line);
      expect(printChange(again!)).toBe(line);
    }),
    { seed, numRuns: 300 },
  );
});

/** Finds the route of a request, as an HTTP router would. */
function routeOf(method: string, path: string) {
  for (const route of ROUTES) {
    const names = [...route.path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] as string);
    const found = new RegExp(`^${route.path.replace(/\{\w+\}/g, "([^/]+)")}$`).exec(path);
    if (route.method === method && found !== null) {
      const values = found.slice(1).map(decodeURIComponent);
      return { route, values: Object.fromEntries(names.map((name, i) => [name, values[i] ?? ""])) };
    }
  }
  throw new Error(`no route for ${method} ${path}`);
}

const hasResource = (change: Change): boolean =>
  !((change.kind === "enable-rule" || change.kind === "disable-rule") && change.name === null);

test(`a change that is sent as JSON is read again, and its body fits the schema (seed ${seed})`, async () => {
  await fc.assert(
    fc.asyncProperty(anyChange.filter(hasResource), async (change) => {
      const sent = toHttp(change);
      const { route, values } = routeOf(sent.method, sent.path);
      const body = sent.body === null ? undefined : JSON.parse(stringify(sent.body));
      expect(await fromHttp(route, values, body, new FakeHost())).toEqual({ ok: true, value: [change] });
      const schema = requestSchema(route);
      if (schema !== null) expect(schema.safeParse(body).success).toBe(true);
    }),
    { seed, numRuns: 1000 },
  );
});

test(`a configuration that is exported is imported again and exports the same (seed ${seed})`, async () => {
  await fc.assert(
    fc.asyncProperty(anyConfig, async (config) => {
      const first = new FakeHost(config);
      const second = new FakeHost();
      const text = await outputOf(first, "export-config");
      const { exit, stderr } = await ilbadm(second, "import-config", { input: text });
      expect({ exit, stderr }).toEqual({ exit: 0, stderr: "" });
      expect(essence(second.config())).toEqual(essence(config));
      expect(await outputOf(second, "export-config")).toBe(text);
      expect([...exportChanges(second.config())].map(printChange).join("\n")).toBe(text.trimEnd());
    }),
    { seed, numRuns: 150 },
  );
});

test(`no row of changes makes a configuration that breaks its own rules (seed ${seed})`, () => {
  let rules = 0;
  fc.assert(
    fc.property(anyConfig, (config) => {
      rules += config.rules.length;
      expect(objections(config)).toEqual([]);
    }),
    { seed, numRuns: 300 },
  );
  expect(rules).toBeGreaterThan(300);
});

function isDeeplyFrozen(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return true;
  return Object.isFrozen(value) && Object.values(value).every(isDeeplyFrozen);
}

test(`every object of a configuration is frozen, whatever made it (seed ${seed})`, () => {
  fc.assert(
    fc.property(anyConfig, (config) => {
      const servers = config.groups.flatMap((group) => group.servers);
      const objects = [config, ...config.rules, ...config.groups, ...config.healthChecks, ...servers];
      expect(objects.every((item) => Object.isFrozen(item))).toBe(true);
    }),
    { seed, numRuns: 50 },
  );
});

test("a parsed change is frozen to its depth", async () => {
  const line =
    "create-rule -e -i vip=2001:db8::1,port=80 -m type=NAT,proxy-src=2001:db8::5,pmask=64 -h hc-name=h -o servergroup=g r";
  for (const change of await parseLine(line)) expect(isDeeplyFrozen(change)).toBe(true);
  for (const change of await parseLine("add-server -s server=192.0.2.1:80-90,192.0.2.2 g")) {
    expect(isDeeplyFrozen(change)).toBe(true);
  }
});

test(`arbitrary words never throw and always end with a status (seed ${seed})`, async () => {
  const word = fc.oneof(
    fc.constantFrom(...Object.keys(SUBCOMMANDS)),
    fc.constantFrom("-i", "-m", "-o", "-s", "-h", "-t", "-p", "-e", "-a", "-f", "-v", "--", "-", "", "_a.1", "a", "1"),
    fc.constantFrom(
      "vip=",
      "vip=198.51.100.1,",
      "port=80",
      "server=[",
      "server=[::1]-[::2]:",
      "server=a-b:c-1",
      "type=n",
    ),
    fc.string({ maxLength: 12 }),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...Object.keys(SUBCOMMANDS)),
      fc.array(word, { maxLength: 8 }),
      async (first, rest) => {
        const { exit, stderr } = await ilbadm(new FakeHost(), [first, ...rest], {
          input: rest.join(" "),
          origin: "http",
        });
        expect([0, 1, 2]).toContain(exit);
        expect(stderr === "" || stderr.startsWith("ilbadm: ")).toBe(true);
        // What succeeds may still remark on something, and says so.
        const errors = stderr.split("\n").filter((line) => !/^$|^ilbadm: (warning|notice): /.test(line));
        expect(errors.length > 0).toBe(exit === 1);
      },
    ),
    { seed, numRuns: 2000 },
  );
});

test("apply gives the very same configuration back when a change has no effect", () => {
  const context = { drainingNumbers: () => new Set<number>() };
  const { nextId, ...lists } = new FakeHost().config();
  const empty: Config = { nextId, ...lists };
  for (const kind of ["delete-rule", "enable-rule", "disable-rule"] as const) {
    expect(apply(empty, { kind, name: null }, context)).toEqual({ ok: true, value: empty });
  }
});
