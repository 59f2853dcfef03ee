/** The tables of the warm-up: a rule of each type and kind in both families and protocols, and a flow policy. */
import type { ImageRule, TableImage } from "./engine.ts";
import type { PolicyTables } from "./policy.ts";
import { addressOf, CLIENT, PORT, PROXY, SERVER, VIP } from "./warm-up-packets.ts";

const FAMILIES = [4, 6] as const;
const IDLE_MS = 60_000;

/** What rules differ in, by their port. */
const KINDS: Readonly<Record<keyof typeof PORT, Partial<ImageRule>>> = {
  halfNat: { type: "HALF-NAT" },
  nat: { type: "NAT" },
  dsr: { type: "DSR" },
  sticky: { type: "NAT", stickyMask: 32 },
  hashed: { type: "HALF-NAT", algorithm: "hash-ip-port" },
  disabled: { type: "HALF-NAT", enabled: false },
  empty: { type: "HALF-NAT", members: [] },
};

/** How many rules images have. */
export const RULES = Object.keys(KINDS).length * FAMILIES.length * 2;

/** @param generation 1.. @param policy null: none is in force */
export function warmUpImage(generation: number, policy: PolicyTables | null): TableImage {
  const kinds = Object.entries(KINDS) as [keyof typeof PORT, Partial<ImageRule>][];
  const rules = FAMILIES.flatMap((family, server) =>
    (["udp", "tcp"] as const).flatMap((protocol) =>
      kinds.map(([name, kind]) => ({ family, server, protocol, name, kind })),
    ),
  );
  return {
    generation,
    servers: FAMILIES.map((family, index) => ({
      id: index + 1,
      address: addressOf(family, SERVER),
      ports: null,
      nextHop: 0,
    })),
    rules: rules.map(({ family, server, protocol, name, kind }, index): ImageRule => {
      const rule = {
        id: index + 1,
        slot: index,
        vip: addressOf(family, VIP),
        vipIsLocal: false,
        protocol,
        ports: { min: PORT[name], max: PORT[name] },
        type: "HALF-NAT",
        algorithm: "roundrobin",
        proxySource: null,
        stickyMask: null,
        natTimeoutMs: IDLE_MS,
        persistTimeoutMs: IDLE_MS,
        enabled: true,
        sequence: index,
        members: [{ server, insertSequence: 1, enabledSequence: 1 }],
        ...kind,
      } as const;
      if (rule.type !== "NAT") return rule;
      return { ...rule, proxySource: { first: addressOf(family, PROXY), last: addressOf(family, PROXY + 1) } };
    }),
    drains: [],
    interest: {
      entries: [],
      vips: FAMILIES.map((family) => addressOf(family, VIP)),
      servers: FAMILIES.map((family) => addressOf(family, SERVER)),
      proxies: FAMILIES.flatMap((family) => [addressOf(family, PROXY), addressOf(family, PROXY + 1)]),
      own: [],
    },
    ...(policy && { policy }),
  };
}

/** The client may open what everyday traffic opens, and nothing else; strangers are not bound. */
export const WARM_UP_POLICY: PolicyTables = {
  mode: "monitor",
  outside: "pass",
  sourcePorts: "any",
  hosts: FAMILIES.flatMap((family) =>
    [CLIENT, SERVER, VIP].map((value, index) => ({
      prefix: addressOf(family, value),
      bits: family === 6 ? 128 : 32,
      kind: index === 0 ? 1 : 2,
    })),
  ),
  classCount: 2,
  pairs: [
    {
      from: 1,
      to: 2,
      flows: (["tcp", "udp"] as const).map((protocol, flow) => ({
        flow,
        protocol,
        ports: { min: PORT.halfNat, max: PORT.dsr },
      })),
    },
  ],
};
