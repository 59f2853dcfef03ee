import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { Daemon, type Finished, ILBADM, Place, run } from "../daemon/daemon.ts";
import { reachesCheckout } from "../support/capabilities.ts";
import { Authority, hasOpenssl } from "../support/certificates.ts";

/** The whole client against a real daemon without packets. */
let place: Place;
let daemon: Daemon;
beforeAll(async () => {
  place = new Place();
  daemon = await Daemon.start(place, "--listen", "127.0.0.1:0");
});
afterAll(async () => {
  await daemon.stop("SIGKILL");
  place.remove();
});
afterEach(() => place.must("import-config", ""));

const CONFIG = "create-servergroup sg1\nadd-server -s server=192.0.2.10 sg1\n";
const silent: Finished = { status: 0, stdout: "", stderr: "" };
const error = (...lines: string[]): Finished => ({
  status: 1,
  stdout: "",
  stderr: lines.map((line) => `ilbadm: ${line}\n`).join(""),
});

describe("the frame", () => {
  test("ILB-001 without arguments: error and usage on stderr", async () => {
    const done = await place.ilbadm("");
    expect(done.status).toBe(1);
    expect(done.stdout).toBe("");
    expect(done.stderr).toStartWith("ilbadm: the command line is incomplete (more arguments expected)\nUsage:\n");
  });

  test("ILB-002 ILB-006 ILB-007 unknown words fail, changes are silent", async () => {
    expect(await place.ilbadm("frobnicate")).toEqual(error("subcommand is invalid - please refer to ilbadm(8)"));
    expect(await place.ilbadm("create-servergroup sg1")).toEqual(silent);
  });

  test("ILB-019 without a daemon the first line says so, and a hint follows", async () => {
    const done = await run([ILBADM, "--socket", "/nonexistent/s", "show-rule"]);
    expect(done).toEqual(
      error(
        "socket() failed",
        "no ilbd answers on /nonexistent/s (ENOENT): start it with 'ilbd run', or name its socket with --socket or ILB_SOCKET",
      ),
    );
    const url = await run([ILBADM, "--url", "http://127.0.0.1:1", "show-rule"]);
    expect(url.stderr).toStartWith("ilbadm: socket() failed\nilbadm: nobody answers at http://127.0.0.1:1 (");
  });

  test.skipIf(!hasOpenssl)(
    "a certificate that is not trusted is named as such, with the way out, which works",
    async () => {
      const authority = new Authority();
      const { cert, key } = authority.issue("IP:127.0.0.1", 2, false);
      const server = Bun.serve({
        port: 0,
        hostname: "127.0.0.1",
        tls: { cert, key },
        fetch: () => new Response("hello"),
      });
      const certFile = join(place.directory, "cert.pem");
      writeFileSync(certFile, cert);
      try {
        const url = `https://127.0.0.1:${server.port}`;
        const refused = await run([ILBADM, "--url", url, "show-rule"]);
        expect([refused.status, refused.stderr]).toEqual([
          1,
          expect.stringMatching(
            /^ilbadm: socket\(\) failed\nilbadm: the certificate of .* is not trusted \([A-Z_]+\): NODE_EXTRA_CA_CERTS=FILE /,
          ),
        ]);
        const trusted = await run([ILBADM, "--url", url, "show-rule"], { env: { NODE_EXTRA_CA_CERTS: certFile } });
        expect(trusted.stderr).toBe("ilbadm: read() failed (HTTP status 200)\n");
      } finally {
        await server.stop(true);
        authority.close();
      }
    },
  );

  test("output that cannot be written is an error of its own, whoever made it", async () => {
    for (const words of ["show-stats", "help"]) {
      const command = `ILB_SOCKET='${place.socket}' '${ILBADM}' ${words} > /dev/full`;
      expect(await run(["sh", "-c", command])).toEqual(
        error("fflush() or send() failed", "output cannot be written (ENOSPC)"),
      );
    }
  });

  test("ILB-237 errors of syntax, help and version need no daemon", async () => {
    const alone = (...words: string[]) => run([ILBADM, "--socket", "/nonexistent/s", ...words]);
    expect((await alone("-V")).stdout).toMatch(/^ilbadm \d+\.\d+\.\d+\n$/);
    expect((await alone("--help")).stdout).toStartWith("Usage:\n");
    expect((await alone("-?")).stderr).toStartWith("Usage:\n");
    expect(await alone("show-rule", "-z")).toEqual(error("bad or misplaced option -z"));
    expect(await alone("create-rule", "-i", "vip=192.0.2.1,,port=80", "r")).toEqual(
      error("syntax failure - refer to ilbadm(8)"),
    );
  });

  test("long options: missing values, both ways at once, a token file without a token", async () => {
    expect(await run([ILBADM, "--socket"])).toEqual(error("missing option-argument for --socket"));
    expect(await run([ILBADM, "--socket=/a", "--url=http://b", "show-rule"])).toEqual(
      error("options --socket and --url are mutually exclusive"),
    );
    expect(await run([ILBADM, "--url", "ftp://b", "show-rule"])).toEqual(
      error("--url ftp://b is no http:// or https:// URL"),
    );
    expect(await run([ILBADM, "--url", "http://b", "--token-file", "/nonexistent", "show-rule"])).toEqual(
      error("file /nonexistent cannot be opened for reading"),
    );
    expect(await run([ILBADM, "--frobnicate"])).toEqual(error("subcommand is invalid - please refer to ilbadm(8)"));
  });
});

describe("where the daemon is", () => {
  test("--socket goes before ILB_SOCKET, --url before both", async () => {
    await place.must("import-config", CONFIG);
    const env = { ILB_SOCKET: "/nonexistent/s" };
    expect((await run([ILBADM, "--socket", place.socket, "export-config"], { env })).stdout).toBe(CONFIG);
    const url = `http://127.0.0.1:${daemon.tcpPort}/`;
    expect((await run([ILBADM, "--url", url, "export-config"], { env })).stdout).toBe(CONFIG);
  });

  test("over TCP without a token reading works and changing or importing is E-AUTH with a way out", async () => {
    const url = `http://127.0.0.1:${daemon.tcpPort}`;
    const eAuth = error(
      "user is not authorized to execute command",
      "hint: this needs the right config: be root or in the group ilb-config; over TCP, bring a token that has it",
    );
    expect(await run([ILBADM, "--url", url, "create-servergroup", "x"])).toEqual(eAuth);
    expect(await run([ILBADM, "--url", url, "import-config"], { input: "" })).toEqual(eAuth);
  });

  test("an answer that is not a daemon's is an error, not a crash", async () => {
    const other = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("<html>", { status: 502 }) });
    const url = `http://127.0.0.1:${other.port}`;
    expect(await run([ILBADM, "--url", url, "show-rule"])).toEqual(error("read() failed (HTTP status 502)"));
    await other.stop(true);
  });

  test("a daemon that dies in the middle of an answer is read() failed", async () => {
    const socket = join(place.directory, "cut");
    const server = createServer((connection) =>
      connection.once("data", () => {
        connection.write(
          'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n{"stdout":"half"}\n\r\n',
          () => connection.destroy(),
        );
      }),
    ).listen(socket);
    await new Promise((resolve) => server.once("listening", resolve));
    expect(await run([ILBADM, "--socket", socket, "export-config"])).toMatchObject({
      status: 1,
      stderr: "ilbadm: read() failed\n",
    });
    const file = join(place.directory, "kept");
    writeFileSync(file, "old");
    expect(await run([ILBADM, "--socket", socket, "export-config", file])).toEqual(error("read() failed"));
    expect(readFileSync(file, "utf8")).toBe("old");
    expect(readdirSync(place.directory).filter((name) => name.includes("ilbadm"))).toEqual([]);
    server.close();
  });
});

describe("files", () => {
  let files = 0;
  const file = (): string => join(place.directory, `f${files++}`);

  test("ILB-276 FILE holds exactly what stdout shows, mode 0600", async () => {
    await place.must("import-config", CONFIG);
    const path = file();
    expect(await place.ilbadm(`export-config ${path}`)).toEqual(silent);
    expect(readFileSync(path, "utf8")).toBe(await place.must("export-config"));
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("ILB-277 ILB-157 FILE and standard input import the same", async () => {
    const path = file();
    writeFileSync(path, CONFIG);
    expect(await place.ilbadm(`import-config ${path}`)).toEqual(silent);
    expect(await place.must("export-config")).toBe(CONFIG);
    expect(await place.ilbadm("import-config -p", "create-servergroup sg2\n")).toEqual(silent);
    expect(await place.must("export-config")).toBe(`${CONFIG}create-servergroup sg2\n`);
  });

  test("ILB-160 ILB-163 a wrong line or an unreadable file changes nothing", async () => {
    await place.must("import-config", CONFIG);
    const path = file();
    writeFileSync(path, "create-servergroup a\n\nfrobnicate\n");
    expect(await place.ilbadm(`import-config ${path}`)).toEqual(
      error(`${path}: line 3: subcommand is invalid - please refer to ilbadm(8)`),
    );
    expect(await place.ilbadm("import-config", "frobnicate")).toEqual(
      error("-: line 1: subcommand is invalid - please refer to ilbadm(8)"),
    );
    const missing = await place.ilbadm("import-config /nonexistent");
    expect(missing.stderr).toStartWith("ilbadm: file /nonexistent cannot be opened for reading\nUsage:\n");
    expect([missing.status, missing.stdout]).toEqual([1, ""]);
    expect(await place.must("export-config")).toBe(CONFIG);
  });

  test("show lines of an import print, also before the line that fails", async () => {
    const done = await place.ilbadm("import-config", `${CONFIG}show-servergroup\nfrobnicate\n`);
    expect(done.stdout).toBe("sg1: id:_sg1.0 192.0.2.10\n");
    expect(done.status).toBe(1);
  });

  test("ILB-156 a full file system leaves FILE and no temporary file", async () => {
    const disk = join(place.directory, "disk");
    mkdirSync(disk);
    const lines = Array.from(
      { length: 2000 },
      (_, i) => `add-server -s server=10.1.${i >> 8}.${i & 255} big${i >> 9}\n`,
    );
    const groups = [0, 1, 2, 3].map((n) => `create-servergroup big${n}\n`);
    await place.must("import-config", [...groups, ...lines].join(""));
    const script = `mount -t tmpfs -o size=16k tmpfs ${disk} && echo old > ${disk}/f && ${ILBADM} export-config ${disk}/f; echo $? && cat ${disk}/f && ls -A ${disk}`;
    const done = await run(["unshare", "-m", "sh", "-c", script], { env: { ILB_SOCKET: place.socket } });
    expect(done.stderr).toStartWith(`ilbadm: cannot create ${disk}/f: `);
    expect(done.stdout).toBe("1\nold\nf\n");
  });

  const another = ["setpriv", "--reuid", "59100", "--regid", "59100", "--clear-groups"];
  const main = join(import.meta.dir, "../../src/cli/main.ts");

  test.skipIf(!reachesCheckout(another))(
    "ILB-240 the caller's rights decide about FILE, not the daemon's",
    async () => {
      const path = join(place.directory, "roots");
      writeFileSync(path, "old");
      chmodSync(path, 0o600);
      // A user who may not write the directory, though the daemon (root) may.
      const done = await run([...another, process.execPath, main, "export-config", path], {
        env: { ILB_SOCKET: place.socket, HOME: "/nonexistent" },
      });
      expect(done.status).toBe(1);
      expect(done.stderr).toBe("ilbadm: cannot create working file\n");
      expect(readFileSync(path, "utf8")).toBe("old");
    },
  );

  test("a symbolic link is written through, a device is not replaced", async () => {
    await place.must("import-config", CONFIG);
    const [target, link] = [file(), `${file()}l`];
    writeFileSync(target, "old");
    symlinkSync(target, link);
    expect(await place.ilbadm(`export-config ${link}`)).toEqual(silent);
    expect(readFileSync(target, "utf8")).toBe(CONFIG);
    expect(await place.ilbadm("export-config /dev/null")).toEqual(silent);
    expect(statSync("/dev/null").isCharacterDevice()).toBe(true);
  });
});

describe("output", () => {
  test("ILB-267 show-statistics 1 3: three samples a second apart", async () => {
    const begun = performance.now();
    const listing = await place.must("show-statistics 1 3");
    expect(performance.now() - begun).toBeGreaterThanOrEqual(1990);
    expect(listing.trim().split("\n")).toHaveLength(4);
  });

  test("ILB-267 a sample is readable long before the next one is taken", async () => {
    const child = Bun.spawn([ILBADM, "show-statistics", "3600", "2"], {
      env: { ...process.env, ILB_SOCKET: place.socket },
      stdout: "pipe",
    });
    const reader = child.stdout.getReader();
    let text = "";
    while (text.split("\n").length < 3) text += new TextDecoder().decode((await reader.read()).value);
    expect(text.split("\n")[1]).toStartWith("0 ");
    child.kill("SIGINT");
    await child.exited;
  });

  test("a reader that closes the pipe ends it without a word", async () => {
    await place.must("import-config", CONFIG);
    const script = `${ILBADM} show-statistics 1 | head -1; exit "\${PIPESTATUS[0]}"`;
    const done = await run(["timeout", "100", "bash", "-c", script], { env: { ILB_SOCKET: place.socket } });
    expect(done.stdout.split("\n")[0]).toStartWith("PKT_P ");
    expect([done.status, done.stderr]).toEqual([1, ""]);
  });

  test("a listing of a thousand servers comes whole", async () => {
    const lines = Array.from({ length: 1000 }, (_, i) => `add-server -s server=10.2.${i >> 8}.${i & 255} big\n`);
    await place.must("import-config", `create-servergroup big\n${lines.join("")}`);
    const listing = await place.must("show-servergroup");
    expect(listing.split("\n")).toHaveLength(1001);
    expect(existsSync(place.socket)).toBe(true);
  });
});
