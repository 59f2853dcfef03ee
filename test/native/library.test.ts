import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LAYOUT_FINGERPRINT } from "../../src/gen/layout.ts";
import { ABI_VERSION, addressOf, bind, checked, errnoName, NativeError } from "../../src/native/library.ts";

const directory = mkdtempSync(join(tmpdir(), "ilb-library-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Compiles a library that claims to be another. Returns its path. */
function stranger(name: string, abi: number, fingerprint: number): string {
  const source = join(directory, `${name}.c`);
  const path = join(directory, `${name}.so`);
  writeFileSync(
    source,
    `unsigned ilb_abi_version(void) { return ${abi}u; }\nunsigned ilb_layout_fingerprint(void) { return ${fingerprint}u; }\n`,
  );
  const done = Bun.spawnSync(["gcc", "-shared", "-fPIC", "-o", path, source], { stderr: "pipe" });
  if (done.exitCode !== 0) throw new Error(done.stderr.toString());
  return path;
}

/** What a fresh process says that uses the library at `path`. */
function loadWith(path: string): string {
  const script = `import { monotonicMs } from ${JSON.stringify(join(import.meta.dir, "../../src/native/system.ts"))};
    try { console.log("ok", monotonicMs() > 0) } catch (error) { console.log(error.name + ": " + error.message) }`;
  const done = Bun.spawnSync([process.execPath, "-e", script], { env: { ...process.env, ILB_LIBRARY: path } });
  return done.stdout.toString().trim();
}

const hex = (value: number) => (value >>> 0).toString(16).padStart(8, "0");

describe("the native library", () => {
  test("of this build is taken", () => {
    expect(loadWith(join(import.meta.dir, "../../build/libilb.so"))).toBe("ok true");
  });

  test("of another layout is refused in one line", () => {
    const other = (LAYOUT_FINGERPRINT ^ 1) >>> 0;
    const path = stranger("layout", ABI_VERSION, other);
    expect(loadWith(path)).toBe(
      `LibraryError: native library ${path} is of another build: ABI ${ABI_VERSION}, layout ${hex(other)}; ` +
        `this program needs ABI ${ABI_VERSION}, layout ${hex(LAYOUT_FINGERPRINT)}; build it anew with 'npm run build'`,
    );
  });

  test("of another ABI is refused in one line", () => {
    const path = stranger("abi", ABI_VERSION + 1, LAYOUT_FINGERPRINT);
    expect(loadWith(path)).toContain(`is of another build: ABI ${ABI_VERSION + 1}, layout`);
  });

  test("that lacks a function is refused in one line", () => {
    const path = stranger("empty", ABI_VERSION, LAYOUT_FINGERPRINT);
    expect(loadWith(path)).toMatch(/^LibraryError: cannot load the native library .*Symbol "ilb_.*build it anew/);
  });

  test.each([
    ["missing", () => join(directory, "none.so"), "cannot load the native library: no "],
    [
      "damaged",
      () => {
        writeFileSync(join(directory, "damaged.so"), "not a library");
        return join(directory, "damaged.so");
      },
      "cannot load the native library ",
    ],
  ] as const)("that is %s is told in one line with the way out", (_, make, start) => {
    const said = loadWith(make());
    expect(said).toStartWith(`LibraryError: ${start}`);
    expect(said).toEndWith("'npm run build'");
    expect(said).not.toContain("\n");
  });

  test("gets addresses of shared memory that it can write to", () => {
    const words = new Uint32Array(new SharedArrayBuffer(8 * 4));
    const part = words.subarray(2);
    expect(addressOf(part)).toBe(addressOf(words) + 8);
    const peer = bind({ ilb_peer_identity: { args: ["i32", "address", "u32"], returns: "i32" } });
    // Too small a capacity is found before the descriptor is looked at.
    expect(errnoName(-peer().ilb_peer_identity(-1, addressOf(part), 2))).toBe("ERANGE");
  });
});

describe("errors of native calls", () => {
  test("a result that is not negative passes through", () => {
    expect([checked(0, "x"), checked(7, "x"), checked(2 ** 47, "x")]).toEqual([0, 7, 2 ** 47]);
  });

  test("a negative result names what was tried and the cause", () => {
    const failure = (() => {
      try {
        checked(-19, "open interface eth9");
      } catch (error) {
        return error as NativeError;
      }
    })();
    expect(failure).toBeInstanceOf(NativeError);
    expect(failure).toMatchObject({ errno: 19, code: "ENODEV", message: "cannot open interface eth9: ENODEV" });
  });

  test("a hint takes the place of the bare name", () => {
    expect(() => checked(-1, "do it", { EPERM: "be root" })).toThrow("cannot do it: be root");
  });

  test.each([
    [1, "EPERM"],
    [11, "EAGAIN"],
    [77, "EBADFD"],
    [124, "EMEDIUMTYPE"],
    [9999, "errno 9999"],
  ])("errno %d is %s", (errno, name) => {
    expect(errnoName(errno)).toBe(name);
  });
});
