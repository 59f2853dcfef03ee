/**
 * Puts the daemon above other programs while a worker is strained (strain.ts, decision record 0046). Else a machine that receives
 * more than it can carry spends its time on taking packets in, only to drop them in front of a worker that gets no turn. At
 * all other times nothing is raised: whoever looks for packets at a high priority keeps those from running who would send them.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { getPriority, setPriority } from "node:os";

/** Where the kernel has the scheduling group of our session (sched(7), "The autogroup feature"), and whether it uses such groups. */
const GROUP = "/proc/self/autogroup";
const GROUPS_IN_USE = "/proc/sys/kernel/sched_autogroup_enabled";
/** Where behind the name in /proc/self/stat the session stands (proc_pid_stat(5)). */
const SESSION = 3;

/** What can be raised and given back. Both throw when that is not permitted. */
export interface Raisable {
  raise(): void;
  restore(): void;
}

/**
 * Between programs of different sessions only the priority of the session counts. A daemon that leads one can raise it, and with it
 * all its own threads alike.
 * @param nice as nice(1) counts it, below 0
 * @returns null: not our session, or sessions do not count here; then threads have to be raised (callingThread)
 */
export function ownSession(nice: number): Raisable | null {
  if (!sessionsCount() || !leadsSession()) return null;
  const before = groupNice();
  return {
    raise: () => writeFileSync(GROUP, String(Math.min(before, nice))),
    restore: () => writeFileSync(GROUP, String(before)),
  };
}

/** The thread that calls. @param nice as for ownSession */
export function callingThread(nice: number): Raisable {
  const before = getPriority(0);
  return { raise: () => setPriority(0, Math.min(before, nice)), restore: () => setPriority(0, before) };
}

function sessionsCount(): boolean {
  try {
    return readFileSync(GROUPS_IN_USE, "utf8").trim() === "1";
  } catch {
    return false;
  }
}

/** Others of the session, the shell that started us for instance, are not to be raised. */
function leadsSession(): boolean {
  const stat = readFileSync("/proc/self/stat", "utf8");
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[SESSION]) === process.pid;
}

/** `/autogroup-25 nice 0` */
const groupNice = (): number => Number(readFileSync(GROUP, "utf8").trim().split(" ").at(-1));

/** Raises something as long as anybody is strained. */
export class StrainRelief {
  readonly #raisable: Raisable;
  readonly #refused: (reason: string) => void;
  #strained = 0;

  /** @param refused is told, once, why nothing can be raised */
  constructor(raisable: Raisable, refused: (reason: string) => void) {
    this.#raisable = raisable;
    let isTold = false;
    this.#refused = (reason) => {
      if (!isTold) refused(reason);
      isTold = true;
    };
  }

  /** One who was not strained is now, or the reverse. Does not throw. */
  note(isStrained: boolean): void {
    const before = this.#strained;
    this.#strained += isStrained ? 1 : -1;
    try {
      if (before === 0) this.#raisable.raise();
      else if (this.#strained === 0) this.#raisable.restore();
    } catch (error) {
      this.#refused(error instanceof Error ? error.message : String(error));
    }
  }
}
