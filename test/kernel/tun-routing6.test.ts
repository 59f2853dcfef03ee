/**
 * The way of IPv6 packets of the interest set into a TUN and out of it again, on a box that was no router, by either way
 * of switching forwarding on, with a plain TUN program in the engine's place.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { HostChanges } from "../../src/kernel/host-changes.ts";
import { addressFromBytes, addressText, ip, mac } from "../support/addresses.ts";
import { hasTun } from "../support/capabilities.ts";
import {
  ETHERTYPE_IPV6,
  ethernet,
  fragmentExtension,
  fromHex,
  icmp6,
  ipv6,
  PROTOCOL_ICMP6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  tcp,
  toHex,
  udp,
} from "../support/packet-builder.ts";
import { type Net, PEER_PROGRAM, type Peer, until } from "./support.ts";
import { routeThroughTun, type TunRoute, tunNet } from "./tun-ground.ts";

const CLIENT = ip("2001:db8:1::2");
const VIP = ip("2001:db8:3::10");
const SERVER = ip("2001:db8:2::2");
const BOX_FRONT = mac("02:00:00:00:00:0b");
const CLIENT_MAC = mac("02:00:00:00:00:0c");
const ROUTER_LINK_LOCAL = ip("fe80::c");
const hasPerDevice = existsSync("/proc/sys/net/ipv6/conf/all/force_forwarding");
const ways = [
  { way: "for its devices alone (Linux 6.17)", perDevice: true },
  { way: "for all interfaces", perDevice: false },
];

describe.each(ways)("tun routing of IPv6, forwarding $way", ({ perDevice }) => {
  const isPossible = hasTun && (hasPerDevice || !perDevice);
  let net: Net;
  let engine: Peer;
  let client: Peer;
  let server: Peer;
  let atServer: Peer;
  let atClient: Peer;
  let route: TunRoute;
  let before: string;

  beforeAll(async () => {
    if (!isPossible) return;
    net = tunNet((made) => {
      for (const name of ["box", "client", "server"]) made.sh(name, "sysctl -qw net.ipv6.conf.default.accept_dad=0");
    });
    net.sh(
      "box",
      "ip address add 2001:db8:1::1/64 dev eth0 nodad; ip address add 2001:db8:2::1/64 dev eth1 nodad; sysctl -qw net.ipv6.conf.lo.forwarding=1",
    );
    net.sh("client", "ip address add 2001:db8:1::2/64 dev eth0 nodad; ip route add default via 2001:db8:1::1");
    net.sh("client", "ip address add fe80::c/64 dev eth0 nodad");
    net.sh("server", "ip address add 2001:db8:2::2/64 dev eth0 nodad; ip route add default via 2001:db8:2::1");
    client = net.start("client", "python3", PEER_PROGRAM, "send", "eth0");
    server = net.start("server", "python3", PEER_PROGRAM, "send", "eth0");
    // The box is a host that has its default route from a router, played by the client.
    advertise();
    await until("a default route", () => net.sh("box", "ip -6 route show default").includes("via fe80::c"));
    before = withoutLifetime(net.traces("box"));
    route = await routeThroughTun(net, 6, { vip: VIP, server: SERVER, forwardsPerDevice6: perDevice });
    ({ engine, atServer, atClient } = route);
  });
  afterAll(async () => {
    await route?.close();
    await net?.close();
  });

  const frame = (destination: Uint8Array, source: Uint8Array, payload: Uint8Array) =>
    toHex(ethernet({ destination, source, etherType: ETHERTYPE_IPV6, payload }));
  const fromClient = (packet: Uint8Array) => client.say(frame(BOX_FRONT, CLIENT_MAC, packet));
  const fromServer = (packet: Uint8Array, destination = "02:00:00:00:01:0b") =>
    server.say(frame(mac(destination), mac("02:00:00:00:01:0c"), packet));

  const segment = (
    source: typeof VIP,
    sourcePort: number,
    destination: typeof VIP,
    destinationPort: number,
    flags = "A",
  ) => {
    const ends = { source, destination };
    return ipv6({ ...ends, nextHeader: PROTOCOL_TCP, payload: tcp({ sourcePort, destinationPort, flags }, ends) });
  };
  const message = (source: typeof VIP, destination: typeof VIP, type: number, hopLimit = 64) => {
    const ends = { source, destination };
    const payload = icmp6({ type, payload: new Uint8Array(8) }, ends);
    return ipv6({ ...ends, nextHeader: PROTOCOL_ICMP6, hopLimit, payload });
  };
  /** RFC 4861 4.2: a router for 1800 s. */
  const advertise = () => {
    const ends = { source: ROUTER_LINK_LOCAL, destination: ip("ff02::1") };
    const lifetime = 1800;
    const body = { type: 134, rest: (64 << 24) | lifetime, payload: new Uint8Array(8) };
    const packet = ipv6({ ...ends, nextHeader: PROTOCOL_ICMP6, hopLimit: 255, payload: icmp6(body, ends) });
    client.say(frame(mac("33:33:00:00:00:01"), CLIENT_MAC, packet));
  };
  const withoutLifetime = (traces: string) => traces.replaceAll(/ expires \d+sec/g, "");
  /** Ends of a packet in text, its hop limit and next header, and the destination port. */
  const seen = (hex: string) => {
    const bytes = fromHex(hex);
    const at = (offset: number) => addressText(addressFromBytes(bytes.subarray(offset, offset + 16)));
    return { from: at(8), to: at(24), next: bytes[6]!, port: bytes[42]! * 256 + bytes[43]!, hopLimit: bytes[7]! };
  };
  const ends = (source: typeof VIP, destination: typeof VIP) => ({
    from: addressText(source),
    to: addressText(destination),
  });
  /** The next packet that the TUN was given. What its own kernel says to groups on every link does not count. */
  const nextTaken = async () => {
    for (;;) {
      const packet = seen(await engine.line());
      if (packet.from !== "0:0:0:0:0:0:0:0") return packet;
    }
  };
  /** The next TCP segment that a sniffer has seen; neighbours are asked for in between. */
  const nextSegment = async (sniffer: Peer) => {
    for (;;) {
      const packet = seen((await sniffer.line()).slice(28));
      if (packet.next === PROTOCOL_TCP) return packet;
    }
  };

  test.skipIf(!isPossible)("into the TUN, out to the server and back, from a VIP without a route", async () => {
    fromClient(segment(CLIENT, 1000, VIP, 80));
    expect(await nextTaken()).toMatchObject({ ...ends(CLIENT, VIP), port: 80, hopLimit: 63 });
    // HALF-NAT: the engine gives it back with the server's address; the client's stays.
    engine.say(toHex(segment(CLIENT, 1000, SERVER, 8080)));
    expect(await nextSegment(atServer)).toMatchObject({ ...ends(CLIENT, SERVER), port: 8080, hopLimit: 63 });
    // The server's kernel answers with a reset from the port: that is the engine's again.
    expect(await nextTaken()).toMatchObject({ ...ends(SERVER, CLIENT), port: 1000 });
    engine.say(toHex(segment(VIP, 80, CLIENT, 1000, "R")));
    expect(await nextSegment(atClient)).toMatchObject({ ...ends(VIP, CLIENT), port: 1000, hopLimit: 63 });
  });

  test.skipIf(!isPossible)("what comes out of the TUN is not sent into it again", async () => {
    engine.say(toHex(segment(SERVER, 8080, CLIENT, 4711)));
    expect(await nextSegment(atClient)).toMatchObject({ ...ends(SERVER, CLIENT), port: 4711 });
  });

  test.skipIf(!isPossible)("nor by a route of somebody else's that leads into it", async () => {
    net.sh("box", "ip route add 2001:db8:9::/64 dev ilb0");
    engine.say(toHex(segment(SERVER, 8080, ip("2001:db8:9::1"), 4711)));
    fromClient(segment(CLIENT, 1000, VIP, 80));
    expect(await nextTaken()).toMatchObject({ ...ends(CLIENT, VIP), port: 80 });
    net.sh("box", "ip route del 2001:db8:9::/64");
  });

  test.skipIf(!isPossible)("echo requests and later fragments to the VIP reach the TUN", async () => {
    fromClient(message(CLIENT, VIP, 128));
    expect(await nextTaken()).toMatchObject({ ...ends(CLIENT, VIP), next: PROTOCOL_ICMP6 });
    const later = { extensions: [fragmentExtension(185, false, 7)], nextHeader: PROTOCOL_UDP };
    fromClient(ipv6({ source: CLIENT, destination: VIP, ...later, payload: new Uint8Array(64) }));
    expect(await nextTaken()).toMatchObject({ ...ends(CLIENT, VIP), next: 44 });
  });

  test.skipIf(!isPossible)("neighbour discovery, groups and link-local destinations never do", async () => {
    for (const type of [130, 131, 132, 133, 134, 135, 136, 137, 143]) fromClient(message(CLIENT, VIP, type, 255));
    // Of the server's address and port, so in the interest set but for where they go.
    fromServer(segment(SERVER, 8080, ip("ff02::1"), 9), "33:33:00:00:00:01");
    fromServer(segment(SERVER, 8080, ip("fe80::aff:fe00:10b"), 9));
    const toGroup = { source: SERVER, destination: ip("ff02::fb") };
    const datagram = udp({ sourcePort: 8080, destinationPort: 5353 }, toGroup);
    fromServer(ipv6({ ...toGroup, nextHeader: PROTOCOL_UDP, payload: datagram }), "33:33:00:00:00:fb");
    fromServer(segment(SERVER, 8080, CLIENT, 4712));
    expect(await nextTaken()).toMatchObject({ ...ends(SERVER, CLIENT), port: 4712 });
    fromClient(segment(CLIENT, 1001, VIP, 80));
    expect(await nextTaken()).toMatchObject({ ...ends(CLIENT, VIP), port: 80 });
  });

  test.skipIf(!isPossible)("a box that was no router forwards nothing but what is balanced", async () => {
    const chain = () => net.sh("box", "nft list chain inet ilb forward");
    const dropped = () => Number(/nfproto ipv6.* counter packets (\d+) /.exec(chain())?.[1]);
    const earlier = dropped();
    fromClient(segment(CLIENT, 1000, SERVER, 22));
    fromClient(segment(CLIENT, 1000, VIP, 80));
    await nextTaken();
    expect(dropped()).toBe(earlier + 1);
  });

  test.skipIf(!isPossible)("the box keeps its default route and takes advertisements on", async () => {
    expect(net.sh("box", "ip -6 route show default")).toContain("via fe80::c");
    net.sh("box", "ip -6 route del default");
    advertise();
    await until("a default route", () => net.sh("box", "ip -6 route show default").includes("via fe80::c"));
  });

  test.skipIf(!isPossible)("neighbours of the box itself are found and find it", () => {
    net.sh("box", "ip neigh flush dev eth1; ip neigh flush dev eth0");
    net.sh("server", "ip neigh flush dev eth0");
    expect(net.sh("box", "ping -c1 -W20 2001:db8:2::2")).toContain("1 received");
    expect(net.sh("client", "ping -c1 -W20 2001:db8:1::1")).toContain("1 received");
    expect(net.sh("server", "ping -c1 -W20 2001:db8:2::1")).toContain("1 received");
  });

  test.skipIf(!isPossible)("after a crash and the next start everything is as before", async () => {
    await route.nft.close();
    await engine.kill();
    expect(withoutLifetime(net.traces("box"))).not.toBe(before);
    expect(route.log.lines).toEqual([]);
    await net.inside("box", () => new HostChanges(route.directory, route.network, route.log).cleanUpAfterCrash());
    expect(route.log.lines).toHaveLength(1);
    expect(route.log.lines[0]).toStartWith("putting back what an earlier ilbd changed on this host: ");
    expect(withoutLifetime(net.traces("box"))).toBe(before);
  });
});
