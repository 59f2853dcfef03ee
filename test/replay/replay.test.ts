/** `ilbd replay` as its users meet it: real runs of the program over captures. */
import { afterEach, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LINKTYPE_ETHERNET, LINKTYPE_RAW, writePcap } from "../../src/device/pcap.ts";
import { type Finished, ILBD, run } from "../daemon/daemon.ts";
import { addressText, ip, mac } from "../support/addresses.ts";
import { reachesCheckout } from "../support/capabilities.ts";
import {
  ETHERTYPE_IPV6,
  type ExtensionHeader,
  ethernet,
  ipv6,
  optionsExtension,
  PROTOCOL_TCP,
  tcp,
  toHex,
} from "../support/packet-builder.ts";
import { decodeEthernet, decodeIp, decodeIpv4, faults } from "../support/packet-decoder.ts";
import {
  at,
  CLIENT,
  CLIENT_MAC,
  framed,
  HALF_NAT,
  type Packet,
  type Replay,
  removeReplays,
  replayOf,
  START_NS,
  syn,
  tcpPacket,
  udpPacket,
  type Verdict,
  VIP,
  WEB,
} from "./support.ts";

const VECTORS = join(import.meta.dir, "../vectors");

afterEach(removeReplays);

const syns = (count: number, stepMs = 1000): Packet[] =>
  Array.from({ length: count }, (_, i) => at(i * stepMs, syn(40_000 + i)));
const serversOf = (replay: Replay): (string | null)[] => replay.verdicts().map(({ server }) => server);
const failing = (line: string): Finished => ({ status: 1, stdout: "", stderr: `ilbd: ${line}\n` });

describe("golden captures", () => {
  /** Addresses of make.py; those of IPv6 end like those of IPv4. */
  const HOSTS = {
    4: { vip: VIP, server: "192.0.2.10", proxy: "203.0.113.1" },
    6: { vip: "2001:db8::c633:640a", server: "[2001:db8::c000:20a]", proxy: "2001:db8::cb00:7101" },
  };
  const goldenConfig = (kind: string, protocol: string, family: 4 | 6): string => {
    const { vip, server, proxy } = HOSTS[family];
    const [vipPort, port] = protocol === "tcp" ? [80, ":8080"] : [53, ":5353"];
    const type = kind === "nat" ? `NAT,proxy-src=${proxy}` : kind.toUpperCase();
    return `create-servergroup -s server=${server}${kind === "dsr" ? "" : port} sg
create-rule -e -i vip=${vip},port=${vipPort},protocol=${protocol} -m lbalg=rr,type=${type} -o servergroup=sg r
`;
  };
  /** The vectors have two ports and a server's MAC of their own; a replay has one port and makes the MAC up. */
  const asInReplay = (frame: Uint8Array): string =>
    toHex(frame)
      .replace(/^020d00000001/, "0201c000020a")
      .replace(/^(.{12})020000000002/, "$1020000000001");

  const names = [...new Bun.Glob("*.in.pcap").scanSync({ cwd: VECTORS })].map((file) => file.replace(".in.pcap", ""));
  test("there are captures of every type and protocol", () => {
    expect(names.length).toBeGreaterThanOrEqual(6);
  });

  test.each(names.sort())("%s leaves as scapy says, Ethernet and raw IP", async (name) => {
    const [, kind = "", protocol = "", family] = /^(.*)-(tcp|udp)(6?)$/.exec(name)!;
    const replay = replayOf(goldenConfig(kind, protocol, family === "6" ? 6 : 4), []);
    copyFileSync(join(VECTORS, `${name}.in.pcap`), replay.in);
    copyFileSync(join(VECTORS, `${name}.out.pcap`), replay.out);
    const expected = replay.sent().packets.map(({ bytes }) => bytes.slice());
    await replay.must();
    const sent = replay.sent();
    expect(sent.packets.map(({ bytes }) => toHex(bytes))).toEqual(expected.map(asInReplay));

    copyFileSync(join(VECTORS, `${name}.in.pcap`), replay.out);
    const arriving = replay.sent().packets;
    const raw = arriving.map(({ timeNs, bytes }) => ({ timeNs, bytes: bytes.slice(14) }));
    writeFileSync(replay.in, writePcap(raw, { linkType: LINKTYPE_RAW }));
    await replay.must();
    expect(replay.sent().linkType).toBe(LINKTYPE_RAW);
    // Padding of short frames is Ethernet's own, and both captures have none.
    expect(replay.sent().packets.map(({ bytes }) => toHex(bytes))).toEqual(
      expected.map((frame) => toHex(frame.slice(14))),
    );
  });
});

describe("what is written", () => {
  test("OUT has the frames in order with the times of their causes, V one object per packet", async () => {
    const [web0, arp, ping] = [
      syn(40_000),
      framed(new Uint8Array(28)),
      framed(udpPacket(`${CLIENT}:1`, "192.0.2.99:9")),
    ];
    arp.set([0x08, 0x06], 12);
    const answer = framed(tcpPacket("192.0.2.12:8080", `${CLIENT}:40000`, { flags: "SA" }), "02:0d:00:00:00:01");
    const replay = replayOf(HALF_NAT, [at(0, web0), at(1.5, arp), at(2, answer), at(3, ping)]);
    await replay.must();
    expect(replay.verdicts()).toEqual([
      {
        n: 1,
        verdict: "forward",
        reason: "flow-new",
        rule: "www",
        server: "_web.2",
        direction: "client-to-server",
        flow: "new",
        out: 1,
      },
      { n: 2, verdict: "pass", reason: "not-ip", rule: null, server: null, direction: "none", flow: "none", out: 0 },
      {
        n: 3,
        verdict: "forward",
        reason: "flow-found",
        rule: "www",
        server: "_web.2",
        direction: "server-to-client",
        flow: "found",
        out: 1,
      },
      { n: 4, verdict: "pass", reason: "unguarded", rule: null, server: null, direction: "none", flow: "none", out: 0 },
    ]);
    const { packets, linkType } = replay.sent();
    expect(linkType).toBe(LINKTYPE_ETHERNET);
    expect(packets.map(({ timeNs }) => timeNs - START_NS)).toEqual([0n, 2_000_000n]);
    const [toServer, toClient] = packets.map(({ bytes }) => decodeEthernet(bytes));
    expect(toHex(toServer!.destination)).toBe("0201c000020c");
    expect(toHex(toServer!.source)).toBe("020000000001");
    expect(toHex(toClient!.destination)).toBe(toHex(mac(CLIENT_MAC)));
    expect(toHex(toClient!.source)).toBe("020000000001");
    for (const { bytes } of packets) {
      expect(faults(bytes.slice(14))).toEqual([]);
      expect(decodeIpv4(bytes.slice(14)).ttl).toBe(63);
    }
    expect(addressText(decodeIpv4(packets[0]!.bytes.slice(14)).destination)).toBe("192.0.2.12");
    expect(addressText(decodeIpv4(packets[1]!.bytes.slice(14)).source)).toBe(VIP);
  });

  test("a second run gives the same bytes, and time stamps of another day change nothing but themselves", async () => {
    const config = `${WEB}create-rule -e -p -i vip=${VIP},port=80 -m lbalg=hipp,type=NAT,proxy-src=203.0.113.1-203.0.113.4,pmask=30 -o servergroup=web www\n`;
    const packets = Array.from({ length: 300 }, (_, i) =>
      at(i * 97, framed(tcpPacket(`203.0.113.${i % 7}:${1000 + (i % 90)}`, `${VIP}:80`, { flags: "SA"[i % 2]! }))),
    );
    const replay = replayOf(config, packets);
    const words = ["--at", "3", "disable-server _web.1", "--at", "20", "server-down _web.0 www"];
    await replay.must(...words);
    const first = [replay.out, replay.verdictsFile].map((file) => readFileSync(file));
    await replay.must(...words);
    expect(readFileSync(replay.out).equals(first[0]!)).toBe(true);
    expect(readFileSync(replay.verdictsFile).equals(first[1]!)).toBe(true);
    const later = packets.map(({ timeNs, bytes }) => ({ timeNs: timeNs + 12_345_678_000_000_000n, bytes }));
    writeFileSync(replay.in, writePcap(later, { linkType: LINKTYPE_ETHERNET }));
    await replay.must(...words);
    expect(readFileSync(replay.verdictsFile).equals(first[1]!)).toBe(true);
  });

  test("a big-endian nanosecond capture is read, and OUT keeps the nanoseconds", async () => {
    const late = { timeNs: START_NS + 123_456_789n, bytes: syn(40_001) };
    const replay = replayOf(HALF_NAT, [at(0, syn(40_000)), late], { bigEndian: true, nanoseconds: true });
    await replay.must();
    expect(replay.sent().nanoseconds).toBe(true);
    expect(replay.sent().packets.map(({ timeNs }) => timeNs - START_NS)).toEqual([0n, 123_456_789n]);
  });

  test("pcapng is read; OUT is pcap", async () => {
    const replay = replayOf(HALF_NAT, []);
    writeFileSync(replay.in, pcapng([syn(40_000), syn(40_001)]));
    await replay.must();
    expect(readFileSync(replay.out).readUInt32LE(0)).toBe(0xa1b2c3d4);
    expect(replay.sent().packets).toHaveLength(2);
    expect(replay.verdicts().map(({ flow }) => flow)).toEqual(["new", "new"]);
  });

  test("raw IP fares as on Ethernet: the same decisions, TTL stepped, DSR to the server", async () => {
    const rule = (type: string): string => HALF_NAT.replace("HALF-NAT", type).replace(":8080", ":80");
    const packet = tcpPacket(`${CLIENT}:40000`, `${VIP}:80`, { ttl: 9 });
    for (const type of ["HALF-NAT", "DSR"]) {
      const dying = tcpPacket(`${CLIENT}:40001`, `${VIP}:80`, { ttl: 1 });
      const packets = [packet, dying, Uint8Array.of(0x99), new Uint8Array(0)];
      const replay = replayOf(
        rule(type),
        packets.map((bytes, i) => at(i, bytes)),
        { linkType: 228 },
      );
      await replay.must();
      expect(replay.sent().linkType).toBe(228);
      const [sent, ...others] = replay.sent().packets.map(({ bytes }) => decodeIpv4(bytes));
      expect(others).toEqual([]);
      expect(sent!.ttl).toBe(8);
      expect(addressText(sent!.destination)).toBe(type === "DSR" ? VIP : "192.0.2.12");
      expect(replay.verdicts().map(({ reason }) => reason)).toEqual([
        type === "DSR" ? "dsr-sent" : "flow-new",
        "time-exceeded-unsent",
        "not-ip",
        "malformed-link",
      ]);
    }
  });

  test("IPv6 goes the same way: last four bytes of the server's address in its MAC, --compat as given", async () => {
    const config =
      "create-servergroup -s server=[2001:db8:2::a:b] six\ncreate-rule -e -i vip=2001:db8:1::1,port=80 -m lbalg=rr,type=HALF-NAT -o servergroup=six r6\n";
    const ends = { source: ip("2001:db8:c::7"), destination: ip("2001:db8:1::1") };
    const segment = tcp({ sourcePort: 40_000, destinationPort: 80, flags: "S" }, ends);
    const packet = (extensions: ExtensionHeader[]): Uint8Array =>
      ipv6({ ...ends, nextHeader: PROTOCOL_TCP, payload: segment, extensions });
    const etherType = ETHERTYPE_IPV6;
    const frame = (payload: Uint8Array): Uint8Array =>
      ethernet({ source: mac(CLIENT_MAC), destination: mac("02:aa:aa:aa:aa:aa"), etherType, payload });
    const replay = replayOf(config, [at(0, frame(packet([]))), at(1, frame(packet([optionsExtension(60)])))]);
    await replay.must();
    const [sent] = replay.sent().packets.map(({ bytes }) => decodeEthernet(bytes));
    expect(toHex(sent!.destination)).toBe("0201000a000b");
    expect(decodeIp(sent!.payload)).toMatchObject({ destination: ip("2001:db8:2::a:b"), ttl: 63 });
    expect(replay.verdicts().map(({ verdict, flow }) => [verdict, flow])).toEqual([
      ["forward", "new"],
      ["forward", "found"],
    ]);
    await replay.must("--compat", "ilb");
    expect(replay.verdicts().map(({ verdict, reason }) => [verdict, reason])).toEqual([
      ["forward", "flow-new"],
      ["pass", "extension-header"],
    ]);
  });

  test("packets that the capture cut behind their headers are carried, and leave cut", async () => {
    const payload = Uint8Array.from({ length: 1000 }, (_, i) => i & 255);
    const whole = framed(tcpPacket(`${CLIENT}:40000`, `${VIP}:80`, { payload }));
    const uncut = replayOf(HALF_NAT, [at(0, whole)]);
    await uncut.must();
    const full = uncut.sent().packets[0]!.bytes;
    const cut = { timeNs: START_NS, bytes: whole.subarray(0, 96), originalLength: whole.length };
    const headless = { timeNs: START_NS, bytes: whole.subarray(0, 40), originalLength: whole.length };
    const replay = replayOf(HALF_NAT, [cut, headless]);
    await replay.must();
    const [sent, ...others] = replay.sent().packets;
    expect(others).toEqual([]);
    expect(toHex(sent!.bytes)).toBe(toHex(full.subarray(0, 96)));
    expect(sent!.originalLength).toBe(whole.length);
    expect(replay.verdicts().map(({ reason }) => reason)).toEqual(["flow-new", "malformed-ip"]);
  });

  test("an empty capture gives an empty capture, and commands run all the same", async () => {
    const replay = replayOf(HALF_NAT, []);
    expect(await replay.must("--at", "5", "show-server -p -o serverid")).toBe("_web.0\n_web.1\n_web.2\n");
    expect(replay.sent().packets).toEqual([]);
    expect(replay.verdicts()).toEqual([]);
  });

  test("without --verdicts there is none; what --config lists goes to standard output", async () => {
    const replay = replayOf(`${HALF_NAT}show-rule -p -o rulename\n`, syns(1));
    const done = await run([ILBD, "replay", `--config=${replay.config}`, `--in=${replay.in}`, `--out=${replay.out}`]);
    expect(done).toEqual({ status: 0, stdout: "www\n", stderr: "" });
    expect(readdirSync(replay.directory).sort()).toEqual(["config", "in.pcap", "out.pcap"]);
    const missing = replayOf(`${HALF_NAT}create-rule`, []);
    expect((await missing.run()).stderr).toStartWith(`ilbd: ${missing.config}: line 3: `);
  });

  test("IN may be OUT: it is replaced when all has been read", async () => {
    const replay = replayOf(HALF_NAT, syns(3));
    const done = await run([ILBD, "replay", "--config", replay.config, "--in", replay.in, "--out", replay.in]);
    expect(done).toEqual({ status: 0, stdout: "", stderr: "" });
    copyFileSync(replay.in, replay.out);
    expect(replay.sent().packets).toHaveLength(3);
  });

  const asNobody = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
  ];

  test.skipIf(!reachesCheckout(asNobody))("nobody needs privileges", async () => {
    const replay = replayOf(HALF_NAT, syns(2));
    chmodSync(replay.directory, 0o777);
    for (const file of [replay.config, replay.in]) chmodSync(file, 0o644);
    const argv = ["--config", replay.config, "--in", replay.in, "--out", replay.out, "--verdicts", replay.verdictsFile];
    const done = await run([...asNobody, "unshare", "--user", "--net", ILBD, "replay", ...argv], {
      env: { HOME: "/" },
    });
    const plain = done.status === 0 ? done : await run([...asNobody, ILBD, "replay", ...argv], { env: { HOME: "/" } });
    expect(plain).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(statSync(replay.out).uid).toBe(65534);
    expect(replay.verdicts()).toHaveLength(2);
  });
});

describe("--at", () => {
  test("a command comes before the packets of its time; those of one time keep their order", async () => {
    const replay = replayOf(HALF_NAT, syns(6));
    // Round robin: 2, 1, 0, 2, 1, 0.
    await replay.must(
      "--at",
      "4",
      "enable-server _web.1",
      "--at",
      "2",
      "disable-server _web.0",
      "--at",
      "4",
      "disable-server _web.1",
    );
    expect(serversOf(replay)).toEqual(["_web.2", "_web.1", "_web.2", "_web.1", "_web.2", "_web.2"]);
    await replay.must("--at", "4", "disable-server _web.1", "--at", "4.000000001", "enable-server _web.1");
    expect(serversOf(replay)).toEqual(["_web.2", "_web.1", "_web.0", "_web.2", "_web.0", "_web.2"]);
  });

  test("a removed server gets no new flow, keeps its old ones and its name", async () => {
    const again = framed(tcpPacket(`${CLIENT}:40000`, `${VIP}:80`, { flags: "A" }));
    const replay = replayOf(HALF_NAT, [...syns(2), at(3000, again), at(4000, syn(41_000)), at(4100, syn(41_001))]);
    await replay.must("--at", "2.5", "remove-server -s server=_web.2 web");
    expect(serversOf(replay)).toEqual(["_web.2", "_web.1", "_web.2", "_web.0", "_web.1"]);
    expect(replay.verdicts()[2]).toMatchObject({ flow: "found", out: 1 });
  });

  test("import-config with a FILE replaces the configuration, export-config writes one", async () => {
    const replay = replayOf(HALF_NAT, syns(3));
    writeFileSync(replay.path("other"), HALF_NAT.replaceAll("web", "other").replace("www", "new"));
    await replay.must(
      "--at",
      "1",
      `import-config ${replay.path("other")}`,
      "--at",
      "1",
      `export-config ${replay.path("cf")}`,
    );
    expect(replay.verdicts().map(({ rule, server }) => `${rule} ${server}`)).toEqual([
      "www _web.2",
      "new _other.2",
      "new _other.1",
    ]);
    expect(readFileSync(replay.path("cf"), "utf8")).toContain("-o servergroup=other new\n");
  });

  test("listings show the tables of their time", async () => {
    const replay = replayOf(HALF_NAT, syns(2));
    const shown = await replay.must(
      "--at",
      "0",
      "show-nat",
      "--at",
      "0.5",
      "ilbadm show-nat",
      "--at",
      "9",
      "show-statistics",
    );
    expect(shown).toBe(
      ` TCP: ${CLIENT}.40000 > ${VIP}.80 >>> ${CLIENT}.40000 > 192.0.2.12.8080
PKT_P   BYTES_P   PKT_U   BYTES_U   PKT_D   BYTES_D
2       80        0       0         0       0
`,
    );
  });

  test("server-down and server-up are health: the rule skips the server, the configuration stays as it is", async () => {
    const replay = replayOf(HALF_NAT, syns(6));
    const words = [
      "--at",
      "1",
      "server-down _web.1 www",
      "--at",
      "2",
      "show-server -p -o status",
      "--at",
      "4",
      "server-up _web.1 www",
    ];
    expect(await replay.must(...words)).toBe("E\nE\nE\n");
    expect(serversOf(replay)).toEqual(["_web.2", "_web.0", "_web.2", "_web.0", "_web.2", "_web.1"]);
  });

  test("ILB-220 a server that is down stays out when it is enabled again while enabled, and is back once it was disabled", async () => {
    const replay = replayOf(HALF_NAT, syns(8));
    const commands = [
      "server-down _web.1 www",
      "enable-server _web.1",
      "disable-server _web.1",
      "enable-server _web.1",
    ];
    const times = ["0.5", "1.5", "3.5", "4.5"];
    await replay.must(...commands.flatMap((command, i) => ["--at", times[i]!, command]));
    expect(serversOf(replay).slice(1)).toEqual(["_web.0", "_web.2", "_web.0", "_web.2", "_web.1", "_web.0", "_web.2"]);
  });

  test("ILB-219 a rule that is disabled and enabled has forgotten who was down, and show-hc-result says what was reported", async () => {
    const checked = `create-healthcheck -h hc-test=tcp hc\n${HALF_NAT.replace(" -o", " -h hc-name=hc -o")}`;
    const replay = replayOf(checked, syns(6));
    const status = "show-hc-result";
    const commands: [string, string][] = [
      ["0.5", "server-down _web.1 www"],
      ["0.6", "server-up _web.0 www"],
      ["0.7", status],
      ["1.5", "disable-rule www"],
      ["1.6", "server-down _web.0 www"],
      ["1.7", status],
      ["2.5", "enable-rule www"],
      ["2.6", status],
    ];
    const shown = await replay.must(...commands.flatMap((at) => ["--at", ...at]));
    const columns = shown.split("\n").map((line) => line.split(/ +/).slice(3, 5).join(" "));
    expect(columns.filter((text) => text !== "" && text !== "STATUS FAIL")).toEqual(
      ["alive 0", "dead 3", "un-init 0"].concat(Array(3).fill("disabled 0"), Array(3).fill("un-init 0")),
    );
    expect(serversOf(replay)).toEqual(["_web.2", "_web.0", null, "_web.2", "_web.1", "_web.0"]);
  });

  test("all servers down: no-server", async () => {
    const replay = replayOf(HALF_NAT, syns(1));
    await replay.must(...[0, 1, 2].flatMap((n) => ["--at", "0", `server-down _web.${n} WWW`]));
    expect(replay.verdicts()[0]).toMatchObject({ verdict: "drop", reason: "no-server", rule: "www", server: null });
  });
});

describe("what is refused", () => {
  const refusal = async (words: readonly string[]): Promise<Finished> => run([ILBD, "replay", ...words]);

  test.each([
    [[], "--config is needed; 'ilbd replay --help' says more"],
    [["--config", "c"], "--in is needed; 'ilbd replay --help' says more"],
    [["--config", "c", "--in", "i"], "--out is needed; 'ilbd replay --help' says more"],
    [["--config"], "--config needs a value"],
    [["--in", "a", "--in", "b"], "--in is given twice"],
    [["--speed", "9"], "unknown option --speed; 'ilbd replay --help' lists them"],
    [["x"], "unknown option x; 'ilbd replay --help' lists them"],
    [["--config", "c", "--in", "i", "--out", "o", "--compat", "old"], "--compat old: one of ilb, modern is needed"],
    [["--config", "c", "--in", "i", "--out", "o", "--verdicts", "o"], "--out and --verdicts must be two files"],
    [["--at", "5"], "--at needs SECONDS and a COMMAND in quotes"],
    [["--at", "-1", "show-rule"], "--at -1: seconds after the first packet are needed, as 5 or 2.5"],
    [["--at", "soon", "show-rule"], "--at soon: seconds after the first packet are needed, as 5 or 2.5"],
    [["--at", "1", "frobnicate"], "--at 1 'frobnicate': subcommand is invalid - please refer to ilbadm(8)"],
    [["--at", "1", ""], "--at 1 '': the command line is incomplete (more arguments expected)"],
    [["--at", "1", "server-down _web.0"], "--at 1 'server-down _web.0': server-down needs a server ID and a rule"],
    [["--at", "1", "show-statistics 1 3"], "--at 1 'show-statistics 1 3': no INTERVAL here; give one --at per sample"],
    [["--at", "1", "delete-rule"], "--at 1 'delete-rule': usage: delete-rule -a | name"],
  ])("%p", async (words, line) => {
    expect(await refusal(words)).toEqual(failing(line));
  });

  test("missing files are named", async () => {
    const replay = replayOf(HALF_NAT, syns(1));
    const words = ["--config", replay.config, "--in", replay.path("none"), "--out", replay.out];
    expect(await refusal(words)).toEqual(failing(`--in ${replay.path("none")} cannot be read (ENOENT)`));
    words.splice(3, 1, replay.in);
    words.splice(1, 1, replay.path("none"));
    expect(await refusal(words)).toEqual(failing(`--config ${replay.path("none")} cannot be read`));
    expect(await refusal(["--config", replay.config, "--in", replay.directory, "--out", replay.out])).toEqual(
      failing(`--in ${replay.directory} cannot be read (EISDIR)`),
    );
    expect(replay.wroteNothing()).toBe(true);
  });

  test("a --config that is not UTF-8 is refused with the line", async () => {
    const replay = replayOf(HALF_NAT, syns(1));
    writeFileSync(replay.config, Buffer.from("\ncreate-servergroup gr\xfcn\n", "latin1"));
    expect(await replay.run()).toEqual(
      failing(`${replay.config}: line 2: byte 22 (0xfc) is not UTF-8 - save the text as UTF-8`),
    );
    expect(replay.wroteNothing()).toBe(true);
  });

  test("a bad line of --config is named with file and line, and nothing is written", async () => {
    const replay = replayOf(`# comment\n${HALF_NAT}enable-server _web.7\n`, syns(1));
    expect(await replay.run()).toEqual(failing(`${replay.config}: line 4: no such/no more element(s): _web.7`));
    expect(replay.wroteNothing()).toBe(true);
  });

  test("a capture that ends in the middle of a packet: file and byte, and nothing is written", async () => {
    const replay = replayOf(HALF_NAT, syns(5));
    const whole = readFileSync(replay.in);
    writeFileSync(replay.in, whole.subarray(0, 24 + 3 * 70 + 20));
    expect(await replay.run()).toEqual(
      failing(`${replay.in}: byte ${24 + 3 * 70 + 16}: the file ends inside a packet of 54 bytes`),
    );
    expect(replay.wroteNothing()).toBe(true);
    expect(readdirSync(replay.directory).sort()).toEqual(["config", "in.pcap"]);
    writeFileSync(replay.in, "no capture at all");
    expect((await replay.run()).stderr).toBe(`ilbd: ${replay.in}: byte 0: not a capture: magic 6e6f2063\n`);
    writeFileSync(replay.in, writePcap([], { linkType: 105 }));
    expect((await replay.run()).stderr).toContain("link type 105 is not supported");
  });

  test("a command that fails ends the replay with its own words, and OUT stays as it was", async () => {
    const replay = replayOf(HALF_NAT, syns(3));
    writeFileSync(replay.out, "before");
    expect(await replay.run("--at", "1", "disable-server _web.9")).toEqual({
      status: 1,
      stdout: "",
      stderr:
        "ilbadm: no such/no more element(s): _web.9\nilbd: --at 1 'disable-server _web.9' failed, so nothing was written\n",
    });
    expect(readFileSync(replay.out, "utf8")).toBe("before");
    expect(await replay.run("--at", "1", "server-down _web.9 www")).toEqual(
      failing("--at 1 'server-down _web.9 www': rule www has no server _web.9"),
    );
    expect(await replay.run("--at", "1", "server-up _web.0 none")).toEqual(
      failing("--at 1 'server-up _web.0 none': there is no rule none"),
    );
    expect(readdirSync(replay.directory).sort()).toEqual(["config", "in.pcap", "out.pcap"]);
  });

  test("output that cannot be written", async () => {
    const replay = replayOf(HALF_NAT, syns(3));
    const words = ["--config", replay.config, "--in", replay.in, "--out"];
    const elsewhere = replay.path("no/such/out.pcap");
    expect(await refusal([...words, elsewhere])).toEqual(failing(`${elsewhere} cannot be written (ENOENT)`));
    expect(await refusal([...words, "/dev/full"])).toEqual(failing("/dev/full cannot be written (ENOSPC)"));
    expect(await refusal([...words, replay.out, "--verdicts", "/dev/full"])).toEqual(
      failing("/dev/full cannot be written (ENOSPC)"),
    );
    expect(replay.wroteNothing()).toBe(true);
  });

  test("--out and --verdicts that are pipes are written into, and leave nothing in the working directory", async () => {
    const replay = replayOf(HALF_NAT, syns(3));
    await replay.run();
    const captured = replay.verdicts();
    const directory = replay.path("elsewhere");
    mkdirSync(directory);
    const words = `replay --config ${replay.config} --in ${replay.in} --out /dev/null --verdicts /dev/stdout`;
    const done = await run(["sh", "-c", `cd '${directory}' && '${ILBD}' ${words} | cat`]);
    expect([done.status, done.stderr]).toEqual([0, ""]);
    expect(
      done.stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as Verdict),
    ).toEqual(captured);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("a listing that cannot be written ends the replay with one line", async () => {
    const replay = replayOf(HALF_NAT, syns(1));
    const words = `--config ${replay.config} --in ${replay.in} --out ${replay.out} --at 0 show-rule`;
    const done = await run(["sh", "-c", `'${ILBD}' replay ${words} > /dev/full`]);
    expect(done).toEqual(failing("output cannot be written (ENOSPC)"));
    expect(replay.wroteNothing()).toBe(true);
  });

  test("--help says what there is", async () => {
    const done = await refusal(["--help"]);
    expect([done.status, done.stderr]).toEqual([0, ""]);
    for (const option of ["--config", "--in", "--out", "--verdicts", "--at", "--compat"])
      expect(done.stdout).toContain(option);
    expect((await run([ILBD, "--help"])).stdout).toContain("ilbd replay");
  });
});

test("a large capture is not held in memory", async () => {
  const count = 60_000;
  const packet = framed(tcpPacket(`${CLIENT}:40000`, `${VIP}:80`, { flags: "A", payload: new Uint8Array(4000) }));
  const replay = replayOf(HALF_NAT, []);
  writeFileSync(replay.in, writePcap(new Array<Packet>(count).fill(at(0, packet)), { linkType: LINKTYPE_ETHERNET }));
  const megabytes = statSync(replay.in).size / 1e6;
  const words = ["--config", replay.config, "--in", replay.in, "--out", "/dev/null"];
  // The peak of the process's own memory; what wait(2) reports counts that of the process that started it.
  const program = `import { runReplay } from ${JSON.stringify(join(import.meta.dir, "../../src/replay/main.ts"))};
    const status = await runReplay(${JSON.stringify(words)});
    console.log(status, /VmHWM:\\s*(\\d+)/.exec(await Bun.file("/proc/self/status").text())[1]);`;
  const { stdout, stderr } = await run([process.execPath, "-e", program]);
  expect(stderr).toBe("");
  const [status, peakKilobytes] = stdout.split(" ").map(Number);
  expect(status).toBe(0);
  expect(megabytes).toBeGreaterThan(230);
  expect(peakKilobytes! / 1000).toBeLessThan(megabytes * 0.75);
});

/** One section, one Ethernet interface with microseconds, and packets. */
function pcapng(packets: readonly Uint8Array[]): Uint8Array {
  const block = (type: number, body: Uint8Array): Uint8Array => {
    const length = 12 + Math.ceil(body.length / 4) * 4;
    const bytes = new Uint8Array(length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, type, true);
    view.setUint32(4, length, true);
    bytes.set(body, 8);
    view.setUint32(length - 4, length, true);
    return bytes;
  };
  const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
  const blocks = packets.map((bytes, i) =>
    block(6, Uint8Array.from([...words(0, 0x60000, i, bytes.length, bytes.length), ...bytes])),
  );
  const head = [block(0x0a0d0d0a, words(0x1a2b3c4d, 1, 0xffffffff, 0xffffffff)), block(1, words(1, 0))];
  return Uint8Array.from([...head, ...blocks].flatMap((part) => [...part]));
}
