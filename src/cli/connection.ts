/**
 * How ilbadm reaches the daemon: the Unix socket by default, a URL with a bearer token on request. One request per
 * start; the answer is read as it comes.
 */

export interface Target {
  /** Path of the socket, or null when `url` is used. */
  readonly socket: string | null;
  readonly url: string | null;
  readonly token: string | null;
}

export interface Query {
  readonly method: "POST" | "PUT";
  readonly path: string;
  readonly contentType: string;
  readonly accept: string;
  readonly body: string | Uint8Array<ArrayBuffer>;
}

/** Nobody listens there. */
export class NotReachable extends Error {
  override readonly name = "NotReachable";
}

/** Sends the query. Rejects with NotReachable; reading the answer's body rejects when the connection breaks. */
export async function ask(target: Target, query: Query): Promise<Response> {
  const headers: Record<string, string> = {
    "content-type": query.contentType,
    accept: query.accept,
    connection: "close",
  };
  if (target.token !== null) headers.authorization = `Bearer ${target.token}`;
  const url = target.url === null ? `http://localhost${query.path}` : target.url.replace(/\/$/, "") + query.path;
  // `timeout: false`: a listing with a long interval is silent for as long as the user wants.
  const init: BunFetchRequestInit = {
    method: query.method,
    headers,
    body: query.body,
    redirect: "error",
    timeout: false,
  };
  try {
    return await fetch(url, target.socket === null ? init : { ...init, unix: target.socket });
  } catch (error) {
    throw new NotReachable((error as { code?: string }).code ?? String(error));
  }
}
