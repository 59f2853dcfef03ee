/**
 * What set-policy can set: switches of the policy, and features and settings of the site. Reads and writes them as text,
 * and puts them into a state.
 */
import type { FactValue, NetBackupState } from "../model/netbackup.ts";
import { findFlow } from "./catalogue.ts";
import { type FactError, SITE_FACTS } from "./facts.ts";

/** The value that takes a fact back, so that nothing is known of it. */
const UNKNOWN = "unknown";
/** No flow is permitted by its id. */
const NONE = "none";
/** Between the ids of flows; a comma parts settings. */
const AND = "+";

interface Switch {
  readonly expected: string;
  /** Canonical text; null: not a value of it. */
  parse(text: string): string | null;
  set(state: NetBackupState, value: string): NetBackupState;
  get(state: NetBackupState): string;
}

/** A switch with few values, kept under `field`. */
const choice = <K extends "natGuard" | "outside" | "undecided" | "sourcePorts">(
  field: K,
  values: readonly NetBackupState[K][],
): Switch => ({
  expected: values.join(" or "),
  parse: (text) => values.find((value) => value === text.toLowerCase()) ?? null,
  set: (state, value) => ({ ...state, [field]: value }),
  get: (state) => state[field],
});

/** Ids of flows in the catalogue's spelling, each once. */
function parseFlows(text: string): string | null {
  if (text.toLowerCase() === NONE) return NONE;
  const ids = text.split(AND).map((id) => findFlow(id)?.id);
  return ids.includes(undefined) ? null : [...new Set(ids)].join(AND);
}

/** Switches by name. `permit`: flows that are optional or disputed and pass all the same. */
export const POLICY_SWITCHES: ReadonlyMap<string, Switch> = new Map<string, Switch>([
  ["nat-guard", choice("natGuard", ["refuse", "warn", "off"])],
  ["outside", choice("outside", ["pass", "drop"])],
  ["undecided", choice("undecided", ["permit", "deny"])],
  ["source-ports", choice("sourcePorts", ["any", "non-reserved"])],
  [
    "permit",
    {
      expected: `flow ids joined by ${AND}, such as T3-6.10, or ${NONE}`,
      parse: parseFlows,
      set: (state, value) => ({ ...state, permitted: Object.freeze(value === NONE ? [] : value.split(AND)) }),
      get: ({ permitted }) => (permitted.length === 0 ? NONE : permitted.join(AND)),
    },
  ],
]);

/** Everything that can be set, by full name, for hints. */
export const SETTING_NAMES: readonly string[] = [...POLICY_SWITCHES.keys(), ...SITE_FACTS.keys()];

/** One setting as text, both sides canonical. */
export type PolicySetting = readonly [name: string, value: string];

type Read =
  | { readonly ok: true; readonly settings: readonly PolicySetting[] }
  | { readonly ok: false; readonly error: FactError };

/** `NAME=VALUE,...`; of a name that stands twice the last value holds. */
export function parseSettings(text: string): Read {
  const found = new Map<string, string>();
  for (const word of text.split(",")) {
    const equals = word.indexOf("=");
    if (equals < 1) return { ok: false, error: { kind: "syntax", word } };
    const [name, value] = [word.slice(0, equals).toLowerCase(), word.slice(equals + 1)];
    const policySwitch = POLICY_SWITCHES.get(name);
    const fact = SITE_FACTS.get(name) ?? SITE_FACTS.get(`feature.${name}`) ?? SITE_FACTS.get(`setting.${name}`);
    if (policySwitch === undefined && fact === undefined) return { ok: false, error: { kind: "unknown", word: name } };
    const parsed =
      policySwitch?.parse(value) ?? (value.toLowerCase() === UNKNOWN && fact ? UNKNOWN : fact?.parse(value));
    if (parsed === null || parsed === undefined) {
      const expected = policySwitch?.expected ?? `${fact!.expected}, or ${UNKNOWN},`;
      return { ok: false, error: { kind: "value", word, expected } };
    }
    found.set(policySwitch === undefined ? fact!.name : name, String(parsed));
  }
  return { ok: true, settings: [...found] };
}

/** The state with a setting as parseSettings reads it; the very same one when it says so already. */
export function withSetting(state: NetBackupState, [name, value]: PolicySetting): NetBackupState {
  const policySwitch = POLICY_SWITCHES.get(name);
  if (policySwitch !== undefined) return policySwitch.get(state) === value ? state : policySwitch.set(state, value);
  const dot = name.indexOf(".");
  const [scope, id] = [
    name.slice(0, dot) === "feature" ? ("features" as const) : ("settings" as const),
    name.slice(dot + 1),
  ];
  const wanted: FactValue | null = value === UNKNOWN ? null : (SITE_FACTS.get(name)?.parse(value) ?? null);
  if ((state[scope][id] ?? null) === wanted) return state;
  const rest = Object.fromEntries(Object.entries(state[scope]).filter(([other]) => other !== id));
  return { ...state, [scope]: Object.freeze({ ...rest, ...(wanted !== null && { [id]: wanted }) }) };
}

/** Everything that a state has set: the switches first, then what is known. */
export const settingsOf = (state: NetBackupState): PolicySetting[] => [
  ...[...POLICY_SWITCHES].map(([name, policySwitch]): PolicySetting => [name, policySwitch.get(state)]),
  ...Object.entries(state.features).map(([id, value]): PolicySetting => [`feature.${id}`, String(value)]),
  ...Object.entries(state.settings).map(([id, value]): PolicySetting => [`setting.${id}`, String(value)]),
];
