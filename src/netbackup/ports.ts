/** Ports that a site may set: those that the guide calls configurable, and ranges that only the site can name. */
import type { PortRange } from "../model/config.ts";
import type { SitePorts } from "../model/netbackup.ts";
import { CATALOGUE, findServiceByToken, foldToken, serviceOf } from "./catalogue.ts";

/** What a name says can be set. `window`: a range; `service`: one port; `fixed`: nothing, the guide does not allow it. */
export type PortSetting =
  | { readonly kind: "service" | "window"; readonly id: string }
  | { readonly kind: "fixed"; readonly name: string }
  | null;

/** @returns null for a name that is neither a service nor a window */
export function findPortSetting(name: string): PortSetting {
  const window = CATALOGUE.windows.find(({ id }) => foldToken(id) === foldToken(name));
  if (window !== undefined) return { kind: "window", id: window.id };
  const service = findServiceByToken(name);
  if (service === undefined) return null;
  return service.configurable === undefined
    ? { kind: "fixed", name: service.name }
    : { kind: "service", id: service.id };
}

/** Names that can be set, windows first. */
export const SETTABLE: readonly string[] = [
  ...CATALOGUE.windows.map(({ id }) => id),
  ...CATALOGUE.services.filter(({ configurable }) => configurable !== undefined).map(({ id }) => id),
];

/** What holds for a name that can be set, and what the guide says; null: the guide gives no number. */
export function settingOf(
  id: string,
  ports: SitePorts,
): { readonly ports: PortRange | null; readonly usual: number | null } {
  const window = CATALOGUE.windows.some((candidate) => candidate.id === id);
  if (window) return { ports: ports.windows[id] ?? null, usual: null };
  const usual = serviceOf(id).port;
  const port = ports.services[id] ?? usual;
  return { ports: { min: port, max: port }, usual };
}

/** The flows that the setting applies to; null: every flow of the service or window. */
export const flowsOfSetting = (id: string): readonly string[] | null => {
  const flows = CATALOGUE.services.find((service) => service.id === id)?.configurable?.flows;
  return Array.isArray(flows) ? flows : null;
};

/** The ports with one of them set; null gives back what the guide says. The very same value when nothing changes. */
export function withPort(ports: SitePorts, id: string, range: PortRange | null): SitePorts {
  const isWindow = CATALOGUE.windows.some((window) => window.id === id);
  const before = settingOf(id, ports).ports;
  const usual = isWindow ? null : serviceOf(id).port;
  const after = range === null || range.min === usual ? null : range;
  const holds = after ?? (usual === null ? null : { min: usual, max: usual });
  if (before?.min === holds?.min && before?.max === holds?.max) return ports;
  const without = <V>(record: Readonly<Record<string, V>>): Record<string, V> =>
    Object.fromEntries(Object.entries(record).filter(([key]) => key !== id));
  if (isWindow) {
    const windows = { ...without(ports.windows), ...(after !== null && { [id]: after }) };
    return Object.freeze({ ...ports, windows: Object.freeze(windows) });
  }
  const services = { ...without(ports.services), ...(after !== null && { [id]: after.min }) };
  return Object.freeze({ ...ports, services: Object.freeze(services) });
}
