/**
 * Forwarding of IPv6 at the owned devices for the `tun` device (design record 0020). Unlike IPv4 the kernel forwards by
 * one switch for the whole network namespace, `net.ipv6.conf.all.forwarding`; since Linux 6.17 by `force_forwarding` of a
 * device as well. Which of the two, and what else must be kept as it was. Marks and routes are tun-routing.ts's.
 */
import { existsSync, readdirSync } from "node:fs";
import { type HostChanges, readSysctl } from "./host-changes.ts";

const CONF = "net/ipv6/conf";

export interface Forwarding6 {
  /**
   * Devices that forward only for our sake, so the caller keeps others' traffic out; `all`: every interface of the network
   * namespace does.
   */
  readonly opens: "all" | readonly string[];
  /** Switches forwarding on. Throws one line when it cannot be done. */
  apply(changes: HostChanges): void;
}

/** Whether this kernel has IPv6 at all (it may be booted with ipv6.disable=1). */
export const hasIPv6 = (): boolean => existsSync(`/proc/sys/${CONF}`);

/**
 * What has to be done so that these devices forward IPv6; changes nothing yet. null without IPv6.
 * @param perDevice whether the kernel has `force_forwarding`
 */
export function planForwarding6(
  devices: readonly string[],
  perDevice = existsSync(`/proc/sys/${CONF}/all/force_forwarding`),
): Forwarding6 | null {
  if (!hasIPv6()) return null;
  if (readSysctl(`${CONF}/all/forwarding`) !== "0") return { opens: [], apply: () => undefined };
  if (!perDevice) return { opens: "all", apply: openAll };
  const keyOf = (device: string) => `${CONF}/${device}/force_forwarding`;
  return {
    opens: devices.filter((device) => readSysctl(keyOf(device)) === "0"),
    apply: (changes) => {
      for (const device of devices) changes.sysctl(keyOf(device), "1");
    },
  };
}

/**
 * A router takes no router advertisements, and the kernel throws away the routes learned from them, so the box would lose
 * its default route: whoever took them as a host is told first to take them as a router too (`accept_ra` 2).
 */
function openAll(changes: HostChanges): void {
  for (const name of readdirSync(`/proc/sys/${CONF}`)) {
    if (name !== "all" && name !== "default" && readSysctl(`${CONF}/${name}/accept_ra`) === "1")
      changes.sysctl(`${CONF}/${name}/accept_ra`, "2");
  }
  changes.forwardIPv6();
}
