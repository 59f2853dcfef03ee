/** Health checks: making and deleting them. */
import { describe, expect, test } from "bun:test";
import { errorOf, FakeHost, ilbadm, outputOf, setUp } from "../support/fake-host.ts";
import { base, createRule, EINVAL, hostWith } from "./rule-lines.ts";

describe("health checks", () => {
  test("ILB-288 delete-healthcheck stops at the first failure", async () => {
    const host = await hostWith("create-hc -h hc-test=ping h1", "create-hc -h hc-test=ping h2");
    expect(await errorOf(host, "delete-healthcheck h1 nosuch h2")).toBe("ilbadm: no such/no more element(s)\n");
    expect(host.config().healthChecks.map((check) => check.name)).toEqual(["h2"]);
  });

  test("a check that an enabled rule uses stays, disabled rules lose it", async () => {
    const host = await base();
    await setUp(host, "create-hc -h hc-test=ping h", createRule({ flags: "-e", health: "-h hc-name=h" }));
    expect(await errorOf(host, "delete-hc h")).toBe("ilbadm: object is in use, cannot destroy\n");
    await setUp(host, "disable-rule r1", "delete-hc h");
    expect(await outputOf(host, "show-rule -p -o hc-name,hc-port")).toBe(":\n");
  });

  test.each([
    ["create-hc -h hc-test=tcp,hc-timeout=0 h", EINVAL],
    ["create-hc -h hc-test=tcp,hc-count=0 h", EINVAL],
    ["create-hc -h hc-test=tcp,hc-timeout=10 h", EINVAL],
    ["create-hc -h hc-test=tcp,hc-interval=15 h", EINVAL],
    ["create-hc -h hc-test=tcp,hc-timeout=-1 h", "ilbadm: hc-timeout: invalid value  - refer to ilbadm(8)\n"],
    ["create-hc -h hc-test=tcp,hc-timeout=5s h", "ilbadm: hc-timeout: invalid value  - refer to ilbadm(8)\n"],
    ["create-hc -h hc-test=tcp,HC-Count=2147483648 h", "ilbadm: HC-Count: invalid value  - refer to ilbadm(8)\n"],
    ["create-hc -h hc-test=relative/path h", EINVAL],
    ["create-hc -h hc-test=/a\\b h", EINVAL],
    ["create-hc -h hc-count=3 h", "ilbadm: hc-test: missing\n"],
    ["create-hc h", "ilbadm: hc-test: missing\n"],
    ["create-hc -n -h hc-test=PING h", "ilbadm: cannot disable default PING for this test\n"],
    [
      "create-hc -h hc-test=ping h2345678901234567890",
      "ilbadm: health check object name h2345678901234567890 is too long - must not exceed 19 chars\n",
    ],
  ])("ILB-290 %s", async (line, text) => {
    const host = new FakeHost();
    expect(await errorOf(host, line)).toBe(text);
    expect(host.config().healthChecks).toEqual([]);
  });

  test("create-healthcheck and delete-healthcheck without a name show their usage", async () => {
    expect(await errorOf(new FakeHost(), "create-hc -h hc-test=ping")).toStartWith(
      "ilbadm: usage: ilbadm create-healthcheck",
    );
    expect(await errorOf(new FakeHost(), "delete-hc")).toStartWith("ilbadm: usage: ilbadm delete-healthcheck");
  });

  test("an external test must be there and executable, after the name was looked at", async () => {
    const host = await hostWith("create-hc -h hc-test=/probe h");
    host.externalTest = (path) => (path === "/gone" ? "missing" : "unusable");
    expect(await errorOf(host, "create-hc -h hc-test=/gone H")).toBe("ilbadm: object already exists\n");
    expect(await errorOf(host, "create-hc -h hc-test=/gone h2")).toBe("ilbadm: no such/no more element(s)\n");
    expect(await errorOf(host, "create-hc -h hc-test=/dir h2")).toBe(EINVAL);
    host.externalTest = () => "forbidden";
    expect((await ilbadm(host, "create-hc -h hc-test=/root/probe h2")).stderr).toBe(
      `${EINVAL}ilbadm: hint: only root may name a test that nobody else may execute: chmod o+rx /root/probe and its folders\n`,
    );
  });

  test("-n is accepted for udp", async () => {
    await hostWith(
      "create-hc -n -h hc-test=udp u",
      "create-hc -n -h hc-test=/probe e",
      "create-hc -n -h hc-test=tcp t",
    );
  });
});
