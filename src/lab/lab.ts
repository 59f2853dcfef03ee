/**
 * A laboratory: a client, the box and its servers, each a network namespace, joined by veth (topology.ts). Commands,
 * real servers, clients and captures run inside; close() ends all of it and says so when anything remains.
 *
 * It starts `ilbd` and `ilbadm` as a user would, as programs; it knows nothing of what they do.
 *
 * Inside a sandbox (sandbox.ts) the kernel takes the laboratory down whatever happens. Outside of one a watchdog does:
 * a shell that waits for the end of a pipe which only this process holds.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { getPriority, tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { captureCommand } from "./capture.ts";
import type { Job, JobResult, LoadJob, LoadReport, LoadSummary } from "./jobs.ts";
import { locatePrograms, type Programs } from "./programs.ts";
import { buildRoutedScript } from "./routed.ts";
import { SANDBOX_VARIABLE } from "./sandbox.ts";
import {
  ADDRESSES,
  type AddressPlan,
  allNames,
  boxPorts,
  buildScript,
  type LabOptions,
  type Names,
  namesOf,
  type Topology,
} from "./topology.ts";

/** Port of the HTTP and UDP servers. */
export const SERVER_PORT = 8080;

/** How long a program gets to become ready or to end before that counts as a failure. Far beyond what it takes. */
const PATIENCE_MS = 60_000;

export interface Output {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

type Child = Subprocess<"ignore" | "pipe", "pipe", "pipe">;

/** A program that runs until it is told to stop. */
export interface Running {
  readonly pid: number;
  /** What it has printed so far. */
  output(): string;
  errors(): string;
  /** Resolves with the first line of standard output or error that matches. @throws when the program ends before. */
  line(pattern: RegExp, patienceMs?: number): Promise<string>;
  /** Sends the signal and waits. @returns exit status, or 128 + signal. */
  stop(signal?: NodeJS.Signals): Promise<number>;
  /** Writes a line to standard input, which must be a pipe. */
  type(line: string): void;
  /** Ends standard input. */
  endInput(): void;
  readonly exited: Promise<number>;
}

/** How `ilbd run` is started in the box. */
export interface DaemonOptions {
  readonly io?: "packet" | "tun" | "none";
  /** Further words. */
  readonly extra?: readonly string[];
}

export class Lab {
  readonly names: Names;
  readonly topology: Topology;
  readonly serverCount: number;
  /** Of its first family. */
  readonly addresses: AddressPlan;
  /** Source addresses of the client, of the first family. */
  readonly clientAddresses: readonly string[];
  /** A directory of this laboratory, removed with it: state, socket, captures. */
  readonly directory: string;
  readonly programs: Programs;
  readonly #options: LabOptions;
  readonly #children = new Set<Child>();
  #watchdog: Subprocess<"pipe", "ignore", "ignore"> | null = null;
  #captures = 0;
  #isClosed = false;

  private constructor(options: LabOptions) {
    this.#options = options;
    this.topology = options.topology ?? "two-armed";
    this.serverCount = options.servers ?? 3;
    this.names = namesOf(options.tag, this.serverCount, this.topology);
    this.addresses = ADDRESSES[options.families?.[0] ?? 4];
    this.clientAddresses = Array.from({ length: options.clientAddresses ?? 4 }, (_, index) =>
      this.addresses.client(index),
    );
    this.directory = options.directory ?? mkdtempSync(join(tmpdir(), `ilb-${options.tag}-`));
    this.programs = locatePrograms();
  }

  /** Builds namespaces, links, addresses and routes. @throws with the failed command; then nothing is left. */
  static async create(options: LabOptions): Promise<Lab> {
    const lab = new Lab(options);
    try {
      lab.#startWatchdog();
      const build = lab.topology === "routed" ? buildRoutedScript : buildScript;
      const built = await lab.#run(["sh", "-e", "-c", build(options, lab.names)]);
      if (built.exitCode !== 0) throw new Error(`the laboratory cannot be built: ${built.stderr.trim()}`);
    } catch (error) {
      await lab.close();
      throw error;
    }
    return lab;
  }

  get socket(): string {
    return join(this.directory, "ilbd.sock");
  }

  get state(): string {
    return join(this.directory, "state");
  }

  /** Runs a command inside a namespace to its end. */
  exec(namespace: string, argv: readonly string[], input?: string): Promise<Output> {
    return this.#run(["ip", "netns", "exec", namespace, ...argv], input);
  }

  /** Like exec(), and @throws when the status is not 0. @returns standard output. */
  async must(namespace: string, argv: readonly string[]): Promise<string> {
    const done = await this.exec(namespace, argv);
    if (done.exitCode === 0) return done.stdout;
    throw new Error(`${argv.join(" ")}: status ${done.exitCode}: ${done.stderr.trim()}`);
  }

  /** Starts a command inside a namespace that runs on. */
  start(namespace: string, argv: readonly string[], input: "ignore" | "pipe" = "ignore"): Running {
    return this.#follow(this.#spawn(["ip", "netns", "exec", namespace, ...argv], input), argv.join(" "));
  }

  /** Starts the HTTP and UDP server in every server namespace and waits until all are ready. */
  async startServers(port = SERVER_PORT, ids?: readonly string[]): Promise<void> {
    await Promise.all(this.names.servers.map((_, index) => this.startServer(index, port, ids?.[index])));
  }

  /**
   * Starts one server, s1 being index 0, on its own addresses and on the VIPs that it holds on loopback, if any.
   * @param id what it names itself in every answer.
   */
  async startServer(index: number, port = SERVER_PORT, id = `s${index + 1}`): Promise<Running> {
    const name = this.names.servers[index];
    if (name === undefined) throw new RangeError(`there is no server ${index}`);
    const own = (this.#options.families ?? [4]).map((family) => ADDRESSES[family].server(index));
    const addresses = [...own, this.#options.serverVip].filter((address) => address !== undefined);
    return this.startServerIn(name, id, addresses.join(","), port);
  }

  /** Starts a server anywhere. @param address one or more, joined by commas. */
  async startServerIn(namespace: string, id: string, address: string, port: number): Promise<Running> {
    const running = this.start(namespace, [...this.programs.helper("server"), id, address, String(port)]);
    await running.line(/^ready$/);
    return running;
  }

  /** Starts `ilbd run` in the box and waits for its ready line. */
  async startDaemon(options: DaemonOptions = {}): Promise<Running> {
    const daemon = this.startDaemonUnready(options);
    await daemon.line(/^ilbd ready /);
    return daemon;
  }

  /** Starts `ilbd run` in the box and does not wait. */
  startDaemonUnready(options: DaemonOptions = {}): Running {
    const where = ["--state", this.state, "--socket", this.socket, "--dev", boxPorts(this.topology).join(",")];
    const words = ["run", "--io", options.io ?? "packet", ...where, ...(options.extra ?? [])];
    return this.start(this.names.box, [...this.programs.ilbd, ...words]);
  }

  /** Runs `ilbadm` against the laboratory's daemon. */
  ilbadm(words: readonly string[]): Promise<Output> {
    return this.#run([...this.programs.ilbadm, "--socket", this.socket, ...words]);
  }

  /** Like ilbadm(), and @throws unless it succeeds. @returns standard output. */
  async configure(...words: string[]): Promise<string> {
    const done = await this.ilbadm(words);
    if (done.exitCode === 0) return done.stdout;
    throw new Error(`ilbadm ${words.join(" ")}: status ${done.exitCode}: ${done.stderr.trim() || done.stdout.trim()}`);
  }

  /** Lets the client do a job and waits for its result. */
  client(job: Exclude<Job, LoadJob>): Promise<JobResult> {
    return this.clientIn(this.names.client, job);
  }

  /** The same from anywhere. */
  async clientIn(namespace: string, job: Exclude<Job, LoadJob>): Promise<JobResult> {
    const argv = [...this.programs.helper("client"), JSON.stringify(job)];
    return JSON.parse(await this.must(namespace, argv)) as JobResult;
  }

  /** Starts requests that go on until stop(), which gives every one of them. */
  startLoad(job: Omit<LoadJob, "kind" | "report">): { reports(): LoadReport[]; stop(): Promise<LoadReport[]> } {
    const running = this.#startLoadJob({ ...job, kind: "load", report: "each" });
    const reports = () => jsonLines<LoadReport>(running.output());
    return {
      reports,
      stop: async () => {
        running.endInput();
        await running.exited;
        return reports();
      },
    };
  }

  /** Like startLoad(), but keeps counts only, so that it may go on for days. */
  startSummedLoad(job: Omit<LoadJob, "kind" | "report">): { summary(): LoadSummary; stop(): Promise<LoadSummary> } {
    const running = this.#startLoadJob({ ...job, kind: "load", report: 5_000 });
    const summary = () => jsonLines<LoadSummary>(running.output()).at(-1) ?? { answered: 0, failed: 0 };
    return {
      summary,
      stop: async () => {
        running.endInput();
        await running.exited;
        return summary();
      },
    };
  }

  /**
   * Captures IPv4 and IPv6 frames on a port; begins before it returns. stop() gives the path of the capture file (pcap).
   * @param snapLength bytes kept of each frame.
   */
  async capture(namespace: string, port: string, snapLength = 128): Promise<{ stop(): Promise<string> }> {
    const file = join(this.directory, `capture-${++this.#captures}.pcap`);
    const running = this.start(namespace, captureCommand(port, file, snapLength));
    await running.line(/listening on/);
    return {
      stop: async () => {
        await running.stop("SIGINT");
        return file;
      },
    };
  }

  /** Ends every process of the laboratory and removes it. May be called again. @throws when something remains. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await Promise.all([...this.#children].map((child) => endChild(child)));
    const names = allNames(this.names);
    await this.#run(["sh", "-c", removeScript(names)]);
    this.#watchdog?.stdin.write("done\n");
    this.#watchdog?.stdin.end();
    await this.#watchdog?.exited;
    rmSync(this.directory, { recursive: true, force: true });
    const left = (await this.#run(["ip", "netns", "list"])).stdout
      .split("\n")
      .filter((line) => names.includes(line.split(" ")[0] ?? ""));
    if (left.length > 0) throw new Error(`namespaces that could not be removed: ${left.join(", ")}`);
  }

  #startLoadJob(job: LoadJob): Running {
    return this.start(this.names.client, [...this.programs.helper("client"), JSON.stringify(job)], "pipe");
  }

  #startWatchdog(): void {
    if (process.env[SANDBOX_VARIABLE] === "1") return;
    const script = `trap "" INT TERM HUP
read -r word
[ "$word" = done ] && exit 0
${removeScript(allNames(this.names))}
rm -rf ${this.directory}`;
    this.#watchdog = Bun.spawn(["setsid", "sh", "-c", script], { stdin: "pipe", stdout: "ignore", stderr: "ignore" });
  }

  #spawn(argv: readonly string[], input: "ignore" | "pipe"): Child {
    // In a process group of its own: Ctrl-C is for the owner of the laboratory, who then ends things in order.
    const child = Bun.spawn([...argv], { stdin: input, stdout: "pipe", stderr: "pipe", detached: true }) as Child;
    passNiceOn(child.pid);
    this.#children.add(child);
    void child.exited.then(() => this.#children.delete(child));
    return child;
  }

  async #run(argv: readonly string[], input?: string): Promise<Output> {
    const child = this.#spawn(argv, input === undefined ? "ignore" : "pipe");
    if (input !== undefined && child.stdin) {
      child.stdin.write(input);
      child.stdin.end();
    }
    const [stdout, stderr, exitCode] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return { exitCode, stdout, stderr };
  }

  #follow(child: Child, what: string): Running {
    const texts = { stdout: "", stderr: "" };
    let wake: () => void = () => {};
    const read = async (stream: ReadableStream<Uint8Array>, which: "stdout" | "stderr") => {
      const decoder = new TextDecoder();
      for await (const chunk of stream) {
        texts[which] += decoder.decode(chunk, { stream: true });
        wake();
      }
    };
    let hasEnded = false;
    const finished = Promise.all([read(child.stdout, "stdout"), read(child.stderr, "stderr"), child.exited]).then(
      () => {
        hasEnded = true;
        wake();
        return child.exitCode ?? 128;
      },
    );
    return {
      pid: child.pid,
      output: () => texts.stdout,
      errors: () => texts.stderr,
      exited: finished,
      type: (line) => {
        child.stdin?.write(`${line}\n`);
        void child.stdin?.flush();
      },
      endInput: () => void child.stdin?.end(),
      stop: async (signal = "SIGTERM") => {
        child.kill(signal);
        return finished;
      },
      line: async (pattern, patienceMs = PATIENCE_MS) => {
        const givenUpMs = Date.now() + patienceMs;
        for (;;) {
          const found = `${texts.stdout}\n${texts.stderr}`.split("\n").find((line) => pattern.test(line));
          if (found !== undefined) return found;
          const said = `${texts.stdout}${texts.stderr}`.trim();
          if (hasEnded) throw new Error(`${what}: ended with status ${child.exitCode}: ${said}`);
          const leftMs = givenUpMs - Date.now();
          if (leftMs <= 0) throw new Error(`${what}: no line like ${pattern} within ${patienceMs} ms: ${said}`);
          await new Promise<void>((resolve) => {
            const timer = setTimeout(resolve, leftMs);
            wake = () => {
              clearTimeout(timer);
              resolve();
            };
          });
        }
      },
    };
  }
}

/**
 * Gives a process group our own nice value. Where the kernel schedules by session (sched_autogroup), that of a process
 * only counts among the processes of its session, and each process of a laboratory is a session of its own.
 */
function passNiceOn(pid: number): void {
  const nice = getPriority();
  if (nice === 0) return;
  try {
    writeFileSync(`/proc/${pid}/autogroup`, String(nice));
  } catch {
    // Another scheduler, a process that has ended, or no right to: then it is scheduled as it is.
  }
}

/** Complete lines of JSON; the last one may still be on its way. */
function jsonLines<T>(text: string): T[] {
  const lines = text.split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as T);
}

/** Shell lines that end what runs in these namespaces and remove them, as far as they exist. */
function removeScript(names: readonly string[]): string {
  return names
    .map(
      (name) =>
        `for pid in $(ip netns pids ${name} 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done; ip netns del ${name} 2>/dev/null`,
    )
    .concat("true")
    .join("\n");
}

/** SIGTERM first, so that a program can put things back; SIGKILL if that takes too long. */
async function endChild(child: Child): Promise<void> {
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 5_000);
  await child.exited;
  clearTimeout(timer);
}
