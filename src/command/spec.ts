/**
 * The one grammar: a row per subcommand with names, options, operands, help, HTTP routes and the right it needs. Scanner,
 * printers, usage, completion, JSON and OpenAPI read these rows and the keys of options.ts. What a valid request means
 * is not here: bind.ts makes commands of requests, apply.ts judges them.
 */
import type { Failure, Result } from "../model/result.ts";
import type { Right, SubcommandName } from "./command.ts";
import { type ErrorCode, failure } from "./errors.ts";
import { type KeysOption, type Named, OPTIONS, type OptionSpec } from "./options.ts";
import { failSuggesting } from "./suggest.ts";

/** One HTTP method and path of a subcommand. A `{name}` part is the operand, `{id}` a server ID. */
export interface Route {
  readonly subcommand: SubcommandName;
  readonly method: "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
  readonly path: string;
  readonly right: Right;
  readonly summary: string;
  /**
   * `properties`: the subcommand's keys and flags. `query`: the same as query parameters. An object: exactly that body
   * selects the subcommand. `text`: import text. `port`: the port of the path's name. `test`: what test-connection is told.
   */
  readonly body: "properties" | "query" | "text" | "port" | "test" | Readonly<Record<string, boolean>> | null;
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
    /** The property that stands for it in a JSON body. */
    readonly property: string;
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

interface RowExtra {
  readonly options?: readonly OptionSpec[];
  readonly operand?: string;
  readonly property?: string;
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
  const { operand = "NAME", names = null, property = "name", min = 0, max = 0 } = extra;
  const usage = () => failure("E-USAGE", `${long} ${synopsis}`.trim());
  const tooMany = extra.tooMany === "usage" ? usage : (extra.tooMany ?? (() => failure("E-ARGS")));
  const spec: SubcommandSpec = {
    long,
    short,
    synopsis,
    summary,
    right,
    options: extra.options ?? [],
    operands: { placeholder: operand, names, property, min, max, tooFew: extra.tooFew ?? usage, tooMany },
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
const HOST = "/netbackup/hosts/{name}";
const LISTED = "E-OPTARG-LIST";

/** The table. Its order is that of usage and reference. */
export const SUBCOMMANDS: Readonly<Record<SubcommandName, SubcommandSpec>> = Object.freeze({
  "create-rule": row(
    "create-rule",
    "create-rl",
    "config",
    "[-e] [-p] -i INCOMING -m METHOD [-h HC] [-t TIMERS] [-F] -o OUT NAME",
    "create a rule",
    {
      options: [O.enable, O.sticky, O.force, O.incoming, O.method, O.ruleHealth, O.timers, O.outgoing],
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
  "add-server": row("add-server", "add-srv", "config", "[-F] -s server=HOSTSPEC,... GROUP", "add servers to a group", {
    options: [O.forceServer, O.servers, O.addEnabled],
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
  "show-healthcheck": row("show-healthcheck", "show-hc", "show", "[-v] [NAME...]", "list health checks", {
    options: [O.verboseChecks, O.json],
    names: "healthcheck",
    max: MANY,
    routes: [route("GET", "/healthchecks", "List health checks"), route("GET", CHECK, "One health check")],
  }),
  "show-hc-result": row("show-hc-result", "show-hc-res", "show", "[-v] [RULE...]", "show what health checks found", {
    options: [O.verboseResults, O.json],
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
    routes: [route("POST", "/history/{id}/rollback", "Go back to the configuration after a change")],
  }),
  "show-services": row(
    "show-services",
    "show-svc",
    "show",
    "[-t TABLE] [[-p] -o FIELD,...] [NAME|PORT...]",
    "list services of NetBackup with their ports (addition)",
    {
      options: [O.ofTable, O.parsable, O.fields, O.json],
      operand: "NAME|PORT",
      max: MANY,
      missingOptionArgument: LISTED,
      routes: [
        route("GET", "/netbackup/services", "Services of NetBackup with their ports", "query"),
        route("GET", "/netbackup/ports", "Ports of NetBackup that a site may set"),
      ],
    },
  ),
  "show-flows": row(
    "show-flows",
    "show-fl",
    "show",
    "[-ab] [-t TABLE] [-s ROLE[@VERSION]] [-d ROLE[@VERSION]] [-c FACT=VALUE,...] [-H [-u HOST@VERSION,...]] [-x FORM] [[-p] -o FIELD,...]",
    "tell which ports NetBackup hosts need between them (addition)",
    {
      options: [
        O.notNeeded,
        O.bothWays,
        O.ofTable,
        O.fromRole,
        O.toRole,
        O.facts,
        O.allHosts,
        O.upgrades,
        O.form,
        O.parsable,
        O.fields,
        O.json,
      ],
      missingOptionArgument: LISTED,
      routes: [route("GET", "/netbackup/flows", "Flows that NetBackup hosts need between them", "query")],
    },
  ),
  "set-port": row(
    "set-port",
    "set-port",
    "config",
    "NAME=PORT|NAME=RANGE... | -f FILE",
    "set a port of NetBackup that the site has changed (addition)",
    {
      options: [O.portFile],
      operand: "NAME=PORT",
      max: MANY,
      routes: [route("PUT", "/netbackup/ports/{name}", "Set a port of NetBackup", "port")],
    },
  ),
  "create-host": row(
    "create-host",
    "create-hst",
    "config",
    "-a ADDR[/LEN] -r ROLE[@VERSION],... [-c FACT=VALUE,...] NAME",
    "bind an address to roles of NetBackup (addition)",
    {
      options: [O.hostAddress, O.hostRoles, O.hostFacts],
      min: 1,
      max: 1,
      routes: [route("POST", "/netbackup/hosts", "Bind an address to roles of NetBackup", "properties")],
    },
  ),
  "delete-host": row("delete-host", "delete-hst", "config", "NAME...", "unbind hosts of NetBackup (addition)", {
    min: 1,
    names: "host",
    max: MANY,
    routes: [route("DELETE", HOST, "Unbind a host")],
  }),
  "show-host": row("show-host", "show-hst", "show", "[[-p] -o FIELD,...] [NAME...]", "list bound hosts (addition)", {
    options: [O.parsable, O.fields, O.json],
    names: "host",
    max: MANY,
    missingOptionArgument: LISTED,
    routes: [route("GET", "/netbackup/hosts", "Bound hosts"), route("GET", HOST, "One bound host")],
  }),
  "set-policy": row(
    "set-policy",
    "set-pol",
    "config",
    "[-c NAME=VALUE,...] [off|monitor|enforce]",
    "say what NetBackup hosts may do among themselves (addition)",
    {
      options: [O.policySettings],
      operand: "MODE",
      property: "mode",
      max: 1,
      routes: [route("PATCH", "/netbackup/policy", "Change the flow policy", "properties")],
    },
  ),
  "show-policy": row("show-policy", "show-pol", "show", "[-v]", "tell the flow policy and what it did (addition)", {
    options: [O.verbosePolicy, O.json],
    routes: [route("GET", "/netbackup/policy", "The flow policy, its counters and what it refused")],
  }),
  "export-policy": row(
    "export-policy",
    "export-pol",
    "show",
    "[-x nft|csv|json|table|config] [FILE]",
    "write the flow policy for another firewall (addition)",
    {
      options: [O.policyForm],
      operand: "FILE",
      names: "file",
      max: 1,
      routes: [route("GET", "/netbackup/policy/export", "The flow policy for another firewall", "query")],
    },
  ),
  "test-connection": row(
    "test-connection",
    "test-conn",
    "config",
    "[-a] [-O | -t SERVICE] [-w SECONDS] [[-p] -o FIELD,...] HOST",
    "try the ports of a NetBackup host in order: PBX, VNETD, daemon (addition)",
    {
      options: [O.everyStep, O.webPairs, O.testedService, O.testSeconds, O.parsable, O.fields, O.json],
      operand: "HOST",
      min: 1,
      max: 1,
      missingOptionArgument: LISTED,
      routes: [route("POST", "/netbackup/test", "Try the ports of a NetBackup host in order", "test")],
    },
  ),
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
  help: {
    word: "help",
    synopsis: "[SUBCOMMAND]",
    summary: "tell about a subcommand, as SUBCOMMAND --help does, or list them all",
  },
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
