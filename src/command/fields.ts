/**
 * The columns of every listing: names as headers print them, widths with the gap, and which are shown when none are
 * asked for. Data only; listings.ts and statistics.ts fill them, columns.ts lays them out.
 */

/** Width in characters, gap included: one number, or by the family of the first row (IPv4, IPv6). */
export type Width = number | readonly [ipv4: number, ipv6: number];

export interface FieldSet {
  /** Every field, in the order of `-o all` and of `-f`. */
  readonly widths: Readonly<Record<string, Width>>;
  readonly defaults: readonly string[];
}

const ADDRESS_WIDTH: Width = [16, 39];

/** show-rule. */
export const RULE_WIDTHS = {
  RULENAME: 20,
  STATUS: 7,
  PORT: 10,
  PROTOCOL: 5,
  LBALG: 12,
  TYPE: 8,
  "PROXY-SRC": [33, 39],
  PMASK: 6,
  "HC-NAME": 20,
  "HC-PORT": 8,
  "CONN-DRAIN": 11,
  "NAT-TIMEOUT": 12,
  "PERSIST-TIMEOUT": 16,
  SERVERGROUP: 15,
  VIP: ADDRESS_WIDTH,
  SERVERS: 20,
} as const satisfies Record<string, Width>;
export type RuleField = keyof typeof RULE_WIDTHS;

/** show-servergroup. Headers in the manual's mixed case; `-o` matches without case. */
export const GROUP_WIDTHS = {
  sgname: 15,
  serverID: 20,
  minport: 8,
  maxport: 8,
  IP_address: [15, 39],
} as const satisfies Record<string, Width>;
export type GroupField = keyof typeof GROUP_WIDTHS;

/** show-server. */
export const SERVER_WIDTHS = {
  SERVERID: 20,
  ADDRESS: ADDRESS_WIDTH,
  PORT: 5,
  RULENAME: 20,
  STATUS: 7,
  SERVERGROUP: 15,
  HOSTNAME: 20,
} as const satisfies Record<string, Width>;
export type ServerField = keyof typeof SERVER_WIDTHS;

/** show-healthcheck; the width of TEST stands for the rest of 80 columns. Those behind it come with -v. */
export const HEALTH_WIDTHS = {
  HCNAME: 14,
  TIMEOUT: 8,
  COUNT: 8,
  INTERVAL: 9,
  DEF_PING: 9,
  TEST: 32,
  OPTIONS: 40,
} as const satisfies Record<string, Width>;
export type HealthField = keyof typeof HEALTH_WIDTHS;

/** show-audit. */
export const AUDIT_WIDTHS = {
  TIME: 20,
  USER: 16,
  RESULT: 16,
  COMMAND: 40,
} as const satisfies Record<string, Width>;
export type AuditField = keyof typeof AUDIT_WIDTHS;

/** history. */
export const HISTORY_WIDTHS = {
  ID: 8,
  TIME: 20,
  USER: 16,
  COMMAND: 40,
} as const satisfies Record<string, Width>;
export type HistoryField = keyof typeof HISTORY_WIDTHS;

/** show-hc-result. */
export const RESULT_WIDTHS = {
  RULENAME: 14,
  HCNAME: 14,
  SERVERID: 14,
  STATUS: 9,
  FAIL: 5,
  LAST: 9,
  NEXT: 9,
  RTT: 9,
  CERT_UNTIL: 11,
  VIA: 7,
  REASON: 40,
} as const satisfies Record<string, Width>;
export type ResultField = keyof typeof RESULT_WIDTHS;

/** show-statistics without -i. */
export const STATISTICS_WIDTHS = {
  PKT_P: 8,
  BYTES_P: 10,
  PKT_U: 8,
  BYTES_U: 10,
  PKT_D: 8,
  BYTES_D: 10,
  ICMP_P: 8,
  ICMP_D: 8,
  ICMP2BIG_P: 11,
  ICMP2BIG_D: 11,
  NOMEMP_D: 8,
  NOPORTP_D: 8,
  NOMEMB_D: 8,
  NOPORTB_D: 8,
  TIME: 15,
} as const satisfies Record<string, Width>;
export type StatisticsField = keyof typeof STATISTICS_WIDTHS;

/** show-statistics -i. */
export const ITEM_WIDTHS = {
  RULENAME: 20,
  SERVERNAME: 20,
  PKT_P: 8,
  BYTES_P: 10,
  TIME: 15,
} as const satisfies Record<string, Width>;
export type ItemField = keyof typeof ITEM_WIDTHS;

/** show-services. */
export const SERVICE_WIDTHS = {
  NAME: 21,
  PORT: 16,
  ALIASES: 28,
  TABLES: 32,
  VERSIONS: 9,
  GUARD: 6,
  TITLE: 40,
} as const satisfies Record<string, Width>;
export type ServiceField = keyof typeof SERVICE_WIDTHS;

/** show-flows. CHANGE is of differences, GROUP of alternatives. */
export const FLOW_WIDTHS = {
  CHANGE: 7,
  FLOW: 9,
  SOURCE: 14,
  DESTINATION: 14,
  SERVICE: 13,
  PORT: 7,
  PROTO: 7,
  NEED: 13,
  GROUP: 20,
  // Last, as the only one with blanks in it.
  CONDITION: 40,
} as const satisfies Record<string, Width>;
export type FlowField = keyof typeof FLOW_WIDTHS;

/** show-host. */
export const HOST_WIDTHS = { NAME: 16, ADDRESS: 24, ROLES: 40, FACTS: 32 } as const satisfies Record<string, Width>;
export type HostField = keyof typeof HOST_WIDTHS;

/** Permitted flows of show-policy and export-policy. */
export const POLICY_FLOW_WIDTHS = {
  FLOW: 9,
  SOURCE: 16,
  "SOURCE-ADDR": 24,
  DESTINATION: 16,
  "DEST-ADDR": 24,
  SERVICE: 14,
  PROTO: 6,
  PORT: 12,
  NEED: 12,
  CONDITION: 40,
} as const satisfies Record<string, Width>;
export type PolicyFlowField = keyof typeof POLICY_FLOW_WIDTHS;

/** test-connection. An IPv6 address stands in brackets before its port. */
export const REACH_WIDTHS = {
  STEP: 8,
  LOCAL: [22, 48],
  REMOTE: [22, 48],
  RESULT: 13,
  USEC: 8,
} as const satisfies Record<string, Width>;
export type ReachField = keyof typeof REACH_WIDTHS;

const all = (widths: Readonly<Record<string, Width>>): string[] => Object.keys(widths);

const defaultRuleFields: readonly RuleField[] = ["RULENAME", "STATUS", "LBALG", "TYPE", "PROTOCOL", "VIP", "PORT"];
const defaultItemOfRule: readonly ItemField[] = ["SERVERNAME", "PKT_P", "BYTES_P"];
const defaultItemOfServer: readonly ItemField[] = ["RULENAME", "PKT_P", "BYTES_P"];

export const RULE_FIELDS: FieldSet = { widths: RULE_WIDTHS, defaults: defaultRuleFields };
export const GROUP_FIELDS: FieldSet = { widths: GROUP_WIDTHS, defaults: all(GROUP_WIDTHS) };
export const SERVER_FIELDS: FieldSet = { widths: SERVER_WIDTHS, defaults: all(SERVER_WIDTHS).slice(0, 6) };
export const HEALTH_FIELDS: FieldSet = { widths: HEALTH_WIDTHS, defaults: all(HEALTH_WIDTHS).slice(0, 6) };
export const RESULT_FIELDS: FieldSet = { widths: RESULT_WIDTHS, defaults: all(RESULT_WIDTHS).slice(0, 8) };
export const AUDIT_FIELDS: FieldSet = { widths: AUDIT_WIDTHS, defaults: all(AUDIT_WIDTHS) };
export const HISTORY_FIELDS: FieldSet = { widths: HISTORY_WIDTHS, defaults: all(HISTORY_WIDTHS) };
export const SERVICE_FIELDS: FieldSet = { widths: SERVICE_WIDTHS, defaults: all(SERVICE_WIDTHS).slice(0, 6) };
export const HOST_FIELDS: FieldSet = { widths: HOST_WIDTHS, defaults: all(HOST_WIDTHS) };
export const POLICY_FLOW_FIELDS: FieldSet = { widths: POLICY_FLOW_WIDTHS, defaults: all(POLICY_FLOW_WIDTHS) };
export const REACH_FIELDS: FieldSet = { widths: REACH_WIDTHS, defaults: all(REACH_WIDTHS) };
const flowFields = all(FLOW_WIDTHS).filter((field) => field !== ("GROUP" satisfies FlowField));
export const FLOW_FIELDS: FieldSet = { widths: FLOW_WIDTHS, defaults: flowFields.slice(1) };
/** Of the difference that an upgrade makes. */
export const FLOW_CHANGE_DEFAULTS: readonly string[] = flowFields;
/** `-v` shows the first twelve. */
export const STATISTICS_FIELDS: FieldSet = { widths: STATISTICS_WIDTHS, defaults: all(STATISTICS_WIDTHS).slice(0, 6) };
export const VERBOSE_STATISTICS = all(STATISTICS_WIDTHS).slice(0, 12);
export const RULE_ITEM_FIELDS: FieldSet = { widths: ITEM_WIDTHS, defaults: defaultItemOfRule };
export const SERVER_ITEM_FIELDS: FieldSet = { widths: ITEM_WIDTHS, defaults: defaultItemOfServer };

/** Every field of the set, in its order. */
export const allFields = (set: FieldSet): readonly string[] => all(set.widths);

export type FieldChoice =
  | { readonly ok: true; readonly fields: readonly string[] }
  | { readonly ok: false; readonly unknown: string };

/** The fields that `-o` names, in any case and order; `all` stands for every one. @returns the first unknown name otherwise. */
export function chooseFields(set: FieldSet, text: string): FieldChoice {
  const names = allFields(set);
  const fields: string[] = [];
  for (const element of text.split(",")) {
    const wanted = element.toLowerCase();
    const field = names.find((name) => name.toLowerCase() === wanted);
    if (field !== undefined) fields.push(field);
    else if (wanted === ALL_FIELDS) fields.push(...names);
    else return { ok: false, unknown: element };
  }
  return { ok: true, fields };
}

/** The word that stands for every field. */
export const ALL_FIELDS = "all";

/** Whether `-o` text names fields one by one, as parsable output demands. */
export const isExplicit = (text: string): boolean =>
  !text.split(",").some((element) => element.toLowerCase() === ALL_FIELDS);
