/** The body of `POST /v1/netbackup/test` -> the same request as a command line makes, and so the same errors. */
import { z } from "zod";
import { ok, type Result } from "../model/result.ts";
import { bind } from "./bind.ts";
import { TEST_HOST } from "./bind-test.ts";
import type { TestConnection } from "./command.ts";
import { failed, failure, keyFailure } from "./errors.ts";
import type { FlagOption, OptionSpec, TextOption } from "./options.ts";
import { SUBCOMMANDS } from "./spec.ts";

const SPEC = SUBCOMMANDS["test-connection"];

const isFlag = (option: OptionSpec): option is FlagOption & { readonly json: NonNullable<FlagOption["json"]> } =>
  option.kind === "flag" && option.json !== null;
const isText = (option: OptionSpec): option is TextOption & { readonly property: string } =>
  option.kind === "text" && option.property !== undefined;
const FLAGS = SPEC.options.filter(isFlag);
const TEXTS = SPEC.options.filter(isText);

/** The schema of the body. */
export const TEST_BODY = z.strictObject({
  [TEST_HOST]: z.string().describe("name or address of the host"),
  ...Object.fromEntries(
    TEXTS.map(({ property, help }) => [property, z.union([z.string(), z.int()]).nullish().describe(help)]),
  ),
  ...Object.fromEntries(FLAGS.map(({ json, help }) => [json.property, z.boolean().nullish().describe(help)])),
});

const invalid = (property: string): Result<never> => ({
  ok: false,
  failure: keyFailure(property, property, "E-VALUE"),
});

/** What the body asks for. @returns the failure with `field` set where a property is at fault */
export function testFromBody(body: unknown): Result<TestConnection> {
  if (typeof body !== "object" || body === null || Array.isArray(body)) return failed("E-SYNTAX");
  const flags = new Set<FlagOption>();
  const texts = new Map<TextOption, string>();
  let operands: string[] = [];
  for (const [property, value] of Object.entries(body)) {
    const flag = FLAGS.find(({ json }) => json.property === property);
    const text = TEXTS.find((option) => option.property === property);
    if (property === TEST_HOST && typeof value === "string") operands = [value];
    else if (property === TEST_HOST) return invalid(property);
    else if (flag === undefined && text === undefined)
      return { ok: false, failure: { ...failure("E-KEYWORD", property), field: property } };
    else if (value === null) continue;
    else if (flag !== undefined && typeof value === "boolean") value === flag.json.value && flags.add(flag);
    else if (text !== undefined && (typeof value === "string" || Number.isSafeInteger(value)))
      texts.set(text, String(value));
    else return invalid(property);
  }
  if (operands.length === 0) return { ok: false, failure: keyFailure(TEST_HOST, TEST_HOST, "E-MISSING") };
  const command = bind({ spec: SPEC, flags, texts, values: new Map(), operands });
  if (!command.ok) return command;
  if (command.value.kind !== "test-connection") throw new Error("the body of a test is another command");
  return ok(command.value);
}
