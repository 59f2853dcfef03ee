/**
 * What the operations of the API are: those of the resources from the rows of the grammar with their zod schemas, the
 * few others by hand. endpoint.ts registers them with their handlers, and the document is put together from what is
 * registered, so it names what is served and nothing else.
 */
import { generateSpecs } from "hono-openapi";
import { z } from "zod";
import { queryParameters, requestSchema } from "../command/json.ts";
import type { Route } from "../command/spec.ts";
import { VIEW_SCHEMAS } from "../command/view-schemas.ts";
import type { App } from "./app.ts";
import { JSON_TYPE, MSGPACK_TYPE, TEXT_TYPE } from "./body.ts";
import type { Answer, Content, JsonSchema, Operation, Parameter } from "./endpoint.ts";
import { NDJSON_TYPE } from "./ilbadm.ts";
import { MAX_LIMIT } from "./paging.ts";
import { PROBLEM_TYPE } from "./problem.ts";
import { HEALTH_EVENT_SCHEMA, STATISTICS_SCHEMA } from "./statistics.ts";

export const EVENTS_TYPE = "text/event-stream";

/** What a path shows: one of VIEW_SCHEMAS, as it is or in pages. */
export interface Shown {
  readonly view: keyof typeof VIEW_SCHEMAS;
  readonly isList: boolean;
}

const schemaOf = (schema: z.ZodType): JsonSchema => {
  const { $schema, ...rest } = z.toJSONSchema(schema, { unrepresentable: "any", io: "input" }) as JsonSchema;
  return rest;
};
const ref = (name: string): JsonSchema => ({ $ref: `#/components/schemas/${name}` });
const both = (schema: JsonSchema): Content => ({ [JSON_TYPE]: { schema }, [MSGPACK_TYPE]: { schema } });
const TEXT: JsonSchema = { type: "string" };
const answer = (description: string, content: Content): Answer => ({ description, content });
const text = (description: string): Answer => answer(description, { [TEXT_TYPE]: { schema: TEXT } });
const object = (properties: Readonly<Record<string, JsonSchema>>): JsonSchema => ({
  type: "object",
  required: Object.keys(properties),
  properties,
});
/** The same with what ilbadm would have printed on standard error. */
const warned = (schema: JsonSchema): JsonSchema => ({
  allOf: [
    schema,
    {
      type: "object",
      properties: {
        warnings: {
          type: "array",
          items: TEXT,
          description: "what ilbadm prints about it on standard error, without its prefix; absent: nothing",
        },
      },
    },
  ],
});
const query = (name: string, schema: JsonSchema, description: string, required = false): Parameter => ({
  name,
  in: "query",
  required,
  description,
  schema,
});

/** Status -> when it is answered, with a problem document. */
const REFUSALS: Readonly<Record<number, string>> = {
  400: "Something about the request is wrong; `field` names the property, key or parameter.",
  401: "Over TCP: no valid bearer token.",
  403: "The caller lacks the right, or the request comes from another site's page.",
  404: "There is no such object, or one that the request names does not exist.",
  406: "None of the media types in Accept is available.",
  408: "The body did not arrive in time.",
  409: "The configuration as it is forbids it.",
  412: "The configuration is not the one that If-Match names.",
  413: "The body is too large.",
  415: "The media type, its charset or its Content-Encoding is not supported.",
  500: "A bug, or the database could not be written; nothing has changed.",
  501: "This process does not have what is asked for.",
  502: "The client broke off.",
  503: "The daemon is starting.",
  507: "A limit fixed at start is reached; nothing has changed.",
};
const EVERYWHERE = [400, 401, 403, 500, 503];
/** Where the answer has several forms. */
const ALWAYS = [...EVERYWHERE, 406];
const WITH_BODY = [408, 413, 415, 502];

const refusalName = (status: number | string): string => `refused-${status}`;
const refusals = (...statuses: readonly number[]): Record<string, Answer> =>
  Object.fromEntries(
    statuses
      .toSorted((a, b) => a - b)
      .map((status) => [status, { $ref: `#/components/responses/${refusalName(status)}` }]),
  );

const COMPONENT_RESPONSES = Object.fromEntries(
  Object.entries(REFUSALS).map(([status, description]) => [
    refusalName(status),
    answer(description, { [PROBLEM_TYPE]: { schema: ref("problem") }, [MSGPACK_TYPE]: { schema: ref("problem") } }),
  ]),
);

const PROBLEM: JsonSchema = {
  type: "object",
  required: ["type", "title", "status", "code", "detail"],
  properties: {
    type: TEXT,
    title: TEXT,
    status: { type: "integer" },
    code: { type: "string", description: "stable code, e.g. E-DUPRULE" },
    detail: { type: "string", description: "the text that ilbadm prints" },
    field: { type: "string", description: "property, key or parameter at fault" },
    hint: { type: "string", description: "the way out, where ilbadm prints one" },
  },
};

const page = (view: string): JsonSchema => ({
  type: "object",
  required: ["items", "next"],
  properties: {
    items: { type: "array", items: ref(view) },
    next: { type: ["string", "null"], description: "cursor of the next page; null: this is the last one" },
  },
});
const PAGE_PARAMETERS: readonly Parameter[] = [
  query("limit", { type: "integer", minimum: 1, maximum: MAX_LIMIT, default: 1000 }, "items on a page"),
  query("cursor", TEXT, "`next` of the page before"),
];

/** Questions about NetBackup name services and hosts, which may not be there. */
const NETBACKUP = "/v1/netbackup/";

/** The operation of one method of one path. @param rows several are told apart by their bodies */
export function resourceOperation(rows: readonly Route[], shown: Shown | null): Operation {
  const [first] = rows as [Route];
  const inPath = [...first.path.matchAll(/\{([a-z]+)\}/g)].map(
    ([, name]): Parameter => ({ name: name!, in: "path", required: true, schema: TEXT }),
  );
  const reads = first.method === "GET";
  const body = requestBody(rows);
  const missing = inPath.length > 0 || !reads || first.path.startsWith(NETBACKUP) ? [404] : [];
  const changing = reads ? [] : [...WITH_BODY, 409, 507];
  return {
    ...namesOf(rows),
    parameters: [...inPath, ...queryOf(first), ...(reads && shown?.isList ? PAGE_PARAMETERS : [])],
    ...(body === null ? {} : { requestBody: body }),
    responses: { ...success(first, shown), ...refusals(...ALWAYS, ...missing, ...changing) },
  };
}

/** What names an operation. Other modules add the rest for paths that are no plain resource. */
export function namesOf(rows: readonly Route[]): Pick<Operation, "operationId" | "summary" | "description"> {
  const [{ method, path }] = rows as [Route];
  const words = path
    .slice("/v1/".length)
    .split(/[^a-z]+/i)
    .filter((word) => word !== "");
  const rights = [...new Set(rows.map((row) => row.right))].join("` or `");
  return {
    operationId: [method.toLowerCase(), ...words].join("-"),
    summary: rows.map((row) => row.summary).join("; "),
    description: `Needs the right \`${rights}\`. Command: \`${rows.map((row) => row.subcommand).join("`, `")}\`.`,
  };
}

function queryOf(route: Route): Parameter[] {
  return queryParameters(route).map(({ name, required, help, schema }) =>
    query(name, schemaOf(schema), help, required),
  );
}

function requestBody(rows: readonly Route[]): NonNullable<Operation["requestBody"]> | null {
  // Rows of one method and path differ only in the value of one switch.
  const schema = requestSchema(rows[0]!);
  return schema === null ? null : { required: true, content: both(schemaOf(schema)) };
}

function success({ method, path }: Route, shown: Shown | null): Record<string, Answer> {
  if (shown === null) return { 204: { description: "Done, saved and in force." } };
  if (method === "GET")
    return { 200: answer("The current state.", both(shown.isList ? page(shown.view) : ref(shown.view))) };
  const made = shown.isList ? object({ items: { type: "array", items: ref(shown.view) } }) : ref(shown.view);
  return {
    201: answer(
      `Made, saved and in force; Location names it. ${path.endsWith("/servers") ? "What was added." : ""}`.trim(),
      both(warned(made)),
    ),
  };
}

const INTERVAL: JsonSchema = { type: "integer", minimum: 1, maximum: 3600, default: 1 };

/** `GET /v1/statistics/stream`. */
export const streamOperation = (route: Route): Operation => ({
  ...namesOf([route]),
  parameters: [
    query("interval", INTERVAL, "seconds between events with statistics"),
    {
      name: "Last-Event-ID",
      in: "header",
      required: false,
      description: "id of the last health event that the caller has; those before it are left out",
      schema: TEXT,
    },
  ],
  responses: {
    200: answer(
      "One event per interval, the first at once, each a `statistics` object in JSON. Between them events of type `health`, " +
        "with an id, each a `health-event` object in JSON: behind the first statistics those of late (100 at the most), " +
        "then each as it happens.",
      { [EVENTS_TYPE]: { schema: TEXT } },
    ),
    ...refusals(...EVERYWHERE),
  },
});

/** `GET /v1/config`. */
export const exportOperation = (route: Route): Operation => ({
  ...namesOf([route]),
  parameters: [{ name: "If-None-Match", in: "header", required: false, schema: TEXT }],
  responses: {
    200: text("The text that export-config writes; ETag names it and the state of the servers."),
    304: { description: "It is still the one that If-None-Match names." },
    ...refusals(...EVERYWHERE),
  },
});

/** `GET /v1/netbackup/policy/export`. */
export const policyExportOperation = (route: Route): Operation => ({
  ...namesOf([route]),
  parameters: queryOf(route),
  responses: { 200: text("The text that export-policy writes."), ...refusals(...EVERYWHERE, 400) },
});

/** `PUT /v1/config`. */
export const importOperation = (route: Route): Operation => ({
  ...namesOf([route]),
  parameters: [
    query("preserve", { type: "boolean", default: false }, "on top of what is there, instead of in its place"),
    query("dryRun", { type: "boolean", default: false }, "change nothing and answer with what would change"),
    query("name", TEXT, "how errors name the text"),
    {
      name: "If-Match",
      in: "header",
      required: false,
      description: "import only into the configuration with this ETag",
      schema: TEXT,
    },
  ],
  requestBody: { required: true, content: { [TEXT_TYPE]: { schema: TEXT } } },
  responses: {
    200: answer("Imported, as one change: what show-* lines of the text printed. With dryRun: what would change.", {
      ...both({ oneOf: [warned(object({ stdout: TEXT })), ref("plan")] }),
      [NDJSON_TYPE]: { schema: TEXT },
    }),
    ...refusals(...ALWAYS, ...WITH_BODY, 404, 409, 412, 501, 507),
  },
});

/** `POST /v1/history/{id}/rollback`. */
export const rollbackOperation = (route: Route): Operation => ({
  ...namesOf([route]),
  parameters: [
    { name: "id", in: "path", required: true, schema: TEXT },
    query("dryRun", { type: "boolean", default: false }, "change nothing and answer with what would change"),
  ],
  responses: {
    200: answer("With dryRun: what would change.", both(ref("plan"))),
    204: { description: "Done." },
    ...refusals(...ALWAYS, ...WITH_BODY, 404, 409, 501, 507),
  },
});

/** `POST /v1/netbackup/test`. */
export const testOperation = (route: Route): Operation => {
  const body = requestBody([route]);
  return {
    ...namesOf([route]),
    parameters: [],
    ...(body && { requestBody: body }),
    responses: {
      200: answer("What was tried, and what answered, if anything did.", both(ref("connection-test"))),
      ...refusals(...ALWAYS, ...WITH_BODY, 404, 501),
    },
  };
};

const lineBody = (name: string, schema: JsonSchema): JsonSchema => ({
  type: "object",
  required: [name],
  additionalProperties: false,
  properties: {
    [name]: schema,
    input: { type: "string", description: "what import-config reads" },
  },
});

/** `POST /v1/ilbadm`. */
export const LINE_OPERATION: Operation = {
  operationId: "post-ilbadm",
  summary: "Run a command line",
  description:
    "Answers with exactly the bytes and status of the command line. Needs the right of the command; without it the answer holds the refusal of ilbadm.",
  parameters: [],
  requestBody: {
    required: true,
    content: both({ oneOf: [lineBody("line", TEXT), lineBody("argv", { type: "array", items: TEXT })] }),
  },
  responses: {
    200: answer("The output.", {
      ...both(object({ exit: { type: "integer" }, stdout: TEXT, stderr: TEXT })),
      [NDJSON_TYPE]: { schema: TEXT },
    }),
    ...refusals(...ALWAYS, ...WITH_BODY, 507),
  },
};

const plain = (operationId: string, summary: string, responses: Readonly<Record<string, Answer>>): Operation => ({
  operationId,
  summary,
  parameters: [],
  responses,
});
export const DOCUMENT_OPERATION = plain("get-openapi", "This document", {
  200: answer("OpenAPI 3.1.", { [JSON_TYPE]: { schema: { type: "object" } } }),
  ...refusals(...EVERYWHERE),
});
export const METRICS_OPERATION = plain("get-metrics", "Metrics for Prometheus", {
  200: text("Text exposition format 0.0.4."),
  ...refusals(401, 403, 500, 503),
});
export const HEALTH_OPERATION = plain("get-healthz", "The process answers", { 200: text("ok") });
export const READY_OPERATION = plain("get-readyz", "Tables are loaded and every device is there", {
  200: text("ready"),
  503: text("not ready"),
});

/** The document of everything that is registered. */
export async function documentOf(app: App, version: string): Promise<unknown> {
  const documentation = {
    openapi: "3.1.0",
    info: {
      title: "ILB",
      version,
      description: "Layer-4 load balancer. The same commands as ilbadm.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    components: {
      schemas: {
        ...Object.fromEntries(Object.entries(VIEW_SCHEMAS).map(([name, schema]) => [name, schemaOf(schema)])),
        statistics: schemaOf(STATISTICS_SCHEMA),
        "health-event": schemaOf(HEALTH_EVENT_SCHEMA),
        problem: PROBLEM,
      },
      responses: COMPONENT_RESPONSES,
      securitySchemes: {
        token: { type: "http", scheme: "bearer", description: "over TCP; the socket knows its callers" },
      },
    },
    security: [{}, { token: [] }],
  };
  return generateSpecs(app, { documentation, excludeStaticFile: false } as Parameters<typeof generateSpecs>[1]);
}
