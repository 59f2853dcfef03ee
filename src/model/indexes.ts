/**
 * Finding things in the lists of a Config without walking them. An index belongs to one list and follows it when the
 * list grows, shrinks or has an item replaced by the functions below, so that ten thousand changes in a row do not cost
 * ten thousand walks. Indexes are memory only: a list without one gets it when it is first asked for, and the values
 * are the same with or without. Nothing here is seen from outside of the model and command/apply.ts.
 */
import { type Address, addressKey } from "./address.ts";
import type { Protocol, Rule, Server, ServerGroup } from "./config.ts";

interface Identified {
  readonly id: number;
}

/** ASCII letters folded to lower case, other characters unchanged: two names are the same when these are equal. */
export const foldName = (name: string): string => name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());

/** What an index does with the items of its list. */
interface Index<T> {
  add(item: T): void;
  remove(item: T): void;
  /** The item takes the place of the one with its id. */
  replace(was: T, item: T): void;
}

/** Rules by name, by what they match, and by server group. */
class RuleIndex implements Index<Rule> {
  readonly byName = new Map<string, Rule>();
  readonly #byService = new Map<string, Map<number, Rule>>();
  readonly #byGroup = new Map<number, Map<number, Rule>>();

  add(rule: Rule): void {
    this.byName.set(foldName(rule.name), rule);
    put(this.#byService, serviceKey(rule.vip, rule.protocol), rule);
    put(this.#byGroup, rule.groupId, rule);
  }

  remove(rule: Rule): void {
    this.byName.delete(foldName(rule.name));
    drop(this.#byService, serviceKey(rule.vip, rule.protocol), rule);
    drop(this.#byGroup, rule.groupId, rule);
  }

  replace(was: Rule, rule: Rule): void {
    // Name, VIP, protocol and group of a rule never change, and a map keeps the place of a key that is set again.
    if (was.groupId !== rule.groupId || was.name !== rule.name) throw new Error(`rule ${was.name} became another one`);
    this.add(rule);
  }

  ofService(vip: Address, protocol: Protocol): Iterable<Rule> {
    return this.#byService.get(serviceKey(vip, protocol))?.values() ?? [];
  }

  ofGroup(groupId: number): Iterable<Rule> {
    return this.#byGroup.get(groupId)?.values() ?? [];
  }
}

/** Groups by name and by id. */
class GroupIndex implements Index<ServerGroup> {
  readonly byName = new Map<string, ServerGroup>();
  readonly byId = new Map<number, ServerGroup>();

  add(group: ServerGroup): void {
    this.byName.set(foldName(group.name), group);
    this.byId.set(group.id, group);
  }

  remove(group: ServerGroup): void {
    this.byName.delete(foldName(group.name));
    this.byId.delete(group.id);
  }

  replace(_was: ServerGroup, group: ServerGroup): void {
    this.add(group);
  }
}

/** Servers of a group by address and by number. */
class ServerIndex implements Index<Server> {
  readonly byAddress = new Map<string, Server>();
  readonly byNumber = new Map<number, Server>();

  add(server: Server): void {
    this.byAddress.set(addressKey(server.address), server);
    this.byNumber.set(server.number, server);
  }

  remove(server: Server): void {
    this.byAddress.delete(addressKey(server.address));
    this.byNumber.delete(server.number);
  }

  replace(_was: Server, server: Server): void {
    this.add(server);
  }
}

const serviceKey = (vip: Address, protocol: Protocol): string => `${protocol} ${addressKey(vip)}`;

function put<K>(map: Map<K, Map<number, Rule>>, key: K, rule: Rule): void {
  const rules = map.get(key);
  if (rules === undefined) map.set(key, new Map([[rule.id, rule]]));
  else rules.set(rule.id, rule);
}

function drop<K>(map: Map<K, Map<number, Rule>>, key: K, rule: Rule): void {
  const rules = map.get(key);
  rules?.delete(rule.id);
  if (rules?.size === 0) map.delete(key);
}

/** Lists of one kind with their indexes. Items stand in order of rising ids. */
class Indexed<T extends Identified, I extends Index<T>> {
  readonly #make: () => I;
  readonly #indexes = new WeakMap<readonly T[], I>();

  constructor(make: () => I) {
    this.#make = make;
  }

  of(list: readonly T[]): I {
    let index = this.#indexes.get(list);
    if (index === undefined) {
      index = this.#make();
      for (const item of list) index.add(item);
      this.#indexes.set(list, index);
    }
    return index;
  }

  /** The list with one more item at its end. */
  append(list: readonly T[], item: T): readonly T[] {
    // concat copies an array as a block; spreading it walks it.
    return this.#follow(list, list.concat([item]), (index) => index.add(item));
  }

  /** The list with `item` in the place of the one with its id. */
  replace(list: readonly T[], item: T): readonly T[] {
    const place = placeOf(list, item.id);
    const was = list[place]!;
    return this.#follow(list, list.with(place, item), (index) => index.replace(was, item));
  }

  /** The list without the item of this id. */
  remove(list: readonly T[], id: number): readonly T[] {
    const place = placeOf(list, id);
    const was = list[place]!;
    return this.#follow(list, list.toSpliced(place, 1), (index) => index.remove(was));
  }

  /** The index goes over to the new list; the old one gets another if it is asked again. */
  #follow(list: readonly T[], next: readonly T[], change: (index: I) => void): readonly T[] {
    const index = this.of(list);
    this.#indexes.delete(list);
    change(index);
    this.#indexes.set(next, index);
    return next;
  }
}

/** The first place whose item has this id or a higher one; the length of the list when there is none. */
export function placeFrom(list: readonly Identified[], id: number): number {
  let [first, end] = [0, list.length];
  while (first < end) {
    const middle = (first + end) >>> 1;
    if (list[middle]!.id < id) first = middle + 1;
    else end = middle;
  }
  return first;
}

/** Where the item of this id stands. Throws when it is not there: a bug of the caller. */
function placeOf(list: readonly Identified[], id: number): number {
  const place = placeFrom(list, id);
  if (list[place]?.id !== id) throw new Error(`no item ${id} in its list`);
  return place;
}

export const ruleLists = new Indexed<Rule, RuleIndex>(() => new RuleIndex());
export const groupLists = new Indexed<ServerGroup, GroupIndex>(() => new GroupIndex());
export const serverLists = new Indexed<Server, ServerIndex>(() => new ServerIndex());
