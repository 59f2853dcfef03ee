/**
 * Starting, stopping, being killed and starting again: the box ends as it was, and traffic comes back at once.
 */
import { describe, expect, test } from "bun:test";
import { SERVER_PORT } from "../../src/lab/lab.ts";
import { ADDRESSES } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import {
  captureAround,
  createRule6,
  DEVICES,
  expectAllServed,
  labOptionsFor,
  startBalancing,
  TEST_TIMEOUT_MS,
  TYPES,
  targetOf,
  tracesOf,
  withLab,
} from "../support/e2e.ts";

describe.each(DEVICES.map((io) => ({ io })))("over the $io device", ({ io }) => {
  const isPossible = io === "tun" ? hasTun : hasNamespaces;

  test.skipIf(!isPossible).each(TYPES.map((type) => ({ type })))(
    "$type, both families: a stopped daemon leaves the box as it was, and a killed one after the next start and stop",
    async ({ type }) => {
      await withLab(labOptionsFor(type, 4, 6), async (lab) => {
        const before = await tracesOf(lab);
        const expectServed = async () => {
          for (const addresses of [ADDRESSES[4], ADDRESSES[6]]) {
            const target = targetOf(lab, addresses);
            expectAllServed(await lab.client({ kind: "requests", ...target, count: 60, concurrency: 4 }), 60, 3);
          }
        };
        const first = await startBalancing(lab, type, "tcp", { io });
        await createRule6(lab, type, "tcp");
        await expectServed();
        const running = await tracesOf(lab);
        expect(running).not.toEqual(before);
        expect(await first.stop("SIGTERM")).toBe(0);
        expect(await tracesOf(lab)).toEqual(before);

        const second = await lab.startDaemon({ io });
        await second.stop("SIGKILL");
        const third = await lab.startDaemon({ io });
        expect(await tracesOf(lab)).toEqual(running);
        await expectServed();
        expect(await third.stop("SIGINT")).toBe(0);
        expect(await tracesOf(lab)).toEqual(before);
      });
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!isPossible).each([
    { type: "NAT", signal: "SIGTERM", family: 4 },
    { type: "HALF-NAT", signal: "SIGTERM", family: 4 },
    { type: "HALF-NAT", signal: "SIGKILL", family: 4 },
    { type: "NAT", signal: "SIGKILL", family: 6 },
  ] as const)(
    "$type over IPv$family: after a restart under traffic ($signal) new connections succeed within a second, and none leaves untranslated",
    async ({ type, signal, family }) => {
      const { routedVip, server } = ADDRESSES[family];
      await withLab({ families: [family] }, async (lab) => {
        const first = await startBalancing(lab, type, "tcp", { io });
        const target = targetOf(lab);
        let readyMs = 0;
        const [atFront = [], atBack = []] = await captureAround(
          lab,
          [
            [lab.names.box, "front"],
            [lab.names.box, "back"],
          ],
          async () => {
            const load = lab.startLoad({ ...target, perSecond: 40, timeoutMs: 5_000 });
            const until = async (isEnough: () => boolean) => {
              while (!isEnough()) await Bun.sleep(20);
            };
            await until(() => load.reports().filter((report) => report.failure === null).length > 20);
            await first.stop(signal);
            await lab.startDaemon({ io });
            readyMs = Date.now();
            await until(() => load.reports().some((report) => report.atMs > readyMs + 2_000));
            const reports = await load.stop();
            const after = reports.filter((report) => report.atMs >= readyMs);
            const soon = after.filter(
              (report) => report.failure === null && report.atMs + report.tookMs <= readyMs + 1_000,
            );
            expect(soon.length).toBeGreaterThan(0);
            expect(after.filter((report) => report.atMs > readyMs + 1_000 && report.failure !== null)).toEqual([]);
          },
        );

        // Connections that were opened while a daemon was ready: both sides must only see translated packets of them.
        const opened = new Set(
          atFront
            .filter((packet) => packet.destination === routedVip && packet.isSyn && packet.atMs > readyMs)
            .map((packet) => `${packet.source}.${packet.sourcePort}`),
        );
        expect(opened.size).toBeGreaterThan(0);
        const servers = lab.names.servers.map((_, index) => server(index));
        const leaks = atFront.filter(
          (packet) =>
            servers.includes(packet.source) &&
            packet.sourcePort === SERVER_PORT &&
            opened.has(`${packet.destination}.${packet.destinationPort}`),
        );
        expect(leaks).toEqual([]);
        expect(atBack.filter((packet) => packet.destination === routedVip || packet.source === routedVip)).toEqual([]);
      });
    },
    TEST_TIMEOUT_MS,
  );
});
