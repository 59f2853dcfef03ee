/** Who may do what, and what is said to others. */
import { describe, expect, test } from "bun:test";
import { errorOf, FakeHost, ilbadm, setUp } from "../support/fake-host.ts";
import { base, createRule } from "./rule-lines.ts";

describe("rights", () => {
  const only = (...rights: string[]) => ({ right: (needed: string) => rights.includes(needed) });
  const AUTH = "ilbadm: user is not authorized to execute command\n";

  test("ILB-223 without rights nothing changes, and the refused line can be audited", async () => {
    const host = await base();
    const config = host.config();
    const asked: string[] = [];
    const right = (needed: string, line: string) => {
      asked.push(`${needed}: ${line}`);
      return false;
    };
    expect(await errorOf(host, createRule(), { right })).toBe(AUTH);
    expect(await errorOf(host, "import-config", { right, input: "create-sg x\n" })).toBe(AUTH);
    expect(host.config()).toBe(config);
    expect(asked).toEqual([
      "config: create-rule -i vip=198.51.100.10,port=80,protocol=tcp -m lbalg=roundrobin,type=DSR -o servergroup=sg1 r1",
      "config: import-config",
    ]);
  });

  test("the line for the audit log is one line, whatever was typed", async () => {
    const lines: string[] = [];
    const right = (_: string, line: string) => {
      lines.push(line);
      return false;
    };
    await errorOf(new FakeHost(), ["delete-rule", "a\nb"], { right });
    await errorOf(new FakeHost(), ["import-config", "x\ny"], { right, input: "" });
    expect(lines).toEqual(["delete-rule a?b", "import-config x?y"]);
  });

  test("ILB-224 enable allows switching and nothing else, config does not imply enable", async () => {
    const host = await base();
    await setUp(host, createRule());
    for (const line of ["enable-rule r1", "disable-rule", "disable-server _sg1.0", "enable-server _sg1.0"]) {
      expect((await ilbadm(host, line, only("enable"))).exit).toBe(0);
      expect(await errorOf(host, line, only("config"))).toBe(AUTH);
    }
    for (const line of [
      "delete-rule r1",
      "create-sg x",
      "delete-sg sg1",
      "add-server -s server=192.0.2.99 sg1",
      "remove-server -s server=_sg1.0 sg1",
      "create-hc -h hc-test=ping h",
      "delete-hc h",
    ]) {
      expect(await errorOf(host, line, only("enable"))).toBe(AUTH);
    }
  });

  test("ILB-225 show is enough for listings and export", async () => {
    const host = await base();
    for (const line of [
      "show-rule",
      "show-sg",
      "show-srv",
      "show-hc",
      "show-nat",
      "show-pt",
      "show-stats",
      "export-cf",
    ]) {
      expect((await ilbadm(host, line, only("show"))).exit).toBe(0);
    }
  });

  test("a line of an imported file needs its own right", async () => {
    const host = new FakeHost();
    const input = "create-sg -s server=192.0.2.1 sg1\nenable-rule\n";
    expect(await errorOf(host, "import-config", { ...only("config"), input })).toBe(
      "ilbadm: -: line 2: user is not authorized to execute command\n",
    );
  });
});
