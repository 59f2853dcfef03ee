/**
 * Keys and options of the one grammar: every keyword of a `key=value` argument and every option letter is spelled here
 * and nowhere else. Which subcommand has which is spec.ts.
 */
import { CATALOGUE, serviceOf } from "../netbackup/catalogue.ts";
import { HOST_FACTS, QUESTION_FACTS, SITE_FACTS } from "../netbackup/facts.ts";
import { POLICY_SWITCHES } from "../netbackup/policy-settings.ts";
import { TABLES } from "../netbackup/question.ts";
import { DAEMONS, DEFAULT_DAEMON } from "../netbackup/reach.ts";
import {
  address,
  addressRange,
  algorithm,
  type Codec,
  count,
  grpcService,
  healthCheckPort,
  healthTest,
  name,
  percent,
  portNumber,
  ports,
  prefixLength,
  protocol,
  queryName,
  queryType,
  requestPath,
  ruleType,
  seconds,
  serverIdText,
  servers,
  siteName,
  statusList,
  threshold,
  upDown,
  yesNo,
} from "./values.ts";

/** Objects of the daemon, or a file, that a word names. What completion offers. */
export type Named = "rule" | "servergroup" | "server" | "healthcheck" | "host" | "file";

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
  /** The boolean property that stands for it in JSON, the value that sets it, and what true means where the option says the opposite; null: none. */
  readonly json: { readonly property: string; readonly value: boolean; readonly help?: string } | null;
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
  /** What the argument names; `fields`: those of the listing, joined by commas; null: nothing that can be listed. */
  readonly names: Named | "fields" | null;
  /** Words that the argument may begin with, for completion. */
  readonly words?: readonly string[];
  /** The parameter that stands for it in a query string. */
  readonly property?: string;
  /** What JSON may have in place of the text: an array of roles, or an object of names and values, as GET shows them. */
  readonly json?: "roles" | "pairs";
}
export type OptionSpec = FlagOption | KeysOption | TextOption;

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
  testPath: key("hc-path", requestPath, "addition, HTTP and HTTPS: what is asked for; default /"),
  testStatus: key("hc-status", statusList, "addition, HTTP and HTTPS: answers of a healthy server; default 200-399"),
  testHost: key("hc-host", siteName, "addition, HTTP, HTTPS and GRPC: Host field and TLS name; default: the address"),
  testTls: key("hc-tls", yesNo, "addition, GRPC: over TLS; default no"),
  testVerify: key("hc-tls-verify", yesNo, "addition, over TLS: the certificate must be valid; default no"),
  testService: key("hc-service", grpcService, "addition, GRPC: whose health; default: the whole server's"),
  testQuery: key("hc-query", queryName, "addition, DNS: the name asked for", { aliases: ["hc-name"] }),
  testQueryType: key("hc-query-type", queryType, "addition, DNS: the type asked for; default A", {
    aliases: ["hc-type"],
  }),
  testRise: key("hc-rise", threshold, "addition: successful checks in a row that bring a server back; default 1"),
  testFall: key("hc-fall", threshold, "addition: failed checks in a row that take a server out; default 1"),
  testInitial: key(
    "hc-initial",
    upDown,
    "addition: whether servers take connections before the first result; default up",
  ),
  testPanic: key(
    "hc-panic",
    percent,
    "addition: keep all servers of a rule if fewer percent would remain; default 0: off",
  ),
  testPassive: key("hc-passive", yesNo, "addition: check a server at once when it refuses connections; default yes"),
});

/** What only tests that talk have. */
export const TALK_KEYS: readonly AnyKey[] = Object.freeze([
  KEYS.testPath,
  KEYS.testStatus,
  KEYS.testHost,
  KEYS.testTls,
  KEYS.testVerify,
  KEYS.testService,
  KEYS.testQuery,
  KEYS.testQueryType,
]);

/** How results are judged: additions, and never shown unless they were given. */
export const JUDGING_KEYS: readonly AnyKey[] = Object.freeze([
  KEYS.testRise,
  KEYS.testFall,
  KEYS.testInitial,
  KEYS.testPanic,
  KEYS.testPassive,
]);

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
const text = (
  letter: string,
  placeholder: string,
  help: string,
  names: TextOption["names"],
  extra: Pick<TextOption, "words" | "property" | "json"> = {},
): TextOption => Object.freeze({ kind: "text", letter, placeholder, help, names, ...extra });

const ROLES = CATALOGUE.roles.map(({ id }) => id);

/** Every option. Told apart by identity; rows share them. */
export const OPTIONS = Object.freeze({
  enable: flag("e", "create the rule enabled", { property: "enabled", value: true }),
  force: flag("F", "create the rule although NetBackup does not support translation of its ports (addition)", {
    property: "forced",
    value: true,
  }),
  forceServer: flag("F", "add the servers although NetBackup does not support translation of its ports (addition)", {
    property: "forced",
    value: true,
  }),
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
  verboseResults: flag(
    "v",
    "with the end of the certificate, how NetBackup answers, and the reason of the last failure (additions)",
  ),
  servers: keys("s", "server=HOSTSPEC,...", "servers to add", [KEYS.servers]),
  serverIds: keys("s", "server=ID,...", "servers to remove", [KEYS.serverIds]),
  addEnabled: flag("e", "accepted; servers are always added enabled"),
  noDefaultPing: flag("n", "do not ping before the test", {
    property: "default-ping",
    value: false,
    help: "ping before the test; default true",
  }),
  test: keys("h", "HCSPEC", "the test", [
    KEYS.test,
    KEYS.testTimeout,
    KEYS.testCount,
    KEYS.testInterval,
    ...TALK_KEYS,
    ...JUDGING_KEYS,
  ]),
  verboseChecks: flag("v", "addition: with everything else that was given"),
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
  ofTable: text("t", "TABLE", "only this table, or section of running text, of the guide", null, {
    words: TABLES,
    property: "table",
  }),
  fromRole: text("s", "ROLE[@VERSION]", "who connects", null, { words: ROLES, property: "source" }),
  toRole: text("d", "ROLE[@VERSION]", "to whom", null, { words: ROLES, property: "destination" }),
  facts: text("c", "FACT=VALUE,...", "what is known of the two ends and the site", null, {
    words: [...QUESTION_FACTS.keys()].map((name) => `${name}=`),
    property: "facts",
  }),
  form: text("x", "FORM", "table, csv (RFC 4180) or json", null, { words: ["table", "csv", "json"] }),
  upgrades: text("u", "HOST@VERSION,...", "what would go (-) and come (+) with these versions; needs -H", null, {
    property: "upgrades",
  }),
  bothWays: flag("b", "both directions", { property: "both", value: true }),
  notNeeded: flag("a", "also flows that are not needed", { property: "all", value: true }),
  allHosts: flag("H", "between all bound hosts", { property: "hosts", value: true }),
  testedService: text(
    "t",
    "SERVICE",
    `whose daemon is the last step; default ${serviceOf(DEFAULT_DAEMON).name}`,
    null,
    {
      words: DAEMONS.map((id) => serviceOf(id).name),
      property: "service",
    },
  ),
  testSeconds: text("w", "SECONDS", "for all of it, 1 to 20; default 9", null, { property: "seconds" }),
  everyStep: flag("a", "go on behind the first answer", { property: "all", value: true }),
  webPairs: flag("O", "find the web ports of OpsCenter instead", { property: "opscenter", value: true }),
  portFile: text("f", "FILE", "set what this cloudstore.conf says", "file"),
  hostAddress: text("a", "ADDR[/LEN]", "the host's address, or the prefix of several hosts", null, {
    property: "address",
  }),
  hostRoles: text("r", "ROLE[@VERSION],...", "what they are", null, { words: ROLES, property: "roles", json: "roles" }),
  hostFacts: text("c", "FACT=VALUE,...", "what else is known of them", null, {
    words: [...HOST_FACTS.keys()].map((name) => `${name}=`),
    property: "facts",
    json: "pairs",
  }),
  policySettings: text(
    "c",
    "NAME=VALUE,...",
    "switches, features and settings of the site; unknown takes one back",
    null,
    {
      words: [...POLICY_SWITCHES.keys(), ...SITE_FACTS.keys()].map((name) => `${name}=`),
      property: "settings",
      json: "pairs",
    },
  ),
  verbosePolicy: flag("v", "with permitted flows, counters and refused packets"),
  policyForm: text("x", "FORM", "nft, csv (RFC 4180), json, table or config", null, {
    words: ["nft", "csv", "json", "table", "config"],
    property: "form",
  }),
  json: flag("-json", "objects as JSON instead of lines"),
  packet: keys("i", "PACKET", "a packet; of TCP the first of a connection", [
    PACKET_KEYS.source,
    PACKET_KEYS.destination,
    KEYS.protocol,
    PACKET_KEYS.sourcePort,
    PACKET_KEYS.destinationPort,
  ]),
});
