/**
 * `ilbd demo`: the main job shown on this machine, without touching it. This side stays in the user's own network: it
 * starts inside.ts in a sandbox, serves the dashboard and passes Ctrl-C on.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runClient } from "../lab/client.ts";
import { locatePrograms } from "../lab/programs.ts";
import { findSandbox } from "../lab/sandbox.ts";
import { runServer } from "../lab/server.ts";
import { READY_FOR_DASHBOARD, runInside } from "./inside.ts";
import { DEMO_USAGE, type DemoOptions, parseDemoOptions } from "./options.ts";
import { type DashboardProxy, startDashboardProxy } from "./proxy.ts";

/** First word of the programs that the demo starts of itself. Not for users. */
const ROLE = "--role";

function complain(text: string): number {
  process.stderr.write(`ilbd demo: ${text}\n`);
  return 1;
}

/**
 * Runs the demo to its end.
 * @param argv words after `demo`.
 * @returns the exit status: 0 only if every request was answered and every server served some.
 */
export async function runDemo(argv: readonly string[]): Promise<number> {
  if (argv[0] === ROLE) return runRole(argv[1] ?? "", argv.slice(2));
  if (argv.includes("--help")) {
    process.stdout.write(`${DEMO_USAGE}\n`);
    return 0;
  }
  const options = parseDemoOptions(argv);
  if (typeof options === "string") return complain(`${options}; ${DEMO_USAGE}`);
  const sandbox = findSandbox();
  if (!sandbox.available) return complain(sandbox.reason);
  const directory = mkdtempSync(join(tmpdir(), "ilb-demo-"));
  try {
    return await runOutside(options, directory, sandbox.wrap);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function runRole(role: string, argv: readonly string[]): Promise<number> {
  switch (role) {
    case "server":
      await runServer(argv);
      return new Promise<never>(() => {});
    case "client":
      await runClient(argv);
      return 0;
    case "inside": {
      const [directory = "", startedMs = "0", optionsText = "{}"] = argv;
      return runInside(JSON.parse(optionsText) as DemoOptions, directory, Number(startedMs), untilStopped());
    }
    default:
      return complain(`unknown role ${role}`);
  }
}

/** Resolves at the first Ctrl-C or when the parent closes the pipe, which it also does by dying. */
function untilStopped(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve());
    process.stdin.on("end", () => resolve());
    process.stdin.on("error", () => resolve());
    process.stdin.resume();
  });
}

async function runOutside(
  options: DemoOptions,
  directory: string,
  wrap: (argv: readonly string[]) => string[],
): Promise<number> {
  let proxy: DashboardProxy | null = null;
  if (!options.once) {
    // Before anything is built: an address that is taken is the user's to change.
    try {
      proxy = startDashboardProxy(options.host, options.port, join(directory, "ilbd.sock"));
    } catch {
      return complain(
        `cannot listen on ${options.host}:${options.port}; choose another address with --listen HOST:PORT`,
      );
    }
  }
  const role = [
    ...locatePrograms().ilbd,
    "demo",
    ROLE,
    "inside",
    directory,
    String(Date.now()),
    JSON.stringify(options),
  ];
  const inside = Bun.spawn(wrap(role), { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void inside.stdin.end());

  // Passed on as it comes; the parent's own lines follow the one that says that traffic goes on.
  const decoder = new TextDecoder();
  let tail = "";
  for await (const chunk of inside.stdout) {
    const text = decoder.decode(chunk, { stream: true });
    process.stdout.write(text);
    tail = (tail + text).slice(-200);
    if (proxy === null || !tail.includes(`${READY_FOR_DASHBOARD}\n`)) continue;
    process.stdout.write(`Dashboard: ${proxy.url}\nWith switches (one-time link): ${proxy.link}\n`);
    tail = "";
  }
  const status = await inside.exited;
  await proxy?.stop();
  return status;
}
