/** The pair of web ports that OpsCenter takes. */
import { expect, test } from "bun:test";
import { NO_WEB_PAIR, selectWebPair, WEB_PAIRS } from "../../src/netbackup/web-pair.ts";

test.each([
  [[], "80/443"],
  [[443], "8181/8443"],
  [[80, 8443], "8282/8553"],
  [[80, 8181, 8553], NO_WEB_PAIR],
])("NBU-052 with %p in use the pair is %s", (inUse, wanted) => {
  const pair = selectWebPair(new Set(inUse));
  expect(pair === null ? NO_WEB_PAIR : `${pair.http}/${pair.https}`).toBe(wanted);
});

test("NBU-052 no pair of which one port is in use is ever taken", () => {
  const ports = WEB_PAIRS.flatMap(({ http, https }) => [http, https]);
  for (let mask = 0; mask < 2 ** ports.length; mask++) {
    const inUse = new Set(ports.filter((_port, i) => (mask >> i) & 1));
    const free = WEB_PAIRS.filter(({ http, https }) => !inUse.has(http) && !inUse.has(https));
    expect(selectWebPair(inUse)).toBe(free[0] ?? null);
  }
});
