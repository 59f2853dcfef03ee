/**
 * One codec per kind of value: how it is read from a word, written back, shown in JSON and described. Text and JSON use
 * the same codecs, so a value has one spelling everywhere. A codec that may hold names (hosts, services) parses them
 * without looking them up; `lookUp` does that later, through the daemon. No keywords here: those are in options.ts.
 */
import {
  type Address,
  type AddressRange,
  addressAt,
  formatAddress,
  formatBracketed,
  parseAddress,
  parseIPv4,
  parseIPv6,
} from "../model/address.ts";
import type { Algorithm, PortRange, Protocol, RuleType, StatusRange } from "../model/config.ts";
import { isHost, isRequestPath, RECORD_TYPES, type RecordType } from "../model/health-test.ts";
import type { NewServer } from "./command.ts";
import type { ErrorCode } from "./errors.ts";
import { findServicePort, type Resolver } from "./service-names.ts";

export type { Resolver } from "./service-names.ts";

/** Why a value is refused. `keyed`: the text follows `KEY: `; otherwise it is a whole sentence. */
export interface ValueError {
  readonly code: ErrorCode;
  readonly args: readonly string[];
  readonly keyed: boolean;
}

export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: ValueError };

const good = <T>(value: T): Parsed<T> => ({ ok: true, value });
const keyed = (code: ErrorCode, ...args: string[]): Parsed<never> => ({
  ok: false,
  error: { code, args, keyed: true },
});
const sentence = (code: ErrorCode, ...args: string[]): Parsed<never> => ({
  ok: false,
  error: { code, args, keyed: false },
});

/**
 * What a value is in JSON. Plain data: json.ts makes zod schemas of it, and the command line program, which reads this
 * file too, need not load zod (16 ms of its start).
 */
export interface JsonShape {
  readonly text: boolean;
  /** The only texts allowed; absent: any. */
  readonly words?: readonly string[];
  /** Integers allowed, inclusive; absent: none. */
  readonly integers?: readonly [min: number, max: number];
}

const TEXT: JsonShape = Object.freeze({ text: true });

/** @typeParam V the finished value  @typeParam P what parsing gives; differs from V where names are looked up later */
export interface Codec<V, P = V> {
  /** What help and reference call it. */
  readonly kind: string;
  readonly help: string;
  parse(text: string): Parsed<P>;
  /** Text that parses back to the same value. */
  print(value: V): string;
  /** Shape of the value in JSON. Input may always be the text as well. */
  readonly json: JsonShape;
  /** The value in JSON; default: its text. */
  toJson?(value: V): unknown;
  /** Whether names in it must be looked up. Absent: never. */
  hasNames?(parsed: P): boolean;
  /** The same without names. @param protocol preferred for service names */
  lookUp?(parsed: P, resolver: Resolver, protocol: Protocol): Promise<Parsed<P>>;
  /** The value of what holds no names. Absent: they are the same. */
  finish?(parsed: P): V;
  /** Whether an element behind a comma that is no assignment goes on with the value. Absent: never. */
  goesOn?(element: string): boolean;
  /** Words that completion offers beside those that are the only ones allowed. */
  readonly examples?: readonly string[];
}

const DIGITS = /^[0-9]+$/;
const DIGIT_RANGE = /^([0-9]+)-([0-9]+)$/;
const MAX_PORT = 65535;
const MAX_U32 = 4294967295;
const MAX_I32 = 2147483647;
const MAX_PREFIX = 128;
/** An address range in a server list spans at most this difference of first and last. */
const MAX_RANGE_SPAN = 255n;

/** Decimal digits only, leading zeros allowed. @returns the number, or null for anything else or above `max`. */
export function parseCount(text: string, max: number): number | null {
  if (!DIGITS.test(text)) return null;
  const number = Number(text);
  return number <= max ? number : null;
}

/** An integer with bounds; anything else is "invalid value". */
function integer(kind: string, help: string, max: number, min = 0): Codec<number> {
  return {
    kind,
    help,
    parse(text) {
      const number = parseCount(text, max);
      return number === null || number < min ? keyed("E-VALUE") : good(number);
    },
    print: String,
    json: { text: false, integers: [min, max] },
    toJson: (value) => value,
  };
}

/** One of a few words, each with aliases, in any case. */
function word<W extends string>(
  kind: string,
  words: Readonly<Record<W, readonly string[]>>,
  refuse: Parsed<never>,
): Codec<W> {
  const names = Object.keys(words) as W[];
  const spelling = new Map<string, W>();
  for (const name of names) for (const text of [name, ...words[name]]) spelling.set(text.toLowerCase(), name);
  return {
    kind,
    help: names.map((name) => [name, ...words[name]].join("|")).join(", "),
    parse(text) {
      const name = spelling.get(text.toLowerCase());
      return name === undefined ? refuse : good(name);
    },
    print: (value) => value,
    json: { text: true, words: names },
  };
}

/** Any text; whether such an object exists is for apply to say. */
export const name: Codec<string> = {
  kind: "name",
  help: "the name of an object, in any case",
  parse: good,
  print: (value) => value,
  json: TEXT,
};

export const seconds = integer("seconds", `0 to ${MAX_U32}`, MAX_U32);
export const threshold = integer("number", "1 to 1000", 1000, 1);
export const percent = integer("percent", "0 to 100", 100);
export const count = integer("number", `0 to ${MAX_I32}`, MAX_I32);

export const protocol = word<Protocol>("protocol", { tcp: [], udp: [] }, sentence("E-EINVAL"));
export const algorithm = word<Algorithm>(
  "algorithm",
  { roundrobin: ["rr"], "hash-ip": ["hip"], "hash-ip-port": ["hipp"], "hash-ip-vip": ["hipv"] },
  keyed("E-LBALG"),
);
export const ruleType = word<RuleType>("type", { DSR: ["d"], NAT: ["n"], "HALF-NAT": ["h"] }, keyed("E-TYPE"));

/** A numeric address, IPv6 bare or in brackets. */
function parseNumeric(text: string): Parsed<Address> {
  if (!text.startsWith("[")) {
    const value = parseAddress(text);
    return value === null ? keyed("E-ADDRESS") : good(value);
  }
  if (!text.endsWith("]")) return keyed("E-SYNTAX");
  const inner = text.slice(1, -1);
  const value = parseIPv6(inner);
  if (value !== null) return good(value);
  return parseIPv4(inner) === null ? keyed("E-ADDRESS") : sentence("E-BRACKETS");
}

export const address: Codec<Address> = {
  kind: "address",
  help: "numeric IPv4 or IPv6 address; IPv6 may be in brackets",
  parse: parseNumeric,
  print: formatAddress,
  json: TEXT,
};

const makeRange = (first: Address, last: Address): Parsed<AddressRange> => good(Object.freeze({ first, last }));

/** One address or two. Their order and number are for apply to judge. */
export const addressRange: Codec<AddressRange> = {
  kind: "address range",
  help: "A or A-B, numeric addresses of one family",
  parse(text) {
    // No numeric address holds a hyphen.
    const hyphen = text.indexOf("-");
    const first = parseNumeric(hyphen < 0 ? text : text.slice(0, hyphen));
    if (!first.ok || hyphen < 0) return first.ok ? makeRange(first.value, first.value) : first;
    const last = parseNumeric(text.slice(hyphen + 1));
    if (!last.ok) return last;
    if (first.value.family !== last.value.family) return sentence("E-RANGEFAMILY");
    return makeRange(first.value, last.value);
  },
  print: (range) => `${formatAddress(range.first)}-${formatAddress(range.last)}`,
  json: TEXT,
};

/** Ports, or the name of a service that is still to be looked up. */
export type PortsToken = PortRange | { readonly service: string };

const isService = (token: PortsToken): token is { readonly service: string } => "service" in token;

/** A token of digits, or of digits-hyphen-digits, is numeric; any other is a service name, hyphens included. */
function parsePorts(text: string): Parsed<PortsToken> {
  const range = DIGIT_RANGE.exec(text);
  if (range === null && !DIGITS.test(text)) return good({ service: text });
  const ends = range === null ? [text] : [range[1] as string, range[2] as string];
  let previous = 0;
  for (const end of ends) {
    const port = parseCount(end, MAX_PORT);
    if (port === null || port <= previous) return sentence("E-PORT", end);
    previous = port;
  }
  return good(Object.freeze({ min: Number(ends[0]), max: previous }));
}

const printPorts = (ports: PortRange): string =>
  ports.min === ports.max ? String(ports.min) : `${ports.min}-${ports.max}`;

/**
 * Looks a service up.
 * @param protocol what the port is used with, null: not known here
 * @param unknown what to say when there is none of that name
 */
async function resolvePorts(
  token: PortsToken,
  resolver: Resolver,
  prefer: Protocol,
  protocol: Protocol | null,
  unknown: (service: string) => Parsed<never>,
): Promise<Parsed<PortRange>> {
  if (!isService(token)) return good(token);
  const found = await findServicePort(token.service, resolver, prefer, protocol);
  if (found.kind === "unknown") return unknown(token.service);
  if (found.kind === "protocol") return keyed("E-SERVICE-PROTOCOL", found.service, found.only);
  return good(Object.freeze({ min: found.port, max: found.port }));
}

/** What looks like a number that went wrong (`80abc`, `+5`) is refused as a number, not as an unknown name. */
const meantAsNumber = (text: string): boolean => /^[-+0-9]/.test(text);

export const ports: Codec<PortRange, PortsToken> = {
  kind: "ports",
  help: "N or N-M, 1 to 65535, or a service name",
  parse: parsePorts,
  print: printPorts,
  json: { text: true, integers: [1, MAX_PORT] },
  hasNames: isService,
  lookUp: (token, resolver, prefer) =>
    resolvePorts(token, resolver, prefer, prefer, (service) =>
      meantAsNumber(service) ? sentence("E-PORT", service) : keyed("E-SERVICE"),
    ),
};

export const prefixLength: Codec<number> = {
  kind: "prefix length",
  help: "N or /N, 0 to 32 (IPv4) or 0 to 128 (IPv6)",
  parse(text) {
    const digits = text.startsWith("/") ? text.slice(1) : text;
    if (!DIGITS.test(digits)) return sentence("E-PMASK");
    const bits = parseCount(digits, MAX_PREFIX);
    return bits === null ? sentence("E-PMASKRANGE") : good(bits);
  },
  print: (bits) => `/${bits}`,
  json: { text: true, integers: [0, MAX_PREFIX] },
  toJson: (bits) => bits,
};

export const healthCheckPort: Codec<"ANY" | "ALL" | number> = {
  kind: "health check port",
  help: "1 to 65535, ANY or ALL; no service names",
  parse(text) {
    const upper = text.toUpperCase();
    if (upper === "ANY" || upper === "ALL") return good(upper);
    if (!DIGITS.test(text)) return keyed("E-VALUE");
    const port = parseCount(text, MAX_PORT);
    return port === null || port === 0 ? sentence("E-HCPORT", text) : good(port);
  },
  print: String,
  json: { text: true, integers: [1, MAX_PORT] },
  toJson: (value) => value,
};

/** One port, as a number. */
export const portNumber: Codec<number> = {
  kind: "port",
  help: `1 to ${MAX_PORT}; no service names`,
  parse(text) {
    const port = parseCount(text, MAX_PORT);
    return port === null || port === 0 ? sentence("E-PORT", text) : good(port);
  },
  print: String,
  json: { text: false, integers: [1, MAX_PORT] },
  toJson: (value) => value,
};

/** Servers of one list element: addresses or a host name, and ports or none. */
export interface ServersToken {
  readonly hosts: AddressRange | { readonly hostName: string };
  readonly ports: PortsToken | null;
}

/** Names that a resolver may be asked for (RFC 1123 section 2.1). Numbers in disguise (`192.0.2`, `0x7f000001`) are none. */
function isHostName(text: string): boolean {
  if (!/^[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?$/.test(text)) return false;
  const lastLabel = text.replace(/\.$/, "").split(".").at(-1) as string;
  return !DIGITS.test(lastLabel) && !/^0x/i.test(lastLabel);
}

function makeHosts(first: Address, last: Address): Parsed<AddressRange> {
  if (first.family !== last.family) return sentence("E-RANGEFAMILY");
  if (first.value > last.value) return sentence("E-RANGEORDER");
  return last.value - first.value > MAX_RANGE_SPAN ? keyed("E-RANGESIZE") : good({ first, last });
}

function withPorts(hosts: ServersToken["hosts"], suffix: string): Parsed<ServersToken> {
  if (suffix === "") return good({ hosts, ports: null });
  if (!suffix.startsWith(":") || suffix === ":") return keyed("E-SYNTAX");
  const token = parsePorts(suffix.slice(1));
  return token.ok ? good({ hosts, ports: token.value }) : token;
}

/** `[V6]` at the beginning of `text`, and what follows the bracket. */
function takeBracketed(text: string): Parsed<{ address: Address; rest: string }> {
  const close = text.indexOf("]");
  if (close < 0) return keyed("E-SYNTAX");
  const inner = text.slice(1, close);
  const value = parseIPv6(inner);
  if (value !== null) return good({ address: value, rest: text.slice(close + 1) });
  return keyed(parseIPv4(inner) === null ? "E-ADDRESS" : "E-FAMILY");
}

/** `[V6]`, `[V6]-[V6]`, each with a port suffix. A second end without brackets is another family or a mistake. */
function parseBracketedServers(text: string): Parsed<ServersToken> {
  const first = takeBracketed(text);
  if (!first.ok) return first;
  const { address: start, rest } = first.value;
  if (!rest.startsWith("-")) return withPorts({ first: start, last: start }, rest);
  const second = rest.slice(1);
  if (!second.startsWith("[")) {
    return parseIPv4(second.split(":")[0] as string) === null ? keyed("E-SYNTAX") : sentence("E-RANGEFAMILY");
  }
  const last = takeBracketed(second);
  if (!last.ok) return last;
  const hosts = makeHosts(start, last.value.address);
  return hosts.ok ? withPorts(hosts.value, last.value.rest) : hosts;
}

/** `HOST`, `A1-A2`, each with a port suffix. */
function parsePlainServers(text: string): Parsed<ServersToken> {
  const hyphen = text.indexOf("-");
  const start = hyphen < 0 ? null : parseIPv4(text.slice(0, hyphen));
  if (start !== null) {
    const second = text.slice(hyphen + 1);
    if (second.startsWith("[") || parseIPv6(second) !== null) return sentence("E-RANGEFAMILY");
  }
  const colon = text.indexOf(":");
  if (colon !== text.lastIndexOf(":")) return keyed("E-SYNTAX"); // IPv6 wants brackets
  const host = colon < 0 ? text : text.slice(0, colon);
  const suffix = colon < 0 ? "" : text.slice(colon);
  const end = start === null ? null : parseIPv4(host.slice(hyphen + 1));
  if (start !== null && end !== null) {
    const hosts = makeHosts(start, end);
    return hosts.ok ? withPorts(hosts.value, suffix) : hosts;
  }
  const single = parseIPv4(host);
  if (single !== null) return withPorts({ first: single, last: single }, suffix);
  return isHostName(host) ? withPorts({ hostName: host }, suffix) : keyed("E-ADDRESS");
}

/** A hyphenated token of the form name-digits was meant as a range; anything else is a bad port. */
const unknownServerPort = (text: string): Parsed<never> =>
  /^(?![0-9]+-)[^-]*-[0-9]+$/.test(text) ? sentence("E-PORTRANGE") : sentence("E-PORT", text);

function expand(hosts: AddressRange, serverPorts: PortRange | null): NewServer[] {
  const size = Number(hosts.last.value - hosts.first.value) + 1;
  return Array.from({ length: size }, (_, i) =>
    Object.freeze({ address: addressAt(hosts.first, i), ports: serverPorts }),
  );
}

/** Text of one server, as create-servergroup and add-server read it. */
export const printServer = (server: NewServer): string =>
  formatBracketed(server.address) + (server.ports === null ? "" : `:${printPorts(server.ports)}`);

/** One element of a server list: a host, or a range of addresses, ascending. */
export const servers: Codec<readonly NewServer[], ServersToken> = {
  kind: "servers",
  help: "HOST, A1-A2, [V6] or [V6A]-[V6B], each with :PORT or :P1-P2 behind it if wanted",
  parse: (text) => (text.startsWith("[") ? parseBracketedServers(text) : parsePlainServers(text)),
  print: (list) => list.map(printServer).join(","),
  json: TEXT,
  hasNames: (token) => "hostName" in token.hosts || (token.ports !== null && isService(token.ports)),
  async lookUp(token, resolver) {
    let { hosts } = token;
    if ("hostName" in hosts) {
      const found = await resolver.resolveHost(hosts.hostName);
      if (found === null) return keyed("E-ADDRESS");
      hosts = { first: found, last: found };
    }
    if (token.ports === null) return good({ hosts, ports: null });
    const range = await resolvePorts(token.ports, resolver, "tcp", null, unknownServerPort);
    return range.ok ? good({ hosts, ports: range.value }) : range;
  },
  finish(token) {
    if ("hostName" in token.hosts || (token.ports !== null && isService(token.ports))) {
      throw new Error("servers are used before their names were looked up");
    }
    return expand(token.hosts, token.ports);
  },
};

/** A server ID where only its form can be judged. */
export const serverIdText: Codec<string> = {
  kind: "server ID",
  help: "_GROUP.N",
  parse: (text) => (text.startsWith("_") ? good(text) : keyed("E-SERVERID")),
  print: (value) => value,
  json: TEXT,
};

export const healthTest: Codec<string> = {
  kind: "health test",
  help: "tcp, udp, ping or the absolute path of an executable; additions: HTTP, HTTPS, GRPC, DNS, http://HOST/PATH, https://HOST/PATH, or NBU (PBX, VNETD, daemon)",
  parse: good,
  print: (value) => value,
  json: TEXT,
  examples: ["tcp", "udp", "ping", "HTTP", "HTTPS", "GRPC", "DNS", "NBU", "http://", "https://"],
};

/** A text that has to look like something. */
const checkedText = (kind: string, help: string, isGood: (text: string) => boolean): Codec<string> => ({
  kind,
  help,
  parse: (text) => (isGood(text) ? good(text) : keyed("E-VALUE")),
  print: (value) => value,
  json: TEXT,
});

export const requestPath = checkedText("path", "path and query, from / on, without blanks and commas", isRequestPath);
export const siteName = checkedText("host", "host name or address", isHost);
export const grpcService = checkedText("service", "letters, digits and ._/-, up to 255", (text) =>
  /^[A-Za-z0-9._/-]{1,255}$/.test(text),
);
/** RFC 1035 section 2.3.4; `.` is the root. */
export const queryName = checkedText("domain name", "domain name; . is the root", (text) =>
  /^(?=.{1,254}$)(?:\.|(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?)$/.test(text),
);
/** Words of an option that answers give too: as any text, because generators of clients stumble over the names of such types. */
const asExamples = <W extends string>({ json, ...codec }: Codec<W>): Codec<W> => ({
  ...codec,
  json: TEXT,
  examples: json.words ?? [],
});

const NO_ALIASES: readonly string[] = [];
export const queryType = asExamples(
  word(
    "type",
    Object.fromEntries(RECORD_TYPES.map((type) => [type, NO_ALIASES])) as Record<RecordType, typeof NO_ALIASES>,
    keyed("E-VALUE"),
  ),
);

const YES_NO = asExamples(word("yes or no", { yes: [], no: [] }, keyed("E-VALUE")));

export const yesNo: Codec<boolean> = {
  kind: YES_NO.kind,
  help: YES_NO.help,
  parse(text) {
    const answer = YES_NO.parse(text);
    return answer.ok ? good(answer.value === "yes") : answer;
  },
  print: (value) => (value ? "yes" : "no"),
  json: YES_NO.json,
  examples: ["yes", "no"],
};

const STATUS_LIST = /^[1-5][0-9]{2}(?:-[1-5][0-9]{2})?(?:,[1-5][0-9]{2}(?:-[1-5][0-9]{2})?)*$/;

/** HTTP status codes (RFC 9110 section 15), `200-299,401`. */
export const statusList: Codec<readonly StatusRange[]> = {
  kind: "status codes",
  help: "N or N-M, 100 to 599, joined by commas",
  parse(text) {
    if (!STATUS_LIST.test(text)) return keyed("E-VALUE");
    const ranges = text.split(",").map((element): StatusRange => {
      const [min, max = min] = element.split("-").map(Number) as [number, number?];
      return Object.freeze({ min, max });
    });
    return ranges.every(({ min, max }) => min <= max) ? good(Object.freeze(ranges)) : keyed("E-VALUE");
  },
  print: (ranges) => ranges.map(printPorts).join(","),
  goesOn: (element) => STATUS_LIST.test(element),
  json: { text: true, integers: [100, 599] },
};

/** Of something that begins in one of two ways. */
export const upDown = asExamples(word<"up" | "down">("state", { up: [], down: [] }, keyed("E-VALUE")));
