/**
 * Run-time order of the servers in each rule: who was inserted when, and who became effective when. This is not
 * configuration (a restart makes the order ascending by address again) but the algorithms depend on it, so it is kept
 * beside the Config (specification E.5). Pure: a reduction over configurations and health.
 */
import type { Config, Server, ServerGroup } from "../model/config.ts";
import { sortedServers } from "../model/lookup.ts";

/**
 * Servers that health checks keep from new flows, by rule id; a rule without such servers is missing. A value: when the
 * health of a rule changes its set is another one, and only then, so that a change costs what it touches.
 */
export type HealthView = ReadonlyMap<number, ReadonlySet<number>>;
export const EVERYONE_HEALTHY: HealthView = new Map();

export interface MemberOrder {
  /** Rises with insertion into the rule. */
  readonly insertSequence: number;
  /** Rises with becoming effective (admin state and health); null while the server gets no new flows. */
  readonly enabledSequence: number | null;
}
export interface RuleOrder {
  readonly members: ReadonlyMap<number, MemberOrder>;
  readonly nextInsert: number;
  readonly nextEnabled: number;
}
/** By rule id. */
export type Runtime = ReadonlyMap<number, RuleOrder>;
export const EMPTY_RUNTIME: Runtime = new Map();

/** What an order was worked out from: while that is the same, so is the order. */
const origins = new WeakMap<RuleOrder, { readonly servers: readonly Server[]; readonly down: DownServers }>();
type DownServers = ReadonlySet<number> | undefined;

/**
 * The order after `config` and `health` have become current.
 * A new rule takes the servers of its group in ascending address order; servers added later go to the end in the order
 * in which they were added; a server that becomes effective goes to the end of the enabled order, one that already was
 * keeps its place. Rules for which nothing has changed keep their very object, and rules of one group with one history
 * share one, so a change costs what it touches.
 */
export function nextRuntime(previous: Runtime, config: Config, health: HealthView): Runtime {
  const groups = new Map(config.groups.map((group) => [group.id, group]));
  const made = new Map<RuleOrder, RuleOrder>();
  const next = new Map<number, RuleOrder>();
  for (const rule of config.rules) {
    const group = groups.get(rule.groupId);
    if (group === undefined) throw new Error(`rule ${rule.name} names no group`);
    next.set(rule.id, orderOf(group, previous.get(rule.id), health.get(rule.id), made));
  }
  return next;
}

/** @param made orders of this round by those before them, where no server is down */
function orderOf(
  group: ServerGroup,
  known: RuleOrder | undefined,
  down: DownServers,
  made: Map<RuleOrder, RuleOrder>,
): RuleOrder {
  const origin = known && origins.get(known);
  if (known !== undefined && origin?.servers === group.servers && origin.down === down) return known;
  const shared = down === undefined ? sharedOrder(group, known, made) : undefined;
  if (shared !== undefined) return shared;
  const effective = (server: Server): boolean => server.enabled && !down?.has(server.id);
  const order = known === undefined ? firstOrder(group, effective) : laterOrder(known, group, effective);
  origins.set(order, { servers: group.servers, down });
  if (down === undefined && known === undefined) firstOrders.set(group.servers, order);
  if (down === undefined && known !== undefined) made.set(known, order);
  return order;
}

/** What rules begin with, also those that are made one after the other, while nothing happens to the servers. */
const firstOrders = new WeakMap<readonly Server[], RuleOrder>();

const sharedOrder = (
  group: ServerGroup,
  known: RuleOrder | undefined,
  made: ReadonlyMap<RuleOrder, RuleOrder>,
): RuleOrder | undefined => (known === undefined ? firstOrders.get(group.servers) : made.get(known));

type Effective = (server: Server) => boolean;

function firstOrder(group: ServerGroup, effective: Effective): RuleOrder {
  return insert({ members: new Map(), nextInsert: 0, nextEnabled: 0 }, sortedServers(group), effective);
}

/** The known order itself when it still holds. */
function laterOrder(known: RuleOrder, group: ServerGroup, effective: Effective): RuleOrder {
  const members = new Map<number, MemberOrder>();
  let { nextEnabled } = known;
  let isSame = group.servers.length === known.members.size;
  const added: Server[] = [];
  for (const server of group.servers) {
    const was = known.members.get(server.id);
    if (was === undefined) {
      added.push(server);
      continue;
    }
    const isEffective = effective(server);
    const stays = isEffective === (was.enabledSequence !== null);
    isSame &&= stays;
    if (stays) members.set(server.id, was);
    else
      members.set(server.id, {
        insertSequence: was.insertSequence,
        enabledSequence: isEffective ? nextEnabled++ : null,
      });
  }
  if (isSame && added.length === 0) return known;
  return insert({ members, nextInsert: known.nextInsert, nextEnabled }, added, effective);
}

function insert(order: RuleOrder, servers: readonly Server[], effective: Effective): RuleOrder {
  if (servers.length === 0) return order;
  const members = new Map(order.members);
  let { nextInsert, nextEnabled } = order;
  for (const server of servers) {
    const enabledSequence = effective(server) ? nextEnabled++ : null;
    members.set(server.id, { insertSequence: nextInsert++, enabledSequence });
  }
  return { members, nextInsert, nextEnabled };
}
