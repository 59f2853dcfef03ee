/** Connections for commands over real sockets: what each meets, how many tests there may be, and how they are ended. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Connector } from "../../src/command/host.ts";
import { ConnectionTests } from "../../src/health/connection-tests.ts";
import { PROBE_PORTS } from "../../src/native/probe.ts";
import { Net } from "../kernel/support.ts";
import { ip } from "../support/addresses.ts";
import { hasNamespaces } from "../support/capabilities.ts";
import { noSocketBut, socketsOf } from "../support/sockets.ts";

const HERE = ip("127.0.0.1");
const CLOSED = 8081;
const SILENT = 8082;
const NOWHERE = ip("192.0.2.20");
const LONG_MS = 60_000;
const MOST_TESTS = 32;

describe.skipIf(!hasNamespaces)("connections for commands", () => {
  let net: Net;
  let tests: ConnectionTests;

  beforeAll(() => {
    net = new Net("box");
    const chain = "add table inet wall; add chain inet wall in { type filter hook input priority 0; }";
    net.sh("box", `nft '${chain}; add rule inet wall in tcp dport ${SILENT} drop'`);
  });
  afterAll(() => net?.close());
  beforeEach(() => {
    tests = new ConnectionTests();
  });

  test("NBU-028 each result has its name, its time and a local port of the probes'; nothing is left open", async () => {
    await net.inside("box", async () => {
      const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
      const before = socketsOf();
      const one = tests.open(undefined)!;
      const ends = [];
      for (const [target, port] of [
        [HERE, listener.port],
        [HERE, CLOSED],
        [HERE, SILENT],
        [NOWHERE, CLOSED],
      ] as const)
        ends.push(await one.connect(target, port, port === SILENT ? 50 : LONG_MS));
      one.close();
      await noSocketBut(before);
      listener.stop(true);
      const found = ends.map((end) => (end.ok ? end.value : null));
      expect(found.map((end) => end?.result)).toEqual(["connected", "refused", "timeout", "unreachable"]);
      expect(found.map((end) => end?.local === null)).toEqual([false, false, false, true]);
      for (const end of found) {
        expect(end?.microseconds).toBeGreaterThan(0);
        if (end?.local) {
          expect(end.local.address.value).toBe(HERE.value);
          expect(end.local.port).toBeGreaterThanOrEqual(PROBE_PORTS.min);
          expect(end.local.port).toBeLessThanOrEqual(PROBE_PORTS.max);
        }
      }
    });
  });

  test("so many tests at once and no more; a place that is given back is there for the next", () => {
    const open: Connector[] = [];
    for (let count = 0; count < MOST_TESTS; count++) open.push(tests.open(undefined)!);
    expect(tests.open(undefined)).toBeNull();
    open[0]!.close();
    expect(tests.open(undefined)).not.toBeNull();
    expect(tests.open(undefined)).toBeNull();
  });

  test("all of them wait for silent ports at once, and the main thread goes on", async () => {
    await net.inside("box", async () => {
      const open = Array.from({ length: MOST_TESTS }, () => tests.open(undefined)!);
      let turns = 0;
      const timer = setInterval(() => turns++, 1);
      const ends = await Promise.all(open.map((one) => one.connect(HERE, SILENT, 100)));
      clearInterval(timer);
      expect(ends.every((end) => end.ok && end.value.result === "timeout")).toBe(true);
      expect(turns).toBeGreaterThan(0);
      for (const one of open) one.close();
    });
  });

  test("a caller who leaves ends the attempt, and one who has left begins none", async () => {
    await net.inside("box", async () => {
      const before = socketsOf();
      const gone = new AbortController();
      const one = tests.open(gone.signal)!;
      const waiting = one.connect(HERE, SILENT, LONG_MS);
      gone.abort();
      await expect(waiting).rejects.toThrow("the caller has gone");
      await expect(one.connect(HERE, CLOSED, LONG_MS)).rejects.toThrow("the caller has gone");
      one.close();
      await noSocketBut(before);
    });
  });

  test("a daemon that stops answers what is under way", async () => {
    await net.inside("box", async () => {
      const one = tests.open(undefined)!;
      const waiting = one.connect(HERE, SILENT, LONG_MS);
      tests.close();
      expect(await waiting).toMatchObject({ ok: false, failure: { code: "E-NBCONNECT" } });
      one.close();
    });
  });
});
