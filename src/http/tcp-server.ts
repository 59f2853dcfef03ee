/**
 * `--listen`: the same application over TCP. Without tokens on loopback only, for readers only, and only under a local
 * Host name; with a token file every request but those for open paths needs a bearer token; any other address needs TLS
 * too.
 */
import { readFileSync } from "node:fs";
import type { Caller } from "../control/caller.ts";
import type { Log } from "../control/ports.ts";
import { fail, ok, type Result } from "../model/result.ts";
import { OPEN_PATHS } from "./app.ts";
import { IMPORT_LIMIT } from "./body.ts";
import { isLocalHost, type ListenAddress, refuseListen } from "./listen.ts";
import { httpFailure, problemResponse } from "./problem.ts";
import type { TokenFile } from "./tokens.ts";
import type { RunningServer } from "./unix-server.ts";

export interface TcpServerOptions {
  readonly listen: ListenAddress;
  readonly tokens: TokenFile | null;
  /** PEM files, both or none. */
  readonly tls: { readonly certFile: string; readonly keyFile: string } | null;
  readonly handler: (request: Request, caller: Caller) => Response | Promise<Response>;
  /** A request without a valid token, for the audit log. */
  readonly refused: (caller: Caller, command: string) => void;
  readonly log: Log;
}

/** The right of whoever reaches a loopback address without tokens. */
const LOCAL_READER: Caller = { name: "anonymous over TCP", rights: new Set(["show"]) };
const NOBODY: Caller = { name: "anonymous over TCP", rights: new Set() };
/** Room above the import limit, so that the application answers with 413 itself. */
const MAX_BODY_BYTES = IMPORT_LIMIT + 1024 * 1024;

/** Listens; fails with one clear line. @returns the server and the port that it has */
export function listenTcp(options: TcpServerOptions): Result<RunningServer & { readonly port: number }> {
  const { listen, tokens, tls } = options;
  const refused = refuseListen(listen, tokens !== null, tls !== null);
  if (refused !== null) return fail("E-LISTEN", refused);
  try {
    const server = Bun.serve({
      hostname: listen.hostname,
      port: listen.port,
      maxRequestBodySize: MAX_BODY_BYTES,
      idleTimeout: 0, // streams may be silent for longer than any limit that Bun has
      ...(tls === null ? {} : { tls: { cert: readFileSync(tls.certFile), key: readFileSync(tls.keyFile) } }),
      fetch: (request) => answer(request, options),
      error: (error) => {
        options.log.error("request failed", { reason: error.stack ?? error.message });
        return new Response(null, { status: 500 });
      },
    });
    return ok({ port: server.port!, stop: () => server.stop(true) });
  } catch (error) {
    return fail("E-LISTEN", listenFailure(error as NodeJS.ErrnoException, options));
  }
}

/** One line that names what is wrong and the way out. */
function listenFailure({ code, message, path }: NodeJS.ErrnoException, { listen, tls }: TcpServerOptions): string {
  // A file that cannot be read has a path; what OpenSSL says has no name of an errno.
  if (tls !== null && (path !== undefined || !/^E[A-Z]+$/.test(code ?? "")))
    return `cannot use --tls-cert ${tls.certFile} and --tls-key ${tls.keyFile}: ${code ?? message}; both must be PEM files that belong together`;
  const where = `cannot listen on ${listen.hostname}:${listen.port}`;
  if (code === "EADDRINUSE")
    return `${where}: another program has this port (${code}): stop that one or name another with --listen`;
  return `${where}: ${code ?? message}`;
}

function answer(request: Request, options: TcpServerOptions): Response | Promise<Response> {
  const { tokens, handler } = options;
  const { pathname } = new URL(request.url);
  if (tokens === null) {
    if (!isLocalHost(request.headers.get("host")))
      return problemResponse(request, httpFailure("E-HOST", "the Host header must name a loopback address"));
    return handler(request, LOCAL_READER);
  }
  const caller = tokens.callerOf(request.headers.get("authorization"));
  if (caller !== null) return handler(request, caller);
  if (OPEN_PATHS.includes(pathname) && (request.method === "GET" || request.method === "HEAD"))
    return handler(request, NOBODY);
  options.refused(NOBODY, `${request.method} ${pathname}`);
  return problemResponse(request, httpFailure("E-NOTOKEN", "a valid bearer token is needed"), {
    "www-authenticate": 'Bearer realm="ilb"',
  });
}
