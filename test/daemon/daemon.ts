/** Starts real `ilbd run --io none` processes in directories of their own, for tests of daemon, CLI and HTTP. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");
export const ILBD = join(ROOT, "bin/ilbd");
export const ILBADM = join(ROOT, "bin/ilbadm");

export interface Finished {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export async function run(
  argv: string[],
  options: { input?: string; env?: Record<string, string>; cwd?: string } = {},
): Promise<Finished> {
  const child = Bun.spawn(argv, {
    stdin: options.input === undefined ? "ignore" : new TextEncoder().encode(options.input),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { status, stdout, stderr };
}

/** A directory with room for state and socket; `remove` takes it away. */
export class Place {
  readonly directory = mkdtempSync(join(tmpdir(), "ilbd-"));
  readonly state = join(this.directory, "state");
  readonly socket = join(this.directory, "s");

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** `ilbadm` of this place; a non-string `input` is no standard input. */
  ilbadm(words: string, input?: string): Promise<Finished> {
    const argv = words === "" ? [] : words.split(" ");
    return run([ILBADM, ...argv], { env: { ILB_SOCKET: this.socket }, ...(input === undefined ? {} : { input }) });
  }

  /** Runs a command that must succeed silently or with output. @returns its stdout */
  async must(words: string, input?: string): Promise<string> {
    const done = await this.ilbadm(words, input);
    if (done.status !== 0 || done.stderr !== "") throw new Error(`ilbadm ${words}: ${done.status} ${done.stderr}`);
    return done.stdout;
  }

  /** HTTP over the socket. */
  fetch(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(`http://localhost${path}`, { ...init, unix: this.socket } as BunFetchRequestInit);
  }
}

export class Daemon {
  private constructor(
    readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">,
    readonly readyLine: string,
    private readonly log: () => string,
  ) {}

  /** Starts and waits for the ready line. Throws with the daemon's own words when it ends before. */
  static start(place: Place, ...options: string[]): Promise<Daemon> {
    return Daemon.startUnder([], place, ...options);
  }

  /** The same under another program. @param prefix words before those of ilbd */
  static async startUnder(prefix: readonly string[], place: Place, ...options: string[]): Promise<Daemon> {
    const child = Bun.spawn(
      [...prefix, ILBD, "run", "--io", "none", "--state", place.state, "--socket", place.socket, ...options],
      {
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
      },
    );
    let log = "";
    void (async () => {
      for await (const chunk of child.stderr) log += new TextDecoder().decode(chunk);
    })();
    let stdout = "";
    for await (const chunk of child.stdout) {
      stdout += new TextDecoder().decode(chunk);
      if (!stdout.includes("\n")) continue;
      // Two pipes: what was logged before the line may be read after it.
      while (!/\bready\b/.test(log)) await Bun.sleep(1);
      return new Daemon(child, stdout.split("\n")[0]!, () => log);
    }
    await child.exited;
    throw new Error(`ilbd ended with ${child.exitCode}: ${log}`);
  }

  /** Everything that it logged so far. */
  get logged(): string {
    return this.log();
  }

  /** Port of --listen 127.0.0.1:0, from the log. */
  get tcpPort(): number {
    return Number(/listening address=\S*?:(\d+)\n/.exec(this.logged)?.[1]);
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number> {
    this.child.kill(signal);
    return this.child.exited;
  }
}
