/**
 * Reading commands taken apart again: what has to be said to get them. bind of what is said gives the same command (a
 * law that tests hold). The way back of changes is in bind.ts.
 */
import type { AskedRole } from "../netbackup/question.ts";
import { DEFAULT_TEST_SECONDS } from "./bind-test.ts";
import type { Command, Output, Query, ShowFlows, ShowStatistics, TestConnection } from "./command.ts";
import {
  AUDIT_FIELDS,
  type FieldSet,
  FLOW_CHANGE_DEFAULTS,
  FLOW_FIELDS,
  HISTORY_FIELDS,
  HOST_FIELDS,
  REACH_FIELDS,
  RULE_FIELDS,
  RULE_ITEM_FIELDS,
  SERVER_FIELDS,
  SERVER_ITEM_FIELDS,
  SERVICE_FIELDS,
  STATISTICS_FIELDS,
} from "./fields.ts";
import { type AnyKey, type FlagOption, KEYS, OPTIONS, PACKET_KEYS, type TextOption } from "./options.ts";

/** Everything that is said behind the subcommand's name. */
export interface Said {
  readonly flags: ReadonlySet<FlagOption>;
  readonly texts: ReadonlyMap<TextOption, string>;
  /** Values by key; of a list key, the list. */
  readonly values: ReadonlyMap<AnyKey, unknown>;
  readonly operands: readonly string[];
}

interface Parts {
  readonly flags?: readonly (FlagOption | false)[];
  readonly texts?: readonly (readonly [TextOption, string | null])[];
  readonly values?: readonly (readonly [AnyKey, unknown])[];
  readonly operands?: readonly (string | null)[];
}

function say({ flags = [], texts = [], values = [], operands = [] }: Parts): Said {
  return {
    flags: new Set(flags.filter((flag) => flag !== false)),
    texts: new Map(texts.flatMap(([option, text]) => (text === null ? [] : [[option, text] as const]))),
    values: new Map(values),
    operands: operands.filter((operand) => operand !== null),
  };
}

const sameFields = (a: readonly string[], b: readonly string[]): boolean => a.join() === b.join();

/** `-o` where the fields are not what comes without, and `-p`. */
function sayOutput({ fields, parsable }: Output, defaults: readonly string[]): Parts {
  const isDefault = !parsable && sameFields(fields, defaults);
  return { flags: [parsable && OPTIONS.parsable], texts: [[OPTIONS.fields, isDefault ? null : fields.join(",")]] };
}

function sayStatistics(query: ShowStatistics): Parts {
  const ofItems = query.server === null ? RULE_ITEM_FIELDS : SERVER_ITEM_FIELDS;
  const set: FieldSet = query.itemize ? ofItems : STATISTICS_FIELDS;
  const { flags = [], texts = [] } = sayOutput(query.output, set.defaults);
  return {
    flags: [
      ...flags,
      query.mode === "absolute" && OPTIONS.absolute,
      query.mode === "delta" && OPTIONS.delta,
      query.itemize && OPTIONS.itemize,
    ],
    texts: [...texts, [OPTIONS.ofRule, query.rule], [OPTIONS.ofServer, query.server]],
    operands: [query.intervalSeconds, query.count].map((number) => (number === null ? null : String(number))),
  };
}

/** What is asked, but for `--json`. */
function sayAsked(query: Query): Parts {
  switch (query.kind) {
    case "show-rule": {
      const states = [query.enabled === true && OPTIONS.onlyEnabled, query.enabled === false && OPTIONS.onlyDisabled];
      const { flags = [], texts = [] } = query.full
        ? { flags: [OPTIONS.full] }
        : sayOutput(query.output, RULE_FIELDS.defaults);
      return { flags: [...states, ...flags], texts, operands: query.names };
    }
    case "show-servergroup":
      return { ...(query.output === null ? {} : sayOutput(query.output, [])), operands: query.names };
    case "show-server":
      return { ...sayOutput(query.output, SERVER_FIELDS.defaults), operands: query.names };
    case "show-healthcheck":
      return { flags: [query.verbose === true && OPTIONS.verboseChecks], operands: query.names };
    case "show-hc-result":
      return { flags: [query.verbose === true && OPTIONS.verboseResults], operands: query.names };
    case "show-nat":
    case "show-persist":
      return { operands: [sayCount(query.limit)] };
    case "show-audit":
    case "history": {
      const set = query.kind === "history" ? HISTORY_FIELDS : AUDIT_FIELDS;
      return { ...sayOutput(query.output, set.defaults), operands: [sayCount(query.limit)] };
    }
    case "show-statistics":
      return sayStatistics(query);
    case "show-services": {
      const { texts = [], ...same } = sayOutput(query.output, SERVICE_FIELDS.defaults);
      return { ...same, texts: [...texts, [OPTIONS.ofTable, query.table]], operands: query.names };
    }
    case "show-flows":
      return sayFlows(query);
    case "show-host":
      return { ...sayOutput(query.output, HOST_FIELDS.defaults), operands: query.names };
    case "show-policy":
      return { flags: [query.verbose && OPTIONS.verbosePolicy] };
    case "export-policy":
      return { texts: [[OPTIONS.policyForm, query.form === "nft" ? null : query.form]], operands: [query.file] };
    case "explain": {
      const { protocol, source, destination, sourcePort, destinationPort } = query.packet;
      const values: readonly (readonly [AnyKey, unknown])[] = [
        [PACKET_KEYS.source, source],
        [PACKET_KEYS.destination, destination],
        [KEYS.protocol, protocol],
        [PACKET_KEYS.sourcePort, sourcePort],
        [PACKET_KEYS.destinationPort, destinationPort],
      ];
      return { values };
    }
  }
}

const sayRole = (role: AskedRole | null): string | null =>
  role && (role.version === null ? role.role : `${role.role}@${role.version}`);

function sayFlows({ question, form, output }: ShowFlows): Parts {
  const { facts, upgrades } = question;
  const defaults = upgrades.length > 0 ? FLOW_CHANGE_DEFAULTS : FLOW_FIELDS.defaults;
  const { flags = [], texts = [] } = sayOutput(output, defaults);
  const joined = (words: readonly string[]): string | null => (words.length === 0 ? null : words.join(","));
  return {
    flags: [
      ...flags,
      question.all && OPTIONS.notNeeded,
      question.both && OPTIONS.bothWays,
      question.hosts && OPTIONS.allHosts,
    ],
    texts: [
      ...texts,
      [OPTIONS.ofTable, question.table],
      [OPTIONS.fromRole, sayRole(question.source)],
      [OPTIONS.toRole, sayRole(question.destination)],
      [OPTIONS.facts, joined(facts.map(([name, value]) => `${name}=${value}`))],
      [OPTIONS.upgrades, joined(upgrades.map(({ host, version }) => `${host}@${version}`))],
      [OPTIONS.form, form === "table" ? null : form],
    ],
  };
}

const sayCount = (limit: number | null): string | null => (limit === null ? null : BigInt(limit).toString());

function sayTest(test: TestConnection): Said {
  const { flags = [], texts = [] } = sayOutput(test.output, REACH_FIELDS.defaults);
  const seconds = test.seconds === DEFAULT_TEST_SECONDS ? null : String(test.seconds);
  return say({
    flags: [...flags, test.all && OPTIONS.everyStep, test.webPairs && OPTIONS.webPairs, test.json && OPTIONS.json],
    texts: [...texts, [OPTIONS.testedService, test.service], [OPTIONS.testSeconds, seconds]],
    operands: [test.host],
  });
}

/** Takes a command that is no row of changes apart. */
export function utterQuery(command: Exclude<Command, { kind: "changes" }>): Said {
  switch (command.kind) {
    case "export-config":
      return say({ operands: [command.file] });
    case "import-config":
      return say({
        flags: [command.preserve && OPTIONS.preserve, command.dryRun && OPTIONS.dryRun],
        operands: [command.file],
      });
    case "port-file":
      return say({ texts: [[OPTIONS.portFile, command.file]] });
    case "test-connection":
      return sayTest(command);
    case "rollback":
      return say({ flags: [command.dryRun && OPTIONS.dryRun], operands: [String(command.id)] });
    default: {
      const parts = sayAsked(command);
      return say({ ...parts, flags: [...(parts.flags ?? []), command.json && OPTIONS.json] });
    }
  }
}
