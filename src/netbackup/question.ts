/**
 * What can be asked of the catalogue, and the answers row by row: flows between two roles, between all bound hosts, the
 * difference that an upgrade makes, and services. Pure; listings lay the rows out.
 */
import { widthBits } from "../model/address.ts";
import type { NetBackupHost, NetBackupState } from "../model/netbackup.ts";
import { CATALOGUE, findServiceByToken } from "./catalogue.ts";
import { type Fact, factsOfEnd, siteWith } from "./facts.ts";
import {
  type End,
  endOf,
  type FlowAnswer,
  flowsBetween,
  makeEnd,
  type Need,
  portOf,
  type Site,
  siteOf,
} from "./flows.ts";
import { serviceLabel } from "./labels.ts";
import type { Service } from "./schema.ts";

/** A role as it is asked for. */
export interface AskedRole {
  readonly role: string;
  readonly version: string | null;
}

export interface Upgrade {
  /** Name of a bound host. */
  readonly host: string;
  readonly version: string;
}

export interface FlowQuestion {
  /** null: any role. */
  readonly source: AskedRole | null;
  readonly destination: AskedRole | null;
  /** Both directions. */
  readonly both: boolean;
  /** Also what is not needed. */
  readonly all: boolean;
  /** Table, or section of running text; null: all. */
  readonly table: string | null;
  readonly facts: readonly Fact[];
  /** Between all bound hosts, in place of roles. */
  readonly hosts: boolean;
  /** The difference that these make; none: what is. */
  readonly upgrades: readonly Upgrade[];
}

/** One line of an answer. */
export interface FlowRow {
  /** Of a difference: whether the line goes or comes. */
  readonly change: "-" | "+" | null;
  readonly flow: string;
  /** Role or host; null: the guide names none. */
  readonly source: string | null;
  readonly destination: string;
  readonly service: string;
  /** `N` or `N-M`; null: unresolved. */
  readonly port: string | null;
  readonly protocol: string;
  readonly need: Need;
  readonly condition: string | null;
  /** The group of alternatives that it belongs to. */
  readonly group: string | null;
}

/** What `-t` can name: tables, and sections of running text that state ports. */
export const TABLES: readonly string[] = [
  ...CATALOGUE.tables.map(({ id }) => id),
  ...CATALOGUE.prose.map(({ section }) => section),
];

const isIn = (table: string | null, { flow }: FlowAnswer): boolean =>
  table === null || flow.table === table || (flow.table === undefined && flow.section === table);

function rowOf(answer: FlowAnswer, source: string | null, destination: string): FlowRow {
  const { flow, service, ports, protocol, need, condition } = answer;
  return {
    change: null,
    flow: flow.id,
    source,
    destination,
    service: service === null ? (flow.window ?? "") : serviceLabel(service),
    port: ports === null ? null : ports.min === ports.max ? String(ports.min) : `${ports.min}-${ports.max}`,
    protocol,
    need,
    condition,
    group: flow.alternatives ?? null,
  };
}

const answersIn = (source: End | null, destination: End | null, site: Site, question: FlowQuestion): FlowAnswer[] =>
  flowsBetween(source, destination, site).filter(
    (answer) => (question.all || answer.need !== "not-needed") && isIn(question.table, answer),
  );

function* rowsOfRoles(question: FlowQuestion, site: Site): Generator<FlowRow> {
  const endFor = (asked: AskedRole | null, side: "source" | "destination"): End | null => {
    const { version, ...facts } = factsOfEnd(question.facts, side);
    return (
      asked && makeEnd([{ role: asked.role, version: asked.version ?? (version as string | undefined) ?? null }], facts)
    );
  };
  const [source, destination] = [endFor(question.source, "source"), endFor(question.destination, "destination")];
  const forward = answersIn(source, destination, site, question);
  // Asked both ways without roles, or of a role with itself, the way back is the same question.
  const isSame = JSON.stringify(source) === JSON.stringify(destination);
  const backward = question.both && !isSame ? answersIn(destination, source, site, question) : [];
  for (const answer of [...forward, ...backward]) yield rowOf(answer, answer.source, answer.destination);
}

/** Ordered pairs of hosts; a prefix of several addresses also with itself. */
function* pairsOf(hosts: readonly NetBackupHost[]): Generator<readonly [number, number]> {
  for (let a = 0; a < hosts.length; a++)
    for (let b = 0; b < hosts.length; b++) {
      const host = hosts[a]!;
      if (a !== b || host.prefixLength < widthBits(host.address.family)) yield [a, b];
    }
}

const upgraded = (host: NetBackupHost, upgrades: readonly Upgrade[]): NetBackupHost => {
  const upgrade = upgrades.find(({ host: name }) => name.toLowerCase() === host.name.toLowerCase());
  if (upgrade === undefined) return host;
  return { ...host, roles: host.roles.map(({ role }) => ({ role, version: upgrade.version })) };
};

/** Whether two lines say the same; the words of their conditions may differ. */
const keyOf = ({ flow, service, port, protocol, need }: FlowRow): string =>
  [flow, service, port, protocol, need].join(" ");

/** Answers by what is known of the two ends: hosts of one kind have the same, and there are far fewer kinds than hosts. */
function answersByKind(
  ends: readonly End[],
  site: Site,
  question: FlowQuestion,
): (a: number, b: number) => readonly FlowAnswer[] {
  const kinds = ends.map((end) => JSON.stringify(end));
  const known = new Map<string, readonly FlowAnswer[]>();
  return (a, b) => {
    const pair = `${kinds[a]} ${kinds[b]}`;
    let answers = known.get(pair);
    if (answers === undefined) {
      answers = answersIn(ends[a]!, ends[b]!, site, question);
      known.set(pair, answers);
    }
    return answers;
  };
}

function* rowsOfHosts(question: FlowQuestion, site: Site, hosts: readonly NetBackupHost[]): Generator<FlowRow> {
  const later = hosts.map((host) => upgraded(host, question.upgrades));
  const now = answersByKind(hosts.map(endOf), site, question);
  const then = answersByKind(later.map(endOf), site, question);
  for (const [a, b] of pairsOf(hosts)) {
    const rows = (answers: typeof now): FlowRow[] =>
      answers(a, b).map((answer) => rowOf(answer, hosts[a]!.name, hosts[b]!.name));
    const before = rows(now);
    if (question.upgrades.length === 0) {
      yield* before;
      continue;
    }
    if (hosts[a] === later[a] && hosts[b] === later[b]) continue;
    const after = rows(then);
    const [had, has] = [new Set(before.map(keyOf)), new Set(after.map(keyOf))];
    for (const row of before) if (!has.has(keyOf(row))) yield { ...row, change: "-" };
    for (const row of after) if (!had.has(keyOf(row))) yield { ...row, change: "+" };
  }
}

/** The answer, in the catalogue's order, of hosts in theirs. What the site has said holds unless the question says more. */
export function flowRows(question: FlowQuestion, state: NetBackupState): Generator<FlowRow> {
  const site = siteWith(siteOf(state), question.facts);
  return question.hosts ? rowsOfHosts(question, site, state.hosts) : rowsOfRoles(question, site);
}

// Services

export interface ServiceRow {
  readonly name: string;
  readonly port: number;
  readonly protocols: readonly string[];
  readonly aliases: readonly string[];
  readonly tables: readonly string[];
  /** `all`, `<V` or `>=V`. */
  readonly versions: string;
  readonly guard: "port" | "role";
  /** The name as the guide has it. */
  readonly title: string;
}

function serviceRow(service: Service, { ports }: NetBackupState): ServiceRow {
  const { before, since } = service;
  const label = serviceLabel(service);
  return {
    name: label,
    port: portOf(service, null, ports),
    protocols: service.protocols,
    aliases: service.tokens.filter((token) => token.toLowerCase() !== label.toLowerCase()),
    tables: service.tables,
    versions: before !== undefined ? `<${before}` : since !== undefined ? `>=${since}` : "all",
    guard: service.natGuard,
    title: service.name,
  };
}

/** Services of a table (null: of all), by name or port if any are named. @returns the first word that is none of them */
export function serviceRows(
  table: string | null,
  words: readonly string[],
  state: NetBackupState,
): { readonly rows: readonly ServiceRow[] } | { readonly unknown: string } {
  const inTable = ({ id, tables, sections }: Service): boolean =>
    table === null ||
    tables.includes(table) ||
    (CATALOGUE.prose.some(({ section }) => section === table) &&
      sections.includes(table) &&
      CATALOGUE.flows.some((flow) => flow.table === undefined && flow.section === table && flow.service === id));
  const services = CATALOGUE.services.filter(inTable);
  const chosen = new Set<Service>(words.length === 0 ? services : []);
  for (const word of words) {
    const byToken = findServiceByToken(word);
    const isPort = /^[0-9]{1,5}$/.test(word);
    const known = isPort
      ? CATALOGUE.services.filter((service) => portOf(service, null, state.ports) === Number(word))
      : byToken === undefined
        ? []
        : [byToken];
    if (known.length === 0) return { unknown: word };
    for (const service of known) if (inTable(service)) chosen.add(service);
  }
  return { rows: services.filter((service) => chosen.has(service)).map((service) => serviceRow(service, state)) };
}
