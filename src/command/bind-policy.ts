/** Requests about hosts and the flow policy -> changes, and the way back. */
import { applyMask, isIPv4Mapped, parseAddress, widthBits } from "../model/address.ts";
import type { HostRole, PolicyMode } from "../model/netbackup.ts";
import { ok, type Result } from "../model/result.ts";
import { HOST_FACTS, parseFacts } from "../netbackup/facts.ts";
import { parseSettings, SETTING_NAMES } from "../netbackup/policy-settings.ts";
import { factFailure, parseRole } from "./bind-netbackup.ts";
import { printPrefix } from "./cells.ts";
import type { CreateHost, PolicyForm, SetPolicy } from "./command.ts";
import { failed, failure } from "./errors.ts";
import { OPTIONS, type TextOption } from "./options.ts";
import { checkOperands, type Request } from "./request.ts";
import { failNaming } from "./suggest.ts";

/** Import files have no quoting, and `,` `=` `:` have meanings of their own. */
const HOST_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const MODES: readonly PolicyMode[] = ["off", "monitor", "enforce"];
const FORMS: readonly PolicyForm[] = ["nft", "csv", "json", "table", "config"];

/** A failure about the argument of an option. */
const about = <T>(option: TextOption, result: Result<T>): Result<T> =>
  result.ok || option.property === undefined
    ? result
    : { ok: false, failure: { ...result.failure, field: option.property } };

/** `ADDR` or `ADDR/LEN`; what lies behind the prefix is left out. */
function readPrefix(text: string): Result<Pick<CreateHost, "address" | "prefixLength">> {
  const [before, length, ...rest] = text.split("/");
  const address = parseAddress(before ?? "");
  if (address === null || isIPv4Mapped(address) || rest.length > 0) return failed("E-NBADDRESS", text);
  const width = widthBits(address.family);
  if (length !== undefined && (!/^[0-9]{1,3}$/.test(length) || Number(length) > width))
    return failed("E-NBADDRESS", text);
  const prefixLength = length === undefined ? width : Number(length);
  return ok({ address: applyMask(address, prefixLength), prefixLength });
}

function readRoles(text: string): Result<readonly HostRole[]> {
  const roles: HostRole[] = [];
  for (const word of text.split(",")) {
    const role = parseRole(word);
    if (!role.ok) return role;
    if (roles.some((other) => other.role === role.value.role)) return failed("E-NBTWICE", role.value.role);
    roles.push(role.value);
  }
  return ok(roles);
}

function readHostFacts(text: string): Result<CreateHost["facts"]> {
  const read = parseFacts(HOST_FACTS, text);
  return read.ok ? ok(read.facts) : factFailure(HOST_FACTS, read.error);
}

/** create-host. Whether name and prefix are free is for apply to say. */
export function bindCreateHost(request: Request): Result<CreateHost> {
  const operands = checkOperands(request);
  if (!operands.ok) return operands;
  const name = request.operands[0] as string;
  if (!HOST_NAME.test(name)) return failed("E-NBHOSTNAME", name);
  const [address, roles, facts] = [OPTIONS.hostAddress, OPTIONS.hostRoles, OPTIONS.hostFacts].map((option) =>
    request.texts.get(option),
  );
  if (address === undefined || roles === undefined) return { ok: false, failure: request.spec.operands.tooFew() };
  const prefix = about(OPTIONS.hostAddress, readPrefix(address));
  if (!prefix.ok) return prefix;
  const read = about(OPTIONS.hostRoles, readRoles(roles));
  if (!read.ok) return read;
  const known = facts === undefined ? ok<CreateHost["facts"]>([]) : about(OPTIONS.hostFacts, readHostFacts(facts));
  if (!known.ok) return known;
  return ok({ kind: "create-host", name, ...prefix.value, roles: read.value, facts: known.value });
}

const printRole = ({ role, version }: HostRole): string => (version === null ? role : `${role}@${version}`);

/** Roles as they are said. */
export const printRoles = (roles: readonly HostRole[]): string => roles.map(printRole).join(",");
/** Facts as they are said. */
export const printFacts = (facts: CreateHost["facts"]): string =>
  facts.map(([name, value]) => `${name}=${value}`).join(",");

/** The options of create-host. */
export const hostTexts = ({ address, prefixLength, roles, facts }: CreateHost): ReadonlyMap<TextOption, string> =>
  new Map<TextOption, string>([
    [OPTIONS.hostAddress, printPrefix(address, prefixLength)],
    [OPTIONS.hostRoles, printRoles(roles)],
    ...(facts.length === 0 ? [] : [[OPTIONS.hostFacts, printFacts(facts)] as const]),
  ]);

/** set-policy: a mode, settings, or both. */
export function bindSetPolicy(request: Request): Result<SetPolicy> {
  const operands = checkOperands(request);
  if (!operands.ok) return operands;
  const [word] = request.operands;
  const text = request.texts.get(OPTIONS.policySettings);
  if (word === undefined && text === undefined) return { ok: false, failure: request.spec.operands.tooFew() };
  const mode = MODES.find((candidate) => candidate === word?.toLowerCase()) ?? null;
  if (word !== undefined && mode === null) return failed("E-NBMODE", word);
  if (text === undefined) return ok({ kind: "set-policy", mode, settings: [] });
  const read = parseSettings(text);
  if (read.ok) return ok({ kind: "set-policy", mode, settings: read.settings });
  const { error } = read;
  const refused: Result<never> =
    error.kind === "unknown"
      ? failNaming(failure("E-NBFACT", error.word), error.word, SETTING_NAMES)
      : factFailure(new Map(), error);
  return about(OPTIONS.policySettings, refused);
}

/** The options of set-policy. */
export const policyTexts = ({ settings }: SetPolicy): ReadonlyMap<TextOption, string> =>
  new Map(
    settings.length === 0
      ? []
      : [[OPTIONS.policySettings, settings.map(([name, value]) => `${name}=${value}`).join(",")]],
  );

/** The form of export-policy; nft when none is asked for. */
export function readPolicyForm(text: string | undefined): Result<PolicyForm> {
  if (text === undefined) return ok("nft");
  const form = FORMS.find((candidate) => candidate === text.toLowerCase());
  return form === undefined ? about(OPTIONS.policyForm, failed("E-NBFORM", text, FORMS.join(", "))) : ok(form);
}
