/** show-statistics on a clock that stands still but for sleeping. */
import { describe, expect, test } from "bun:test";
import { errorOf, FakeHost, ilbadm, outputOf, setUp } from "../support/fake-host.ts";

const SIX = "PKT_P   BYTES_P   PKT_U   BYTES_U   PKT_D   BYTES_D\n";
const NO_RULE = "ilbadm: rule name missing or specified rule not found\n";

/** Rules r1 and r2 on group sg1 of two servers, with the counters of the sample on r1. */
async function counted(): Promise<FakeHost> {
  const host = new FakeHost();
  await setUp(
    host,
    "create-sg -s server=192.0.2.10,192.0.2.11 sg1",
    "create-rule -e -i vip=198.51.100.1,port=80 -m type=d -o sg=sg1 r1",
    "create-rule -e -i vip=198.51.100.1,port=81 -m type=d -o sg=sg1 r2",
  );
  host.countServer("r1", "_sg1.0", 9n, 636n);
  host.countRule("r1", { packetsDropped: 4n, bytesDropped: 196n, icmpEchoProcessed: 2n });
  return host;
}

const rows = (text: string): string[][] =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => line.split(/ +/));

test("ILB-140 without operands one sample of absolute totals in six columns", async () => {
  const host = await counted();
  expect(await outputOf(host, "show-stats")).toBe(`${SIX}9       636       0       0         4       196\n`);
  expect(host.sleeps).toEqual([]);
});

/** Counts n packets of 100 bytes more on r1 with every sleep. */
function steadily(host: FakeHost, packets: bigint): void {
  host.whileSleeping = (times) => {
    const total = 9n + BigInt(times + 1) * packets;
    host.countServer("r1", "_sg1.0", total, total * 100n);
  };
}

test("ILB-141 later samples are the change per second, truncated", async () => {
  const host = await counted();
  steadily(host, 5n);
  host.countServer("r1", "_sg1.0", 9n, 900n);
  expect(rows(await outputOf(host, "show-stats -o pkt_p,bytes_p 2 3"))).toEqual([
    ["PKT_P", "BYTES_P"],
    ["9", "900"],
    ["2", "250"],
    ["2", "250"],
  ]);
  expect(host.sleeps).toEqual([2000, 2000]);
});

test("ILB-142 -d shows the change over the interval", async () => {
  const host = await counted();
  steadily(host, 5n);
  expect(rows(await outputOf(host, "show-stats -d -o pkt_p 2 3"))).toEqual([["PKT_P"], ["9"], ["5"], ["5"]]);
});

test("ILB-143 -A shows totals, and not together with -d", async () => {
  const host = await counted();
  steadily(host, 5n);
  expect(rows(await outputOf(host, "show-stats -A -o pkt_p 2 3"))).toEqual([["PKT_P"], ["9"], ["14"], ["19"]]);
  expect(await errorOf(host, "show-stats -A -d")).toBe("ilbadm: options -d and -A are mutually exclusive\n");
});

test("ILB-144 a header stands before every tenth sample, however many rows a sample has", async () => {
  const host = await counted();
  const heads = (text: string) => rows(text).flatMap(([first], i) => (/^[A-Z]/.test(first as string) ? [i] : []));
  expect(heads(await outputOf(host, "show-stats 1 25"))).toEqual([0, 11, 22]);
  await setUp(host, "add-server -s server=192.0.2.12 sg1");
  expect(heads(await outputOf(host, "show-stats -r r1 -i 1 25"))).toEqual([0, 31, 62]);
});

test("ILB-145 -t adds the time as last column, of the moment of the sample", async () => {
  const host = await counted();
  const text = await outputOf(host, "show-stats -t 1 2");
  expect(rows(text).map((row) => row.at(-1))).toEqual(["TIME", "2030-01-02:03.04.05", "2030-01-02:03.04.06"]);
  expect(rows(text)[0]?.length).toBe(7);
});

test("ILB-146 -v has twelve columns, -t -v fifteen", async () => {
  const host = await counted();
  expect(await outputOf(host, "show-stats -v")).toBe(
    `PKT_P   BYTES_P   PKT_U   BYTES_U   PKT_D   BYTES_D   ICMP_P  ICMP_D  ICMP2BIG_P ICMP2BIG_D NOMEMP_D NOPORTP_D
9       636       0       0         4       196       2       0       0          0          0       0
`,
  );
  const columns = rows(await outputOf(host, "show-stats -tv"))[0];
  expect(columns?.slice(11)).toEqual(["NOPORTP_D", "NOMEMB_D", "NOPORTB_D", "TIME"]);
});

test("ILB-147 -r -i has a row per server", async () => {
  expect(await outputOf(await counted(), "show-stats -i -r R1")).toBe(
    `SERVERNAME          PKT_P   BYTES_P
_sg1.0              9       636
_sg1.1              0       0
`,
  );
});

test("ILB-148 -s -i has a row per rule", async () => {
  const host = await counted();
  expect(await outputOf(host, "show-stats -i -t -s _sg1.1")).toBe(
    `RULENAME            PKT_P   BYTES_P   TIME
r1                  0       0         2030-01-02:03.04.05
r2                  0       0         2030-01-02:03.04.05
`,
  );
});

test.each([
  ["-i", "option -i requires either -r or -s"],
  ["-i -v -r r1", "option -i and -v are mutually exclusive"],
  ["-r r1 -s _sg1.0", "options -s and -r are mutually exclusive"],
  ["-o pkt_p -v", "option -o and -v are mutually exclusive"],
  ["-p -o pkt_p -v", "option -o and -v are mutually exclusive"],
])("ILB-149 show-stats %s is refused", async (options, text) => {
  expect(await errorOf(await counted(), `show-stats ${options}`)).toBe(`ilbadm: ${text}\n`);
});

describe("what cannot be compared", () => {
  /** The columns of three samples; something happens before the second. */
  async function samples(options: string, between: string): Promise<string[][]> {
    const host = await counted();
    host.whileSleeping = async (times) => {
      if (times === 0) await setUp(host, between);
    };
    return rows(await outputOf(host, `show-stats ${options} 1 3`)).slice(1);
  }

  test("ILB-150 a server added or removed makes PKT_P and BYTES_P unknown once", async () => {
    for (const change of ["add-server -s server=192.0.2.12 sg1", "remove-server -s server=_sg1.1 sg1"]) {
      expect(await samples("", change)).toEqual([
        ["9", "636", "0", "0", "4", "196"],
        ["?", "?", "0", "0", "0", "0"],
        ["0", "0", "0", "0", "0", "0"],
      ]);
    }
  });

  test("ILB-269 a rule created or deleted makes the other columns unknown once, but not with -A", async () => {
    await setUp(await counted(), "create-sg x");
    for (const change of ["create-rule -i vip=198.51.100.9,port=1 -m type=d -o sg=sg1 r3", "delete-rule r2"]) {
      expect((await samples("", change))[1]).toEqual(["?", "?", "?", "?", "?", "?"]);
      expect((await samples("", change))[2]).toEqual(["0", "0", "0", "0", "0", "0"]);
      expect((await samples("-A", change)).flat()).not.toContain("?");
    }
  });

  test("with -i only the new row is unknown", async () => {
    const found = await samples("-i -r r1 -o servername,pkt_p", "add-server -s server=192.0.2.9 sg1");
    expect(found).toEqual([
      ["_sg1.0", "9"],
      ["_sg1.1", "0"],
      ["_sg1.2", "?"],
      ["_sg1.0", "0"],
      ["_sg1.1", "0"],
      ["_sg1.2", "0"],
      ["_sg1.0", "0"],
      ["_sg1.1", "0"],
    ]);
  });

  test("a rule that is created anew under its name is another rule", async () => {
    const host = await counted();
    host.whileSleeping = async (times) => {
      if (times > 0) return;
      await setUp(host, "delete-rule r1", "create-rule -i vip=198.51.100.1,port=80 -m type=d -o sg=sg1 r1");
    };
    expect(rows(await outputOf(host, "show-stats -r r1 -o pkt_p,pkt_d 1 3")).slice(1)).toEqual([
      ["9", "4"],
      ["?", "?"],
      ["0", "0"],
    ]);
  });
});

test.each(["0", "1.5", "1x", "x"])("ILB-151 '%s' is no interval and no count", async (text) => {
  expect(await errorOf(await counted(), `show-stats ${text}`)).toBe(`ilbadm: illegal interval spec ${text}\n`);
  expect(await errorOf(await counted(), `show-stats 1 ${text}`)).toBe(`ilbadm: illegal count spec ${text}\n`);
});

test("ILB-152 rule and server must exist", async () => {
  expect(await errorOf(await counted(), "show-stats -r nosuch")).toBe(NO_RULE);
  for (const server of ["_x.0", "_sg1.9", "192.0.2.10"]) {
    expect(await errorOf(await counted(), `show-stats -s ${server}`)).toBe(
      "ilbadm: server name missing or specified server not found\n",
    );
  }
});

test("ILB-238 -h is accepted without effect", async () => {
  expect(await outputOf(await counted(), "show-stats -h")).toBe(await outputOf(await counted(), "show-stats"));
});

test("ILB-266 without rules there is one row of zeros", async () => {
  expect(await outputOf(new FakeHost(), "show-stats")).toBe(`${SIX}0       0         0       0         0       0\n`);
});

test("ILB-267 each sample is handed on at once, and nobody waits after the last", async () => {
  const host = await counted();
  const { chunks, exit } = await ilbadm(host, "show-stats -p -o pkt_p 1 3");
  expect(chunks).toEqual([{ stdout: "9\n" }, { stdout: "0\n" }, { stdout: "0\n" }]);
  expect([exit, host.sleeps.length]).toEqual([0, 2]);
});

test("ILB-268 -r cuts everything to one rule, -s only the processed columns", async () => {
  const host = await counted();
  host.countServer("r2", "_sg1.0", 1n, 10n);
  host.countServer("r2", "_sg1.1", 100n, 1000n);
  host.countRule("r2", { packetsDropped: 50n, bytesDropped: 500n });
  const columns = "-o pkt_p,bytes_p,pkt_d,bytes_d";
  expect(rows(await outputOf(host, `show-stats ${columns} -r r1`))[1]).toEqual(["9", "636", "4", "196"]);
  expect(rows(await outputOf(host, `show-stats ${columns} -s _sg1.0`))[1]).toEqual(["10", "646", "54", "696"]);
  expect(rows(await outputOf(host, `show-stats ${columns}`))[1]).toEqual(["110", "1646", "54", "696"]);
});

test("ILB-270 example 10: TIME among the fields, and -t behind them", async () => {
  const host = await counted();
  host.whileSleeping = () => host.countRule("r1", { bytesDropped: 296n });
  expect(await outputOf(host, "show-stats -o bytes_d,time 1 3")).toBe(
    `BYTES_D   TIME
196       2030-01-02:03.04.05
100       2030-01-02:03.04.06
0         2030-01-02:03.04.07
`,
  );
  expect(rows(await outputOf(host, "show-stats -o PKT_P -t"))[0]).toEqual(["PKT_P", "TIME"]);
});

test("ILB-271 example 10: -A -s -it", async () => {
  const text = await outputOf(await counted(), "show-stats -A -s _sg1.0 -it 1 3");
  expect(rows(text).map(([first]) => first)).toEqual(["RULENAME", "r1", "r2", "r1", "r2", "r1", "r2"]);
  expect(rows(text)[0]).toEqual(["RULENAME", "PKT_P", "BYTES_P", "TIME"]);
});

test("ILB-272 -i has fields of its own, and they are only there", async () => {
  expect(await errorOf(await counted(), "show-stats -i -r r1 -o PKT_D")).toBe("ilbadm: unknown output field: PKT_D\n");
  expect(await errorOf(await counted(), "show-stats -o rulename")).toBe("ilbadm: unknown output field: rulename\n");
  expect(await outputOf(await counted(), "show-stats -i -r r1 -p -o rulename,servername,pkt_p")).toBe(
    "r1:_sg1.0:9\nr1:_sg1.1:0\n",
  );
});

test("ILB-273 a rule that vanishes ends its samples", async () => {
  const host = await counted();
  host.whileSleeping = () => setUp(host, "delete-rule r1");
  const { exit, stdout, stderr } = await ilbadm(host, "show-stats -r r1 -o pkt_p 1");
  expect({ exit, stdout, stderr }).toEqual({ exit: 1, stdout: "PKT_P\n9\n", stderr: NO_RULE });
});

test("counters of 64 bits are not rounded", async () => {
  const host = await counted();
  const big = 18446744073709551615n;
  host.countServer("r1", "_sg1.0", big, big - 1n);
  expect(await outputOf(host, "show-stats -p -o pkt_p,bytes_p")).toBe("18446744073709551615:18446744073709551614\n");
});

test("ILB-239 over HTTP samples must end", async () => {
  const args = "ilbadm: invalid/incompatible keywords - refer to ilbadm(8)\n";
  expect(await errorOf(await counted(), "show-stats 1", { origin: "http" })).toBe(args);
  expect((await ilbadm(await counted(), "show-stats 1 2", { origin: "http" })).exit).toBe(0);
});
