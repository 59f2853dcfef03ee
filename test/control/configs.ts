/** Small configurations for control tests. Addresses from RFC 5737. */
import type { Address } from "../../src/model/address.ts";
import type { Config, Rule, Server, ServerGroup } from "../../src/model/config.ts";
import { EMPTY_CONFIG } from "../../src/model/config.ts";

export function v4(text: string): Address {
  const value = text.split(".").reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  return { family: 4, value };
}

export const server = (id: number, number: number, address: string, extra: Partial<Server> = {}): Server => ({
  id,
  number,
  address: v4(address),
  ports: null,
  enabled: true,
  ...extra,
});

export const group = (id: number, name: string, servers: Server[], lastNumber = 0): ServerGroup => ({
  id,
  name,
  lastNumber,
  servers,
});

export const rule = (id: number, name: string, groupId: number, extra: Partial<Rule> = {}): Rule => ({
  id,
  name,
  enabled: true,
  vip: v4("198.51.100.10"),
  protocol: "tcp",
  ports: { min: 80, max: 80 },
  algorithm: "roundrobin",
  type: "HALF-NAT",
  proxySource: null,
  stickyMask: null,
  groupId,
  healthCheckId: null,
  healthCheckPort: null,
  connDrainSeconds: 0,
  natTimeoutSeconds: 0,
  persistTimeoutSeconds: 0,
  forced: false,
  ...extra,
});

export const config = (parts: Partial<Config>): Config => ({ ...EMPTY_CONFIG, nextId: 1000, ...parts });

/** One group of three servers (.10 to .12, ids 2 to 4) under one HALF-NAT rule (id 5). */
export function threeServers(): Config {
  return config({
    groups: [group(1, "sg1", [server(2, 0, "192.0.2.10"), server(3, 1, "192.0.2.11"), server(4, 2, "192.0.2.12")], 2)],
    rules: [rule(5, "r1", 1)],
  });
}
