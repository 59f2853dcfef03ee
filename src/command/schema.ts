/** The JSON shapes of values.ts as zod schemas, for the resources' bodies and answers. */
import { z } from "zod";
import type { AnyKey } from "./options.ts";
import type { JsonShape } from "./values.ts";

function shapeSchema({ text, words, integers }: JsonShape): z.ZodType {
  const texts = words === undefined ? z.string() : z.enum(words as [string, ...string[]]);
  if (integers === undefined) return texts;
  const numbers = z.int().min(integers[0]).max(integers[1]);
  return text ? z.union([texts, numbers]) : numbers;
}

/** The schema of one value of a key, described by the key's help. */
export function valueSchema(key: AnyKey): z.ZodType {
  return shapeSchema(key.codec.json).describe(key.help);
}
