/**
 * Writes src/gen/api.ts: the operations of the HTTP API as the schema type that hono/client goes by, from the OpenAPI
 * document of the application. So the typed client, like the document, knows exactly what is served.
 *
 *   bun scripts/api-types.ts
 */
import { join } from "node:path";
import { createApp } from "../src/http/app.ts";
import type { Operation } from "../src/http/endpoint.ts";
import { documentOf } from "../src/http/openapi.ts";
import type { Service } from "../src/http/service.ts";

type Json = Readonly<Record<string, unknown>>;
interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, Json>>;
    readonly responses: Readonly<Record<string, Response>>;
  };
}
interface Response {
  readonly content?: Readonly<Record<string, { readonly schema: Json }>>;
}

const JSON_TYPES = ["application/json", "application/problem+json"];

/** `hc-result` -> `HcResult`. */
const typeName = (name: string): string =>
  name.replace(/(^|-)([a-z])/g, (_, _dash, letter: string) => letter.toUpperCase());
const quoted = (name: string): string => (/^[a-z_]\w*$/i.test(name) ? name : JSON.stringify(name));
const union = (types: readonly string[]): string => [...new Set(types)].join(" | ");
const isJson = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);

/** The type of what a JSON schema accepts; as much of JSON schema as the document uses. */
function typeOf(schema: Json): string {
  const { $ref, const: constant, enum: words, type } = schema;
  if (typeof $ref === "string") return typeName($ref.replace("#/components/schemas/", ""));
  if (constant !== undefined) return JSON.stringify(constant);
  if (Array.isArray(words)) return union(words.map((word) => JSON.stringify(word)));
  const choices = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(choices)) return union(choices.map(typeOf));
  if (Array.isArray(schema.allOf)) return schema.allOf.map(typeOf).join(" & ");
  if (Array.isArray(type)) return union(type.map((one: unknown) => typeOf({ ...schema, type: one })));
  switch (type) {
    case "integer":
    case "number":
      return "number";
    case "array":
      return `readonly (${typeOf(schema.items as Json)})[]`;
    case "object":
      return objectType(schema);
    case "string":
    case "boolean":
    case "null":
      return type;
    default:
      throw new Error(`no type for ${JSON.stringify(schema)}`);
  }
}

function objectType({ properties, required }: Json): string {
  if (!isJson(properties)) return "{ readonly [name: string]: unknown }";
  const needed = Array.isArray(required) ? required : [];
  const fields = Object.entries(properties).map(
    ([name, schema]) => `readonly ${quoted(name)}${needed.includes(name) ? "" : "?"}: ${typeOf(schema as Json)}`,
  );
  return `{ ${fields.join("; ")} }`;
}

/** A parameter travels as text, whatever it means. */
function textType({ type }: Json): string {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is a type that is written here
  if (type === "integer") return "`${number}`";
  return type === "boolean" ? '"true" | "false"' : "string";
}

function inputType({ parameters, requestBody }: Operation): string {
  const groups = [
    ["param", "path"],
    ["query", "query"],
    ["header", "header"],
  ] as const;
  const parts = groups.flatMap(([property, place]) => {
    const own = (parameters ?? []).filter((parameter) => parameter.in === place);
    if (own.length === 0) return [];
    const fields = own.map(
      ({ name, required, schema }) => `${quoted(name)}${required ? "" : "?"}: ${textType(schema)}`,
    );
    const isOptional = own.every((parameter) => !parameter.required);
    return [`${property}${isOptional ? "?" : ""}: { ${fields.join("; ")} }`];
  });
  const body = requestBody?.content["application/json"];
  if (body !== undefined) parts.push(`json: ${typeOf(body.schema)}`);
  return parts.length === 0 ? "{}" : `{ ${parts.join("; ")} }`;
}

/** What a status answers with, for the client: its JSON where there is one. */
function outputOf({ content = {} }: Response): { output: string; format: string } {
  const json = JSON_TYPES.map((type) => content[type]).find((media) => media !== undefined);
  if (json !== undefined) return { output: typeOf(json.schema), format: "json" };
  return Object.keys(content).length === 0 ? { output: "null", format: "body" } : { output: "string", format: "text" };
}

function endpointType(operation: Operation, responses: Document["components"]["responses"]): string {
  const byOutput = new Map<string, string[]>();
  for (const [status, answer] of Object.entries(operation.responses)) {
    const resolved = "$ref" in answer ? responses[answer.$ref.replace("#/components/responses/", "")]! : answer;
    const { output, format } = outputOf(resolved);
    const key = `output: ${output}; outputFormat: "${format}"`;
    byOutput.set(key, [...(byOutput.get(key) ?? []), status]);
  }
  const input = inputType(operation);
  return union([...byOutput].map(([key, statuses]) => `{ input: ${input}; ${key}; status: ${union(statuses)} }`));
}

/** The text of src/gen/api.ts before formatting. */
export function apiTypesText({ paths, components }: Document): string {
  const schemas = Object.entries(components.schemas).map(
    ([name, schema]) => `export type ${typeName(name)} = ${typeOf(schema)};\n`,
  );
  const rows = Object.entries(paths).map(([path, operations]) => {
    const methods = Object.entries(operations).map(
      ([method, operation]) => `$${method}: ${endpointType(operation, components.responses)};`,
    );
    return `${JSON.stringify(path.replace(/\{([a-z]+)\}/g, ":$1"))}: { ${methods.join(" ")} };\n`;
  });
  return `/** Generated by scripts/api-types.ts from the OpenAPI document of the HTTP API; do not edit. */\n\n${schemas.join("\n")}\n/** Path -> method -> what goes in and what comes out, as hono/client reads it. */\nexport type Api = {\n${rows.join("")}};\n`;
}

/** The same, formatted as the whole project is. */
export function formatted(text: string): string {
  const root = join(import.meta.dir, "..");
  const run = Bun.spawnSync([join(root, "node_modules/.bin/biome"), "format", "--stdin-file-path=src/gen/api.ts"], {
    cwd: root,
    stdin: new TextEncoder().encode(text),
  });
  if (run.exitCode !== 0) throw new Error(run.stderr.toString());
  return run.stdout.toString();
}

/** The document of the application; making it asks nothing of the daemon. */
export const apiDocument = async (): Promise<Document> => (await documentOf(createApp({} as Service), "0")) as Document;

if (import.meta.main)
  await Bun.write(join(import.meta.dir, "../src/gen/api.ts"), formatted(apiTypesText(await apiDocument())));
