/** What the numbers were measured on: part of every result, because numbers without it mean nothing. */
import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { join } from "node:path";

/** First line that a program prints about its version; "absent" when there is no such program. */
function version(...argv: string[]): string {
  try {
    const run = Bun.spawnSync(argv, { stdout: "pipe", stderr: "pipe" });
    return `${run.stdout}${run.stderr}`.trim().split("\n")[0] ?? "";
  } catch {
    return "absent";
  }
}

/** Plain data, for the table and the JSON file. */
export function describeMachine() {
  const processors = cpus();
  const packages = JSON.parse(readFileSync(join(import.meta.dir, "../../package.json"), "utf8")) as {
    devDependencies: Record<string, string>;
  };
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: processors[0]?.model.trim() ?? "unknown",
    cores: processors.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    bun: Bun.version,
    assemblyscript: packages.devDependencies.assemblyscript ?? "",
    gcc: version("gcc", "--version"),
    nft: version("nft", "--version"),
    haproxy: version("haproxy", "-v"),
    nginx: version("nginx", "-v"),
    wrk: version("wrk", "-v").split("[")[0]!.trim(),
    iperf3: version("iperf3", "--version"),
  };
}

export type Machine = ReturnType<typeof describeMachine>;
