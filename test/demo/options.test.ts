/** Command line of `ilbd demo`. */
import { describe, expect, test } from "bun:test";
import { DEMO_DEFAULTS, parseDemoOptions } from "../../src/demo/options.ts";

describe("options of ilbd demo", () => {
  test("without words the defaults hold", () => {
    expect(parseDemoOptions([])).toEqual(DEMO_DEFAULTS);
  });

  test.each([
    [["--once"], { once: true }],
    [["--requests", "12"], { requests: 12 }],
    [["--requests=12"], { requests: 12 }],
    [["--type", "half-nat"], { type: "HALF-NAT" }],
    [["--type", "NAT", "--io", "tun"], { type: "NAT", io: "tun" }],
    [["--listen", "127.0.0.1:80"], { host: "127.0.0.1", port: 80 }],
    [["--listen", "[::1]:8080"], { host: "::1", port: 8080 }],
  ] as const)("%j", (words, expected) => {
    expect(parseDemoOptions(words)).toEqual({ ...DEMO_DEFAULTS, ...expected });
  });

  test.each([
    [["--twice"], "unknown option --twice"],
    [["extra"], "unknown option extra"],
    [["--once=1"], "--once takes no value"],
    [["--requests"], "--requests needs a value"],
    [["--requests", "0"], "not a number from 1"],
    [["--requests", "1e3"], "not a number from 1"],
    [["--type", "SNAT"], "SNAT is not one of"],
    [["--io", "xdp"], "xdp is not one of packet, tun"],
    [["--listen", "9080"], "9080 is not HOST:PORT"],
    [["--listen", "a:99999"], "is not HOST:PORT"],
  ] as const)("%j is refused with the reason", (words, reason) => {
    expect(parseDemoOptions(words)).toContain(reason);
  });
});
