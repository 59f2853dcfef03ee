import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { preferred, readBytes } from "../../src/http/body.ts";
import { isLocalHost, parseListen, refuseListen } from "../../src/http/listen.ts";
import { type Accounts, callerOfPeer, systemAccounts } from "../../src/http/peer.ts";
import { problemResponse } from "../../src/http/problem.ts";
import { listenTcp, type TcpServer, type TcpServerOptions } from "../../src/http/tcp-server.ts";
import { runToken } from "../../src/http/token-command.ts";
import { parseTokens, TokenFile } from "../../src/http/tokens.ts";
import { SILENT } from "../control/fakes.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ilb-access-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

describe("rights of a Unix peer", () => {
  const accounts: Accounts = {
    groupId: (name) => ({ "ilb-config": 501, "ilb-enable": 502 })[name] ?? null,
    userName: (uid) => (uid === 1000 ? "alice" : null),
  };
  const peer = (uid: number, gid: number, ...groups: number[]) => ({ pid: 1, uid, gid, groups });
  test.each([
    ["root may do everything", peer(0, 0), ["config", "enable", "show"]],
    ["the daemon's own user may do everything", peer(77, 77), ["config", "enable", "show"]],
    ["anybody may read", peer(1000, 1000), ["show"]],
    ["ilb-config as a supplementary group", peer(1000, 1000, 4, 501), ["config", "show"]],
    ["ilb-config as the primary group", peer(1000, 501), ["config", "show"]],
    ["ilb-enable does not imply config", peer(1000, 1000, 502), ["enable", "show"]],
    ["both groups", peer(1000, 1000, 501, 502), ["config", "enable", "show"]],
  ])("%s", (_name, identity, rights) => {
    expect([...callerOfPeer(identity, accounts, 77).rights].sort() as string[]).toEqual(rights);
  });

  test("without the groups on the machine nobody but root gets more than show", () => {
    const bare: Accounts = { groupId: () => null, userName: () => null };
    expect([...callerOfPeer(peer(5, 0, 0), bare, 77).rights]).toEqual(["show"]);
  });

  test("callers are named by number and, where known, by name", () => {
    expect(callerOfPeer(peer(1000, 1), accounts, 77).name).toBe("uid 1000 (alice)");
    expect(callerOfPeer(peer(1001, 1), accounts, 77).name).toBe("uid 1001");
  });

  test("account files are read line by line, and a missing one holds nothing", () => {
    const group = join(directory, "group");
    writeFileSync(group, "root:x:0:\nilb-config:x:501:alice\nbroken\nilb-enable:x:abc:\n");
    const files = systemAccounts(group, join(directory, "none"));
    expect([files.groupId("ilb-config"), files.groupId("ilb-enable"), files.groupId("x")]).toEqual([501, null, null]);
    expect(files.userName(0)).toBeNull();
  });
});

describe("token file", () => {
  test("a wrong line is named by number and not quoted", () => {
    for (const line of [
      "deploy",
      "deploy show",
      `deploy all ${sha256("x")}`,
      `deploy show ${sha256("x")} more`,
      "deploy show abc",
    ]) {
      const parsed = parseTokens(`# tokens\n\n${line}\n`);
      expect(parsed.ok ? "" : parsed.failure.text).toBe("line 3 is not NAME show,enable,config SHA256-OF-TOKEN");
    }
  });

  test("a token is withdrawn when the file changes, all of them when it goes bad", () => {
    const file = join(directory, "tokens");
    writeFileSync(file, `a show ${sha256("one")}\nb show,config ${sha256("two")}\n`);
    const opened = TokenFile.open(file, SILENT);
    if (!opened.ok) throw new Error(opened.failure.text);
    const who = (token: string) => opened.value.callerOf(`Bearer ${token}`)?.name ?? null;
    expect([
      who("one"),
      who("two"),
      who("three"),
      opened.value.callerOf(null),
      opened.value.callerOf("Basic one"),
    ]).toEqual(["token a", "token b", null, null, null]);
    writeFileSync(file, `b show,config ${sha256("two")}\n`);
    utimesSync(file, 5, 5);
    expect([who("one"), who("two")]).toEqual([null, "token b"]);
    writeFileSync(file, "garbage\n");
    expect([who("one"), who("two")]).toEqual([null, null]);
    rmSync(file);
    expect(who("two")).toBeNull();
  });

  test("a file that other users can write is refused, one that they can read is told", () => {
    const file = join(directory, "tokens");
    const text = `a show ${sha256("one")}\n`;
    const warnings: string[] = [];
    const log = { ...SILENT, warn: (message: string) => warnings.push(message) };
    const open = (mode: number): string => {
      writeFileSync(file, text);
      chmodSync(file, mode);
      const opened = TokenFile.open(file, log);
      return opened.ok ? "opened" : opened.failure.text;
    };
    expect([open(0o600), warnings]).toEqual(["opened", []]);
    expect([open(0o640), warnings]).toEqual(["opened", ["other users can read the token file: chmod 600"]]);
    for (const mode of [0o660, 0o602, 0o666]) expect(open(mode)).toContain("other users can write it");
  });

  test("a running daemon withdraws all tokens when the file becomes open to others", () => {
    const file = join(directory, "tokens");
    writeFileSync(file, `a show ${sha256("one")}\n`, { mode: 0o600 });
    const opened = TokenFile.open(file, SILENT);
    if (!opened.ok) throw new Error(opened.failure.text);
    expect(opened.value.callerOf("Bearer one")?.name).toBe("token a");
    chmodSync(file, 0o666);
    expect(opened.value.callerOf("Bearer one")).toBeNull();
  });

  test("a file that cannot be read refuses the start", () => {
    const opened = TokenFile.open("/nonexistent", SILENT);
    expect(opened.ok ? "" : opened.failure.text).toBe("--token-file /nonexistent: ENOENT");
  });
});

describe("ilbd token", () => {
  const token = (...words: string[]): string => {
    const done = runToken(words);
    return done.ok ? done.value : `wrong: ${done.failure.text}`;
  };

  test("what add prints is a token that the daemon takes, the file holds its hash alone, and remove withdraws it", () => {
    const file = join(directory, "tokens");
    const made = token("add", "--file", file, "--name", "deploy", "--rights", "show,enable").trim();
    expect(made).toMatch(/^ilb_[A-Za-z0-9_-]{43}$/);
    const other = token("add", "--file", file, "--name", "watch", "--rights", "show").trim();
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, "utf8")).toBe(`deploy show,enable ${sha256(made)}\nwatch show ${sha256(other)}\n`);
    const opened = TokenFile.open(file, SILENT);
    if (!opened.ok) throw new Error(opened.failure.text);
    expect([...opened.value.callerOf(`Bearer ${made}`)!.rights]).toEqual(["show", "enable"]);
    expect(token("list", "--file", file)).toBe("deploy show,enable\nwatch show\n");
    expect(token("remove", "--file", file, "--name", "deploy")).toBe("");
    expect([opened.value.callerOf(`Bearer ${made}`), opened.value.callerOf(`Bearer ${other}`)?.name]).toEqual([
      null,
      "token watch",
    ]);
  });

  test("what is wrong is said in one line and changes nothing; comments stay", () => {
    const file = join(directory, "tokens");
    writeFileSync(file, `# ours\na show ${sha256("one")}\n`);
    const before = readFileSync(file, "utf8");
    const cases: [string[], string][] = [
      [[], "one of add, list, remove is needed"],
      [["frob"], "one of add, list, remove is needed"],
      [["add", "--file", file, "--name", "a", "--rights", "show"], "has a token of this name"],
      [["add", "--file", file, "--name", "b", "--rights", "all"], "--rights all: a list of show, enable, config"],
      [["add", "--file", file, "--name", "b c", "--rights", "show"], "--name b c: letters"],
      [["add", "--file", file, "--name", "b"], "token add needs --rights"],
      [["add", "--file", join(directory, "no/where"), "--name", "b", "--rights", "show"], "cannot be written (ENOENT)"],
      [["list", "--file", file, "--name", "a"], "token list takes no --name"],
      [["list", "--file"], "--file needs a value"],
      [["remove", "--file", file, "--name", "x"], "has no such token"],
      [["list", "--file", "/nonexistent"], "cannot be read (ENOENT)"],
    ];
    for (const [words, text] of cases) expect(token(...words)).toContain(text);
    expect(readFileSync(file, "utf8")).toBe(before);
    token("add", "--file", file, "--name", "b", "--rights", "config");
    expect(readFileSync(file, "utf8")).toStartWith(before);
  });
});

describe("TCP", () => {
  let server: TcpServer | null = null;
  afterEach(async () => {
    await server?.stop();
    server = null;
  });
  const refusals: string[] = [];
  function listen(extra: Partial<TcpServerOptions>): string {
    refusals.length = 0;
    const started = listenTcp({
      listen: { hostname: "127.0.0.1", port: 0, isLoopback: true },
      tokens: null,
      tls: null,
      handler: (_request, caller) => new Response([caller.name, ...caller.rights].join(",")),
      refused: (_caller, command, code) => refusals.push(`${command} ${code}`),
      log: SILENT,
      ...extra,
    });
    if (!started.ok) throw new Error(started.failure.text);
    server = started.value;
    return `http://127.0.0.1:${server.port}`;
  }
  function tokenFile(): TokenFile {
    const file = join(directory, "tokens");
    writeFileSync(file, `deploy show,enable ${sha256("secret")}\n`);
    const opened = TokenFile.open(file, SILENT);
    if (!opened.ok) throw new Error(opened.failure.text);
    return opened.value;
  }

  test("without tokens everybody on loopback is a reader, under a local Host name only", async () => {
    const url = listen({});
    expect(await (await fetch(`${url}/v1/rules`)).text()).toBe("anonymous over TCP,show");
    const rebound = await fetch(`${url}/v1/rules`, { headers: { host: "evil.example" } });
    expect([rebound.status, ((await rebound.json()) as { code: string }).code]).toEqual([403, "E-HOST"]);
    for (const host of ["localhost", "localhost:9080", "127.0.0.1", "[::1]:80", "127.9.9.9:1"])
      expect((await fetch(`${url}/`, { headers: { host } })).status).toBe(200);
  });

  test("with tokens: 401 without a valid one, but for health, readiness and static files", async () => {
    const url = listen({ tokens: tokenFile() });
    const status = async (path: string, init?: RequestInit) => (await fetch(url + path, init)).status;
    expect(await status("/v1/rules")).toBe(401);
    expect(await status("/metrics")).toBe(401);
    expect(await status("/v1/rules", { headers: { authorization: "Bearer wrong" } })).toBe(401);
    expect(refusals).toEqual(["GET /v1/rules", "GET /metrics", "GET /v1/rules"].map((line) => `${line} E-NOTOKEN`));
    for (const path of ["/healthz", "/readyz", "/", "/dashboard.js"]) expect(await status(path)).toBe(200);
    expect(await status("/", { method: "POST" })).toBe(401);
    const allowed = await fetch(`${url}/v1/rules`, { headers: { authorization: "Bearer secret" } });
    expect(await allowed.text()).toBe("token deploy,show,enable");
    const challenge = await fetch(`${url}/v1/rules`);
    expect(challenge.headers.get("www-authenticate")).toBe('Bearer realm="ilb"');
    const wrong = await fetch(`${url}/v1/rules`, { headers: { authorization: "Bearer wrong" } });
    expect(wrong.headers.get("www-authenticate")).toBe('Bearer realm="ilb", error="invalid_token"');
  });

  function makeCertificate(name: string, certFile: string, keyFile: string): void {
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    const files = ["-keyout", keyFile, "-out", certFile];
    const made = Bun.spawnSync(["openssl", "req", "-x509", ...curve, "-subj", `/CN=${name}`, "-days", "2", ...files]);
    expect(made.exitCode).toBe(0);
  }

  test("a changed certificate is taken over without ending what is being answered; a wrong one is not", async () => {
    const [certFile, keyFile] = [join(directory, "cert"), join(directory, "key")];
    makeCertificate("first", certFile, keyFile);
    const answer = Promise.withResolvers<Response>();
    const isAsked = Promise.withResolvers<void>();
    listen({
      tokens: tokenFile(),
      tls: { certFile, keyFile },
      handler: (request) => {
        if (!request.url.endsWith("/slow")) return new Response("ok");
        isAsked.resolve();
        return answer.promise;
      },
    });
    const ask = (path: string) =>
      fetch(`https://127.0.0.1:${server!.port}${path}`, {
        headers: { authorization: "Bearer secret", connection: "close" },
        tls: { rejectUnauthorized: false },
      } as BunFetchRequestInit);
    const nameNow = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connect({ port: server!.port, host: "127.0.0.1", rejectUnauthorized: false }, () => {
          resolve(String(socket.getPeerCertificate().subject.CN));
          socket.destroy();
        });
        socket.once("error", reject);
      });
    const slow = ask("/slow");
    // A connection whose request has not been read yet may end with the certificate.
    await isAsked.promise;
    expect(await nameNow()).toBe("first");
    makeCertificate("second", certFile, keyFile);
    await server!.refresh();
    expect(await nameNow()).toBe("second");
    writeFileSync(certFile, "no certificate");
    await server!.refresh();
    expect(await nameNow()).toBe("second");
    expect(await (await ask("/v1/rules")).text()).toBe("ok");
    answer.resolve(new Response("at last"));
    expect(await (await slow).text()).toBe("at last");
  });

  test("TLS works with a certificate and refuses a wrong key in one line", async () => {
    const [certFile, keyFile] = [join(directory, "cert"), join(directory, "key")];
    makeCertificate("localhost", certFile, keyFile);
    listen({ tokens: tokenFile(), tls: { certFile, keyFile } });
    const answer = await fetch(`https://127.0.0.1:${server!.port}/v1/rules`, {
      headers: { authorization: "Bearer secret" },
      tls: { rejectUnauthorized: false },
    } as BunFetchRequestInit);
    expect(await answer.text()).toBe("token deploy,show,enable");
    writeFileSync(keyFile, "no key");
    expect(() => listen({ tls: { certFile, keyFile } })).toThrow(`cannot use --tls-cert ${certFile} and --tls-key`);
    const missing = join(directory, "missing");
    expect(() => listen({ tls: { certFile: missing, keyFile } })).toThrow(
      /^cannot use --tls-cert .*missing.*: ENOENT; /,
    );
  });

  test("a body beyond every limit is refused by the application's own problem document", async () => {
    const url = listen({
      handler: async (request) => {
        const read = await readBytes(request, { bytes: 1000, ms: 5000 });
        return read.ok ? new Response("taken") : problemResponse(request, read.failure);
      },
    });
    const body = new Uint8Array(70 * 1024 * 1024);
    const refused = await fetch(`${url}/v1/config`, { method: "PUT", body });
    expect([refused.status, ((await refused.json()) as { code: string }).code]).toEqual([413, "E-TOOBIG"]);
  });

  test("addresses and what they need", () => {
    const listenOf = (text: string) => {
      const parsed = parseListen(text);
      return parsed.ok ? parsed.value : parsed.failure.text;
    };
    expect(listenOf("127.0.0.1:9080")).toEqual({ hostname: "127.0.0.1", port: 9080, isLoopback: true });
    expect(listenOf("[::1]:9080")).toEqual({ hostname: "::1", port: 9080, isLoopback: true });
    expect(listenOf("localhost:0")).toEqual({ hostname: "localhost", port: 0, isLoopback: true });
    expect(listenOf("0.0.0.0:80")).toEqual({ hostname: "0.0.0.0", port: 80, isLoopback: false });
    for (const wrong of ["9080", ":9080", "::1:9080", "127.0.0.1:70000", "[127.0.0.1]:80"])
      expect(listenOf(wrong)).toBeString();
    const outside = { hostname: "192.0.2.1", port: 1, isLoopback: false };
    expect(refuseListen(outside, true, true)).toBeNull();
    // NBU-054: not on the ports that are registered for another product.
    for (const port of [1556, 13724, 2821, 4032])
      expect(refuseListen({ ...outside, port }, true, true)).toContain("registered for NetBackup");
    for (const [tokens, tls] of [
      [true, false],
      [false, true],
      [false, false],
    ] as const)
      expect(refuseListen(outside, tokens, tls)).toContain("--token-file, --tls-cert and --tls-key");
    expect([isLocalHost(null), isLocalHost("127.0.0.1.evil.example"), isLocalHost("localhost.evil")]).toEqual([
      false,
      false,
      false,
    ]);
  });
});

test("Accept is read as RFC 9110 says", () => {
  const offered = ["application/json", "application/msgpack"];
  expect(preferred(null, offered)).toBe("application/json");
  expect(preferred("*/*", offered)).toBe("application/json");
  expect(preferred("application/msgpack", offered)).toBe("application/msgpack");
  expect(preferred("application/json;q=0.5, application/msgpack", offered)).toBe("application/msgpack");
  expect(preferred("application/*;q=0.2", offered)).toBe("application/json");
  expect(preferred("application/json;q=0, */*", offered)).toBe("application/msgpack");
  expect(preferred("text/html", offered)).toBeNull();
});
