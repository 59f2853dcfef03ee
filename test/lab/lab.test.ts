/** Laboratories and sandboxes leave nothing behind, however they end. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Lab, SERVER_PORT } from "../../src/lab/lab.ts";
import { findSandbox } from "../../src/lab/sandbox.ts";
import { ADDRESSES, type Family, serverAddress } from "../../src/lab/topology.ts";
import { hasNamespaces } from "../support/capabilities.ts";
import { isAlive } from "../support/processes.ts";

const PATIENCE_MS = 60_000;
const LAB = join(import.meta.dir, "../../src/lab/lab.ts");

function namespaces(): string[] {
  const list = Bun.spawnSync(["ip", "netns", "list"]).stdout.toString().trim();
  return list === "" ? [] : list.split("\n").map((line) => line.split(" ")[0] ?? "");
}

async function until(isTrue: () => boolean, what: string): Promise<void> {
  const givenUpMs = Date.now() + PATIENCE_MS;
  while (!isTrue()) {
    if (Date.now() > givenUpMs) throw new Error(`still not: ${what}`);
    await Bun.sleep(20);
  }
}

/** First line of a stream. */
async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  for await (const chunk of stream) {
    text += Buffer.from(chunk).toString();
    if (text.includes("\n")) break;
  }
  return text.split("\n")[0] ?? "";
}

describe.skipIf(!hasNamespaces)("a laboratory", () => {
  const shapes = (["two-armed", "one-armed", "routed"] as const).flatMap((topology) =>
    [[4], [6], [4, 6]].map((families) => ({ topology, families: families as Family[] })),
  );
  test.each(shapes)(
    "$topology, IPv$families: client and servers reach each other, and close() leaves nothing",
    async ({ topology, families }) => {
      const before = namespaces();
      const lab = await Lab.create({ tag: "t1", topology, families });
      await lab.startServers();
      const base = { port: SERVER_PORT, timeoutMs: PATIENCE_MS } as const;
      for (const family of families) {
        const { client, server } = ADDRESSES[family];
        const from = lab.clientAddresses.map((_, index) => client(index));
        // One-armed servers answer by way of the box, which then routes back out of its only port.
        const asked = { kind: "requests", ...base, host: server(1), from, count: 8, concurrency: 2 } as const;
        expect(await lab.client(asked)).toEqual({ answered: { s2: 8 }, failures: [], resent: 0 });
        const datagrams = { kind: "udp", ...base, host: server(0), sockets: 2, count: 6, bytes: 100 } as const;
        expect(await lab.client({ ...datagrams, from })).toMatchObject({ answered: { s1: 6 }, failures: [] });
        expect(await lab.client({ ...datagrams, from: [] })).toMatchObject({ answered: { s1: 6 }, failures: [] });
        expect(await lab.must(lab.names.client, ["ip", `-${family}`, "addr"])).toContain(`${client(3)}/`);
      }
      await lab.close();
      expect(namespaces()).toEqual(before);
      expect(existsSync(lab.directory)).toBe(false);
    },
    PATIENCE_MS,
  );

  test(
    "a client notices what fails",
    async () => {
      const lab = await Lab.create({ tag: "t2", servers: 1 });
      const nobody = { host: serverAddress(0), port: SERVER_PORT, from: [], timeoutMs: 2_000 } as const;
      const refused = await lab.client({ kind: "requests", ...nobody, count: 2, concurrency: 1 });
      expect(refused.answered).toEqual({});
      expect(refused.failures).toHaveLength(2);
      await lab.close();
    },
    PATIENCE_MS,
  );

  test("one that cannot be built says why and leaves nothing", async () => {
    const before = namespaces();
    expect(Lab.create({ tag: "t3", serverMtu: 1 })).rejects.toThrow("cannot be built");
    await until(() => namespaces().length === before.length, "removed");
  });

  test(
    "killed outside of a sandbox, the watchdog removes it",
    async () => {
      const before = namespaces();
      const script = `import { Lab } from ${JSON.stringify(LAB)};
        const lab = await Lab.create({ tag: "t4" }); await lab.startServers(); console.log(lab.directory); await Bun.sleep(1e6);`;
      const child = Bun.spawn([process.execPath, "-e", script], {
        stdout: "pipe",
        stderr: "inherit",
        env: { ...process.env, ILB_SANDBOX: "" },
      });
      const directory = await firstLine(child.stdout);
      expect(namespaces().length).toBe(before.length + 6);
      child.kill("SIGKILL");
      await until(() => namespaces().length === before.length && !existsSync(directory), "removed by the watchdog");
    },
    PATIENCE_MS,
  );
});

describe.skipIf(!hasNamespaces)("a sandbox", () => {
  const sandbox = findSandbox();
  const wrap = (...argv: string[]) => (sandbox.available ? sandbox.wrap(argv) : argv);

  test("hides what is made inside and passes on status and standard streams", async () => {
    const script = "ip netns add ilb-inside && ip link add ilb0 type veth peer name ilb1 && cat && pwd && exit 7";
    const child = Bun.spawn(wrap("sh", "-c", script), { stdin: new Blob(["hello\n"]), stdout: "pipe" });
    expect(await new Response(child.stdout).text()).toBe(`hello\n${process.cwd()}\n`);
    expect(await child.exited).toBe(7);
    expect(namespaces()).not.toContain("ilb-inside");
    expect(Bun.spawnSync(["ip", "link", "show", "ilb0"], { stderr: "ignore" }).exitCode).not.toBe(0);
  });

  test(
    "ends with everything in it when its starter is killed",
    async () => {
      const marker = `3600.${process.pid}`;
      const starter = `const child = Bun.spawn(${JSON.stringify(wrap("sh", "-c", `sleep ${marker} & sleep ${marker} & wait`))});
        console.log(child.pid); await child.exited;`;
      const child = Bun.spawn([process.execPath, "-e", starter], { stdout: "pipe" });
      const pid = Number(await firstLine(child.stdout));
      const sleepers = () =>
        Bun.spawnSync(["sh", "-c", `grep -lzx --regexp=${marker} /proc/[0-9]*/cmdline 2>/dev/null | wc -l`])
          .stdout.toString()
          .trim();
      await until(() => sleepers() === "2", "two sleepers");
      child.kill("SIGKILL");
      await until(() => sleepers() === "0" && !isAlive(pid), "all ended");
    },
    PATIENCE_MS,
  );
});
