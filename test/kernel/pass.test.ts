/** The way back to the kernel: what is written to it arrives as if it had come in at the device itself. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { interestOf } from "../../src/control/interest.ts";
import { createGuard } from "../../src/kernel/guard.ts";
import { HostChanges } from "../../src/kernel/host-changes.ts";
import { NetworkWatch } from "../../src/kernel/network-watch.ts";
import { openPassPath, type PassPath } from "../../src/kernel/pass.ts";
import { Nft } from "../../src/native/nftables.ts";
import { redirectByBpf } from "../../src/native/pass.ts";
import { ip, mac } from "../support/addresses.ts";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import { concat, ethernet, ipv4, PROTOCOL_TCP, PROTOCOL_UDP, tcp, udp } from "../support/packet-builder.ts";
import { LogBook, Net, PEER_PROGRAM, until } from "./support.ts";

const BOX = mac("02:00:00:00:00:0b");
const PEER = mac("02:00:00:00:00:0c");
const CLIENT = ip("192.0.2.2");
const VIP = ip("192.0.2.1");
const MARK = 0x1b150001;
const PLAIN = new Uint8Array(10);

/** bpf(2) needs a right that containers and user namespaces have not. EPERM comes before any look at the interfaces. */
const hasBpf = hasTun && redirectByBpf(0x7ffffff0, 0x7ffffff0, 1)?.stage !== "bpf";

describe.skipIf(!hasNamespaces).each(["tap", "veth"] as const)("way back by %s", (form) => {
  let net: Net;
  let network: NetworkWatch;
  let directory: string;
  let changes: HostChanges;
  let path: PassPath;
  let before: string;
  const log = new LogBook();
  const skipped = form === "tap" && !hasBpf;

  beforeAll(async () => {
    if (skipped) return;
    net = new Net("box", "peer");
    net.cable("box:eth0", "peer:eth0", ["02:00:00:00:00:0b", "02:00:00:00:00:0c"]);
    net.sh(
      "box",
      "ip address add 192.0.2.1/24 dev eth0; sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1",
    );
    net.sh("peer", "ip address add 192.0.2.2/24 dev eth0");
    before = net.traces("box");
    directory = mkdtempSync(join(tmpdir(), "ilb-k-"));
    await net.inside("box", () => {
      network = new NetworkWatch();
      changes = new HostChanges(directory, network, log);
      path = openPassPath(network.linkNamed("eth0")!, { network, changes, log, mark: MARK, forms: [form] });
    });
  });
  afterAll(async () => {
    if (skipped) return;
    network?.close();
    await net?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const write = (vnet: Uint8Array, frame: Uint8Array) =>
    expect(writeSync(path.fd, concat(vnet, frame))).toBe(10 + frame.length);
  const datagram = (port: number, payload: Uint8Array, checksum: "good" | "partial" = "good") => {
    const ends = { source: CLIENT, destination: VIP };
    const inner = udp({ sourcePort: 999, destinationPort: port, payload, checksum }, ends);
    return ethernet({
      destination: BOX,
      source: PEER,
      etherType: 0x0800,
      payload: ipv4({ ...ends, protocol: PROTOCOL_UDP, payload: inner }),
    });
  };
  const sha1 = (bytes: Uint8Array) => createHash("sha1").update(bytes).digest("hex");

  test.skipIf(skipped)("a datagram reaches a socket that is bound to the device, with rp_filter 1", async () => {
    const bound = net.start("box", "python3", PEER_PROGRAM, "udp", "192.0.2.1", "4000", "eth0");
    const elsewhere = net.start("box", "python3", PEER_PROGRAM, "udp", "192.0.2.1", "4001", "lo");
    await bound.line();
    await elsewhere.line();
    const payload = new TextEncoder().encode("as if it had arrived");
    write(PLAIN, datagram(4001, payload));
    write(PLAIN, datagram(4000, payload));
    expect(await bound.line()).toBe(`192.0.2.2 999 ${payload.length} ${sha1(payload)}`);
    expect(net.sh("box", "cat /proc/net/snmp | grep ^Udp: | tail -1").split(" ")[1]).toBe("1");
  });

  test.skipIf(skipped)("a checksum that is still to be finished is accepted with its payload", async () => {
    const bound = net.start("box", "python3", PEER_PROGRAM, "udp", "192.0.2.1", "4002");
    await bound.line();
    const payload = new TextEncoder().encode("partial");
    // NEEDS_CSUM, start 34 (Ethernet and IPv4), offset 6.
    write(Uint8Array.of(1, 0, 0, 0, 0, 0, 34, 0, 6, 0), datagram(4002, payload, "partial"));
    expect(await bound.line()).toBe(`192.0.2.2 999 ${payload.length} ${sha1(payload)}`);
  });

  test.skipIf(skipped)("a TCP super-packet of 40000 bytes passes whole", async () => {
    net.sh(
      "box",
      `nft 'add table ip sizes; add chain ip sizes in { type filter hook prerouting priority raw; }; add rule ip sizes in iifname eth0 tcp dport 5000 meta length > 30000 counter'`,
    );
    const ends = { source: CLIENT, destination: VIP };
    const inner = tcp(
      { sourcePort: 999, destinationPort: 5000, payload: new Uint8Array(40000), checksum: "partial" },
      ends,
    );
    const frame = ethernet({
      destination: BOX,
      source: PEER,
      etherType: 0x0800,
      payload: ipv4({ ...ends, protocol: PROTOCOL_TCP, payload: inner }),
    });
    // GSO type 1 (TCPv4), header length 54, segments of 1448, checksum start 34, offset 16.
    const vnet = new Uint8Array(10);
    const view = new DataView(vnet.buffer);
    vnet[0] = 1;
    vnet[1] = 1;
    view.setUint16(2, 54, true);
    view.setUint16(4, 1448, true);
    view.setUint16(6, 34, true);
    view.setUint16(8, 16, true);
    write(vnet, frame);
    await until("the super-packet", () =>
      net.sh("box", "nft list chain ip sizes in").includes("packets 1 bytes 40040"),
    );
    net.sh("box", "nft delete table ip sizes");
  });

  test.skipIf(skipped)("a user's iifname rule counts and drops it", async () => {
    net.sh(
      "box",
      `nft 'add table inet user; add chain inet user in { type filter hook input priority 0; }; add rule inet user in iifname eth0 udp dport 4003 counter drop'`,
    );
    const bound = net.start("box", "python3", PEER_PROGRAM, "udp", "192.0.2.1", "4003");
    await bound.line();
    write(PLAIN, datagram(4003, new Uint8Array(1)));
    await until("the count", () => net.sh("box", "nft list chain inet user in").includes("packets 1 bytes"));
    net.sh("box", "nft delete table inet user");
    write(PLAIN, datagram(4003, new Uint8Array(2)));
    // The one of two bytes is the first that comes.
    expect(await bound.line()).toStartWith("192.0.2.2 999 2 ");
  });

  test.skipIf(skipped)(
    "a source that belongs to another interface is refused by rp_filter, as on the wire",
    async () => {
      net.sh(
        "box",
        "ip link add oth0 type veth peer name oth1; ip address add 203.0.113.1/24 dev oth0; ip link set oth0 up; ip link set oth1 up",
      );
      const bound = net.start("box", "python3", PEER_PROGRAM, "udp", "192.0.2.1", "4004");
      await bound.line();
      const ends = { source: ip("203.0.113.9"), destination: VIP };
      const inner = udp({ sourcePort: 999, destinationPort: 4004 }, ends);
      write(
        PLAIN,
        ethernet({
          destination: BOX,
          source: PEER,
          etherType: 0x0800,
          payload: ipv4({ ...ends, protocol: PROTOCOL_UDP, payload: inner }),
        }),
      );
      write(PLAIN, datagram(4004, new Uint8Array(3)));
      expect(await bound.line()).toStartWith("192.0.2.2 999 3 ");
      net.sh("box", "ip link del oth0");
    },
  );

  test.skipIf(skipped)(
    "the guard lets it through, though it is in the interest set, and a mark filter skips it",
    async () => {
      const nft = await net.inside("box", () => new Nft());
      const guard = await createGuard(nft, { devices: ["eth0"], passMark: MARK });
      await guard.apply(
        interestOf([
          { vip: VIP, protocol: "udp", ports: { min: 4005, max: 4005 }, type: "DSR", proxySource: null, servers: [] },
        ]),
      );
      const bound = net.start("box", "python3", PEER_PROGRAM, "udp", "192.0.2.1", "4005");
      await bound.line();
      // libpcap cannot filter by mark, so the tap is a socket with a hand-made program: accept only frames of our mark.
      const tap = net.start(
        "box",
        "python3",
        "-c",
        `import socket,struct,ctypes
s=socket.socket(17,3,socket.htons(3)); s.bind(("eth0",3))
code=[(0x20,0,0,0xfffff000+20),(0x15,0,1,${MARK}),(6,0,0,65535),(6,0,0,0)]
buf=ctypes.create_string_buffer(b"".join(struct.pack("HBBI",*c) for c in code))
s.setsockopt(1,26,struct.pack("HL",4,ctypes.addressof(buf)))
print("ready",flush=True)
print(len(s.recv(65535)),flush=True)`,
      );
      await tap.line();
      const sender = net.start("peer", "python3", PEER_PROGRAM, "send", "eth0");
      sender.say(Buffer.from(datagram(4005, new Uint8Array(7))).toString("hex"));
      sender.say("");
      await sender.line();
      write(PLAIN, datagram(4005, new Uint8Array(8)));
      expect(await bound.line()).toStartWith("192.0.2.2 999 8 ");
      expect(await tap.line()).toBe(String(14 + 20 + 8 + 8));
      await guard.remove();
      await nft.close();
    },
  );

  test.skipIf(skipped)("the interfaces that it needs stay silent: no ARP, no IPv6, no address", () => {
    for (const name of path.interfaces) {
      expect(net.sh("box", `ip address show dev ${name}`)).not.toContain("inet");
    }
    const receiver = path.interfaces.at(-1)!;
    expect(net.sh("box", `cat /sys/class/net/${receiver}/statistics/tx_packets`)).toBe("0\n");
    expect(net.sh("box", `ip link show dev ${receiver}`)).toContain("02:00:00:00:00:0b");
  });

  test.skipIf(skipped)("closing it leaves nothing", async () => {
    for (const line of log.lines) expect(line).not.toContain("could not");
    await net.inside("box", () => path.close());
    expect(net.traces("box")).toBe(before);
  });
});
