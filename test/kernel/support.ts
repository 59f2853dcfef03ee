/**
 * Namespaces for the tests of src/kernel/, and a way for the test itself to step into one: the code under test acts on
 * the network namespace of its thread. Everything is taken down by `close`.
 */
import { dlopen, FFIType } from "bun:ffi";
import { closeSync, openSync } from "node:fs";

const libc = dlopen("libc.so.6", { setns: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } }).symbols;
const CLONE_NEWNET = 0x40000000;

export const PEER_PROGRAM = new URL("./peer.py", import.meta.url).pathname;

let serial = 0;

/** A program that answers in lines. */
export class Peer {
  readonly process: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly #reader;
  #rest = "";

  constructor(argv: readonly string[]) {
    this.process = Bun.spawn([...argv], { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    this.#reader = this.process.stdout.getReader();
  }

  /** The next line. Throws with what stands on standard error when the program ends instead. */
  async line(): Promise<string> {
    for (;;) {
      const end = this.#rest.indexOf("\n");
      if (end >= 0) {
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 1);
        return line;
      }
      const { value, done } = await this.#reader.read();
      if (done) throw new Error(`program ended: ${await new Response(this.process.stderr).text()}`);
      this.#rest += new TextDecoder().decode(value);
    }
  }

  say(line: string): void {
    this.process.stdin.write(`${line}\n`);
    this.process.stdin.flush();
  }

  async kill(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.process.exited;
  }
}

export class Net {
  readonly #names = new Map<string, string>();
  readonly #peers: Peer[] = [];
  readonly #tag = `ilb-k${process.pid}-${serial++}`;

  constructor(...labels: readonly string[]) {
    for (const label of labels) {
      const name = `${this.#tag}-${label}`;
      sh(`ip netns add ${name}`);
      this.#names.set(label, name);
      this.sh(label, "ip link set lo up");
    }
  }

  name(label: string): string {
    const name = this.#names.get(label);
    if (!name) throw new Error(`no namespace ${label}`);
    return name;
  }

  /** A shell command to its end; its output. Throws when it fails. */
  sh(label: string, command: string): string {
    return sh(`ip netns exec ${this.name(label)} sh -ec '${command.replaceAll("'", `'\\''`)}'`);
  }

  start(label: string, ...argv: readonly string[]): Peer {
    const peer = new Peer(["ip", "netns", "exec", this.name(label), ...argv]);
    this.#peers.push(peer);
    return peer;
  }

  /** A veth pair `first:device` to `second:device`, both up, with fixed MAC addresses. */
  cable(first: string, second: string, macs: readonly [string, string]): void {
    const [a, b] = [first, second].map((end) => end.split(":") as [string, string]) as [
      [string, string],
      [string, string],
    ];
    sh(
      `ip link add ${a[1]} netns ${this.name(a[0])} address ${macs[0]} type veth peer name ${b[1]} netns ${this.name(b[0])} address ${macs[1]}`,
    );
    this.sh(a[0], `ip link set ${a[1]} up`);
    this.sh(b[0], `ip link set ${b[1]} up`);
  }

  /** Runs with this thread in the namespace. Files of /proc/sys must be read synchronously inside: it is the thread that counts. */
  async inside<T>(label: string, body: () => Promise<T> | T): Promise<T> {
    const home = openSync("/proc/thread-self/ns/net", "r");
    const there = openSync(`/run/netns/${this.name(label)}`, "r");
    try {
      if (libc.setns(there, CLONE_NEWNET) !== 0) throw new Error("setns failed");
      return await body();
    } finally {
      // A failure would show at once: everything that follows would look for its namespaces in the wrong place.
      libc.setns(home, CLONE_NEWNET);
      closeSync(home);
      closeSync(there);
    }
  }

  /** Everything that ILB might leave behind, as text. */
  traces(label: string): string {
    return this.sh(
      label,
      `nft list ruleset; ip rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all | grep -v -E "fe80|ff00::/8"; ip -o link | cut -d: -f2; ip -o -4 address | cut -c1-60
       for d in $(ls /proc/sys/net/ipv4/conf); do tc filter show dev $d ingress 2>/dev/null || true; tc qdisc show dev $d 2>/dev/null || true; done
       sysctl -a 2>/dev/null | grep -E "^net.ipv6.conf.*(forwarding|accept_ra|disable_ipv6) "
       sysctl -a 2>/dev/null | grep -E "^net.ipv4.(conf.*(forwarding|rp_filter|accept_local|src_valid_mark)|ip_forward|ip_local)" | grep -v -E "use_pmtu|update_priority"`,
    );
  }

  async close(): Promise<void> {
    for (const peer of this.#peers) await peer.kill();
    for (const name of this.#names.values()) Bun.spawnSync(["ip", "netns", "del", name]);
  }
}

export function sh(command: string): string {
  const done = Bun.spawnSync(["sh", "-ec", command], { stdout: "pipe", stderr: "pipe" });
  if (done.exitCode !== 0) throw new Error(`${command}: ${done.stderr.toString().trim()}`);
  return done.stdout.toString();
}

/** Far more than anything takes that is waited for here. */
const PATIENCE_MS = 60_000;

/** Waits until the condition gives something; fails loudly when it never does. */
export async function until<T>(what: string, condition: () => T | null | undefined | false): Promise<T> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const value = condition();
    if (value) return value;
    if (performance.now() > deadline) throw new Error(`never came: ${what}`);
    await Bun.sleep(5);
  }
}

/** Collects what is logged. */
export class LogBook {
  readonly lines: string[] = [];
  info(message: string): void {
    this.lines.push(message);
  }
  warn(message: string): void {
    this.lines.push(message);
  }
}
