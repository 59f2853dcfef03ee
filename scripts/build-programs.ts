/**
 * Bundles programs. Without options: dist/ilbadm.js and dist/ilbd/, which bin/ilbadm and bin/ilbd start with Bun; a few
 * files to read instead of hundreds keep a command and the daemon's start quick. With --release: dist/release/ holds one executable
 * per program, made by `bun build --compile`, beside libilb.so and the manual page; they need neither Bun nor a checkout.
 */
import { cpSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CATALOGUE } from "../src/netbackup/catalogue.ts";
import { catalogueSchema } from "../src/netbackup/schema.ts";

const ROOT = join(import.meta.dir, "..");
const DIST = join(ROOT, "dist");

/** Entry file of each program; the packet worker is an entry of its own, because a Worker is started by path. */
const PROGRAMS: readonly { readonly name: string; readonly entry: string; readonly workers: readonly string[] }[] = [
  { name: "ilbd", entry: "src/main.ts", workers: ["src/worker/packet-worker.ts"] },
  { name: "ilbadm", entry: "src/cli/main.ts", workers: [] },
];

/** Fails the run with the compiler's own words. */
function run(argv: string[]): void {
  const done = Bun.spawnSync(argv, { cwd: ROOT, stdout: "pipe", stderr: "pipe" });
  if (done.exitCode !== 0) {
    process.stderr.write(`${argv.join(" ")}\n${done.stdout.toString()}${done.stderr.toString()}`);
    process.exit(1);
  }
}

/**
 * The command as one JavaScript file, the daemon in parts, because it loads what a start does not need later or never.
 * All lie in one directory, so that what looks for its neighbours finds them. Renamed into place when complete.
 */
function bundle(): void {
  run([process.execPath, "build", "src/cli/main.ts", "--target=bun", `--outfile=${join(DIST, "ilbadm.js")}`]);
  const { entry, workers } = PROGRAMS[0]!;
  const [place, part] = [join(DIST, "ilbd"), join(DIST, `ilbd.${process.pid}`)];
  const form = ["--target=bun", "--splitting", "--entry-naming=[name].[ext]", `--outdir=${part}`];
  run([process.execPath, "build", entry, ...workers, ...form]);
  rmSync(place, { recursive: true, force: true });
  renameSync(part, place);
}

/** Programs take the catalogue of data/ as it is, so what does not fit its schema must not get into one. */
function checkCatalogue(): void {
  const { error } = catalogueSchema.safeParse(CATALOGUE);
  if (error === undefined) return;
  const lines = error.issues.map(({ path, message }) => `data/netbackup.json: ${path.join(".")}: ${message}\n`);
  process.stderr.write(lines.join(""));
  process.exit(1);
}

/** One executable per program, with the engine and the worker inside. */
function release(): void {
  const out = join(DIST, "release");
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  for (const program of PROGRAMS) {
    const entries = [program.entry, ...program.workers.filter((path) => existsSync(join(ROOT, path)))];
    run([process.execPath, "build", "--compile", "--target=bun", ...entries, `--outfile=${join(out, program.name)}`]);
  }
  cpSync(join(ROOT, "build/libilb.so"), join(out, "libilb.so"));
  cpSync(join(ROOT, "man/ilbadm.8"), join(out, "ilbadm.8"));
  process.stderr.write(`built: ${out}/ilbd, ilbadm, libilb.so, ilbadm.8\n`);
}

checkCatalogue();
mkdirSync(DIST, { recursive: true });
if (process.argv.includes("--release")) release();
else bundle();
