/**
 * How long the management interface keeps its callers waiting while packets take all the processor time there is: real
 * answers (all counters, a hundred rules, both forms, a command line) over the socket, with a statistics stream open beside.
 */
import { saturatedRate } from "./meters.ts";
import type { Side } from "./side.ts";

const RULES = 100;
/** Ports of rules that nothing is sent to. */
const FIRST_PORT = 20_000;
const LEAST_MS = 2000;
const LEAST_REQUESTS = 100;

interface Request {
  readonly path: string;
  readonly init?: BunFetchRequestInit;
  /** Throws when the answer is not what was asked for. */
  check(body: Uint8Array): void;
}

const json = (body: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(body));

/** Throws unless a list or text has all rules in it. */
function expectRules(names: number): void {
  if (names < RULES) throw new Error(`an answer has ${names} rules instead of ${RULES}`);
}

const REQUESTS: readonly Request[] = [
  { path: "/v1/statistics", check: (body) => void json(body) },
  { path: "/v1/rules", check: (body) => expectRules((json(body) as { items: unknown[] }).items.length) },
  {
    path: "/v1/rules",
    init: { headers: { accept: "application/msgpack" } },
    check: (body) => expectRules(countNames(body)),
  },
  {
    path: "/v1/ilbadm",
    init: {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ line: "show-rule -f" }),
    },
    check: (body) => expectRules(countNames(body)),
  },
];

/** How often the name of one of our rules stands in an answer. */
const countNames = (body: Uint8Array): number => new TextDecoder().decode(body).match(/idle\d+/g)?.length ?? 0;

async function ask(side: Side, { path, init }: Omit<Request, "check">): Promise<Uint8Array> {
  const answer = await fetch(`http://localhost${path}`, { ...init, unix: side.lab.socket });
  const body = new Uint8Array(await answer.arrayBuffer());
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${new TextDecoder().decode(body)}`);
  return body;
}

/** Makes the rules that are listed. */
export async function makeRules(side: Side): Promise<void> {
  for (let index = 0; index < RULES; index++) {
    const rule = {
      name: `idle${index}`,
      vip: "198.51.100.200",
      port: FIRST_PORT + index,
      protocol: "tcp",
      type: "HALF-NAT",
      servergroup: `group${side.options.port}`,
      enabled: true,
    };
    const headers = { "content-type": "application/json" };
    await ask(side, { path: "/v1/rules", init: { method: "POST", headers, body: JSON.stringify(rule) } });
  }
}

/** Reads the stream until it is told to stop. @returns events that came */
async function follow(side: Side, signal: AbortSignal): Promise<number> {
  let events = 0;
  try {
    const answer = await fetch("http://localhost/v1/statistics/stream?interval=1", { unix: side.lab.socket, signal });
    for await (const chunk of answer.body!)
      events += new TextDecoder().decode(chunk as Uint8Array).match(/^data:/gm)?.length ?? 0;
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  return events;
}

/** Milliseconds within which 99 of 100 answers have come whole, while two senders saturate two cores. @throws when one is wrong */
export async function managementLatency(side: Side, milliseconds: number): Promise<number> {
  const stop = new AbortController();
  const stream = follow(side, stop.signal);
  let isOver = false;
  const load = saturatedRate(side, Math.max(LEAST_MS, milliseconds)).finally(() => {
    isOver = true;
  });
  const took: number[] = [];
  try {
    for (let at = 0; !isOver; at++) {
      const request = REQUESTS[at % REQUESTS.length]!;
      const startMs = performance.now();
      const body = await ask(side, request);
      took.push(performance.now() - startMs);
      request.check(body);
    }
    await load;
  } finally {
    stop.abort();
  }
  if ((await stream) === 0) throw new Error("the statistics stream said nothing");
  if (took.length < LEAST_REQUESTS) throw new Error(`only ${took.length} requests were answered`);
  took.sort((a, b) => a - b);
  return took[Math.floor(took.length * 0.99)]!;
}
