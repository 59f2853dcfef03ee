/**
 * Requests about NetBackup -> commands: roles, versions, facts and ports are read here, by the catalogue, and what is
 * wrong with them is said with near names.
 */
import { fail, ok, type Result } from "../model/result.ts";
import { findRoleByToken, ROLE_NAMES } from "../netbackup/catalogue.ts";
import { type Fact, type FactError, type FactKind, parseFacts, QUESTION_FACTS } from "../netbackup/facts.ts";
import { findPortSetting, SETTABLE } from "../netbackup/ports.ts";
import { type AskedRole, TABLES, type Upgrade } from "../netbackup/question.ts";
import { parseVersion } from "../netbackup/version.ts";
import type { Asked, FlowForm, SetPort } from "./command.ts";
import { errorText, failed, failure } from "./errors.ts";
import { OPTIONS, type TextOption } from "./options.ts";
import { checkOperands, type Request } from "./request.ts";
import { failNaming } from "./suggest.ts";
import { ports as portsCodec } from "./values.ts";

/** The separator of a role or host and its version. */
const AT = "@";

/** `ROLE[@VERSION]`; the role by any of its names. */
export function parseRole(text: string): Result<AskedRole> {
  const at = text.indexOf(AT);
  const name = at < 0 ? text : text.slice(0, at);
  const role = findRoleByToken(name);
  if (role === undefined) return failNaming(failure("E-NBROLE", name), name, ROLE_NAMES);
  if (at < 0) return ok({ role: role.id, version: null });
  const version = checkVersion(text.slice(at + 1));
  return version.ok ? ok({ role: role.id, version: version.value }) : version;
}

/** A product version in its canonical spelling. */
export function checkVersion(text: string): Result<string> {
  const version = parseVersion(text);
  return version === null ? failed("E-NBVERSION", text) : ok(version);
}

/** What is wrong with facts, with near names of the set. */
export function factFailure(facts: ReadonlyMap<string, FactKind>, error: FactError): Result<never> {
  switch (error.kind) {
    case "syntax":
      return failed("E-NBASSIGN", error.word);
    case "unknown":
      return failNaming(failure("E-NBFACT", error.word), error.word, facts.keys());
    case "value":
      return failed("E-NBVALUE", error.word, error.expected);
  }
}

/** The text of an option read by `read`; `absent` when it was not given. */
function textOf<T>(request: Request, option: TextOption, absent: T, read: (text: string) => Result<T>): Result<T> {
  const text = request.texts.get(option);
  if (text === undefined) return ok(absent);
  const value = read(text);
  if (value.ok || option.property === undefined) return value;
  return { ok: false, failure: { ...value.failure, field: option.property } };
}

/** A table of the catalogue, or a section of its running text. */
const readTable = (text: string): Result<string | null> =>
  TABLES.includes(text) ? ok(text) : failNaming(failure("E-NBTABLE", text), text, TABLES);

function readFacts(text: string): Result<readonly Fact[]> {
  const read = parseFacts(QUESTION_FACTS, text);
  return read.ok ? ok(read.facts) : factFailure(QUESTION_FACTS, read.error);
}

/** `HOST@VERSION,...`; whether there is such a host is for the listing to say. */
function readUpgrades(text: string): Result<readonly Upgrade[]> {
  const upgrades: Upgrade[] = [];
  for (const word of text.split(",")) {
    const at = word.lastIndexOf(AT);
    if (at < 1) return failed("E-NBUPGRADE", word);
    const version = checkVersion(word.slice(at + 1));
    if (!version.ok) return version;
    upgrades.push({ host: word.slice(0, at), version: version.value });
  }
  return ok(upgrades);
}

export const FLOW_FORMS: readonly FlowForm[] = ["table", "csv", "json"];
const readForm = (text: string): Result<FlowForm> => {
  const form = FLOW_FORMS.find((candidate) => candidate === text.toLowerCase());
  return form === undefined ? failed("E-NBFORM", text, FLOW_FORMS.join(", ")) : ok(form);
};

const requires = (option: { readonly letter: string }, other: { readonly letter: string }): Result<never> =>
  failed("E-PARSABLE", `-${option.letter}`, `-${other.letter}`);

/** Which options of show-flows go together. */
function checkFlowOptions({ flags, texts }: Request): Result<void> {
  const hosts = flags.has(OPTIONS.allHosts);
  if (texts.has(OPTIONS.upgrades) && !hosts) return requires(OPTIONS.upgrades, OPTIONS.allHosts);
  for (const option of [OPTIONS.fromRole, OPTIONS.toRole])
    if (hosts && texts.has(option)) return failed("E-EXCLUSIVE", `-${OPTIONS.allHosts.letter}`, `-${option.letter}`);
  if (hosts && flags.has(OPTIONS.bothWays))
    return failed("E-EXCLUSIVE", `-${OPTIONS.allHosts.letter}`, `-${OPTIONS.bothWays.letter}`);
  return ok(undefined);
}

/** show-flows. @param outputFor `-o` and `-p`, by whether there is a difference to show */
export function bindShowFlows(
  request: Request,
  outputFor: (difference: boolean) => Result<Extract<Asked, { kind: "show-flows" }>["output"]>,
): Result<Asked> {
  const operands = checkOperands(request);
  if (!operands.ok) return operands;
  const together = checkFlowOptions(request);
  if (!together.ok) return together;
  const source = textOf<AskedRole | null>(request, OPTIONS.fromRole, null, parseRole);
  if (!source.ok) return source;
  const destination = textOf<AskedRole | null>(request, OPTIONS.toRole, null, parseRole);
  if (!destination.ok) return destination;
  const table = textOf<string | null>(request, OPTIONS.ofTable, null, readTable);
  if (!table.ok) return table;
  const facts = textOf<readonly Fact[]>(request, OPTIONS.facts, [], readFacts);
  if (!facts.ok) return facts;
  const upgrades = textOf<readonly Upgrade[]>(request, OPTIONS.upgrades, [], readUpgrades);
  if (!upgrades.ok) return upgrades;
  const form = textOf<FlowForm>(request, OPTIONS.form, "table", readForm);
  if (!form.ok) return form;
  const hosts = request.flags.has(OPTIONS.allHosts);
  const ofEnds = hosts ? facts.value.find(([name]) => /^(source|destination)\./.test(name)) : undefined;
  if (ofEnds !== undefined) return fail("E-NBFACT", errorText("E-NBENDFACT", ofEnds[0]), OPTIONS.facts.property);
  const output = outputFor(upgrades.value.length > 0);
  if (!output.ok) return output;
  if (form.value !== "table" && output.value.parsable)
    return failed("E-EXCLUSIVE", `-${OPTIONS.form.letter}`, `-${OPTIONS.parsable.letter}`);
  const question = {
    source: source.value,
    destination: destination.value,
    both: request.flags.has(OPTIONS.bothWays),
    all: request.flags.has(OPTIONS.notNeeded),
    table: table.value,
    facts: facts.value,
    hosts,
    upgrades: upgrades.value,
  };
  return ok({ kind: "show-flows", question: Object.freeze(question), form: form.value, output: output.value });
}

/** show-services. Whether there are services of these names and ports is for the listing to say. */
export function bindShowServices(
  request: Request,
  output: Extract<Asked, { kind: "show-services" }>["output"],
): Result<Asked> {
  const table = textOf<string | null>(request, OPTIONS.ofTable, null, readTable);
  return table.ok ? ok({ kind: "show-services", table: table.value, output, names: request.operands }) : table;
}

/** The word that gives back what the guide says. */
const DEFAULT = "default";

/** `NAME=PORT`, `WINDOW=LOW-HIGH` or `NAME=default`. */
export function parseSetPort(text: string): Result<SetPort> {
  const equals = text.indexOf("=");
  if (equals < 1) return failed("E-NBASSIGN", text);
  const [name, value] = [text.slice(0, equals), text.slice(equals + 1)];
  const setting = findPortSetting(name);
  if (setting === null) return failNaming(failure("E-NBSERVICE", name), name, SETTABLE);
  if (setting.kind === "fixed") return failed("E-NBFIXED", setting.name);
  const change = { kind: "set-port", name: setting.id } as const;
  if (value.toLowerCase() === DEFAULT) return ok({ ...change, ports: null });
  const isRange = /^[0-9]+-[0-9]+$/.test(value);
  if (setting.kind === "window" && !isRange) return failed("E-NBWINDOW", setting.id, value);
  if (setting.kind === "service" && !/^[0-9]+$/.test(value)) return failed("E-PORT", value);
  const parsed = portsCodec.parse(value);
  if (!parsed.ok) return failed(parsed.error.code, ...parsed.error.args);
  return "service" in parsed.value ? failed("E-PORT", value) : ok({ ...change, ports: parsed.value });
}

/** A setting as parseSetPort reads it. */
export const printSetPort = ({ name, ports }: SetPort): string =>
  `${name}=${ports === null ? DEFAULT : portsCodec.print(ports)}`;
