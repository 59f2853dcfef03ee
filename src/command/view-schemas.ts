/** The schemas of what views.ts gives, for OpenAPI and for tests. zod only; no view is made here. */
import { z } from "zod";
import { NEEDS } from "../netbackup/flows.ts";
import { type AnyKey, JUDGING_KEYS, KEYS, OPTIONS, TALK_KEYS } from "./options.ts";
import { valueSchema } from "./schema.ts";
import { RULE_COUNTERS, SERVER_COUNTERS } from "./statistics.ts";
import { DEFAULT_PING, FORCED } from "./views.ts";

/** A 64-bit counter: a decimal string in JSON, an integer in MessagePack. */
const counter = z
  .string()
  .regex(/^[0-9]+$/)
  .describe("64-bit counter; decimal string in JSON, integer in MessagePack");
const portText = z.string().nullable().describe("N or N-M; null: the ports of each rule");
const time = z.string().describe("RFC 3339 time");

/** Keys of a health check that a view has only when they were given. */
const ADDED_KEYS: readonly AnyKey[] = [...TALK_KEYS, ...JUDGING_KEYS];

/** Properties of keys, for schemas. */
const keyShape = (keys: readonly AnyKey[], nullable: readonly AnyKey[]): Record<string, z.ZodType> =>
  Object.fromEntries(
    keys.map((key) => {
      const schema = valueSchema(key);
      return [key.property, nullable.includes(key) ? schema.nullable() : schema];
    }),
  );

const RULE_KEYS: readonly AnyKey[] = [
  ...OPTIONS.incoming.keys,
  ...OPTIONS.method.keys,
  ...OPTIONS.ruleHealth.keys,
  ...OPTIONS.timers.keys,
  ...OPTIONS.outgoing.keys,
];

const ruleSchema = z.object({
  name: z.string(),
  enabled: z.boolean(),
  ...keyShape(RULE_KEYS, [KEYS.proxySource, KEYS.stickyMask, KEYS.healthCheck, KEYS.healthCheckPort]),
  [FORCED]: z.boolean().describe("made in spite of the guard against translating NetBackup's ports"),
  servers: z.array(z.string()).describe("server IDs, ascending by address"),
});

/** A server of a group. The rules that use it are those of the group, once; in each row they would be a product. */
const serverOfGroupSchema = z.object({
  id: z.string().describe("server ID, _GROUP.N"),
  servergroup: z.string(),
  address: z.string(),
  port: portText,
  enabled: z.boolean(),
});
const serverSchema = serverOfGroupSchema.extend({ rules: z.array(z.string()).describe("rules that use it") });
/** One of the rules that use a server. All of them in each row would make a listing grow with their square. */
const serverOfRuleSchema = serverOfGroupSchema.extend({ rule: z.string().describe("the rule that uses it") });

const groupSchema = z.object({
  name: z.string(),
  rules: z.array(z.string()).describe("rules that use the group, and so each of its servers"),
  servers: z.array(serverOfGroupSchema).describe("ascending by address"),
});

const healthCheckSchema = z.object({
  name: z.string(),
  ...keyShape(
    OPTIONS.test.keys.filter((key) => !ADDED_KEYS.includes(key)),
    [],
  ),
  [DEFAULT_PING]: z.boolean(),
  ...Object.fromEntries(ADDED_KEYS.map((key) => [key.property, valueSchema(key).optional()])),
});

const resultSchema = z.object({
  rule: z.string(),
  healthcheck: z.string(),
  server: z.string(),
  status: z.enum(["un-init", "alive", "dead", "unreach", "disabled"]),
  fail: z.int(),
  last: time,
  next: time.nullable(),
  rtt: z.int().describe("microseconds, 0: unknown"),
  reason: z.string().nullable().describe("the last failure in words; null after a success or without any"),
  certificateUntil: time.nullable().describe("when the certificate ends that the server showed last; null: none seen"),
  via: z.string().nullable().describe("of NBU tests: PBX, VNETD, DAEMON, or none; null: not known, or another test"),
  kept: z.boolean().describe("failing, and offered all the same: too few servers of the rule would remain (hc-panic)"),
});

const counterShape = (table: object): Record<string, z.ZodType> =>
  Object.fromEntries(Object.keys(table).map((field) => [field.toLowerCase(), counter]));

const statisticsSchema = z.object({
  time,
  rules: z.array(
    z.object({
      name: z.string(),
      ...counterShape(RULE_COUNTERS),
      servers: z.array(z.object({ id: z.string(), ...counterShape(SERVER_COUNTERS) })),
    }),
  ),
});

const endpointSchema = z.object({ address: z.string(), port: z.int() });
const flowSchema = z.object({
  protocol: z.enum(["tcp", "udp"]),
  client: endpointSchema,
  vip: endpointSchema,
  source: endpointSchema.describe("full NAT: proxy address and port; half NAT: the client again"),
  server: endpointSchema,
});

const stickySchema = z.object({
  rule: z.string(),
  client: z.string().describe("client address with the rule's mask applied"),
  server: z.string().describe("server ID"),
});

const openEndpointSchema = z.object({ address: z.string(), port: z.int().nullable() });
const explanationSchema = z.object({
  packet: z.object({ protocol: z.enum(["tcp", "udp"]), source: endpointSchema, destination: endpointSchema }),
  verdict: z.string().describe("ignore, forward, reply, pass or drop"),
  reason: z.string().describe("stable name"),
  meaning: z.string(),
  rule: z.string().nullable(),
  type: z.string().nullable(),
  server: z.string().nullable().describe("server ID"),
  direction: z.enum(["none", "client-to-server", "server-to-client"]),
  flow: z.enum(["none", "new", "found"]),
  entry: z
    .object({
      closed: z.boolean().describe("it is over, and the packet's own flow would replace it"),
      client: endpointSchema,
      vip: endpointSchema,
      source: endpointSchema,
      server: endpointSchema,
    })
    .nullable(),
  choice: z
    .object({
      algorithm: z.string(),
      hash: z
        .object({
          value: z.string(),
          index: z.int(),
          count: z.int(),
          fallback: z.object({ index: z.int(), count: z.int() }).nullable(),
        })
        .nullable(),
      turns: z.array(z.string().nullable()).nullable().describe("round robin: server IDs, the next first"),
      picked: z.string().nullable().describe("what the algorithm gives"),
      sticky: z
        .object({ client: z.string(), mask: z.int(), server: z.string().nullable(), holds: z.boolean() })
        .nullable(),
      servers: z.array(
        z.object({
          id: z.string().nullable(),
          address: z.string(),
          port: z.string().nullable(),
          why: z.enum(["chosen", "disabled", "down", "not-its-turn", "other-hash", "other-sticky"]),
        }),
      ),
    })
    .nullable(),
  leaving: z
    .object({ source: openEndpointSchema.describe("port null: a free proxy port"), destination: endpointSchema })
    .nullable(),
  egress: z
    .object({
      device: z.string().nullable(),
      nexthop: z.enum(["resolved", "unresolved", "none"]),
      source: z.string().nullable(),
      destination: z.string().nullable(),
      mtu: z.int(),
    })
    .nullable(),
});

const recordSchema = z.object({
  id: z.int(),
  time,
  user: z.string(),
  result: z.string().describe("ok, or the code of the failure"),
  command: z.string(),
});

const serviceSchema = z.object({
  name: z.string(),
  port: z.int(),
  protocols: z.array(z.string()),
  aliases: z.array(z.string()).describe("other spellings of the name"),
  tables: z.array(z.string()).describe("tables of the ports guide that name it"),
  versions: z.string().describe("all, or the product versions that it is for: <V or >=V"),
  guard: z
    .enum(["port", "role"])
    .describe("port: NAT and HALF-NAT rules are refused; role: warned about at bound hosts"),
  title: z.string(),
});
const netbackupFlowSchema = z.object({
  flow: z.string().describe("table and row of the ports guide"),
  source: z.string().nullable().describe("role or bound host; null: any"),
  destination: z.string(),
  service: z.string(),
  port: z.string().nullable().describe("N or N-M; null: the site has to set it"),
  protocol: z.string(),
  need: z.enum(NEEDS),
  condition: z.string().nullable().describe("what it hangs on, in words"),
  alternatives: z.string().nullable().describe("the group of which one is needed"),
  // Any text, because generators of clients cannot name these two.
  change: z.string().optional().describe("of a difference: - the flow goes, + it comes"),
});
const portSettingSchema = z.object({
  name: z.string(),
  port: z.string().nullable().describe("N or N-M; null: not set, and the guide gives no number"),
  default: z.string().nullable(),
  flows: z.array(z.string()).nullable().describe("the only flows that it is for; null: all of its own"),
});

const hostSchema = z.object({
  name: z.string(),
  address: z.string().describe("an address, or ADDRESS/LENGTH"),
  roles: z.array(z.object({ role: z.string(), version: z.string().nullable() })),
  facts: z.record(z.string(), z.union([z.string(), z.boolean()])),
});
const policyCount = { packets: z.string(), bytes: z.string() };
const policyEnds = {
  flow: z.string().describe("table and row of the ports guide"),
  source: z.array(z.string()).describe("bound hosts"),
  destination: z.array(z.string()),
  protocol: z.string(),
  need: z.enum(NEEDS),
  condition: z.string().nullable(),
};
const policySchema = z.object({
  mode: z.enum(["off", "monitor", "enforce"]),
  settings: z.record(z.string(), z.string()).describe("switches, and what is known of the site"),
  hosts: z.int().describe("bound hosts"),
  flows: z.array(z.object({ ...policyEnds, service: z.string(), port: z.string() })).describe("what may be opened"),
  unresolved: z
    .array(z.object({ ...policyEnds, set: z.string().describe("the command that names the ports") }))
    .describe("permitted, but the site has to name the ports first"),
  counters: z.object({
    flows: z.array(z.object({ flow: z.string(), ...policyCount })),
    message: z.object(policyCount).describe("ICMP errors, neighbour discovery and echo"),
    noPorts: z.object(policyCount).describe("fragments and others that show no ports"),
    refusals: z.array(z.object({ refusal: z.string(), ...policyCount })),
  }),
  refused: z
    .array(
      z.object({
        source: z.string(),
        sourcePort: z.int().nullable(),
        destination: z.string(),
        destinationPort: z.int().nullable(),
        protocol: z.int().describe("IP protocol number"),
        refusal: z.string(),
        packets: z.string(),
        lastAt: z.string(),
      }),
    )
    .describe("the last 64, the latest first"),
});

const connectionTestSchema = z.object({
  host: z.string(),
  address: z.string().describe("the address that was tried"),
  via: z.string().nullable().describe("what answered first: PBX, VNETD, DAEMON, or a pair of web ports; null: nothing"),
  hint: z.string().nullable().describe("what to look at when it is not what was expected"),
  steps: z.array(
    z.object({
      step: z.string(),
      local: endpointSchema.nullable().describe("null: the connection never had an address"),
      remote: endpointSchema,
      result: z.enum(["connected", "refused", "timeout", "unreachable"]),
      microseconds: z.int(),
    }),
  ),
});

const planSchema = z.object({
  changes: z.array(
    z.object({
      change: z.enum(["add", "remove", "change"]),
      kind: z.enum(["servergroup", "server", "healthcheck", "rule", "netbackup-host", "netbackup"]),
      name: z.string().describe("of a server: its group and its address"),
      fields: z.array(z.object({ field: z.string(), before: z.string(), after: z.string() })),
    }),
  ),
  connections: z
    .array(z.object({ rule: z.string(), connections: z.int(), cutAfterSeconds: z.int().nullable() }))
    .describe("those that stay with servers which get no new ones; null: until they end"),
});

/** The schemas, by resource. */
export const VIEW_SCHEMAS = Object.freeze({
  rule: ruleSchema,
  servergroup: groupSchema,
  server: serverSchema,
  "server-of-group": serverOfGroupSchema,
  "server-of-rule": serverOfRuleSchema,
  healthcheck: healthCheckSchema,
  "hc-result": resultSchema,
  statistics: statisticsSchema,
  nat: flowSchema,
  persist: stickySchema,
  explanation: explanationSchema,
  record: recordSchema,
  plan: planSchema,
  "netbackup-service": serviceSchema,
  "netbackup-flow": netbackupFlowSchema,
  "netbackup-port": portSettingSchema,
  "netbackup-host": hostSchema,
  "netbackup-policy": policySchema,
  "connection-test": connectionTestSchema,
});

export type ServerView = z.infer<typeof serverSchema>;
export type ServerOfGroupView = z.infer<typeof serverOfGroupSchema>;
export type ServerOfRuleView = z.infer<typeof serverOfRuleSchema>;
export type GroupView = z.infer<typeof groupSchema>;
export type ResultView = z.infer<typeof resultSchema>;
export type FlowView = z.infer<typeof flowSchema>;
export type ServiceView = z.infer<typeof serviceSchema>;
export type NetBackupFlowView = z.infer<typeof netbackupFlowSchema>;
export type HostView = z.infer<typeof hostSchema>;
export type PolicyView = z.infer<typeof policySchema>;
export type PortSettingView = z.infer<typeof portSettingSchema>;
export type ConnectionTestView = z.infer<typeof connectionTestSchema>;
export type StickyView = z.infer<typeof stickySchema>;
