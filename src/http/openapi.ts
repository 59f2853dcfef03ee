/**
 * /v1/openapi.json, OpenAPI 3.1: the resources from the rows of the grammar with their zod schemas, the few other paths
 * from the table here. Nothing is written twice.
 */
import { z } from "zod";
import { queryParameters, ROUTES, requestSchema } from "../command/json.ts";
import type { Route } from "../command/spec.ts";
import { VIEW_SCHEMAS } from "../command/view-schemas.ts";
import { JSON_TYPE, MSGPACK_TYPE } from "./body.ts";
import { NDJSON_TYPE } from "./ilbadm.ts";
import { STATISTICS_SCHEMA } from "./statistics.ts";

type Json = Readonly<Record<string, unknown>>;

/** Which view a GET path answers with, and whether as a page of a list. */
const ANSWERS: Readonly<Record<string, { readonly view: string; readonly isList: boolean }>> = {
  "/v1/rules": { view: "rule", isList: true },
  "/v1/rules/{name}": { view: "rule", isList: false },
  "/v1/servergroups": { view: "servergroup", isList: true },
  "/v1/servergroups/{name}": { view: "servergroup", isList: false },
  "/v1/servergroups/{name}/servers": { view: "server", isList: true },
  "/v1/servers": { view: "server", isList: true },
  "/v1/servers/{id}": { view: "server", isList: false },
  "/v1/healthchecks": { view: "healthcheck", isList: true },
  "/v1/healthchecks/{name}": { view: "healthcheck", isList: false },
  "/v1/hc-results": { view: "hc-result", isList: true },
  "/v1/audit": { view: "record", isList: true },
  "/v1/history": { view: "record", isList: true },
  "/v1/nat": { view: "nat", isList: true },
  "/v1/persist": { view: "persist", isList: true },
  "/v1/statistics": { view: "statistics", isList: false },
  "/v1/explain": { view: "explanation", isList: false },
};

const schemaOf = (schema: z.ZodType): Json => {
  const { $schema, ...rest } = z.toJSONSchema(schema, { unrepresentable: "any", io: "input" }) as Json;
  return rest;
};
const ref = (name: string): Json => ({ $ref: `#/components/schemas/${name}` });
const both = (schema: Json): Json => ({ [JSON_TYPE]: { schema }, [MSGPACK_TYPE]: { schema } });
const answer = (description: string, content: Json): Json => ({ description, content });
const text = (description: string): Json => answer(description, { "text/plain": { schema: { type: "string" } } });

const PROBLEM: Json = {
  type: "object",
  required: ["type", "title", "status", "code", "detail"],
  properties: {
    type: { type: "string" },
    title: { type: "string" },
    status: { type: "integer" },
    code: { type: "string", description: "stable code, e.g. E-DUPRULE" },
    detail: { type: "string", description: "the text that ilbadm prints" },
    field: { type: "string", description: "property or key at fault" },
  },
};
const FAILURE: Json = answer("Refused; nothing has changed.", {
  "application/problem+json": { schema: ref("problem") },
  [MSGPACK_TYPE]: { schema: ref("problem") },
});

const page = (view: string): Json => ({
  type: "object",
  required: ["items", "next"],
  properties: {
    items: { type: "array", items: ref(view) },
    next: { type: ["string", "null"], description: "cursor of the next page" },
  },
});
const PAGE_PARAMETERS: readonly Json[] = [
  { name: "limit", in: "query", schema: { type: "integer", minimum: 1, maximum: 10_000 } },
  { name: "cursor", in: "query", schema: { type: "string" } },
];

/** The whole document. */
export function openApiDocument(version: string): Json {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const [path, routes] of Map.groupBy(ROUTES, (route) => route.path)) {
    paths[path] = {};
    for (const [method, rows] of Map.groupBy(routes, (route) => route.method))
      paths[path][method.toLowerCase()] = operation(rows);
  }
  for (const [path, methods] of Object.entries(OTHER_PATHS)) paths[path] = { ...methods };
  return {
    openapi: "3.1.0",
    info: {
      title: "ILB",
      version,
      description: "Layer-4 load balancer. The same commands as ilbadm.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    paths,
    components: {
      schemas: {
        ...Object.fromEntries(Object.entries(VIEW_SCHEMAS).map(([name, schema]) => [name, schemaOf(schema)])),
        statistics: schemaOf(STATISTICS_SCHEMA),
        problem: PROBLEM,
      },
      securitySchemes: {
        token: { type: "http", scheme: "bearer", description: "over TCP; the socket knows its callers" },
      },
    },
    security: [{}, { token: [] }],
  };
}

/** One method of one path; several rows are told apart by their bodies. */
function operation(rows: readonly Route[]): Json {
  const [first] = rows as [Route];
  const parameters = [...first.path.matchAll(/\{([a-z]+)\}/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
  const isList = ANSWERS[first.path]?.isList === true && first.method === "GET";
  const body = requestBody(rows);
  return {
    operationId: `${first.method.toLowerCase()}${first.path.replaceAll(/[^a-z]+/gi, "-")}`.replace(/-$/, ""),
    summary: rows.map((row) => row.summary).join("; "),
    description: `Needs the right \`${[...new Set(rows.map((row) => row.right))].join("` or `")}\`. Command: \`${rows.map((row) => row.subcommand).join("`, `")}\`.`,
    parameters: isList ? [...parameters, ...PAGE_PARAMETERS] : [...parameters, ...queryOf(first)],
    ...(body === null ? {} : { requestBody: body }),
    responses: { ...success(first), default: FAILURE },
  };
}

function queryOf(route: Route): Json[] {
  const { method, path } = route;
  if (route.body === "query")
    return queryParameters(route).map(({ name, required, help, schema }) => ({
      name,
      in: "query",
      required,
      description: help,
      schema: schemaOf(schema),
    }));
  if (path === "/v1/config" && method === "PUT")
    return [
      { name: "preserve", in: "query", schema: { type: "boolean", default: false } },
      {
        name: "dryRun",
        in: "query",
        schema: { type: "boolean", default: false },
        description: "change nothing and answer with the differences",
      },
      { name: "name", in: "query", schema: { type: "string" }, description: "how errors name the text" },
    ];
  if (path === "/v1/statistics/stream")
    return [{ name: "interval", in: "query", schema: { type: "integer", minimum: 1, maximum: 3600, default: 1 } }];
  return [];
}

function requestBody(rows: readonly Route[]): Json | null {
  if (rows[0]!.body === "text") return { required: true, content: { "text/plain": { schema: { type: "string" } } } };
  const schemas = rows.flatMap((row) => {
    if (typeof row.body === "object" && row.body !== null) return [exactBody(row.body)];
    const schema = requestSchema(row);
    return schema === null ? [] : [schemaOf(schema)];
  });
  if (schemas.length === 0) return null;
  return { required: true, content: both(schemas.length === 1 ? schemas[0]! : { oneOf: schemas }) };
}

const exactBody = (body: Readonly<Record<string, boolean>>): Json => ({
  type: "object",
  required: Object.keys(body),
  additionalProperties: false,
  properties: Object.fromEntries(Object.entries(body).map(([name, value]) => [name, { const: value }])),
});

function success({ method, path }: Route): Json {
  if (path === "/v1/statistics/stream")
    return {
      200: answer("One event per interval, each a statistics object.", {
        "text/event-stream": { schema: { type: "string" } },
      }),
    };
  if (path === "/v1/config" && method === "GET") return { 200: text("The text that export-config writes.") };
  if (path === "/v1/config")
    return {
      200: answer("Imported, as one change.", both({ type: "object", properties: { stdout: { type: "string" } } })),
    };
  const shown = ANSWERS[path];
  if (method === "GET" && shown !== undefined)
    return { 200: answer("The current state.", both(shown.isList ? page(shown.view) : ref(shown.view))) };
  if (method === "POST")
    return {
      201: answer("Made, saved and in force.", both({ type: "object", properties: { location: { type: "string" } } })),
    };
  return { 204: { description: "Done, saved and in force." } };
}

const LINE_BODY: Json = {
  oneOf: [
    {
      type: "object",
      required: ["line"],
      additionalProperties: false,
      properties: { line: { type: "string" }, input: { type: "string" } },
    },
    {
      type: "object",
      required: ["argv"],
      additionalProperties: false,
      properties: { argv: { type: "array", items: { type: "string" } }, input: { type: "string" } },
    },
  ],
};
const LINE_ANSWER: Json = {
  type: "object",
  required: ["exit", "stdout", "stderr"],
  properties: { exit: { type: "integer" }, stdout: { type: "string" }, stderr: { type: "string" } },
};

const OTHER_PATHS: Readonly<Record<string, Json>> = {
  "/v1/ilbadm": {
    post: {
      operationId: "post-ilbadm",
      summary: "Run a command line",
      description:
        "Answers with exactly the bytes and status of the command line; what is needed depends on the command.",
      requestBody: { required: true, content: both(LINE_BODY) },
      responses: {
        200: answer("The output.", { ...both(LINE_ANSWER), [NDJSON_TYPE]: { schema: { type: "string" } } }),
        default: FAILURE,
      },
    },
  },
  "/v1/openapi.json": {
    get: {
      operationId: "get-openapi",
      summary: "This document",
      responses: { 200: answer("OpenAPI 3.1.", { [JSON_TYPE]: { schema: { type: "object" } } }) },
    },
  },
  "/metrics": {
    get: { operationId: "get-metrics", summary: "Metrics for Prometheus", responses: { 200: text("Counters.") } },
  },
  "/healthz": { get: { operationId: "get-healthz", summary: "The process answers", responses: { 200: text("ok") } } },
  "/readyz": {
    get: {
      operationId: "get-readyz",
      summary: "Tables are loaded and devices are open",
      responses: { 200: text("ready"), 503: text("not ready") },
    },
  },
};
