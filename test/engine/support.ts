/** A small world for tests that look inside the engine: one half-NAT or NAT UDP rule, raw descriptors and frames. */
import type { ImageRule, TableImage } from "../../src/engine/engine.ts";
import { EngineHost, fixedHashKey } from "../../src/engine/host.ts";
import { ip, mac } from "../support/addresses.ts";
import { ETHERTYPE_IPV4, ethernet, icmp4, ipv4, PROTOCOL_ICMP, PROTOCOL_UDP, udp } from "../support/packet-builder.ts";
import { MODULE_BYTES } from "../support/wasm-engine.ts";

export const LIMITS = { maxFlows: 1024, maxRules: 16, maxPairs: 64, maxSticky: 64 };
export const VIP = ip("198.51.100.10");
export const SERVER = ip("192.0.2.10");
const BOX = mac("02:00:00:00:00:01");
const PEER = mac("02:0c:00:00:00:01");

export function makeHost(limits = LIMITS, workers = 1): EngineHost {
  const host = EngineHost.create({ limits, workers, hashKey: fixedHashKey(), moduleBytes: MODULE_BYTES });
  host.setPort(0, { kind: "ethernet", mac: BOX, mtu: 1500, address4: ip("203.0.113.254"), address6: null });
  host.setNextHop(0, { state: "resolved", port: 0, destinationMac: PEER, sourceMac: BOX, mtu: 1500 });
  return host;
}

export function imageOfRule(generation: number, rule: Partial<ImageRule> = {}): TableImage {
  return {
    generation,
    servers: [{ id: 7, address: SERVER, ports: { min: 5300, max: 5300 }, nextHop: 0 }],
    rules: [
      {
        id: 1,
        slot: 0,
        vip: VIP,
        vipIsLocal: false,
        protocol: "udp",
        ports: { min: 53, max: 53 },
        type: "HALF-NAT",
        algorithm: "roundrobin",
        proxySource: null,
        stickyMask: null,
        natTimeoutMs: 60_000,
        persistTimeoutMs: 60_000,
        enabled: true,
        sequence: 1,
        members: [{ server: 0, insertSequence: 1, enabledSequence: 1 }],
        ...rule,
      },
    ],
    drains: [],
    interest: { entries: [], vips: [VIP], servers: [SERVER], proxies: [], own: [] },
  };
}

export const clientAddress = (flow: number) => ({
  family: 4 as const,
  value: ip("203.0.113.1").value + BigInt(flow % 200),
});
export const clientPort = (flow: number) => 1024 + Math.floor(flow / 200);
/** Both ends of a request of the flow. */
export const requestEnds = (flow: number) => ({
  source: clientAddress(flow),
  sourcePort: clientPort(flow),
  destination: VIP,
  destinationPort: 53,
});

export function requestOf(flow: number): Uint8Array {
  const ends = requestEnds(flow);
  const payload = udp({ ...ends, payload: new Uint8Array(4) }, ends);
  return ethernet({
    destination: BOX,
    source: PEER,
    etherType: ETHERTYPE_IPV4,
    payload: ipv4({ ...ends, protocol: PROTOCOL_UDP, payload }),
  });
}

/** The router tells the client that the server's port is not there (RFC 792: type 3, code 3). */
export function refusalOf(flow: number): Uint8Array {
  const ends = { source: clientAddress(flow), destination: SERVER };
  const datagram = udp({ sourcePort: clientPort(flow), destinationPort: 5300, payload: new Uint8Array(4) }, ends);
  const quoted = ipv4({ ...ends, protocol: PROTOCOL_UDP, payload: datagram });
  const message = icmp4({ type: 3, code: 3, payload: quoted });
  return ethernet({
    destination: BOX,
    source: PEER,
    etherType: ETHERTYPE_IPV4,
    payload: ipv4({ source: SERVER, destination: clientAddress(flow), protocol: PROTOCOL_ICMP, payload: message }),
  });
}

export function answerOf(flow: number): Uint8Array {
  const ends = { source: SERVER, destination: clientAddress(flow) };
  const payload = udp({ sourcePort: 5300, destinationPort: clientPort(flow), payload: new Uint8Array(4) }, ends);
  return ethernet({
    destination: BOX,
    source: PEER,
    etherType: ETHERTYPE_IPV4,
    payload: ipv4({ ...ends, protocol: PROTOCOL_UDP, payload }),
  });
}
