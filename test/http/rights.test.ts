/** Who may do what over HTTP (specification G): real daemon, real users and groups on the socket, real tokens over TCP. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Daemon, ILBADM, ILBD, Place, run } from "../daemon/daemon.ts";
import { socketsOf } from "../support/sockets.ts";

const CONFIG = [
  "create-servergroup sg",
  "add-server -s server=192.0.2.1:80 sg",
  "add-server -s server=192.0.2.2:80 sg",
  "create-healthcheck -h hc-test=tcp,hc-timeout=1,hc-count=1,hc-interval=5 hc",
  "create-rule -e -i vip=198.51.100.1,port=80,protocol=tcp -m lbalg=roundrobin,type=HALF-NAT -t nat-timeout=120 -o servergroup=sg r",
  "",
].join("\n");
const RULE = { name: "r2", vip: "198.51.100.1", port: "81", type: "HALF-NAT", servergroup: "sg" };
const AUTH = "user is not authorized to execute command";

/** Requests that need a right, with the command that the audit log names. */
const CONFIGURING: [method: string, path: string, body: unknown, command: string][] = [
  ["POST", "/v1/rules", RULE, "create-rule -i vip=198.51.100.1,port=81"],
  ["DELETE", "/v1/rules/r", undefined, "delete-rule r"],
  ["DELETE", "/v1/rules", undefined, "delete-rule -a"],
  ["POST", "/v1/servergroups", { name: "x" }, "create-servergroup x"],
  ["POST", "/v1/servergroups/sg/servers", { servers: ["192.0.2.3"] }, "add-server -s server=192.0.2.3 sg"],
  ["DELETE", "/v1/servers/_sg.1", undefined, "remove-server -s server=_sg.1 sg"],
  ["DELETE", "/v1/servergroups/sg", undefined, "delete-servergroup sg"],
  ["POST", "/v1/healthchecks", { name: "h2", "hc-test": "udp" }, "create-healthcheck"],
  ["DELETE", "/v1/healthchecks/hc", undefined, "delete-healthcheck hc"],
  ["PUT", "/v1/config", "create-servergroup x\n", "import-config"],
];
const ENABLING: typeof CONFIGURING = [
  ["PATCH", "/v1/rules/r", { enabled: false }, "disable-rule r"],
  ["PATCH", "/v1/rules/r", { enabled: true }, "enable-rule r"],
  ["PATCH", "/v1/servers/_sg.0", { enabled: false }, "disable-server _sg.0"],
  ["PATCH", "/v1/servers/_sg.0", { enabled: true }, "enable-server _sg.0"],
];
const READS = [
  "rules",
  "rules/r",
  "servergroups",
  "servergroups/sg/servers",
  "servers",
  "servers/_sg.0",
  "healthchecks",
]
  .concat("hc-results", "statistics", "nat", "persist", "config", "audit", "history", "openapi.json")
  .map((path) => `/v1/${path}`)
  .concat("/metrics", "/healthz", "/readyz", "/");

/** curl as another user; the checkout itself may be closed to that user. */
const USER = 59_100;
const asUser = (groups: string): string[] => [
  ...["setpriv", "--reuid", String(USER), "--regid", String(USER)],
  ...(groups === "" ? ["--clear-groups"] : ["--groups", groups]),
];
const hasUsers = Bun.spawnSync([...asUser(""), "true"], { stderr: "ignore" }).exitCode === 0;

interface Answer {
  status: number;
  body: string;
}
type Ask = (method: string, path: string, body?: unknown) => Promise<Answer>;

function curl(before: string[], target: string[], url: string): Ask {
  return async (method, path, body) => {
    const type = typeof body === "string" ? "text/plain" : "application/json";
    const data = typeof body === "string" ? body : JSON.stringify(body);
    const sent = body === undefined ? [] : ["-H", `content-type: ${type}`, "--data-binary", data];
    const argv = [...before, "curl", "-s", ...target, "-X", method, ...sent, "-w", "\n%{http_code}", `${url}${path}`];
    const { stdout } = await run(argv);
    const cut = stdout.lastIndexOf("\n");
    return { status: Number(stdout.slice(cut + 1)), body: stdout.slice(0, cut) };
  };
}

let place: Place;
let stop: () => Promise<unknown>;
beforeEach(() => {
  place = new Place();
  stop = async () => undefined;
});
afterEach(async () => {
  await stop();
  place.remove();
});

async function start(...options: string[]): Promise<Daemon> {
  const daemon = await Daemon.start(place, ...options);
  stop = () => daemon.stop("SIGKILL");
  return daemon;
}
async function mustRefuse(ask: Ask, shots: typeof CONFIGURING): Promise<void> {
  for (const [method, path, body] of shots) {
    const answer = await ask(method, path, body);
    expect([method, path, answer.status]).toEqual([method, path, 403]);
    expect(JSON.parse(answer.body)).toEqual({
      type: "about:blank",
      title: "Forbidden",
      status: 403,
      code: "E-AUTH",
      detail: AUTH,
      ...(method === "GET" ? {} : { hint: expect.stringMatching(/^this needs the right (config|enable): /) }),
    });
  }
}
interface AuditRecord {
  user: string;
  command: string;
  result: string;
}
const audit = async (): Promise<AuditRecord[]> =>
  ((await (await place.fetch("/v1/audit")).json()) as { items: AuditRecord[] }).items;

describe.skipIf(!hasUsers)("users of the machine, on the socket", () => {
  /** The daemon in a mount namespace of its own, whose group file has our two groups. */
  async function startWithGroups(): Promise<void> {
    const groupFile = join(place.directory, "group");
    const system = readFileSync("/etc/group", "utf8").trimEnd();
    writeFileSync(groupFile, `${system}\nilb-config:x:59001:\nilb-enable:x:59002:\n`);
    chmodSync(place.directory, 0o755);
    const script = `mount --bind ${groupFile} /etc/group && exec ${ILBD} run --io none --state ${place.state} --socket ${place.socket}`;
    const child = Bun.spawn(["unshare", "-m", "sh", "-c", script], { stdout: "pipe", stderr: "ignore" });
    stop = async () => {
      child.kill("SIGKILL");
      await child.exited;
    };
    await child.stdout.getReader().read();
    await place.must("import-config", CONFIG);
  }
  const onSocket = (groups: string): Ask => curl(asUser(groups), ["--unix-socket", place.socket], "http://localhost");

  test("ILB-223 a user without rights: every change is E-AUTH, nothing changes, the audit log has user and command", async () => {
    await startWithGroups();
    await mustRefuse(onSocket(""), [...CONFIGURING, ...ENABLING]);
    expect(await place.must("export-config")).toBe(CONFIG);
    const refusals = (await audit()).filter((record) => record.result === "E-AUTH");
    expect(refusals.map((record) => record.user)).toEqual(Array(14).fill(`uid ${USER}`));
    for (const [index, [, , , command]] of [...CONFIGURING, ...ENABLING].entries())
      expect(refusals[index]!.command).toStartWith(command);
  });

  test("ILB-224 the group ilb-enable may switch rules and servers, and nothing else", async () => {
    await startWithGroups();
    const ask = onSocket("59002");
    for (const [method, path, body] of ENABLING) expect((await ask(method, path, body)).status).toBe(204);
    await mustRefuse(ask, CONFIGURING);
    expect(await place.must("export-config")).toBe(CONFIG);
  });

  test("the group ilb-config may configure, and may not switch", async () => {
    await startWithGroups();
    const ask = onSocket("59001");
    await mustRefuse(ask, ENABLING);
    expect((await ask("POST", "/v1/rules", RULE)).status).toBe(201);
    expect((await ask("DELETE", "/v1/rules", undefined)).status).toBe(204);
  });

  test("ILB-225 any local user may read everything", async () => {
    await startWithGroups();
    const ask = onSocket("");
    for (const path of READS) expect([path, (await ask("GET", path)).status]).toEqual([path, 200]);
    expect((await ask("GET", "/v1/config")).body).toBe(CONFIG);
    const line = await ask("POST", "/v1/ilbadm", { line: "export-config" });
    expect(JSON.parse(line.body)).toEqual({ exit: 0, stdout: CONFIG, stderr: "" });
  });
});

describe("over TCP", () => {
  const overTcp = (daemon: Daemon, token: string | null, ...extra: string[]): Ask => {
    const header = token === null ? [] : ["-H", `authorization: Bearer ${token}`];
    return curl([], [...header, ...extra], `http://127.0.0.1:${daemon.tcpPort}`);
  };
  async function makeToken(file: string, name: string, rights: string): Promise<string> {
    const made = await run([ILBD, "token", "add", "--file", file, "--name", name, "--rights", rights]);
    expect([made.status, made.stderr]).toEqual([0, ""]);
    return made.stdout.trim();
  }

  test("without a token file everybody on loopback may read, nobody may change, and only under a local Host name", async () => {
    const daemon = await start("--listen", "127.0.0.1:0");
    await place.must("import-config", CONFIG);
    const ask = overTcp(daemon, null);
    for (const path of READS) expect([path, (await ask("GET", path)).status]).toEqual([path, 200]);
    await mustRefuse(ask, [...CONFIGURING, ...ENABLING]);
    const rebound = await overTcp(daemon, null, "-H", "host: evil.example")("GET", "/v1/rules");
    expect([rebound.status, JSON.parse(rebound.body).code]).toEqual([403, "E-HOST"]);
    expect(await place.must("export-config")).toBe(CONFIG);
    expect((await audit()).filter(({ result }) => result === "E-HOST")).toMatchObject([
      { user: "anonymous over TCP", command: "GET /v1/rules" },
    ]);
  });

  test("ILB-223 ILB-224 a token has the rights that its line gives; without one 401 for all but health and static files", async () => {
    const file = join(place.directory, "tokens");
    const reader = await makeToken(file, "reader", "show");
    const switcher = await makeToken(file, "switcher", "show,enable");
    const deployer = await makeToken(file, "deployer", "config");
    const daemon = await start("--listen", "127.0.0.1:0", "--token-file", file);
    await place.must("import-config", CONFIG);

    for (const token of [null, "wrong", `${reader}x`]) {
      const ask = overTcp(daemon, token);
      for (const path of READS) {
        const open = ["/healthz", "/readyz", "/"].includes(path);
        expect([path, (await ask("GET", path)).status]).toEqual([path, open ? 200 : 401]);
      }
      expect((await ask("DELETE", "/v1/rules")).status).toBe(401);
    }
    for (const path of READS) expect((await overTcp(daemon, reader)("GET", path)).status).toBe(200);
    await mustRefuse(overTcp(daemon, reader), [...CONFIGURING, ...ENABLING]);
    for (const [method, path, body] of ENABLING)
      expect((await overTcp(daemon, switcher)(method, path, body)).status).toBe(204);
    await mustRefuse(overTcp(daemon, switcher), CONFIGURING);
    expect(await place.must("export-config")).toBe(CONFIG);
    await mustRefuse(overTcp(daemon, deployer), [["GET", "/v1/rules", undefined, ""], ...ENABLING]);
    expect((await overTcp(daemon, deployer)("POST", "/v1/rules", RULE)).status).toBe(201);

    const records = await audit();
    expect(records).toContainEqual(expect.objectContaining({ user: "token deployer", result: "ok" }));
    expect(records).toContainEqual(expect.objectContaining({ user: "token reader", result: "E-AUTH" }));
    expect(records).toContainEqual(expect.objectContaining({ command: "DELETE /v1/rules", result: "E-NOTOKEN" }));

    // Nothing that anybody can look at holds a token.
    const commandLine = readFileSync(`/proc/${daemon.child.pid}/cmdline`, "utf8");
    const dump = [commandLine, daemon.logged, JSON.stringify(records), readFileSync(file, "utf8")].join();
    for (const token of [reader, switcher, deployer]) expect(dump).not.toContain(token);
  });

  test("ilbadm over a URL has the rights of its token file", async () => {
    const file = join(place.directory, "tokens");
    const reader = await makeToken(file, "reader", "show");
    const daemon = await start("--listen", "127.0.0.1:0", "--token-file", file);
    const mine = join(place.directory, "mine");
    writeFileSync(mine, `${reader}\n`, { mode: 0o600 });
    const url = ["--url", `http://127.0.0.1:${daemon.tcpPort}`];
    const shown = await run([ILBADM, ...url, "--token-file", mine, "show-rule"]);
    expect([shown.status, shown.stderr]).toEqual([0, ""]);
    const refused = await run([ILBADM, ...url, "--token-file", mine, "create-servergroup", "x"]);
    expect([refused.status, refused.stderr.split("\n")[0]]).toEqual([1, `ilbadm: ${AUTH}`]);
    expect((await run([ILBADM, ...url, "show-rule"])).stderr).toContain("a valid bearer token is needed");
  });
});

describe("changes over HTTP", () => {
  const post = (path: string, body: unknown): Promise<Response> =>
    place.fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

  test("ILB-226 many clients at once: every change is there, as if they had come one by one", async () => {
    await start();
    const made = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        post("/v1/servergroups", { name: `g${i % 20}`, servers: [`192.0.2.${i + 1}`] }),
      ),
    );
    // Each name was asked for twice: one of the two made it, the other found it there.
    expect(made.filter(({ status }) => status === 201)).toHaveLength(20);
    expect(made.filter(({ status }) => status === 409)).toHaveLength(20);
    const { items } = (await (await place.fetch("/v1/servergroups")).json()) as { items: { servers: unknown[] }[] };
    expect(items.map(({ servers }) => servers.length)).toEqual(Array(20).fill(1));
  });

  test("ILB-221 ILB-227 what was answered 201 is there after SIGKILL and a new start", async () => {
    let daemon = await start();
    for (let round = 0; round < 3; round++) {
      expect((await post("/v1/servergroups", { name: `kill${round}`, servers: ["192.0.2.1"] })).status).toBe(201);
      await daemon.stop("SIGKILL");
      daemon = await start();
      const group = await place.fetch(`/v1/servergroups/kill${round}`);
      expect(await group.json()).toMatchObject({ name: `kill${round}`, servers: [{ address: "192.0.2.1" }] });
    }
  });

  test("Ctrl-C on an endless listing ends it in the daemon, not only at the user", async () => {
    const daemon = await start();
    const sockets = (): number => socketsOf(daemon.child.pid).size;
    const before = sockets();
    const following = Bun.spawn([ILBADM, "show-statistics", "3600"], {
      env: { ...process.env, ILB_SOCKET: place.socket },
      stdout: "pipe",
      stderr: "ignore",
    });
    await following.stdout.getReader().read();
    expect(sockets()).toBe(before + 1);
    following.kill("SIGINT");
    await following.exited;
    while (sockets() > before) await Bun.sleep(5);
    expect(await daemon.stop()).toBe(0);
  });
});
