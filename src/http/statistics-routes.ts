/**
 * `/v1/statistics` and its stream of server-sent events: statistics, one per interval and the first at once, and events of
 * type `health`.
 */
import type { CommandHost } from "../command/host.ts";
import type { Route } from "../command/spec.ts";
import type { App, RouteParts } from "./app.ts";
import { stringify, textResponse, valueResponse } from "./body.ts";
import { addEndpoint, type Operation } from "./endpoint.ts";
import { departureOf } from "./ilbadm.ts";
import { EVENTS_TYPE, streamOperation } from "./openapi.ts";
import { httpFailure, problemResponse } from "./problem.ts";
import type { Service } from "./service.ts";
import { healthEventView, statisticsOf } from "./statistics.ts";

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
    const after = c.req.header("last-event-id") ?? "";
    const { gone, leave } = departureOf(c.req.raw);
    const host = service.hostFor(c.env.caller, gone);
    const pieces = streamed(service, host, seconds * 1000, /^\d{1,15}$/.test(after) ? Number(after) : 0, gone);
    const encoder = new TextEncoder();
    const events = new ReadableStream<Uint8Array>({
      async pull(controller) {
        try {
          const piece = await pieces.next();
          if (piece.done) controller.close();
          else controller.enqueue(encoder.encode(piece.value));
        } catch {
          controller.close(); // the caller has gone, or the daemon stops
        }
      },
      cancel: leave,
    });
    return textResponse(events, EVENTS_TYPE);
  });
}

/**
 * Statistics at once and once per interval; between them what happens to the health of servers, as it happens, beginning
 * with what is still known. Slow readers miss what is forgotten meanwhile. Throws when the caller has gone.
 * @param lastId number of the last health event that the caller has
 */
async function* streamed(
  service: Service,
  host: CommandHost,
  intervalMs: number,
  lastId: number,
  gone: AbortSignal,
): AsyncGenerator<string, void, undefined> {
  const { healthEvents } = service;
  for (let id = lastId; ; ) {
    yield `data: ${stringify(statisticsOf(host.statistics(), service.counters()))}\n\n`;
    const interval = host.sleep(intervalMs).then(() => "over" as const);
    interval.catch(() => undefined); // looked at below, unless the reader leaves before
    for (;;) {
      for (const event of healthEvents.since(id)) {
        id = event.id;
        yield `event: health\nid: ${id}\ndata: ${JSON.stringify(healthEventView(event))}\n\n`;
      }
      const news = new AbortController();
      const next = healthEvents.until(id, AbortSignal.any([gone, news.signal])).then(() => "news" as const);
      const first = await Promise.race([interval, next]).finally(() => news.abort());
      if (first === "over" || gone.aborted) break;
    }
    if (gone.aborted) return;
  }
}
