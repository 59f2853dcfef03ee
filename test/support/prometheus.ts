/**
 * A strict reader of Prometheus' text exposition format, version 0.0.4: every family has HELP, then TYPE, then its
 * samples together; names and labels are of the grammar; no sample comes twice; counters end in `_total` and are whole
 * numbers that are not negative. Throws with the line at fault.
 */

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: bigint;
}
export interface Family {
  readonly type: "counter" | "gauge";
  readonly samples: readonly Sample[];
}

const NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/;

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (let rest = text; rest !== ""; ) {
    const match = LABEL.exec(rest);
    if (match === null) throw new Error(`labels at ${rest}`);
    const [whole, name, value] = match as unknown as [string, string, string];
    if (Object.hasOwn(labels, name) || name.startsWith("__")) throw new Error(`label ${name}`);
    labels[name] = value.replace(/\\(.)/g, (_, unit: string) => (unit === "n" ? "\n" : unit));
    rest = rest.slice(whole.length);
    if (rest === "" && whole.endsWith(",")) throw new Error(`labels ${text}`);
  }
  return labels;
}

/** Families by name. */
export function parseExposition(text: string): Map<string, Family> {
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  const families = new Map<string, { type: "counter" | "gauge"; samples: Sample[] }>();
  const seen = new Set<string>();
  let helped = "";
  let current = "";
  for (const [index, line] of text.slice(0, -1).split("\n").entries()) {
    const complain = (what: string): never => {
      throw new Error(`line ${index + 1}: ${what}: ${line}`);
    };
    const help = new RegExp(`^# HELP (${NAME}) (?:[^\\\\]|\\\\[\\\\n])+$`).exec(line);
    const type = new RegExp(`^# TYPE (${NAME}) (counter|gauge)$`).exec(line);
    const sample = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (\\d+)$`).exec(line);
    if (help !== null) {
      if (families.has(help[1]!)) complain("a family twice");
      helped = help[1]!;
    } else if (type !== null) {
      if (type[1] !== helped || families.has(helped)) complain("TYPE must follow HELP, once");
      if ((type[2] === "counter") !== helped.endsWith("_total")) complain("only counters end in _total");
      families.set(helped, { type: type[2] as "counter" | "gauge", samples: [] });
      current = helped;
    } else if (sample !== null) {
      if (sample[1] !== current || helped !== current) complain("outside of its family");
      const labels = labelsOf(sample[2] ?? "");
      const identity = `${current} ${JSON.stringify(Object.entries(labels).sort())}`;
      if (seen.has(identity)) complain("the same sample twice");
      seen.add(identity);
      families.get(current)!.samples.push({ labels, value: BigInt(sample[3]!) });
    } else complain("neither HELP nor TYPE nor sample");
  }
  return families;
}
