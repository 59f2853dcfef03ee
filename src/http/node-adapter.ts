/**
 * Runs a fetch-style application behind node:http: a request comes in as a web Request whose body is a stream and whose
 * signal fires when the client goes away, the Response's body goes out with back-pressure. Knows nothing of ILB.
 * It exists because only connections that we accept ourselves have a file descriptor to ask for the peer's identity.
 */
import type { IncomingMessage, ServerResponse } from "node:http";

export type Handler = (request: Request) => Response | Promise<Response>;

/** Answers one request. Never rejects: what the handler throws becomes an empty 500. */
export async function serveRequest(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  handler: Handler,
): Promise<void> {
  const gone = new AbortController();
  outgoing.once("close", () => {
    if (!outgoing.writableFinished) gone.abort();
  });
  try {
    await send(await handler(toRequest(incoming, gone.signal)), outgoing, gone.signal);
  } catch {
    if (!outgoing.headersSent) outgoing.statusCode = 500;
    if (!outgoing.writableEnded) outgoing.end();
  }
}

function toRequest(incoming: IncomingMessage, signal: AbortSignal): Request {
  const headers = new Headers();
  for (let i = 0; i + 1 < incoming.rawHeaders.length; i += 2)
    headers.append(incoming.rawHeaders[i]!, incoming.rawHeaders[i + 1]!);
  const method = incoming.method ?? "GET";
  const url = `http://localhost${pathOf(incoming.url ?? "/")}`;
  if (method === "GET" || method === "HEAD") return new Request(url, { method, headers, signal });
  return new Request(url, { method, headers, signal, body: bodyOf(incoming), duplex: "half" } as RequestInit);
}

/** Path and query of a request target (RFC 9112 section 3.2), whose other forms lose their host. */
function pathOf(target: string): string {
  if (target.startsWith("/")) return target;
  return /^https?:\/\/[^/?#]*(\/.*)$/.exec(target)?.[1] ?? "/";
}

/**
 * The body as a stream that reads no further ahead than its consumer. What comes after the consumer has cancelled is read
 * and forgotten, so that the answer can be delivered; it must not touch the stream, which is closed by then and throws.
 */
function bodyOf(incoming: IncomingMessage): ReadableStream<Uint8Array> {
  let isWanted = true;
  return new ReadableStream<Uint8Array>({
    start(controller) {
      incoming.on("data", (chunk: Buffer) => {
        if (!isWanted) return;
        controller.enqueue(new Uint8Array(chunk));
        if ((controller.desiredSize ?? 1) <= 0) incoming.pause();
      });
      incoming.once("end", () => {
        if (isWanted) controller.close();
      });
      incoming.on("error", (error) => {
        if (isWanted) controller.error(error);
        isWanted = false;
      });
      incoming.pause();
    },
    pull() {
      incoming.resume();
    },
    cancel() {
      isWanted = false;
      incoming.resume();
    },
  });
}

async function send(response: Response, outgoing: ServerResponse, signal: AbortSignal): Promise<void> {
  outgoing.statusCode = response.status;
  for (const [name, value] of response.headers) outgoing.appendHeader(name, value);
  if (response.body === null) {
    outgoing.end();
    return;
  }
  outgoing.flushHeaders();
  const reader = response.body.getReader();
  const stop = (): void => void reader.cancel().catch(() => undefined);
  signal.addEventListener("abort", stop, { once: true });
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) break;
      if (!outgoing.write(value)) await drained(outgoing, signal);
    }
  } finally {
    signal.removeEventListener("abort", stop);
    if (!outgoing.writableEnded) outgoing.end();
  }
}

function drained(outgoing: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    outgoing.once("drain", resolve);
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
