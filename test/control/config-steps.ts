/** A small configuration and everything that may happen to it, step by step, for laws about what a change touches. */
import type { Config, HealthCheck, Rule, Server } from "../../src/model/config.ts";
import { config, group, rule, server } from "./configs.ts";

/** The highest kind of step. */
export const KINDS = 7;

const healthCheck = (id: number, name: string): HealthCheck => ({
  id,
  name,
  test: { kind: "tcp", text: "tcp" },
  timeoutSeconds: 1,
  count: 1,
  intervalSeconds: 9,
  defaultPing: true,
});

/** Five rules over two groups of four servers. */
export function someRules(): Config {
  const servers = (first: number): Server[] =>
    Array.from({ length: 4 }, (_, index) => server(first + index, index, `192.0.2.${first + index}`));
  const of = (id: number, groupId: number, extra: Partial<Rule> = {}): Rule =>
    rule(id, `r${id}`, groupId, { ports: { min: id, max: id }, ...extra });
  return config({
    groups: [group(1, "a", servers(10)), group(2, "b", servers(20))],
    rules: [
      of(30, 1, { connDrainSeconds: 5, healthCheckId: 8, healthCheckPort: "ANY" }),
      of(31, 1, { connDrainSeconds: 5, healthCheckId: 8, healthCheckPort: "ANY" }),
      of(32, 1),
      of(33, 2, { connDrainSeconds: 9 }),
      of(34, 2, { type: "DSR", connDrainSeconds: 9, healthCheckId: 9, healthCheckPort: 80 }),
    ],
    healthChecks: [healthCheck(8, "h8"), healthCheck(9, "h9")],
  });
}

/**
 * The configuration with one thing changed, as `kind` (0..KINDS) and `pick` say. @param earlier what a rollback goes back to
 */
export function changed(now: Config, kind: number, pick: number, earlier: Config): Config {
  const groupId = 1 + (pick % 2);
  const onServers = (change: (servers: readonly Server[]) => readonly Server[]): Config => ({
    ...now,
    groups: now.groups.map((one) => (one.id === groupId ? { ...one, servers: change(one.servers) } : one)),
  });
  const at = (length: number): number => Math.floor(pick / 2) % Math.max(1, length);
  switch (kind) {
    case 0:
    case 1:
      return onServers((servers) => servers.map((one, i) => (i === at(4) ? { ...one, enabled: !one.enabled } : one)));
    case 2:
      return onServers((servers) => servers.toSpliced(at(servers.length), 1));
    case 3: {
      const added = server(now.nextId, 0, `192.0.2.${100 + (now.nextId % 100)}`);
      return { ...onServers((servers) => [...servers, added]), nextId: now.nextId + 1 };
    }
    case 4:
      return { ...now, rules: now.rules.toSpliced(at(now.rules.length), 1) };
    case 5:
      return { ...now, rules: now.rules.map((one, i) => (i === at(5) ? { ...one, enabled: !one.enabled } : one)) };
    case 6: {
      const lost = 8 + (pick % 2);
      const bare = { healthCheckId: null, healthCheckPort: null };
      return { ...now, rules: now.rules.map((one) => (one.healthCheckId === lost ? { ...one, ...bare } : one)) };
    }
    default:
      return { ...earlier, nextId: now.nextId };
  }
}
