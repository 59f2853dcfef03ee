/**
 * `--listen`: the same application over TCP. Without tokens on loopback only, for readers only, and only under a local
 * Host name; with a token file every request but those for open paths needs a bearer token; any other address needs TLS
 * too.
 */
import { readFileSync, statSync } from "node:fs";
import { createSecureContext } from "node:tls";
import type { Caller } from "../control/caller.ts";
import type { Log } from "../control/ports.ts";
import { fail, ok, type Result } from "../model/result.ts";
import { OPEN_PATHS } from "./app.ts";
import { NDJSON_TYPE } from "./ilbadm.ts";
import { isLocalHost, type ListenAddress, refuseListen } from "./listen.ts";
import { EVENTS_TYPE } from "./openapi.ts";
import { type HttpCode, httpFailure, problemResponse } from "./problem.ts";
import type { TokenFile } from "./tokens.ts";
import type { RunningServer } from "./unix-server.ts";

export interface TcpServerOptions {
  readonly listen: ListenAddress;
  readonly tokens: TokenFile | null;
  /** PEM files, both or none. */
  readonly tls: TlsFiles | null;
  readonly handler: (request: Request, caller: Caller) => Response | Promise<Response>;
  /** A request without a valid token, or under another Host name, for the audit log. */
  readonly refused: (caller: Caller, command: string, code: HttpCode) => void;
  readonly log: Log;
}
export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface TcpServer extends RunningServer {
  /** The port that it has. */
  readonly port: number;
  /** Takes over certificate files that have changed since. Connections go on with the certificate they began with. */
  refresh(): Promise<void>;
}

/** The right of whoever reaches a loopback address without tokens. */
const LOCAL_READER: Caller = { name: "anonymous over TCP", rights: new Set(["show"]) };
const NOBODY: Caller = { name: "anonymous over TCP", rights: new Set() };
/**
 * What the runtime takes and throws away before it ends the connection with a 413 that says nothing. Far above the
 * limits of the application, which answers first.
 */
const MAX_BODY_BYTES = 1024 * 1024 * 1024;
/** A connection on which nothing moves: while a request is expected, and while it is answered (the most there is). */
const IDLE_SECONDS = 30;
const ANSWER_SECONDS = 255;
/** Answers that may be silent for as long as the client wants. */
const STREAMS: readonly string[] = [EVENTS_TYPE, NDJSON_TYPE];
/** How often the certificate files are looked at. */
const TLS_CHECK_MS = 10_000;

/** Listens; fails with one clear line. */
export function listenTcp(options: TcpServerOptions): Result<TcpServer> {
  const { listen, tokens, tls, log } = options;
  const refused = refuseListen(listen, tokens !== null, tls !== null);
  if (refused !== null) return fail("E-LISTEN", refused);
  try {
    const listener = new Listener(options);
    if (tls !== null) warnOfOpenKey(tls, log);
    return ok(listener);
  } catch (error) {
    return fail("E-LISTEN", listenFailure(error as NodeJS.ErrnoException, options));
  }
}

/** Certificate and key as they are now, and what tells that they have changed. */
interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly version: string;
}

class Listener implements TcpServer {
  readonly port: number;
  private server: Bun.Server<undefined>;
  private material: TlsMaterial | null;
  /** Servers of former certificates, which end their connections when the clients do. */
  private readonly former = new Set<Bun.Server<undefined>>();
  private readonly timer: Timer | null;

  constructor(private readonly options: TcpServerOptions) {
    const { listen, tls } = options;
    this.material = tls === null ? null : readTls(tls);
    this.server = this.serve(listen.port);
    this.port = this.server.port!;
    this.timer = tls === null ? null : setInterval(() => void this.refresh(), TLS_CHECK_MS);
    this.timer?.unref();
  }

  async refresh(): Promise<void> {
    const { tls, log } = this.options;
    if (tls === null || this.material === null) return;
    const before = this.material;
    try {
      if (versionOf(tls) === before.version) return;
      this.material = readTls(tls);
    } catch (error) {
      log.error("the changed certificate is not used", { reason: tlsFailure(error as NodeJS.ErrnoException, tls) });
      return;
    }
    // Between these two calls nobody listens; connection attempts that fall in between are refused.
    const old = this.server;
    this.former.add(old);
    void old.stop().then(() => this.former.delete(old));
    this.server = this.serve(this.port);
    log.info("certificate taken over", { file: tls.certFile });
  }

  async stop(): Promise<void> {
    if (this.timer !== null) clearInterval(this.timer);
    await Promise.all([this.server, ...this.former].map((server) => server.stop(true)));
  }

  private serve(port: number): Bun.Server<undefined> {
    const { options, material } = this;
    return Bun.serve({
      hostname: options.listen.hostname,
      port,
      maxRequestBodySize: MAX_BODY_BYTES,
      idleTimeout: IDLE_SECONDS,
      ...(material === null ? {} : { tls: { cert: material.cert, key: material.key } }),
      fetch: (request, server) => answer(request, server, options),
      error: (error) => {
        options.log.error("request failed", { reason: error.stack ?? error.message });
        return new Response(null, { status: 500 });
      },
    });
  }
}

/** Throws what reading throws, and what OpenSSL says of files that do not belong together. */
function readTls(tls: TlsFiles): TlsMaterial {
  const version = versionOf(tls);
  const [cert, key] = [readFileSync(tls.certFile, "utf8"), readFileSync(tls.keyFile, "utf8")];
  createSecureContext({ cert, key });
  return { cert, key, version };
}

const versionOf = ({ certFile, keyFile }: TlsFiles): string =>
  [certFile, keyFile]
    .map((file) => {
      const { ino, mtimeMs, size } = statSync(file);
      return `${ino} ${mtimeMs} ${size}`;
    })
    .join();

function warnOfOpenKey({ keyFile }: TlsFiles, log: Log): void {
  if ((statSync(keyFile).mode & 0o077) !== 0)
    log.warn("the key of the certificate is open to other users: chmod 600", { file: keyFile });
}

const tlsFailure = ({ code, message }: NodeJS.ErrnoException, tls: TlsFiles): string =>
  `cannot use --tls-cert ${tls.certFile} and --tls-key ${tls.keyFile}: ${code ?? message}; both must be PEM files that belong together`;

/** One line that names what is wrong and the way out. */
function listenFailure(error: NodeJS.ErrnoException, { listen, tls }: TcpServerOptions): string {
  const { code, message, path } = error;
  // A file that cannot be read has a path; what OpenSSL says has no name of an errno.
  if (tls !== null && (path !== undefined || !/^E[A-Z]+$/.test(code ?? ""))) return tlsFailure(error, tls);
  const where = `cannot listen on ${listen.hostname}:${listen.port}`;
  if (code === "EADDRINUSE")
    return `${where}: another program has this port (${code}): stop that one or name another with --listen`;
  return `${where}: ${code ?? message}`;
}

async function answer(request: Request, server: Bun.Server<undefined>, options: TcpServerOptions): Promise<Response> {
  const caller = callerOf(request, options);
  if (caller instanceof Response) return caller;
  server.timeout(request, ANSWER_SECONDS);
  const response = await options.handler(request, caller);
  const isStream = STREAMS.includes(response.headers.get("content-type") ?? "");
  server.timeout(request, isStream ? 0 : IDLE_SECONDS);
  return response;
}

/** Whose request this is, or its refusal. */
function callerOf(request: Request, { tokens, refused }: TcpServerOptions): Caller | Response {
  const { pathname } = new URL(request.url);
  const command = `${request.method} ${pathname}`;
  if (tokens === null) {
    if (isLocalHost(request.headers.get("host"))) return LOCAL_READER;
    refused(NOBODY, command, "E-HOST");
    return problemResponse(request, httpFailure("E-HOST", "the Host header must name a loopback address"));
  }
  const authorization = request.headers.get("authorization");
  const caller = tokens.callerOf(authorization);
  if (caller !== null) return caller;
  if (OPEN_PATHS.includes(pathname) && (request.method === "GET" || request.method === "HEAD")) return NOBODY;
  refused(NOBODY, command, "E-NOTOKEN");
  const challenge = `Bearer realm="ilb"${authorization === null ? "" : ', error="invalid_token"'}`;
  return problemResponse(request, httpFailure("E-NOTOKEN", "a valid bearer token is needed"), {
    "www-authenticate": challenge,
  });
}
