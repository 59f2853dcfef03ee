/** The interest set as a pure function of the rules. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type InterestRule, interestOf } from "../../src/control/interest.ts";
import type { Interest } from "../../src/engine/engine.ts";
import type { Address } from "../../src/model/address.ts";
import type { PortRange } from "../../src/model/config.ts";
import { addressText, ip } from "../support/addresses.ts";
import { propertySeed } from "../support/random.ts";

/** Every port that the random rules can name, and the edges of the proxy ports. */
const SAMPLE = [...Array.from({ length: 52 }, (_, port) => port), 4095, 4096, 40000, 65534, 65535];

const rule = (change: Partial<InterestRule> = {}): InterestRule => ({
  vip: ip("203.0.113.10"),
  protocol: "tcp",
  ports: { min: 80, max: 80 },
  type: "HALF-NAT",
  proxySource: null,
  servers: [{ address: ip("192.0.2.1"), ports: null }],
  ...change,
});
/** One line per entry, for people. */
const lines = (interest: Interest) =>
  interest.entries.map(
    ({ match, address, protocol, ports }) => `${match} ${addressText(address)} ${protocol} ${ports.min}-${ports.max}`,
  );

describe("interest set", () => {
  test("a half-NAT rule wants packets to its VIP and from its servers' ports", () => {
    const interest = interestOf([
      rule({
        servers: [
          { address: ip("192.0.2.1"), ports: null },
          { address: ip("192.0.2.2"), ports: { min: 8080, max: 8080 } },
        ],
      }),
    ]);
    expect(lines(interest)).toEqual([
      "destination 203.0.113.10 tcp 80-80",
      "source 192.0.2.1 tcp 80-80",
      "source 192.0.2.2 tcp 8080-8080",
    ]);
    expect(interest.vips.map(addressText)).toEqual(["203.0.113.10"]);
    expect(interest.servers.map(addressText)).toEqual(["192.0.2.1", "192.0.2.2"]);
    expect(interest.proxies).toEqual([]);
  });

  test("a DSR rule wants nothing from its servers", () => {
    const interest = interestOf([rule({ type: "DSR" })]);
    expect(lines(interest)).toEqual(["destination 203.0.113.10 tcp 80-80"]);
    expect(interest.servers).toEqual([]);
  });

  test("a full NAT rule wants the proxy ports of every proxy address, in its protocol", () => {
    const interest = interestOf([
      rule({ type: "NAT", protocol: "udp", proxySource: { first: ip("198.51.100.1"), last: ip("198.51.100.2") } }),
    ]);
    expect(lines(interest)).toEqual([
      "destination 198.51.100.1 udp 4096-65534",
      "destination 198.51.100.2 udp 4096-65534",
      "destination 203.0.113.10 udp 80-80",
      "source 192.0.2.1 udp 80-80",
    ]);
    expect(interest.proxies.map(addressText)).toEqual(["198.51.100.1", "198.51.100.2"]);
  });

  test("rules that share VIP and servers share entries; neighbouring ports become one range", () => {
    const interest = interestOf([
      rule(),
      rule({ ports: { min: 81, max: 90 } }),
      rule({ ports: { min: 85, max: 100 } }),
      rule({ ports: { min: 443, max: 443 } }),
    ]);
    expect(lines(interest)).toEqual([
      "destination 203.0.113.10 tcp 80-100",
      "destination 203.0.113.10 tcp 443-443",
      "source 192.0.2.1 tcp 80-100",
      "source 192.0.2.1 tcp 443-443",
    ]);
  });

  test("a VIP that is its own proxy address has its ports and the proxy ports", () => {
    const vip = ip("203.0.113.10");
    const interest = interestOf([
      rule({ type: "NAT", proxySource: { first: vip, last: vip }, ports: { min: 4090, max: 4095 } }),
    ]);
    expect(lines(interest)[0]).toBe("destination 203.0.113.10 tcp 4090-65534");
  });

  test("no rules, no interest", () => {
    expect(interestOf([])).toEqual({ entries: [], vips: [], servers: [], proxies: [], own: [] });
  });

  const address = fc.constantFrom("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2").map(ip);
  const ports = fc
    .tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 9 }))
    .map(([min, more]) => ({ min, max: min + more }));
  const anyRule: fc.Arbitrary<InterestRule> = fc.record({
    vip: address,
    protocol: fc.constantFrom("tcp", "udp"),
    ports,
    type: fc.constantFrom("DSR", "NAT", "HALF-NAT"),
    proxySource: fc.option(address.map((first) => ({ first, last: first }))),
    servers: fc.array(fc.record({ address, ports: fc.option(ports) }), { maxLength: 3 }),
  });

  test("any rules: entries cover exactly what each rule wants, without overlap, whatever the order of the rules", () => {
    const seed = propertySeed();
    console.log(`seed ${seed} (repeat with ILB_SEED)`);
    fc.assert(
      fc.property(fc.array(anyRule, { maxLength: 6 }), (rules) => {
        const { entries } = interestOf(rules);
        const keyOf = (match: string, at: Address, protocol: string) => `${match} ${addressText(at)} ${protocol}`;
        const within = (ports: PortRange, port: number) => ports.min <= port && port <= ports.max;
        entries.forEach((entry, i) => {
          const before = entries[i - 1];
          const isSame =
            before &&
            keyOf(before.match, before.address, before.protocol) === keyOf(entry.match, entry.address, entry.protocol);
          if (isSame) expect(before.ports.max + 1).toBeLessThan(entry.ports.min);
        });
        const covered = new Set<string>();
        const wanted = new Set<string>();
        for (const port of SAMPLE) {
          for (const { match, address: at, protocol, ports: range } of entries)
            if (within(range, port)) covered.add(`${keyOf(match, at, protocol)} ${port}`);
          for (const { vip, protocol, ports: own, type, proxySource, servers } of rules) {
            if (within(own, port)) wanted.add(`${keyOf("destination", vip, protocol)} ${port}`);
            if (proxySource && port >= 4096 && port <= 65534)
              wanted.add(`${keyOf("destination", proxySource.first, protocol)} ${port}`);
            for (const server of type === "DSR" ? [] : servers)
              if (within(server.ports ?? own, port)) wanted.add(`${keyOf("source", server.address, protocol)} ${port}`);
          }
        }
        expect(covered).toEqual(wanted);
        expect(interestOf([...rules].reverse())).toEqual(interestOf(rules));
      }),
      { seed, numRuns: 150 },
    );
  });
});
