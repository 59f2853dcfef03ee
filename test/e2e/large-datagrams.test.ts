/**
 * UDP messages of 4000 bytes, as DNS has them: in fragments from real sockets, and cut by hand so that fragments come
 * in another order or not at all. In mode modern, which the daemon starts in.
 */
import { describe, expect, test } from "bun:test";
import { ADDRESSES } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun, isFullRun } from "../support/capabilities.ts";
import {
  checksumErrors,
  createRule,
  createRules,
  DEVICES,
  expectAllServed,
  FAMILIES,
  labOptionsFor,
  listenAddresses,
  MANY_SOCKETS,
  serverPortOf,
  sharedLab,
  TEST_TIMEOUT_MS,
  TYPES,
  targetOf,
} from "../support/e2e.ts";
import { type Cut, exchange, type Request, startFragmentServer } from "../support/wire.ts";

const SHORT: Cut = { bytes: 200, order: [0] };
/** Three fragments each way. */
const IN_ORDER: Cut = { bytes: 4_000, order: [0, 1, 2] };
const REVERSED: Cut = { bytes: 4_000, order: [2, 1, 0] };
const LAST_FIRST: Cut = { bytes: 4_000, order: [2, 0, 1] };
const WITHOUT_FIRST: Cut = { bytes: 4_000, order: [1, 2] };
const WITHOUT_MIDDLE: Cut = { bytes: 4_000, order: [0, 2] };
const WITHOUT_LAST: Cut = { bytes: 4_000, order: [0, 1] };

/** [request, answer]; only what is whole both ways is answered. */
const EXCHANGES: readonly (readonly [Cut, Cut])[] = [
  [IN_ORDER, SHORT],
  [SHORT, IN_ORDER],
  [IN_ORDER, IN_ORDER],
  [WITHOUT_MIDDLE, SHORT],
  [REVERSED, SHORT],
  [SHORT, REVERSED],
  [WITHOUT_FIRST, SHORT],
  [SHORT, WITHOUT_FIRST],
  [LAST_FIRST, REVERSED],
  [SHORT, WITHOUT_LAST],
  [WITHOUT_LAST, SHORT],
  [REVERSED, LAST_FIRST],
  [SHORT, SHORT],
];

const isWhole = ({ bytes, order }: Cut): boolean => order.length === Math.ceil(bytes / 1_400);

function requests(firstNumber: number): Request[] {
  return EXCHANGES.map(([request, answer], index) => ({
    number: firstNumber + index,
    ...request,
    answer,
    silent: !isWhole(request) || !isWhole(answer),
  }));
}

/** The port of the servers that cut their answers by hand, and of the rules for them. */
const CUT_PORT = 53;

const CASES = DEVICES.slice(0, isFullRun ? 2 : 1).flatMap((io) => TYPES.map((type) => ({ io, type })));

describe.each(CASES)("messages of 4000 bytes over UDP, $type over $io", ({ io, type }) => {
  const isPossible = io === "tun" ? hasTun : hasNamespaces;
  // Without transmit checksum offload a wrong partial checksum cannot hide.
  const options = { ...labOptionsFor(type, ...FAMILIES), boxTxChecksum: false };
  const shared = sharedLab(isPossible, options, async (lab) => {
    await lab.startServers(serverPortOf(type));
    await Promise.all(
      lab.names.servers.map((name, index) =>
        startFragmentServer(lab, name, `s${index + 1}`, listenAddresses(lab, type, index, FAMILIES), CUT_PORT),
      ),
    );
    await lab.startDaemon({ io });
    await createRules(lab, type, "udp");
    for (const family of FAMILIES) {
      const name = `dns${family}`;
      const ports = { port: CUT_PORT, serverPort: CUT_PORT };
      await createRule(lab, type, "udp", { addresses: ADDRESSES[family], rule: name, group: name, ...ports });
    }
  });
  const families = FAMILIES.map((family) => ({ family, addresses: ADDRESSES[family] }));

  test.skipIf(!isPossible).each(families)(
    "IPv$family: real sockets send and receive them whole, and no kernel meets a wrong checksum",
    async ({ addresses }) => {
      const lab = shared();
      const job = {
        kind: "udp",
        ...targetOf(lab, addresses),
        sockets: MANY_SOCKETS,
        count: 180,
        bytes: 4_000,
      } as const;
      expectAllServed(await lab.client(job), 180, 3);
      for (const namespace of [lab.names.client, lab.names.box, ...lab.names.servers]) {
        const wrong = Object.entries(await checksumErrors(lab, namespace)).filter(([, count]) => count > 0);
        expect({ namespace, wrong }).toEqual({ namespace, wrong: [] });
      }
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!isPossible).each(families)(
    "IPv$family: fragments in any order make the message, and a lost one disturbs no other message",
    async ({ addresses }) => {
      const lab = shared();
      const target = { ...targetOf(lab, addresses), port: CUT_PORT };
      for (const [index, address] of target.from.entries()) {
        const asked = requests(1 + index * EXCHANGES.length);
        const report = await exchange(lab, target, { address, port: 40_000 }, asked);
        expect({ wrong: report.wrong, missing: report.missing }).toEqual({ wrong: [], missing: [] });
        const whole = asked.filter(({ silent }) => silent !== true).map(({ number }) => String(number));
        expect(Object.keys(report.answered).sort()).toEqual(whole.sort());
        // One flow, one server; DSR decides by the client's address and port, so the same again.
        expect(new Set(Object.values(report.answered)).size).toBe(1);
      }
    },
    TEST_TIMEOUT_MS,
  );
});
