/** Help texts, made from the rows of spec.ts. */
import { SUBCOMMANDS } from "./spec.ts";

/** The usage list: `Usage:` and one line per subcommand, with a newline at its end. */
export function usageList(): string {
  const lines = Object.values(SUBCOMMANDS).map((spec) => `ilbadm ${spec.long}|${spec.short} ${spec.synopsis}`);
  return `${["Usage:", ...lines].join("\n")}\n`;
}
