import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { hasNamespaces } from "../support/capabilities.ts";
import { ILBADM, ILBD, Place, run } from "./daemon.ts";

/** `ilbd run --io packet` in a network namespace of its own with one Ethernet pair; the far end stays there too. */
const name = `ilb-dmn-${process.pid}`;
let place: Place;
let children: Bun.Subprocess<"ignore", "pipe", "pipe">[];

const inside = (...argv: string[]): string[] => ["ip", "netns", "exec", name, ...argv];
const ruleset = async (): Promise<string> => (await run(inside("nft", "list", "ruleset"))).stdout;
/** nft names a protocol only where the system has /etc/protocols. */
const GUARDED = /198\.51\.100\.10 \. (tcp|6) \. 80/;
const daemonArgv = (...options: string[]): string[] =>
  inside(
    ILBD,
    "run",
    "--dev",
    "ilb-a",
    "--max-flows",
    "4096",
    "--state",
    place.state,
    "--socket",
    place.socket,
    ...options,
  );

async function start(...options: string[]): Promise<Bun.Subprocess<"ignore", "pipe", "pipe">> {
  const child = Bun.spawn(daemonArgv(...options), { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  children.push(child);
  const first = await child.stdout.getReader().read();
  if (first.done) throw new Error(await new Response(child.stderr).text());
  expect(new TextDecoder().decode(first.value)).toStartWith("ilbd ready ");
  return child;
}
/** Waits for text in a log. Throws when it ends before. */
function linesOf(stream: ReadableStream<Uint8Array>): (text: string) => Promise<void> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let log = "";
  return async (text) => {
    while (!log.includes(text)) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`never logged: ${text}\n${log}`);
      log += decoder.decode(value, { stream: true });
    }
  };
}

async function refused(argv: string[]): Promise<string> {
  const done = await run(argv);
  expect([done.status, done.stdout]).toEqual([1, ""]);
  const words = done.stderr.split("\n").filter((line) => line.startsWith("ilbd: "));
  expect(words).toHaveLength(1);
  return words[0]!;
}

beforeEach(async () => {
  place = new Place();
  children = [];
  if (!hasNamespaces) return;
  const script = `ip netns add ${name} && ip -n ${name} link add ilb-a type veth peer name ilb-b &&
    ip -n ${name} addr add 192.0.2.1/24 dev ilb-a && ip -n ${name} link set ilb-a up && ip -n ${name} link set ilb-b up`;
  const done = await run(["sh", "-ec", script]);
  if (done.status !== 0) throw new Error(done.stderr);
});
afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  await Promise.all(children.map((child) => child.exited));
  if (hasNamespaces) await run(["ip", "netns", "del", name]);
  place.remove();
});

describe.skipIf(!hasNamespaces)("with packets", () => {
  const RULE = [
    "create-servergroup sg1",
    "add-server -s server=192.0.2.10 sg1",
    "create-rule -e -i vip=198.51.100.10,port=80,protocol=tcp -m lbalg=roundrobin,type=HALF-NAT -o servergroup=sg1 r1",
    "",
  ].join("\n");

  test("the guard follows the configuration, and stopping leaves no trace", async () => {
    const daemon = await start();
    expect(await ruleset()).not.toContain("198.51.100.10");
    await place.must("import-config", RULE);
    expect(await ruleset()).toMatch(GUARDED);
    await place.must("delete-rule -a");
    const metrics = await (await place.fetch("/metrics")).text();
    expect(metrics).toMatch(/ilb_port_rx_frames_total\{interface="ilb-a"\} \d+/);
    daemon.kill("SIGTERM");
    expect(await daemon.exited).toBe(0);
    expect(await ruleset()).toBe("");
    expect((await run(["ip", "-n", name, "-o", "link"])).stdout.trim().split("\n")).toHaveLength(3);
  });

  test("ILB-297 a flow table may be as small as one flow, for one worker and for several", async () => {
    for (const workers of ["1", "3"]) {
      const daemon = await start("--max-flows", "1", "--workers", workers);
      await place.must("import-config", RULE);
      expect(await place.must("show-server -p -o serverid r1")).toBe("_sg1.0\n");
      daemon.kill("SIGTERM");
      expect(await daemon.exited).toBe(0);
    }
  });

  test("ILB-222 a killed daemon takes its guard with it, and the next one starts with the saved rules in force", async () => {
    const first = await start();
    await place.must("import-config", RULE);
    first.kill("SIGKILL");
    await first.exited;
    expect(await ruleset()).toBe("");
    await start();
    expect(await ruleset()).toMatch(GUARDED);
    expect(await place.must("export-config")).toBe(`${RULE.replace("-o ", "-t nat-timeout=120 -o ")}`);
  });

  test("a VIP on the wire's own prefix that nobody answers for is hinted at, on stderr, with status 0", async () => {
    await start();
    await place.must("create-servergroup sg1");
    const hintOf = async (port: number): Promise<string> => {
      const words = `create-rule -i vip=192.0.2.77,port=${port} -m type=h -o servergroup=sg1 r${port}`;
      const done = await run([ILBADM, ...words.split(" ")], { env: { ILB_SOCKET: place.socket } });
      expect([done.status, done.stdout]).toEqual([0, ""]);
      return done.stderr;
    };
    const hint = "ilbadm: nobody answers for 192.0.2.77 on its own network 192.0.2.0/24";
    expect(await hintOf(80)).toStartWith(hint);
    // Linux does not answer ARP for an address that it would look for on the very link that asks.
    await run(["ip", "-n", name, "neighbour", "add", "proxy", "192.0.2.77", "dev", "ilb-a"]);
    expect(await hintOf(81)).toStartWith(hint);
    await run(["ip", "-n", name, "route", "add", "192.0.2.77/32", "dev", "ilb-b"]);
    expect(await hintOf(82)).toBe("");
  });

  test("limits: 10,000 rules over 1,000 VIPs and a group of 1,000 servers work at the same time", async () => {
    await start();
    const servers = Array.from({ length: 1000 }, (_, i) =>
      `192.0.2.${10 + (i % 200)}`.replace(".2.", `.${2 + Math.floor(i / 200)}.`),
    );
    const rules = Array.from({ length: 10_000 }, (_, i) => {
      const vip = `198.18.${Math.floor((i % 1000) / 250)}.${1 + (i % 250)}`;
      // Beyond the ports of NetBackup, which the guard keeps from being translated.
      const first = 20_000 + 100 * Math.floor(i / 1000);
      return `create-rule -e -i vip=${vip},port=${first}-${first + 99} -m lbalg=roundrobin,type=HALF-NAT -o servergroup=all x${i}`;
    });
    await place.must(
      "import-config",
      [`create-servergroup all`, `add-server -s server=${servers.join(",")} all`, ...rules, ""].join("\n"),
    );
    expect((await place.must("show-rule")).split("\n")).toHaveLength(10_002);
    const asked = "explain -i src=203.0.113.9,dst=198.18.3.250,protocol=tcp,sport=40000,dport=";
    expect(await place.must(`${asked}20999`)).toMatch(/x9999\b[\s\S]*_all\.999/);
    expect(await place.must(`${asked}21000`)).not.toContain("x9999");
    expect((await place.ilbadm("add-server -s server=192.0.7.1 all")).stderr).toContain("servergroup is full");
  });

  test("limits: more rules than the engine has room for is E-NOMEM, and nothing changes", async () => {
    await start();
    await place.must("import-config", RULE);
    const rules = Array.from(
      { length: 32_768 },
      (_, i) =>
        `create-rule -i vip=10.${i >> 12}.${(i >> 6) & 63}.${(i & 63) + 1},port=80 -m type=h -o servergroup=sg1 x${i}\n`,
    );
    const done = await place.ilbadm("import-config -p", rules.join(""));
    expect(done.status).toBe(1);
    expect(done.stderr).toEndWith("not enough memory for operation\n");
    expect((await place.must("show-rule")).split("\n")).toHaveLength(3);
    expect(await ruleset()).not.toContain("10.0.0.1");
  });

  test("an interface that is removed under a running daemon is named in the log, and so is one that comes in its place", async () => {
    const daemon = await start();
    const readyz = async () => (await place.fetch("/readyz")).status;
    expect(await readyz()).toBe(200);
    const logged = linesOf(daemon.stderr);
    expect((await run(["ip", "-n", name, "link", "del", "ilb-a"])).status).toBe(0);
    await logged("interface ilb-a was removed: nothing is balanced on it any more; start ilbd again when it is back");
    expect(await readyz()).toBe(503);
    expect(await place.must("show-rule")).toBe("");
    const again = ["ip", "-n", name, "link", "add", "ilb-a", "type", "veth", "peer", "name", "ilb-b"];
    expect((await run(again)).status).toBe(0);
    await logged("interface ilb-a is back: start ilbd again to balance on it");
    expect(await readyz()).toBe(503);
  });

  test("a start without privilege, or for more flows than memory can hold, makes no state directory", async () => {
    const fresh = ["--state", `${place.state}-fresh`, "--socket", place.socket];
    const bare = ["setpriv", "--bounding-set", "-net_admin,-net_raw", "--inh-caps", "-net_admin,-net_raw"];
    expect(await refused(inside(...bare, ILBD, "run", ...fresh))).toContain("--io packet needs CAP_NET_ADMIN");
    const line = await refused(inside(ILBD, "run", ...fresh, "--max-flows", "64000000"));
    const fits = Number(/^ilbd: --max-flows 64000000: .* GiB.*; at most (\d+) fit$/.exec(line)?.[1]);
    expect(fits).toBeGreaterThan(16_000_000);
    expect(existsSync(`${place.state}-fresh`)).toBe(false);
  });

  test("what is missing is one line: interface, privilege, and a second daemon in the same network", async () => {
    expect(
      await refused(inside(ILBD, "run", "--dev", "nosuch", "--state", place.state, "--socket", place.socket)),
    ).toContain("no interface nosuch in this network namespace");
    expect([place.socket, place.state].map((path) => existsSync(path))).toEqual([false, false]);
    const bare = ["setpriv", "--bounding-set", "-net_admin,-net_raw", "--inh-caps", "-net_admin,-net_raw"];
    const argv = inside(...bare, ILBD, "run", "--dev", "ilb-a", "--state", place.state, "--socket", place.socket);
    expect(await refused(argv)).toContain("--io packet needs CAP_NET_ADMIN and CAP_NET_RAW; run as root");
    const first = await start();
    for (const io of ["packet", "tun"]) {
      const other = [...daemonArgv("--io", io), "--state", `${place.state}2`, "--socket", `${place.socket}2`];
      expect(await refused(other)).toStartWith(
        `ilbd: another ilbd (process ${first.pid}) works in this network namespace`,
      );
      expect(existsSync(`${place.state}2`)).toBe(false);
    }
    expect(await ruleset()).toContain("table netdev ilb");
    expect(await place.must("show-rule")).toBe("");
  });
});
