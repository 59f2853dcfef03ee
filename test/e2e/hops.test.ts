/**
 * The box is one hop, whatever way a packet takes through it: with the tun device the kernel steps TTL and hop limit
 * twice, and what is written into the TUN gets one back.
 */
import { describe, expect, test } from "bun:test";
import type { Lab } from "../../src/lab/lab.ts";
import type { Family } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun, isFullRun } from "../support/capabilities.ts";
import {
  captureAround,
  DEVICES,
  FAMILIES,
  labOptionsFor,
  serverPortOf,
  startBalancing,
  TEST_TIMEOUT_MS,
  TYPES,
  targetOf,
  vipOf,
  withLab,
} from "../support/e2e.ts";

/** How many errors about a hop limit the client's kernel has received. */
async function timesExceeded(lab: Lab, family: Family): Promise<number> {
  const read = (file: string) => lab.must(lab.names.client, ["cat", `/proc/net/${file}`]);
  if (family === 6) return Number(/^Icmp6InTimeExcds\s+(\d+)$/m.exec(await read("snmp6"))?.[1]);
  const [names = "", values = ""] = (await read("snmp")).split("\n").filter((line) => line.startsWith("Icmp: "));
  return Number(values.split(" ")[names.split(" ").indexOf("InTimeExcds")]);
}

describe.each(DEVICES.map((io) => ({ io })))("over the $io device", ({ io }) => {
  const isPossible = io === "tun" ? hasTun : hasNamespaces;
  // The engine steps what the packet device carries, by one piece of code for all types.
  const types = io === "tun" || isFullRun ? TYPES : (["HALF-NAT"] as const);
  const cases = FAMILIES.flatMap((family) => types.map((type) => ({ family, type })));

  test.skipIf(!isPossible).each(cases)(
    "$type over IPv$family: two hops are enough to reach a server, and one is not: the box says so, once",
    async ({ family, type }) => {
      await withLab({ servers: 1, ...labOptionsFor(type, family) }, async (lab) => {
        await startBalancing(lab, type, "tcp", { io });
        const { names, addresses } = lab;
        const [server = ""] = names.servers;
        const allow = (hops: number) => {
          const route = [`${vipOf(lab)}/${addresses.hostBits}`, "via", addresses.boxFront, "hoplimit", `${hops}`];
          return lab.must(names.client, ["ip", "route", "replace", ...route]);
        };

        await allow(2);
        const [atServer = []] = await captureAround(lab, [[server, "eth0"]], async () => {
          const requests = { kind: "requests", ...targetOf(lab), count: 4, concurrency: 2 } as const;
          expect(await lab.client(requests)).toMatchObject({ answered: { s1: 4 }, failures: [] });
        });
        const arrived = atServer.filter(
          ({ protocol, destinationPort }) => protocol === "tcp" && destinationPort === serverPortOf(type),
        );
        expect(new Set(arrived.map(({ ttl }) => ttl))).toEqual(new Set([1]));

        await allow(1);
        const ports = [
          [names.client, "eth0"],
          [server, "eth0"],
        ] as const;
        const [atClient = [], beyond = []] = await captureAround(lab, ports, async () => {
          const url = `http://${family === 6 ? `[${vipOf(lab)}]` : vipOf(lab)}/`;
          // Shorter than the first repetition of an opening.
          expect((await lab.exec(names.client, ["curl", "-s", "--max-time", "0.5", url])).exitCode).not.toBe(0);
          while ((await timesExceeded(lab, family)) === 0) await Bun.sleep(20);
        });
        const [exceeded, protocol] = family === 6 ? [3, "icmpv6"] : [11, "icmp"];
        const told = atClient.filter((packet) => packet.protocol === protocol && packet.icmpType === exceeded);
        // One opening, unless the machine was so busy that there was time for another.
        const openings = atClient.filter(({ isSyn, destination }) => isSyn && destination === vipOf(lab));
        expect(told.map(({ source }) => source)).toEqual(openings.map(() => addresses.boxFront));
        expect(beyond.filter((packet) => packet.protocol === "tcp")).toEqual([]);
      });
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!isPossible).each(FAMILIES.map((family) => ({ family })))(
    "IPv$family: a server's packet that belongs to no connection is one hop older behind the box too",
    async ({ family }) => {
      await withLab({ servers: 1, families: [family] }, async (lab) => {
        await startBalancing(lab, "HALF-NAT", "tcp", { io });
        const { names, addresses } = lab;
        const [seen = []] = await captureAround(lab, [[names.client, "eth0"]], async () => {
          const direct = {
            kind: "requests",
            host: addresses.server(0),
            port: serverPortOf("HALF-NAT"),
            from: lab.clientAddresses,
          } as const;
          const result = await lab.client({ ...direct, count: 2, concurrency: 1, timeoutMs: 10_000 });
          expect(result).toMatchObject({ answered: { s1: 2 }, failures: [] });
        });
        const answers = seen.filter(({ source, protocol }) => source === addresses.server(0) && protocol === "tcp");
        expect(new Set(answers.map(({ ttl }) => ttl))).toEqual(new Set([63]));
      });
    },
    TEST_TIMEOUT_MS,
  );
});
