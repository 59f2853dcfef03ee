/** Nothing of ours stays behind: after a stop, after SIGKILL and the next start; and what is the user's stays as it is. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { interestOf } from "../../src/control/interest.ts";
import type { Interest } from "../../src/engine/engine.ts";
import { ip } from "../support/addresses.ts";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import type { Spec } from "./daemon-main.ts";
import { Net, PEER_PROGRAM, type Peer, until } from "./support.ts";

const MAIN = new URL("./daemon-main.ts", import.meta.url).pathname;
/** Other users exist only where more than one is mapped into our user namespace. */
const OTHER_USER = process.getuid?.() === 0 && !readFileSync("/proc/self/uid_map", "utf8").trim().endsWith(" 1");

/** Everything that may be changed is: a rule on the box's own address, full NAT from it. */
const LOCAL = interestOf([
  {
    vip: ip("192.0.2.1"),
    protocol: "tcp",
    ports: { min: 80, max: 80 },
    type: "NAT",
    proxySource: { first: ip("192.0.2.1"), last: ip("192.0.2.1") },
    servers: [{ address: ip("192.0.2.2"), ports: null }],
  },
]);
const REMOTE = interestOf([
  {
    vip: ip("203.0.113.1"),
    protocol: "tcp",
    ports: { min: 80, max: 80 },
    type: "HALF-NAT",
    proxySource: null,
    servers: [{ address: ip("192.0.2.2"), ports: null }],
  },
]);

describe.skipIf(!hasNamespaces)("host changes", () => {
  let net: Net;
  let directory: string;
  let before: string;

  beforeEach(() => {
    net = new Net("box", "peer");
    net.cable("box:eth0", "peer:eth0", ["02:00:00:00:00:0b", "02:00:00:00:00:0c"]);
    net.sh("box", "ip address add 192.0.2.1/24 dev eth0");
    net.sh("peer", "ip address add 192.0.2.2/24 dev eth0");
    // Of the user's own.
    net.sh(
      "box",
      "nft 'add table netdev user; add table inet user; add chain inet user c; add rule inet user c counter'",
    );
    net.sh("box", "ip rule add fwmark 5 lookup 55; sysctl -qw net.ipv4.ip_local_reserved_ports=8080,9000-9005");
    directory = mkdtempSync(join(tmpdir(), "ilb-k-"));
    before = net.traces("box");
  });
  afterEach(async () => {
    await net.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const begin = (spec: Partial<Spec>, ...wrapper: string[]) =>
    net.start(
      "box",
      ...wrapper,
      process.execPath,
      MAIN,
      JSON.stringify({ io: "packet", devices: null, runDirectory: directory, ...spec }),
    );
  /** Lines up to the one of that kind; its value. */
  async function next<T>(peer: Peer, kind: string, logged: string[] = []): Promise<T> {
    for (;;) {
      const line = await peer.line();
      const value = JSON.parse(line.slice(line.indexOf(" ") + 1)) as T;
      if (line.startsWith(`${kind} `)) return value;
      if (line.startsWith("log ")) logged.push(String(value));
      else throw new Error(`unexpected: ${line}`);
    }
  }
  const apply = async (peer: Peer, interest: Interest) => {
    peer.say(`interest ${JSON.stringify(interest, (_, value) => (typeof value === "bigint" ? String(value) : value))}`);
    await next(peer, "applied");
  };
  const sysctl = (key: string) => net.sh("box", `sysctl -n ${key}`).trim();

  test("packet: a clean stop leaves the host as it was", async () => {
    const daemon = begin({});
    expect(await next<unknown>(daemon, "ready")).toEqual({ devices: ["eth0"], passes: 1 });
    await apply(daemon, LOCAL);
    expect(net.sh("box", "nft list tables")).toContain("table netdev ilb");
    expect(net.traces("box")).not.toBe(before);
    daemon.say("close");
    expect(await daemon.process.exited).toBe(0);
    expect(net.traces("box")).toBe(before);
    expect(existsSync(directory) ? readdirSync(directory) : []).toEqual([]);
  });

  /** Names of protocols and services are not resolved: minimal containers have no tables of them. */
  async function startWithoutNames(io: "packet" | "tun", interest: Interest): Promise<void> {
    const hidden = "for f in protocols services; do [ ! -e /etc/$f ] || mount --bind /dev/null /etc/$f; done";
    const daemon = begin({ io }, "unshare", "-m", "sh", "-c", `${hidden}; exec "$@"`, "sh");
    await next(daemon, "ready");
    await apply(daemon, interest);
    daemon.say("close");
    expect(await daemon.process.exited).toBe(0);
  }

  test("packet: works without /etc/protocols and /etc/services", () => startWithoutNames("packet", LOCAL));

  test.skipIf(!hasTun)("tun: works without /etc/protocols and /etc/services", () => startWithoutNames("tun", REMOTE));

  test("packet: ports of the box's own VIP and proxy address are reserved beside the user's, and the box still connects", async () => {
    const listener = net.start("peer", "python3", PEER_PROGRAM, "tcp", "192.0.2.2", "22");
    await listener.line();
    const daemon = begin({});
    await next(daemon, "ready");
    await apply(
      daemon,
      interestOf([
        {
          vip: ip("192.0.2.1"),
          protocol: "udp",
          ports: { min: 53, max: 53 },
          type: "DSR",
          proxySource: null,
          servers: [],
        },
      ]),
    );
    expect(sysctl("net.ipv4.ip_local_reserved_ports")).toBe("53,8080,9000-9005");
    await apply(daemon, LOCAL);
    expect(sysctl("net.ipv4.ip_local_reserved_ports")).toBe("80,4096-65534");
    const answer = await net.start("box", "python3", PEER_PROGRAM, "connect", "192.0.2.2", "22").line();
    expect(Number(/^connected (\d+)$/.exec(answer)?.[1])).toBeWithin(1024, 2048);
    await apply(daemon, REMOTE);
    expect(sysctl("net.ipv4.ip_local_reserved_ports")).toBe("8080,9000-9005");
    expect(sysctl("net.ipv4.ip_local_port_range")).toBe("32768\t60999");
    daemon.say("close");
    await daemon.process.exited;
    expect(net.traces("box")).toBe(before);
  });

  test("packet: after SIGKILL the kernel has its packets back at once, and the next start puts the rest back", async () => {
    const first = begin({});
    await next(first, "ready");
    await apply(first, LOCAL);
    await first.kill();
    await until("no table", () => !net.sh("box", "nft list tables").includes("ilb"));
    expect(sysctl("net.ipv4.ip_local_reserved_ports")).toBe("80,4096-65534");
    const logged: string[] = [];
    const second = begin({});
    await next(second, "ready", logged);
    expect(logged.join("\n")).toContain("putting back what an earlier ilbd changed on this host: ");
    expect(sysctl("net.ipv4.ip_local_reserved_ports")).toBe("8080,9000-9005");
    second.say("close");
    await second.process.exited;
    expect(net.traces("box")).toBe(before);
  });

  test.skipIf(!hasTun)("tun: a clean stop, and SIGKILL with the next start, leave the host as it was", async () => {
    const first = begin({ io: "tun" });
    expect(await next<unknown>(first, "ready")).toEqual({ devices: ["eth0"], passes: 0 });
    await apply(first, REMOTE);
    expect(net.sh("box", "ip rule")).toContain("from all fwmark 0x1b000000/0xff000000 iif eth0 lookup 2822");
    await first.kill();
    await until("no table", () => !net.sh("box", "nft list tables").includes("ilb"));
    expect(net.traces("box")).not.toBe(before);
    const second = begin({ io: "tun" });
    await next(second, "ready");
    // One for the way in, one for source validation on the way out.
    expect(net.sh("box", "ip rule").match(/lookup 2822/g)).toHaveLength(2);
    second.say("close");
    expect(await second.process.exited).toBe(0);
    expect(net.traces("box")).toBe(before);
  });

  test("without CAP_BPF the way back is a veth pair; it outlives SIGKILL and goes at the next start", async () => {
    const spec = JSON.stringify({ io: "packet", devices: null, runDirectory: directory });
    const first = net.start(
      "box",
      "setpriv",
      "--bounding-set",
      "-bpf,-sys_admin,-perfmon",
      "--inh-caps",
      "-bpf,-sys_admin,-perfmon",
      process.execPath,
      MAIN,
      spec,
    );
    const logged: string[] = [];
    await next(first, "ready", logged);
    expect(logged.join("\n")).toContain("packets go back to eth0 by a veth pair: ");
    await first.kill();
    expect(net.sh("box", "ip -o link")).toContain("ilbp");
    const second = begin({});
    await next(second, "ready");
    second.say("close");
    await second.process.exited;
    expect(net.traces("box")).toBe(before);
  });

  test("a journal of another network namespace is neither replayed nor removed", async () => {
    const foreign = join(directory, "undo-123456789.json");
    const change = { kind: "sysctl", key: "net/ipv4/ip_forward", was: "1", set: sysctl("net.ipv4.ip_forward") };
    const boot = net.sh("box", "cat /proc/sys/kernel/random/boot_id").trim();
    writeFileSync(foreign, JSON.stringify({ version: 1, boot, changes: [change] }));
    const daemon = begin({});
    await next(daemon, "ready");
    daemon.say("close");
    await daemon.process.exited;
    expect(existsSync(foreign)).toBe(true);
    expect(net.traces("box")).toBe(before);
  });

  test("a value that the user has changed in the meantime is left as it is", async () => {
    const daemon = begin({});
    await next(daemon, "ready");
    await apply(daemon, LOCAL);
    net.sh("box", "sysctl -qw net.ipv4.ip_local_port_range='20000 30000'");
    net.sh("box", "sysctl -qw net.ipv4.ip_local_reserved_ports=80,3000,4096-65534");
    daemon.say("close");
    await daemon.process.exited;
    expect(sysctl("net.ipv4.ip_local_port_range")).toBe("20000\t30000");
    expect(sysctl("net.ipv4.ip_local_reserved_ports")).toBe("3000,8080,9000-9005");
  });

  test("an address that becomes one of the box, or ceases to be, is told when it was asked about", async () => {
    const daemon = begin({});
    await next(daemon, "ready");
    await apply(daemon, REMOTE);
    net.sh("box", "ip address add 203.0.113.1/32 dev lo");
    expect(await next<boolean>(daemon, "local")).toBe(true);
    await apply(daemon, REMOTE);
    expect(sysctl("net.ipv4.ip_local_reserved_ports")).toBe("80,8080,9000-9005");
    net.sh("box", "ip address del 203.0.113.1/32 dev lo");
    expect(await next<boolean>(daemon, "local")).toBe(true);
    daemon.say("close");
    await daemon.process.exited;
    expect(net.traces("box")).toBe(before);
  });

  const pairs = [
    { first: "packet", second: "packet" },
    { first: "packet", second: "tun" },
    { first: "tun", second: "packet" },
    { first: "tun", second: "tun" },
  ] as const;
  test.skipIf(!hasTun).each(pairs)(
    "a second daemon ($second) beside one ($first) in the network namespace is refused, told which, and changes nothing",
    async ({ first, second }) => {
      const daemon = begin({ io: first });
      await next(daemon, "ready");
      await apply(daemon, REMOTE);
      const running = net.traces("box");
      const other = begin({ io: second, runDirectory: join(directory, "other") });
      expect(await next<string>(other, "refused")).toBe(
        `another ilbd (process ${daemon.process.pid}) works in this network namespace, where one is allowed: stop it, or start this one in a network namespace of its own`,
      );
      expect(await other.process.exited).toBe(1);
      expect(net.traces("box")).toBe(running);
      expect(existsSync(join(directory, "other"))).toBe(false);
      await daemon.kill();
      const heir = begin({ io: second });
      await next(heir, "ready");
      heir.say("close");
      await heir.process.exited;
      expect(net.traces("box")).toBe(before);
    },
  );

  test("a daemon in another network namespace is none of its business", async () => {
    const daemon = begin({});
    await next(daemon, "ready");
    const elsewhere = net.start(
      "peer",
      process.execPath,
      MAIN,
      JSON.stringify({ io: "packet", devices: ["eth0"], runDirectory: join(directory, "other") }),
    );
    await next(elsewhere, "ready");
    for (const peer of [elsewhere, daemon]) {
      peer.say("close");
      expect(await peer.process.exited).toBe(0);
    }
  });

  test.skipIf(!OTHER_USER)(
    "somebody without rights who holds the lock's name is named and stops nobody (needs root and more than one user)",
    async () => {
      const script = `import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.bind("\\0ilbd")\ns.listen()\nprint("held", flush=True)\nsys.stdin.read()`;
      const squatter = net.start(
        "box",
        "setpriv",
        "--reuid",
        "1234",
        "--clear-groups",
        "/usr/bin/python3",
        "-c",
        script,
      );
      await squatter.line();
      const logged: string[] = [];
      const daemon = begin({});
      await next(daemon, "ready", logged);
      expect(logged.join("\n")).toMatch(/@ilbd, which ilbd uses as a lock, is held by process \d+ of user 1234/);
      // The table of the guard still refuses a second one.
      const other = begin({ runDirectory: join(directory, "other") });
      expect(await next<string>(other, "refused")).toContain("another ilbd in this network namespace owns it");
      daemon.say("close");
      await daemon.process.exited;
      expect(net.traces("box")).toBe(before);
    },
  );

  test.each([
    [{ devices: ["nosuch0"] }, "no interface nosuch0 in this network namespace; 'ip link' lists what there is"],
    [{ devices: ["lo"] }, "the loopback interface cannot be a packet device; name another with --dev"],
  ])("a start with %j is refused in one line", async (spec, line) => {
    const daemon = begin(spec);
    expect(await next<string>(daemon, "refused")).toBe(line);
    expect(await daemon.process.exited).toBe(1);
    expect(net.traces("box")).toBe(before);
  });

  test("a start without CAP_NET_ADMIN is refused with the way out", async () => {
    const spec = JSON.stringify({ io: "packet", devices: null, runDirectory: directory });
    const daemon = net.start(
      "box",
      "setpriv",
      "--bounding-set",
      "-net_admin",
      "--inh-caps",
      "-net_admin",
      process.execPath,
      MAIN,
      spec,
    );
    expect(await next<string>(daemon, "refused")).toMatch(
      /^--io packet needs CAP_NET_ADMIN; run as root, or give the container both /,
    );
    expect(net.traces("box")).toBe(before);
  });
});
