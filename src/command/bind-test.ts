/** The request of test-connection -> the command: host, daemon, time, and which options go together. */
import { formatAddress, parseAddress } from "../model/address.ts";
import { isHost } from "../model/health-test.ts";
import { ok, type Result } from "../model/result.ts";
import { CATALOGUE, findServiceByToken } from "../netbackup/catalogue.ts";
import { serviceLabel } from "../netbackup/labels.ts";
import type { Command, Output } from "./command.ts";
import { failed, failure } from "./errors.ts";
import { OPTIONS, type TextOption } from "./options.ts";
import { checkOperands, type Request } from "./request.ts";
import { failNaming } from "./suggest.ts";
import { parseCount } from "./values.ts";

/** Three equal shares in which a SYN that was lost is sent again. */
export const DEFAULT_TEST_SECONDS = 9;
/** A connection over TCP to the daemon may be silent for longer than this. */
const MOST_TEST_SECONDS = 20;

/** The property of a request that is at fault. */
export const TEST_HOST = "host";

const TCP_NAMES = CATALOGUE.services.flatMap(({ protocols, tokens }) => (protocols.includes("tcp") ? tokens : []));

const naming = <T>(result: Result<T>, field: string | undefined): Result<T> =>
  result.ok || field === undefined ? result : { ok: false, failure: { ...result.failure, field } };

/** The id of a service that has a port for connections. */
function readService(text: string): Result<string> {
  const service = findServiceByToken(text);
  if (service === undefined) return failNaming(failure("E-NBSERVICE", text), text, TCP_NAMES);
  if (service.protocols.includes("tcp")) return ok(service.id);
  return failed("E-SERVICE-PROTOCOL", serviceLabel(service), service.protocols.join(" and ").toUpperCase());
}

function readSeconds(text: string): Result<number> {
  const seconds = parseCount(text, MOST_TEST_SECONDS);
  return seconds === null || seconds < 1 ? failed("E-NBSECONDS", text, "1", String(MOST_TEST_SECONDS)) : ok(seconds);
}

/** A name as it is, an address in its canonical spelling; brackets around one are let pass. */
function readHost(text: string): Result<string> {
  const bare = /^\[(.*)\]$/.exec(text)?.[1];
  const address = parseAddress(bare ?? text);
  if (bare !== undefined && address?.family !== 6) return failed("E-NBTARGET", text);
  if (address !== null) return ok(formatAddress(address));
  return isHost(text) ? ok(text) : failed("E-NBTARGET", text);
}

function optional<T, A>(
  request: Request,
  option: TextOption,
  absent: A,
  read: (text: string) => Result<T>,
): Result<T | A> {
  const text = request.texts.get(option);
  return text === undefined ? ok(absent) : naming(read(text), option.property);
}

/** test-connection. Whether the host's name has an address is for the test to find out. */
export function bindTestConnection(request: Request, output: Output, json: boolean): Result<Command> {
  const operands = checkOperands(request);
  if (!operands.ok) return operands;
  const webPairs = request.flags.has(OPTIONS.webPairs);
  if (webPairs && request.texts.has(OPTIONS.testedService))
    return failed("E-EXCLUSIVE", `-${OPTIONS.webPairs.letter}`, `-${OPTIONS.testedService.letter}`);
  const service = optional(request, OPTIONS.testedService, null, readService);
  if (!service.ok) return service;
  const seconds = optional(request, OPTIONS.testSeconds, DEFAULT_TEST_SECONDS, readSeconds);
  if (!seconds.ok) return seconds;
  const host = naming(readHost(request.operands[0] as string), TEST_HOST);
  if (!host.ok) return host;
  return ok({
    kind: "test-connection",
    host: host.value,
    service: service.value,
    seconds: seconds.value,
    all: request.flags.has(OPTIONS.everyStep),
    webPairs,
    output,
    json,
  });
}
