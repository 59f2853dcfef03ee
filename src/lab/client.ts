/**
 * A client of the laboratory: does one job (jobs.ts) from inside a client's network namespace, with ordinary sockets,
 * and prints its result as JSON. Every request opens a connection of its own.
 */
import http from "node:http";
import type {
  DownloadsJob,
  Job,
  JobResult,
  LoadJob,
  LoadReport,
  LoadSummary,
  RequestsJob,
  Target,
  UdpJob,
  UploadsJob,
} from "./jobs.ts";
import { BLOCK_BYTES, Pattern, PatternCheck } from "./pattern.ts";

/** The server's ID, or an error in words. @param onData is given the body as it comes. */
function request(
  target: Target,
  index: number,
  path: string,
  timeoutMs: number,
  onData?: (chunk: Uint8Array) => void,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const localAddress = target.from[index % target.from.length];
    const sent = http.request(
      {
        host: target.host,
        port: target.port,
        path,
        agent: false,
        ...(localAddress === undefined ? {} : { localAddress }),
      },
      (answer) => {
        const server = String(answer.headers["x-server"] ?? "?");
        answer.on("data", (chunk: Uint8Array) => onData?.(chunk));
        answer.on("end", () => {
          clearTimeout(deadline);
          if (answer.statusCode === 200) resolve(server);
          else reject(new Error(`HTTP status ${answer.statusCode}`));
        });
        answer.on("error", reject);
      },
    );
    // For the whole exchange: a connection that trickles is as bad as one that is silent.
    const deadline = setTimeout(() => {
      reject(new Error(`no answer within ${timeoutMs} ms`));
      sent.destroy();
    }, timeoutMs);
    sent.on("error", (error) => {
      clearTimeout(deadline);
      reject(error);
    });
    sent.end();
  });
}

/** Runs `work(0..count-1)`, at most `concurrency` at a time, and adds up who answered and what failed. */
async function inParallel(
  count: number,
  concurrency: number,
  work: (index: number) => Promise<string>,
): Promise<JobResult> {
  const answered: Record<string, number> = {};
  const failures: string[] = [];
  let next = 0;
  const lane = async () => {
    while (next < count) {
      const index = next++;
      try {
        const server = await work(index);
        answered[server] = (answered[server] ?? 0) + 1;
      } catch (error) {
        failures.push(`request ${index}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
  return { answered, failures, resent: 0 };
}

function requests(job: RequestsJob): Promise<JobResult> {
  return inParallel(job.count, job.concurrency, (index) => request(job, index, "/", job.timeoutMs));
}

/** One upload; the body is written as fast as the connection takes it. */
function upload(job: UploadsJob, index: number): Promise<string> {
  const seed = index + 1;
  const localAddress = job.from[index % job.from.length];
  return new Promise((resolve, reject) => {
    const deadline = setTimeout(() => {
      reject(new Error(`not taken within ${job.timeoutMs} ms`));
      sent.destroy();
    }, job.timeoutMs);
    const sent = http.request(
      {
        host: job.host,
        port: job.port,
        method: "POST",
        path: `/bytes/${job.bytes}?seed=${seed}`,
        agent: false,
        headers: { "content-length": job.bytes },
        ...(localAddress === undefined ? {} : { localAddress }),
      },
      (answer) => {
        const server = String(answer.headers["x-server"] ?? "?");
        let text = "";
        answer.on("data", (chunk: Uint8Array) => {
          text += Buffer.from(chunk).toString();
        });
        answer.on("end", () => {
          clearTimeout(deadline);
          if (answer.statusCode === 200) resolve(server);
          else reject(new Error(`${server}: ${text}`));
        });
      },
    );
    sent.on("error", (error) => {
      clearTimeout(deadline);
      reject(error);
    });
    writeBody(sent, job.bytes, new Pattern(seed));
  });
}

/** Writes the pattern, waiting whenever the connection takes no more for now. */
function writeBody(sent: http.ClientRequest, length: number, pattern: Pattern): void {
  let block = 0;
  const write = (): void => {
    for (;;) {
      const offset = block * BLOCK_BYTES;
      if (offset >= length) {
        sent.end();
        return;
      }
      if (!sent.write(pattern.block(block++).slice(0, Math.min(BLOCK_BYTES, length - offset)))) break;
    }
    sent.once("drain", write);
  };
  write();
}

function uploads(job: UploadsJob): Promise<JobResult> {
  return inParallel(job.count, job.concurrency, (index) => upload(job, index));
}

function downloads(job: DownloadsJob): Promise<JobResult> {
  return inParallel(job.count, job.concurrency, async (index) => {
    const seed = index + 1;
    const check = new PatternCheck(seed);
    const server = await request(job, index, `/bytes/${job.bytes}?seed=${seed}`, job.timeoutMs, (chunk) =>
      check.take(chunk),
    );
    if (check.firstDifference !== null) throw new Error(`${server}: differs at or after byte ${check.firstDifference}`);
    if (check.received !== job.bytes) throw new Error(`${server}: ${check.received} of ${job.bytes} bytes`);
    return server;
  });
}

/** How long a datagram waits for its echo before it is sent again. UDP may lose; it may not change or misdeliver. */
const RESEND_MS = 500;

async function udp(job: UdpJob): Promise<JobResult> {
  const payload = new Pattern(7).block(0).slice(0, job.bytes);
  let resent = 0;
  const perSocket = Math.ceil(job.count / job.sockets);
  const results = await Promise.all(
    Array.from({ length: job.sockets }, async (_, socketIndex) => {
      let answer: (data: Buffer) => void = () => {};
      // A socket for any IPv4 address, the default, cannot send to IPv6.
      const any = job.host.includes(":") ? "::" : "0.0.0.0";
      const socket = await Bun.udpSocket({
        hostname: job.from[socketIndex % job.from.length] ?? any,
        socket: { data: (_socket, data) => answer(data) },
      });
      const result = await inParallel(perSocket, 1, async (index) => {
        const datagram = Buffer.from(payload);
        datagram.writeUInt32BE(socketIndex, 0);
        datagram.writeUInt32BE(index, 4);
        const givenUpMs = Date.now() + job.timeoutMs;
        while (Date.now() < givenUpMs) {
          const echo = await new Promise<Buffer | null>((resolve) => {
            const timer = setTimeout(() => resolve(null), RESEND_MS);
            answer = (data) => {
              // An echo of an earlier datagram that was sent twice.
              if (data.length >= 8 && data.readUInt32BE(data.length - datagram.length + 4) !== index) return;
              clearTimeout(timer);
              resolve(data);
            };
            socket.send(datagram, job.port, job.host);
          });
          if (echo === null) {
            resent++;
            continue;
          }
          const split = echo.length - datagram.length;
          if (split < 2 || !echo.subarray(split).equals(datagram))
            throw new Error("the echo differs from what was sent");
          return echo.toString("latin1", 0, split - 1);
        }
        throw new Error(`no echo within ${job.timeoutMs} ms`);
      });
      socket.close();
      return result;
    }),
  );
  const answered: Record<string, number> = {};
  for (const result of results) {
    for (const [server, count] of Object.entries(result.answered)) answered[server] = (answered[server] ?? 0) + count;
  }
  return { answered, failures: results.flatMap((result) => result.failures), resent };
}

/** Prints reports or summaries, one a line, until standard input ends, then waits for the requests under way. */
async function load(job: LoadJob): Promise<void> {
  let isOver = false;
  process.stdin.resume();
  process.stdin.on("end", () => {
    isOver = true;
  });
  const print = (line: LoadReport | LoadSummary) => process.stdout.write(`${JSON.stringify(line)}\n`);
  let summary: LoadSummary = { answered: 0, failed: 0 };
  const timer = job.report === "each" ? null : setInterval(() => print(summary), job.report);
  const underWay = new Set<Promise<void>>();
  for (let index = 0; !isOver; index++) {
    const atMs = Date.now();
    const note = (server: string | null, failure: string | null) => {
      const { answered, failed } = summary;
      summary = failure === null ? { answered: answered + 1, failed } : { answered, failed: failed + 1 };
      if (timer === null) print({ atMs, tookMs: Date.now() - atMs, server, failure });
    };
    const one = request(job, index, "/", job.timeoutMs)
      .then((server) => note(server, null))
      .catch((error: Error) => note(null, error.message));
    underWay.add(one);
    void one.finally(() => underWay.delete(one));
    await Bun.sleep(1000 / job.perSecond);
  }
  await Promise.all(underWay);
  if (timer === null) return;
  clearInterval(timer);
  print(summary);
}

function runToEnd(job: Exclude<Job, LoadJob>): Promise<JobResult> {
  switch (job.kind) {
    case "requests":
      return requests(job);
    case "downloads":
      return downloads(job);
    case "uploads":
      return uploads(job);
    case "udp":
      return udp(job);
  }
}

/** @param argv one element, the job as JSON. */
export async function runClient(argv: readonly string[]): Promise<void> {
  const job = JSON.parse(argv[0] ?? "") as Job;
  if (job.kind === "load") {
    await load(job);
  } else {
    const result = await runToEnd(job);
    process.stdout.write(`${JSON.stringify(result)}\n`);
  }
  process.exit(0);
}
