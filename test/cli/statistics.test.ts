/** ILB-140 to 152 and 266 to 273: show-statistics through the real program. Figures of real traffic: test/e2e/figures. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Daemon, ILBADM, Place } from "../daemon/daemon.ts";
import { isFullRun } from "../support/capabilities.ts";

let place: Place;
let daemon: Daemon;
const RULES = [
  "create-servergroup -s server=192.0.2.10-192.0.2.12 sg1",
  "create-servergroup -s server=192.0.2.20 sg2",
  "create-rule -e -i vip=198.51.100.1,port=80 -m type=h -o servergroup=sg1 r1",
  "create-rule -e -i vip=198.51.100.1,port=81 -m type=h -o servergroup=sg1 r2",
  "",
].join("\n");
/** Listings that take long run beside the other tests, against a daemon that nobody changes. */
let still: Place;
let stillDaemon: Daemon;
let long: Promise<[plain: string, items: string]>;
const LONG_SAMPLES = isFullRun ? 25 : 11;
beforeAll(async () => {
  [place, still] = [new Place(), new Place()];
  [daemon, stillDaemon] = await Promise.all([Daemon.start(place), Daemon.start(still)]);
  await still.must("import-config", RULES);
  long = Promise.all([still.must(`show-stats 1 ${LONG_SAMPLES}`), still.must(`show-stats -i -r r1 1 ${LONG_SAMPLES}`)]);
});
afterAll(async () => {
  await Promise.all([daemon, stillDaemon].map((each) => each.stop("SIGKILL")));
  place.remove();
  still.remove();
});

const six = "PKT_P   BYTES_P   PKT_U   BYTES_U   PKT_D   BYTES_D";
const zeros = "0       0         0       0         0       0";
const error = (line: string) => ({ status: 1, stdout: "", stderr: `ilbadm: ${line}\n` });

/** A listing that goes on, read line by line. */
class Running {
  readonly #child;
  readonly #lines: AsyncIterator<string>;

  constructor(words: string) {
    this.#child = Bun.spawn([ILBADM, ...words.split(" ")], {
      env: { ...process.env, ILB_SOCKET: place.socket },
      stdout: "pipe",
      stderr: "pipe",
    });
    this.#lines = linesOf(this.#child.stdout);
  }

  /** Reads samples of one row, which must all be `now`, until one is `then`: how many there are in between is the clock's. */
  async becomes(now: string, then: string): Promise<void> {
    for (;;) {
      const [line] = await this.take(1);
      if (line === then) return;
      expect(line).toBe(now);
    }
  }

  /** The next `count` lines, fewer where it ends. */
  async take(count: number): Promise<string[]> {
    const lines: string[] = [];
    while (lines.length < count) {
      const step = await this.#lines.next();
      if (step.done) break;
      lines.push(step.value);
    }
    return lines;
  }

  async end(): Promise<{ status: number; rest: string[]; stderr: string }> {
    const rest = await this.take(Number.POSITIVE_INFINITY);
    const stderr = await new Response(this.#child.stderr).text();
    return { status: await this.#child.exited, rest, stderr };
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGINT");
    await this.#child.exited;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of stream) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

test("ILB-266 ILB-140 without rules: the header and one row of zeros", async () => {
  await place.must("import-config", "");
  expect(await place.ilbadm("show-stats")).toEqual({ status: 0, stdout: `${six}\n${zeros}\n`, stderr: "" });
});

test("ILB-149 ILB-143 ILB-151 ILB-152 options that do not go together, intervals, counts and unknown names", async () => {
  await place.must("import-config", RULES);
  const cases: readonly (readonly [string, string])[] = [
    ["-r r1 -s _sg1.0", "options -s and -r are mutually exclusive"],
    ["-i", "option -i requires either -r or -s"],
    ["-i -r r1 -v", "option -i and -v are mutually exclusive"],
    ["-dA", "options -d and -A are mutually exclusive"],
    ["-v -o pkt_p", "option -o and -v are mutually exclusive"],
    ...["0", "1.5", "1x", "x"].map((text) => [text, `illegal interval spec ${text}`] as const),
    ...["0", "1.5", "1x", "x"].map((text) => [`1 ${text}`, `illegal count spec ${text}`] as const),
    ["-r nosuch", "rule name missing or specified rule not found"],
    ["-s _sg1.9", "server name missing or specified server not found"],
    ["-s r1", "server name missing or specified server not found"],
  ];
  const seen = await Promise.all(cases.map(([words]) => place.ilbadm(`show-stats ${words}`)));
  expect(seen).toEqual(cases.map(([, line]) => error(line)));
});

test("ILB-272 fields that -i does not have", async () => {
  await place.must("import-config", RULES);
  expect(await place.ilbadm("show-stats -r r1 -i -o PKT_D")).toMatchObject({
    status: 1,
    stdout: "",
    stderr: expect.stringMatching(/^ilbadm: unknown output field: PKT_D\n/),
  });
});

test("ILB-145 ILB-146 columns of -t, -v and -tv", async () => {
  const [stamped, verbose, both] = await Promise.all(
    ["-t", "-v", "-tv"].map(async (words) => (await place.must(`show-stats ${words}`)).split("\n")),
  );
  expect(stamped?.[0]).toBe(`${six}   TIME`);
  expect(stamped?.[1]).toMatch(/^0 .* 0 {9}\d{4}-\d\d-\d\d:\d\d\.\d\d\.\d\d$/);
  const twelve = `${six}   ICMP_P  ICMP_D  ICMP2BIG_P ICMP2BIG_D NOMEMP_D NOPORTP_D`;
  expect(verbose?.[0]).toBe(twelve);
  expect(both?.[0]).toBe(`${twelve} NOMEMB_D NOPORTB_D TIME`);
});

test("ILB-146 -v has twelve columns, with -t fifteen", async () => {
  const columns = async (words: string): Promise<number> =>
    (await place.must(`show-stats ${words}`)).split("\n")[0]!.split(/ +/).length;
  expect([await columns("-v"), await columns("-v -t")]).toEqual([12, 15]);
});

test("ILB-147 ILB-148 -i has a row per server of the rule, or per rule of the server", async () => {
  await place.must("import-config", RULES);
  expect(await place.must("show-stats -i -r R1")).toBe(
    `SERVERNAME          PKT_P   BYTES_P
_sg1.0              0       0
_sg1.1              0       0
_sg1.2              0       0
`,
  );
});

test("ILB-148 -s ID -i", async () => {
  await place.must("import-config", RULES);
  expect(await place.must("show-stats -i -s _SG1.0")).toBe(
    "RULENAME            PKT_P   BYTES_P\nr1                  0       0\nr2                  0       0\n",
  );
});

test("ILB-270 the fields of -o, TIME among them, and -t behind those of -o", async () => {
  const [sample, stamped] = await Promise.all([
    place.must("show-stats -o bytes_d,time 1 2"),
    place.must("show-stats -o PKT_P -t"),
  ]);
  const lines = sample.trimEnd().split("\n");
  expect(lines[0]).toBe("BYTES_D   TIME");
  expect(lines).toHaveLength(3);
  for (const line of lines.slice(1)) expect(line).toMatch(/^0 {9}\d{4}-\d\d-\d\d:\d\d\.\d\d\.\d\d$/);
  expect(stamped.split("\n")[0]).toBe("PKT_P   TIME");
  expect(await place.must("show-stats -p -o pkt_p,time,pkt_d")).toMatch(/^0:[\d-]+\\:[\d.]+:0\n$/);
});

test("ILB-271 -A -s ID -it 1 2: a row per rule and sample, the header once", async () => {
  await place.must("import-config", RULES);
  const lines = (await place.must("show-stats -A -s _sg1.0 -it 1 2")).trimEnd().split("\n");
  expect(lines[0]).toBe("RULENAME            PKT_P   BYTES_P   TIME");
  expect(lines.slice(1).map((line) => line.split(" ")[0])).toEqual(["r1", "r2", "r1", "r2"]);
});

test("ILB-150 a server that comes or goes makes PKT_P and BYTES_P `?` for one sample", async () => {
  await place.must("import-config", RULES);
  const watching = new Running("show-stats -r r1 1");
  const unknown = "?       ?         0       0         0       0";
  expect(await watching.take(2)).toEqual([six, zeros]);
  await place.must("add-server -s server=192.0.2.13 sg1");
  await watching.becomes(zeros, unknown);
  expect(await watching.take(1)).toEqual([zeros]);
  await place.must("remove-server -s server=_sg1.3 sg1");
  await watching.becomes(zeros, unknown);
  await watching.stop();
});

test("ILB-269 a rule that comes or goes makes the other columns `?`, but with -A", async () => {
  await place.must("import-config", RULES);
  const [relative, absolute, items] = [
    new Running("show-stats 1"),
    new Running("show-stats -A 1"),
    new Running("show-stats -i -s _sg1.0 1"),
  ];
  const started = await Promise.all([relative.take(2), absolute.take(2), items.take(3)]);
  expect(started.map((lines) => lines.length)).toEqual([2, 2, 3]);
  await place.must("create-rule -i vip=198.51.100.9,port=80 -m type=h -o servergroup=sg1 r9");
  await relative.becomes(zeros, "?       ?         ?       ?         ?       ?");
  expect(await relative.take(1)).toEqual([zeros]);
  // Its samples are as many seconds on.
  expect(await absolute.take(2)).toEqual([zeros, zeros]);
  const [r1, r2] = ["r1                  0       0", "r2                  0       0"];
  let row = await items.take(1);
  while (row[0] === r1) {
    expect(await items.take(1)).toEqual([r2]);
    row = await items.take(1);
  }
  expect(row).toEqual(["r9                  ?       ?"]);
  expect(await items.take(3)).toEqual([r1, r2, "r9                  0       0"]);
  await Promise.all([relative, absolute, items].map((each) => each.stop()));
});

test("ILB-273 the rule or the server of a running listing vanishes", async () => {
  await place.must("import-config", RULES);
  const [rule, server] = [new Running("show-stats -r r1 1"), new Running("show-stats -s _sg1.0 1")];
  await Promise.all([rule.take(2), server.take(2)]);
  await place.must("delete-rule r1");
  const deleted = await rule.end();
  // Samples from before it vanished.
  expect(deleted.rest.filter((line) => line !== zeros)).toEqual([]);
  expect([deleted.status, deleted.stderr]).toEqual([1, "ilbadm: rule name missing or specified rule not found\n"]);
  await place.must("remove-server -s server=_sg1.0 sg1");
  const gone = await server.end();
  expect([gone.status, gone.stderr]).toEqual([1, "ilbadm: server name missing or specified server not found\n"]);
});

test("Ctrl-C ends an endless listing, and the daemon lets go of it", async () => {
  const watching = new Running("show-stats 1");
  await watching.take(2);
  await watching.stop();
  expect((await place.ilbadm("show-stats")).status).toBe(0);
});

test("ILB-144 headers before samples 1, 11 and 21; with -i a sample is all of its rows", async () => {
  const [plain, items] = await long;
  const headers = (text: string): number[] =>
    text
      .trimEnd()
      .split("\n")
      .flatMap((line, at) => (/^[A-Z]/.test(line) ? [at] : []));
  const expected = [0, 11, 22].slice(0, LONG_SAMPLES > 20 ? 3 : 2);
  expect(headers(plain)).toEqual(expected);
  expect(headers(items)).toEqual(expected.map((_, i) => i * 31));
  expect(plain.trimEnd().split("\n")).toHaveLength(LONG_SAMPLES + expected.length);
}, 60_000);
