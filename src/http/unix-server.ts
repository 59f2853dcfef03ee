/**
 * The management socket: HTTP on a Unix socket that anyone may open (mode 0666), each connection bound to the identity
 * of the process that opened it. We accept with node:net, ask the kernel who is there before a byte is read, and hand
 * the connection to node:http; the identity sits in a map beside the connection, never in a header
 * (docs/decisions/0011, 0025). The socket itself is the library's: node:net takes it over when connections are to be answered,
 * and is not loaded before (docs/decisions/0047).
 */
import { chmodSync, lstatSync, mkdirSync, renameSync, statSync, unlinkSync } from "node:fs";
import type { Server as HttpServer } from "node:http";
import type { Server, Socket } from "node:net";
import { dirname, join } from "node:path";
import type { Caller } from "../control/caller.ts";
import type { Log } from "../control/ports.ts";
import { fail, ok, type Result } from "../model/result.ts";
import { closeListener, listenAtPath } from "../native/system.ts";
import { serveRequest } from "./node-adapter.ts";

export interface UnixServerOptions {
  readonly path: string;
  /** Who is at the other end of the connection with this file descriptor. Throws when the kernel does not say. */
  readonly identify: (fd: number) => Caller;
  readonly handler: (request: Request, caller: Caller) => Response | Promise<Response>;
  readonly log: Log;
  /** How long a connection may owe us a request, milliseconds. */
  readonly requestTimeoutMs?: number;
  /** Connections wait for it before they are answered. Does not reject. Default: at once. */
  readonly heldBack?: Promise<unknown>;
}

export interface RunningServer {
  /** Stops accepting, lets answers in progress finish for a moment, ends all connections, removes the socket. */
  stop(): Promise<void>;
}

/** sizeof(sockaddr_un.sun_path) - 1, unix(7). */
const MAX_PATH_BYTES = 107;
/** Of one user without the right to configure; so no user can keep the others out. */
const MAX_CONNECTIONS_PER_USER = 64;
/** Whoever opens a connection, or keeps it after an answer, asks something within this time or loses it. */
const REQUEST_TIMEOUT_MS = 10_000;
/** What stop() grants to answers in progress; endless ones are cut then. */
const STOP_GRACE_MS = 250;

/**
 * Listens. A socket file that nobody listens on (a dead daemon's) is replaced. Fails with one clear line when somebody
 * listens, when the path is something else, or cannot be created.
 */
export async function listenUnix(options: UnixServerOptions): Promise<Result<RunningServer>> {
  const { path } = options;
  if (Math.max(Buffer.byteLength(path), Buffer.byteLength(birthName(path))) > MAX_PATH_BYTES)
    return fail("E-LISTEN", `--socket ${path} is longer than ${MAX_PATH_BYTES} bytes: choose a shorter path`);
  const freed = await freePath(path);
  if (!freed.ok) return freed;
  const connections = new Map<Socket, Connection>();
  let http: HttpServer | null = null;
  // Loaded for the first connection and not at the start, which it would delay by some 20 ms; at once, so that none is left waiting.
  const httpServer = (): HttpServer => {
    http ??= process.getBuiltinModule("node:http").createServer((request, response) => {
      const connection = connections.get(request.socket);
      if (connection === undefined) request.socket.destroy();
      else
        connection.answer(() =>
          serveRequest(request, response, (webRequest) => options.handler(webRequest, connection.caller)),
        );
    });
    return http;
  };
  const accept = (socket: Socket): void => {
    socket.on("error", () => socket.destroy());
    const caller = callerOn(socket, options);
    if (caller === null || hasTooMany(caller, connections.values())) {
      socket.destroy();
      return;
    }
    const connection = new Connection(socket, caller, options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS);
    connections.set(socket, connection);
    socket.once("close", () => {
      connections.delete(socket);
      connection.forget();
    });
    httpServer().emit("connection", socket);
  };
  const bound = bind(path);
  if (!bound.ok) return bound;
  const listener = new Listener(bound.value, accept);
  const begun = (options.heldBack ?? Promise.resolve()).then(() => listener.begin());
  begun.catch((error) => options.log.error("the management socket cannot be served", { reason: String(error) }));
  if (options.heldBack === undefined) await begun;
  const ours = statSync(path).ino;
  return ok({
    async stop() {
      listener.close();
      const answers = [...connections.values()].map((connection) => connection.answered);
      await Promise.race([Promise.all(answers), Bun.sleep(STOP_GRACE_MS)]);
      for (const socket of connections.keys()) socket.destroy();
      http?.closeAllConnections();
      if (statSync(path, { throwIfNoEntry: false })?.ino === ours) unlinkSync(path);
    },
  });
}

/** A listening socket, taken over by node:net when begin() is called. */
class Listener {
  private server: Server | null = null;
  private isClosed = false;

  constructor(
    private readonly fd: number,
    private readonly accept: (socket: Socket) => void,
  ) {}

  /** Accepts from now on who has connected since the socket was made. */
  begin(): Promise<void> {
    if (this.isClosed) return Promise.resolve();
    const server = process.getBuiltinModule("node:net").createServer({ noDelay: true }, this.accept);
    this.server = server;
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen({ fd: this.fd }, resolve);
    });
  }

  close(): void {
    this.isClosed = true;
    if (this.server === null) closeListener(this.fd);
    else this.server.close();
  }
}

/** One accepted connection: whose it is, and until when it must ask something. */
class Connection {
  private timer: Timer | null = null;
  private answers = 0;
  /** Resolves when nothing is being answered. */
  answered: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly socket: Socket,
    readonly caller: Caller,
    private readonly requestTimeoutMs: number,
  ) {
    this.await();
  }

  /** Runs one answer. Reading a body and following a stream have limits of their own, or none. */
  answer(work: () => Promise<void>): void {
    this.forget();
    this.answers++;
    const mine = work().finally(() => {
      if (--this.answers === 0 && !this.socket.destroyed) this.await();
    });
    this.answered = Promise.all([this.answered, mine]);
  }

  forget(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }

  private await(): void {
    this.forget();
    this.timer = setTimeout(() => this.socket.destroy(), this.requestTimeoutMs);
  }
}

function callerOn(socket: Socket, { identify, log }: UnixServerOptions): Caller | null {
  try {
    return identify(fileDescriptor(socket));
  } catch (error) {
    log.error("caller could not be identified; connection closed", { reason: String(error) });
    return null;
  }
}

function hasTooMany(caller: Caller, connections: Iterable<Connection>): boolean {
  if (caller.rights.has("config")) return false;
  let count = 0;
  for (const connection of connections) if (connection.caller.name === caller.name) count++;
  return count >= MAX_CONNECTIONS_PER_USER;
}

/** Makes the directory and removes a stale socket. */
async function freePath(path: string): Promise<Result<void>> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    const there = lstatSync(path, { throwIfNoEntry: false });
    if (there === undefined) return ok(undefined);
    if (!there.isSocket())
      return fail("E-LISTEN", `${path} exists and is no socket: remove it or name another path with --socket`);
    if (await isAnswered(path))
      return fail("E-LISTEN", `${path} is in use by another ilbd: stop that one or name another path with --socket`);
    unlinkSync(path);
    return ok(undefined);
  } catch (error) {
    return fail("E-LISTEN", cannotCreate(path, error));
  }
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = process.getBuiltinModule("node:net").connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    // ECONNREFUSED: nobody listens. Anything else (EAGAIN: its queue is full) means that somebody does.
    probe.once("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"),
    );
  });
}

/** Next to the final path, so that a rename puts the finished socket in place. */
const birthName = (path: string): string => join(dirname(path), `.ilbd-${process.pid}`);

/** Listens under another name and moves the socket into place when its mode is right: nobody meets it half made. */
function bind(path: string): Result<number> {
  const born = birthName(path);
  let fd: number | null = null;
  try {
    fd = listenAtPath(born);
    chmodSync(born, 0o666);
    renameSync(born, path);
    return ok(fd);
  } catch (error) {
    if (fd !== null) closeListener(fd);
    return fail("E-LISTEN", cannotCreate(path, error));
  }
}

const cannotCreate = (path: string, error: unknown): string =>
  `cannot create socket ${path} (${(error as NodeJS.ErrnoException).code ?? String(error)}): make its directory writable for this user or name another path with --socket`;

/** Bun keeps the descriptor on the handle, as Node.js does; both call it internal, so its absence is an error here. */
function fileDescriptor(socket: Socket): number {
  const fd = (socket as unknown as { _handle?: { fd?: unknown } })._handle?.fd;
  if (typeof fd !== "number" || fd < 0) throw new Error("the runtime does not show the connection's descriptor");
  return fd;
}
