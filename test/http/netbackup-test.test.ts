/** `POST /v1/netbackup/test`: the same results and errors as test-connection gives. */
import { beforeEach, expect, test } from "bun:test";
import type { Caller } from "../../src/control/caller.ts";
import type { ConnectionSource } from "../../src/control/controller.ts";
import { ok } from "../../src/model/result.ts";
import { ip } from "../support/addresses.ts";
import { TestApp } from "./support.ts";

const PATH = "/v1/netbackup/test";
const READER: Caller = { name: "reader", rights: new Set(["show"]) };
const OPERATOR: Caller = { name: "operator", rights: new Set(["show", "enable"]) };

/** Hosts that answer on 13724 alone, refuse everything else, and count who is asked. */
class Ports implements ConnectionSource {
  places = 1;
  readonly tried: number[] = [];

  open() {
    if (this.places === 0) return null;
    this.places--;
    return {
      nowMs: () => 0,
      connect: async (_target: unknown, port: number) => {
        this.tried.push(port);
        const result = port === 13724 ? ("connected" as const) : ("refused" as const);
        return ok({ result, local: { address: ip("192.0.2.5"), port: 2048 }, microseconds: 212 });
      },
      close: () => {
        this.places++;
      },
    };
  }
}

let app: TestApp;
let ports: Ports;
beforeEach(async () => {
  ports = new Ports();
  app = await TestApp.start(ports);
});

const shell = async (line: string) =>
  (await app.json("/v1/ilbadm", { json: { line } })) as { exit: number; stdout: string; stderr: string };

test("NBU-053 a test over HTTP finds what test-connection finds, and 200 says that it was made", async () => {
  const answer = await app.ask(PATH, { json: { host: "192.0.2.20", seconds: 3 } });
  expect(answer.status).toBe(200);
  const found = await answer.json();
  const { exit, stdout } = await shell("test-connection --json -w 3 192.0.2.20");
  expect([exit, found]).toEqual([0, JSON.parse(stdout)]);
  expect(found).toMatchObject({ via: "VNETD", steps: [{ result: "refused" }, { result: "connected" }] });
  const all = await app.json(PATH, { json: { host: "192.0.2.20", service: "bprd", all: true } });
  expect(all).toMatchObject({ via: "VNETD", steps: [{}, {}, { step: "DAEMON", remote: { port: 13720 } }] });
  const pairs = await app.json(PATH, { json: { host: "192.0.2.20", opscenter: true, service: null } });
  expect(pairs).toMatchObject({ via: null, hint: null, steps: [{ step: "HTTP" }, { step: "HTTP" }, { step: "HTTP" }] });
  expect(ports.places).toBe(1);
});

test("NBU-053 what is wrong is said as ilbadm says it, with the property", async () => {
  const cases: [body: unknown, line: string, status: number, field: string | undefined][] = [
    [{ host: "192.0.2.20", service: "bpdc" }, "-t bpdc 192.0.2.20", 404, "service"],
    [{ host: "192.0.2.20", seconds: 21 }, "-w 21 192.0.2.20", 400, "seconds"],
    [{ host: "a b!" }, "ab!", 400, "host"],
    [{ host: "nowhere" }, "nowhere", 404, undefined],
    [{ host: "192.0.2.20", service: "bpcd", opscenter: true }, "-O -t bpcd 192.0.2.20", 400, undefined],
  ];
  for (const [body, line, status, field] of cases) {
    const problem = (await app.json(PATH, { json: body })) as { status: number; field?: string; detail: string };
    const { stderr } = await shell(`test-connection ${line}`);
    expect([line, problem.status, problem.field]).toEqual([line, status, field]);
    if (line !== "ab!") expect(stderr.split("\n")[0]).toBe(`ilbadm: ${problem.detail}`);
  }
  for (const [body, status, code, field] of [
    [{}, 400, "E-MISSING", "host"],
    [{ host: 5 }, 400, "E-VALUE", "host"],
    [{ host: "192.0.2.20", all: "yes" }, 400, "E-VALUE", "all"],
    [{ host: "192.0.2.20", port: 5 }, 400, "E-KEYWORD", "port"],
    [null, 400, "E-SYNTAX", undefined],
  ] as const)
    expect(await app.refusal(PATH, { json: body })).toEqual(
      field === undefined ? [status, code] : ([status, code, field] as never),
    );
  expect(ports.tried).toEqual([]);
});

test("NBU-055 it needs the right config and is audited, refused or not; too many at once are refused", async () => {
  const json = { host: "192.0.2.20", service: "BPRD" };
  for (const caller of [READER, OPERATOR]) expect(await app.refusal(PATH, { json, caller })).toEqual([403, "E-AUTH"]);
  // Who may not do it learns nothing of how it would be said rightly.
  expect(await app.refusal(PATH, { json: { hots: 1 }, caller: READER })).toEqual([403, "E-AUTH"]);
  expect(ports.tried).toEqual([]);
  await app.ask(PATH, { json });
  ports.places = 0;
  expect(await app.refusal(PATH, { json })).toEqual([503, "E-NBBUSY"]);
  const line = "test-connection -t bprd 192.0.2.20";
  expect(app.world.audits.map(({ who, command, result }) => [who, command, result])).toEqual([
    ["reader", line, "E-AUTH"],
    ["operator", line, "E-AUTH"],
    ["reader", "POST /v1/netbackup/test", "E-AUTH"],
    ["root", line, "ok"],
    ["root", line, "E-NBBUSY"],
  ]);
  expect(app.world.changes).toEqual([]);
});
