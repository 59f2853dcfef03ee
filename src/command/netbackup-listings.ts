/** Listings about NetBackup: services, flows as table, CSV or objects, and the ports that a site may set. */
import type { Config } from "../model/config.ts";
import { ok, type Result } from "../model/result.ts";
import { CATALOGUE } from "../netbackup/catalogue.ts";
import { flowsOfSetting, SETTABLE, settingOf } from "../netbackup/ports.ts";
import { type FlowRow, flowRows, type ServiceRow, serviceRows } from "../netbackup/question.ts";
import { Table, UNKNOWN_CELL } from "./columns.ts";
import type { ShowFlows, ShowServices } from "./command.ts";
import { failure } from "./errors.ts";
import { FLOW_FIELDS, type FlowField, SERVICE_FIELDS, type ServiceField } from "./fields.ts";
import type { Listing } from "./listings.ts";
import { failNaming } from "./suggest.ts";
import { ports as portsCodec } from "./values.ts";
import type { NetBackupFlowView, PortSettingView, ServiceView } from "./view-schemas.ts";

const SERVICE_CELLS: Readonly<Record<ServiceField, (row: ServiceRow) => string>> = {
  NAME: ({ name }) => name,
  PORT: ({ port, protocols }) => protocols.map((protocol) => `${port}/${protocol}`).join(","),
  ALIASES: ({ aliases }) => aliases.join(","),
  TABLES: ({ tables }) => tables.join(","),
  VERSIONS: ({ versions }) => versions,
  GUARD: ({ guard }) => guard,
  TITLE: ({ title }) => title,
};

/** A cell of a flow, empty where it has no value. */
const FLOW_CELLS: Readonly<Record<FlowField, (row: FlowRow) => string>> = {
  CHANGE: ({ change }) => change ?? "",
  FLOW: ({ flow }) => flow,
  SOURCE: ({ source }) => source ?? "any",
  DESTINATION: ({ destination }) => destination,
  SERVICE: ({ service }) => service,
  PORT: ({ port }) => port ?? UNKNOWN_CELL,
  PROTO: ({ protocol }) => protocol,
  NEED: ({ need }) => need,
  CONDITION: ({ condition }) => condition ?? "-",
  GROUP: ({ group }) => group ?? "",
};

const ALL_SERVICE_NAMES = CATALOGUE.services.flatMap(({ tokens }) => tokens);

/** The services that are asked for. */
function chooseServices(query: ShowServices, config: Config): Result<readonly ServiceRow[]> {
  const found = serviceRows(query.table, query.names, config.netbackup);
  if ("rows" in found) return ok(found.rows);
  return failNaming(failure("E-NBSERVICE", found.unknown), found.unknown, ALL_SERVICE_NAMES);
}

/** Whether the words name services, for a check before anything is printed. */
export function checkServices(query: ShowServices, config: Config): Result<void> {
  const found = chooseServices(query, config);
  return found.ok ? ok(undefined) : found;
}

/** Whether the hosts of upgrades are bound. */
export function checkFlows({ question }: ShowFlows, config: Config): Result<void> {
  const { hosts } = config.netbackup;
  for (const { host } of question.upgrades)
    if (!hosts.some(({ name }) => name.toLowerCase() === host.toLowerCase()))
      return failNaming(
        failure("E-NBHOST", host),
        host,
        hosts.map(({ name }) => name),
      );
  return ok(undefined);
}

/** show-services as a table. */
export async function* listServices(query: ShowServices, config: Config): Listing {
  const services = chooseServices(query, config);
  if (!services.ok) return services;
  const table = new Table(SERVICE_FIELDS, query.output.fields, query.output.parsable);
  if (services.value.length > 0) yield table.header(null);
  for (const row of services.value) yield table.row((field) => SERVICE_CELLS[field as ServiceField](row));
  return ok(undefined);
}

/** A field of a CSV line (RFC 4180 section 2): in quotes where it holds a comma, a quote or a line break. */
export const csvField = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
/** A record with the line break that RFC 4180 wants. */
export const csvLine = (fields: readonly string[]): string => `${fields.map(csvField).join(",")}\r\n`;

/** show-flows in the form that is asked for. */
export async function* listFlows(query: ShowFlows, config: Config): Listing {
  const checked = checkFlows(query, config);
  if (!checked.ok) return checked;
  const { fields, parsable } = query.output;
  if (query.form === "csv") {
    yield csvLine(fields.map((field) => field.toLowerCase()));
    for (const row of flowRows(query.question, config.netbackup))
      yield csvLine(fields.map((field) => csvCell(field, row)));
    return ok(undefined);
  }
  const table = new Table(FLOW_FIELDS, fields, parsable);
  let isFirst = true;
  for (const row of flowRows(query.question, config.netbackup)) {
    if (isFirst) yield table.header(null);
    isFirst = false;
    yield table.row((field) => FLOW_CELLS[field as FlowField](row));
  }
  return ok(undefined);
}

/** In CSV what has no value is empty. */
const csvCell = (field: string, row: FlowRow): string => {
  if (field === ("PORT" satisfies FlowField)) return row.port ?? "";
  if (field === ("CONDITION" satisfies FlowField)) return row.condition ?? "";
  return FLOW_CELLS[field as FlowField](row);
};

const flowView = ({ group, change, ...row }: FlowRow): NetBackupFlowView => ({
  ...row,
  alternatives: group,
  ...(change !== null && { change }),
});

const serviceView = (row: ServiceRow): ServiceView => ({
  ...row,
  protocols: [...row.protocols],
  aliases: [...row.aliases],
  tables: [...row.tables],
});

/** The objects of show-flows, made as they are taken. */
export function* flowViews(query: ShowFlows, config: Config): Generator<NetBackupFlowView> {
  for (const row of flowRows(query.question, config.netbackup)) yield flowView(row);
}

/** The objects of show-services; none where a word names no service (checkServices says so). */
export function serviceViews(query: ShowServices, config: Config): readonly ServiceView[] {
  const services = chooseServices(query, config);
  return services.ok ? services.value.map(serviceView) : [];
}

/** Every port that a site may set, as it is. */
export const portSettingViews = ({ netbackup }: Config): readonly PortSettingView[] =>
  SETTABLE.map((name) => {
    const { ports, usual } = settingOf(name, netbackup.ports);
    return {
      name,
      port: ports === null ? null : portsCodec.print(ports),
      default: usual === null ? null : String(usual),
      flows: flowsOfSetting(name)?.slice() ?? null,
    };
  });
