/** Device choice, requirements and hints: pure functions. */
import { describe, expect, test } from "bun:test";
import { interestOf } from "../../src/control/interest.ts";
import { chooseDevices } from "../../src/kernel/devices.ts";
import { hintsFor } from "../../src/kernel/hints.ts";
import { localPorts } from "../../src/kernel/local-ports.ts";
import { formatPortList, parsePortList } from "../../src/kernel/port-list.ts";
import { missingCapabilities } from "../../src/kernel/requirements.ts";
import type { Link } from "../../src/kernel/rtnetlink.ts";
import { ip, mac } from "../support/addresses.ts";

const link = (index: number, name: string, change: Partial<Link> = {}): Link => ({
  index,
  name,
  hardwareType: 1,
  mac: mac("02:00:00:00:00:01"),
  mtu: 1500,
  up: true,
  carrier: true,
  loopback: false,
  kind: null,
  master: null,
  lower: null,
  ...change,
});
const LINKS: Link[] = [
  link(1, "lo", { loopback: true, hardwareType: 772 }),
  link(2, "eth0"),
  link(3, "eth1"),
  link(4, "eth1.7", { kind: "vlan", lower: 3 }),
  link(5, "br0", { kind: "bridge" }),
  link(6, "eth2", { master: 5 }),
  link(7, "br0.9", { kind: "vlan", lower: 5 }),
  link(8, "wg0", { hardwareType: 65534, mac: null, kind: "wireguard" }),
  link(9, "eth3", { up: false }),
  link(10, "ilbp2", { kind: "tun" }),
];
const at = (index: number) => ({ index, address: ip("192.0.2.1"), prefixLength: 24 });

describe("device choice", () => {
  test("by default all Ethernet interfaces that are up and have an address, none of ours", () => {
    const choice = chooseDevices(null, LINKS, [at(1), at(2), at(3), at(8), at(9), at(10)]);
    expect(choice.ok && choice.devices.map(({ name }) => name)).toEqual(["eth0", "eth1"]);
  });

  test("named ones in the order given, each once, also without an address", () => {
    const choice = chooseDevices(["eth1", "eth0", "eth1"], LINKS, []);
    expect(choice.ok && choice.devices.map(({ name }) => name)).toEqual(["eth1", "eth0"]);
  });

  test.each([
    [
      "a parent and its VLAN",
      ["eth1", "eth1.7"],
      "eth1 and eth1.7 see the same frames (eth1.7 is a vlan on eth1); name one of them with --dev",
    ],
    [
      "the same the other way round",
      ["eth1.7", "eth1"],
      "eth1 and eth1.7 see the same frames (eth1.7 is a vlan on eth1); name one of them with --dev",
    ],
    [
      "a bridge and its member",
      ["br0", "eth2"],
      "eth2 and br0 see the same frames (eth2 belongs to bridge br0); name one of them with --dev",
    ],
    [
      "a member and a VLAN on its bridge",
      ["eth2", "br0.9"],
      "eth2 and br0.9 see the same frames (eth2 belongs to bridge br0, br0.9 is a vlan on br0); name one of them with --dev",
    ],
    ["a missing interface", ["eth9"], "no interface eth9 in this network namespace; 'ip link' lists what there is"],
    ["no Ethernet", ["wg0"], "interface wg0 is not Ethernet (type wireguard); use --io tun or another interface"],
    ["one that is down", ["eth3"], "interface eth3 is down; switch it on: ip link set eth3 up"],
    ["loopback", ["lo"], "the loopback interface cannot be a packet device; name another with --dev"],
    ["one of ours", ["ilbp2"], "interface ilbp2 belongs to ilbd itself; name another with --dev"],
  ])("%s is refused in one line", (_, names, text) => {
    expect(chooseDevices(names, LINKS, [])).toEqual({ ok: false, text });
  });

  test("a default of devices that see the same frames is refused too", () => {
    expect(chooseDevices(null, LINKS, [at(3), at(4)])).toMatchObject({ ok: false });
  });

  test("no interface at all is refused with the way out", () => {
    expect(chooseDevices(null, LINKS, [at(1)])).toEqual({
      ok: false,
      text: "no interface to own: none but loopback is Ethernet, up and has an address; name one with --dev",
    });
  });
});

describe("requirements", () => {
  test("capabilities are read from the effective set", () => {
    const status = (effective: string) => `Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t${effective}\n`;
    expect(missingCapabilities(status("0000000000003000"), ["CAP_NET_ADMIN", "CAP_NET_RAW"])).toEqual([]);
    expect(missingCapabilities(status("0000000000002000"), ["CAP_NET_ADMIN", "CAP_NET_RAW"])).toEqual([
      "CAP_NET_ADMIN",
    ]);
    expect(missingCapabilities(status("0000000000000000"), ["CAP_NET_ADMIN", "CAP_NET_RAW"])).toEqual([
      "CAP_NET_ADMIN",
      "CAP_NET_RAW",
    ]);
  });
});

describe("hints", () => {
  const own = [{ address: ip("192.0.2.1"), prefixLength: 24 }];
  const box = (local: string[], proxied: string[] = []) => ({
    own,
    servesLocal: true,
    isLocal: (address: ReturnType<typeof ip>) => local.some((text) => ip(text).value === address.value),
    isProxied: (address: ReturnType<typeof ip>) => proxied.some((text) => ip(text).value === address.value),
  });
  const rule = (vip: string, protocol: "tcp" | "udp" = "tcp", ports = { min: 80, max: 80 }) => ({
    vip: ip(vip),
    protocol,
    ports,
    proxySource: null,
  });

  test("a VIP on the box's own network that nobody answers for is told", () => {
    expect(hintsFor(rule("192.0.2.50"), box(["192.0.2.1"]))).toEqual([
      "nobody answers for 192.0.2.50 on its own network 192.0.2.0/24: give the address to this box (ip address add) or let this box answer for it (ip neighbour add proxy, and a route to it by another interface)",
    ]);
  });
  test("the tun device cannot serve an address of the box, so it is not advised to have it", () => {
    expect(hintsFor(rule("192.0.2.50"), { ...box(["192.0.2.1"]), servesLocal: false })).toEqual([
      "nobody answers for 192.0.2.50 on its own network 192.0.2.0/24: let this box answer for it (ip neighbour add proxy, and a route to it by another interface)",
    ]);
  });
  test("proxy addresses on a network of the box that nobody answers for are told once, others are not", () => {
    const nat = (first: string, last: string) => ({
      ...rule("198.51.100.10"),
      proxySource: { first: ip(first), last: ip(last) },
    });
    expect(hintsFor(nat("192.0.2.50", "192.0.2.53"), box(["192.0.2.51"], ["192.0.2.52"]))).toEqual([
      "nobody answers for proxy-src 192.0.2.50 and 1 more on its own network 192.0.2.0/24, so answers of servers there are lost: give the address to this box (ip address add) or let this box answer for it (ip neighbour add proxy, and a route to it by another interface)",
    ]);
    expect(hintsFor(nat("192.0.2.1", "192.0.2.1"), box(["192.0.2.1"]))).toEqual([]);
    expect(hintsFor(nat("203.0.113.1", "203.0.113.10"), box(["192.0.2.1"]))).toEqual([]);
  });
  test("a VIP that is local, proxied or routed to the box is not", () => {
    expect(hintsFor(rule("192.0.2.1"), box(["192.0.2.1"]))).toEqual([]);
    expect(hintsFor(rule("192.0.2.50"), box([], ["192.0.2.50"]))).toEqual([]);
    expect(hintsFor(rule("203.0.113.1"), box(["192.0.2.1"]))).toEqual([]);
  });
  test("a UDP rule for all ports on the only address is told, on one of two it is not", () => {
    const all = { min: 1, max: 65535 };
    expect(hintsFor(rule("192.0.2.1", "udp", all), box(["192.0.2.1"]))).toHaveLength(1);
    expect(hintsFor(rule("192.0.2.1", "tcp", all), box(["192.0.2.1"]))).toEqual([]);
    expect(hintsFor(rule("192.0.2.1", "udp", { min: 1, max: 65534 }), box(["192.0.2.1"]))).toEqual([]);
    const two = { ...box(["192.0.2.1"]), own: [...own, { address: ip("192.0.2.9"), prefixLength: 24 }] };
    expect(hintsFor(rule("192.0.2.1", "udp", all), two)).toEqual([]);
  });
});

describe("ports of the box", () => {
  test("lists as the kernel spells them", () => {
    expect(parsePortList("80,443,8000-8010,8005-8020\n")).toEqual([
      { min: 80, max: 80 },
      { min: 443, max: 443 },
      { min: 8000, max: 8020 },
    ]);
    expect(parsePortList("\n")).toEqual([]);
    expect(
      formatPortList([
        { min: 1, max: 1 },
        { min: 3, max: 9 },
      ]),
    ).toBe("1,3-9");
  });

  test("only destination ports of local addresses are reserved", () => {
    const vip = ip("192.0.2.1");
    const interest = interestOf([
      {
        vip,
        protocol: "tcp",
        ports: { min: 80, max: 90 },
        type: "HALF-NAT",
        proxySource: null,
        servers: [{ address: vip, ports: { min: 5, max: 5 } }],
      },
      { vip, protocol: "udp", ports: { min: 91, max: 91 }, type: "DSR", proxySource: null, servers: [] },
      {
        vip: ip("203.0.113.1"),
        protocol: "tcp",
        ports: { min: 443, max: 443 },
        type: "DSR",
        proxySource: null,
        servers: [],
      },
    ]);
    expect(localPorts(interest, (address) => address.value === vip.value)).toEqual([{ min: 80, max: 91 }]);
  });
});
