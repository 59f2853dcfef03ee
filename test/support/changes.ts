/** Arbitrary changes and configurations for laws, and how a configuration compares where export loses things on purpose. */
import fc from "fast-check";
import { apply } from "../../src/command/apply.ts";
import type { Change, CreateRule, NewServer } from "../../src/command/command.ts";
import type { ChangeContext } from "../../src/command/host.ts";
import type { Address, Family } from "../../src/model/address.ts";
import { applyMask } from "../../src/model/address.ts";
import { type Config, EMPTY_CONFIG, type PortRange, type TestOptions } from "../../src/model/config.ts";
import { effectiveTimers, serverId } from "../../src/model/lookup.ts";

const NO_CONTEXT: ChangeContext = { drainingNumbers: () => new Set() };

const name = (maxLength: number) =>
  fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,18}$/).map((text) => text.slice(0, maxLength));

const address = (family: Family): fc.Arbitrary<Address> =>
  fc.integer({ min: 1, max: 0xfff0 }).map((low) => ({
    family,
    value: (family === 4 ? 0xc6330000n : 0x20010db8000000000000000000000000n) + BigInt(low),
  }));

const ports: fc.Arbitrary<PortRange> = fc
  .tuple(fc.integer({ min: 1, max: 65535 }), fc.oneof(fc.constant(0), fc.nat({ max: 2000 })))
  .map(([min, more]) => ({ min, max: Math.min(65535, min + more) }));

const newServer = (family: Family): fc.Arbitrary<NewServer> =>
  fc.record({ address: address(family), ports: fc.option(ports) });

const family = fc.constantFrom<Family>(4, 6);
const timer = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 4294967295 }));
const healthPort = fc.oneof(fc.constantFrom("ANY" as const, "ALL" as const), fc.integer({ min: 1, max: 65535 }));

const createRule: fc.Arbitrary<CreateRule> = family.chain((of) =>
  fc
    .record({
      name: name(19),
      enabled: fc.boolean(),
      forced: fc.boolean(),
      vip: address(of),
      protocol: fc.constantFrom("tcp" as const, "udp" as const),
      ports,
      algorithm: fc.constantFrom(
        "roundrobin" as const,
        "hash-ip" as const,
        "hash-ip-port" as const,
        "hash-ip-vip" as const,
      ),
      type: fc.constantFrom("DSR" as const, "NAT" as const, "HALF-NAT" as const),
      first: address(of),
      more: fc.integer({ min: 0, max: 9 }),
      stickyMask: fc.option(fc.integer({ min: 0, max: of === 4 ? 32 : 128 })),
      group: name(14),
      healthCheck: fc.option(name(19)),
      healthPort,
      connDrainSeconds: timer,
      natTimeoutSeconds: timer,
      persistTimeoutSeconds: timer,
    })
    .map(({ first, more, healthPort: probed, ...rule }) => ({
      kind: "create-rule" as const,
      ...rule,
      proxySource: rule.type === "NAT" ? { first, last: { family: of, value: first.value + BigInt(more) } } : null,
      healthCheckPort: rule.healthCheck === null ? null : probed,
    })),
);

const serverIdText = fc
  .tuple(name(14), fc.integer({ min: 0, max: 999 }))
  .map(([group, number]) => `_${group}.${number}`);

const status = fc.array(
  fc.tuple(fc.integer({ min: 100, max: 599 }), fc.nat({ max: 3 })).map(([min, more]) => ({
    min,
    max: Math.min(599, min + more),
  })),
  { minLength: 1, maxLength: 3 },
);
const host = fc.constantFrom("www.example.com", "192.0.2.7", "2001:db8::7");
const verify = fc.boolean();
const path = fc.constantFrom("/", "/health?deep=1&a=b", "/a:b/%20");
const talk = fc.oneof(
  fc.record({
    test: fc.constantFrom("HTTP", "http"),
    options: fc.record({ path, status, host }, { requiredKeys: [] }),
  }),
  fc.record({
    test: fc.constantFrom("https://www.example.com/x?y=1", "HTTPS://[2001:db8::1]"),
    options: fc.record({ status, verify }, { requiredKeys: [] }),
  }),
  fc.record({
    test: fc.constant("GRPC"),
    options: fc.record(
      { tls: fc.constant(true), service: fc.constant("a.b/C"), verify, host },
      { requiredKeys: ["tls"] },
    ),
  }),
  fc.record({
    test: fc.constant("dns"),
    options: fc.record(
      { query: fc.constantFrom(".", "example.com", "_x.example.com."), queryType: fc.constantFrom("A", "TXT") },
      { requiredKeys: ["query"] },
    ),
  }),
);
const test = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .constantFrom("tcp", "UDP", "ping", "/opt/probes/http_probe", "/bin/a=b")
      .map((text) => ({ test: text })),
  },
  {
    weight: 2,
    arbitrary: talk.map(({ test: text, options }) => ({
      test: text,
      ...(Object.keys(options).length > 0 && { options: options as TestOptions }),
    })),
  },
);

/** Absent, or with at least one thing said. */
const judging = fc
  .record(
    {
      rise: fc.integer({ min: 1, max: 1000 }),
      fall: fc.integer({ min: 1, max: 1000 }),
      initial: fc.constantFrom("up" as const, "down" as const),
      panicPercent: fc.integer({ min: 0, max: 100 }),
      passive: fc.boolean(),
    },
    { requiredKeys: [] },
  )
  .map((said) => (Object.keys(said).length === 0 ? {} : { judging: said }));

const createHealthCheck = fc
  .record({
    name: name(19),
    spelled: test,
    timeoutSeconds: fc.integer({ min: 1, max: 20 }),
    count: fc.integer({ min: 1, max: 20 }),
    more: fc.integer({ min: 1, max: 2147483000 }),
    ping: fc.boolean(),
    judging,
  })
  .map(({ more, ping, spelled, judging: said, ...check }) => ({
    ...said,
    kind: "create-healthcheck" as const,
    ...check,
    ...spelled,
    intervalSeconds: check.timeoutSeconds * check.count + more,
    defaultPing: ping || spelled.test === "ping",
  }));

const setPort = fc.oneof(
  fc.record({
    kind: fc.constant("set-port" as const),
    name: fc.constantFrom("smtp", "snmp-trap", "nbcssc", "veritas_pbx"),
    ports: fc.option(fc.integer({ min: 1, max: 65535 }).map((port) => ({ min: port, max: port }))),
  }),
  fc.record({
    kind: fc.constant("set-port" as const),
    name: fc.constant("SERVER_PORT_WINDOW"),
    ports: fc
      .option(ports.map(({ min, max }) => ({ min: Math.min(min, 65534), max: Math.max(max, min + 1) })))
      .map((range) => range && (range.min < range.max && range.max <= 65535 ? range : { min: 5000, max: 5100 })),
  }),
);

const hostName = fc.constantFrom("h1", "media-2", "net.a", "H_4");
const createHost = fc
  .record({
    kind: fc.constant("create-host" as const),
    name: hostName,
    address: family.chain(address),
    bits: fc.nat({ max: 128 }),
    roles: fc.uniqueArray(
      fc.record({
        role: fc.constantFrom("client", "media-server", "master-server"),
        version: fc.option(fc.constantFrom("6.5", "7.0.1", "7.5")),
      }),
      { minLength: 1, maxLength: 3, selector: ({ role }) => role },
    ),
    facts: fc.constantFrom(
      [],
      [["resilient", true] as const],
      [["model", "5230"] as const, ["domain", "east"] as const],
    ),
  })
  .map(({ bits, address: whole, ...rest }) => {
    const prefixLength = whole.family === 4 ? bits % 33 : bits;
    return { ...rest, prefixLength, address: applyMask(whole, prefixLength) };
  });

const setPolicy = fc
  .record({
    kind: fc.constant("set-policy" as const),
    mode: fc.option(fc.constantFrom("off" as const, "monitor" as const, "enforce" as const)),
    settings: fc.uniqueArray(
      fc.constantFrom(
        ["outside", "drop"] as const,
        ["undecided", "deny"] as const,
        ["source-ports", "non-reserved"] as const,
        ["permit", "none"] as const,
        ["feature.grt", "true"] as const,
        ["setting.vmware-transport", "unknown"] as const,
      ),
      { selector: ([name]) => name },
    ),
  })
  .filter(({ mode, settings }) => mode !== null || settings.length > 0);

/** Any change that bind could make, whether or not a configuration takes it. */
export const anyChange: fc.Arbitrary<Change> = fc.oneof(
  { weight: 6, arbitrary: createRule },
  fc.record({
    kind: fc.constantFrom("delete-rule" as const, "enable-rule" as const, "disable-rule" as const),
    name: fc.option(name(19)),
  }),
  family.chain((of) =>
    fc.record({
      kind: fc.constant("create-servergroup" as const),
      name: name(14),
      servers: fc.array(newServer(of), { maxLength: 4 }),
    }),
  ),
  fc.record({ kind: fc.constant("delete-servergroup" as const), name: name(14) }),
  family.chain((of) =>
    fc.record({
      kind: fc.constant("add-server" as const),
      group: name(14),
      server: newServer(of),
      forced: fc.boolean(),
    }),
  ),
  serverIdText.map((id) => ({
    kind: "remove-server" as const,
    group: id.slice(1, id.lastIndexOf(".")),
    serverId: id,
  })),
  fc.record({ kind: fc.constantFrom("enable-server" as const, "disable-server" as const), serverId: serverIdText }),
  setPort,
  createHost,
  fc.record({ kind: fc.constant("delete-host" as const), name: hostName }),
  setPolicy,
  createHealthCheck,
  fc.record({ kind: fc.constant("delete-healthcheck" as const), name: name(19) }),
);

const refamily = (address: Address, of: Family): Address =>
  address.family === of
    ? address
    : { family: of, value: (of === 4 ? 0xc6330000n : 0x20010db8n << 96n) + (address.value & 0xffffn) };

function settleRule(rule: CreateRule, of: Family): CreateRule {
  const { proxySource, stickyMask } = rule;
  return {
    ...rule,
    vip: refamily(rule.vip, of),
    proxySource: proxySource && { first: refamily(proxySource.first, of), last: refamily(proxySource.last, of) },
    stickyMask: stickyMask === null ? null : Math.min(stickyMask, of === 4 ? 32 : 128),
    healthCheckPort: rule.healthCheckPort === null ? null : "ANY",
  };
}

/** Names from a small stock, and mostly one family per group and no server ports, so that changes meet and succeed. */
function settle(change: Change, pick: number): Change {
  const group = `g${pick % 3}`;
  const of: Family = pick % 3 === 1 ? 6 : 4;
  const asServer = (server: NewServer): NewServer => ({
    address: refamily(server.address, of),
    ports: pick < 20 ? null : server.ports,
  });
  const rule = `rule${pick % 5}`;
  const check = `hc${pick % 2}`;
  switch (change.kind) {
    case "create-rule":
      return settleRule({ ...change, name: rule, group, healthCheck: change.healthCheck === null ? null : check }, of);
    case "create-servergroup":
      return { ...change, name: group, servers: change.servers.map(asServer) };
    case "delete-servergroup":
      return { ...change, name: group };
    case "add-server":
      return { ...change, group, server: asServer(change.server) };
    case "remove-server":
      return { ...change, group, serverId: `_${group}.${pick % 4}` };
    case "enable-server":
    case "disable-server":
      return { ...change, serverId: `_${group}.${pick % 4}` };
    case "create-healthcheck":
    case "delete-healthcheck":
      return { ...change, name: check };
    case "set-port":
    case "create-host":
    case "delete-host":
    case "set-policy":
      return change;
    default:
      return { ...change, name: change.name === null ? null : rule };
  }
}

/** A configuration that some row of changes makes; changes that are refused are left out. */
export const anyConfig: fc.Arbitrary<Config> = fc
  .array(fc.tuple(anyChange, fc.nat({ max: 29 })), { minLength: 10, maxLength: 60 })
  .map((steps) => {
    const groups = [0, 1, 2].map((n): Change => ({ kind: "create-servergroup", name: `g${n}`, servers: [] }));
    return [...groups, ...steps.map(([change, pick]) => settle(change, pick))].reduce((config: Config, change) => {
      const next = apply(config, change, NO_CONTEXT);
      return next.ok ? next.value : config;
    }, EMPTY_CONFIG);
  });

/** What export keeps: everything but ids, server numbers, administrative states and the order in which servers came. */
export function essence(config: Config): unknown {
  const groups = new Map(config.groups.map((group) => [group.id, group]));
  const checks = new Map(config.healthChecks.map((check) => [check.id, check.name]));
  return {
    groups: config.groups.map((group) => ({
      name: group.name,
      servers: group.servers
        .map(({ address: { family: of, value }, ports: own }) => ({ of, value, own }))
        .sort((a, b) => (a.value < b.value ? -1 : 1)),
    })),
    healthChecks: config.healthChecks.map(({ id: _, ...check }) => check),
    rules: config.rules.map((rule) => {
      const { id: _, groupId, healthCheckId, ...same } = rule;
      const timers = effectiveTimers(rule);
      return {
        ...same,
        natTimeoutSeconds: timers.natTimeout,
        persistTimeoutSeconds: timers.persistTimeout,
        group: groups.get(groupId)?.name,
        healthCheck: checks.get(healthCheckId ?? 0),
      };
    }),
  };
}

/** Rules of validity that hold in every Config, whatever made it. Returns what is wrong. */
export function objections(config: Config): string[] {
  const found: string[] = [];
  const unique = (what: string, values: readonly (string | number)[]) => {
    if (new Set(values).size !== values.length) found.push(`${what} repeat: ${values.join(" ")}`);
  };
  const servers = config.groups.flatMap((group) => group.servers.map((server) => ({ group, server })));
  const ids = [...config.rules, ...config.groups, ...config.healthChecks, ...servers.map(({ server }) => server)];
  unique(
    "ids",
    ids.map(({ id }) => id),
  );
  unique(
    "rule names",
    config.rules.map((rule) => rule.name.toLowerCase()),
  );
  unique(
    "group names",
    config.groups.map((group) => group.name.toLowerCase()),
  );
  unique(
    "server IDs",
    servers.map(({ group, server }) => serverId(group, server)),
  );
  for (const { id } of ids) if (id >= config.nextId) found.push(`id ${id} is not below ${config.nextId}`);
  for (const rule of config.rules) {
    const group = config.groups.find((candidate) => candidate.id === rule.groupId);
    if (group === undefined) found.push(`${rule.name} has no group`);
    if (group?.servers.some((server) => server.address.family !== rule.vip.family))
      found.push(`${rule.name} mixes families`);
    if ((rule.healthCheckId === null) !== (rule.healthCheckPort === null)) found.push(`${rule.name} has half a check`);
    if ((rule.type === "NAT") !== (rule.proxySource !== null)) found.push(`${rule.name} and its proxy-src disagree`);
    for (const other of config.rules) {
      const apart = other.ports.max < rule.ports.min || rule.ports.max < other.ports.min;
      const sameVip = other.vip.value === rule.vip.value && other.vip.family === rule.vip.family;
      if (other !== rule && sameVip && other.protocol === rule.protocol && !apart) found.push(`${rule.name} overlaps`);
    }
  }
  return found;
}
