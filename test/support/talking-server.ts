/**
 * A server that health tests of every kind can talk with, for end-to-end tests:
 *
 *   bun test/support/talking-server.ts ID ADDRESS DIRECTORY
 *
 * HTTP on 8080, HTTPS on 8443 (DIRECTORY/cert.pem and key.pem), gRPC health on 50051, DNS on 53 over UDP and TCP. The file
 * DIRECTORY/ID says `sick` or, without one, it is well: sick servers answer 503, NOT_SERVING and SERVFAIL, and go on
 * serving otherwise.
 */
import { createSocket } from "node:dgram";
import { existsSync, readFileSync } from "node:fs";
import http2 from "node:http2";
import { createServer } from "node:net";
import { join } from "node:path";

const [id, hostname, directory] = process.argv.slice(2) as [string, string, string];
const isSick = (): boolean => existsSync(join(directory, id));

function fetch(request: Request): Response {
  const { pathname } = new URL(request.url);
  if (pathname === "/health") return new Response(null, { status: isSick() ? 503 : 204 });
  return new Response(id);
}
Bun.serve({ hostname, port: 8080, fetch });
const read = (name: string): string => readFileSync(join(directory, name), "utf8");
Bun.serve({ hostname, port: 8443, tls: { cert: read("cert.pem"), key: read("key.pem") }, fetch });

const grpc = http2.createServer();
grpc.on("stream", (stream: http2.ServerHttp2Stream) => {
  stream.on("error", () => {});
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.end(Buffer.from([0, 0, 0, 0, 2, 0x08, isSick() ? 2 : 1]));
});
grpc.on("session", (session) => session.on("error", () => {}));
grpc.listen(50051, hostname);

/** The question again, as an answer without records. */
function answerTo(query: Buffer): Buffer {
  const answer = Buffer.from(query);
  answer.writeUInt16BE(0x8180 | (isSick() ? 2 : 0), 2);
  return answer;
}
const udp = createSocket(hostname.includes(":") ? "udp6" : "udp4");
udp.on("message", (query, peer) => udp.send(answerTo(query), peer.port, peer.address));
udp.bind(53, hostname);
createServer((socket) => {
  socket.on("error", () => {});
  socket.on("data", (bytes: Buffer) => {
    const answer = answerTo(bytes.subarray(2));
    const length = Buffer.alloc(2);
    length.writeUInt16BE(answer.length);
    socket.write(Buffer.concat([length, answer]));
  });
}).listen(53, hostname, () => process.stdout.write("ready\n"));
