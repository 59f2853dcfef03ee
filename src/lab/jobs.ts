/**
 * What a laboratory client can be asked to do, and what it answers: the words that lab.ts and client.ts exchange as
 * JSON, one value a line. Data only.
 */

/** Where requests go and where they come from. */
export interface Target {
  readonly host: string;
  readonly port: number;
  /** Source addresses, used in turn. Empty: the kernel chooses. */
  readonly from: readonly string[];
}

/** `count` HTTP requests on new connections, at most `concurrency` at a time. */
export interface RequestsJob extends Target {
  readonly kind: "requests";
  readonly count: number;
  readonly concurrency: number;
  readonly timeoutMs: number;
}

/** Downloads of `bytes` each, every one with a seed of its own, compared byte for byte with the pattern. */
export interface DownloadsJob extends Target {
  readonly kind: "downloads";
  readonly count: number;
  readonly concurrency: number;
  readonly bytes: number;
  readonly timeoutMs: number;
}

/** Uploads of `bytes` each, every one with a seed of its own; the server compares them with the pattern. */
export interface UploadsJob extends Target {
  readonly kind: "uploads";
  readonly count: number;
  readonly concurrency: number;
  readonly bytes: number;
  readonly timeoutMs: number;
}

/** `count` datagrams from `sockets` sockets, each compared with its echo; one that is not answered is sent again. */
export interface UdpJob extends Target {
  readonly kind: "udp";
  readonly sockets: number;
  readonly count: number;
  readonly bytes: number;
  readonly timeoutMs: number;
}

/** Requests on new connections until standard input ends, `perSecond` of them. */
export interface LoadJob extends Target {
  readonly kind: "load";
  readonly perSecond: number;
  readonly timeoutMs: number;
  /** `each`: a LoadReport for every request. A number: a LoadSummary every so many milliseconds, and one at the end. */
  readonly report: "each" | number;
}

export type Job = RequestsJob | DownloadsJob | UploadsJob | UdpJob | LoadJob;

/** What became of a job. */
export interface JobResult {
  /** Answers by server ID. */
  readonly answered: Readonly<Record<string, number>>;
  /** One line per request that failed or came back wrong. */
  readonly failures: readonly string[];
  /** Datagrams that had to be sent again (udp only). */
  readonly resent: number;
}

/** One line of a load job: a request that began at `atMs` (wall clock) and either was answered or failed. */
export interface LoadReport {
  readonly atMs: number;
  readonly tookMs: number;
  readonly server: string | null;
  readonly failure: string | null;
}

/** One line of a load job that sums up: counts since it began. */
export interface LoadSummary {
  readonly answered: number;
  readonly failed: number;
}
