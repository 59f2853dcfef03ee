/** Reads cloudstore.conf, the configuration of the CloudStore service container: an ini file, of which one key counts. */
import { CATALOGUE, serviceOf } from "./catalogue.ts";

const { section: SECTION, key: KEY, service: SERVICE, name: FILE } = CATALOGUE.configFile;
const MAX_PORT = 65535;

export type CloudStore =
  | { readonly ok: true; readonly service: string; readonly port: number; readonly remarks: readonly string[] }
  | { readonly ok: false; readonly line: number; readonly reason: string };

const same = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();

/**
 * The port that the file sets. Names in any case, `#` and `;` begin comments, CR before a newline is ignored; of several
 * values the last holds, without one the default does, and a remark says so. What other sections and keys hold is not
 * looked at.
 */
export function readCloudStore(text: string): CloudStore {
  let inSection = false;
  let found: { readonly line: number; readonly port: number } | null = null;
  const remarks: string[] = [];
  const wrong = (line: number, reason: string): CloudStore => ({ ok: false, line, reason });
  for (const [index, raw] of text
    .replace(/^\uFEFF/, "")
    .split("\n")
    .entries()) {
    const line = index + 1;
    const content = raw.trim();
    if (content === "" || content.startsWith("#") || content.startsWith(";")) continue;
    if (content.startsWith("[")) {
      if (!content.endsWith("]")) return wrong(line, "the section has no ]");
      inSection = same(content.slice(1, -1).trim(), SECTION);
      continue;
    }
    const equals = content.indexOf("=");
    if (equals < 1) return wrong(line, "neither a section nor KEY=VALUE");
    if (!inSection || !same(content.slice(0, equals).trim(), KEY)) continue;
    const value = content.slice(equals + 1).trim();
    const port = /^[0-9]{1,7}$/.test(value) ? Number(value) : 0;
    if (port < 1 || port > MAX_PORT) return wrong(line, `${KEY} must be 1 to ${MAX_PORT}, not ${value || "nothing"}`);
    if (found !== null) remarks.push(`warning: ${KEY} stands in line ${found.line} and ${line}; the last holds`);
    found = { line, port };
  }
  const { port: usual } = serviceOf(SERVICE);
  if (found === null) remarks.push(`notice: ${FILE} has no ${KEY} in [${SECTION}]; ${usual} holds`);
  return { ok: true, service: SERVICE, port: found?.port ?? usual, remarks };
}
