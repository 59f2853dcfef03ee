/**
 * One daemon per network namespace, whatever device it uses and wherever its state lies: the owner holds a name there.
 * The nft tables with their owner (interest-table.ts) refuse a second one too, but only with the same device, and after
 * other things were opened.
 */
import { type Lock, lockName } from "../native/system.ts";
import type { KernelLog } from "./log.ts";

const NAME = "ilbd";

export type Claim =
  | { readonly ok: true; readonly lock: Lock }
  | { readonly ok: false /** One line that names the other and the way out. */; readonly text: string };

/**
 * Claims this network namespace. Any user can take the name, so only a holder with our own rights counts; another one is
 * logged, and the start goes on without the name. Throws NativeError when sockets cannot be used at all.
 */
export function claimNetwork(log: KernelLog): Claim {
  const taken = lockName(NAME);
  if ("release" in taken) return { ok: true, lock: taken };
  const { pid, uid } = taken;
  const process_ = pid === null ? "a process that is not visible from here" : `process ${pid}`;
  if (uid !== null && uid !== process.geteuid?.()) {
    log.warn(`the abstract socket @${NAME}, which ilbd uses as a lock, is held by ${process_} of user ${uid}`);
    return { ok: true, lock: { release: () => undefined } };
  }
  return {
    ok: false,
    text: `another ilbd (${process_}) works in this network namespace, where one is allowed: stop it, or start this one in a network namespace of its own`,
  };
}
