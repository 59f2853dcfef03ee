/** Network namespaces, cables and programs of one test file, all taken down by `close`. Needs root or the test sandbox. */
import { closeSync, openSync } from "node:fs";

/** Why tests that need network namespaces cannot run here; null when they can. */
export const NO_NAMESPACES: string | null = findObstacle();

function findObstacle(): string | null {
  const name = `ilb-io-${process.pid}-probe`;
  const made = Bun.spawnSync(["ip", "netns", "add", name], { stderr: "pipe" });
  if (made.exitCode !== 0) return `no network namespaces here: ${made.stderr.toString().trim()}`;
  Bun.spawnSync(["ip", "netns", "del", name]);
  return null;
}

/** Why tests that need TUN or TAP interfaces cannot run here; null when they can. */
export const NO_TUN: string | null = NO_NAMESPACES ?? findTunObstacle();

function findTunObstacle(): string | null {
  try {
    closeSync(openSync("/dev/net/tun", "r+"));
    return null;
  } catch (error) {
    return `/dev/net/tun cannot be opened: ${(error as NodeJS.ErrnoException).code}`;
  }
}

export interface CableEnd {
  readonly namespace: string;
  readonly name: string;
  readonly mac: string;
  /** With prefix length, e.g. 192.0.2.1/24. */
  readonly address?: string;
}

/** A program that answers in lines. */
export class Program {
  readonly #process: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly #lines: AsyncGenerator<string>;

  constructor(argv: readonly string[]) {
    this.#process = Bun.spawn([...argv], { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    this.#lines = linesOf(this.#process.stdout);
  }

  /** The next line that it prints. Throws with its standard error when it ends instead. */
  async line(): Promise<string> {
    const next = await this.#lines.next();
    if (!next.done) return next.value;
    throw new Error(`program ended: ${await new Response(this.#process.stderr).text()}`);
  }

  /** The next line as JSON. */
  async json<T>(): Promise<T> {
    return JSON.parse(await this.line()) as T;
  }

  say(line: string): void {
    this.#process.stdin.write(`${line}\n`);
    this.#process.stdin.flush();
  }

  /** Closes its standard input and waits for its end. */
  async finish(): Promise<number> {
    this.#process.stdin.end();
    return await this.#process.exited;
  }

  async kill(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.exited;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    rest += decoder.decode(chunk, { stream: true });
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
      yield rest.slice(0, end);
      rest = rest.slice(end + 1);
    }
  }
}

let serial = 0;

export class Namespaces {
  readonly #names = new Map<string, string>();
  readonly #programs: Program[] = [];
  readonly #tag = `ilb-io-${process.pid}-${serial++}`;

  /** Makes namespaces, without IPv6 (its own chatter would be among the frames) and with loopback up. */
  constructor(...labels: readonly string[]) {
    for (const label of labels) {
      const name = `${this.#tag}-${label}`;
      run(["ip", "netns", "add", name]);
      this.#names.set(label, name);
      this.setting(label, "net/ipv6/conf/all/disable_ipv6", "1");
      this.setting(label, "net/ipv6/conf/default/disable_ipv6", "1");
      this.run(label, "ip", "link", "set", "lo", "up");
    }
  }

  #inside(label: string, argv: readonly string[]): string[] {
    const name = this.#names.get(label);
    if (!name) throw new Error(`no namespace ${label}`);
    return ["ip", "netns", "exec", name, ...argv];
  }

  /** Runs to the end; returns standard output, throws when the status is not 0. */
  run(label: string, ...argv: readonly string[]): string {
    return run(this.#inside(label, argv));
  }

  start(label: string, ...argv: readonly string[]): Program {
    const program = new Program(this.#inside(label, argv));
    this.#programs.push(program);
    return program;
  }

  /** Writes a network setting below /proc/sys. */
  setting(label: string, path: string, value: string): void {
    this.run(label, "sh", "-c", `echo ${value} >/proc/sys/${path}`);
  }

  /** A veth pair, both ends up. Neighbours are the caller's. */
  cable(a: CableEnd, b: CableEnd): void {
    const [first, second] = [a, b].map((end) => this.#names.get(end.namespace)!);
    run(
      `ip link add ${a.name} netns ${first} address ${a.mac} type veth peer name ${b.name} netns ${second} address ${b.mac}`.split(
        " ",
      ),
    );
    for (const end of [a, b]) {
      if (end.address) this.run(end.namespace, "ip", "address", "add", end.address, "dev", end.name);
      this.run(end.namespace, "ip", "link", "set", end.name, "up");
    }
  }

  /** Kills what was started here and removes the namespaces. */
  async close(): Promise<void> {
    for (const program of this.#programs) await program.kill();
    for (const name of this.#names.values()) Bun.spawnSync(["ip", "netns", "del", name]);
  }
}

function run(argv: readonly string[]): string {
  const done = Bun.spawnSync([...argv], { stdout: "pipe", stderr: "pipe" });
  if (done.exitCode !== 0) throw new Error(`${argv.join(" ")}: ${done.stderr.toString().trim()}`);
  return done.stdout.toString();
}
