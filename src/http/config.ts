/**
 * `/v1/config`: the configuration as text, in export-config's form. GET exports; PUT imports as one change (with
 * `?preserve=true` on top of what is there; with `?dryRun=true` it only tells what would change) and, asked for a stream, answers like the command line does.
 */
import { importText, planText } from "../command/run.ts";
import type { App, RouteParts } from "./app.ts";
import { IMPORT_LIMIT, preferred, readText, valueResponse } from "./body.ts";
import { answerStream, answerWhole, NDJSON_TYPE } from "./ilbadm.ts";
import { httpFailure, problemResponse } from "./problem.ts";
import { rightCheck } from "./rights.ts";

const TEXT_TYPE = "text/plain; charset=utf-8";
const PARAMETERS = ["preserve", "dryRun", "name"];

export function registerConfig(app: App, { service, refusals }: RouteParts): void {
  app.get("/v1/config", async (c) => {
    const host = service.hostFor(c.env.caller, c.req.raw.signal);
    const right = rightCheck(c.env.caller, refusals);
    const answer = await answerWhole(["export-config"], host, { right, origin: "shell" });
    return c.body(answer.stdout, 200, { "content-type": TEXT_TYPE });
  });

  app.put("/v1/config", async (c) => {
    const request = c.req.raw;
    const query = c.req.query();
    const stray = Object.keys(query).find((name) => !PARAMETERS.includes(name));
    if (stray !== undefined)
      return problemResponse(request, httpFailure("E-BODY", `unknown parameter ${stray}`, stray));
    const { preserve = "false", dryRun = "false", name = "-" } = query;
    for (const [flag, value] of Object.entries({ preserve, dryRun }))
      if (value !== "true" && value !== "false")
        return problemResponse(request, httpFailure("E-BODY", `${flag} must be true or false`, flag));
    const text = await readText(request, IMPORT_LIMIT);
    if (!text.ok) return problemResponse(request, text.failure);
    const right = rightCheck(c.env.caller, refusals);
    if (preferred(request.headers.get("accept"), ["application/json", NDJSON_TYPE]) === NDJSON_TYPE) {
      const argv = [
        "import-config",
        ...(preserve === "true" ? ["-p"] : []),
        ...(dryRun === "true" ? ["-n"] : []),
        ...(name === "-" ? [] : [name]),
      ];
      const options = { right, origin: "shell", input: text.value, inputName: name } as const;
      return answerStream(request, argv, (gone) => service.hostFor(c.env.caller, gone), options, service.log);
    }
    const options = { right, name, preserve: preserve === "true" } as const;
    if (dryRun === "true") {
      const plan = await planText(text.value, service.hostFor(c.env.caller, request.signal), options);
      return plan.ok ? valueResponse(request, plan.value) : problemResponse(request, plan.failure);
    }
    const output = importText(text.value, service.hostFor(c.env.caller, request.signal), options);
    let stdout = "";
    for (;;) {
      const step = await output.next();
      if (!step.done) stdout += step.value.stdout ?? "";
      else if (step.value !== null) return problemResponse(request, step.value);
      else return valueResponse(request, { stdout });
    }
  });
}
