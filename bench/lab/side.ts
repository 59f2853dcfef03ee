/**
 * One side of a comparison in the laboratory: a client, a box and servers of its own, and in the box one thing that
 * takes what is sent to the VIP to the servers: ilbd, nftables, HAProxy, or nothing but plain forwarding. Sides stand side by side
 * in namespaces of their own and are built alike, so what differs is the thing in the box. Only one is measured at a time.
 * It measures nothing (meters.ts does).
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { JobResult } from "../../src/lab/jobs.ts";
import { Lab, type Running, SERVER_PORT } from "../../src/lab/lab.ts";
import { ADDRESSES, boxPorts } from "../../src/lab/topology.ts";

export type Thing = "ilb" | "nft" | "haproxy" | "forward";
export type Protocol = "tcp" | "udp";

export interface SideOptions {
  readonly thing: Thing;
  readonly protocol: Protocol;
  /** Where the measured servers listen, and what clients ask the VIP for. */
  readonly port: number;
  readonly servers: number;
  /** Endpoints that send no super-packets (the box keeps its offloads). */
  readonly plainEndpoints?: boolean;
  /** Another checkout whose `ilbd` stands in the box, to compare before and after (compare.ts). */
  readonly checkout?: string;
  /** Further words for `ilbd run`. */
  readonly daemonWords?: readonly string[];
}

/** Programs that a thing needs besides what the laboratory needs anyway. */
export const PROGRAMS: Readonly<Record<Thing, readonly string[]>> = {
  ilb: [],
  nft: ["nft"],
  haproxy: ["haproxy"],
  forward: [],
};

/** How a person knows the thing. */
export const NAMES: Readonly<Record<Thing, string>> = {
  ilb: "ILB",
  nft: "nftables DNAT",
  haproxy: "HAProxy, TCP mode",
  forward: "plain forwarding",
};

const PLAN = ADDRESSES[4];
export const VIP = PLAN.routedVip;
/** Bytes of a download and an upload of the check. */
const CHECK_BYTES = 300_000;
const CHECK_TIMEOUT_MS = 5_000;

export class Side {
  #daemon: Running | null = null;

  private constructor(
    readonly lab: Lab,
    readonly options: SideOptions,
  ) {}

  /** Builds everything and checks that what passes arrives unharmed. @throws when it does not; then nothing is left. */
  static async open(options: SideOptions): Promise<Side> {
    const lab = await Lab.create({ tag: `bench-${options.thing}`, servers: options.servers, clientAddresses: 1 });
    const side = new Side(lab, options);
    try {
      await side.#settle();
      await side.#install();
      await side.#check();
      return side;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  serverAddress(index: number): string {
    return PLAN.server(index);
  }

  /** Starts `ilbd run` with the configuration that it has, and does not wait. */
  startDaemon(): Running {
    const { lab, options } = this;
    const where = ["--state", lab.state, "--socket", lab.socket, "--dev", boxPorts(lab.topology).join(",")];
    const program = options.checkout === undefined ? lab.programs.ilbd : [join(options.checkout, "bin/ilbd")];
    const words = [...program, "run", ...where, ...(options.daemonWords ?? [])];
    this.#daemon = lab.start(lab.names.box, words);
    return this.#daemon;
  }

  /** Ends `ilbd run`; its configuration stays. @throws when it ended badly. */
  async stopDaemon(): Promise<void> {
    const status = await this.#daemon?.stop();
    if (status !== undefined && status !== 0) throw new Error(`ilbd ended with status ${status}`);
    this.#daemon = null;
  }

  close(): Promise<void> {
    return this.lab.close();
  }

  /** What every thing finds: ports to spare, no TIME_WAIT that a port's next connection would meet. */
  async #settle(): Promise<void> {
    const { lab, options } = this;
    const set = (name: string, path: string, value: string) =>
      lab.must(name, ["sh", "-c", `echo ${value} > /proc/sys/net/${path}`]);
    await set(lab.names.client, "ipv4/ip_local_port_range", "'10240 65000'");
    await set(lab.names.box, "ipv4/ip_local_port_range", "'10240 65000'");
    for (const name of [lab.names.client, lab.names.box, ...lab.names.servers]) {
      await set(name, "ipv4/tcp_max_tw_buckets", "0");
      await set(name, "core/somaxconn", "8192");
    }
    if (options.plainEndpoints !== true) return;
    for (const name of [lab.names.client, ...lab.names.servers])
      await lab.must(name, ["ethtool", "-K", "eth0", "tso", "off", "gso", "off"]);
  }

  async #install(): Promise<void> {
    const { lab, options } = this;
    switch (options.thing) {
      case "ilb":
        await this.startDaemon().line(/^ilbd ready /);
        for (const port of this.#ports()) await this.#createRule(port);
        return;
      case "nft":
        await lab.must(lab.names.box, ["nft", this.#translation()]);
        return;
      case "haproxy":
        return this.#startProxy();
      case "forward":
        // The VIP is the first server's own.
        await lab.must(lab.names.servers[0]!, ["ip", "addr", "add", `${VIP}/32`, "dev", "lo"]);
        await lab.must(lab.names.box, ["ip", "route", "add", VIP, "via", this.serverAddress(0)]);
    }
  }

  /** The measured port and the one of the check. */
  #ports(): number[] {
    return [...new Set([this.options.port, SERVER_PORT])];
  }

  async #createRule(port: number): Promise<void> {
    const { lab, options } = this;
    const group = `group${port}`;
    const servers = lab.names.servers.map((_, index) => `${this.serverAddress(index)}:${port}`).join(",");
    await lab.configure("create-servergroup", "-s", `server=${servers}`, group);
    const incoming = `vip=${VIP},port=${port},protocol=${options.protocol}`;
    const outgoing = `servergroup=${group}`;
    await lab.configure(..."create-rule -e -m type=HALF-NAT -i".split(" "), incoming, "-o", outgoing, `rule${port}`);
  }

  /** Address translation as a user would write it: servers in turn, connections tracked. */
  #translation(): string {
    const { lab, options } = this;
    // A number of one choice is none for nftables; the only server then stands there twice.
    const count = Math.max(2, lab.names.servers.length);
    const servers = Array.from({ length: count }, (_, n) => `${n} : ${this.serverAddress(n % options.servers)}`);
    return `table ip peer {
      chain prerouting {
        type nat hook prerouting priority dstnat
        ip daddr ${VIP} ${options.protocol} dport { ${this.#ports().join(", ")} } dnat to numgen inc mod ${count} map { ${servers.join(", ")} }
      }
      chain forward {
        type filter hook forward priority filter
        ct state established,related accept
      }
    }`;
  }

  async #startProxy(): Promise<void> {
    const { lab } = this;
    await lab.must(lab.names.box, ["ip", "addr", "add", `${VIP}/32`, "dev", "lo"]);
    const sections = this.#ports().map((port) => {
      const servers = lab.names.servers.map((_, n) => `  server s${n + 1} ${this.serverAddress(n)}:${port}`);
      return `listen port${port}\n  bind ${VIP}:${port}\n  balance roundrobin\n${servers.join("\n")}`;
    });
    const defaults = "mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s";
    const file = join(lab.directory, "haproxy.cfg");
    writeFileSync(file, `global\n  nbthread 2\n  maxconn 8192\ndefaults\n  ${defaults}\n${sections.join("\n")}\n`);
    lab.start(lab.names.box, ["haproxy", "-db", "-f", file]);
    const listening = `until ss -Hltn 'sport = ${SERVER_PORT}' | grep -q . ; do :; done`;
    await lab.must(lab.names.box, ["timeout", "10", "sh", "-c", listening]);
  }

  /**
   * Sends known bytes both ways and compares them, with transmit checksum offload of the box off: veth hides wrong
   * unfinished checksums, and so would every measurement.
   */
  async #check(): Promise<void> {
    const { lab, options } = this;
    const offload = async (state: "on" | "off") => {
      for (const port of boxPorts(lab.topology)) await lab.must(lab.names.box, ["ethtool", "-K", port, "tx", state]);
    };
    const servers = await Promise.all(
      lab.names.servers.map((name, index) =>
        lab.startServerIn(
          name,
          `s${index + 1}`,
          options.thing === "forward" ? VIP : this.serverAddress(index),
          SERVER_PORT,
        ),
      ),
    );
    await offload("off");
    const failures = await this.#exchange();
    await offload("on");
    await Promise.all(servers.map((server) => server.stop()));
    const harmed = await this.#checksumErrors();
    if (harmed > 0) failures.push(`${harmed} packets arrived with a wrong checksum`);
    if (failures.length > 0) throw new Error(`wrong results through ${NAMES[options.thing]}: ${failures[0]}`);
  }

  async #exchange(): Promise<string[]> {
    const target = { host: VIP, port: SERVER_PORT, from: [], timeoutMs: CHECK_TIMEOUT_MS };
    const results: JobResult[] = [];
    if (this.options.protocol === "udp") {
      results.push(await this.lab.client({ ...target, kind: "udp", sockets: 4, count: 100, bytes: 700 }));
    } else {
      const transfer = { ...target, count: 4, concurrency: 2, bytes: CHECK_BYTES };
      results.push(await this.lab.client({ ...transfer, kind: "downloads" }));
      results.push(await this.lab.client({ ...transfer, kind: "uploads" }));
    }
    return results.flatMap((result) => [
      ...result.failures,
      ...(Object.keys(result.answered).length === 0 ? ["nothing was answered"] : []),
    ]);
  }

  /** What the kernels of both ends have counted so far. */
  async #checksumErrors(): Promise<number> {
    const { lab } = this;
    let errors = 0;
    for (const name of [lab.names.client, ...lab.names.servers])
      errors += inChecksumErrors(await lab.must(name, ["cat", "/proc/net/snmp"]));
    return errors;
  }
}

/** Adds up the columns InCsumErrors of /proc/net/snmp. */
function inChecksumErrors(text: string): number {
  const lines = text.split("\n");
  return lines.reduce((sum, line, index) => {
    const column = line.split(" ").indexOf("InCsumErrors");
    return column < 0 || /\d$/.test(line) ? sum : sum + Number(lines[index + 1]?.split(" ")[column] ?? 0);
  }, 0);
}
