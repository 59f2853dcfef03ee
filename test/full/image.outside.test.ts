/**
 * The container image: builds from the Dockerfile, is small, and its daemon balances in a network namespace with
 * NET_ADMIN and NET_RAW. buildah builds and runs it; the base image of the Dockerfile is made here from Debian's
 * packages, so that no image registry is needed.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "../../src/lab/lab.ts";
import { ROUTED_VIP } from "../../src/lab/topology.ts";
import { hasNamespaces, isShortRun } from "../support/capabilities.ts";
import { createRule, expectAllServed, targetOf, withLab } from "../support/e2e.ts";

const ROOT = join(import.meta.dir, "../..");
const BASE_NAME = "docker.io/library/debian:bookworm-slim";
const IMAGE_NAME = "localhost/ilb-test";
const MINUTES = 60_000;
/** Far below a general purpose image with a compiler and a package manager's caches in it. */
const MAX_IMAGE_BYTES = 450 * 1024 * 1024;

const isPossible =
  hasNamespaces && process.geteuid?.() === 0 && Bun.which("buildah") !== null && Bun.which("mmdebstrap") !== null;

const work = isPossible ? mkdtempSync("/var/tmp/ilb-image-") : "";
afterAll(() => {
  if (work !== "") Bun.spawnSync(["rm", "-rf", "--one-file-system", work]);
});

async function run(argv: readonly string[], cwd = ROOT): Promise<string> {
  const child = Bun.spawn([...argv], { cwd, stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (exitCode !== 0)
    throw new Error(`${argv.slice(0, 4).join(" ")} ...: status ${exitCode}: ${`${stdout}${stderr}`.slice(-2_000)}`);
  return stdout.trim();
}

/** Storage of its own, so that the user's images are neither seen nor touched. */
function buildah(...words: string[]): string[] {
  const storage = ["--root", join(work, "storage"), "--runroot", join(work, "run"), "--storage-driver", "vfs"];
  return ["buildah", ...storage, ...words];
}

/** A minimal Debian under the name that the Dockerfile begins with, able to reach packages as this machine does. */
async function importBase(): Promise<void> {
  const root = join(work, "base");
  await run(["mmdebstrap", "-q", "--variant=minbase", "--include=ca-certificates", "bookworm", root]);
  for (const path of ["/etc/npmrc", "/root/.npmrc"]) if (existsSync(path)) cpSync(path, join(root, path));
  for (const path of ["/etc/apt/apt.conf.d", "/etc/apt/sources.list.d", "/etc/ssl/certs"]) {
    if (!existsSync(path)) continue;
    // Symbolic links in there are absolute and would lead back to this machine's own files.
    rmSync(join(root, path), { recursive: true, force: true });
    await run(["cp", "-rL", path, join(root, path)]);
  }
  if (existsSync("/etc/apt/sources.list.d/debian.sources")) writeFileSync(join(root, "etc/apt/sources.list"), "");
  const container = await run(buildah("from", "scratch"));
  await run(buildah("copy", container, root, "/"));
  await run(buildah("commit", "-q", container, BASE_NAME));
  await run(buildah("rm", container));
  rmSync(root, { recursive: true, force: true });
}

describe("the container image", () => {
  test.skipIf(!isPossible || isShortRun)(
    "builds from the Dockerfile, is small, and balances real requests in a namespace",
    async () => {
      mkdirSync(join(work, "run"), { recursive: true });
      await importBase();
      // A clean copy of what is committed, as a fresh clone is; nothing that this checkout has built gets in.
      const source = join(work, "source");
      await run(["git", "clone", "-q", "--no-hardlinks", ROOT, source]);
      await run(buildah("bud", "-q", "--isolation", "chroot", "--pull-never", "-t", IMAGE_NAME, "."), source);

      const container = await run(buildah("from", "--pull-never", IMAGE_NAME));
      const root = await run(buildah("mount", container));
      const size = Number((await run(["du", "-sxb", root])).split("\t")[0]);
      expect(size).toBeLessThan(MAX_IMAGE_BYTES);
      expect(statSync(join(root, "usr/lib/ilb/libilb.so")).size).toBeGreaterThan(0);

      await withLab({}, async (lab: Lab) => {
        await lab.startServers();
        const rights = ["--isolation", "chroot", "--cap-add", "CAP_NET_ADMIN", "--cap-add", "CAP_NET_RAW"];
        const mount = ["--volume", `${lab.directory}:${lab.directory}:rw`];
        const inImage = (...words: string[]) => buildah("run", ...rights, ...mount, container, "--", ...words);
        const where = ["--state", lab.state, "--socket", lab.socket, "--dev", "front,back"];
        const daemon = lab.start(lab.names.box, inImage("ilbd", "run", ...where));
        await daemon.line(/^ilbd ready /);
        const shown = await lab.must(lab.names.box, inImage("ilbadm", "--socket", lab.socket, "show-rule"));
        expect(shown.trim()).toBe("");
        await createRule(lab, "HALF-NAT", "tcp");
        expectAllServed(await lab.client({ kind: "requests", ...targetOf(lab), count: 30, concurrency: 4 }), 30, 3);
        expect(await lab.must(lab.names.box, inImage("ilbadm", "--socket", lab.socket, "show-rule"))).toContain(
          ROUTED_VIP,
        );
        await daemon.stop("SIGTERM");
      });
    },
    15 * MINUTES,
  );
});
