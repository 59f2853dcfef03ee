/**
 * Sockets that a process holds, each by its inode. Counting descriptors does not tell what leaked: pipes of programs that
 * ended a while ago and descriptors of the runtime's own come and go in between.
 */
import { readdirSync, readlinkSync } from "node:fs";

/** `socket:[inode]` of each. */
export function socketsOf(pid: number | "self" = "self"): Set<string> {
  const found = new Set<string>();
  for (const descriptor of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const leadsTo = readlinkSync(`/proc/${pid}/fd/${descriptor}`);
      if (leadsTo.startsWith("socket:")) found.add(leadsTo);
    } catch {
      // The descriptor that the directory itself was read through.
    }
  }
  return found;
}

/** Until this process holds no socket that it did not hold then: the runtime closes some of them a turn later. */
export async function noSocketBut(then: ReadonlySet<string>): Promise<void> {
  while ([...socketsOf()].some((socket) => !then.has(socket))) await Bun.sleep(5);
}
