/** Twenty thousand connections at once: opened, held, asked again, closed, and then forgotten. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { hasNamespaces, isShortRun } from "../support/capabilities.ts";
import { expectCrowdServed, flowCount, startCrowd, startLineServers } from "../support/crowd.ts";
import { createRule, FAMILIES, labOptionsFor, TYPES, targetOf, withLab } from "../support/e2e.ts";

const CONNECTIONS = isShortRun ? 5_000 : 20_000;

/** Closed flows go with the sweep 15 s later, which takes 5 s; a limit against hanging only. */
const FORGET_PATIENCE_MS = 60_000;

/** What a wave of connections may leave behind in the process: more than the runtime's heap wavers by. */
const WAVER_BYTES = 64 << 20;

/** Memory in RAM that the process has to itself. */
function residentBytes(pid: number): number {
  const kilobytes = /^RssAnon:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  if (kilobytes === undefined) throw new Error(`process ${pid} shows no RssAnon`);
  return Number(kilobytes) * 1024;
}

describe(`${CONNECTIONS} connections at once`, () => {
  const cases = TYPES.flatMap((type) => FAMILIES.map((family) => ({ type, family })));
  test.skipIf(!hasNamespaces).each(cases)(
    "$type, IPv$family: all are answered by the server of the first time, all are forgotten, a second wave needs no more memory",
    async ({ type, family }) => {
      await withLab({ ...labOptionsFor(type, family), clientAddresses: 8 }, async (lab) => {
        await startLineServers(lab, type, [family]);
        const daemon = await lab.startDaemon();
        await createRule(lab, type, "tcp", { timers: "nat-timeout=20" });
        const wave = async (): Promise<number> => {
          const crowd = startCrowd(lab, targetOf(lab), CONNECTIONS);
          for (let round = 0; round < 3; round++) expectCrowdServed(await crowd.ask(), CONNECTIONS, 3);
          expect(await flowCount(lab)).toBe(type === "DSR" ? 0 : CONNECTIONS);
          await crowd.close();
          const givenUpMs = Date.now() + FORGET_PATIENCE_MS;
          while ((await flowCount(lab)) > 0 && Date.now() < givenUpMs) await Bun.sleep(500);
          expect(await flowCount(lab)).toBe(0);
          return residentBytes(daemon.pid);
        };
        const afterFirst = await wave();
        const afterSecond = await wave();
        expect(afterSecond - afterFirst).toBeLessThan(WAVER_BYTES);
      });
    },
    300_000,
  );
});
