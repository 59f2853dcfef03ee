/**
 * The real `bin/ilbadm` against one real daemon per test file (`--io none`), for tests that say what a user sees. The
 * configuration is empty at the beginning of each test.
 */
import { afterAll, afterEach, beforeAll, expect } from "bun:test";
import { Daemon, type Finished, Place } from "../daemon/daemon.ts";

/** Hints stand behind the line that the specification gives. */
const withoutHints = (stderr: string): string => stderr.replace(/^ilbadm: hint: .*\n/gm, "");

export class Program {
  place!: Place;
  daemon!: Daemon;

  /** Registers start, end and cleaning with the test file. */
  constructor(...options: string[]) {
    beforeAll(async () => {
      this.place = new Place();
      this.daemon = await Daemon.start(this.place, ...options);
    });
    afterAll(async () => {
      await this.daemon.stop("SIGKILL");
      this.place.remove();
    });
    afterEach(async () => {
      await this.prepared(["import-config"], "");
    });
  }

  /** What only prepares or looks takes the short way, without a process: a command line over HTTP. @returns stdout */
  async prepared(argv: readonly string[], input?: string): Promise<string> {
    const answer = await this.place.fetch("/v1/ilbadm", {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/x-ndjson" },
      body: JSON.stringify(input === undefined ? { argv } : { argv, input }),
    });
    const pieces = (await answer.text())
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { stdout?: string; stderr?: string; exit?: number });
    const said = pieces.map((piece) => piece.stderr ?? "").join("");
    if (pieces.at(-1)?.exit !== 0) throw new Error(`${argv.join(" ")}: ${said}`);
    return pieces.map((piece) => piece.stdout ?? "").join("");
  }

  /** A command line, split at single blanks. */
  run(words: string, input?: string): Promise<Finished> {
    return this.place.ilbadm(words, input);
  }

  /** Commands that succeed without a word, one after the other. */
  async ok(...lines: string[]): Promise<void> {
    for (const words of lines) expect([words, await this.run(words)]).toEqual([words, SILENT]);
  }

  /** Makes a configuration by one import on top of what is there. */
  async given(...lines: string[]): Promise<void> {
    await this.prepared(["import-config", "-p"], lines.map((words) => `${words}\n`).join(""));
  }

  /** A command that succeeds and prints exactly this. */
  async shows(words: string, stdout: string): Promise<void> {
    expect([words, await this.run(words)]).toEqual([words, { status: 0, stdout, stderr: "" }]);
  }

  /** A command that fails with exactly these lines behind `ilbadm: `, and prints nothing else but hints. */
  async fails(words: string, ...lines: string[]): Promise<void> {
    const done = await this.run(words);
    const stderr = lines.map((line) => `ilbadm: ${line}\n`).join("");
    const seen = { ...done, stderr: withoutHints(done.stderr) };
    expect([words, seen]).toEqual([words, { status: 1, stdout: "", stderr }]);
  }

  /** Commands that all fail with their line and leave the configuration as it was. */
  async refuses(...cases: readonly (readonly [words: string, line: string])[]): Promise<void> {
    const before = await this.config();
    await Promise.all(cases.map(([words, line]) => this.fails(words, line)));
    expect(await this.config()).toBe(before);
  }

  config(): Promise<string> {
    return this.prepared(["export-config"]);
  }
}

const SILENT: Finished = { status: 0, stdout: "", stderr: "" };

/** Texts of the specification's catalogue that tests name by their id. */
export const TEXT = {
  SYNTAX: "syntax failure - refer to ilbadm(8)",
  ARGS: "invalid/incompatible keywords - refer to ilbadm(8)",
  NOOPT: "mandatory argument(s) missing - refer to ilbadm(8)",
  VALUE: "invalid value  - refer to ilbadm(8)",
  EINVAL: "invalid argument(s) - see man page",
  ENOENT: "no such/no more element(s)",
  EEXIST: "object already exists",
  INUSE: "object is in use, cannot destroy",
  DUPRULE: "specified rule name already exists",
  ENORULE: "specified rule does not exist",
  MISMATCHSG: "address family mismatch with servergroup",
  MISMATCHH: "address family mismatch with previous hosts in servergroup or with rule",
  SGUNAVAIL: "cannot find specified server group",
  SGINUSE: "cannot remove server group - its in use with other active rules",
  SGEXISTS: "servergroup already exists",
  SGFULL: "servergroup is full - cannot add any more servers to this servergroup",
  BADSG: "the rule's port range does not match that of the servers' in associated servergroup",
  INVALSRVR:
    "server cannot be added to the servergroup, as the servergroup is associated to rule(s) with port/port range that is incompatible with the server's port",
  ENBSRVR: "server cannot be enabled because it's not associated with any rule",
  BADPORT: "the rule's port value does not match that of the servers' in associated servergroup",
  SRVUNAVAIL: "cannot find specified server",
  NOHC: "rule does not have health check enabled",
  HCMISMATCH: "protocol used in rule and health check does not match",
  NOHCINFO: "missing healthcheck info",
  STATRULE: "rule name missing or specified rule not found",
  STATSERVER: "server name missing or specified server not found",
} as const;
