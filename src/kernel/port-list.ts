/** Port lists as the kernel spells them: `80,443,8000-8010` (ip_local_reserved_ports). */
import type { PortRange } from "../model/config.ts";
import { mergeRanges } from "../model/port-ranges.ts";

/** Sorted, merged. What is no number or range of numbers is left out: the kernel writes none. */
export function parsePortList(text: string): PortRange[] {
  const ranges: PortRange[] = [];
  for (const part of text.trim().split(",")) {
    const match = /^([0-9]+)(?:-([0-9]+))?$/.exec(part.trim());
    if (match) ranges.push({ min: Number(match[1]), max: Number(match[2] ?? match[1]) });
  }
  return mergeRanges(ranges);
}

export function formatPortList(ranges: readonly PortRange[]): string {
  return ranges.map(({ min, max }) => (min === max ? `${min}` : `${min}-${max}`)).join(",");
}
