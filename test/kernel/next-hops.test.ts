/** Next hops against real routes and neighbours. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { NextHop } from "../../src/engine/engine.ts";
import { NetworkWatch } from "../../src/kernel/network-watch.ts";
import { NextHops } from "../../src/kernel/next-hops.ts";
import { ip, mac } from "../support/addresses.ts";
import { hasNamespaces } from "../support/capabilities.ts";
import { arpRequest, ETHERTYPE_ARP, ethernet, toHex } from "../support/packet-builder.ts";
import { LogBook, Net, PEER_PROGRAM, until } from "./support.ts";

const MACS = {
  box: "02:00:00:00:00:0b",
  peer: "02:00:00:00:00:0c",
  box1: "02:00:00:00:01:0b",
  far: "02:00:00:00:01:0c",
};
const text = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");

describe.skipIf(!hasNamespaces)("next hops", () => {
  let net: Net;
  let network: NetworkWatch;
  let hops: NextHops;
  let log: LogBook;
  /** Every change in order, and the last by index. */
  const changes: [number, NextHop][] = [];
  const now = (index: number) => hops.get(index)!;

  beforeEach(async () => {
    net = new Net("box", "peer", "far");
    net.cable("box:eth0", "peer:eth0", [MACS.box, MACS.peer]);
    net.cable("box:eth1", "far:eth1", [MACS.box1, MACS.far]);
    net.sh("box", "ip address add 192.0.2.1/24 dev eth0; ip address add 198.51.100.1/24 dev eth1");
    net.sh("box", "ip address add 2001:db8::1/64 nodad dev eth0");
    net.sh("peer", "ip address add 192.0.2.2/24 dev eth0; ip address add 2001:db8::2/64 nodad dev eth0");
    net.sh("far", "ip address add 198.51.100.2/24 dev eth1");
    changes.length = 0;
    log = new LogBook();
    await net.inside("box", () => {
      network = new NetworkWatch();
    });
    const ports = new Map([
      [network.linkNamed("eth0")!.index, 0],
      [network.linkNamed("eth1")!.index, 1],
    ]);
    hops = new NextHops(network, { ports, onChange: (index, hop) => changes.push([index, hop]), log });
  });
  afterEach(async () => {
    hops.close();
    network.close();
    await net.close();
  });

  test("a server on the wire is told as unresolved at once and as resolved when its neighbour has answered", async () => {
    hops.watch(new Map([[5, ip("192.0.2.2")]]));
    expect(changes.map(([index, hop]) => [index, hop.state])).toEqual([[5, "unresolved"]]);
    await until("resolved", () => now(5).state === "resolved");
    expect(now(5)).toEqual({
      state: "resolved",
      port: 0,
      destinationMac: Uint8Array.of(2, 0, 0, 0, 0, 0x0c),
      sourceMac: Uint8Array.of(2, 0, 0, 0, 0, 0x0b),
      mtu: 1500,
    });
    expect(changes.at(-1)).toEqual([5, now(5)]);
  });

  test("finding it begins with the kernel's own ARP request", async () => {
    const sniffer = net.start("peer", "python3", PEER_PROGRAM, "sniff", "eth0");
    expect(await sniffer.line()).toBe("ready");
    hops.watch(new Map([[1, ip("192.0.2.2")]]));
    expect(await sniffer.line()).toBe(
      toHex(
        ethernet({
          destination: mac("ff:ff:ff:ff:ff:ff"),
          source: mac(MACS.box),
          etherType: ETHERTYPE_ARP,
          payload: arpRequest(mac(MACS.box), ip("192.0.2.1"), ip("192.0.2.2")),
        }),
      ),
    );
  });

  test("an IPv6 server is found by neighbour discovery", async () => {
    hops.watch(new Map([[1, ip("2001:db8::2")]]));
    await until("resolved", () => now(1).state === "resolved");
    expect(text(now(1).destinationMac)).toBe(MACS.peer);
  });

  test("a server behind a gateway has the gateway's address and the route's MTU", async () => {
    net.sh("box", "ip route add 203.0.113.0/24 via 198.51.100.2 mtu 1300");
    hops.watch(new Map([[0, ip("203.0.113.7")]]));
    await until("resolved", () => now(0).state === "resolved");
    expect([now(0).port, text(now(0).destinationMac), text(now(0).sourceMac), now(0).mtu]).toEqual([
      1,
      MACS.far,
      MACS.box1,
      1300,
    ]);
  });

  test("a route that comes, moves and goes is followed", async () => {
    hops.watch(new Map([[0, ip("203.0.113.7")]]));
    expect(now(0).state).toBe("none");
    expect(log.lines).toEqual(["server 203.0.113.7 cannot be reached: no route"]);
    net.sh("box", "ip route add 203.0.113.0/24 via 198.51.100.2");
    await until("by eth1", () => now(0).state === "resolved" && now(0).port === 1);
    net.sh("box", "ip route add 203.0.113.7/32 via 192.0.2.2");
    await until("by eth0", () => now(0).state === "resolved" && now(0).port === 0);
    net.sh(
      "box",
      "ip route del 203.0.113.7/32; ip route change blackhole 203.0.113.0/24 || ip route replace blackhole 203.0.113.0/24",
    );
    await until("nowhere", () => now(0).state === "none");
    expect(log.lines.at(-1)).toMatch(/^server 203.0.113.7 cannot be reached: (blackhole|no) route$/);
  });

  test("a rule of policy routing is followed", async () => {
    net.sh("box", "ip route add default via 192.0.2.2; ip route add default via 198.51.100.2 table 77");
    hops.watch(new Map([[0, ip("203.0.113.7")]]));
    await until("main table", () => now(0).state === "resolved" && now(0).port === 0);
    net.sh("box", "ip rule add to 203.0.113.0/24 table 77");
    await until("table 77", () => now(0).state === "resolved" && now(0).port === 1);
  });

  test("blackhole, unreachable and prohibit routes are no way", () => {
    net.sh(
      "box",
      "ip route add blackhole 203.0.113.1; ip route add unreachable 203.0.113.2; ip route add prohibit 203.0.113.3",
    );
    hops.watch(new Map([1, 2, 3].map((last) => [last, ip(`203.0.113.${last}`)])));
    expect([1, 2, 3].map((index) => now(index).state)).toEqual(["none", "none", "none"]);
    expect(log.lines).toEqual([
      "server 203.0.113.1 cannot be reached: blackhole route",
      "server 203.0.113.2 cannot be reached: unreachable route",
      "server 203.0.113.3 cannot be reached: prohibit route",
    ]);
  });

  test("of several paths one whose neighbour answers is taken, and another when it falls silent", async () => {
    net.sh("box", "ip route add 203.0.113.0/24 nexthop via 192.0.2.77 nexthop via 198.51.100.2");
    hops.watch(new Map([[0, ip("203.0.113.7")]]));
    await until("the living path", () => now(0).state === "resolved");
    expect([now(0).port, text(now(0).destinationMac)]).toEqual([1, MACS.far]);
    // The silent one comes to life, the other one goes.
    net.sh("peer", "ip address add 192.0.2.77/24 dev eth0");
    net.sh("box", "ip link set eth1 down");
    await until("the other path", () => now(0).state === "resolved" && now(0).port === 0);
    expect(text(now(0).destinationMac)).toBe(MACS.peer);
  });

  test("an address of the box and a server behind a foreign interface are told with their names", () => {
    net.sh(
      "box",
      "ip link add wan0 type veth peer name wan1; ip link set wan0 up; ip link set wan1 up; ip route add 203.0.113.0/24 dev wan0",
    );
    network.poll();
    hops.watch(
      new Map([
        [0, ip("203.0.113.7")],
        [1, ip("192.0.2.1")],
        [2, ip("192.0.2.255")],
      ]),
    );
    expect([0, 1, 2].map((index) => now(index).state)).toEqual(["none", "none", "none"]);
    expect(log.lines).toEqual([
      "server 203.0.113.7 cannot be reached: the route leads out of wan0, which is no packet device of ilbd",
      "server 192.0.2.1 cannot be reached: it is an address of this box",
      "server 192.0.2.255 cannot be reached: it is no host",
    ]);
  });

  test("a neighbour that changes its link address is followed", async () => {
    hops.watch(new Map([[0, ip("192.0.2.2")]]));
    await until("resolved", () => now(0).state === "resolved");
    net.sh("box", "ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:99 dev eth0 nud reachable");
    await until("the new one", () => text(now(0).destinationMac) === "02:00:00:00:00:99");
  });

  test("a stale neighbour in use is asked about at once", async () => {
    hops.watch(new Map([[0, ip("192.0.2.2")]]));
    await until("resolved", () => now(0).state === "resolved");
    net.sh("box", "ip neigh change 192.0.2.2 dev eth0 nud stale");
    await until("a question", () => /DELAY|PROBE|REACHABLE/.test(net.sh("box", "ip neigh show 192.0.2.2")));
    expect(now(0).state).toBe("resolved");
  });

  test("a neighbour entry that the kernel has thrown away is asked for again", async () => {
    hops.watch(new Map([[0, ip("192.0.2.2")]]));
    await until("resolved", () => now(0).state === "resolved");
    const count = changes.length;
    net.sh("box", "ip neigh flush to 192.0.2.2 dev eth0");
    await until("asked again", () => changes.length > count && now(0).state === "resolved");
    expect(net.sh("box", "ip neigh show 192.0.2.2")).toContain(MACS.peer);
  });

  test("a server that does not answer is named once, and told when it is back", async () => {
    net.sh(
      "box",
      "for n in mcast_solicit ucast_solicit; do sysctl -qw net.ipv4.neigh.eth0.$n=1; done; sysctl -qw net.ipv4.neigh.eth0.retrans_time_ms=50",
    );
    hops.watch(new Map([[0, ip("192.0.2.9")]]));
    await until("the complaint", () => log.lines.includes("192.0.2.9 does not answer on eth0"));
    net.sh("peer", "ip address add 192.0.2.9/24 dev eth0");
    await until("resolved", () => now(0).state === "resolved");
    expect(log.lines).toEqual(["192.0.2.9 does not answer on eth0", "server 192.0.2.9 is reached again, by eth0"]);
  });

  test("MTU and link address of the device are followed", async () => {
    hops.watch(new Map([[0, ip("192.0.2.2")]]));
    await until("resolved", () => now(0).state === "resolved");
    net.sh("box", "ip link set eth0 mtu 1400");
    await until("the MTU", () => now(0).mtu === 1400);
    net.sh("box", "ip link set eth0 address 02:00:00:00:00:77");
    await until("the address", () => text(now(0).sourceMac) === "02:00:00:00:00:77" && now(0).state === "resolved");
  });

  test("a device that goes down and comes back takes its servers with it", async () => {
    hops.watch(new Map([[0, ip("192.0.2.2")]]));
    await until("resolved", () => now(0).state === "resolved");
    net.sh("box", "ip link set eth0 down");
    await until("nowhere", () => now(0).state === "none");
    net.sh("box", "ip link set eth0 up");
    await until("resolved again", () => now(0).state === "resolved");
  });

  test("an index that is watched no more is told no more, one that stays is not told anew", async () => {
    hops.watch(
      new Map([
        [0, ip("192.0.2.2")],
        [1, ip("198.51.100.2")],
      ]),
    );
    await until("both", () => now(0).state === "resolved" && now(1).state === "resolved");
    const count = changes.length;
    hops.watch(new Map([[1, ip("198.51.100.2")]]));
    expect(changes.length).toBe(count);
    expect(hops.get(0)).toBeNull();
    hops.watch(new Map([[1, ip("192.0.2.2")]]));
    expect(changes.slice(count).map(([index, hop]) => [index, hop.port, hop.state])).toEqual([[1, 0, "resolved"]]);
  });

  test("local is what has an address or a local route", () => {
    net.sh("box", "ip route add local 203.0.113.128/25 dev lo");
    network.poll();
    const answers = ["192.0.2.1", "2001:db8::1", "203.0.113.200", "192.0.2.2", "203.0.113.1", "192.0.2.255"].map(
      (address) => network.isLocal(ip(address)),
    );
    expect(answers).toEqual([true, true, true, false, false, false]);
  });

  test("after lost notifications everything is read anew", async () => {
    hops.watch(new Map([[0, ip("203.0.113.7")]]));
    // More changes than fit the socket's buffer, while nobody reads.
    net.sh(
      "box",
      `seq 0 30000 | awk '{ printf "route add 10.0.%d.%d via 192.0.2.2\\n", $1 / 256, $1 % 256 }' | ip -batch -`,
    );
    net.sh("box", "ip route add 203.0.113.0/24 via 192.0.2.2");
    const drops = net
      .sh("box", "tail -n +2 /proc/net/netlink")
      .trim()
      .split("\n")
      .map((line) => Number(line.trim().split(/\s+/)[8]));
    expect(Math.max(...drops)).toBeGreaterThan(0);
    await until("resolved", () => now(0).state === "resolved");
  });
});
