/**
 * The dashboard's address in the user's own network: hands requests to the daemon's Unix socket, which lies outside
 * every network namespace. The daemon sees the user who runs the demo, with all rights, so this is where a stranger's
 * page or another user of the machine is stopped: reading is open to the addresses listened on, changing needs a
 * session, which the link with the one-time token opens.
 */

const COOKIE = "ilb-demo";

export interface DashboardProxy {
  readonly url: string;
  /** Opens a session for the first browser that follows it. */
  readonly link: string;
  stop(): Promise<void>;
}

function randomToken(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(18))).toString("base64url");
}

/**
 * The Host header is an address, or localhost. A page that a browser reached by a name of its own choice, which was
 * then made to point here (DNS rebinding), sends that name.
 */
function isOwnHost(host: string): boolean {
  return /^(localhost|\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:.]+\])(:\d+)?$/.test(host);
}

/** Headers that hold for one connection only (RFC 9110 section 7.6.1), and those that the daemon must not see. */
const NOT_FORWARDED = ["connection", "keep-alive", "te", "transfer-encoding", "upgrade", "host", "cookie", "origin"];

/**
 * @param socketPath the daemon's socket; while nothing listens there, requests get 503.
 * @throws when the address cannot be listened on.
 */
export function startDashboardProxy(host: string, port: number, socketPath: string): DashboardProxy {
  let token: string | null = randomToken();
  const session = randomToken();
  const server = Bun.serve({ hostname: host, port, idleTimeout: 0, fetch: (request) => answer(request) });
  const shownHost = host.includes(":") ? `[${host}]` : host;
  const url = `http://${shownHost}:${server.port}/`;

  async function answer(request: Request): Promise<Response> {
    if (!isOwnHost(request.headers.get("host") ?? "")) return new Response("wrong host\n", { status: 421 });
    const { pathname, searchParams, search } = new URL(request.url);
    const offered = searchParams.get("token");
    if (offered !== null) {
      if (offered !== token) return new Response("this link was used already\n", { status: 403 });
      token = null;
      const cookie = `${COOKIE}=${session}; HttpOnly; SameSite=Strict; Path=/`;
      return new Response(null, { status: 303, headers: { location: "/", "set-cookie": cookie } });
    }
    const reads = request.method === "GET" || request.method === "HEAD";
    const hasSession = (request.headers.get("cookie") ?? "").split(/; */).includes(`${COOKIE}=${session}`);
    if (!reads && !hasSession) return new Response("open the link that the demo printed first\n", { status: 403 });
    return forward(request, `http://ilbd${pathname}${search}`);
  }

  async function forward(request: Request, target: string): Promise<Response> {
    const headers = new Headers(request.headers);
    for (const name of NOT_FORWARDED) headers.delete(name);
    try {
      const body = request.body === null ? {} : { body: await request.arrayBuffer() };
      const reply = await fetch(target, {
        unix: socketPath,
        method: request.method,
        headers,
        redirect: "manual",
        signal: request.signal,
        ...body,
      });
      const replyHeaders = new Headers(reply.headers);
      // fetch() has undone these.
      for (const name of ["content-encoding", "content-length", "connection", "transfer-encoding"])
        replyHeaders.delete(name);
      return new Response(reply.body, { status: reply.status, headers: replyHeaders });
    } catch {
      return new Response("the load balancer is not ready yet\n", { status: 503, headers: { "retry-after": "1" } });
    }
  }

  return { url, link: `${url}?token=${token}`, stop: () => server.stop(true) };
}
