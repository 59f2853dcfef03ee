/**
 * test-connection as it runs: one connection after the other as the plan wants them, told as they end; then the way that
 * is open. Who connects is the host.
 */
import { type Address, formatAddress, formatBracketed, parseAddress } from "../model/address.ts";
import { ok, type Result } from "../model/result.ts";
import { DEFAULT_DAEMON, NO_WAY, Reach, reachHint, WEB_WAYS, waysToService } from "../netbackup/reach.ts";
import { NO_WEB_PAIR } from "../netbackup/web-pair.ts";
import { Table } from "./columns.ts";
import type { TestConnection } from "./command.ts";
import { failed } from "./errors.ts";
import { REACH_FIELDS, type ReachField } from "./fields.ts";
import type { CommandHost, Connected, Connector } from "./host.ts";
import { printCommand } from "./print.ts";
import type { ConnectionTestView } from "./view-schemas.ts";

/** A step that was tried. */
export interface TriedStep extends Connected {
  readonly step: string;
  readonly remote: { readonly address: Address; readonly port: number };
}

/** What a whole test has found. */
export interface TestFindings {
  readonly address: Address;
  readonly steps: readonly TriedStep[];
  /** The way that is open; null: none is. */
  readonly via: string | null;
}

/** A test that may begin, by a caller who may do it. */
interface Begun {
  readonly address: Address;
  readonly connector: Connector;
}

/** Looks the host up and takes a place among the tests that are under way; records who tests what. */
async function begin(test: TestConnection, host: CommandHost): Promise<Result<Begun>> {
  if (host.connector === undefined) return failed("E-UNSUPPORTED", test.kind);
  const address = parseAddress(test.host) ?? (await host.resolveHost(test.host));
  const connector = address && host.connector();
  const begun: Result<Begun> =
    address === null
      ? failed("E-NBNAME", test.host)
      : connector === null
        ? failed("E-NBBUSY")
        : ok({ address, connector });
  // A transaction that changes nothing is what the audit log gets its records from.
  let isRecorded = false;
  try {
    const recorded = await host.transact(printCommand(test), (config) => (begun.ok ? ok(config) : begun));
    isRecorded = recorded.ok;
    return recorded.ok ? begun : recorded;
  } finally {
    if (!isRecorded) connector?.close();
  }
}

/** The steps of a test as they end; the return value is what was found, or why it could not be done. */
export async function* tryHost(
  test: TestConnection,
  host: CommandHost,
): AsyncGenerator<TriedStep, Result<TestFindings>, void> {
  const begun = await begin(test, host);
  if (!begun.ok) return begun;
  const { address, connector } = begun.value;
  const ways = test.webPairs ? WEB_WAYS : waysToService(test.service ?? DEFAULT_DAEMON, host.config().netbackup.ports);
  const options = { totalMs: test.seconds * 1000, all: test.all, required: null };
  const steps: TriedStep[] = [];
  try {
    const reach = new Reach(ways, options, connector.nowMs());
    for (let due = reach.next(connector.nowMs()); due !== null; due = reach.next(connector.nowMs())) {
      const { name, port } = due.step;
      const connected = await connector.connect(address, port, due.timeoutMs);
      if (!connected.ok) return connected;
      reach.finish(connected.value.result === "connected");
      const tried = { step: name, remote: { address, port }, ...connected.value };
      steps.push(tried);
      yield tried;
    }
    return ok({ address, steps, via: reach.via });
  } finally {
    connector.close();
  }
}

const endpoint = (end: Connected["local"]): string =>
  end === null ? "" : `${formatBracketed(end.address)}:${end.port}`;

const CELLS: Readonly<Record<ReachField, (tried: TriedStep) => string>> = {
  STEP: ({ step }) => step,
  LOCAL: ({ local }) => endpoint(local),
  REMOTE: ({ remote }) => endpoint(remote),
  RESULT: ({ result }) => result,
  USEC: ({ microseconds }) => String(microseconds),
};

/** What stands behind the rows. */
function conclusion({ host, webPairs }: TestConnection, { via }: TestFindings): string {
  const found = webPairs && via === null ? `${host}: ${NO_WEB_PAIR}` : `${host} via ${via ?? NO_WAY}`;
  const hint = reachHint(via);
  return `${found}\n${hint === null ? "" : `hint: ${hint}\n`}`;
}

/** Lines as they come; the return value tells whether a way is open. */
export async function* testLines(
  test: TestConnection,
  host: CommandHost,
): AsyncGenerator<string, Result<boolean>, void> {
  const { fields, parsable } = test.output;
  const table = new Table(REACH_FIELDS, fields, parsable);
  const steps = tryHost(test, host);
  let isFirst = true;
  for (;;) {
    const step = await steps.next();
    if (step.done) {
      if (!step.value.ok) return step.value;
      if (!parsable) yield conclusion(test, step.value.value);
      return ok(step.value.value.via !== null);
    }
    const header = isFirst ? table.header(step.value.remote.address.family) : "";
    isFirst = false;
    yield header + table.row((field) => CELLS[field as ReachField](step.value));
  }
}

/** The whole test, when it is over. */
export async function testOf(test: TestConnection, host: CommandHost): Promise<Result<TestFindings>> {
  const steps = tryHost(test, host);
  for (;;) {
    const step = await steps.next();
    if (step.done) return step.value;
  }
}

const endpointView = ({ address, port }: NonNullable<Connected["local"]>) => ({
  address: formatAddress(address),
  port,
});

/** The findings as an object. */
export const testView = ({ host }: TestConnection, { address, steps, via }: TestFindings): ConnectionTestView => ({
  host,
  address: formatAddress(address),
  via,
  hint: reachHint(via),
  steps: steps.map(({ step, local, remote, result, microseconds }) => ({
    step,
    local: local && endpointView(local),
    remote: endpointView(remote),
    result,
    microseconds,
  })),
});
