/** `/v1/statistics` and its stream of server-sent events (one per interval, the first at once). */
import type { Route } from "../command/spec.ts";
import type { App, RouteParts } from "./app.ts";
import { stringify, textResponse, valueResponse } from "./body.ts";
import { addEndpoint, type Operation } from "./endpoint.ts";
import { departureOf } from "./ilbadm.ts";
import { EVENTS_TYPE, streamOperation } from "./openapi.ts";
import { httpFailure, problemResponse } from "./problem.ts";
import { statisticsOf } from "./statistics.ts";

const DEFAULT_INTERVAL_SECONDS = 1;
const MAX_INTERVAL_SECONDS = 3600;

export function registerStatistics(app: App, { service }: RouteParts, operation: Operation): void {
  addEndpoint(app, "GET", "/v1/statistics", operation, (c) => {
    const host = service.hostFor(c.env.caller, c.req.raw.signal);
    return valueResponse(c.req.raw, statisticsOf(host.statistics(), service.counters()));
  });
}

export function registerStream(app: App, { service }: RouteParts, route: Route): void {
  addEndpoint(app, "GET", route.path, streamOperation(route), (c) => {
    const text = c.req.query("interval") ?? String(DEFAULT_INTERVAL_SECONDS);
    const seconds = /^\d{1,4}$/.test(text) ? Number(text) : 0;
    if (seconds < 1 || seconds > MAX_INTERVAL_SECONDS) {
      const detail = `interval must be 1 to ${MAX_INTERVAL_SECONDS} seconds`;
      return problemResponse(c.req.raw, httpFailure("E-PARAMETER", detail, "interval"));
    }
    const { gone, leave } = departureOf(c.req.raw);
    const host = service.hostFor(c.env.caller, gone);
    const encoder = new TextEncoder();
    let first = true;
    const events = new ReadableStream<Uint8Array>({
      async pull(controller) {
        try {
          if (!first) await host.sleep(seconds * 1000);
          first = false;
          const event = stringify(statisticsOf(host.statistics(), service.counters()));
          controller.enqueue(encoder.encode(`data: ${event}\n\n`));
        } catch {
          controller.close(); // the caller has gone, or the daemon stops
        }
      },
      cancel: leave,
    });
    return textResponse(events, EVENTS_TYPE);
  });
}
