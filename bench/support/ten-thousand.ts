/** A table at the limits that are promised: 10,000 rules over 1,000 VIPs, ten of them with 1,000 servers each. */
import type { ImageRule, ImageServer, TableImage } from "../../src/engine/engine.ts";

export const RULES = 10_000;
export const VIPS = 1000;
const LARGE_RULES = 10;
const LARGE_GROUP = 1000;
const GROUPS = 100;
const GROUP_SIZE = 10;
export const FIRST_VIP = 0xc6120000; // 198.18.0.0/15, RFC 2544
const FIRST_SERVER = 0x0a000000;
const PORTS_OF_RULE = 5;

const address = (value: number) => ({ family: 4 as const, value: BigInt(value >>> 0) });

/** First port of rule `index`; it has the four behind it too. */
export const portOf = (index: number): number => 1000 + Math.floor(index / VIPS) * 10;

/** Servers 0..999 are the large group, then the small ones. */
function servers(): ImageServer[] {
  return Array.from({ length: LARGE_GROUP + GROUPS * GROUP_SIZE }, (_, index) => ({
    id: index + 1,
    address: address(FIRST_SERVER + index),
    ports: null,
    nextHop: 0,
  }));
}

function ruleOf(index: number): ImageRule {
  const isLarge = index < LARGE_RULES;
  const first = isLarge ? 0 : LARGE_GROUP + (index % GROUPS) * GROUP_SIZE;
  const ports = { min: portOf(index), max: portOf(index) + PORTS_OF_RULE - 1 };
  return {
    id: index + 1,
    slot: index,
    vip: address(FIRST_VIP + (index % VIPS)),
    vipIsLocal: false,
    protocol: "udp",
    ports,
    type: "HALF-NAT",
    algorithm: "hash-ip-port",
    proxySource: null,
    stickyMask: null,
    natTimeoutMs: 600_000,
    persistTimeoutMs: 0,
    enabled: true,
    sequence: index,
    members: Array.from({ length: isLarge ? LARGE_GROUP : GROUP_SIZE }, (_, place) => ({
      server: first + place,
      insertSequence: place,
      enabledSequence: place,
    })),
  };
}

/** Images that differ in nothing but their generation. */
export function tenThousandRules(): (generation: number) => TableImage {
  const rules = Array.from({ length: RULES }, (_, index) => ruleOf(index));
  const all = servers();
  const entries = rules.flatMap((rule) => [
    { match: "destination" as const, address: rule.vip, protocol: rule.protocol, ports: rule.ports },
    ...(rule.id > GROUPS
      ? []
      : rule.members.map(({ server }) => {
          return {
            match: "source" as const,
            address: all[server]!.address,
            protocol: rule.protocol,
            ports: rule.ports,
          };
        })),
  ]);
  const interest = {
    entries,
    vips: rules.slice(0, VIPS).map((rule) => rule.vip),
    servers: all.map((server) => server.address),
    proxies: [],
    own: [],
  };
  return (generation) => ({ generation, servers: all, rules, drains: [], interest });
}
