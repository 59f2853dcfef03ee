/**
 * Keeps the box's own sockets off the ports that belong to the engine: ports of rules whose VIP is an address of the box,
 * and the proxy ports when a proxy address is one. Otherwise the kernel would sooner or later pick such a port for a
 * connection of the box, and its answers would meet a rule or a connection entry of somebody else.
 *
 * The list of reserved ports holds for all addresses of the box. Full NAT with a local proxy address takes 4096..65534,
 * which is all that the kernel picks from by default: connect() would fail with EADDRNOTAVAIL. So the range to pick from
 * is then moved to 1024..2047, below the source ports of the health probes (2048..4095).
 */
import type { Interest } from "../engine/engine.ts";
import type { Address } from "../model/address.ts";
import type { PortRange } from "../model/config.ts";
import { mergeRanges, subtractRanges } from "../model/port-ranges.ts";
import { type HostChanges, readSysctl } from "./host-changes.ts";
import type { KernelLog } from "./log.ts";

const PICK_FROM = "net/ipv4/ip_local_port_range";
const LOW_RANGE: PortRange = { min: 1024, max: 2047 };
/** Fewer free ports than these and the box's own connections begin to fail. */
const ENOUGH_PORTS = 512;

/** Sorted: all ports of destination entries whose address is local. TCP and UDP share the kernel's list. */
export function localPorts(interest: Interest, isLocal: (address: Address) => boolean): PortRange[] {
  const local = interest.entries.filter((entry) => entry.match === "destination" && isLocal(entry.address));
  return mergeRanges(local.map((entry) => entry.ports));
}

export class LocalPorts {
  readonly #changes: HostChanges;
  readonly #log: KernelLog;
  #reserved = "";

  constructor(changes: HostChanges, log: KernelLog) {
    this.#changes = changes;
    this.#log = log;
  }

  /** Reserves exactly these ports, and sees to it that others are left. Failures are logged: traffic flows without. */
  reserve(ports: readonly PortRange[]): void {
    const key = JSON.stringify(ports);
    if (key === this.#reserved) return;
    this.#reserved = key;
    try {
      this.#reserve(ports);
    } catch (error) {
      this.#log.warn(`ports of the engine are not kept from the box's own sockets: ${(error as Error).message}`);
    }
  }

  #reserve(ports: readonly PortRange[]): void {
    this.#changes.restoreSysctl(PICK_FROM);
    const usual = parseRange(readSysctl(PICK_FROM));
    const free = (range: PortRange) => countPorts(subtractRanges([range], ports));
    const isEnough = usual === null || free(usual) >= ENOUGH_PORTS;
    if (!isEnough && free(LOW_RANGE) < ENOUGH_PORTS) {
      this.#changes.reservePorts([]);
      this.#log.warn("rules on addresses of this box take nearly all ports: its own connections may fail");
      return;
    }
    if (!isEnough && this.#changes.sysctl(PICK_FROM, `${LOW_RANGE.min}\t${LOW_RANGE.max}`))
      this.#log.info(
        `own connections of this box now use source ports ${LOW_RANGE.min} to ${LOW_RANGE.max}: the others belong to the proxy address`,
      );
    this.#changes.reservePorts(ports);
  }
}

function parseRange(text: string): PortRange | null {
  const match = /^([0-9]+)\s+([0-9]+)$/.exec(text);
  return match && { min: Number(match[1]), max: Number(match[2]) };
}

const countPorts = (ranges: readonly PortRange[]): number =>
  ranges.reduce((sum, { min, max }) => sum + max - min + 1, 0);
