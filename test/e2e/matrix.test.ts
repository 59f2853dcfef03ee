/**
 * Real traffic through a real daemon, for every type, device, family and protocol: many downloads at once compared byte for
 * byte, requests that every server must share, UDP echoes, and captures in which nothing is answered twice.
 */
import { describe, expect, test } from "bun:test";
import { hasNamespaces, hasTun, isFullRun } from "../support/capabilities.ts";
import {
  captureAround,
  DEVICES,
  expectAllServed,
  expectNothingAnsweredTwice,
  FAMILIES,
  labOptionsFor,
  MANY_SOCKETS,
  PROTOCOLS,
  startBalancing,
  TEST_TIMEOUT_MS,
  TYPES,
  targetOf,
  vipOf,
  withLab,
} from "../support/e2e.ts";

const REQUESTS = isFullRun ? 2_000 : 120;
const DOWNLOADS = isFullRun ? 60 : 18;
const DOWNLOAD_BYTES = 3_000_001;
const DATAGRAMS = isFullRun ? 5_000 : 240;

describe.each(DEVICES.map((io) => ({ io })))("over the $io device", ({ io }) => {
  const isPossible = io === "tun" ? hasTun : hasNamespaces;
  const cases = FAMILIES.flatMap((family) =>
    TYPES.flatMap((type) => PROTOCOLS.map((protocol) => ({ family, type, protocol }))),
  );

  test.skipIf(!isPossible).each(cases)(
    "$type carries $protocol over IPv$family: all answered, all servers share, no byte differs, nothing is answered twice",
    async ({ family, type, protocol }) => {
      await withLab({ clientAddresses: 8, ...labOptionsFor(type, family) }, async (lab) => {
        await startBalancing(lab, type, protocol, { io });
        const target = targetOf(lab);
        // Answers of direct server return reach the client on its other leg.
        const ports = type === "DSR" ? ["eth0", "lan0"] : ["eth0"];
        const captures = ports.map((port) => [lab.names.client, port] as const);
        const seen = await captureAround(lab, captures, async () => {
          if (protocol === "udp") {
            const echoes = await lab.client({
              kind: "udp",
              ...target,
              sockets: MANY_SOCKETS,
              count: DATAGRAMS,
              bytes: 1_200,
            });
            expectAllServed(echoes, DATAGRAMS, 3);
            return;
          }
          expectAllServed(
            await lab.client({ kind: "requests", ...target, count: REQUESTS, concurrency: 16 }),
            REQUESTS,
            3,
          );
          const downloads = {
            kind: "downloads",
            ...target,
            count: DOWNLOADS,
            concurrency: 9,
            bytes: DOWNLOAD_BYTES,
          } as const;
          expect((await lab.client(downloads)).failures).toEqual([]);
        });
        expectNothingAnsweredTwice(seen.flat(), vipOf(lab));
      });
    },
    TEST_TIMEOUT_MS,
  );
});
