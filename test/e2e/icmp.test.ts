/**
 * Ping and traceroute to a VIP, and what the box itself says of packets that it cannot pass on: from which address, with
 * which quotation, and how often.
 */
import { describe, expect, test } from "bun:test";
import type { Lab } from "../../src/lab/lab.ts";
import { TRANSIT } from "../../src/lab/routed.ts";
import { ADDRESSES, type AddressPlan, type Family } from "../../src/lab/topology.ts";
import { hasNamespaces } from "../support/capabilities.ts";
import { sumIsValid } from "../support/checksum.ts";
import {
  createRule,
  FAMILIES,
  labOptionsFor,
  PROTOCOLS,
  serverPortOf,
  sharedLab,
  TEST_TIMEOUT_MS,
  TYPES,
  targetOf,
  VIP_PORT,
  vipOf,
  withLab,
} from "../support/e2e.ts";
import { type Probe, type ProbeAnswer, probe } from "../support/wire.ts";

/** RFC 1191 and 1812 for IPv4, RFC 4443 for IPv6. */
const ERRORS = {
  4: { tooBig: { type: 3, code: 4 }, timeExceeded: { type: 11, code: 0 }, quotedBytes: 548 },
  6: { tooBig: { type: 2, code: 0 }, timeExceeded: { type: 3, code: 0 }, quotedBytes: 1_232 },
} as const;

/** The box's link to the servers, narrower than the client's. */
const NARROW_MTU = 1_280;

const families = FAMILIES.map((family) => ({ family, addresses: ADDRESSES[family] }));

/** An error that the box sent to the client about this very probe. */
function expectBoxError(
  answer: ProbeAnswer | undefined,
  family: Family,
  wanted: { readonly type: number; readonly code: number; readonly mtu?: number },
): void {
  const { quotedBytes } = ERRORS[family];
  const { boxFront } = ADDRESSES[family];
  const quote = answer?.sent.slice(0, 2 * quotedBytes) ?? "";
  expect(answer).toMatchObject({ ...wanted, kind: "error", from: boxFront, quote, quoteSummed: true });
}

describe.each(TYPES.map((type) => ({ type })))("$type", ({ type }) => {
  const shared = sharedLab(hasNamespaces, labOptionsFor(type, ...FAMILIES), async (lab) => {
    const { box, lan } = lab.names;
    await lab.must(box, ["ip", "link", "set", "back", "mtu", String(NARROW_MTU)]);
    await lab.must(lan, ["ip", "link", "set", "to-box", "mtu", String(NARROW_MTU)]);
    await lab.startServers(serverPortOf(type));
    await lab.startDaemon();
    for (const { family, addresses } of families) {
      for (const protocol of PROTOCOLS) {
        const name = `${protocol}${family}`;
        await createRule(lab, type, protocol, { addresses, rule: name, group: name });
      }
    }
  });
  /** First answer to each. */
  const ask = async (addresses: AddressPlan, probes: readonly Pick<Probe, "kind" | "ttl" | "bytes">[]) => {
    const lab = shared();
    const base = { host: vipOf(lab, addresses), port: VIP_PORT, source: addresses.client(0) };
    const probed = await probe(
      lab,
      probes.map((one) => ({ ...base, ...one })),
    );
    return probed.map(({ answers }) => answers[0]);
  };

  test.skipIf(!hasNamespaces).each(families)(
    "IPv$family: TTL 1 shows the box as the first hop, with the packet as it came in its quotation, and TTL 2 reaches the server",
    async ({ family, addresses }) => {
      const { timeExceeded } = ERRORS[family];
      // Of the errors one quotes its packet whole, the other one cuts it.
      const steps = PROTOCOLS.flatMap((kind) => [
        { kind, ttl: 1, bytes: 100 },
        { kind, ttl: 1, bytes: NARROW_MTU },
        { kind, ttl: 2, bytes: 100 },
      ]);
      const answers = await ask(addresses, steps);
      expect(answers).toHaveLength(steps.length);
      for (const [index, { ttl }] of steps.entries()) {
        if (ttl === 1) expectBoxError(answers[index], family, timeExceeded);
        else expect(answers[index]).toMatchObject({ kind: "answer", from: vipOf(shared(), addresses) });
      }
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!hasNamespaces).each(families)(
    "IPv$family: an echo request with TTL 1 is answered by the VIP, which is at home on the box",
    async ({ family, addresses }) => {
      const [answer] = await ask(addresses, [{ kind: "echo", ttl: 1, bytes: 84 }]);
      const type = family === 4 ? 0 : 129;
      expect(answer).toMatchObject({ kind: "answer", type, code: 0, from: vipOf(shared(), addresses) });
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!hasNamespaces).each(families)(
    "IPv$family: a packet too big for the way to the server is answered with its MTU and quoted, and one that fits passes",
    async ({ family, addresses }) => {
      const tooBig = { ...ERRORS[family].tooBig, mtu: NARROW_MTU };
      const steps = PROTOCOLS.flatMap((kind) => [
        { kind, ttl: 64, bytes: NARROW_MTU + 1 },
        { kind, ttl: 64, bytes: 1_500 },
      ]);
      const answers = await ask(addresses, [...steps, { kind: "tcp", ttl: 64, bytes: NARROW_MTU }]);
      const fits = answers.pop();
      expect(answers).toHaveLength(steps.length);
      for (const answer of answers) expectBoxError(answer, family, tooBig);
      expect(fits).toMatchObject({ kind: "answer", from: vipOf(shared(), addresses) });
    },
    TEST_TIMEOUT_MS,
  );

  // The same bucket whatever the type.
  if (type !== "HALF-NAT") return;
  test.skipIf(!hasNamespaces).each(families)(
    "IPv$family: of many such packets at once no more are answered than 64 and one more per 10 ms",
    async ({ addresses }) => {
      const lab = shared();
      const base = { host: vipOf(lab, addresses), port: VIP_PORT, source: addresses.client(0) };
      const count = 1_000;
      const [probed] = await probe(lab, [{ ...base, kind: "udp", ttl: 1, bytes: 100, count }]);
      const { answers = [], tookMs = 0 } = probed ?? {};
      expect(answers.length).toBeGreaterThan(0);
      expect(answers.length).toBeLessThanOrEqual(65 + tookMs / 10);
      expect(answers.length).toBeLessThan(count);
    },
    TEST_TIMEOUT_MS,
  );
});

/** A packet without what every router changes: TTL, and the sum over it. */
function withoutTtl(hex: string, family: Family): string {
  const bytes = Buffer.from(hex, "hex");
  if (family === 4) bytes.fill(0, 8, 9).fill(0, 10, 12);
  else bytes.fill(0, 7, 8);
  return bytes.toString("hex");
}

const TRANSLATING = [{ type: "NAT" }, { type: "HALF-NAT" }] as const;

describe.each(TRANSLATING)("traceroute through routers on both sides of the box, $type", ({ type }) => {
  const options = { ...labOptionsFor(type, ...FAMILIES), topology: "routed", servers: 1 } as const;
  const shared = sharedLab(hasNamespaces, options, async (lab) => {
    await lab.startServers(serverPortOf(type));
    await lab.startDaemon();
    for (const protocol of PROTOCOLS) {
      for (const { family, addresses } of families) {
        const name = `${protocol}${family}`;
        await createRule(lab, type, protocol, { addresses, rule: name, group: name });
      }
    }
  });

  test.skipIf(!hasNamespaces).each(families)(
    "IPv$family: shows the near router, the box and the VIP twice, and a router behind the box quotes what the client sent",
    async ({ family, addresses }) => {
      const host = vipOf(shared(), addresses);
      for (const kind of PROTOCOLS) {
        const base = { kind, host, port: VIP_PORT, source: addresses.client(0), bytes: 200 };
        const hops = await probe(
          shared(),
          [4, 1, 2, 3].map((ttl) => ({ ...base, ttl })),
        );
        const [server, near, box, far] = hops.map(({ answers }) => answers[0]);
        expect(server).toMatchObject({ kind: "answer", from: host });
        const { timeExceeded } = ERRORS[family];
        expect(near).toMatchObject({ ...timeExceeded, from: addresses.boxFront });
        expect(box).toMatchObject({ ...timeExceeded, from: TRANSIT[family].boxFront });
        expect(far).toMatchObject({ ...timeExceeded, from: host, quoteSummed: true });
        const quote = Buffer.from(far?.quote ?? "", "hex");
        if (family === 4) expect(sumIsValid(quote.subarray(0, 20))).toBe(true);
        expect(withoutTtl(far?.quote ?? "", family)).toBe(withoutTtl(far?.sent ?? "", family));
      }
    },
    TEST_TIMEOUT_MS,
  );
});

/** How many of three echo requests with this many bytes of payload are answered. */
async function pings(lab: Lab, address: string, bytes: number): Promise<number> {
  const words = ["-n", "-c", "3", "-i", "0.05", "-W", "20", "-s", String(bytes), address];
  const said = await lab.exec(lab.names.client, ["ping", ...words]);
  return Number(/(\d+) received/.exec(said.stdout)?.[1] ?? 0);
}

describe.each([
  { where: "that belongs to no interface", topology: "two-armed" },
  { where: "that is the box's own address", topology: "one-armed" },
] as const)("ping to a VIP $where", ({ topology }) => {
  test.skipIf(!hasNamespaces).each(families)(
    "IPv$family: is answered whatever its size, in fragments too",
    async ({ family }) => {
      await withLab({ topology, families: [family], servers: 1 }, async (lab) => {
        await lab.startDaemon();
        await createRule(lab, "HALF-NAT", "tcp");
        const { host } = targetOf(lab);
        for (const bytes of [0, 56, 1_400, 4_000])
          expect({ bytes, answered: await pings(lab, host, bytes) }).toEqual({ bytes, answered: 3 });
      });
    },
    TEST_TIMEOUT_MS,
  );
});
