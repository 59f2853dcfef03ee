/** Looks at processes by their numbers. */
import { readFileSync } from "node:fs";

/** Whether it runs. One that has ended but is not collected yet does not. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
