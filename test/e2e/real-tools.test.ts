/**
 * Programs that nobody wrote for this: curl, socat and iperf3 over every type, on a box with a strict reverse path
 * filter and without transmit checksum offload, where a wrong partial checksum cannot hide.
 */
import { describe, expect, test } from "bun:test";
import type { Lab } from "../../src/lab/lab.ts";
import { ADDRESSES, withPort } from "../../src/lab/topology.ts";
import { hasNamespaces, hasProgram, isFullRun } from "../support/capabilities.ts";
import {
  checksumErrors,
  createRule,
  createRules,
  FAMILIES,
  labOptionsFor,
  listenAddresses,
  PROTOCOLS,
  type RuleType,
  serverPortOf,
  sharedLab,
  TEST_TIMEOUT_MS,
  TYPES,
  VIP_PORT,
  vipOf,
} from "../support/e2e.ts";
import { startIperfServers, type Transfer, transfer } from "../support/iperf.ts";

const ECHO_PORT = 7;
const IPERF_PORT = 5_201;

const families = FAMILIES.map((family) => ({ family, addresses: ADDRESSES[family] }));

/** One rule for each protocol and family on a port; hash-ip sends all connections of a client to one server. */
async function createRulesOn(lab: Lab, type: RuleType, port: number): Promise<void> {
  for (const { family, addresses } of families) {
    for (const protocol of PROTOCOLS) {
      const name = `${protocol}${family}.${port}`;
      const where = { addresses, port, serverPort: port, rule: name, group: name };
      await createRule(lab, type, protocol, { ...where, algorithm: "hash-ip" });
    }
  }
}

async function startEchoes(lab: Lab, type: RuleType): Promise<void> {
  await Promise.all(
    lab.names.servers.flatMap((name, index) =>
      listenAddresses(lab, type, index, FAMILIES)
        .split(",")
        .map((address) => {
          const six = address.includes(":");
          const listen = `TCP${six ? 6 : 4}-LISTEN:${ECHO_PORT},bind=${six ? `[${address}]` : address},reuseaddr,fork`;
          return lab.start(name, ["socat", "-d", "-d", listen, "EXEC:cat"]).line(/listening on/);
        }),
    ),
  );
}

describe.each(TYPES.map((type) => ({ type })))("$type", ({ type }) => {
  const isPossible = hasNamespaces && ["curl", "socat", "iperf3"].every(hasProgram);
  const options = { ...labOptionsFor(type, ...FAMILIES), boxTxChecksum: false, rpFilter: 1 } as const;
  const shared = sharedLab(isPossible, options, async (lab) => {
    await Promise.all([lab.startServers(serverPortOf(type)), startEchoes(lab, type)]);
    await startIperfServers(lab, type, IPERF_PORT);
    await lab.startDaemon();
    await createRules(lab, type, "tcp");
    for (const port of [ECHO_PORT, IPERF_PORT]) await createRulesOn(lab, type, port);
  });
  const expectNoWrongChecksum = async (): Promise<void> => {
    const { client, box, servers } = shared().names;
    for (const namespace of [client, box, ...servers]) {
      const wrong = Object.entries(await checksumErrors(shared(), namespace)).filter(([, count]) => count > 0);
      expect({ namespace, wrong }).toEqual({ namespace, wrong: [] });
    }
  };

  test.skipIf(!isPossible).each(families)(
    "IPv$family: curl reaches every server, and gets and sends a file whole",
    async ({ addresses }) => {
      const lab = shared();
      const url = `http://${withPort(vipOf(lab, addresses), VIP_PORT)}`;
      const curl = (...words: string[]) => lab.must(lab.names.client, ["curl", "-sS", "--max-time", "60", ...words]);
      const urls = Array.from({ length: 30 }, () => `${url}/`);
      // A connection for each, and one connection for all.
      const each = await curl("--no-keepalive", "-H", "Connection: close", ...urls);
      expect(new Set(each.trim().split("\n"))).toEqual(new Set(["s1", "s2", "s3"]));
      expect(new Set((await curl(...urls)).trim().split("\n")).size).toBe(1);
      expect((await curl("-o", "/dev/null", "-w", "%{size_download}", `${url}/bytes/3000000`)).trim()).toBe("3000000");
      await expectNoWrongChecksum();
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!isPossible).each(families)(
    "IPv$family: socat gets back what it sent, half-closed connections included",
    async ({ addresses }) => {
      const lab = shared();
      const vip = vipOf(lab, addresses);
      const words = ["socat", "-t", "60", "-", `TCP:${withPort(vip, ECHO_PORT)}`];
      // It closes its half when input ends, and only then does the last answer come.
      const text = `${"a line that comes back\n".repeat(20_000)}the end\n`;
      const said = await lab.exec(lab.names.client, words, text);
      expect({ exitCode: said.exitCode, stderr: said.stderr }).toEqual({ exitCode: 0, stderr: "" });
      expect(said.stdout === text).toBe(true);
      await expectNoWrongChecksum();
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!isPossible).each(families)(
    "IPv$family: iperf3 moves super-packets over one and four connections, both ways, and datagrams, without a storm of repeats",
    async ({ addresses }) => {
      const lab = shared();
      const to = { host: vipOf(lab, addresses), port: IPERF_PORT, source: addresses.client(0) };
      const bytes = isFullRun ? 512_000_000 : 64_000_000;
      for (const streams of [1, 4]) {
        for (const isReverse of [false, true]) {
          expectDelivered(await transfer(lab, { ...to, protocol: "tcp", bytes, streams, isReverse }), bytes, streams);
        }
      }
      // As many as a socket buffer holds, should the server not be scheduled meanwhile.
      const datagrams = await transfer(lab, { ...to, protocol: "udp", bytes: 72_000, streams: 1, isReverse: false });
      expect(datagrams.receivedBytes).toBeGreaterThan(0);
      expect({ missing: datagrams.missing, outOfOrder: datagrams.outOfOrder }).toEqual({ missing: 0, outOfOrder: 0 });
      await expectNoWrongChecksum();
    },
    TEST_TIMEOUT_MS,
  );
});

/** What the kernels of both ends hold of one connection at most (tcp_wmem and tcp_rmem). */
const BUFFERED_BYTES = 4_194_304 + 6_291_456;

/** All of it arrived but what lies in buffers when iperf3 ends, and hardly anything was sent twice. */
function expectDelivered({ sentBytes, receivedBytes, repeats }: Transfer, bytes: number, streams: number): void {
  expect(sentBytes).toBeGreaterThanOrEqual(bytes);
  expect(receivedBytes).toBeGreaterThanOrEqual(bytes - streams * BUFFERED_BYTES);
  // Segments of some 1400 bytes; a full queue loses a few of them, a wrong one is repeated for ever.
  expect(repeats).toBeLessThan(bytes / 1_400 / 20);
}
