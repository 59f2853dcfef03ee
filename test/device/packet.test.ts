import { afterEach, describe, expect, test } from "bun:test";
import { flowNumber } from "../../src/engine/owner.ts";
import { FRAME_VLAN } from "../../src/gen/layout.ts";
import { ip, mac } from "../support/addresses.ts";
import {
  arpRequest,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  ethernet,
  ipv4,
  ipv6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  tcp,
  toHex,
  udp,
} from "../support/packet-builder.ts";
import { Random, seedFromEnvironment } from "../support/random.ts";
import { Box, until } from "./box.ts";
import type { BoxSpec, PortSpec, RecordedFrame } from "./box-protocol.ts";
import { Namespaces, NO_NAMESPACES, NO_TUN } from "./namespaces.ts";

const PEERS = new URL("./peers.py", import.meta.url).pathname;
const CLIENT = { address: "198.51.100.1", mac: "02:00:5e:00:00:01" };
const SERVER = { address: "203.0.113.1", mac: "02:00:5e:00:00:02" };
const BOX = ["02:00:5e:00:00:0a", "02:00:5e:00:00:0b"] as const;
const ENDS = { source: ip(CLIENT.address), destination: ip(SERVER.address) };

const TO_SERVER = { port: 1, source: BOX[1], destination: SERVER.mac };
const TO_CLIENT = { port: 0, source: BOX[0], destination: CLIENT.mac };
const packetPort = (name: string, options = {}): PortSpec => ({ kind: "packet", name, options });
const BOTH_PORTS = [packetPort("b0"), packetPort("b1")];
const FORWARD: BoxSpec = { ports: BOTH_PORTS, work: "forward", to: [TO_SERVER, TO_CLIENT] };

/** A UDP frame from the client to the box's first port. `size` in bytes, Ethernet included. */
function datagram(size: number, fill: number, overrides: { destination?: string; vlans?: number[] } = {}): Uint8Array {
  const payload = new Uint8Array(size - 42).map((_, i) => (fill + i * 7) & 0xff);
  return ethernet({
    destination: mac(overrides.destination ?? BOX[0]),
    source: mac(CLIENT.mac),
    etherType: ETHERTYPE_IPV4,
    vlans: overrides.vlans ?? [],
    payload: ipv4({
      ...ENDS,
      protocol: PROTOCOL_UDP,
      payload: udp({ sourcePort: 1000 + fill, destinationPort: 7, payload }, ENDS),
    }),
  });
}

/** As it leaves the second port towards the server. */
const forwarded = (frame: Uint8Array) =>
  toHex(Uint8Array.from([...mac(SERVER.mac), ...mac(BOX[1]), ...frame.slice(12)]));
const plain = (frames: readonly RecordedFrame[]) => frames.map((frame) => frame.hex);

describe.skipIf(NO_NAMESPACES !== null)(
  `packet sockets between namespaces${NO_NAMESPACES ? ` (${NO_NAMESPACES})` : ""}`,
  () => {
    let open: Namespaces | undefined;

    /** client c0 -- b0 box b1 -- s0 server, neighbours fixed, no address in the box: its kernel forwards nothing. */
    function topology(): Namespaces {
      const namespaces = new Namespaces("client", "box", "server");
      open = namespaces;
      namespaces.cable(
        { namespace: "client", name: "c0", mac: CLIENT.mac, address: `${CLIENT.address}/24` },
        { namespace: "box", name: "b0", mac: BOX[0] },
      );
      namespaces.cable(
        { namespace: "box", name: "b1", mac: BOX[1] },
        { namespace: "server", name: "s0", mac: SERVER.mac, address: `${SERVER.address}/24` },
      );
      const route = (label: string, gateway: string, lladdr: string, device: string) => {
        namespaces.run(label, "ip", "neigh", "add", gateway, "lladdr", lladdr, "dev", device);
        namespaces.run(label, "ip", "route", "add", "default", "via", gateway);
      };
      route("client", "198.51.100.254", BOX[0], "c0");
      route("server", "203.0.113.254", BOX[1], "s0");
      return namespaces;
    }

    /** Both ends of the client's cable carry packets of so many bytes. */
    function widen(namespaces: Namespaces, mtuBytes: number): void {
      for (const [label, device] of [
        ["client", "c0"],
        ["box", "b0"],
      ] as const)
        namespaces.run(label, "ip", "link", "set", device, "mtu", String(mtuBytes));
    }

    afterEach(async () => {
      await open?.close();
      open = undefined;
    });

    async function sendFrom(
      namespaces: Namespaces,
      label: string,
      device: string,
      frames: readonly Uint8Array[],
      mark = 0,
    ) {
      const sender = namespaces.start(label, "python3", PEERS, "send", device, String(mark));
      for (const frame of frames) sender.say(toHex(frame));
      await sender.finish();
    }

    async function sniff(namespaces: Namespaces, label: string, device: string, count: number, verb = "sniff") {
      const program = namespaces.start(label, "python3", PEERS, verb, device, String(count));
      await program.line();
      return async () => {
        const lines: string[] = [];
        while (lines.length < count) lines.push(await program.line());
        return lines;
      };
    }

    test("frames of every size come out of the other port byte for byte and in order", async () => {
      const namespaces = topology();
      const box = await Box.start(namespaces, "box", FORWARD);
      const sizes = Array.from({ length: 200 }, (_, i) => 60 + Math.round((i * (1514 - 60)) / 199));
      const frames = sizes.map((size, i) => datagram(size, i));
      const arrived = await sniff(namespaces, "server", "s0", frames.length);
      await sendFrom(namespaces, "client", "c0", frames);
      expect(await arrived()).toEqual(frames.map(forwarded));
      const [in0, out1] = await box.counters();
      const bytes = sizes.reduce((sum, size) => sum + size, 0);
      expect(in0).toMatchObject({ rxFrames: 200, rxBytes: bytes, rxErrors: 0, rxTruncated: 0, rxKernelDrops: 0 });
      expect(out1).toMatchObject({ txFrames: 200, txBytes: bytes, txRefused: 0, txBusy: 0, txInvalid: 0 });
      await box.stop();
    });

    test("a frame longer than a head block is continued in its tail block", async () => {
      const namespaces = topology();
      widen(namespaces, 65535);
      const box = await Box.start(namespaces, "box", { ports: BOTH_PORTS, work: "record" });
      const frames = [2061, 2062, 2063, 65549].map((size, i) => datagram(size, i));
      await sendFrom(namespaces, "client", "c0", frames);
      const recorded = await box.frames(4);
      expect(plain(recorded)).toEqual(frames.map(toHex));
      expect(recorded.map((frame) => frame.headLength)).toEqual([2061, 2062, 2062, 2062]);
      await box.stop();
    });

    test("frames that fit a slot of the receive ring and frames that do not keep their order, also round the ring's end", async () => {
      const namespaces = topology();
      widen(namespaces, 9000);
      // 64 slots, so that 168 frames go round more than twice.
      const ports = [packetPort("b0", { bufferBytes: 131_072 })];
      const box = await Box.start(namespaces, "box", { ports, work: "record" });
      // 1972 bytes are what a slot of 2048 has room for behind the kernel's headers.
      const sizes = [60, 1972, 1973, 9014, 200, 2048, 1514];
      for (let round = 0; round < 6; round++) {
        const frames = [...sizes, ...sizes, ...sizes, ...sizes].map((size, i) => datagram(size, 30 * round + i));
        await sendFrom(namespaces, "client", "c0", frames);
        expect(plain(await box.frames(frames.length))).toEqual(frames.map(toHex));
      }
      expect((await box.counters())[0]).toMatchObject({ rxErrors: 0, rxTruncated: 0, rxKernelDrops: 0 });
      await box.stop();
    });

    test("long frames that found no room are counted and cost no other frame", async () => {
      const namespaces = topology();
      widen(namespaces, 9000);
      // 64 slots, but room for a few long frames only.
      const ports = [packetPort("b0", { bufferBytes: 131_072 })];
      const box = await Box.start(namespaces, "box", { ports, work: "record", hold: true });
      const long = Array.from({ length: 40 }, (_, i) => datagram(9014, i));
      const short = Array.from({ length: 10 }, (_, i) => datagram(100, i));
      await sendFrom(namespaces, "client", "c0", [...long, ...short]);
      box.go();
      const { rxFrames, rxKernelDrops } = await until(
        async () => (await box.counters())[0]!,
        (counters) => counters.rxFrames + counters.rxKernelDrops === 50,
      );
      expect([rxFrames > 10, rxKernelDrops > 0]).toEqual([true, true]);
      expect(plain(await box.frames(rxFrames)).slice(-10)).toEqual(short.map(toHex));
      await box.stop();
    });

    /** 8 MB over one TCP connection through the box; what the server's kernel says about checksums afterwards. */
    async function transfer(namespaces: Namespaces): Promise<{ sent: string; received: string; snmp: string }> {
      const server = namespaces.start("server", "python3", PEERS, "sink", SERVER.address, "8080");
      await server.line();
      const client = namespaces.start("client", "python3", PEERS, "source", SERVER.address, "8080", "8000000");
      const received = await server.line();
      const sent = `8000000 ${await client.line()}`;
      return { sent, received, snmp: namespaces.run("server", "cat", "/proc/net/snmp") };
    }

    /** InErrs and InCsumErrors of TCP in /proc/net/snmp. */
    function tcpErrors(snmp: string): Record<string, number> {
      const [names, values] = snmp
        .split("\n")
        .filter((line) => line.startsWith("Tcp:"))
        .map((line) => line.split(" "));
      const column = (name: string) => Number(values![names!.indexOf(name)]);
      return { InErrs: column("InErrs"), InCsumErrors: column("InCsumErrors") };
    }

    test("TCP super-packets pass whole, with their offload header", async () => {
      const namespaces = topology();
      const box = await Box.start(namespaces, "box", FORWARD);
      const { sent, received } = await transfer(namespaces);
      expect(received).toBe(sent);
      const [in0, out1] = await box.counters();
      expect(in0!.rxBytes / in0!.rxFrames).toBeGreaterThan(4 * 1514);
      expect(out1!.txFrames).toBe(in0!.rxFrames);
      expect(in0!.rxTruncated + in0!.rxErrors + out1!.txRefused + out1!.txTooBig).toBe(0);
      await box.stop();
    });

    test("with checksum and segmentation offload off on the box, receivers find every checksum right", async () => {
      const namespaces = topology();
      for (const device of ["b0", "b1"])
        namespaces.run("box", "ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off");
      const box = await Box.start(namespaces, "box", FORWARD);
      const { sent, received, snmp } = await transfer(namespaces);
      expect(received).toBe(sent);
      expect(tcpErrors(snmp)).toEqual({ InErrs: 0, InCsumErrors: 0 });
      await box.stop();
    });

    test("a super-packet that does not fit is flagged and counted", async () => {
      const namespaces = topology();
      for (const [label, device] of [
        ["client", "c0"],
        ["server", "s0"],
      ] as const) {
        namespaces.setting(label, `net/ipv6/conf/${device}/disable_ipv6`, "0");
        namespaces.run(label, "ip", "link", "set", device, "gso_max_size", "200000", "gro_max_size", "200000");
      }
      namespaces.run("client", "ip", "address", "add", "2001:db8::1/64", "dev", "c0", "nodad");
      namespaces.run("server", "ip", "address", "add", "2001:db8::2/64", "dev", "s0", "nodad");
      namespaces.run("client", "ip", "neigh", "add", "2001:db8::2", "lladdr", BOX[0], "dev", "c0");
      namespaces.run("server", "ip", "neigh", "add", "2001:db8::1", "lladdr", BOX[1], "dev", "s0");
      const box = await Box.start(namespaces, "box", FORWARD);
      const server = namespaces.start("server", "python3", PEERS, "sink", "2001:db8::2", "8080");
      await server.line();
      namespaces.start("client", "python3", PEERS, "source", "2001:db8::2", "8080", "8000000");
      await until(
        async () => (await box.counters())[0]!,
        (counters) => counters.rxTruncated > 0,
      );
      await box.stop();
    });

    test("partial checksums and segment sizes reach the descriptor", async () => {
      const namespaces = topology();
      const box = await Box.start(namespaces, "box", { ports: BOTH_PORTS, work: "record" });
      namespaces.start(
        "client",
        "python3",
        "-c",
        `import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x" * 100, ("${SERVER.address}", 9))`,
      );
      const [frame] = await box.frames(1);
      // UDP begins behind 14 bytes of Ethernet and 20 of IPv4; its checksum field is at byte 6 (RFC 768).
      expect(frame!.vnet).toMatchObject({ flags: 1, gsoType: 0, csumStart: 34, csumOffset: 6 });
      await box.stop();
    });

    test("sockets that share an interface get each frame once, all of a connection at one of them, and none of our own", async () => {
      const namespaces = topology();
      const shared: PortSpec = { kind: "shared", name: "b0", sockets: 3, dealSecret: 1 };
      const box = await Box.start(namespaces, "box", { ports: [shared], work: "record" });
      const connections = Array.from({ length: 60 }, (_, i) => datagram(80, i));
      await sendFrom(namespaces, "client", "c0", [...connections, ...connections]);
      const recorded = await box.frames(120);
      expect(plain(recorded).sort()).toEqual([...connections, ...connections].map(toHex).sort());
      const socketsOf = new Map<string, Set<number>>();
      for (const { hex, port } of recorded) socketsOf.set(hex, (socketsOf.get(hex) ?? new Set()).add(port));
      expect([...socketsOf.values()].every((sockets) => sockets.size === 1)).toBe(true);
      expect(new Set(recorded.map(({ port }) => port))).toEqual(new Set([0, 1, 2]));
      // What another socket of the box sends out of the interface is no arrival; the marker behind it is.
      const sender = await Box.start(namespaces, "box", {
        ports: [packetPort("b0", { direction: "transmit" })],
        work: "record",
        hold: true,
      });
      await sender.send([{ hex: forwarded(datagram(80, 1)), port: 0 }]);
      await sendFrom(namespaces, "client", "c0", [datagram(90, 7)]);
      expect(plain(await box.frames(1))).toEqual([toHex(datagram(90, 7))]);
      sender.go();
      await sender.stop();
      await box.stop();
    });

    test("sockets that share an interface get what the engine expects of them: whole TCP and UDP packets by flowNumber", async () => {
      const namespaces = topology();
      const seed = seedFromEnvironment(71);
      console.log(`dealing seed ${seed}`);
      const random = new Random(seed);
      const dealSecret = random.next();
      const sockets = 3;
      const box = await Box.start(namespaces, "box", {
        ports: [{ kind: "shared", name: "b0", sockets, dealSecret }],
        work: "record",
      });
      // Both sides of where a port begins to count, and ports that are alike.
      const port = () => random.of([7, 80, 9_999, 10_000, 40_000, random.between(1, 65_535)]);
      const address = (family: 4 | 6) =>
        family === 4
          ? ip(`192.0.2.${random.between(1, 254)}`)
          : { family, value: ip("2001:db8::").value + BigInt(random.next()) };
      const packets = Array.from({ length: 400 }, () => {
        const family = random.of([4, 6] as const);
        const ends = {
          source: address(family),
          destination: address(family),
          sourcePort: port(),
          destinationPort: port(),
        };
        const isTcp = random.chance(0.5);
        const options = new Uint8Array(4 * random.below(3)).fill(1); // no-operation (RFC 791 3.1)
        const payload = isTcp
          ? tcp({ ...ends, flags: "A" }, ends)
          : udp({ ...ends, payload: new Uint8Array(20) }, ends);
        const protocol = isTcp ? PROTOCOL_TCP : PROTOCOL_UDP;
        const packet =
          family === 4
            ? ipv4({ ...ends, protocol, payload, options })
            : ipv6({ ...ends, nextHeader: protocol, payload });
        const etherType = family === 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6;
        const frame = ethernet({ destination: mac(BOX[0]), source: mac(CLIENT.mac), etherType, payload: packet });
        return { frame, socket: flowNumber(dealSecret, ends) % sockets };
      });
      await sendFrom(
        namespaces,
        "client",
        "c0",
        packets.map(({ frame }) => frame),
      );
      const recorded = await box.frames(packets.length);
      expect(recorded.map(({ hex, port }) => `${port} ${hex}`).sort()).toEqual(
        packets.map(({ frame, socket }) => `${socket} ${toHex(frame)}`).sort(),
      );
      expect(new Set(recorded.map((frame) => frame.port)).size).toBe(sockets);
      await box.stop();
    });

    test("tagged frames are flagged when asked for and left out otherwise", async () => {
      const namespaces = topology();
      const tagged = datagram(100, 1, { vlans: [42] });
      const marker = datagram(100, 2);
      const box = await Box.start(namespaces, "box", { ports: [packetPort("b0", { vlan: true })], work: "record" });
      await sendFrom(namespaces, "client", "c0", [tagged, marker]);
      const both = await box.frames(2);
      expect(both.map((frame) => frame.flags)).toEqual([FRAME_VLAN, 0]);
      expect(both[0]!.hex).toBe(toHex(datagram(100, 1)));
      await box.stop();
      const strict = await Box.start(namespaces, "box", { ports: [packetPort("b0")], work: "record" });
      await sendFrom(namespaces, "client", "c0", [tagged, marker]);
      expect(plain(await strict.frames(1))).toEqual([toHex(marker)]);
      await strict.stop();
    });

    test("other protocols than IP and frames for other hosts or for everybody are left out", async () => {
      const namespaces = topology();
      namespaces.run("box", "ip", "link", "set", "b0", "promisc", "on");
      const box = await Box.start(namespaces, "box", { ports: [packetPort("b0")], work: "record" });
      const foreign = datagram(80, 3, { destination: "02:00:5e:00:00:99" });
      const marker = datagram(80, 4);
      await sendFrom(namespaces, "client", "c0", [
        arpRequest(mac(CLIENT.mac), ip(CLIENT.address), ip("198.51.100.254")),
        foreign,
        datagram(80, 3, { destination: "ff:ff:ff:ff:ff:ff" }),
        datagram(80, 3, { destination: "01:00:5e:00:00:01" }),
        marker,
      ]);
      expect(plain(await box.frames(1))).toEqual([toHex(marker)]);
      await box.stop();
    });

    test("frames with the pass mark are left out", async () => {
      const namespaces = topology();
      // Inside one namespace a cable keeps the mark of a packet; between namespaces it is cleared.
      namespaces.cable(
        { namespace: "box", name: "m0", mac: "02:00:5e:00:00:c0" },
        { namespace: "box", name: "m1", mac: BOX[0] },
      );
      const box = await Box.start(namespaces, "box", { ports: [packetPort("m1", { passMark: 0x1b })], work: "record" });
      await sendFrom(namespaces, "box", "m0", [datagram(80, 1)], 0x1b);
      await sendFrom(namespaces, "box", "m0", [datagram(80, 2)], 0x1c);
      expect(plain(await box.frames(1))).toEqual([toHex(datagram(80, 2))]);
      await box.stop();
    });

    test("what the box itself sends on the interface is not received", async () => {
      const namespaces = topology();
      const box = await Box.start(namespaces, "box", { ports: [packetPort("b0")], work: "record" });
      await sendFrom(namespaces, "box", "b0", [datagram(80, 1)]);
      await sendFrom(namespaces, "client", "c0", [datagram(80, 2)]);
      expect(plain(await box.frames(1))).toEqual([toHex(datagram(80, 2))]);
      await box.stop();
    });

    test("a port for sending only receives nothing", async () => {
      const namespaces = topology();
      const ports = [packetPort("b0"), packetPort("b1", { direction: "transmit" })];
      const box = await Box.start(namespaces, "box", { ports, work: "forward", to: [TO_SERVER, TO_CLIENT] });
      const arrived = await sniff(namespaces, "server", "s0", 1);
      await sendFrom(namespaces, "server", "s0", [datagram(80, 1, { destination: BOX[1] })]);
      await sendFrom(namespaces, "client", "c0", [datagram(80, 2)]);
      expect(await arrived()).toEqual([forwarded(datagram(80, 2))]);
      expect((await box.counters())[1]).toMatchObject({ rxFrames: 0, txFrames: 1 });
      await box.stop();
    });

    test("two flooded ports share the batches", async () => {
      const namespaces = topology();
      const box = await Box.start(namespaces, "box", { ports: BOTH_PORTS, work: "record", hold: true });
      const flood = (destination: string) => Array.from({ length: 96 }, (_, i) => datagram(80, i, { destination }));
      await sendFrom(namespaces, "client", "c0", flood(BOX[0]));
      await sendFrom(namespaces, "server", "s0", flood(BOX[1]));
      box.go();
      const recorded = await box.frames(192);
      // 64 of the first, 64 of the second, then what was left of each: nobody waits for two full batches.
      expect(recorded.slice(0, 128).map((frame) => frame.port)).toEqual([...Array(64).fill(0), ...Array(64).fill(1)]);
      await box.stop();
    });

    test("frames that found the socket full are counted", async () => {
      const namespaces = topology();
      const ports = [packetPort("b0", { bufferBytes: 8192 })];
      const box = await Box.start(namespaces, "box", { ports, work: "record", hold: true });
      await sendFrom(
        namespaces,
        "client",
        "c0",
        Array.from({ length: 100 }, (_, i) => datagram(1514, i)),
      );
      box.go();
      const sum = await until(
        async () => (await box.counters())[0]!,
        (counters) => counters.rxFrames + counters.rxKernelDrops === 100,
      );
      expect(sum.rxKernelDrops).toBeGreaterThan(0);
      expect(sum.rxFrames).toBeGreaterThan(0);
      await box.stop();
    });

    test("a frame that the kernel refuses is counted and the rest of the batch goes on", async () => {
      const namespaces = topology();
      const box = await Box.start(namespaces, "box", { ports: BOTH_PORTS, work: "record", hold: true });
      const good = [1, 2, 3, 4].map((fill) => datagram(100, fill));
      const [hex0, hex1, hex2, hex3] = good.map(toHex);
      const lying = { flags: 1, gsoType: 1, hdrLen: 65535, gsoSize: 1, csumStart: 60000, csumOffset: 16 };
      const arrived = await sniff(namespaces, "server", "s0", 4);
      const { sent } = await box.send([
        { hex: hex0!, port: 1 },
        { hex: toHex(datagram(3000, 9)), port: 1 },
        { hex: hex1!, port: 1 },
        { hex: hex1!, port: 1, vnet: lying },
        { hex: hex2!, port: 1 },
        { hex: hex2!, port: 1, length: 0x7fffffff },
        { hex: hex2!, port: 9 },
        { hex: hex3!, port: 1 },
      ]);
      expect(sent).toBe(4);
      expect(await arrived()).toEqual(good.map(toHex));
      const [in0, out1] = await box.counters();
      expect(out1).toMatchObject({ txFrames: 4, txTooBig: 1, txRefused: 1, txInvalid: 1 });
      expect(in0!.txInvalid + out1!.txInvalid).toBe(1);
    });

    test("made frames leave in the place of the frame that they were made for", async () => {
      const namespaces = topology();
      const box = await Box.start(namespaces, "box", { ports: BOTH_PORTS, work: "record", hold: true });
      const hex = [0, 1, 2, 3, 4, 5].map((fill) => toHex(datagram(90, fill)));
      const arrived = await sniff(namespaces, "server", "s0", 5);
      await box.send([
        { hex: hex[0]!, port: 1 },
        { hex: hex[5]!, port: 1, replacedBy: { first: 0, count: 2 } },
        { hex: hex[3]!, port: 1 },
        { hex: hex[1]!, port: 1, made: 0 },
        { hex: hex[2]!, port: 1, made: 1 },
        { hex: hex[4]!, port: 1, made: 2 },
      ]);
      expect(await arrived()).toEqual(hex.slice(0, 5));
    });

    /** A batch of 40 long frames for a second port that sends a byte per millisecond, and one for the first. */
    async function congested(limit: number, bufferBytes: number) {
      const namespaces = topology();
      const shaper = `qdisc add dev b1 root tbf rate 8kbit burst 2000 limit ${limit}`;
      namespaces.run("box", "tc", ...shaper.split(" "));
      const ports = [packetPort("b0"), packetPort("b1", { bufferBytes })];
      const box = await Box.start(namespaces, "box", { ports, work: "record", hold: true });
      const arrived = await sniff(namespaces, "client", "c0", 1);
      const long = Array.from({ length: 40 }, (_, i) => ({ hex: toHex(datagram(1514, i)), port: 1 }));
      await box.send([...long, { hex: toHex(datagram(80, 1)), port: 0 }]);
      expect(await arrived()).toEqual([toHex(datagram(80, 1))]);
      return (await box.counters())[1]!;
    }

    test("a socket that stays full costs its own frames, not those of other ports", async () => {
      const counters = await congested(1_000_000, 16384);
      expect(counters.txBusy).toBeGreaterThan(0);
      expect(counters.txFrames).toBeGreaterThan(0);
      expect(counters.txFrames + counters.txBusy).toBe(40);
      expect(counters.lastErrno).toBe(11);
    });

    test("frames that the interface's queue drops are counted and not offered again", async () => {
      const counters = await congested(4000, 1_000_000);
      expect(counters.txFull).toBeGreaterThan(30);
      expect(counters.txFrames + counters.txFull).toBe(40);
      expect(counters.lastErrno).toBe(105);
    });

    test("an interface that goes down is counted and recovers", async () => {
      const namespaces = topology();
      const box = await Box.start(namespaces, "box", { ports: BOTH_PORTS, work: "record", hold: true });
      namespaces.run("box", "ip", "link", "set", "b1", "down");
      await box.send([{ hex: toHex(datagram(80, 1)), port: 1 }]);
      expect((await box.counters())[1]).toMatchObject({ txDown: 1, lastErrno: 100 });
      namespaces.run("box", "ip", "link", "set", "b1", "up");
      box.go();
      await until(
        async () => (await box.counters())[1]!,
        (counters) => counters.rxErrors === 1,
      );
      await sendFrom(namespaces, "server", "s0", [datagram(80, 2, { destination: BOX[1] })]);
      expect(plain(await box.frames(1))).toEqual([toHex(datagram(80, 2, { destination: BOX[1] }))]);
      await box.stop();
    });

    test("an interface that is removed ends its port, not the others", async () => {
      const namespaces = topology();
      const box = await Box.start(namespaces, "box", { ports: BOTH_PORTS, work: "record" });
      namespaces.run("box", "ip", "link", "del", "b1");
      await until(
        () => box.counters(),
        ([in0, gone]) => in0!.portDead === 0 && gone!.portDead === 1,
      );
      await sendFrom(namespaces, "client", "c0", [datagram(80, 1)]);
      expect(plain(await box.frames(1))).toEqual([toHex(datagram(80, 1))]);
      await box.stop();
    });

    const throughTap = `frames given back arrive unchanged on the TAP, offload header included${NO_TUN ? ` (${NO_TUN})` : ""}`;
    test.skipIf(NO_TUN !== null)(throughTap, async () => {
      const namespaces = topology();
      const spec: BoxSpec = { ports: [packetPort("b0")], work: "pass", passTap: "tap0", hold: true };
      const box = await Box.start(namespaces, "box", spec);
      namespaces.run("box", "ip", "link", "set", "tap0", "up");
      const arrived = await sniff(namespaces, "box", "tap0", 2, "sniff-offload");
      box.go();
      const frame = datagram(1200, 5);
      await sendFrom(namespaces, "client", "c0", [frame]);
      const [plainFrame] = [(await box.counters())[0]!];
      namespaces.start(
        "client",
        "python3",
        "-c",
        `import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x" * 100, ("${SERVER.address}", 9))`,
      );
      const [first, second] = await arrived();
      expect(first!.slice(20)).toBe(toHex(frame));
      // NEEDS_CSUM, no segmentation, checksum from byte 34, at 6 there.
      expect(second!.slice(0, 20)).toMatch(/^0100....000022000600$/);
      expect(plainFrame.passErrors).toBe(0);
      // A frame is counted when it has left, which the one who sees it arrive may be ahead of.
      const counters = await until(
        async () => (await box.counters())[0]!,
        ({ passFrames }) => passFrames >= 2,
      );
      expect(counters).toMatchObject({ passFrames: 2, passErrors: 0, txFrames: 0 });
      await box.stop();
    });

    test("giving back without a way is counted", async () => {
      const namespaces = topology();
      const box = await Box.start(namespaces, "box", { ports: [packetPort("b0")], work: "pass" });
      await sendFrom(namespaces, "client", "c0", [datagram(80, 1)]);
      await until(
        async () => (await box.counters())[0]!,
        (counters) => counters.passErrors === 1,
      );
      await box.stop();
    });

    test("a wake-up ends a receive that would wait for minutes", async () => {
      const namespaces = topology();
      const box = await Box.start(namespaces, "box", { ports: BOTH_PORTS, work: "record", timeoutUs: 600_000_000 });
      expect(await box.returns()).toBe(0);
      box.wake();
      await until(
        () => box.returns(),
        (returns) => returns === 1,
      );
      // Stopping needs the next one.
      await box.stop();
    });

    test("a receive with a spin budget delivers as well and ends by its time-out", async () => {
      const namespaces = topology();
      const box = await Box.start(namespaces, "box", { ...FORWARD, spinUs: 200, timeoutUs: 1000 });
      const frames = Array.from({ length: 300 }, (_, i) => datagram(64 + i, i));
      const arrived = await sniff(namespaces, "server", "s0", frames.length);
      await sendFrom(namespaces, "client", "c0", frames);
      expect(await arrived()).toEqual(frames.map(forwarded));
      const returns = await box.returns();
      await until(
        () => box.returns(),
        (now) => now > returns + 3,
      );
      await box.stop();
    });

    test("more ports than are tried one by one work alike", async () => {
      const namespaces = topology();
      const more = [0, 1, 2, 3].map((i) => {
        namespaces.cable(
          { namespace: "client", name: `e${i}`, mac: `02:00:5e:00:01:0${i}` },
          { namespace: "box", name: `f${i}`, mac: `02:00:5e:00:02:0${i}` },
        );
        return packetPort(`f${i}`);
      });
      const box = await Box.start(namespaces, "box", {
        ports: [...BOTH_PORTS, ...more],
        work: "record",
        timeoutUs: 600_000_000,
      });
      for (const i of [3, 0]) {
        const frame = datagram(80, i, { destination: `02:00:5e:00:02:0${i}` });
        await sendFrom(namespaces, "client", `e${i}`, [frame]);
        expect(await box.frames(1)).toMatchObject([{ port: 2 + i, hex: toHex(frame) }]);
      }
      await box.stop();
    });

    test("opening says what is wrong and what to do", async () => {
      const namespaces = topology();
      const start = (name: string, ...wrapper: string[]) =>
        Box.start(namespaces, "box", { ports: [packetPort(name)], work: "record" }, ...wrapper);
      await expect(start("b7")).rejects.toThrow(
        "cannot open interface b7: there is no such interface; 'ip link' lists those that there are",
      );
      await expect(start("lo")).rejects.toThrow(
        "cannot open interface lo: it is not an Ethernet interface, which '--io packet' needs; name others with --dev, or use '--io tun'",
      );
      await expect(start("b0", "setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw")).rejects.toThrow(
        "cannot open interface b0: packet sockets need CAP_NET_RAW; run as root, or start the container with --cap-add NET_RAW,NET_ADMIN",
      );
      await expect(start("interface-name-too-long")).rejects.toThrow("an interface name has 1 to 15 characters");
    });
  },
);
