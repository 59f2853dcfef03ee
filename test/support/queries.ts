/** Arbitrary commands that are no changes, as bind makes them, for laws of printing and parsing. */
import fc from "fast-check";
import type { Command, Output } from "../../src/command/command.ts";
import {
  AUDIT_FIELDS,
  allFields,
  type FieldSet,
  FLOW_CHANGE_DEFAULTS,
  FLOW_FIELDS,
  GROUP_FIELDS,
  HISTORY_FIELDS,
  HOST_FIELDS,
  REACH_FIELDS,
  RULE_FIELDS,
  RULE_ITEM_FIELDS,
  SERVER_FIELDS,
  SERVER_ITEM_FIELDS,
  SERVICE_FIELDS,
  STATISTICS_FIELDS,
} from "../../src/command/fields.ts";
import type { Fact } from "../../src/netbackup/facts.ts";

type Reading = Exclude<Command, { kind: "changes" }>;

const word = fc.stringMatching(/^[!-~]{1,12}$/);
const words = fc.array(word, { maxLength: 4 });
const positive = fc.integer({ min: 1, max: 1_000_000 });
const limit = fc.option(positive);

/** What -o and -p can choose; parsable output always names its fields. */
const output = (set: FieldSet): fc.Arbitrary<Output> =>
  fc.oneof(
    fc.constant({ fields: set.defaults, parsable: false }),
    fc.record({
      fields: fc.array(fc.constantFrom(...allFields(set)), { minLength: 1, maxLength: 6 }),
      parsable: fc.boolean(),
    }),
  );

const health = fc.constantFrom("show-healthcheck" as const, "show-hc-result" as const);
const tables = fc.oneof(
  fc.record({
    kind: fc.constant("show-rule" as const),
    enabled: fc.option(fc.boolean()),
    full: fc.constant(false),
    output: output(RULE_FIELDS),
    names: words,
  }),
  fc.record({
    kind: fc.constant("show-rule" as const),
    enabled: fc.option(fc.boolean()),
    full: fc.constant(true),
    output: fc.constant({ fields: allFields(RULE_FIELDS), parsable: false }),
    names: words,
  }),
  fc.record({
    kind: fc.constant("show-servergroup" as const),
    output: fc.option(output(GROUP_FIELDS)),
    names: words,
  }),
  fc.record({ kind: fc.constant("show-server" as const), output: output(SERVER_FIELDS), names: words }),
  fc.record({ kind: health, names: words, verbose: fc.constant(true as const) }),
  fc.record({ kind: fc.constant("show-audit" as const), output: output(AUDIT_FIELDS), limit }),
  fc.record({ kind: fc.constant("history" as const), output: output(HISTORY_FIELDS), limit }),
);

const plain = fc.oneof(
  fc.record({ kind: health, names: words }),
  fc.record({ kind: fc.constantFrom("show-nat" as const, "show-persist" as const), limit }),
);

const statistics = fc
  .record({
    of: fc.constantFrom("all", "rule", "server"),
    name: word,
    itemize: fc.boolean(),
    mode: fc.constantFrom("per-second" as const, "delta" as const, "absolute" as const),
    intervalSeconds: fc.option(positive),
    count: fc.option(positive),
  })
  .chain(({ of, name, itemize, count, ...same }) => {
    const isItemized = itemize && of !== "all";
    const items = of === "server" ? SERVER_ITEM_FIELDS : RULE_ITEM_FIELDS;
    return output(isItemized ? items : STATISTICS_FIELDS).map((chosen) => ({
      kind: "show-statistics" as const,
      output: chosen,
      itemize: isItemized,
      rule: of === "rule" ? name : null,
      server: of === "server" ? name : null,
      ...same,
      count: same.intervalSeconds === null ? null : count,
    }));
  });

const packet = fc.record({
  kind: fc.constant("explain" as const),
  packet: fc
    .record({
      protocol: fc.constantFrom("tcp" as const, "udp" as const),
      family: fc.constantFrom(4 as const, 6 as const),
      source: fc.bigInt({ min: 0x0a000000n, max: 0x0affffffn }),
      destination: fc.bigInt({ min: 0x0a000000n, max: 0x0affffffn }),
      sourcePort: fc.integer({ min: 1, max: 65535 }),
      destinationPort: fc.integer({ min: 1, max: 65535 }),
    })
    .map(({ family, source, destination, ...rest }) => ({
      ...rest,
      source: { family, value: source },
      destination: { family, value: destination },
    })),
});

const version = fc.constantFrom("6.5", "7.0.1", "7.5");
const role = fc.record({
  role: fc.constantFrom("client", "media-server", "master-server"),
  version: fc.option(version),
});
const services = fc.record({
  kind: fc.constant("show-services" as const),
  table: fc.option(fc.constantFrom("2-1", "3-6", "2.9")),
  output: output(SERVICE_FIELDS),
  names: words,
});
const question = {
  all: fc.boolean(),
  table: fc.option(fc.constantFrom("2-2", "3-3", "3.1")),
};
const siteFact = fc.constantFrom<Fact>(
  ["feature.grt", true],
  ["setting.vmware-transport", "nbdssl"],
  ["setting.nbac", false],
);
const endFact = fc.constantFrom<Fact>(["source.resilient", true], ["destination.model", "5230"]);
/** Facts by name, each once, as reading gives them. */
const facts = (of: fc.Arbitrary<Fact>) => fc.uniqueArray(of, { maxLength: 2, selector: ([name]) => name });
const form = fc.constantFrom("table" as const, "csv" as const, "json" as const);
const flows = fc
  .oneof(
    fc.record({
      ...question,
      source: fc.option(role),
      destination: fc.option(role),
      both: fc.boolean(),
      hosts: fc.constant(false),
      facts: facts(fc.oneof(siteFact, endFact)),
      upgrades: fc.constant([]),
    }),
    fc.record({
      ...question,
      source: fc.constant(null),
      destination: fc.constant(null),
      both: fc.constant(false),
      hosts: fc.constant(true),
      facts: facts(siteFact),
      upgrades: fc.array(fc.record({ host: fc.constantFrom("m1", "a.b", "x@y"), version }), { maxLength: 2 }),
    }),
  )
  .chain((asked) => {
    const defaults = asked.upgrades.length > 0 ? FLOW_CHANGE_DEFAULTS : FLOW_FIELDS.defaults;
    return fc.tuple(form, output({ ...FLOW_FIELDS, defaults })).map(([chosen, printed]) => ({
      kind: "show-flows" as const,
      question: asked,
      form: printed.parsable ? ("table" as const) : chosen,
      output: printed,
    }));
  });

const hosts = fc.record({ kind: fc.constant("show-host" as const), output: output(HOST_FIELDS), names: words });
const policy = fc.record({ kind: fc.constant("show-policy" as const), verbose: fc.boolean() });
const connectionTest = fc
  .record({
    kind: fc.constant("test-connection" as const),
    host: fc.constantFrom("media1", "media1.example.com", "192.0.2.20", "2001:db8::20"),
    service: fc.option(fc.constantFrom("bprd", "nbcssc", "vnetd")),
    seconds: fc.integer({ min: 1, max: 20 }),
    all: fc.boolean(),
    webPairs: fc.boolean(),
    output: output(REACH_FIELDS),
    json: fc.constant(false),
  })
  .map((asked) => ({ ...asked, service: asked.webPairs ? null : asked.service }));

const file = fc.option(word);
const policyExport = fc.record({
  kind: fc.constant("export-policy" as const),
  form: fc.constantFrom("nft" as const, "csv" as const, "json" as const, "table" as const, "config" as const),
  file,
});
const withJson = <T extends object>(asked: fc.Arbitrary<T>, json: fc.Arbitrary<boolean>) =>
  fc.tuple(asked, json).map(([query, flag]) => ({ ...query, json: flag }));

/** Any command that reads, or that replaces the whole configuration. */
export const anyReading: fc.Arbitrary<Reading> = fc.oneof(
  { weight: 4, arbitrary: withJson(tables, fc.constant(false)) },
  { weight: 3, arbitrary: withJson(statistics, fc.constant(false)) },
  { weight: 2, arbitrary: withJson(plain, fc.boolean()) },
  withJson(packet, fc.boolean()),
  { weight: 2, arbitrary: withJson(fc.oneof(services, flows, hosts, policyExport), fc.constant(false)) },
  withJson(policy, fc.boolean()),
  { weight: 2, arbitrary: withJson(fc.oneof(services, flows), fc.constant(false)) },
  connectionTest,
  fc.record({ kind: fc.constant("export-config" as const), file }),
  fc.record({ kind: fc.constant("import-config" as const), preserve: fc.boolean(), dryRun: fc.boolean(), file }),
  fc.record({ kind: fc.constant("rollback" as const), id: fc.nat(), dryRun: fc.boolean() }),
);
