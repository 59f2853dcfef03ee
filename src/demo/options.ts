/** Command line of `ilbd demo`. */

export const DEMO_USAGE =
  "usage: ilbd demo [--once] [--requests N] [--type NAT|HALF-NAT|DSR] [--io packet|tun] [--listen HOST:PORT]";

export const DEMO_TYPES = ["NAT", "HALF-NAT", "DSR"] as const;
export type DemoType = (typeof DEMO_TYPES)[number];

export interface DemoOptions {
  readonly once: boolean;
  readonly requests: number;
  readonly type: DemoType;
  readonly io: "packet" | "tun";
  /** Where the dashboard is served, in the user's own network. */
  readonly host: string;
  readonly port: number;
}

export const DEMO_DEFAULTS: DemoOptions = {
  once: false,
  requests: 300,
  type: "HALF-NAT",
  io: "packet",
  host: "127.0.0.1",
  port: 9080,
};

const MAX_REQUESTS = 1_000_000;

/** Words after `demo`. @returns the options, or one line that says what is wrong. */
export function parseDemoOptions(argv: readonly string[]): DemoOptions | string {
  let options = DEMO_DEFAULTS;
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? "";
    const [name = "", inline] = word.startsWith("--") && word.includes("=") ? splitOnce(word, "=") : [word];
    if (name === "--once") {
      if (inline !== undefined) return "--once takes no value";
      options = { ...options, once: true };
      continue;
    }
    if (!["--requests", "--type", "--io", "--listen"].includes(name)) return `unknown option ${word}`;
    const value = inline ?? argv[++at];
    if (value === undefined) return `${name} needs a value`;
    const next = withOption(options, name, value);
    if (typeof next === "string") return next;
    options = next;
  }
  return options;
}

function splitOnce(text: string, at: string): [string, string] {
  const index = text.indexOf(at);
  return [text.slice(0, index), text.slice(index + at.length)];
}

function withOption(options: DemoOptions, name: string, value: string): DemoOptions | string {
  switch (name) {
    case "--requests": {
      const requests = /^\d{1,7}$/.test(value) ? Number(value) : 0;
      if (requests < 1 || requests > MAX_REQUESTS)
        return `--requests: ${value} is not a number from 1 to ${MAX_REQUESTS}`;
      return { ...options, requests };
    }
    case "--type": {
      const type = DEMO_TYPES.find((known) => known === value.toUpperCase());
      return type === undefined ? `--type: ${value} is not one of ${DEMO_TYPES.join(", ")}` : { ...options, type };
    }
    case "--io":
      return value === "packet" || value === "tun"
        ? { ...options, io: value }
        : `--io: ${value} is not one of packet, tun`;
    default: {
      const match = /^(\[[0-9a-fA-F:]+\]|[^:[\]]+):(\d{1,5})$/.exec(value);
      const port = Number(match?.[2]);
      if (match === null || port > 65_535) return `--listen: ${value} is not HOST:PORT`;
      return { ...options, host: (match[1] ?? "").replace(/^\[|\]$/g, ""), port };
    }
  }
}
