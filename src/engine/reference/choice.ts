/**
 * Which server a new flow or a DSR packet goes to, and from which proxy address and port: algorithm, stickiness and port
 * pools together (specification E.5 to E.7). choose() decides, lease() and remember() carry out.
 */
import type { Address } from "../../model/address.ts";
import type { ImageRule, ImageServer } from "../engine.ts";
import type { Pair, Tuple } from "./flows.ts";
import { type Lease, type PortChooser, ProxyPorts } from "./ports.ts";
import { maskAddress, pick, pickStateless, type Turn } from "./select.ts";
import type { StickyEntry, StickyTable } from "./sticky.ts";
import type { Tables } from "./tables.ts";

/** A server chosen for a new flow or a DSR packet, and what has to be remembered if the packet leaves. */
export interface Choice {
  readonly rule: ImageRule;
  readonly server: ImageServer;
  /** Null for rules that are not sticky. `hit`: the entry named the server. */
  readonly sticky: { readonly client: Address; readonly entry: StickyEntry | undefined; readonly hit: boolean } | null;
}

export class ServerChoice {
  readonly sticky: StickyTable;
  /** May be replaced, so that a test can make this engine use the ports that another one used. */
  choosePort: PortChooser;
  readonly #turns = new Map<number, Turn>();
  readonly #proxyPorts: ProxyPorts;

  /** @param mostPools see ProxyPorts */
  constructor(sticky: StickyTable, choosePort: PortChooser, mostPools: number) {
    this.sticky = sticky;
    this.choosePort = choosePort;
    this.#proxyPorts = new ProxyPorts(mostPools);
  }

  /** Forgets the turns of rules that a new image no longer has. */
  adopt(tables: Tables): void {
    for (const id of [...this.#turns.keys()]) if (tables.ruleById(id) === undefined) this.#turns.delete(id);
  }

  /** Algorithm first, then stickiness; a sticky server that takes no new flows is overridden. */
  choose(rule: ImageRule, tuple: Tuple, tables: Tables): Choice | null {
    const turn = this.#turns.get(rule.id) ?? { last: null };
    this.#turns.set(rule.id, turn);
    const picked = pick(rule, turn, tuple.source, tuple.sourcePort);
    if (picked === null) return null;
    const server = tables.server(picked.server);
    if (rule.stickyMask === null) return { rule, server, sticky: null };
    const { client, entry, kept } = this.#stuck(rule, rule.stickyMask, tuple.source, tables);
    return { rule, server: kept ?? server, sticky: { client, entry, hit: kept !== null } };
  }

  /** Whom a client of a sticky rule stays with; `kept` is null when nobody is known or he takes no new flows. */
  #stuck(rule: ImageRule, mask: number, source: Address, tables: Tables) {
    const client = maskAddress(source, mask);
    const entry = this.sticky.find(rule.id, client);
    const kept = rule.members.find(
      (member) => member.enabledSequence !== null && tables.server(member.server).id === entry?.serverId,
    );
    return { client, entry, kept: kept === undefined ? null : tables.server(kept.server) };
  }

  /** The server that a client's packets go to if that can be told without moving or remembering anything; else null. */
  told(rule: ImageRule, tuple: Tuple, tables: Tables): ImageServer | null {
    const kept = rule.stickyMask === null ? null : this.#stuck(rule, rule.stickyMask, tuple.source, tables).kept;
    if (kept !== null) return kept;
    const picked = pickStateless(rule, tuple.source, tuple.sourcePort);
    return picked === null ? null : tables.server(picked.server);
  }

  /** A proxy address and port for a new flow: the next address with a port, or only the one that a sticky entry fixed. */
  lease({ rule, server, sticky }: Choice, pair: Pair, serverPort: number): { lease: Lease; index: number } | null {
    const { first, last } = rule.proxySource!;
    const count = Number(last.value - first.value) + 1;
    const ports = server.ports ?? rule.ports;
    if (!sticky?.hit) pair.proxyIndex = (pair.proxyIndex + 1) % count;
    const start = sticky?.hit ? sticky.entry!.proxyIndex : pair.proxyIndex;
    for (let i = 0; i < (sticky?.hit ? 1 : count); i++) {
      const index = (start + i) % count;
      const proxy: Address = { family: first.family, value: first.value + BigInt(index) };
      const isCommon = ports.min < ports.max;
      const use = { proxy, server: server.address, serverPort, isCommon };
      const lease = this.#proxyPorts.take(use, this.choosePort);
      if (lease !== null) return { lease, index };
    }
    return null;
  }

  /** Makes or changes the sticky entry that a choice asks for. */
  remember({ rule, server, sticky }: Choice, proxyIndex: number, nowMs: number): StickyEntry | null {
    if (sticky === null) return null;
    if (sticky.entry !== undefined) {
      if (!sticky.hit) Object.assign(sticky.entry, { serverId: server.id, proxyIndex });
      return sticky.entry;
    }
    const entry: StickyEntry = {
      ruleId: rule.id,
      client: sticky.client,
      timeoutMs: rule.persistTimeoutMs,
      serverId: server.id,
      proxyIndex,
      references: 0,
      idleSinceMs: nowMs,
    };
    this.sticky.add(entry);
    return entry;
  }
}
