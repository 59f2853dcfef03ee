/**
 * `/v1/config`: the configuration as text, in export-config's form. GET exports; PUT imports as one change (with
 * `?preserve=true` on top of what is there; with `?dryRun=true` it only tells what would change) and, asked for a stream,
 * answers like the command line does. An ETag names the text and the state of the servers, so that a PUT with If-Match
 * overwrites only what its sender has seen.
 */
import { createHash } from "node:crypto";
import { exportLines } from "../command/export.ts";
import type { CommandHost } from "../command/host.ts";
import { importText, lacksRight, planText, remarking } from "../command/run.ts";
import { type Route, SUBCOMMANDS } from "../command/spec.ts";
import type { Config } from "../model/config.ts";
import { serverId } from "../model/lookup.ts";
import type { App, RouteParts } from "./app.ts";
import {
  IMPORT_LIMIT,
  JSON_TYPE,
  MSGPACK_TYPE,
  preferred,
  readText,
  TEXT_TYPE,
  textResponse,
  valueResponse,
  withWarnings,
} from "./body.ts";
import { addEndpoint } from "./endpoint.ts";
import { answerStream, NDJSON_TYPE } from "./ilbadm.ts";
import { exportOperation, importOperation } from "./openapi.ts";
import { httpFailure, problemResponse } from "./problem.ts";
import { rightCheck } from "./rights.ts";

export function registerExport(app: App, { service }: RouteParts, route: Route): void {
  addEndpoint(app, "GET", route.path, exportOperation(route), (c) => {
    const config = service.hostFor(c.env.caller, c.req.raw.signal).config();
    const text = textOf(config);
    const etag = tagOf(config, text);
    if (isNamed(c.req.header("if-none-match"), etag)) return new Response(null, { status: 304, headers: { etag } });
    return textResponse(text, `${TEXT_TYPE}; charset=utf-8`, { etag });
  });
}

export function registerImport(app: App, { service, refusals }: RouteParts, route: Route): void {
  addEndpoint(app, "PUT", route.path, importOperation(route), async (c) => {
    const request = c.req.raw;
    const { preserve = "false", dryRun = "false", name = "-" } = c.req.query();
    for (const [parameter, value] of Object.entries({ preserve, dryRun })) {
      if (value !== "true" && value !== "false")
        return problemResponse(request, httpFailure("E-PARAMETER", `${parameter} must be true or false`, parameter));
    }
    const argv = [
      route.subcommand,
      ...(preserve === "true" ? ["-p"] : []),
      ...(dryRun === "true" ? ["-n"] : []),
      ...(name.startsWith("-") ? [] : [name]),
    ];
    const right = rightCheck(c.env.caller, refusals);
    // Asked before the body is read: who may not import need not make us hold 64 MiB.
    const needed = SUBCOMMANDS[route.subcommand].right;
    if (!right(needed, argv.join(" "))) return problemResponse(request, lacksRight(needed));
    const text = await readText(request, IMPORT_LIMIT, name);
    if (!text.ok) return problemResponse(request, text.failure);
    const hostFor = (gone: AbortSignal): CommandHost =>
      onlyOver(service.hostFor(c.env.caller, gone), c.req.header("if-match"));
    if (preferred(request.headers.get("accept"), [JSON_TYPE, MSGPACK_TYPE, NDJSON_TYPE]) === NDJSON_TYPE) {
      const options = { right, origin: "shell", input: text.value, inputName: name } as const;
      return answerStream(request, argv, hostFor, options, service.log);
    }
    const options = { right, name, preserve: preserve === "true" } as const;
    if (dryRun === "true") {
      const ifMatch = c.req.header("if-match");
      if (isStale(hostFor(request.signal).config(), ifMatch)) return problemResponse(request, STALE);
      const plan = await planText(text.value, hostFor(request.signal), options);
      return plan.ok ? valueResponse(request, plan.value) : problemResponse(request, plan.failure);
    }
    const host = hostFor(request.signal);
    const remarks = new Set<string>();
    const output = importText(text.value, host, options, remarking(host, remarks));
    let stdout = "";
    for (;;) {
      const step = await output.next();
      if (!step.done) stdout += step.value.stdout ?? "";
      else if (step.value !== null) return problemResponse(request, step.value);
      else return valueResponse(request, withWarnings({ stdout }, [...remarks]));
    }
  });
}

const STALE = httpFailure("E-PRECONDITION", "the configuration has changed since: read it again");

/** Whether the configuration is not the one that If-Match names. */
const isStale = (config: Config, ifMatch: string | undefined): boolean =>
  ifMatch !== undefined && !isNamed(ifMatch, tagOf(config, textOf(config)));

/** The same host, which refuses a change when the configuration has become stale by its turn. */
const onlyOver = (host: CommandHost, ifMatch: string | undefined): CommandHost => ({
  ...host,
  transact: (audit, change) =>
    host.transact(audit, (config, context) =>
      isStale(config, ifMatch) ? { ok: false, failure: STALE } : change(config, context),
    ),
});

const textOf = (config: Config): string => [...exportLines(config)].join("");

/**
 * Names what an import would replace: the text, and what the text does not say of servers, their IDs and whether they
 * are enabled. A strong validator (RFC 9110 section 8.8.3).
 */
function tagOf(config: Config, text: string): string {
  const hash = createHash("sha256").update(text);
  for (const group of config.groups)
    for (const server of group.servers) hash.update(`${serverId(group, server)} ${server.enabled}\n`);
  return `"${hash.digest("hex").slice(0, 32)}"`;
}

/** Whether a list of entity tags names this one; `*` names any. */
const isNamed = (list: string | undefined, etag: string): boolean =>
  list?.split(",").some((tag) => ["*", etag].includes(tag.trim())) ?? false;
