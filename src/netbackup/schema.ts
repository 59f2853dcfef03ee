/**
 * What data/netbackup.json must look like. Tests hold the file against it; programs take only the types, so that none
 * of them loads zod. What the parts mean together (names that exist, counts per table) is for the tests to say.
 */
import { z } from "zod";

const id = z.string().regex(/^[A-Za-z0-9_.-]+$/);
const port = z.int().min(1).max(65535);
const version = z.string().regex(/^[0-9]+(\.[0-9]+)*$/);
const protocols = z.array(z.enum(["tcp", "udp"])).min(1);
const TRUE = z.literal(true);

/** One comparison of a fact. `differs`: both ends have the fact, and it is not the same. */
const comparison = z.strictObject({
  /** `source.`, `destination.` or `either.` and a host fact or `version`, or `feature.` or `setting.` and its id. */
  fact: id,
  /** `lt` to `gt` compare versions; `matches` compares with patterns in which x is any digit. */
  op: z.enum(["lt", "le", "gt", "ge", "eq", "in", "matches", "differs"]),
  value: z.union([z.string(), z.boolean(), z.array(z.string()).min(1)]),
});
export type Comparison = Readonly<z.infer<typeof comparison>>;

/** A condition over facts. Three-valued: what is not known leaves it open, unless its other members decide. */
export type Expression =
  | Comparison
  | { readonly all: readonly Expression[] }
  | { readonly any: readonly Expression[] }
  | { readonly not: Expression };

const expression: z.ZodType<Expression> = z.lazy(() =>
  z.union([
    comparison,
    z.strictObject({ all: z.array(expression).min(1) }),
    z.strictObject({ any: z.array(expression).min(1) }),
    z.strictObject({ not: expression }),
  ]),
);

const service = z.strictObject({
  id,
  name: z.string(),
  /** Spellings that stand for the port, matched without case and with `-` and `_` alike. */
  tokens: z.array(id).min(1),
  port,
  protocols,
  /** Tables that name it; empty: running text alone. */
  tables: z.array(id),
  sections: z.array(id).min(1),
  /** `port`: the number alone tells that it is NetBackup; `role`: a port that many use. */
  natGuard: z.enum(["port", "role"]),
  /** Need not be opened, as connections to it come through the exchange port. */
  reachedThroughPbx: TRUE.optional(),
  since: version.optional(),
  /** Needed by versions older than this one. */
  before: version.optional(),
  replacedBy: id.optional(),
  /** Whose port may be set by the site: in every flow or in these alone. */
  configurable: z.strictObject({ flows: z.union([z.literal("all"), z.array(id).min(1)]) }).optional(),
  ianaRegistered: TRUE.optional(),
});

const flow = z.strictObject({
  /** `T` and the table, or `P` and the section of running text, then the row. */
  id,
  section: id,
  table: id.optional(),
  row: z.int().min(1),
  /** A port that is listened on without a source named. */
  kind: z.literal("listener").optional(),
  from: z.array(id),
  to: z.array(id).min(1),
  /** Exactly one of these three says the port. */
  service: id.optional(),
  serviceGroup: id.optional(),
  window: id.optional(),
  protocols,
  /** The guide names no protocol; this is what the service ordinarily uses. */
  assumedProtocol: TRUE.optional(),
  /** Either end may begin. Absent: `from` does. */
  direction: z.enum(["between", "bidirectional"]).optional(),
  /** Absent: required. */
  requirement: z.enum(["optional", "alternative", "disputed"]).optional(),
  /** Flows of one name of which one, or one pair, is needed. */
  alternatives: id.optional(),
  /** What makes use of it. */
  when: expression.optional(),
  /** Versions that need it. */
  whenVersion: expression.optional(),
});

/** The whole file. */
export const catalogueSchema = z.strictObject({
  format: z.literal(1),
  guide: z.string(),
  tables: z.array(
    z.strictObject({
      id,
      section: id,
      title: z.string(),
      kind: z.enum(["services", "flows"]),
      /** Rows of the printed table, and the entries that they make here. */
      rows: z.int().min(1),
      entries: z.int().min(1),
    }),
  ),
  prose: z.array(z.strictObject({ section: id, flows: z.int().min(1) })),
  roles: z.array(
    z.strictObject({
      id,
      name: z.string(),
      tokens: z.array(id).min(1),
      /** Roles whose flows a host of this one has as well. */
      kindOf: z.array(id).min(1).optional(),
    }),
  ),
  services: z.array(service),
  serviceGroups: z.array(z.strictObject({ id, services: z.array(id).min(1) })),
  /** Port ranges that only the site can name. */
  windows: z.array(z.strictObject({ id, protocol: z.enum(["tcp", "udp"]) })),
  /** Pairs of web ports in the order in which they are tried. */
  webPairs: z.array(z.strictObject({ index: z.int(), http: id, https: id })),
  /** The steps by which a host is reached; the last is the daemon's own port. */
  connectionOrder: z.strictObject({
    steps: z.array(z.strictObject({ name: z.string(), service: id })).min(1),
    daemonStep: z.string(),
    defaultDaemon: id,
    daemons: z.array(id).min(1),
  }),
  /** The service that an end older than a version uses in general, beyond what footnotes demand. */
  compat: z.strictObject({ service: id, before: version }),
  firstNonReservedPort: port,
  configFile: z.strictObject({ name: z.string(), section: z.string(), key: z.string(), service: id }),
  features: z.array(z.strictObject({ id, words: z.string() })),
  /** Without `values`: true or false. `{}` in words stands for the values. */
  settings: z.array(z.strictObject({ id, words: z.string(), values: z.array(z.string()).optional() })),
  /** What may be known of a host beside role and version. */
  facts: z.array(
    z.strictObject({
      id,
      kind: z.enum(["boolean", "version", "model", "word", "name"]),
      words: z.string(),
      values: z.array(z.string()).optional(),
    }),
  ),
  flows: z.array(flow),
});
export type Catalogue = z.infer<typeof catalogueSchema>;
export type Service = Readonly<Catalogue["services"][number]>;
export type Flow = Readonly<Catalogue["flows"][number]>;
export type Role = Readonly<Catalogue["roles"][number]>;
