/**
 * What ILB changes on the host and how it is put back (design record 0014). Every change that would outlive the process
 * is written to a journal before it is made, and undone in reverse order when the daemon stops, or, when that failed, at
 * the next start. What the kernel removes by itself with the process (nft tables with an owner, TUN and TAP interfaces
 * with their addresses, routes and filters) is not in the journal.
 *
 * The journal lies in a run directory, one file per network namespace, named by the namespace's cookie, so that it is
 * never replayed in another one. A value that somebody else has changed in the meantime is left as it is.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { PortRange } from "../model/config.ts";
import { mergeRanges, subtractRanges } from "../model/port-ranges.ts";
import { NativeError } from "../native/library.ts";
import { networkNamespaceCookie } from "../native/netlink.ts";
import type { KernelLog } from "./log.ts";
import { formatPortList, parsePortList } from "./port-list.ts";
import { addPolicyRule, deleteLink, deletePolicyRule, type PolicyRule } from "./rtnetlink.ts";

/** One change. `was` and `set` as read back from /proc/sys, without the newline. */
type Change =
  | { readonly kind: "sysctl"; readonly key: string; readonly was: string; readonly set: string }
  | { readonly kind: "reserved-ports"; readonly was: string; readonly set: string }
  /** `routers`: interfaces, and `default`, that were set so each for itself. */
  | { readonly kind: "forwarding6"; readonly routers: readonly string[] }
  | { readonly kind: "policy-rule"; readonly rule: PolicyRule }
  | { readonly kind: "interface"; readonly name: string };

interface Journal {
  readonly version: 1;
  /** Boot in which the changes were made; none of them outlives it. */
  readonly boot: string;
  readonly changes: readonly Change[];
}

/** What sends netlink requests: NetworkWatch, or a socket. */
export interface Requester {
  request(request: Uint8Array, action: string, hints?: Readonly<Record<string, string>>): Uint8Array;
}

const RESERVED_PORTS = "net/ipv4/ip_local_reserved_ports";

export class HostChanges {
  readonly #directory: string;
  readonly #path: string;
  readonly #kernel: Requester;
  readonly #log: KernelLog;
  #changes: Change[] = [];

  /**
   * @param directory run directory of this instance, e.g. /run/ilb/ilbd; created (0700) when missing
   * The caller holds the instance's lock: two processes must not share a directory. Throws one line when the directory
   * cannot be used.
   */
  constructor(directory: string, kernel: Requester, log: KernelLog) {
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw new Error(`cannot use the run directory ${directory}: ${(error as Error).message}`);
    }
    this.#directory = directory;
    this.#path = join(directory, `undo-${networkNamespaceCookie() ?? namespaceInode()}.json`);
    this.#kernel = kernel;
    this.#log = log;
  }

  /** Undoes what an earlier process of this instance left behind in this network namespace. Call before the first change. */
  cleanUpAfterCrash(): void {
    if (!existsSync(this.#path)) return;
    const journal = readJournal(this.#path);
    if (journal === null)
      this.#log.warn(`the journal ${this.#path} is damaged and was removed; what it named stays as it is`);
    else if (journal.boot === bootId()) {
      this.#log.info(
        `putting back what an earlier ilbd changed on this host: ${journal.changes.map(describe).join(", ")}`,
      );
      this.#changes = [...journal.changes];
      this.undoAll();
    }
    if (existsSync(this.#path)) unlinkSync(this.#path);
  }

  /**
   * Sets a sysctl. @param key with slashes, below /proc/sys: `net/ipv4/ip_forward`.
   * @returns false when it has the value already. Throws one line when it cannot be set; then nothing has changed.
   */
  sysctl(key: string, value: string): boolean {
    const was = readSysctl(key);
    if (was === value) return false;
    this.#make({ kind: "sysctl", key, was, set: value }, () => writeSysctl(key, value));
    return true;
  }

  /** Takes back a `sysctl` of ours, if there is one. */
  restoreSysctl(key: string): void {
    const change = this.#changes.find((made) => made.kind === "sysctl" && made.key === key);
    if (change === undefined) return;
    this.#undo(change);
    this.#forget(change);
  }

  /**
   * Keeps ports from being picked for the box's own sockets, beside those that the administrator keeps.
   * Each call replaces what the call before asked for. Throws one line when it cannot be done.
   */
  reservePorts(ports: readonly PortRange[]): void {
    const before = this.#changes.find((change) => change.kind === "reserved-ports");
    const users = this.#usersPorts(before);
    const was = formatPortList(users);
    const set = formatPortList(mergeRanges([...users, ...ports]));
    // The new change is in the journal before the old one leaves it.
    if (set !== was) this.#make({ kind: "reserved-ports", was, set }, () => writeSysctl(RESERVED_PORTS, set));
    else if (before) writeSysctl(RESERVED_PORTS, was);
    if (before) this.#forget(before);
  }

  /**
   * Makes the network namespace a router of IPv6. The switch sets and clears the one of every interface with it, so those
   * that were set before are remembered. Does nothing when it is one. Throws one line when it cannot be done.
   */
  forwardIPv6(): void {
    if (readSysctl(forwarding6Of("all")) !== "0") return;
    const names = readdirSync("/proc/sys/net/ipv6/conf").filter((name) => name !== "all");
    const routers = names.filter((name) => readSysctl(forwarding6Of(name)) !== "0");
    this.#make({ kind: "forwarding6", routers }, () => writeSysctl(forwarding6Of("all"), "1"));
  }

  /** Throws NativeError; then nothing has changed. */
  addPolicyRule(rule: PolicyRule): void {
    this.#make({ kind: "policy-rule", rule }, () =>
      this.#kernel.request(addPolicyRule(rule), `add the policy rule ${rule.priority} for table ${rule.table}`),
    );
  }

  /** Creates an interface that would outlive us. @returns what removes it. Throws NativeError; then nothing has changed. */
  createInterface(name: string, request: Uint8Array): () => void {
    const change: Change = { kind: "interface", name };
    this.#make(change, () =>
      this.#kernel.request(request, `create the interface ${name}`, { EEXIST: "it exists already" }),
    );
    return () => {
      this.#undo(change);
      this.#forget(change);
    };
  }

  /** Puts everything back, in reverse order. What fails is logged and left. */
  undoAll(): void {
    for (const change of [...this.#changes].reverse()) this.#undo(change);
    this.#changes = [];
    if (existsSync(this.#path)) unlinkSync(this.#path);
  }

  /** The last call: removes the run directory when nothing is in it, so that a start that was refused leaves none. */
  leave(): void {
    try {
      rmdirSync(this.#directory);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "ENOTEMPTY" && code !== "ENOENT" && code !== "EBUSY")
        this.#log.warn(`could not remove the run directory ${this.#directory}: ${code}`);
    }
  }

  #make(change: Change, action: () => unknown): void {
    this.#changes.push(change);
    this.#write();
    try {
      action();
    } catch (error) {
      this.#forget(change);
      throw error;
    }
  }

  #forget(change: Change): void {
    this.#changes = this.#changes.filter((other) => other !== change);
    this.#write();
  }

  /** Written beside, synced and renamed: a crash leaves the old journal or the new one. */
  #write(): void {
    if (this.#changes.length === 0) {
      if (existsSync(this.#path)) unlinkSync(this.#path);
      return;
    }
    const journal: Journal = { version: 1, boot: bootId(), changes: this.#changes };
    const file = openSync(`${this.#path}.new`, "w", 0o600);
    try {
      writeSync(file, `${JSON.stringify(journal)}\n`);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(`${this.#path}.new`, this.#path);
  }

  #undo(change: Change): void {
    try {
      if (change.kind === "sysctl") this.#putBack(change);
      else if (change.kind === "forwarding6") stopForwardingIPv6(change.routers);
      else if (change.kind === "reserved-ports") writeSysctl(RESERVED_PORTS, formatPortList(this.#usersPorts(change)));
      else if (change.kind === "policy-rule")
        this.#kernel.request(deletePolicyRule(change.rule), `remove the policy rule ${change.rule.priority}`);
      else this.#kernel.request(deleteLink(change.name), `remove the interface ${change.name}`);
    } catch (error) {
      // It is not there any more: somebody else removed it, or the process died between journal and change.
      if (error instanceof NativeError && (error.code === "ENOENT" || error.code === "ENODEV")) return;
      this.#log.warn(`could not put back ${describe(change)}: ${(error as Error).message}`);
    }
  }

  #putBack({ key, was, set }: Extract<Change, { kind: "sysctl" }>): void {
    if (!existsSync(join("/proc/sys", key))) return;
    const now = readSysctl(key);
    if (now === set) writeSysctl(key, was);
    else if (now !== was)
      this.#log.warn(
        `${key.replaceAll("/", ".")} was changed to ${now.replaceAll("\t", " ")} by somebody else and is left so`,
      );
  }

  /** The administrator's own reserved ports: what stands there now, without what only we have added. */
  #usersPorts(change: Change | undefined): PortRange[] {
    const now = parsePortList(readSysctl(RESERVED_PORTS));
    if (change?.kind !== "reserved-ports") return now;
    return subtractRanges(now, subtractRanges(parsePortList(change.set), parsePortList(change.was)));
  }
}

const forwarding6Of = (name: string): string => `net/ipv6/conf/${name}/forwarding`;

/** Somebody who has cleared the switch in the meantime is left with what he has. */
function stopForwardingIPv6(routers: readonly string[]): void {
  if (readSysctl(forwarding6Of("all")) === "0") return;
  writeSysctl(forwarding6Of("all"), "0");
  for (const name of routers)
    if (existsSync(join("/proc/sys", forwarding6Of(name)))) writeSysctl(forwarding6Of(name), "1");
}

function describe(change: Change): string {
  if (change.kind === "sysctl") return `${change.key.replaceAll("/", ".")} = ${change.was.replaceAll("\t", " ")}`;
  if (change.kind === "reserved-ports") return "reserved ports";
  if (change.kind === "forwarding6") return "net.ipv6.conf.all.forwarding = 0";
  return change.kind === "policy-rule" ? `policy rule ${change.rule.priority}` : `interface ${change.name}`;
}

/** null when it cannot be read as a journal. */
function readJournal(path: string): Journal | null {
  try {
    const value = JSON.parse(readFileSync(path, "utf8")) as Partial<Journal>;
    return value.version === 1 && typeof value.boot === "string" && Array.isArray(value.changes)
      ? (value as Journal)
      : null;
  } catch {
    return null;
  }
}

/** For kernels without cookies: not unique for ever, but two living namespaces differ. */
const namespaceInode = (): string => /[0-9]+/.exec(readlinkSync("/proc/thread-self/ns/net"))?.[0] ?? "0";

const bootId = (): string => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();

/** @param key with slashes. Throws one line. */
export function readSysctl(key: string): string {
  try {
    return readFileSync(join("/proc/sys", key), "utf8").trim();
  } catch (error) {
    throw new Error(`cannot read the sysctl ${key.replaceAll("/", ".")}: ${(error as NodeJS.ErrnoException).code}`);
  }
}

function writeSysctl(key: string, value: string): void {
  try {
    // An empty write changes nothing; a lone newline empties a list.
    writeFileSync(join("/proc/sys", key), `${value}\n`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const wayOut = code === "EROFS" || code === "EACCES" ? "; mount /proc/sys writable or set it from outside" : "";
    throw new Error(`cannot set the sysctl ${key.replaceAll("/", ".")} to ${value}: ${code}${wayOut}`);
  }
}
