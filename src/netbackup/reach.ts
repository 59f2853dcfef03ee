/**
 * In which order the ports of a NetBackup host are tried, and what the answers mean: the exchange port, VNETD, then the
 * daemon itself, as hosts of 7.0.1 and newer do; or the pairs of web ports of OpsCenter. Pure: it opens no connection and
 * reads no clock.
 */
import type { SitePorts } from "../model/netbackup.ts";
import { CATALOGUE, serviceOf } from "./catalogue.ts";
import { portOf } from "./flows.ts";
import { WEB_PAIRS } from "./web-pair.ts";

/** One connection to be tried. */
export interface ReachStep {
  readonly name: string;
  readonly port: number;
}

/** A way to reach the host: open when every one of its steps has connected. */
export interface ReachWay {
  readonly name: string;
  readonly steps: readonly ReachStep[];
}

/** What is said when no way is open. */
export const NO_WAY = "none";

const { connectionOrder: ORDER } = CATALOGUE;

const single = (name: string, port: number): ReachWay => ({ name, steps: [{ name, port }] });

/** The ways that come before the daemon's own port. */
const COMMON: readonly ReachWay[] = ORDER.steps.map(({ name, service }) => single(name, serviceOf(service).port));

const isCommon = (port: number): boolean => COMMON.some(({ steps }) => steps.some((step) => step.port === port));

/** The daemon that is tried when none was named: its service's id. */
export const DEFAULT_DAEMON = ORDER.defaultDaemon;
/** Ids of the services that the guide names as last step. */
export const DAEMONS: readonly string[] = ORDER.daemons;

/** The ways to a host whose daemon listens on that port; to the default daemon if the port is that of an earlier step. */
export const waysToPort = (port: number): readonly ReachWay[] => [
  ...COMMON,
  single(ORDER.daemonStep, isCommon(port) ? serviceOf(ORDER.defaultDaemon).port : port),
];

/** The same to the daemon of a service, whose port the site may have changed. */
export const waysToService = (id: string, ports: SitePorts): readonly ReachWay[] =>
  waysToPort(portOf(serviceOf(id), null, ports));

/** The pairs of web ports, in the order in which OpsCenter takes them. */
export const WEB_WAYS: readonly ReachWay[] = WEB_PAIRS.map(({ http, https }) => ({
  name: `${http}/${https}`,
  steps: [
    { name: "HTTP", port: http },
    { name: "HTTPS", port: https },
  ],
}));

/** Ways that the guide takes for a symptom: a host should have answered on the first. */
const LATER = [...COMMON.slice(1).map(({ name }) => name), ORDER.daemonStep];

/** What the guide says is to be looked at when a host answers later than on its exchange port; null: nothing. */
export const reachHint = (via: string | null): string | null =>
  via === null || !LATER.includes(via)
    ? null
    : `expected ${COMMON[0]?.name}. Check Connect Options (Client Attributes, firewall settings, Default Connect Options) ` +
      "and that pbx_exchange is listening.";

export interface ReachOptions {
  /** For everything together. */
  readonly totalMs: number;
  /** Go on behind the first way that is open. */
  readonly all: boolean;
  /** A port that is tried whatever else is open; null: none. */
  readonly required: number | null;
}

/** A step that is to be tried now, for that long. */
export interface ReachAttempt {
  readonly step: ReachStep;
  readonly timeoutMs: number;
}

/**
 * One test of a host: which step is due, and with how much time. A step that fails takes what is left of its way with it.
 * Each step may take an equal share of the time that is left, so that a silent port leaves enough for those after it.
 */
export class Reach {
  readonly #options: ReachOptions;
  readonly #untilMs: number;
  #left: (ReachStep & { readonly way: ReachWay })[];
  #via: string | null = null;
  /** The last way that was found closed. */
  #closed: ReachWay | null = null;

  /** @param nowMs of any clock that does not go back */
  constructor(ways: readonly ReachWay[], options: ReachOptions, nowMs: number) {
    this.#options = options;
    this.#untilMs = nowMs + options.totalMs;
    this.#left = ways.flatMap((way) => way.steps.map((step) => ({ ...step, way })));
  }

  /** The first way that was found open; null: none so far. */
  get via(): string | null {
    return this.#via;
  }

  /** What to try now; null: all is known. */
  next(nowMs: number): ReachAttempt | null {
    const { all, required } = this.#options;
    if (this.#via !== null && !all) this.#left = this.#left.filter(({ port }) => port === required);
    const [first] = this.#left;
    if (first === undefined) return null;
    const { name, port } = first;
    const timeoutMs = Math.max(1, Math.floor((this.#untilMs - nowMs) / this.#left.length));
    return { step: { name, port }, timeoutMs };
  }

  /** Takes how the step ended that next() gave last. */
  finish(isConnected: boolean): void {
    const done = this.#left.shift();
    if (done === undefined) return;
    const { way } = done;
    if (!isConnected) {
      this.#closed = way;
      if (!this.#options.all) this.#left = this.#left.filter((step) => step.way !== way);
    }
    const isWhole = this.#left[0]?.way !== way;
    if (isWhole && this.#closed !== way) this.#via ??= way.name;
  }
}
