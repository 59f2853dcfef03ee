/**
 * `--workers 2`: everything that one worker carries, with both at work and frames handed over between them.
 */
import { describe, expect, test } from "bun:test";
import type { Lab } from "../../src/lab/lab.ts";
import { withPort } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import {
  captureAround,
  createRule,
  DEVICES,
  expectAllServed,
  expectNothingAnsweredTwice,
  FAMILIES,
  labOptionsFor,
  MANY_SOCKETS,
  serverPortOf,
  TEST_TIMEOUT_MS,
  TYPES,
  targetOf,
  tracesOf,
  vipOf,
  withLab,
} from "../support/e2e.ts";

const TWO = ["--workers", "2"] as const;
const REQUESTS = 160;
const DATAGRAMS = 240;
/** Longer than a link carries, so each leaves in three fragments. */
const LARGE_DATAGRAM_BYTES = 4_000;

/** A figure of each worker, by its number. */
async function figures(lab: Lab, name: string): Promise<number[]> {
  const text = await (await fetch("http://ilbd/metrics", { unix: lab.socket })).text();
  const lines = text.split("\n").filter((line) => line.startsWith(`${name}{worker=`));
  return lines.map((line) => Number(line.slice(line.lastIndexOf(" "))));
}

/** Packets by reason. */
async function packetsBy(lab: Lab, reason: string): Promise<number> {
  const text = await (await fetch("http://ilbd/metrics", { unix: lab.socket })).text();
  const line = text
    .split("\n")
    .find((one) => one.startsWith("ilb_packets_total{") && one.includes(`reason="${reason}"`));
  return Number(line!.slice(line!.lastIndexOf(" ")));
}

describe.each(DEVICES.map((io) => ({ io })))("two workers over the $io device", ({ io }) => {
  const isPossible = io === "tun" ? hasTun : hasNamespaces;

  const cases = FAMILIES.flatMap((family) => TYPES.map((type) => ({ family, type })));
  test.skipIf(!isPossible).each(cases)(
    "$type carries TCP, UDP and fragments over IPv$family: all answered, no byte differs, nothing is answered twice, both work and hand over",
    async ({ family, type }) => {
      await withLab({ clientAddresses: 24, ...labOptionsFor(type, family) }, async (lab) => {
        await lab.startServers(serverPortOf(type));
        await lab.startDaemon({ io, extra: TWO });
        await createRule(lab, type, "tcp");
        await createRule(lab, type, "udp", { rule: "echo", group: "echo" });
        const target = targetOf(lab);
        const ports = type === "DSR" ? ["eth0", "lan0"] : ["eth0"];
        const captures = ports.map((port) => [lab.names.client, port] as const);
        const seen = await captureAround(lab, captures, async () => {
          const requests = await lab.client({ kind: "requests", ...target, count: REQUESTS, concurrency: 16 });
          expectAllServed(requests, REQUESTS, 3);
          const downloads = { kind: "downloads", ...target, count: 16, concurrency: 8, bytes: 2_000_001 } as const;
          expect((await lab.client(downloads)).failures).toEqual([]);
        });
        expectNothingAnsweredTwice(seen.flat(), vipOf(lab));
        for (const bytes of [1_200, LARGE_DATAGRAM_BYTES]) {
          const echoes = await lab.client({ kind: "udp", ...target, sockets: MANY_SOCKETS, count: DATAGRAMS, bytes });
          expectAllServed(echoes, DATAGRAMS, 3);
        }
        for (const packets of await figures(lab, "ilb_worker_packets_total")) expect(packets).toBeGreaterThan(20);
        const given = (await figures(lab, "ilb_worker_handed_over_total")).reduce((sum, count) => sum + count, 0);
        const taken = (await figures(lab, "ilb_worker_taken_over_total")).reduce((sum, count) => sum + count, 0);
        expect(given).toBeGreaterThan(0);
        expect(taken).toBe(given);
        expect(await packetsBy(lab, "hand-over-full")).toBe(0);
      });
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!isPossible)(
    "a sticky client stays with its server, and all clients of a sticky prefix share one",
    async () => {
      await withLab({ clientAddresses: 8 }, async (lab) => {
        await lab.startServers(serverPortOf("HALF-NAT"));
        await lab.startDaemon({ io, extra: TWO });
        const servers = lab.names.servers.map((_, index) =>
          withPort(lab.addresses.server(index), serverPortOf("HALF-NAT")),
        );
        await lab.configure("create-servergroup", "-s", `server=${servers.join(",")}`, "web");
        const rule = async (port: number, type: string, mask: string, name: string): Promise<void> => {
          const proxy = type === "nat" ? `,proxy-src=${lab.addresses.proxySources}` : "";
          await lab.configure(
            ...["create-rule", "-e", "-p", "-i", `vip=${vipOf(lab)},port=${port},protocol=tcp`],
            ...["-m", `lbalg=rr,type=${type}${proxy},pmask=${mask}`, "-o", "servergroup=web", name],
          );
        };
        await rule(80, "half-nat", "/32", "alone");
        await rule(81, "nat", "/24", "together");
        // Every connection takes a turn, also one whose client has a server: ten leave the next client another one of three.
        const askFrom = async (from: readonly string[], port: number): Promise<string[]> => {
          const target = { ...targetOf(lab), from, port };
          const { failures, answered } = await lab.client({ kind: "requests", ...target, count: 10, concurrency: 4 });
          expect(failures).toEqual([]);
          return Object.keys(answered);
        };
        const alone = new Set<string>();
        for (const client of lab.clientAddresses) {
          const answering = await askFrom([client], 80);
          expect(answering.length).toBe(1);
          alone.add(answering[0]!);
        }
        expect(alone.size).toBeGreaterThan(1);
        expect((await askFrom(lab.clientAddresses, 81)).length).toBe(1);
        const listed = (await lab.configure("show-persist")).trim().split("\n");
        expect(listed.filter((line) => /^together\b/.test(line)).length).toBe(1);
        expect(listed.filter((line) => /^alone\b/.test(line)).length).toBe(8);
      });
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!isPossible)(
    "stops and leaves the box as it was; killed and started again it serves at once",
    async () => {
      await withLab({ clientAddresses: 8 }, async (lab) => {
        const before = await tracesOf(lab);
        await lab.startServers(serverPortOf("NAT"));
        const first = await lab.startDaemon({ io, extra: TWO });
        await createRule(lab, "NAT", "tcp");
        const job = { kind: "requests", ...targetOf(lab), count: 60, concurrency: 6 } as const;
        expectAllServed(await lab.client(job), 60, 3);
        await first.stop("SIGKILL");
        const second = await lab.startDaemon({ io, extra: TWO });
        expectAllServed(await lab.client(job), 60, 3);
        expect(await second.stop("SIGTERM")).toBe(0);
        expect(await tracesOf(lab)).toEqual(before);
      });
    },
    TEST_TIMEOUT_MS,
  );
});
