/**
 * A server of the laboratory: a real HTTP server and a UDP echo, started inside a server's network namespace.
 *
 *   GET /                     "<server ID>\n"
 *   GET /bytes/N?seed=S       N bytes of the pattern of seed S (pattern.ts)
 *   POST /bytes/N?seed=S      200 when the body is these N bytes, else 400 and where it differs
 *   GET /client               address and port that the server sees its client under
 *   UDP                       every datagram comes back behind "<server ID> "
 *
 * Every HTTP answer names its server in the header `x-server`. Arguments: ID ADDRESS[,ADDRESS...] PORT. Prints "ready"
 * and stays until it is killed.
 */
import { BLOCK_BYTES, Pattern, PatternCheck } from "./pattern.ts";

/** A body of `length` bytes, made block by block as the connection takes them. */
function patternBody(length: number, seed: number): ReadableStream<Uint8Array> {
  const pattern = new Pattern(seed);
  let index = 0;
  return new ReadableStream<Uint8Array>({
    type: "bytes",
    pull(controller) {
      const offset = index * BLOCK_BYTES;
      if (offset >= length) {
        controller.close();
        return;
      }
      // A copy: the stream keeps the chunk until the socket has taken it.
      controller.enqueue(pattern.block(index).slice(0, Math.min(BLOCK_BYTES, length - offset)));
      index++;
    },
  });
}

/** What is wrong with an upload; empty when nothing is. */
async function compareBody(body: ReadableStream<Uint8Array> | null, length: number, seed: number): Promise<string> {
  const check = new PatternCheck(seed);
  if (body !== null) for await (const chunk of body) check.take(chunk);
  if (check.firstDifference !== null) return `differs at or after byte ${check.firstDifference}`;
  return check.received === length ? "" : `${check.received} of ${length} bytes`;
}

/**
 * Serves until the process ends.
 * @param argv ID, addresses (each gets sockets of its own, so that UDP answers come from the address that was asked),
 * port of both HTTP and UDP echo.
 */
export async function runServer(argv: readonly string[]): Promise<void> {
  const [id = "", addresses = "", portText = ""] = argv;
  for (const address of addresses.split(",")) await serveOn(id, address, Number(portText));
  console.log("ready");
}

async function serveOn(id: string, address: string, port: number): Promise<void> {
  Bun.serve({
    hostname: address,
    port,
    // A download that a test holds up on purpose must not be cut off.
    idleTimeout: 0,
    maxRequestBodySize: 2 ** 40,
    async fetch(request, server) {
      const url = new URL(request.url);
      const headers: Record<string, string> = { "x-server": id };
      const bytes = /^\/bytes\/(\d+)$/.exec(url.pathname);
      if (bytes !== null) {
        const length = Number(bytes[1]);
        const seed = Number(url.searchParams.get("seed") ?? "1");
        if (request.method === "POST") {
          const complaint = await compareBody(request.body, length, seed);
          return new Response(complaint, { status: complaint === "" ? 200 : 400, headers });
        }
        headers["content-length"] = String(length);
        headers["content-type"] = "application/octet-stream";
        return new Response(patternBody(length, seed), { headers });
      }
      if (url.pathname === "/client") {
        const peer = server.requestIP(request);
        return new Response(`${peer?.address ?? "?"} ${peer?.port ?? "?"}\n`, { headers });
      }
      return new Response(`${id}\n`, { headers });
    },
  });
  const prefix = Buffer.from(`${id} `);
  await Bun.udpSocket({
    hostname: address,
    port,
    socket: {
      data(socket, data, fromPort, fromAddress) {
        socket.send(Buffer.concat([prefix, data]), fromPort, fromAddress);
      },
    },
  });
}
