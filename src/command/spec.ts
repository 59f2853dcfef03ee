/**
 * The one grammar: a row per subcommand with names, options, keys, operands, help, HTTP routes and the right it needs.
 * Scanner, printers, usage, JSON and OpenAPI read these rows; a keyword is spelled here and nowhere else. What a valid
 * request means is not here: bind.ts makes commands of requests, apply.ts judges them.
 */
import type { Failure, Result } from "../model/result.ts";
import type { Right, SubcommandName } from "./command.ts";
import { type ErrorCode, failure } from "./errors.ts";
import { failSuggesting } from "./suggest.ts";
import {
  address,
  addressRange,
  algorithm,
  type Codec,
  count,
  healthCheckPort,
  healthTest,
  name,
  portNumber,
  ports,
  prefixLength,
  protocol,
  ruleType,
  seconds,
  serverIdText,
  servers,
} from "./values.ts";

/** Objects of the daemon, or a file, that a word names. What completion offers. */
export type Named = "rule" | "servergroup" | "server" | "healthcheck" | "file";

/** One `key=value` of an option. */
export interface KeySpec<V> {
  readonly key: string;
  readonly aliases: readonly string[];
  // biome-ignore lint/suspicious/noExplicitAny: what parsing gives differs per codec and is only handed back to it
  readonly codec: Codec<V, any>;
  /** Every further comma element is another value, and repeating the option adds to them. */
  readonly list: boolean;
  /** Property name in JSON. */
  readonly property: string;
  readonly help: string;
  /** The value that holds when the key is not given, as text; absent: mandatory, or nothing. */
  readonly fallback?: string;
  /** What the value names. */
  readonly names?: Named;
}

/** A key of any value type. */
// biome-ignore lint/suspicious/noExplicitAny: rows hold keys of many value types
export type AnyKey = KeySpec<any>;

/** An option without argument. */
export interface FlagOption {
  readonly kind: "flag";
  /** What follows the hyphen: one letter, or `-name` of a long option. */
  readonly letter: string;
  readonly help: string;
  /** The boolean property that stands for it in JSON and the value that sets it; null: none. */
  readonly json: { readonly property: string; readonly value: boolean } | null;
}
/** An option whose argument is a list of keys and values. */
export interface KeysOption {
  readonly kind: "keys";
  readonly letter: string;
  readonly placeholder: string;
  readonly help: string;
  readonly keys: readonly AnyKey[];
}
/** An option with a plain argument. */
export interface TextOption {
  readonly kind: "text";
  readonly letter: string;
  readonly placeholder: string;
  readonly help: string;
  /** What the argument names; `fields`: those of the listing, joined by commas. */
  readonly names: Named | "fields";
}
export type OptionSpec = FlagOption | KeysOption | TextOption;

/** One HTTP method and path of a subcommand. A `{name}` part is the operand, `{id}` a server ID. */
export interface Route {
  readonly subcommand: SubcommandName;
  readonly method: "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
  readonly path: string;
  readonly right: Right;
  readonly summary: string;
  /**
   * `properties`: the subcommand's keys and flags. `query`: the same as query parameters. An object: exactly that body
   * selects the subcommand. `text`: import text.
   */
  readonly body: "properties" | "query" | "text" | Readonly<Record<string, boolean>> | null;
}

export interface SubcommandSpec {
  readonly long: SubcommandName;
  readonly short: string;
  readonly synopsis: string;
  readonly summary: string;
  readonly right: Right;
  readonly options: readonly OptionSpec[];
  readonly operands: {
    readonly placeholder: string;
    /** What operands name that exists already; null: nothing does. */
    readonly names: Named | null;
    readonly min: number;
    readonly max: number;
    tooFew(): Failure;
    tooMany(): Failure;
  };
  /** What is said when an option stands last without its argument. */
  readonly missingOptionArgument: ErrorCode;
  /** With several operands: whether to go on after one that fails, or with which codes. */
  readonly goOnAfter: "any" | readonly ErrorCode[];
  /** The failure of an operand is reported as `OPERAND: TEXT`. */
  readonly namesOperand: boolean;
  readonly routes: readonly Route[];
  /** In import files an operand that holds `=` and precedes the option `before` is the argument of `option`. */
  readonly implied: { readonly option: KeysOption; readonly before: KeysOption } | null;
}

interface KeyExtra {
  readonly aliases?: readonly string[];
  readonly property?: string;
  readonly list?: boolean;
  readonly fallback?: string;
  readonly names?: Named;
}
function key<V, P>(spelling: string, codec: Codec<V, P>, help: string, extra: KeyExtra = {}): KeySpec<V> {
  const { aliases = [], property = spelling, list = false, ...rest } = extra;
  return Object.freeze({ key: spelling, aliases, codec, list, property, help, ...rest });
}

const SERVER = "server";

/** Every key. Keys are told apart by identity, never by spelling. */
export const KEYS = Object.freeze({
  vip: key("vip", address, "the address that clients connect to"),
  port: key("port", ports, "the port or ports that clients connect to"),
  protocol: key("protocol", protocol, "tcp or udp", { aliases: ["prot"], fallback: "tcp" }),
  algorithm: key("lbalg", algorithm, "how a server is chosen", { aliases: ["algo"], fallback: "roundrobin" }),
  type: key("type", ruleType, "how packets reach the server", { aliases: ["topo"] }),
  proxySource: key("proxy-src", addressRange, "source addresses of full NAT, at most 10", { aliases: ["nat-src"] }),
  stickyMask: key("pmask", prefixLength, "clients of one such prefix stay with one server", {
    aliases: ["persist", "stickiness"],
  }),
  healthCheck: key("hc-name", name, "a health check that exists", { aliases: ["hcn"], names: "healthcheck" }),
  healthCheckPort: key("hc-port", healthCheckPort, "the port that is probed", { aliases: ["hcp"], fallback: "ANY" }),
  connDrain: key("conn-drain", seconds, "how long a server that leaves keeps its flows; 0: until they end", {
    fallback: "0",
  }),
  natTimeout: key("nat-timeout", seconds, "idle time of a flow; 0: 120 for TCP, 60 for UDP", { fallback: "0" }),
  persistTimeout: key("persist-timeout", seconds, "idle time of a client's stickiness; 0: 60", { fallback: "0" }),
  group: key("servergroup", name, "a server group that exists", { aliases: ["sg"], names: "servergroup" }),
  servers: key(SERVER, servers, "servers to add", { aliases: [`${SERVER}s`], property: `${SERVER}s`, list: true }),
  serverIds: key(SERVER, serverIdText, "server IDs", {
    aliases: [`${SERVER}s`],
    property: `${SERVER}s`,
    list: true,
    names: "server",
  }),
  test: key("hc-test", healthTest, "what is tried"),
  testTimeout: key("hc-timeout", count, "seconds after which an attempt has failed", {
    aliases: ["hc-tout"],
    fallback: "5",
  }),
  testCount: key("hc-count", count, "failures after which a server is down", { fallback: "3" }),
  testInterval: key("hc-interval", count, "seconds between checks; more than hc-timeout times hc-count", {
    aliases: ["hc-intl"],
    fallback: "30",
  }),
});

/** Keys of a packet, apart from the protocol. */
export const PACKET_KEYS = Object.freeze({
  source: key("src", address, "source address"),
  destination: key("dst", address, "destination address"),
  sourcePort: key("sport", portNumber, "source port"),
  destinationPort: key("dport", portNumber, "destination port"),
});

const flag = (letter: string, help: string, json: FlagOption["json"] = null): FlagOption =>
  Object.freeze({ kind: "flag", letter, help, json });
const keys = (letter: string, placeholder: string, help: string, list: readonly AnyKey[]): KeysOption =>
  Object.freeze({ kind: "keys", letter, placeholder, help, keys: Object.freeze(list) });
const text = (letter: string, placeholder: string, help: string, names: TextOption["names"]): TextOption =>
  Object.freeze({ kind: "text", letter, placeholder, help, names });

/** Every option. Told apart by identity; rows share them. */
export const OPTIONS = Object.freeze({
  enable: flag("e", "create the rule enabled", { property: "enabled", value: true }),
  sticky: flag("p", "keep each client with its server", { property: "sticky", value: true }),
  incoming: keys("i", "INCOMING", "what clients send", [KEYS.vip, KEYS.port, KEYS.protocol]),
  method: keys("m", "METHOD", "how it is balanced", [KEYS.algorithm, KEYS.type, KEYS.proxySource, KEYS.stickyMask]),
  ruleHealth: keys("h", "HC", "how servers are checked", [KEYS.healthCheck, KEYS.healthCheckPort]),
  timers: keys("t", "TIMERS", "timers in seconds", [KEYS.connDrain, KEYS.natTimeout, KEYS.persistTimeout]),
  outgoing: keys("o", "OUT", "who answers", [KEYS.group]),
  allRules: flag("a", "every rule"),
  onlyEnabled: flag("e", "only enabled rules"),
  onlyDisabled: flag("d", "only disabled rules"),
  full: flag("f", "one line per field"),
  parsable: flag("p", "for programs: no header, fields joined with `:`; needs -o"),
  fields: text("o", "FIELD,...", "the fields to print, or all", "fields"),
  byServer: flag("s", "one line per server (as without options)"),
  allGroupFields: flag("f", "all fields as a table"),
  verboseGroup: flag("v", "all fields as a table"),
  servers: keys("s", "server=HOSTSPEC,...", "servers to add", [KEYS.servers]),
  serverIds: keys("s", "server=ID,...", "servers to remove", [KEYS.serverIds]),
  addEnabled: flag("e", "accepted; servers are always added enabled"),
  noDefaultPing: flag("n", "do not ping before the test", { property: "default-ping", value: false }),
  test: keys("h", "HCSPEC", "the test", [KEYS.test, KEYS.testTimeout, KEYS.testCount, KEYS.testInterval]),
  stamp: flag("t", "add the time as last column"),
  verbose: flag("v", "more columns"),
  absolute: flag("A", "totals in every sample"),
  delta: flag("d", "change per interval instead of per second"),
  itemize: flag("i", "a row per server of the rule, or per rule of the server"),
  ofRule: text("r", "RULE", "only this rule", "rule"),
  ofServer: text("s", "SERVER", "only this server", "server"),
  human: flag("h", "accepted, without effect"),
  preserve: flag("p", "keep what is configured"),
  dryRun: flag("n", "change nothing; print what would change, exit 2 if anything would"),
  json: flag("-json", "objects as JSON instead of lines"),
  packet: keys("i", "PACKET", "a packet; of TCP the first of a connection", [
    PACKET_KEYS.source,
    PACKET_KEYS.destination,
    KEYS.protocol,
    PACKET_KEYS.sourcePort,
    PACKET_KEYS.destinationPort,
  ]),
});

interface RowExtra {
  readonly options?: readonly OptionSpec[];
  readonly operand?: string;
  readonly names?: Named;
  readonly min?: number;
  readonly max?: number;
  readonly tooFew?: () => Failure;
  readonly tooMany?: (() => Failure) | "usage";
  readonly missingOptionArgument?: ErrorCode;
  readonly goOnAfter?: SubcommandSpec["goOnAfter"];
  readonly namesOperand?: boolean;
  readonly implied?: SubcommandSpec["implied"];
  readonly routes?: readonly Pick<Route, "method" | "path" | "summary" | "body">[];
}

const route = (method: Route["method"], path: string, summary: string, body: Route["body"] = null) => ({
  method,
  path: `/v1${path}`,
  summary,
  body,
});

function row(
  long: SubcommandName,
  short: string,
  right: Right,
  synopsis: string,
  summary: string,
  extra: RowExtra = {},
) {
  const { operand = "NAME", names = null, min = 0, max = 0 } = extra;
  const usage = () => failure("E-USAGE", `${long} ${synopsis}`.trim());
  const tooMany = extra.tooMany === "usage" ? usage : (extra.tooMany ?? (() => failure("E-ARGS")));
  const spec: SubcommandSpec = {
    long,
    short,
    synopsis,
    summary,
    right,
    options: extra.options ?? [],
    operands: { placeholder: operand, names, min, max, tooFew: extra.tooFew ?? usage, tooMany },
    missingOptionArgument: extra.missingOptionArgument ?? "E-OPTARG",
    goOnAfter: extra.goOnAfter ?? [],
    namesOperand: extra.namesOperand ?? false,
    routes: (extra.routes ?? []).map((part) => Object.freeze({ ...part, subcommand: long, right })),
    implied: extra.implied ?? null,
  };
  return Object.freeze(spec);
}

const MANY = Number.POSITIVE_INFINITY;
const mandatory = (subcommand: string) => () => failure("E-MANDATORY", subcommand);
const O = OPTIONS;
const RULE = "/rules/{name}";
const GROUP = "/servergroups/{name}";
const CHECK = "/healthchecks/{name}";
const LISTED = "E-OPTARG-LIST";

/** The table. Its order is that of usage and reference. */
export const SUBCOMMANDS: Readonly<Record<SubcommandName, SubcommandSpec>> = Object.freeze({
  "create-rule": row(
    "create-rule",
    "create-rl",
    "config",
    "[-e] [-p] -i INCOMING -m METHOD [-h HC] [-t TIMERS] -o OUT NAME",
    "create a rule",
    {
      options: [O.enable, O.sticky, O.incoming, O.method, O.ruleHealth, O.timers, O.outgoing],
      min: 1,
      max: 1,
      tooFew: mandatory("ilbadm create-rule"),
      implied: { option: O.incoming, before: O.method },
      routes: [route("POST", "/rules", "Create a rule", "properties")],
    },
  ),
  "delete-rule": row("delete-rule", "delete-rl", "config", "-a | NAME...", "delete rules", {
    options: [O.allRules],
    min: 1,
    names: "rule",
    max: MANY,
    tooFew: () => failure("E-USAGE-DELETE-RULE"),
    routes: [route("DELETE", RULE, "Delete a rule"), route("DELETE", "/rules", "Delete every rule")],
  }),
  "enable-rule": row("enable-rule", "enable-rl", "enable", "[NAME...]", "enable rules, all of them without a name", {
    names: "rule",
    max: MANY,
    goOnAfter: "any",
    namesOperand: true,
    routes: [route("PATCH", RULE, "Enable a rule", { enabled: true })],
  }),
  "disable-rule": row("disable-rule", "disable-rl", "enable", "[NAME...]", "disable rules, all without a name", {
    names: "rule",
    max: MANY,
    goOnAfter: "any",
    namesOperand: true,
    routes: [route("PATCH", RULE, "Disable a rule", { enabled: false })],
  }),
  "show-rule": row("show-rule", "show-rl", "show", "[-e|-d] [-f|[-p] -o FIELD,...] [NAME...]", "list rules", {
    options: [O.onlyEnabled, O.onlyDisabled, O.full, O.parsable, O.fields, O.json],
    names: "rule",
    max: MANY,
    missingOptionArgument: LISTED,
    routes: [route("GET", "/rules", "List rules"), route("GET", RULE, "One rule")],
  }),
  "show-statistics": row(
    "show-statistics",
    "show-stats",
    "show",
    "[[-p] -o FIELD,...] [-tv] [-A|-d] [[-i] -r RULE|-s SERVER] [INTERVAL [COUNT]]",
    "print counters",
    {
      options: [
        O.parsable,
        O.fields,
        O.stamp,
        O.verbose,
        O.absolute,
        O.delta,
        O.itemize,
        O.ofRule,
        O.ofServer,
        O.human,
        O.json,
      ],
      operand: "INTERVAL",
      max: 2,
      missingOptionArgument: "E-OPTARG-STATS",
      routes: [
        route("GET", "/statistics", "Counters now"),
        route("GET", "/statistics/stream", "Counters as server-sent events"),
      ],
    },
  ),
  "create-servergroup": row(
    "create-servergroup",
    "create-sg",
    "config",
    "[-s server=HOSTSPEC,...]... NAME",
    "create a server group",
    {
      options: [O.servers],
      min: 1,
      max: 1,
      tooFew: mandatory("create-servergroup"),
      routes: [route("POST", "/servergroups", "Create a server group", "properties")],
    },
  ),
  "delete-servergroup": row("delete-servergroup", "delete-sg", "config", "NAME", "delete a server group", {
    min: 1,
    names: "servergroup",
    max: 1,
    tooMany: "usage",
    routes: [route("DELETE", GROUP, "Delete a server group")],
  }),
  "show-servergroup": row(
    "show-servergroup",
    "show-sg",
    "show",
    "[-s|-f|[-p] -o FIELD,...] [[-v] NAME...]",
    "list server groups",
    {
      options: [O.byServer, O.allGroupFields, O.verboseGroup, O.parsable, O.fields, O.json],
      names: "servergroup",
      max: MANY,
      missingOptionArgument: LISTED,
      routes: [
        route("GET", "/servergroups", "List server groups"),
        route("GET", GROUP, "One server group"),
        route("GET", `${GROUP}/servers`, "The servers of a group"),
      ],
    },
  ),
  "add-server": row("add-server", "add-srv", "config", "-s server=HOSTSPEC,... GROUP", "add servers to a group", {
    options: [O.servers, O.addEnabled],
    operand: "GROUP",
    min: 1,
    names: "servergroup",
    max: 1,
    tooFew: mandatory("add-server"),
    goOnAfter: "any",
    routes: [route("POST", `${GROUP}/servers`, "Add servers to a group", "properties")],
  }),
  "remove-server": row("remove-server", "remove-srv", "config", "-s server=ID,... GROUP", "remove servers", {
    options: [O.serverIds],
    operand: "GROUP",
    min: 1,
    names: "servergroup",
    max: 1,
    tooFew: () => failure("E-NOOPT"),
    goOnAfter: "any",
    routes: [route("DELETE", "/servers/{id}", "Remove a server from its group")],
  }),
  "enable-server": row("enable-server", "enable-srv", "enable", "ID...", "enable servers", {
    operand: "ID",
    min: 1,
    names: "server",
    max: MANY,
    tooFew: () => failure("E-NOSERVER"),
    goOnAfter: ["E-ENOENT"],
    routes: [route("PATCH", "/servers/{id}", "Enable a server", { enabled: true })],
  }),
  "disable-server": row("disable-server", "disable-srv", "enable", "ID...", "disable servers", {
    operand: "ID",
    min: 1,
    names: "server",
    max: MANY,
    tooFew: () => failure("E-NOSERVER"),
    goOnAfter: ["E-ENOENT"],
    routes: [route("PATCH", "/servers/{id}", "Disable a server", { enabled: false })],
  }),
  "show-server": row("show-server", "show-srv", "show", "[[-p] -o FIELD,...] [RULE...]", "list servers of rules", {
    options: [O.parsable, O.fields, O.json],
    operand: "RULE",
    names: "rule",
    max: MANY,
    missingOptionArgument: LISTED,
    routes: [
      route("GET", "/servers", "List servers, once per rule that uses them"),
      route("GET", "/servers/{id}", "One server"),
    ],
  }),
  "create-healthcheck": row(
    "create-healthcheck",
    "create-hc",
    "config",
    "[-n] -h HCSPEC NAME",
    "create a health check",
    {
      options: [O.noDefaultPing, O.test],
      min: 1,
      max: 1,
      routes: [route("POST", "/healthchecks", "Create a health check", "properties")],
    },
  ),
  "delete-healthcheck": row("delete-healthcheck", "delete-hc", "config", "NAME...", "delete health checks", {
    min: 1,
    names: "healthcheck",
    max: MANY,
    routes: [route("DELETE", CHECK, "Delete a health check")],
  }),
  "show-healthcheck": row("show-healthcheck", "show-hc", "show", "[NAME...]", "list health checks", {
    options: [O.json],
    names: "healthcheck",
    max: MANY,
    routes: [route("GET", "/healthchecks", "List health checks"), route("GET", CHECK, "One health check")],
  }),
  "show-hc-result": row("show-hc-result", "show-hc-res", "show", "[RULE...]", "show what health checks found", {
    options: [O.json],
    operand: "RULE",
    names: "rule",
    max: MANY,
    routes: [route("GET", "/hc-results", "Results of health checks")],
  }),
  "show-nat": row("show-nat", "show-nat", "show", "[COUNT]", "list connections", {
    options: [O.json],
    operand: "COUNT",
    max: 1,
    tooMany: () => failure("E-VALUE"),
    routes: [route("GET", "/nat", "Connection entries")],
  }),
  "show-persist": row("show-persist", "show-pt", "show", "[COUNT]", "list clients that stay with a server", {
    options: [O.json],
    operand: "COUNT",
    max: 1,
    tooMany: () => failure("E-VALUE"),
    routes: [route("GET", "/persist", "Stickiness entries")],
  }),
  "export-config": row("export-config", "export-cf", "show", "[FILE]", "write the configuration as commands", {
    operand: "FILE",
    names: "file",
    max: 1,
    routes: [route("GET", "/config", "The configuration as import text")],
  }),
  "import-config": row("import-config", "import-cf", "config", "[-p] [-n] [FILE]", "run the commands of a file", {
    options: [O.preserve, O.dryRun],
    operand: "FILE",
    names: "file",
    max: 1,
    routes: [route("PUT", "/config", "Replace the configuration, or add to it", "text")],
  }),
  "show-audit": row("show-audit", "show-audit", "show", "[[-p] -o FIELD,...] [COUNT]", "list who did what", {
    options: [O.parsable, O.fields, O.json],
    operand: "COUNT",
    max: 1,
    missingOptionArgument: LISTED,
    routes: [route("GET", "/audit", "Who did what, oldest first")],
  }),
  history: row("history", "history", "show", "[[-p] -o FIELD,...] [COUNT]", "list the changes of the configuration", {
    options: [O.parsable, O.fields, O.json],
    operand: "COUNT",
    max: 1,
    missingOptionArgument: LISTED,
    routes: [route("GET", "/history", "Changes of the configuration, oldest first")],
  }),
  rollback: row("rollback", "rollback", "config", "[-n] ID", "go back to the configuration after change ID", {
    options: [O.dryRun],
    operand: "ID",
    min: 1,
    max: 1,
  }),
  explain: row(
    "explain",
    "explain",
    "show",
    "-i src=ADDR,dst=ADDR,[protocol=P,]sport=N,dport=N",
    "tell what would become of a packet now, and why",
    {
      options: [O.packet, O.json],
      routes: [route("GET", "/explain", "What would become of a packet now, and why", "query")],
    },
  ),
});

/** Words that are answered without the daemon and stand in no file: the frame around the subcommands. */
export interface FrameWord {
  readonly word: string;
  readonly synopsis: string;
  readonly summary: string;
}
export const FRAME_WORDS = Object.freeze({
  help: { word: "help", synopsis: "[SUBCOMMAND]", summary: "tell about a subcommand, or list them all" },
  completion: {
    word: "completion",
    synopsis: "bash|zsh|fish",
    summary: "print what a shell reads to complete command lines",
  },
} satisfies Record<string, FrameWord>);

/** Every route of every subcommand. */
export const ROUTES: readonly Route[] = Object.freeze(Object.values(SUBCOMMANDS).flatMap((spec) => spec.routes));

const BY_NAME = new Map<string, SubcommandSpec>(
  Object.values(SUBCOMMANDS).flatMap((spec) => [
    [spec.long, spec],
    [spec.short, spec],
  ]),
);

/** The failure of a word that is no subcommand. */
export const unknownSubcommand = (word: string): Result<never> =>
  failSuggesting(failure("E-SUBCOMMAND"), word, [...BY_NAME.keys(), ...Object.keys(FRAME_WORDS)]);

/** The row of a long or short name in any case, whole words only. */
export function findSubcommand(word: string): SubcommandSpec | undefined {
  return BY_NAME.get(word.toLowerCase());
}
