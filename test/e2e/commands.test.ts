/**
 * What commands show and do while real packets pass: one laboratory, one daemon, a configuration per test. Which bytes
 * are printed without packets is tested in test/cli.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Lab, type Running } from "../../src/lab/lab.ts";
import { clientAddress, PROXY_SOURCES, ROUTED_VIP, serverAddress } from "../../src/lab/topology.ts";
import { hasNamespaces } from "../support/capabilities.ts";
import { REQUEST_TIMEOUT_MS, TEST_TIMEOUT_MS } from "../support/e2e.ts";

describe.skipIf(!hasNamespaces)("with packets", () => {
  let lab: Lab;
  let daemon: Running;
  const [a, b] = [serverAddress(0), serverAddress(1)];

  beforeAll(async () => {
    lab = await Lab.create({ tag: "cmd", servers: 2 });
    await Promise.all([8080, 6000, 6003, 7003, 5003].map((port) => lab.startServers(port)));
    daemon = await lab.startDaemon();
  }, TEST_TIMEOUT_MS);
  afterAll(async () => {
    await daemon.stop();
    await lab.close();
  });
  afterEach(async () => {
    await ilbadm("delete-rule -a");
    for (const group of (await ilbadm("show-servergroup -p -o sgname")).split("\n").filter((name) => name !== ""))
      await lab.ilbadm(["delete-servergroup", group]);
  });

  const ilbadm = (words: string): Promise<string> => lab.configure(...words.split(" "));
  const given = async (...lines: string[]): Promise<void> => {
    for (const words of lines) expect([words, await ilbadm(words)]).toEqual([words, ""]);
  };
  const lines = async (words: string): Promise<string[]> =>
    (await ilbadm(words)).split("\n").filter((line) => line !== "");
  /** Entries of deleted rules live on until their timeouts; a test looks at those that came since it began. */
  let old: ReadonlySet<string>;
  beforeEach(async () => {
    old = new Set(await lines("show-nat"));
  });
  const entries = async (): Promise<string[]> => (await lines("show-nat 100000")).filter((line) => !old.has(line));
  const requests = (port: number, count: number, timeoutMs = REQUEST_TIMEOUT_MS) =>
    lab.client({
      kind: "requests",
      host: ROUTED_VIP,
      port,
      from: lab.clientAddresses,
      timeoutMs,
      count,
      concurrency: 2,
    });
  /** Who answered how often; every request must have been answered. */
  const answers = async (port: number, count: number): Promise<Record<string, number>> => {
    const done = await requests(port, count);
    expect(done.failures).toEqual([]);
    return { ...done.answered };
  };
  /** Nobody answers. The time is a limit for waiting, no measure. */
  const silence = async (port: number): Promise<void> => {
    expect((await requests(port, 1, 700)).failures).toHaveLength(1);
  };
  /** Until every connection has come to its end at both ends, so that no packet is under way: figures then stand still. */
  const quiet = async (): Promise<void> => {
    const open = ["ss", "-Htan", "state", "connected", "exclude", "time-wait"];
    for (const name of [lab.names.client, ...lab.names.servers])
      while ((await lab.must(name, open)).trim() !== "") await Bun.sleep(10);
  };
  const HALF = `create-rule -e -i vip=${ROUTED_VIP},port=80 -m type=h -o servergroup=sg1 r1`;
  const figures = async (words: string): Promise<number[]> =>
    (await ilbadm(`show-stats -p ${words}`)).trimEnd().split(":").map(Number);

  test(
    "ILB-062 ILB-108 an enabled rule balances at once, a deleted one matches no more",
    async () => {
      await given(`create-servergroup -s server=${a}:8080,${b}:8080 sg1`, HALF);
      expect(await answers(80, 4)).toEqual({ s1: 2, s2: 2 });
      await given("delete-rule r1");
      await silence(80);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-108 new packets match a deleted rule no more, in its place a new one",
    async () => {
      await given(`create-servergroup -s server=${a}:8080 sg1`, HALF, "delete-rule r1");
      await given(`create-servergroup -s server=${b}:8080 sg2`, HALF.replace("sg1 r1", "sg2 r1"));
      expect(await answers(80, 2)).toEqual({ s2: 2 });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-069 a rule on an empty group drops and counts until a server is added",
    async () => {
      await given("create-servergroup sg1", HALF);
      await silence(80);
      expect((await figures("-r r1 -o pkt_d,pkt_p"))[0]).toBeGreaterThan(0);
      await given(`add-server -s server=${a}:8080 sg1`);
      expect(await answers(80, 2)).toEqual({ s1: 2 });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-086 ILB-248 NAT shifts a range of ports into each server's own",
    async () => {
      await given(
        `create-servergroup -s server=${a}:6000-6009,${b}:7000-7009 sg1`,
        `create-rule -e -i vip=${ROUTED_VIP},port=5000-5009 -m type=NAT,proxy-src=${PROXY_SOURCES} -o servergroup=sg1 r1`,
      );
      expect(await answers(5003, 4)).toEqual({ s1: 2, s2: 2 });
      const targets = await entries();
      expect([...new Set(targets.map((line) => line.split(" > ").at(-1)))].sort()).toEqual([`${a}.6003`, `${b}.7003`]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-087 ILB-249 HALF-NAT collapses a range of ports into one",
    async () => {
      await given(
        "create-servergroup sg1",
        `create-rule -e -i vip=${ROUTED_VIP},port=5000-5009 -m type=h -o servergroup=sg1 r1`,
        `add-server -s server=${a}:6000 sg1`,
      );
      expect([await answers(5003, 2), await answers(5007, 2)]).toEqual([{ s1: 2 }, { s1: 2 }]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-090 a server without ports keeps the port of the packet",
    async () => {
      await given(
        `create-servergroup -s server=${a} sg1`,
        `create-rule -e -i vip=${ROUTED_VIP},port=5000-5009 -m type=h -o servergroup=sg1 r1`,
      );
      expect(await answers(5003, 2)).toEqual({ s1: 2 });
      for (const entry of await entries()) expect(entry).toEndWith(` > ${a}.5003`);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-056 ILB-255 ILB-256 a disabled server gets no new flow of any rule until it is enabled",
    async () => {
      await given(
        `create-servergroup -s server=${a}:8080,${b}:8080 sg1`,
        HALF,
        HALF.replace("port=80", "port=81").replace("r1", "r2"),
        "disable-server _sg1.0",
        HALF.replace("port=80", "port=82").replace("r1", "r3"),
      );
      for (const port of [80, 81, 82]) expect(await answers(port, 3)).toEqual({ s2: 3 });
      await given("enable-server _sg1.0");
      for (const port of [80, 81, 82]) expect(await answers(port, 4)).toEqual({ s1: 2, s2: 2 });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-132 ILB-134 show-nat of a NAT rule: the proxy address and port third; COUNT limits",
    async () => {
      await given(
        `create-servergroup -s server=${a}:8080 sg1`,
        `create-rule -e -i vip=${ROUTED_VIP},port=80 -m type=NAT,proxy-src=${PROXY_SOURCES} -o servergroup=sg1 r1`,
      );
      await answers(80, 8);
      const found = await entries();
      expect(found).toHaveLength(8);
      const form = /^ TCP: (\S+)\.\d+ > (\S+) >>> (\S+)\.(\d+) > (\S+)$/;
      const proxies = PROXY_SOURCES.split("-")[0]?.replace(/\d+$/, "");
      for (const line of found) {
        const [, client, vip, proxy, port, server] = form.exec(line) ?? [];
        expect([line, lab.clientAddresses.includes(client ?? "")]).toEqual([line, true]);
        expect([vip, server]).toEqual([`${ROUTED_VIP}.80`, `${a}.8080`]);
        expect(proxy).toStartWith(proxies ?? "?");
        expect(Number(port)).toBeGreaterThanOrEqual(4096);
      }
      expect(await lines("show-nat 5")).toHaveLength(5);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-133 show-nat of a HALF-NAT rule: the client pair twice",
    async () => {
      await given(`create-servergroup -s server=${a}:8080 sg1`, HALF);
      await answers(80, 2);
      const found = await entries();
      expect(found).toHaveLength(2);
      for (const line of found) {
        const [, client, vip, source, server] = /^ TCP: (\S+) > (\S+) >>> (\S+) > (\S+)$/.exec(line) ?? [];
        expect([source, vip, server]).toEqual([client, `${ROUTED_VIP}.80`, `${a}.8080`]);
      }
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-134 with more entries than COUNT exactly so many lines are printed",
    async () => {
      await given(`create-servergroup -s server=${a}:8080 sg1`, HALF);
      await answers(80, 7);
      expect(await lines("show-nat 5")).toHaveLength(5);
      expect(await entries()).toHaveLength(7);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-136 show-persist prints the client with the mask applied",
    async () => {
      await given(
        `create-servergroup -s server=${a}:8080,${b}:8080 sg1`,
        `create-rule -e -i vip=${ROUTED_VIP},port=80 -m type=h,pmask=24 -o servergroup=sg1 r1`,
      );
      const answered = await answers(80, 6);
      expect(Object.keys(answered)).toHaveLength(1);
      const network = clientAddress(0).replace(/\.\d+$/, ".0");
      const server = answered.s1 === undefined ? b : a;
      expect(await ilbadm("show-persist")).toBe(`r1: ${network} --> ${server}\n`);
      expect(await ilbadm("show-persist 1")).toBe(`r1: ${network} --> ${server}\n`);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-044 ILB-041 the number of a server that drains is not given out again",
    async () => {
      await given(`create-servergroup -s server=${a}:8080 sg1`, HALF, `add-server -s server=${b}:8080 sg1`);
      await answers(80, 4);
      await given("remove-server -s server=_sg1.1 sg1", `add-server -s server=${b}:6000 sg1`);
      expect(await ilbadm("show-servergroup -p -o serverid")).toBe("_sg1.0\n_sg1.2\n");
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-140 ILB-268 ILB-143 absolute totals, of all, of a rule, of a server",
    async () => {
      await given(
        `create-servergroup -s server=${a}:8080,${b}:8080 sg1`,
        "create-servergroup none",
        HALF,
        `create-rule -e -i vip=${ROUTED_VIP},port=81 -m type=h -o servergroup=none r2`,
        `create-rule -e -i vip=${ROUTED_VIP},port=82 -m type=h -o servergroup=sg1 r3`,
      );
      await answers(80, 4);
      await answers(82, 2);
      await silence(81);
      await quiet();
      const all = await figures("-o pkt_p,bytes_p,pkt_d,bytes_d");
      const [r1, r2, r3] = await Promise.all(
        ["r1", "r2", "r3"].map((rule) => figures(`-r ${rule} -o pkt_p,bytes_p,pkt_d,bytes_d`)),
      );
      for (const at of [0, 1, 2, 3]) expect(all[at]).toBe((r1?.[at] ?? 0) + (r2?.[at] ?? 0) + (r3?.[at] ?? 0));
      expect([r1?.[2], r2?.[0], r3?.[2]]).toEqual([0, 0, 0]);
      expect(r2?.[2]).toBeGreaterThan(0);
      // A server: its packets over all rules; the other columns over all rules.
      const [one, two] = await Promise.all(["_sg1.0", "_sg1.1"].map((id) => figures(`-s ${id} -o pkt_p,pkt_d`)));
      expect((one?.[0] ?? 0) + (two?.[0] ?? 0)).toBe(all[0] ?? -1);
      expect([one?.[1], two?.[1]]).toEqual([all[2], all[2]]);
      const rows = (await ilbadm("show-stats -i -s _sg1.0 -p -o rulename,pkt_p")).trimEnd().split("\n");
      expect(rows.map((row) => row.split(":")[0])).toEqual(["r1", "r3"]);
      expect(rows.reduce((sum, row) => sum + Number(row.split(":")[1]), 0)).toBe(one?.[0] ?? -1);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-141 ILB-142 ILB-143 later samples: change per second, change, totals",
    async () => {
      await given(`create-servergroup -s server=${a}:8080 sg1`, HALF);
      await answers(80, 3);
      await quiet();
      const total = (await figures("-o pkt_p,bytes_p"))[0] ?? 0;
      // Time enough for the traffic between two samples, whatever else the machine does.
      const seconds = 6;
      const follow = (options: string) => {
        const words = `show-stats ${options} -p -o pkt_p,bytes_p ${seconds} 2`.replace("  ", " ").split(" ");
        return lab.start(lab.names.box, [...lab.programs.ilbadm, "--socket", lab.socket, ...words]);
      };
      const running = ["", "-d", "-A"].map(follow);
      // The first sample, absolute, in all three; then traffic; then the second.
      for (const each of running) expect(await each.line(new RegExp(`^${total}:`))).toBeDefined();
      await answers(80, 3);
      await quiet();
      const now = await figures("-o pkt_p,bytes_p");
      const change = (now[0] ?? 0) - total;
      expect(change).toBeGreaterThan(0);
      for (const each of running) expect(await each.exited).toBe(0);
      const second = running.map((each) => each.output().trimEnd().split("\n").at(-1)?.split(":").map(Number)[0]);
      expect(second).toEqual([Math.trunc(change / seconds), change, now[0]]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-274 ILB-281 ILB-254 counters go on over disable and enable, and start anew with a new rule",
    async () => {
      await given(`create-servergroup -s server=${a}:8080 sg1`, HALF);
      await answers(80, 2);
      await quiet();
      const before = await figures("-r r1 -o pkt_p,bytes_p");
      await given(
        "disable-rule r1",
        "enable-rule r1",
        "disable-server _sg1.0",
        "enable-server _sg1.0",
        "enable-rule r1",
      );
      expect(await figures("-r r1 -o pkt_p,bytes_p")).toEqual(before);
      await given("delete-rule r1", HALF);
      expect(await figures("-r r1 -o pkt_p,bytes_p")).toEqual([0, 0]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-275 ILB-257 a deleted rule that drains is in no sum, and its names are free at once",
    async () => {
      await given(`create-servergroup -s server=${a}:8080 sg1`, HALF);
      await answers(80, 2);
      await given("delete-rule -a", "delete-servergroup sg1");
      expect(await figures("-o pkt_p,bytes_p")).toEqual([0, 0]);
      expect(await entries()).toHaveLength(2);
      await given(`create-servergroup -s server=${b}:8080 sg1`, HALF);
      expect(await answers(80, 2)).toEqual({ s2: 2 });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-222 when the daemon has stopped nothing is balanced",
    async () => {
      await given(`create-servergroup -s server=${a}:8080 sg1`, HALF);
      await answers(80, 1);
      await daemon.stop();
      await silence(80);
      daemon = await lab.startDaemon();
      expect(await answers(80, 1)).toEqual({ s1: 1 });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "a plan counts the connections that lose their rule or server",
    async () => {
      await given(
        `create-servergroup -s server=${a}:8080,${b}:8080 sg1`,
        `${HALF.replace("-o", "-t conn-drain=30 -o")}`,
      );
      await answers(80, 4);
      const file = join(lab.directory, "plan");
      writeFileSync(file, "remove-server -s server=_sg1.0 sg1\n");
      const plan = await lab.ilbadm(["import-config", "-p", "-n", file]);
      expect(plan).toEqual({
        exitCode: 2,
        stdout: `- server sg1 ${a}\n! rule r1: 2 connections stay with servers that get no new ones, for 30 s at most\n`,
        stderr: "",
      });
      expect(await entries()).toHaveLength(4);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "a rollback brings a deleted rule back under traffic, and a load on another rule notices nothing",
    async () => {
      await given(
        `create-servergroup -s server=${a}:8080,${b}:8080 sg1`,
        HALF,
        HALF.replace("port=80", "port=81").replace("r1", "r2"),
      );
      const id = (await ilbadm("history -p -o id 1")).trim();
      await answers(80, 2);
      const load = lab.startLoad({
        host: ROUTED_VIP,
        port: 81,
        from: lab.clientAddresses,
        perSecond: 50,
        timeoutMs: 10_000,
      });
      await given("delete-rule r1", `rollback ${id}`, "delete-rule r1", "disable-server _sg1.0", `rollback ${id}`);
      expect(await answers(80, 4)).toEqual({ s1: 2, s2: 2 });
      const failed = (await load.stop()).filter((report) => report.failure !== null);
      expect(failed).toEqual([]);
      // The old entries are entries of an ordinary rule again.
      expect((await entries()).filter((entry) => entry.includes(`${ROUTED_VIP}.80 `))).toHaveLength(6);
    },
    TEST_TIMEOUT_MS,
  );
});
