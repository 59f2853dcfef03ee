/** show-audit, history, rollback and plans, through the real program and a real daemon. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Daemon, Place } from "../daemon/daemon.ts";

let place: Place;
let daemon: Daemon;
beforeAll(async () => {
  place = new Place();
  daemon = await Daemon.start(place);
});
afterAll(async () => {
  await daemon.stop("SIGKILL");
  place.remove();
});
afterEach(() => place.must("import-config", ""));

const CONFIG = [
  "create-servergroup sg1",
  "add-server -s server=192.0.2.10:80 sg1",
  "add-server -s server=192.0.2.11:80 sg1",
  "create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10 hc1",
  "create-rule -e -i vip=198.51.100.10,port=80,protocol=tcp -m lbalg=roundrobin,type=HALF-NAT -h hc-name=hc1,hc-port=ANY -t nat-timeout=120 -o servergroup=sg1 r1",
  "create-rule -i vip=198.51.100.10,port=81,protocol=tcp -m lbalg=hash-ip,type=DSR -o servergroup=free r2",
  "",
]
  .join("\n")
  .replace("create-healthcheck", "create-servergroup free\ncreate-healthcheck");

/** Id of the newest change. */
const newest = async (): Promise<number> => Number((await place.must("history -p -o id 1")).trim());
const state = async (): Promise<string[]> =>
  Promise.all(["export-config", "show-rule -f", "show-servergroup -o all", "show-server"].map((w) => place.must(w)));

describe("show-audit and history", () => {
  test("every changing command is there with caller, command and result, oldest first; refused ones too", async () => {
    await place.must("create-sg -s server=192.0.2.1 sg9");
    expect((await place.ilbadm("create-servergroup SG9")).status).toBe(1);
    expect(await place.must("show-audit -p -o user,result,command 2")).toBe(
      "uid 0 (root):ok:create-servergroup -s server=192.0.2.1 sg9\nuid 0 (root):E-SGEXISTS:create-servergroup SG9\n",
    );
    expect(await place.must("history -p -o command 1")).toBe("create-servergroup -s server=192.0.2.1 sg9\n");
  });

  test("they are tables with a time like that of statistics", async () => {
    await place.must("create-servergroup sg9");
    const [header, row] = (await place.must("show-audit 1")).split("\n");
    expect(header).toBe("TIME                USER            RESULT          COMMAND");
    expect(row).toMatch(/^\d{4}-\d\d-\d\d:\d\d\.\d\d\.\d\d uid 0 \(root\) {4}ok {14}create-servergroup sg9$/);
    expect((await place.must("history 1")).split("\n")[0]).toBe("ID      TIME                USER            COMMAND");
  });

  test("wrong fields, counts and operands are refused as in the other listings", async () => {
    const texts = await Promise.all(
      ["show-audit -o nosuch", "show-audit -p", "history 0", "history 1 2", "rollback x", "rollback"].map(
        async (words) => (await place.ilbadm(words)).stderr,
      ),
    );
    expect(texts).toEqual([
      "ilbadm: unknown output field: nosuch\n",
      "ilbadm: option -p requires -o\n",
      "ilbadm: invalid value  - refer to ilbadm(8)\n",
      "ilbadm: invalid/incompatible keywords - refer to ilbadm(8)\n",
      "ilbadm: invalid value  - refer to ilbadm(8)\n",
      "ilbadm: usage: ilbadm rollback [-n] ID\n",
    ]);
  });
});

describe("rollback", () => {
  test("every object is as it was, with IDs, numbers, states and order", async () => {
    await place.must("import-config", CONFIG);
    await place.must("disable-server _sg1.0");
    const id = await newest();
    const was = await state();
    await place.must("remove-server -s server=_sg1.1 sg1");
    await place.must("add-server -s server=192.0.2.12 sg1");
    await place.must("delete-rule r1");
    await place.must("delete-healthcheck hc1");
    await place.must("enable-server _free.0").catch(() => undefined);
    await place.must("import-config", "create-servergroup other\n");
    expect(await place.must(`rollback ${id}`)).toBe("");
    expect(await state()).toEqual(was);
    // A rollback is a change like any other, and can be taken back.
    await place.must(`rollback ${(await newest()) - 1}`);
    expect(await place.must("export-config")).toBe("create-servergroup other\n");
    expect(await place.must("history -p -o command 1")).toStartWith("rollback ");
  });

  test("back to the present changes nothing; a change that is not there is refused", async () => {
    await place.must("import-config", CONFIG);
    const id = await newest();
    expect(await place.must(`rollback ${id}`)).toBe("");
    expect(await newest()).toBe(id);
    expect((await place.ilbadm(`rollback ${id + 1}`)).stderr).toBe(`ilbadm: the history has no change ${id + 1}\n`);
    expect(await place.must("export-config")).toBe(CONFIG);
  });

  test("what a rollback gives survives a restart", async () => {
    await place.must("import-config", CONFIG);
    const id = await newest();
    await place.must("delete-rule -a");
    await place.must(`rollback ${id}`);
    const was = await state();
    await daemon.stop("SIGKILL");
    daemon = await Daemon.start(place);
    expect(await state()).toEqual(was);
  });

  test("-n tells what would change and exits 2; it is refused in an import file", async () => {
    await place.must("import-config", CONFIG);
    const id = await newest();
    await place.must("disable-rule r1");
    expect(await place.ilbadm(`rollback -n ${id}`)).toEqual({
      status: 2,
      stdout: "~ rule r1: STATUS D -> E\n",
      stderr: "",
    });
    expect(await place.must("show-rule -p -o status r1")).toBe("D\n");
    expect((await place.ilbadm("import-config", `rollback ${id}\n`)).stderr).toBe(
      "ilbadm: -: line 1: rollback from import file not allowed\n",
    );
  });
});

describe("import-config -n", () => {
  const plan = (text: string, options = "-n") => place.ilbadm(`import-config ${options}`, text);

  test("an equal file: nothing printed, exit 0", async () => {
    await place.must("import-config", CONFIG);
    expect(await plan(CONFIG)).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(await plan("", "-p -n")).toEqual({ status: 0, stdout: "", stderr: "" });
  });

  test("added, removed and changed objects, exit 2, and nothing has changed", async () => {
    await place.must("import-config", CONFIG);
    const id = await newest();
    const file = join(place.directory, "new.conf");
    writeFileSync(
      file,
      CONFIG.replace("port=81", "port=82")
        .replace("-h hc-name=hc1,hc-port=ANY ", "")
        .replace("add-server -s server=192.0.2.11:80 sg1", "add-server -s server=192.0.2.12:80 sg1")
        .replace(/create-healthcheck.*\n/, ""),
    );
    expect(await place.ilbadm(`import-config -n ${file}`)).toEqual({
      status: 2,
      stdout: `- server sg1 192.0.2.11
+ server sg1 192.0.2.12
- healthcheck hc1
~ rule r1: HC-NAME hc1 -> --, HC-PORT ANY -> --
~ rule r2: PORT 81 -> 82
`,
      stderr: "",
    });
    expect(await plan("create-servergroup extra\n", "-n -p")).toEqual({
      status: 2,
      stdout: "+ servergroup extra\n",
      stderr: "",
    });
    expect(await newest()).toBe(id);
    expect(await place.must("export-config")).toBe(CONFIG);
  });

  test("a wrong file is refused with its line", async () => {
    expect(await plan("create-servergroup a\nadd-server -s server=192.0.2.1 b\n")).toEqual({
      status: 1,
      stdout: "",
      stderr: "ilbadm: -: line 2: cannot add 192.0.2.1 to b: no such/no more element(s)\n",
    });
  });

  test("the same over HTTP, as JSON", async () => {
    await place.must("import-config", CONFIG);
    const answer = await place.fetch("/v1/config?dryRun=true&preserve=true", {
      method: "PUT",
      headers: { "content-type": "text/plain" },
      body: "disable-rule r1\n",
    });
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual({
      changes: [{ change: "change", kind: "rule", name: "r1", fields: [{ field: "STATUS", before: "E", after: "D" }] }],
      connections: [],
    });
    expect(await place.must("show-rule -p -o status r1")).toBe("E\n");
  });
});
