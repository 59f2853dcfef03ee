import { ptr } from "bun:ffi";
import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Lock,
  lockName,
  monotonicMs,
  type PeerIdentity,
  peerIdentity,
  populate,
  useHugePages,
} from "../../src/native/system.ts";

const PAGE = 4096;
const directory = mkdtempSync(join(tmpdir(), "ilb-system-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Other users exist only where more than one is mapped into our user namespace. */
const ONE_USER = readFileSync("/proc/self/uid_map", "utf8").trim().endsWith(" 1");
const OTHER_USER = process.getuid?.() === 0 && !ONE_USER;

/** The identity that a server sees of a client started with `wrapper` in front. */
async function seenOf(name: string, wrapper: readonly string[]): Promise<{ identity: PeerIdentity; pid: number }> {
  const path = join(directory, name);
  const { promise, resolve, reject } = Promise.withResolvers<PeerIdentity>();
  const server = Bun.listen({
    unix: path,
    socket: {
      open(socket) {
        try {
          resolve(peerIdentity((socket as unknown as { fd: number }).fd));
        } catch (error) {
          reject(error);
        }
        socket.end();
      },
      data() {},
    },
  });
  chmodSync(directory, 0o755);
  chmodSync(path, 0o666);
  const script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ns.recv(1)";
  const client = Bun.spawn([...wrapper, "/usr/bin/python3", "-c", script, path], { stderr: "pipe" });
  const failed = client.exited.then(async (status) => {
    if (status !== 0) throw new Error(`client ended: ${await new Response(client.stderr).text()}`);
    return await promise;
  });
  const identity = await Promise.race([promise, failed]);
  await client.exited;
  server.stop(true);
  return { identity, pid: client.pid };
}

describe("the identity of a Unix socket's peer", () => {
  test("is the process that connected", async () => {
    const { identity, pid } = await seenOf("self.sock", []);
    expect(identity).toEqual({
      pid,
      uid: process.getuid?.() ?? -1,
      gid: process.getgid?.() ?? -1,
      groups: process.getgroups?.() ?? [],
    });
  });

  test.skipIf(!OTHER_USER)(
    "shows another user with all supplementary groups (needs root and more than one user)",
    async () => {
      const wrapper = ["setpriv", "--reuid", "1234", "--regid", "2345", "--groups", "3456,4567,5678"];
      const { identity } = await seenOf("other.sock", wrapper);
      expect(identity).toMatchObject({ uid: 1234, gid: 2345, groups: [3456, 4567, 5678] });
    },
  );

  test.skipIf(!OTHER_USER)("shows more groups than one usually has (needs root and more than one user)", async () => {
    const groups = Array.from({ length: 300 }, (_, i) => 10000 + i);
    const wrapper = ["setpriv", "--reuid", "1234", "--regid", "2345", "--groups", groups.join(",")];
    expect((await seenOf("many.sock", wrapper)).identity.groups).toEqual(groups);
  });

  test("of something that is no socket is an error", () => {
    expect(() => peerIdentity(-1)).toThrow("cannot read the identity of the peer of a Unix socket: EBADF");
  });
});

describe("a name taken in the network namespace", () => {
  const name = `ilb-test-${process.pid}`;
  const taken = (): Lock => {
    const lock = lockName(name);
    if (!("release" in lock)) throw new Error(`held by ${lock.pid}`);
    return lock;
  };

  test("is refused to another holder until it is released, and names the one who has it", () => {
    const lock = taken();
    expect(lockName(name)).toEqual({ pid: process.pid, uid: process.getuid?.() ?? -1 });
    lock.release();
    lock.release();
    taken().release();
  });

  test("is free again when its process was killed", async () => {
    const module = JSON.stringify(join(import.meta.dir, "../../src/native/system.ts"));
    const script = `import { lockName } from ${module}; lockName("${name}"); console.log("held"); await new Promise(() => setInterval(() => {}, 1e6))`;
    const holder = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
    await holder.stdout.getReader().read();
    expect(lockName(name)).toMatchObject({ pid: holder.pid });
    holder.kill("SIGKILL");
    await holder.exited;
    taken().release();
  });

  test("of a socket that does not listen is held by nobody known", async () => {
    const script = `import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.bind("\\0${name}")\nprint("held", flush=True)\nsys.stdin.read()`;
    const holder = Bun.spawn(["python3", "-c", script], { stdin: "pipe", stdout: "pipe" });
    await holder.stdout.getReader().read();
    expect(lockName(name)).toEqual({ pid: null, uid: null });
    holder.stdin.end();
    await holder.exited;
    taken().release();
  });

  test("that is too long is an error", () => {
    expect(() => lockName("x".repeat(108))).toThrow("EINVAL");
    const longest = lockName("x".repeat(107));
    expect("release" in longest).toBe(true);
    if ("release" in longest) longest.release();
  });
});

test("the clock is the kernel's monotonic clock in milliseconds", () => {
  // /proc/uptime counts from boot as well, suspended time included.
  const uptimeMs = () => Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1000;
  const before = monotonicMs();
  const uptime = uptimeMs();
  const after = monotonicMs();
  expect(after).toBeGreaterThanOrEqual(before);
  expect(uptime - before).toBeGreaterThan(-20);
});

test("huge pages are asked for without error on memory that is too small for one", () => {
  expect(useHugePages(new SharedArrayBuffer(4096), [{ offset: 0, bytes: 4096 }])).toBe(true);
});

/** Pages of a range that are in memory, asked of /proc/self/pagemap (bit 63 of each u64): looking does not fault them in. */
function residentPages(address: number, bytes: number): number {
  const entries = new BigUint64Array(bytes / PAGE);
  const map = openSync("/proc/self/pagemap", "r");
  try {
    readSync(map, entries, 0, entries.byteLength, (address / PAGE) * 8);
  } finally {
    closeSync(map);
  }
  return entries.reduce((pages, entry) => pages + Number(entry >> 63n), 0);
}

test("memory gets its pages in the background, and what it held stays", async () => {
  const memory = new SharedArrayBuffer(96 << 20);
  const start = ptr(memory as unknown as ArrayBuffer);
  // On page boundaries, as the memory of an engine is.
  const [offset, bytes] = [(32 << 20) - (start % PAGE), 64 << 20];
  const view = new Uint8Array(memory);
  view[offset + 5] = 7;
  expect(residentPages(start + offset, bytes)).toBeLessThan(bytes / PAGE);
  populate(memory, [{ offset, bytes }], 15);
  while (residentPages(start + offset, bytes) < bytes / PAGE) await Bun.sleep(1);
  expect(view[offset + 5]).toBe(7);
  expect(() => populate(memory, [{ offset: memory.byteLength - PAGE, bytes: PAGE + 1 }], 15)).toThrow(RangeError);
});
