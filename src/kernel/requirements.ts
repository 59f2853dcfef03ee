/**
 * What a start needs of the machine: privileges, device node, libraries. Each thing that is missing is one line that names
 * it and the way out. Kernel features that only show when they are used (bpf, clsact, nftables) are told where they are
 * used, in the same form.
 */
import { accessSync, constants, readFileSync } from "node:fs";

const CAPABILITIES = { CAP_NET_ADMIN: 12, CAP_NET_RAW: 13 } as const;
export type CapabilityName = keyof typeof CAPABILITIES;

/** Capabilities of a process by its /proc/PID/status, effective set. @returns those of `wanted` that are missing */
export function missingCapabilities(status: string, wanted: readonly CapabilityName[]): CapabilityName[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  return wanted.filter((name) => ((effective >> BigInt(CAPABILITIES[name])) & 1n) === 0n);
}

/** @param io the packet device that is to be opened. @returns null, or one line */
export function missingRequirement(io: "packet" | "tun"): string | null {
  const missing = missingCapabilities(readFileSync("/proc/self/status", "utf8"), ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
  if (missing.length > 0)
    return (
      `--io ${io} needs ${missing.join(" and ")}; run as root, or give the container both ` +
      "(--cap-add NET_ADMIN --cap-add NET_RAW, as user root), or use --io none"
    );
  return io === "tun" ? missingTun() : null;
}

function missingTun(): string | null {
  try {
    accessSync("/dev/net/tun", constants.R_OK | constants.W_OK);
    return null;
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    return missing
      ? "/dev/net/tun is missing: load the module tun, or give the container the device (--device /dev/net/tun), or use --io packet"
      : "/dev/net/tun may not be opened: run as root, or give the container the device (--device /dev/net/tun), or use --io packet";
  }
}
